/* SPDX-License-Identifier: MIT */
/*
 * Names that go: unlink, rmdir, rename over something.
 *
 * A sealed file has its content in an object, which must go after the last name
 * and never before. Instead of a durable note in front of each unlink (a
 * flush of the device each), the name moves to STORE/trash/INO in the very
 * operation that takes it away: rename for unlink; for rename-over a second
 * link made just before. Recovery looks only into trash/: an entry with other
 * names left was not taken away after all and is dropped, any other is finished.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/io.h"
#include "base/mem.h"
#include "store/names.h"
#include "store/record.h"

/* A name about to be taken away and what hangs on it. */
struct victim {
	struct stat sb;
	bool exists;
	bool last;             /* its only name */
	struct kvfs_record rec; /* PLAIN when not sealed */
	struct node *node;     /* one reference when the kernel or store knows it */
	struct ctx *ctx;       /* one reference when in use */
	int fd;                /* O_PATH, for a node that would be lost */
	uint64_t accounted;
	char trash[24];
};

static void victim_put(struct store *st, struct victim *v)
{
	io_close(&v->fd);
	if (v->ctx)
		ctx_put(v->ctx);
	if (v->node)
		node_forget(st->nodes, v->node, 1);
}

static int victim_get(struct store *st, const struct at *at, struct victim *v)
{
	char path[NODE_PATH_MAX];
	int r;

	memset(v, 0, sizeof(*v));
	v->fd = -1;
	if (fstatat(at->dirfd, at->name, &v->sb, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	v->exists = true;
	v->last = v->sb.st_nlink == 1;
	v->node = node_find(st->nodes, v->sb.st_ino);
	trash_name(v->sb.st_ino, v->trash);
	if (!S_ISREG(v->sb.st_mode))
		return 0;
	err_ignore(ctx_get(st, v->sb.st_ino, false, &v->ctx)); /* -ENOENT: not in use */
	if (!v->last || v->sb.st_size == 0)
		return 0;
	node_at_path(at, path);
	r = record_get(-1, path, st->xattr, &v->rec);
	if (r < 0) /* lost or damaged: there is no object to find through it */
		memset(&v->rec, 0, sizeof(v->rec));
	return 0;
}

static bool victim_sealed(const struct victim *v)
{
	return v->exists && v->last && v->rec.state != KVFS_RECORD_PLAIN;
}

/*
 * A seal in flight must not switch a file whose last name goes. Marks the
 * context so that it gives up, and waits for a switch that is happening.
 */
static void mark_unlinked(struct victim *v, const struct at *at)
{
	char path[NODE_PATH_MAX];
	struct kvfs_record rec;

	lock_acquire(&v->ctx->lock);
	v->ctx->unlinked = true;
	v->ctx->cancel = true;
	lock_release(&v->ctx->lock);
	if (v->ctx->fd >= 0) {
		v->rec = v->ctx->rec;
		return;
	}
	/* perhaps sealed and closed between the look at it and now */
	node_at_path(at, path);
	if (v->sb.st_size > 0 && record_get(-1, path, v->ctx->st->xattr, &rec) == 0)
		v->rec = rec;
}

static void victim_hold(struct victim *v, const struct at *at)
{
	if (!v->ctx || !v->last)
		return;
	gate_enter(&v->ctx->gate, true);
	mark_unlinked(v, at);
	gate_leave(&v->ctx->gate, true);
}

/*
 * The same for eviction, which must not touch what is in use, and must not wait:
 * whoever holds that gate may be waiting for room.
 */
static int victim_hold_idle(struct victim *v, const struct at *at)
{
	bool busy;

	if (!v->ctx)
		return 0;
	if (!gate_try(&v->ctx->gate, true))
		return -EBUSY;
	lock_acquire(&v->ctx->lock);
	busy = v->ctx->opens > 0 || v->ctx->sealing || v->ctx->pinned;
	lock_release(&v->ctx->lock);
	if (!busy)
		mark_unlinked(v, at);
	gate_leave(&v->ctx->gate, true);
	return busy ? -EBUSY : 0;
}

static void victim_unhold(struct victim *v)
{
	if (!v->ctx || !v->last)
		return;
	lock_acquire(&v->ctx->lock);
	v->ctx->unlinked = false;
	lock_release(&v->ctx->lock);
}

/* What the sum of the store has of it: what the index says, if it knows. */
static uint64_t victim_accounted(struct store *st, const struct victim *v)
{
	struct meta_rec rec;

	if (meta_get(st->meta, v->sb.st_ino, &rec) == 0)
		return rec.stored_bytes;
	return (uint64_t)v->sb.st_blocks * 512 +
	       (victim_sealed(v) ? (uint64_t)v->rec.stored_blocks * STORE_BLOCK : 0);
}

/* The name is gone: nodes, counts, index; starts the removal when unused. */
static void victim_gone(struct store *st, struct victim *v)
{
	bool open = false;

	if (v->last && v->node) {
		if (victim_sealed(v))
			err_ignore(node_moved(st->nodes, v->node, node_trash(st->nodes), v->trash));
		else
			node_orphan(st->nodes, v->node, v->fd);
		if (!victim_sealed(v))
			v->fd = -1;
	}
	if (!S_ISREG(v->sb.st_mode) || !v->last) {
		if (v->last)
			index_del(st, v->sb.st_ino);
		return;
	}
	v->accounted = victim_accounted(st, v);
	index_del(st, v->sb.st_ino);
	if (v->ctx) {
		lock_acquire(&v->ctx->lock);
		open = v->ctx->opens > 0;
		lock_release(&v->ctx->lock);
	}
	if (open)
		return; /* store_release finishes it */
	if (v->ctx) {
		ctx_gone(v->ctx);
	} else {
		space_release(st, v->accounted);
	}
	if (victim_sealed(v)) {
		if (v->node)
			node_dead(st->nodes, v->node);
		trash_remove(st, v->sb.st_ino, &v->rec);
	}
}

/* An orphan that the kernel may still ask about needs a descriptor. */
static void victim_keep(struct victim *v, const struct at *at)
{
	if (v->node && v->last && !victim_sealed(v))
		v->fd = openat(at->dirfd, at->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
}

int remove_name(struct store *st, struct node *dir, const char *name, uint64_t evict_ino)
{
	struct victim v;
	struct at at;
	int r;

	if (st->read_only)
		return -EROFS;
	r = node_at_child(st->nodes, dir, name, &at);
	if (r < 0)
		return r;
	r = victim_get(st, &at, &v);
	if (r < 0)
		goto out;
	if (S_ISDIR(v.sb.st_mode)) {
		r = -EISDIR;
		goto out;
	}
	if (evict_ino) {
		/* the index may be old: only this very inode, and whole files */
		r = v.sb.st_ino != evict_ino ? -ESTALE : v.last ? victim_hold_idle(&v, &at) : -EBUSY;
		if (r < 0)
			goto out;
	} else {
		victim_hold(&v, &at);
	}
	victim_keep(&v, &at);
	r = FAULT_POINT("unlink.before");
	if (r == 0 && victim_sealed(&v))
		r = renameat(at.dirfd, at.name, st->trash_fd, v.trash) < 0 ? -errno : 0;
	else if (r == 0)
		r = unlinkat(at.dirfd, at.name, 0) < 0 ? -errno : 0;
	if (r == 0)
		r = FAULT_POINT("unlink.after");
	if (r == 0)
		victim_gone(st, &v);
	else
		victim_unhold(&v);
out:
	victim_put(st, &v);
	node_at_put(st->nodes, &at);
	return r;
}

int store_unlink(struct store *st, struct node *dir, const char *name)
{
	return remove_name(st, dir, name, 0);
}

int store_rmdir(struct store *st, struct node *dir, const char *name)
{
	struct victim v;
	struct at at;
	int r;

	if (st->read_only)
		return -EROFS;
	r = node_at_child(st->nodes, dir, name, &at);
	if (r < 0)
		return r;
	r = victim_get(st, &at, &v);
	if (r == 0) {
		v.last = true; /* a directory's link count counts its children */
		victim_keep(&v, &at);
		r = unlinkat(at.dirfd, at.name, AT_REMOVEDIR) < 0 ? -errno : 0;
		if (r == 0)
			victim_gone(st, &v);
	}
	victim_put(st, &v);
	node_at_put(st->nodes, &at);
	return r;
}

/* ---- rename --------------------------------------------------------------- */

static int trash_link(struct store *st, const struct at *at, const struct victim *v)
{
	if (linkat(at->dirfd, at->name, st->trash_fd, v->trash, 0) == 0)
		return 0;
	if (errno != EEXIST)
		return -errno;
	/* left by an earlier attempt on the same inode */
	return 0;
}

static int rename_over(struct store *st, const struct at *from, const struct at *to,
		       struct victim *v)
{
	bool sealed = victim_sealed(v);
	int r = 0;

	if (sealed)
		r = trash_link(st, to, v);
	if (r == 0)
		r = FAULT_POINT("rename.linked");
	if (r == 0 && renameat(from->dirfd, from->name, to->dirfd, to->name) < 0)
		r = -errno;
	if (r < 0 && sealed && unlinkat(st->trash_fd, v->trash, 0) < 0)
		return -errno;
	if (r == 0)
		r = FAULT_POINT("rename.after");
	return r;
}

static void renamed(struct store *st, struct node *dir, const char *name, uint64_t ino)
{
	struct node *n = node_find(st->nodes, ino);

	if (!n)
		return;
	/* out of memory: the old name stays, and the next look-up mends it */
	err_ignore(node_moved(st->nodes, n, dir, name));
	index_moved(st, n);
	attr_ctime_live(st, n);
	node_forget(st->nodes, n, 1);
}

struct rename_args {
	struct node *dir, *newdir;
	const char *name, *newname;
	unsigned flags;
	struct at from, to;
};

static int rename_exchange(struct store *st, struct rename_args *a)
{
	struct stat s1, s2;

	if (fstatat(a->from.dirfd, a->from.name, &s1, AT_SYMLINK_NOFOLLOW) < 0 ||
	    fstatat(a->to.dirfd, a->to.name, &s2, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (renameat2(a->from.dirfd, a->from.name, a->to.dirfd, a->to.name, RENAME_EXCHANGE) < 0)
		return -errno;
	renamed(st, a->newdir, a->newname, s1.st_ino);
	renamed(st, a->dir, a->name, s2.st_ino);
	return 0;
}

static int rename_plain(struct store *st, struct rename_args *a)
{
	struct victim v;
	struct stat sb;
	int r;

	if (fstatat(a->from.dirfd, a->from.name, &sb, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (a->flags & RENAME_NOREPLACE) {
		if (renameat2(a->from.dirfd, a->from.name, a->to.dirfd, a->to.name,
			      RENAME_NOREPLACE) < 0)
			return -errno;
		renamed(st, a->newdir, a->newname, sb.st_ino);
		return 0;
	}
	r = victim_get(st, &a->to, &v);
	if (r < 0 && r != -ENOENT)
		return r;
	if (v.exists && v.sb.st_ino == sb.st_ino) {
		victim_put(st, &v);
		return 0; /* two names of one file: nothing happens */
	}
	if (v.exists && S_ISDIR(v.sb.st_mode))
		v.last = true;
	if (v.exists) {
		victim_hold(&v, &a->to);
		victim_keep(&v, &a->to);
	}
	r = rename_over(st, &a->from, &a->to, &v);
	if (r == 0) {
		if (v.exists)
			victim_gone(st, &v);
		renamed(st, a->newdir, a->newname, sb.st_ino);
	} else if (v.exists) {
		victim_unhold(&v);
	}
	victim_put(st, &v);
	return r;
}

int store_rename(struct store *st, struct node *dir, const char *name, struct node *newdir,
		 const char *newname, unsigned flags)
{
	struct rename_args a = { .dir = dir, .newdir = newdir, .name = name, .newname = newname,
				 .flags = flags };
	int r;

	if (st->read_only)
		return -EROFS;
	if ((flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE)) ||
	    flags == (RENAME_NOREPLACE | RENAME_EXCHANGE))
		return -EINVAL;
	atomic_fetch_add(&st->renames, 1);
	r = node_at_child(st->nodes, dir, name, &a.from);
	if (r < 0)
		return r;
	r = node_at_child(st->nodes, newdir, newname, &a.to);
	if (r == 0) {
		r = (flags & RENAME_EXCHANGE) ? rename_exchange(st, &a) : rename_plain(st, &a);
		node_at_put(st->nodes, &a.to);
	}
	node_at_put(st->nodes, &a.from);
	return r;
}
