/* SPDX-License-Identifier: MIT */
#include "fs/control.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "fs/contexts.h"
#include "fs/handle.h"
#include "fs/reply.h"

#define CONTROL_DIR ".kvcachefs"
#define CONTEXTS_OPEN_MAX 16

static const struct control_file {
	const char *name;
	mode_t mode;
	void (*make)(struct fs *fs, struct sbuf *out); /* NULL: contexts */
} control_files[] = {
	{ "status", 0444, control_status },
	{ "metrics", 0444, control_metrics },
	{ "config", 0444, control_config },
	{ "contexts", 0400, NULL },
};
#define CONTROL_FILES (sizeof(control_files) / sizeof(control_files[0]))

static const struct control_file *control_file(fuse_ino_t ino)
{
	size_t i = (size_t)ino - FS_INO_CONTROL - 1;

	return ino > FS_INO_CONTROL && i < CONTROL_FILES ? &control_files[i] : NULL;
}

bool control_is_name(fuse_ino_t parent, const char *name)
{
	return parent == FUSE_ROOT_ID && strcmp(name, CONTROL_DIR) == 0;
}

static void control_attr(struct fs *fs, fuse_ino_t ino, struct stat *st)
{
	const struct control_file *f = control_file(ino);

	memset(st, 0, sizeof(*st));
	st->st_ino = UINT64_MAX - ino; /* no backing filesystem goes that far */
	st->st_mode = f ? S_IFREG | f->mode : S_IFDIR | 0555;
	st->st_nlink = f ? 1 : 2;
	st->st_uid = getuid();
	st->st_gid = getgid();
	st->st_blksize = 4096;
	st->st_mtim.tv_sec = (time_t)(fs->started_ns / NSEC_PER_SEC);
	st->st_mtim.tv_nsec = (long)(fs->started_ns % NSEC_PER_SEC);
	st->st_atim = st->st_ctim = st->st_mtim;
}

static void entry_fill(struct fs *fs, fuse_ino_t ino, struct fuse_entry_param *e)
{
	memset(e, 0, sizeof(*e));
	e->ino = ino;
	e->attr_timeout = e->entry_timeout = FS_TIMEOUT_SEC;
	control_attr(fs, ino, &e->attr);
}

bool control_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	fuse_ino_t ino = FS_INO_CONTROL;
	struct fuse_entry_param e;

	if (!control_is_name(parent, name)) {
		if (!fs_ino_is_control(parent))
			return false;
		for (ino++; control_file(ino); ino++)
			if (strcmp(control_file(ino)->name, name) == 0)
				break;
		if (!control_file(ino)) {
			reply_code(req, -ENOENT);
			return true;
		}
	}
	entry_fill(fs_of(req), ino, &e);
	(void)fuse_reply_entry(req, &e);
	return true;
}

bool control_getattr(fuse_req_t req, fuse_ino_t ino)
{
	struct stat st;

	if (!fs_ino_is_control(ino))
		return false;
	control_attr(fs_of(req), ino, &st);
	(void)fuse_reply_attr(req, &st, FS_TIMEOUT_SEC);
	return true;
}

static int open_contexts(struct fs *fs, struct handle *h)
{
	int r;

	if (fs->n_contexts >= CONTEXTS_OPEN_MAX)
		return -EMFILE;
	r = contexts_open(fs, &h->contexts);
	if (r == 0)
		h->kind = HANDLE_CONTEXTS;
	return r;
}

bool control_open(fuse_req_t req, fuse_ino_t ino, int flags)
{
	const struct control_file *f = control_file(ino);
	unsigned kf = KF_OPEN_DIRECT_IO | KF_OPEN_NOFLUSH;
	struct fs *fs = fs_of(req);
	struct handle *h;
	int r = 0;

	if (!fs_ino_is_control(ino))
		return false;
	if (!f || (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC)) {
		reply_code(req, -EACCES);
		return true;
	}
	h = handle_create(fs, HANDLE_TEXT);
	if (!h) {
		reply_code(req, -ENOMEM);
		return true;
	}
	if (f->make) {
		f->make(fs, &h->text);
		r = h->text.failed ? -ENOMEM : 0;
	} else {
		r = open_contexts(fs, h);
	}
	if (r < 0)
		reply_code(req, r);
	else
		r = reply_open(req, h, kf, 0);
	if (r < 0)
		handle_destroy(fs, h);
	return true;
}

/* Replies from a copy: as soon as the kernel has the bytes the client may close,
 * and the handle is freed by another thread before writev returns here (which
 * then no longer looks at them; the sanitizer's writev does). */
void control_read(fuse_req_t req, struct handle *h, size_t size, off_t off)
{
	size_t at = (size_t)off;
	char *copy;

	if (at >= h->text.len || size == 0) {
		(void)fuse_reply_buf(req, NULL, 0);
		return;
	}
	if (size > h->text.len - at)
		size = h->text.len - at;
	copy = mem_alloc(size);
	if (!copy) {
		reply_code(req, -ENOMEM);
		return;
	}
	memcpy(copy, h->text.s + at, size);
	(void)fuse_reply_buf(req, copy, size);
	mem_free(copy);
}

void control_readdir(fuse_req_t req, size_t size, off_t off, bool plus)
{
	struct fs *fs = fs_of(req);
	char *buf = mem_alloc(size);
	size_t used = 0;

	if (!buf) {
		reply_code(req, -ENOMEM);
		return;
	}
	for (size_t i = (size_t)off; i < CONTROL_FILES + 2; i++) {
		const char *name = i == 0 ? "." : i == 1 ? ".." : control_files[i - 2].name;
		fuse_ino_t ino = i == 0   ? FS_INO_CONTROL
				 : i == 1 ? FUSE_ROOT_ID
					  : FS_INO_CONTROL + i - 1;
		struct fuse_entry_param e;
		size_t need;

		entry_fill(fs, i < 2 ? FS_INO_CONTROL : ino, &e);
		if (i < 2)
			e.ino = 0; /* not looked up */
		need = plus ? fuse_add_direntry_plus(req, buf + used, size - used, name, &e,
						     (off_t)i + 1)
			    : fuse_add_direntry(req, buf + used, size - used, name, &e.attr,
						(off_t)i + 1);
		if (need > size - used)
			break;
		used += need;
	}
	(void)fuse_reply_buf(req, buf, used);
	mem_free(buf);
}
