/* SPDX-License-Identifier: MIT */
/* The store's own files: format, lock and directories. Nothing is created, and
 * a store of a newer version is not touched. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/io.h"
#include "base/mem.h"
#include "base/units.h"
#include "fsck.h"

static int fail(const struct fsck *f, const char *what, const char *why)
{
	fprintf(stderr, "fsck.kvcachefs: %s%s: %s\n", f->path, what, why);
	return FSCK_FAILED;
}

static bool value_of(const char *text, const char *key, char *out, size_t len)
{
	const char *p = text;
	size_t n = strlen(key);

	while ((p = strchr(p, '\n')) != NULL) {
		p++;
		if (strncmp(p, key, n) != 0)
			continue;
		p += n;
		n = strcspn(p, "\n");
		if (n >= len)
			return false;
		memcpy(out, p, n);
		out[n] = 0;
		return true;
	}
	return false;
}

static int read_format(struct fsck *f)
{
	char version[16];
	uint64_t v;
	char *text;
	int err = io_read_file(f->store_fd, "format", 4096, &text, NULL);

	if (err == -ENOENT)
		return fail(f, "", "not a kvcachefs store (it has no file \"format\")");
	if (err)
		return fail(f, "/format", err_text(err));
	if (strncmp(text, KVFS_FORMAT_MAGIC "\n", sizeof(KVFS_FORMAT_MAGIC)) != 0) {
		err = fail(f, "/format", "not of a kvcachefs store");
	} else if (!value_of(text, "version=", version, sizeof(version)) ||
		   units_parse_u64(version, 1, UINT32_MAX, &v) ||
		   !value_of(text, "record=", f->xattr, sizeof(f->xattr)) ||
		   (strcmp(f->xattr, KVFS_RECORD_XATTR_ROOT) != 0 &&
		    strcmp(f->xattr, KVFS_RECORD_XATTR_USER) != 0)) {
		err = fail(f, "/format", "damaged; restore its lines as in kvcachefs-format(5)");
	} else if (v > KVFS_STORE_VERSION) {
		err = fail(f, "", "written by a newer version; use the fsck.kvcachefs that "
				  "belongs to it");
	} else if (strcmp(f->xattr, KVFS_RECORD_XATTR_ROOT) == 0 && geteuid() != 0) {
		err = fail(f, "", "made by root; run as root");
	}
	mem_free(text);
	return err;
}

static int take_lock(struct fsck *f)
{
	char pid[32] = "", text[80];
	ssize_t n;

	f->lock_fd = openat(f->store_fd, "lock", O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (f->lock_fd < 0)
		return errno == ENOENT ? FSCK_OK : fail(f, "/lock", strerror(errno));
	if (flock(f->lock_fd, LOCK_EX | LOCK_NB) == 0)
		return FSCK_OK;
	n = io_pread(f->lock_fd, pid, sizeof(pid) - 1, 0);
	pid[n > 0 ? n : 0] = 0;
	pid[strcspn(pid, "\n")] = 0;
	snprintf(text, sizeof(text), "mounted by process %s; unmount it first", pid[0] ? pid : "?");
	return fail(f, "", text);
}

static int open_sub(struct fsck *f, const char *name, int *ret)
{
	*ret = openat(f->store_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (*ret >= 0)
		return FSCK_OK;
	fprintf(stderr, "fsck.kvcachefs: %s/%s: %s%s\n", f->path, name, strerror(errno),
		errno == ENOENT ? "; a mount makes an empty one, but what was in it is gone" : "");
	return FSCK_FAILED;
}

int fsck_open(struct fsck *f)
{
	int r;

	f->store_fd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (f->store_fd < 0)
		return fail(f, "", strerror(errno));
	r = read_format(f);
	if (!r)
		r = take_lock(f);
	if (!r)
		r = open_sub(f, "tree", &f->tree_fd);
	if (!r)
		r = open_sub(f, "objects", &f->objects_fd);
	if (!r)
		r = open_sub(f, "trash", &f->trash_fd);
	if (!r)
		r = open_sub(f, "damaged", &f->damaged_fd);
	return r;
}

void fsck_close(struct fsck *f)
{
	io_close(&f->tree_fd);
	io_close(&f->objects_fd);
	io_close(&f->trash_fd);
	io_close(&f->damaged_fd);
	io_close(&f->lock_fd);
	io_close(&f->store_fd);
	for (size_t i = 0; i < f->n_lost; i++)
		mem_free(f->lost[i].path);
	mem_free(f->lost);
	refs_fini(&f->refs);
}
