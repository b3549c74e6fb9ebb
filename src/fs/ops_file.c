/* SPDX-License-Identifier: MIT */
/*
 * Opening and closing. The store chooses how a file is served; here that
 * becomes open flags. The kernel allows passthrough only together with
 * direct I/O, parallel writes and no flush, so nothing else is mixed in.
 */
#include <errno.h>
#include <fcntl.h>

#include "fs/control.h"
#include "fs/handle.h"
#include "fs/ops.h"
#include "fs/reply.h"

static unsigned open_flags(const struct open_reply *o, int flags)
{
	/* Nothing can have gone wrong on a descriptor that cannot write. */
	unsigned kf = (flags & O_ACCMODE) == O_RDONLY ? KF_OPEN_NOFLUSH : 0;

	switch (o->mode) {
	case SERVE_STREAM:
		kf |= KF_OPEN_DIRECT_IO | KF_OPEN_PARALLEL_DIRECT_WRITES;
		break;
	case SERVE_CACHED:
		if (o->keep_cache)
			kf |= KF_OPEN_KEEP_CACHE;
		break;
	case SERVE_PASSTHROUGH:
		/* what goes wrong there is told by the write itself, or by fsync */
		kf |= KF_OPEN_PASSTHROUGH | KF_OPEN_NOFLUSH;
		break;
	case SERVE_PASSTHROUGH_DIRECT:
		kf |= KF_OPEN_PASSTHROUGH | KF_OPEN_DIRECT_IO | KF_OPEN_PARALLEL_DIRECT_WRITES;
		break;
	}
	return kf;
}

static void handle_opened(struct handle *h, const struct open_reply *o, int flags)
{
	h->file = o->file;
	h->writable_backing = (flags & O_ACCMODE) != O_RDONLY &&
			      (o->mode == SERVE_PASSTHROUGH || o->mode == SERVE_PASSTHROUGH_DIRECT);
}

static int backing_id(const struct open_reply *o)
{
	return o->mode == SERVE_PASSTHROUGH || o->mode == SERVE_PASSTHROUGH_DIRECT ? o->backing_id
										   : 0;
}

void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct caller c = fs_caller(req);
	int flags = fi->flags & ~FS_FLAG_KILL_SUIDGID;
	struct open_reply o = { .file = NULL };
	struct handle *h;
	int r;

	if (control_open(req, ino, flags))
		return;
	h = handle_create(fs, HANDLE_FILE);
	if (!h) {
		reply_code(req, -ENOMEM);
		return;
	}
	r = store_openat(fs->st, fs_node(fs, ino), flags, &c, &o);
	if (r == 0 && (fi->flags & FS_FLAG_KILL_SUIDGID) && (flags & O_TRUNC) && fs->suid_seen) {
		struct stat attr;

		handle_opened(h, &o, flags);
		r = store_setattr(fs->st, fs_node(fs, ino), o.file, &(struct stat){ 0 },
				  SET_KILL_SUIDGID, &attr);
	}
	if (r < 0) {
		handle_destroy(fs, h);
		reply_code(req, r);
		return;
	}
	handle_opened(h, &o, flags);
	if (reply_open(req, h, open_flags(&o, flags), backing_id(&o)) < 0)
		handle_destroy(fs, h);
}

void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
	       struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct caller c = fs_caller(req);
	int flags = fi->flags & ~FS_FLAG_KILL_SUIDGID;
	struct open_reply o = { .file = NULL };
	struct node *n = NULL;
	struct stat attr;
	struct handle *h;
	int r;

	if (control_is_name(parent, name) || fs_ino_is_control(parent)) {
		reply_code(req, -EACCES);
		return;
	}
	h = handle_create(fs, HANDLE_FILE);
	if (!h) {
		reply_code(req, -ENOMEM);
		return;
	}
	r = store_create(fs->st, &c, fs_node(fs, parent), name, mode, flags, &n, &attr, &o);
	if (r < 0) {
		handle_destroy(fs, h);
		reply_code(req, r);
		return;
	}
	handle_opened(h, &o, flags);
	if (reply_create(req, n, &attr, h, open_flags(&o, flags), backing_id(&o)) < 0) {
		handle_destroy(fs, h);
		store_forget(fs->st, n, 1);
	}
}

void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct handle *h = handle_of(fi);
	bool stale = h->writable_backing;

	handle_destroy(fs, h);
	/* Stores through a mapping changed times that the kernel has cached. */
	if (stale && !fuse_session_exited(fs->se))
		(void)fuse_lowlevel_notify_inval_inode(fs->se, ino, -1, 0);
	reply_code(req, 0);
}
