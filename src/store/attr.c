/* SPDX-License-Identifier: MIT */
/*
 * What stat sees and what chmod, chown, utimens and truncate change. A sealed
 * file's tree inode is a sparse stand-in, so blocks and times come from its
 * record; everything else is the inode's own.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "store/record.h"
#include "store/store_types.h"

void attr_apply(const struct kvfs_record *rec, struct stat *sb)
{
	if (rec->state == KVFS_RECORD_PLAIN)
		return;
	if (rec->state == KVFS_RECORD_SWITCHED) {
		sb->st_blocks = 0; /* about to be punched */
		if ((uint64_t)sb->st_size > rec->valid_bytes)
			sb->st_size = (off_t)rec->valid_bytes; /* and cut */
	}
	sb->st_blocks += (blkcnt_t)rec->stored_blocks * (STORE_BLOCK / 512);
	if (rec->flags & KVFS_RECORD_MTIME) {
		sb->st_mtim.tv_sec = rec->mtime_sec;
		sb->st_mtim.tv_nsec = rec->mtime_nsec;
	}
	if (rec->flags & KVFS_RECORD_CTIME) {
		sb->st_ctim.tv_sec = rec->ctime_sec;
		sb->st_ctim.tv_nsec = rec->ctime_nsec;
	}
}

static bool may_be_sealed(struct node *n, const struct stat *sb)
{
	return S_ISREG(sb->st_mode) && sb->st_size > 0 && node_content(n) != NODE_PLAIN;
}

int attr_at(struct store *st, struct node *n, const struct at *at, struct stat *ret)
{
	char path[NODE_PATH_MAX];
	struct kvfs_record rec;
	int r;

	if (!may_be_sealed(n, ret))
		return 0;
	node_at_path(at, path);
	r = record_get(-1, path, st->xattr, &rec);
	if (r == -ENODATA || r == -ENOENT)
		return 0; /* opening it will tell */
	if (r < 0)
		return 0;
	node_set_content(n, rec.state == KVFS_RECORD_PLAIN ? NODE_PLAIN : NODE_SEALED);
	attr_apply(&rec, ret);
	return 0;
}

/* From the open context, when there is one: no path walk. 1 done, 0 not open. */
static int attr_open(struct store *st, struct node *n, struct stat *ret)
{
	struct ctx *c;
	int r = 0;

	if (ctx_get(st, node_ino(n), false, &c) < 0)
		return 0;
	gate_enter(&c->gate, false);
	if (c->fd >= 0) {
		r = fstat(c->fd, ret) < 0 ? -errno : 1;
		if (r == 1) {
			attr_apply(&c->rec, ret);
			if (c->state == CTX_PLAIN && c->rec.state == KVFS_RECORD_PLAIN)
				ctx_account(c, ret);
		}
	}
	gate_leave(&c->gate, false);
	ctx_put(c);
	return r;
}

int attr_node(struct store *st, struct node *n, struct stat *ret)
{
	int r = -ESTALE;

	if (S_ISREG(node_type(n))) {
		r = attr_open(st, n, ret);
		if (r != 0)
			goto out;
	}
	for (int i = 0; i < 8; i++) {
		struct at at;

		r = node_at(st->nodes, n, &at);
		if (r < 0)
			return r;
		r = fstatat(at.dirfd, at.name, ret, at.flags) < 0 ? -errno : 0;
		if (r == 0 && ret->st_ino != node_ino(n))
			r = -ESTALE;
		if (r == 0)
			r = attr_at(st, n, &at, ret);
		node_at_put(st->nodes, &at);
		if (r != -ESTALE && r != -ENOENT)
			break;
	}
out:
	if (r >= 0 && !S_ISDIR(ret->st_mode) && node_in_trash(st->nodes, n) && ret->st_nlink > 0)
		ret->st_nlink--;
	return r < 0 ? r : 0;
}

int store_getattr(struct store *st, struct node *n, struct file *f, struct stat *ret)
{
	(void)f;
	return attr_node(st, n, ret);
}

void attr_ctime_live(struct store *st, struct node *n)
{
	struct kvfs_record rec;
	struct ctx *c;
	int fd;

	if (!S_ISREG(node_type(n)) || node_content(n) == NODE_PLAIN || st->read_only)
		return;
	if (ctx_get(st, node_ino(n), true, &c) < 0)
		return;
	if (ctx_enter(c) < 0) {
		ctx_put(c);
		return;
	}
	fd = c->fd >= 0 ? dup(c->fd) : node_openfd(st->nodes, n, O_RDWR | O_NONBLOCK);
	if (fd >= 0 && record_get(fd, NULL, st->xattr, &rec) == 0 &&
	    (rec.flags & KVFS_RECORD_CTIME)) {
		rec.flags &= (uint8_t)~KVFS_RECORD_CTIME;
		/* failing only shows an older ctime */
		if (record_set(fd, st->xattr, &rec) == 0 && c->fd >= 0)
			ctx_set_record(c, &rec);
	}
	io_close(&fd);
	gate_leave(&c->gate, true);
	ctx_put(c);
}

static void times_of(const struct stat *attr, unsigned set, struct timespec ts[2])
{
	ts[0].tv_nsec = UTIME_OMIT;
	ts[1].tv_nsec = UTIME_OMIT;
	ts[0].tv_sec = ts[1].tv_sec = 0;
	if (set & SET_ATIME_NOW)
		ts[0].tv_nsec = UTIME_NOW;
	else if (set & SET_ATIME)
		ts[0] = attr->st_atim;
	if (set & SET_MTIME_NOW)
		ts[1].tv_nsec = UTIME_NOW;
	else if (set & SET_MTIME)
		ts[1] = attr->st_mtim;
}

/* mode, owner and times through an O_PATH descriptor of exactly this inode. */
static int set_inode(int fd, const struct stat *attr, unsigned set)
{
	char path[40];
	struct timespec ts[2];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (set & (SET_UID | SET_GID)) {
		uid_t uid = (set & SET_UID) ? attr->st_uid : (uid_t)-1;
		gid_t gid = (set & SET_GID) ? attr->st_gid : (gid_t)-1;

		if (fchownat(fd, "", uid, gid, AT_EMPTY_PATH) < 0)
			return -errno;
	}
	if ((set & SET_MODE) && fchmodat(AT_FDCWD, path, attr->st_mode & 07777, 0) < 0)
		return -errno;
	if (set & (SET_ATIME | SET_MTIME | SET_ATIME_NOW | SET_MTIME_NOW)) {
		times_of(attr, set, ts);
		if (utimensat(AT_FDCWD, path, ts, 0) < 0)
			return -errno;
	}
	return 0;
}

/* utimens on a sealed file: the record's mtime is what is shown, so it follows. */
static void follow_mtime_locked(struct ctx *c, struct node *n)
{
	struct kvfs_record rec;

	if (node_content(n) == NODE_PLAIN || ctx_load_locked(c, n) < 0)
		return;
	if (c->rec.state == KVFS_RECORD_SWITCHED)
		err_ignore(seal_punch_locked(c)); /* else recovery puts the old time back */
	if (c->rec.flags & KVFS_RECORD_MTIME) {
		rec = c->rec;
		rec.flags &= (uint8_t)~KVFS_RECORD_MTIME;
		if (record_set(c->fd, c->st->xattr, &rec) == 0)
			ctx_set_record(c, &rec);
	}
}

/*
 * Of a regular file under the gate: sealing notes the times at its switch and puts
 * them back after the punch, and would undo what came between.
 */
static int set_file(struct store *st, struct node *n, int fd, const struct stat *attr,
		    unsigned set)
{
	bool times = set & (SET_MTIME | SET_MTIME_NOW), sealing;
	struct ctx *c;
	int r = ctx_get(st, node_ino(n), true, &c);

	if (r < 0)
		return r;
	r = ctx_enter(c);
	if (r < 0) {
		ctx_put(c);
		return r;
	}
	lock_acquire(&c->lock);
	sealing = c->sealing;
	c->cancel |= sealing && times; /* its mtime is not this one any more */
	lock_release(&c->lock);
	if (times)
		follow_mtime_locked(c, n);
	r = set_inode(fd, attr, set);
	gate_leave(&c->gate, true);
	ctx_idle(c);
	if (sealing && times)
		seal_queue(c);
	ctx_put(c);
	return r;
}

static int set_size(struct store *st, struct node *n, uint64_t size)
{
	struct ctx *c;
	int r;

	if (!S_ISREG(node_type(n)))
		return -EINVAL;
	r = ctx_get(st, node_ino(n), true, &c);
	if (r < 0)
		return r;
	r = ctx_enter(c);
	if (r < 0) {
		ctx_put(c);
		return r;
	}
	lock_acquire(&c->lock);
	c->cancel = true;
	c->dirty = true;
	lock_release(&c->lock);
	r = ctx_load_locked(c, n);
	if (r == 0 && !c->fd_writable)
		r = -EACCES;
	if (r == 0) {
		r = write_truncate(c, size);
		if (r == 0 && size == 0)
			ctx_lose_end(c);
		index_follow(c, n);
	}
	gate_leave(&c->gate, true);
	seal_queue(c);
	ctx_idle(c);
	ctx_put(c);
	return r;
}

int store_setattr(struct store *st, struct node *n, struct file *f, const struct stat *attr,
		  unsigned set, struct stat *ret)
{
	struct stat sb;
	int r = 0, fd;

	(void)f;
	if (st->read_only)
		return -EROFS;
	if (set & SET_SIZE) {
		r = set_size(st, n, (uint64_t)attr->st_size);
		if (r < 0)
			return r;
	}
	if (set & SET_KILL_SUIDGID) {
		r = attr_node(st, n, &sb);
		if (r < 0)
			return r;
		sb.st_mode &= (mode_t)~S_ISUID;
		if (sb.st_mode & S_IXGRP)
			sb.st_mode &= (mode_t)~S_ISGID;
		if (!(set & SET_MODE))
			set |= SET_MODE;
		else
			sb.st_mode = attr->st_mode;
	} else {
		sb = *attr;
	}
	if (set & ~(unsigned)(SET_SIZE | SET_KILL_SUIDGID)) {
		struct stat want = *attr;

		want.st_mode = sb.st_mode;
		fd = node_openfd(st->nodes, n, O_PATH | O_NOFOLLOW);
		if (fd < 0)
			return fd;
		if (S_ISREG(node_type(n)))
			r = set_file(st, n, fd, &want, set);
		else
			r = set_inode(fd, &want, set);
		io_close(&fd);
		if (r < 0)
			return r;
		attr_ctime_live(st, n);
	}
	return attr_node(st, n, ret);
}
