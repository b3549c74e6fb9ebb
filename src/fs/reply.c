/* SPDX-License-Identifier: MIT */
#include "fs/reply.h"

#include <errno.h>
#include <string.h>

void reply_code(fuse_req_t req, int code)
{
	(void)fuse_reply_err(req, err_errno(code)); /* the client may be gone */
}

void reply_note_mode(struct fs *fs, mode_t mode)
{
	if (S_ISREG(mode) && (mode & (S_ISUID | S_ISGID)) && !fs->suid_seen)
		fs->suid_seen = true;
}

void reply_attr(fuse_req_t req, const struct stat *attr)
{
	reply_note_mode(fs_of(req), attr->st_mode);
	(void)fuse_reply_attr(req, attr, FS_TIMEOUT_SEC);
}

void reply_entry(fuse_req_t req, struct node *n, const struct stat *attr)
{
	struct fs *fs = fs_of(req);
	struct fuse_entry_param e = {
		.ino = fs_ino(fs, n),
		.attr = *attr,
		.attr_timeout = FS_TIMEOUT_SEC,
		.entry_timeout = FS_TIMEOUT_SEC,
	};

	reply_note_mode(fs, attr->st_mode);
	if (fuse_reply_entry(req, &e) < 0)
		store_forget(fs->st, n, 1);
}

void reply_absent(fuse_req_t req)
{
	struct fuse_entry_param e = { .ino = 0, .entry_timeout = FS_TIMEOUT_SEC };

	(void)fuse_reply_entry(req, &e);
}

int reply_open(fuse_req_t req, struct handle *h, unsigned kf_flags, int backing_id)
{
	struct kf_open_out out = {
		.fh = (uint64_t)(uintptr_t)h,
		.open_flags = kf_flags,
		.backing_id = backing_id,
	};

	return fuse_reply_buf(req, (const char *)&out, sizeof(out));
}

static void fill_attr(struct kf_attr *a, const struct stat *st)
{
	a->ino = st->st_ino;
	a->size = (uint64_t)st->st_size;
	a->blocks = (uint64_t)st->st_blocks;
	a->atime = (uint64_t)st->st_atim.tv_sec;
	a->mtime = (uint64_t)st->st_mtim.tv_sec;
	a->ctime = (uint64_t)st->st_ctim.tv_sec;
	a->atimensec = (uint32_t)st->st_atim.tv_nsec;
	a->mtimensec = (uint32_t)st->st_mtim.tv_nsec;
	a->ctimensec = (uint32_t)st->st_ctim.tv_nsec;
	a->mode = st->st_mode;
	a->nlink = (uint32_t)st->st_nlink;
	a->uid = st->st_uid;
	a->gid = st->st_gid;
	a->rdev = (uint32_t)st->st_rdev;
	a->blksize = (uint32_t)st->st_blksize;
}

int reply_create(fuse_req_t req, struct node *n, const struct stat *attr, struct handle *h,
		 unsigned kf_flags, int backing_id)
{
	struct fs *fs = fs_of(req);
	struct {
		struct kf_entry_out entry;
		struct kf_open_out open;
	} out;

	memset(&out, 0, sizeof(out));
	out.entry.nodeid = fs_ino(fs, n);
	out.entry.entry_valid = (uint64_t)FS_TIMEOUT_SEC;
	out.entry.attr_valid = (uint64_t)FS_TIMEOUT_SEC;
	fill_attr(&out.entry.attr, attr);
	out.open.fh = (uint64_t)(uintptr_t)h;
	out.open.open_flags = kf_flags;
	out.open.backing_id = backing_id;
	reply_note_mode(fs, attr->st_mode);
	return fuse_reply_buf(req, (const char *)&out, sizeof(out));
}
