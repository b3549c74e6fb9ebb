/* SPDX-License-Identifier: MIT */
/*
 * Directories. Offsets are the store's, so a listing continues where it was
 * after any seekdir, and memory is one reply's worth however large it is.
 */
#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "fs/control.h"
#include "fs/handle.h"
#include "fs/ops.h"
#include "fs/reply.h"

#define DIR_REPLY_MAX (128u * 1024)

void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct handle *h = handle_create(fs, HANDLE_DIR);
	unsigned flags = KF_OPEN_CACHE_DIR;
	int r = 0;

	(void)fi;
	if (!h) {
		reply_code(req, -ENOMEM);
		return;
	}
	if (fs_ino_is_control(ino))
		flags = 0;
	else
		r = store_opendir(fs->st, fs_node(fs, ino), &h->dir);
	if (r < 0) {
		handle_destroy(fs, h);
		reply_code(req, r);
		return;
	}
	if (reply_open(req, h, flags, 0) < 0)
		handle_destroy(fs, h);
}

struct listing {
	fuse_req_t req;
	struct fs *fs;
	fuse_ino_t ino;
	char *buf;
	size_t len, used;
	bool plus;
};

/* False when the entry does not fit any more; its reference is then returned. */
static bool listing_add(struct listing *l, const struct dir_entry *e)
{
	struct fuse_entry_param p;
	size_t room = l->len - l->used, need;
	char *at = l->buf + l->used;

	if (control_is_name(l->ino, e->name))
		need = 0; /* hidden; only there if somebody put it into the store */
	else if (l->plus) {
		memset(&p, 0, sizeof(p));
		p.attr.st_ino = e->ino;
		p.attr.st_mode = DTTOIF(e->type);
		if (e->node) {
			p.ino = fs_ino(l->fs, e->node);
			p.attr = e->attr;
			p.attr_timeout = p.entry_timeout = FS_TIMEOUT_SEC;
			reply_note_mode(l->fs, e->attr.st_mode);
		}
		need = fuse_add_direntry_plus(l->req, at, room, e->name, &p, (off_t)e->next);
	} else {
		struct stat st = { .st_ino = e->ino, .st_mode = DTTOIF(e->type) };

		need = fuse_add_direntry(l->req, at, room, e->name, &st, (off_t)e->next);
	}
	if ((need > room || need == 0) && e->node)
		store_forget(l->fs->st, e->node, 1);
	if (need > room)
		return false;
	l->used += need;
	return true;
}

static int listing_fill(struct listing *l, struct dirh *dir, uint64_t off)
{
	struct dir_entry e;

	for (;;) {
		int r;

		memset(&e, 0, sizeof(e));
		r = store_readdir(dir, off, l->plus, &e);
		if (r <= 0)
			/* an error after some entries comes back at the next call */
			return l->used ? 0 : r;
		if (!listing_add(l, &e))
			return 0;
		off = e.next;
	}
}

static void list(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi,
		 bool plus)
{
	struct handle *h = handle_of(fi);
	struct listing l = {
		.req = req,
		.fs = fs_of(req),
		.ino = ino,
		.plus = plus,
		.len = size < DIR_REPLY_MAX ? size : DIR_REPLY_MAX,
	};
	int r;

	if (!h->dir) {
		control_readdir(req, size, off, plus);
		return;
	}
	l.buf = mem_alloc(l.len);
	if (!l.buf) {
		reply_code(req, -ENOMEM);
		return;
	}
	lock_acquire(&h->lock);
	r = listing_fill(&l, h->dir, (uint64_t)off);
	lock_release(&h->lock);
	if (r < 0)
		reply_code(req, r);
	else
		(void)fuse_reply_buf(req, l.buf, l.used);
	mem_free(l.buf);
}

void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	list(req, ino, size, off, fi, false);
}

void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		    struct fuse_file_info *fi)
{
	list(req, ino, size, off, fi, true);
}

void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	handle_destroy(fs_of(req), handle_of(fi));
	reply_code(req, 0);
}

void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct handle *h = handle_of(fi);

	(void)ino;
	(void)datasync;
	reply_code(req, h->dir ? store_fsyncdir(h->dir) : 0);
}
