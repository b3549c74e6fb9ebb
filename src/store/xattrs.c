/* SPDX-License-Identifier: MIT */
/* Extended attributes of files in tree/, with the store's own record hidden. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/xattr.h>

#include "base/io.h"
#include "store/grant.h"
#include "store/record.h"

ssize_t store_getxattr(struct store *st, struct node *n, const char *name, void *buf, size_t len)
{
	char path[NODE_PATH_MAX];
	struct at at;
	ssize_t got;
	int r;

	if (record_is_name(name))
		return -ENODATA;
	r = node_at(st->nodes, n, &at);
	if (r < 0)
		return r;
	node_at_path(&at, path);
	got = at.flags ? lgetxattr(path, name, buf, len) : getxattr(path, name, buf, len);
	if (got < 0)
		got = -errno;
	node_at_put(st->nodes, &at);
	return got;
}

/* Takes the record's name out of a list of NUL-terminated names. */
static ssize_t list_filter(char *buf, ssize_t len)
{
	char *p = buf, *out = buf, *end = buf + len;

	while (p < end) {
		size_t l = strlen(p) + 1;

		if (!record_is_name(p)) {
			memmove(out, p, l);
			out += l;
		}
		p += l;
	}
	return out - buf;
}

ssize_t store_listxattr(struct store *st, struct node *n, char *buf, size_t len)
{
	char path[NODE_PATH_MAX];
	char all[65536];
	struct at at;
	ssize_t got;
	int r = node_at(st->nodes, n, &at);

	if (r < 0)
		return r;
	node_at_path(&at, path);
	got = at.flags ? llistxattr(path, all, sizeof(all)) : listxattr(path, all, sizeof(all));
	if (got < 0)
		got = -errno;
	node_at_put(st->nodes, &at);
	if (got <= 0)
		return got;
	got = list_filter(all, got);
	if (len == 0)
		return got;
	if ((size_t)got > len)
		return -ERANGE;
	memcpy(buf, all, (size_t)got);
	return got;
}

/* Attributes that do not fit into the inode take blocks of their own. */
static void account_blocks(struct store *st, uint64_t ino, const struct stat *was,
			   const struct stat *now)
{
	struct meta_rec rec;
	struct ctx *c;

	if (was->st_blocks == now->st_blocks || !S_ISREG(now->st_mode))
		return;
	if (meta_get(st->meta, ino, &rec) == 0)
		index_occupies(st, ino, rec.stored_bytes + ((uint64_t)now->st_blocks -
							    (uint64_t)was->st_blocks) * 512);
	if (ctx_get(st, ino, false, &c) == 0) {
		bool loaded = c->loaded;

		if (loaded)
			ctx_account(c, now);
		ctx_put(c);
		if (loaded)
			return;
	}
	atomic_fetch_add(&st->ssd_used,
			 ((uint64_t)now->st_blocks - (uint64_t)was->st_blocks) * 512);
}

static int change_fd(struct store *st, struct node *n, const char *name, const void *val,
		     size_t len, int flags, bool set)
{
	int fd = node_openfd(st->nodes, n, O_PATH | O_NOFOLLOW), r;
	struct stat was, now;
	char path[40];

	if (fd < 0)
		return fd;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	r = fstat(fd, &was) < 0 ? -errno : 0;
	if (r == 0 && (set ? setxattr(path, name, val, len, flags) : removexattr(path, name)) < 0)
		r = -errno;
	if (r == 0 && fstat(fd, &now) == 0)
		account_blocks(st, node_ino(n), &was, &now);
	io_close(&fd);
	return r;
}

static int change(struct store *st, struct node *n, const char *name, const void *val, size_t len,
		  int flags, bool set)
{
	struct ctx *held;
	int r;

	if (record_is_name(name))
		return -EPERM;
	if (st->read_only)
		return -EROFS;
	r = grant_set_begin(st, n, name, val, len, &held);
	if (r < 0)
		return r;
	r = change_fd(st, n, name, val, len, flags, set);
	grant_set_end(held);
	if (r == 0)
		attr_ctime_live(st, n);
	return r;
}

int store_setxattr(struct store *st, struct node *n, const char *name, const void *val, size_t len,
		   int flags)
{
	return change(st, n, name, val, len, flags, true);
}

int store_removexattr(struct store *st, struct node *n, const char *name)
{
	return change(st, n, name, NULL, 0, 0, false);
}
