/* SPDX-License-Identifier: MIT */
/* Attributes of inodes and of the filesystem. */
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "fs/control.h"
#include "fs/handle.h"
#include "fs/ops.h"
#include "fs/reply.h"

static struct file *file_of(const struct fuse_file_info *fi)
{
	return fi && fi->fh ? handle_of(fi)->file : NULL;
}

void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct stat attr;
	int r;

	if (control_getattr(req, ino))
		return;
	r = store_getattr(fs->st, fs_node(fs, ino), file_of(fi), &attr);
	if (r == 0)
		reply_attr(req, &attr);
	else
		reply_code(req, r);
}

static unsigned set_bits(struct fs *fs, int to_set)
{
	static const struct {
		int fuse;
		unsigned ours;
	} map[] = {
		{ FUSE_SET_ATTR_MODE, SET_MODE },
		{ FUSE_SET_ATTR_UID, SET_UID },
		{ FUSE_SET_ATTR_GID, SET_GID },
		{ FUSE_SET_ATTR_SIZE, SET_SIZE },
		{ FUSE_SET_ATTR_ATIME, SET_ATIME },
		{ FUSE_SET_ATTR_MTIME, SET_MTIME },
		{ FUSE_SET_ATTR_ATIME_NOW, SET_ATIME_NOW },
		{ FUSE_SET_ATTR_MTIME_NOW, SET_MTIME_NOW },
		/* the protocol's FATTR_KILL_SUIDGID has this number */
		{ FUSE_SET_ATTR_KILL_SUID, SET_KILL_SUIDGID },
	};
	unsigned set = 0;

	for (size_t i = 0; i < sizeof(map) / sizeof(map[0]); i++)
		if (to_set & map[i].fuse)
			set |= map[i].ours;
	/* A change of owner clears them by itself; no file has any so far. */
	if ((set & (SET_UID | SET_GID)) || !fs->suid_seen)
		set &= ~(unsigned)SET_KILL_SUIDGID;
	/* "now" comes with the plain bit beside it */
	if (set & SET_ATIME_NOW)
		set &= ~(unsigned)SET_ATIME;
	if (set & SET_MTIME_NOW)
		set &= ~(unsigned)SET_MTIME;
	return set;
}

void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
		struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct stat now;
	int r;

	if (fs_ino_is_control(ino)) {
		reply_code(req, -EPERM);
		return;
	}
	r = store_setattr(fs->st, fs_node(fs, ino), file_of(fi), attr, set_bits(fs, to_set), &now);
	if (r == 0)
		reply_attr(req, &now);
	else
		reply_code(req, r);
}

void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	struct fs *fs = fs_of(req);
	char target[PATH_MAX + 1];
	int r = store_readlink(fs->st, fs_node(fs, ino), target, sizeof(target));

	if (r < 0)
		reply_code(req, r);
	else
		(void)fuse_reply_readlink(req, target);
}

void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct statvfs s;
	int r = store_statfs(fs_of(req)->st, &s);

	(void)ino;
	if (r < 0)
		reply_code(req, r);
	else
		(void)fuse_reply_statfs(req, &s);
}
