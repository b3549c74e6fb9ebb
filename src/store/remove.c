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
 *
 * The kernel orders what clients do to one name and one inode; what the daemon
 * takes away by itself (eviction, damage=hide) is ordered against that by st->names:
 * clients share it around the change of a name, the daemon has it alone from the
 * look at a name to its end. A file whose last name is going is marked before, so
 * that nobody opens it anew and only one takes it away.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/io.h"
#include "base/mem.h"
#include "store/grant.h"
#include "store/names.h"
#include "store/record.h"
#include "store/trace.h"

#define CLAIM_TRIES 100
#define RENAME_NOTHING 1 /* two names of one file: nothing happens */

/* A name about to be taken away and what hangs on it. */
struct victim {
	struct stat sb;
	bool exists;
	bool last;             /* its only name */
	bool held;             /* marked by us: ctx_leave_begin */
	bool gated;            /* its gate is ours, exclusive, until it is gone */
	struct kvfs_record rec; /* PLAIN when not sealed, or not held */
	struct node *node;     /* one reference when the kernel or store knows it */
	struct ctx *ctx;       /* one reference when it is a file and last */
	/* O_PATH: while it is open the inode number is nobody else's. A node that
	 * would be lost takes it over as the way to it. */
	int fd;
	char trash[24];
};

static void victim_put(struct store *st, struct victim *v)
{
	if (v->gated)
		gate_leave(&v->ctx->gate, true);
	if (v->ctx)
		ctx_put(v->ctx);
	if (v->node)
		node_forget(st->nodes, v->node, 1);
	if (v->exists)
		io_close(&v->fd);
	memset(v, 0, sizeof(*v));
}

/* On failure there is nothing to put. */
static int victim_get(struct store *st, const struct at *at, struct victim *v)
{
	int r = 0;

	memset(v, 0, sizeof(*v));
	v->fd = openat(at->dirfd, at->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (v->fd < 0)
		return -errno;
	v->exists = true;
	if (fstat(v->fd, &v->sb) < 0)
		r = -errno;
	v->last = v->sb.st_nlink == 1;
	if (r == 0 && S_ISREG(v->sb.st_mode) && v->last)
		r = ctx_get(st, v->sb.st_ino, true, &v->ctx);
	if (r < 0) {
		victim_put(st, v);
		return r;
	}
	v->node = node_find(st->nodes, v->sb.st_ino);
	trash_name(v->sb.st_ino, v->trash);
	return 0;
}

static bool victim_sealed(const struct victim *v)
{
	return v->exists && v->last && v->rec.state != KVFS_RECORD_PLAIN;
}

/*
 * A seal in flight must not switch a file whose last name goes, and nobody must
 * open it who has not already. Gate exclusive: a switch that is happening is
 * waited for. False: somebody else is taking this very file away.
 */
static bool mark_unlinked(struct victim *v, const struct at *at)
{
	char path[NODE_PATH_MAX];
	struct kvfs_record rec;

	v->held = ctx_leave_begin(v->ctx);
	if (!v->held)
		return false;
	if (v->ctx->fd >= 0) {
		v->rec = v->ctx->rec;
		return true;
	}
	/* a record that is lost or damaged leads to no object */
	node_at_path(at, path);
	if (v->sb.st_size > 0 && record_get(-1, path, v->ctx->st->xattr, &rec) == 0)
		v->rec = rec;
	return true;
}

static bool victim_hold(struct victim *v, const struct at *at)
{
	bool held;

	if (!v->ctx)
		return true;
	gate_enter(&v->ctx->gate, true);
	held = mark_unlinked(v, at);
	gate_leave(&v->ctx->gate, true);
	return held;
}

/* The name's file, held. When the evictor was faster, it holds the gate until
 * the name is gone: then the name is looked at again. */
static int victim_claim(struct store *st, const struct at *at, struct victim *v)
{
	for (unsigned i = 0; i < CLAIM_TRIES; i++) {
		int r;

		/* or else its context could be gone before we have it */
		gate_enter(&st->names, false);
		r = victim_get(st, at, v);
		gate_leave(&st->names, false);
		if (r < 0 || victim_hold(v, at))
			return r;
		victim_put(st, v);
	}
	return -EBUSY;
}

/*
 * The same for eviction, which must not touch what is in use, and must not wait:
 * whoever holds that gate may be waiting for room. It keeps the gate.
 */
static int victim_claim_idle(struct store *st, const struct at *at, uint64_t ino, bool pinned,
			     struct victim *v)
{
	struct meta_rec rec;
	bool busy;
	int r = victim_get(st, at, v);

	if (r < 0)
		return r;
	/* the index may be old: only this very inode, and whole files */
	if (v->sb.st_ino != ino || !S_ISREG(v->sb.st_mode))
		r = -ESTALE;
	else if (!v->last || !gate_try(&v->ctx->gate, true))
		r = -EBUSY;
	if (r < 0) {
		victim_put(st, v);
		return r;
	}
	v->gated = true;
	lock_acquire(&v->ctx->lock);
	busy = v->ctx->opens > 0 || v->ctx->sealing || v->ctx->copy_shared ||
	       (v->ctx->pinned && (!pinned || v->sb.st_uid == 0));
	lock_release(&v->ctx->lock);
	if (!busy && (!pinned || v->sb.st_uid == 0) && meta_get(st->meta, ino, &rec) == 0)
		busy = (rec.flags & META_PINNED) != 0;
	if (!busy && mark_unlinked(v, at))
		return 0;
	victim_put(st, v);
	return -EBUSY;
}

/* The name stays after all. */
static void victim_unhold(struct victim *v)
{
	if (!v->held || !ctx_leave_end(v->ctx, false) || v->gated)
		return;
	/* closed meanwhile: what its last close left to us */
	ctx_idle(v->ctx);
	seal_queue(v->ctx);
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

/* The name is gone: the node is somewhere else now. */
static void victim_node_gone(struct store *st, struct victim *v)
{
	if (!v->last || !v->node)
		return;
	if (victim_sealed(v)) {
		err_ignore(node_moved(st->nodes, v->node, node_trash(st->nodes), v->trash));
		return;
	}
	node_orphan(st->nodes, v->node, v->fd);
	v->fd = -1;
}

/* Counts and index; removes the content when nobody uses it any more. */
static void victim_gone(struct store *st, struct victim *v)
{
	uint64_t accounted;

	if (!v->last)
		return;
	accounted = victim_accounted(st, v);
	index_del(st, v->sb.st_ino);
	if (S_ISREG(v->sb.st_mode))
		trace_removed(st, v->sb.st_ino);
	if (!v->ctx || !ctx_leave_end(v->ctx, true))
		return; /* not a file; or store_release finishes it */
	if (!v->gated)
		gate_enter(&v->ctx->gate, true);
	if (!v->ctx->loaded) {
		lock_acquire(&v->ctx->lock);
		v->ctx->accounted = accounted;
		lock_release(&v->ctx->lock);
	}
	ctx_gone_locked(v->ctx);
	if (!v->gated)
		gate_leave(&v->ctx->gate, true);
	if (victim_sealed(v)) {
		if (v->node)
			node_dead(st->nodes, v->node);
		trash_remove(st, v->sb.st_ino, &v->rec);
	}
}

/* Takes the name away. names held. */
static int victim_remove(struct store *st, const struct at *at, struct victim *v)
{
	int r = FAULT_POINT("unlink.before");

	if (r == 0 && victim_sealed(v))
		r = renameat(at->dirfd, at->name, st->trash_fd, v->trash) < 0 ? -errno : 0;
	else if (r == 0)
		r = unlinkat(at->dirfd, at->name, 0) < 0 ? -errno : 0;
	if (r == 0)
		r = FAULT_POINT("unlink.after");
	if (r == 0)
		victim_node_gone(st, v);
	return r;
}

/* After the attempt to take its name away, which gave @r. */
static void victim_end(struct store *st, struct victim *v, int r)
{
	if (r == 0)
		victim_gone(st, v);
	else
		victim_unhold(v);
	victim_put(st, v);
}

int store_unlink(struct store *st, struct node *dir, const char *name)
{
	struct victim v;
	struct at at;
	int r;

	if (st->read_only)
		return -EROFS;
	r = node_at_child(st->nodes, dir, name, &at);
	if (r < 0)
		return r;
	r = victim_claim(st, &at, &v);
	if (r < 0)
		goto out;
	if (S_ISDIR(v.sb.st_mode)) {
		r = -EISDIR;
	} else {
		gate_enter(&st->names, false);
		r = victim_remove(st, &at, &v);
		gate_leave(&st->names, false);
	}
	victim_end(st, &v, r);
out:
	node_at_put(st->nodes, &at);
	return r;
}

int remove_idle(struct store *st, struct node *dir, const char *name, uint64_t ino, bool pinned)
{
	struct victim v;
	struct at at;
	int r = node_at_child(st->nodes, dir, name, &at);

	if (r < 0)
		return r;
	gate_enter(&st->names, true);
	r = victim_claim_idle(st, &at, ino, pinned, &v);
	if (r < 0) {
		gate_leave(&st->names, true);
		goto out;
	}
	r = victim_remove(st, &at, &v);
	/* who opens it by what the kernel still remembers must look the name up again */
	if (r == 0 && v.node)
		node_dead(st->nodes, v.node);
	gate_leave(&st->names, true);
	victim_end(st, &v, r);
out:
	node_at_put(st->nodes, &at);
	return r;
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
		r = unlinkat(at.dirfd, at.name, AT_REMOVEDIR) < 0 ? -errno : 0;
		v.last = true; /* a directory's link count counts its children */
		if (r == 0) {
			grant_forget(st); /* its inode number may come again elsewhere */
			victim_node_gone(st, &v);
			victim_gone(st, &v);
		}
		victim_put(st, &v);
	}
	node_at_put(st->nodes, &at);
	return r;
}

/* ---- rename --------------------------------------------------------------- */

/* A second name in trash/. Another file's entry of that number can only have come
 * with a copied store, and recovery has read it. */
static int trash_link(struct store *st, const struct at *at, const struct victim *v)
{
	for (int i = 0; i < 2; i++) {
		if (linkat(at->dirfd, at->name, st->trash_fd, v->trash, 0) == 0)
			return 0;
		if (errno != EEXIST || unlinkat(st->trash_fd, v->trash, 0) < 0)
			break;
	}
	return -errno;
}

static int rename_over(struct store *st, const struct at *from, const struct at *to,
		       struct victim *v)
{
	bool sealed = victim_sealed(v);
	int r = 0;

	if (sealed)
		r = trash_link(st, to, v);
	if (r < 0)
		return r;
	r = FAULT_POINT("rename.linked");
	if (r == 0 && renameat(from->dirfd, from->name, to->dirfd, to->name) < 0)
		r = -errno;
	if (r < 0 && sealed && unlinkat(st->trash_fd, v->trash, 0) < 0)
		return -errno;
	if (r == 0)
		r = FAULT_POINT("rename.after");
	return r;
}

struct rename_args {
	struct node *dir, *newdir;
	const char *name, *newname;
	unsigned flags;
	struct at from, to;
	struct node *moved[2]; /* one reference each, or NULL */
};

/* names held: the evictor must not look for it where it was. */
static void renamed(struct store *st, struct rename_args *a, unsigned i, uint64_t ino)
{
	struct node *n = node_find(st->nodes, ino);

	if (!n || S_ISDIR(node_type(n)))
		grant_forget(st); /* what lies below has other directories above it now */
	a->moved[i] = n;
	if (!n)
		return;
	/* out of memory: the old name stays, and the next look-up mends it */
	err_ignore(node_moved(st->nodes, n, i ? a->dir : a->newdir, i ? a->name : a->newname));
	index_moved(st, n);
}

static void renamed_end(struct store *st, struct rename_args *a)
{
	for (unsigned i = 0; i < 2; i++) {
		if (!a->moved[i])
			continue;
		attr_ctime_live(st, a->moved[i]);
		node_forget(st->nodes, a->moved[i], 1);
	}
}

static int rename_exchange(struct store *st, struct rename_args *a)
{
	struct stat s1, s2;

	if (fstatat(a->from.dirfd, a->from.name, &s1, AT_SYMLINK_NOFOLLOW) < 0 ||
	    fstatat(a->to.dirfd, a->to.name, &s2, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (renameat2(a->from.dirfd, a->from.name, a->to.dirfd, a->to.name, RENAME_EXCHANGE) < 0)
		return -errno;
	renamed(st, a, 0, s1.st_ino);
	renamed(st, a, 1, s2.st_ino);
	return 0;
}

static int rename_noreplace(struct store *st, struct rename_args *a)
{
	struct stat sb;

	if (fstatat(a->from.dirfd, a->from.name, &sb, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (renameat2(a->from.dirfd, a->from.name, a->to.dirfd, a->to.name, RENAME_NOREPLACE) < 0)
		return -errno;
	renamed(st, a, 0, sb.st_ino);
	return 0;
}

/* names held; @v exists or not. */
static int rename_victim(struct store *st, struct rename_args *a, struct victim *v)
{
	struct stat sb;
	int r;

	if (fstatat(a->from.dirfd, a->from.name, &sb, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (v->exists && v->sb.st_ino == sb.st_ino)
		return RENAME_NOTHING;
	r = rename_over(st, &a->from, &a->to, v);
	if (r < 0)
		return r;
	if (v->exists && S_ISDIR(v->sb.st_mode))
		v->last = true;
	victim_node_gone(st, v);
	renamed(st, a, 0, sb.st_ino);
	return 0;
}

static int rename_plain(struct store *st, struct rename_args *a)
{
	struct victim v;
	int r = victim_claim(st, &a->to, &v);

	if (r < 0 && r != -ENOENT)
		return r;
	gate_enter(&st->names, false);
	r = rename_victim(st, a, &v);
	gate_leave(&st->names, false);
	victim_end(st, &v, r);
	return r < 0 ? r : 0;
}

static int rename_any(struct store *st, struct rename_args *a)
{
	int r;

	if (!a->flags)
		return rename_plain(st, a);
	gate_enter(&st->names, false);
	r = a->flags == RENAME_EXCHANGE ? rename_exchange(st, a) : rename_noreplace(st, a);
	gate_leave(&st->names, false);
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
		r = rename_any(st, &a);
		renamed_end(st, &a);
		node_at_put(st->nodes, &a.to);
	}
	node_at_put(st->nodes, &a.from);
	return r;
}
