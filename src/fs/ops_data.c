/* SPDX-License-Identifier: MIT */
/*
 * Data. A read replies from the store's slices; it is short only at the end of
 * the file or before damage. A write is done whole or fails: the kernel takes
 * a short reply for success in some modes.
 */
#include <errno.h>
#include <string.h>

#include "fs/contexts.h"
#include "fs/control.h"
#include "fs/handle.h"
#include "fs/ops.h"
#include "fs/reply.h"

static void read_file(fuse_req_t req, struct file *f, size_t size, off_t off)
{
	struct fs *fs = fs_of(req);
	struct read_reply r;
	int err;

	if (size > FS_REQUEST_MAX) {
		reply_code(req, -EINVAL); /* never negotiated */
		return;
	}
	r.scratch = scratch_take(fs);
	r.scratch_len = FS_REQUEST_MAX;
	r.n = r.n_pins = 0;
	r.len = 0;
	if (!r.scratch) {
		reply_code(req, -ENOMEM);
		return;
	}
	err = store_read(f, (uint64_t)off, size, &r);
	if (err < 0) {
		reply_code(req, err);
	} else {
		if (r.len == 0)
			(void)fuse_reply_buf(req, NULL, 0);
		else
			(void)fuse_reply_iov(req, r.iov + 1, (int)r.n);
		store_read_done(&r);
	}
	scratch_give(fs, r.scratch);
}

void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct handle *h = handle_of(fi);

	(void)ino;
	switch (h->kind) {
	case HANDLE_FILE:
		read_file(req, h->file, size, off);
		break;
	case HANDLE_TEXT:
		control_read(req, h, size, off);
		break;
	case HANDLE_CONTEXTS:
		contexts_read(req, h->contexts, size, off);
		break;
	case HANDLE_DIR:
		reply_code(req, -EISDIR);
		break;
	}
}

/* Clears setuid bits as a write or truncation by an ordinary user must. Cheap
 * as long as the kernel never saw a file with such bits. */
static int kill_suid(struct fs *fs, fuse_ino_t ino, struct file *f)
{
	struct stat attr;
	int r;

	if (!fs->suid_seen)
		return 0;
	r = store_getattr(fs->st, fs_node(fs, ino), f, &attr);
	if (r < 0 || !(attr.st_mode & (S_ISUID | S_ISGID)))
		return r;
	r = store_setattr(fs->st, fs_node(fs, ino), f, &attr, SET_KILL_SUIDGID, &attr);
	if (r == 0)
		(void)fuse_lowlevel_notify_inval_inode(fs->se, ino, -1, 0);
	return r;
}

void op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
	      struct fuse_file_info *fi)
{
	struct handle *h = handle_of(fi);
	int r = 0;

	if (h->kind != HANDLE_FILE) {
		reply_code(req, -EBADF);
		return;
	}
	if (fi->flags & FS_FLAG_KILL_SUIDGID)
		r = kill_suid(fs_of(req), ino, h->file);
	if (r == 0)
		r = store_write(h->file, buf, size, (uint64_t)off);
	if (r < 0)
		reply_code(req, r);
	else
		(void)fuse_reply_write(req, size);
}

void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct handle *h = handle_of(fi);

	(void)ino;
	reply_code(req, h->kind == HANDLE_FILE ? store_flush(h->file) : 0);
}

void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct handle *h = handle_of(fi);
	int r;

	if (h->kind != HANDLE_FILE) {
		reply_code(req, -EINVAL);
		return;
	}
	r = store_fsync(h->file, datasync != 0);
	if (h->writable_backing)
		(void)fuse_lowlevel_notify_inval_inode(fs->se, ino, -1, 0);
	reply_code(req, r);
}

void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len,
		  struct fuse_file_info *fi)
{
	struct handle *h = handle_of(fi);
	int r = 0;

	if (h->kind != HANDLE_FILE) {
		reply_code(req, -EBADF);
		return;
	}
	if (fuse_req_ctx(req)->uid != 0)
		r = kill_suid(fs_of(req), ino, h->file);
	if (r == 0)
		r = store_fallocate(h->file, mode, (uint64_t)off, (uint64_t)len);
	reply_code(req, r);
}

void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi)
{
	struct handle *h = handle_of(fi);
	uint64_t at;
	int r;

	(void)ino;
	if (h->kind != HANDLE_FILE) {
		reply_code(req, -ENXIO);
		return;
	}
	r = store_lseek(h->file, (uint64_t)off, whence, &at);
	if (r < 0)
		reply_code(req, r);
	else
		(void)fuse_reply_lseek(req, (off_t)at);
}

void op_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in,
			struct fuse_file_info *fi_in, fuse_ino_t ino_out, off_t off_out,
			struct fuse_file_info *fi_out, size_t len, int flags)
{
	struct handle *in = handle_of(fi_in), *out = handle_of(fi_out);
	ssize_t n = 0;

	(void)ino_in;
	if (flags || in->kind != HANDLE_FILE || out->kind != HANDLE_FILE) {
		reply_code(req, flags ? -EINVAL : -EXDEV);
		return;
	}
	if (fuse_req_ctx(req)->uid != 0)
		n = kill_suid(fs_of(req), ino_out, out->file);
	if (n == 0)
		n = store_copy_range(in->file, (uint64_t)off_in, out->file, (uint64_t)off_out, len);
	if (n < 0)
		reply_code(req, (int)n);
	else
		(void)fuse_reply_write(req, (size_t)n);
}
