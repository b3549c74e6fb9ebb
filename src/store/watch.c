/* SPDX-License-Identifier: MIT */
/*
 * Writers that the kernel serves by itself. What they write, and what they store
 * into mappings, is not seen by anybody here, so kvfs-tick looks: at what the
 * file occupies and at its times, which the kernel else goes on showing as they
 * were. It looks while such a writer has the file open, and afterwards, holding a
 * reference on the context (watched), until the lease says that no mapping is left.
 * Shared copies, whose last mapping ends the sharing, are looked at as well.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "store/level.h"

/* Somebody else has it open or mapped: our descriptor cannot get a lease. */
static bool in_use(int fd)
{
	if (fcntl(fd, F_SETLEASE, F_WRLCK) < 0)
		return errno == EAGAIN; /* else no leases here: nothing to wait for */
	err_ignore(fcntl(fd, F_SETLEASE, F_UNLCK)); /* gives back what was just got */
	return false;
}

/* No mapping is left of those that watching waits for. A seal has its own lease
 * on the same descriptor: not beside one. Gate held. */
static bool is_over(struct ctx *c) REQUIRES(&c->lock)
{
	return c->opens == 0 && !c->sealing && (c->fd < 0 || !in_use(c->fd));
}

void watch_closed(struct ctx *c)
{
	gate_enter(&c->gate, false);
	lock_acquire(&c->lock);
	if (c->unseen && !c->watched && c->opens == 0) {
		c->unseen = !is_over(c);
		c->watched = c->unseen;
		if (c->watched)
			ctx_ref(c);
	}
	lock_release(&c->lock);
	gate_leave(&c->gate, false);
}

void watch_end(struct ctx *c)
{
	uint64_t bytes;
	bool was, named;

	lock_acquire(&c->lock);
	was = c->watched;
	named = !c->unlinked;
	bytes = c->accounted;
	c->watched = false;
	lock_release(&c->lock);
	if (!was)
		return;
	if (named)
		index_occupies(c->st, c->ino, bytes);
	ctx_put(c);
}

/* The kernel asks for attributes anew. */
static void show(struct ctx *c)
{
	struct store *st = c->st;
	struct node *n = node_find(st->nodes, c->ino);

	if (!n)
		return;
	st->k->inval_inode(st->karg, n, false);
	node_forget(st->nodes, n, 1);
}

/* Its last mapping may be gone. */
static void settle(struct ctx *c)
{
	struct node *n = index_find(c->st, c->ino);

	if (!n)
		return;
	level_settle(c, n);
	node_forget(c->st->nodes, n, 1);
	ctx_idle(c);
}

/* Gate held. True when something changed since the last look. */
static bool look(struct ctx *c)
{
	struct stat sb;
	bool changed;

	if (c->fd < 0 || fstat(c->fd, &sb) < 0)
		return false;
	ctx_account(c, &sb);
	changed = sb.st_blocks != c->seen_blocks || sb.st_mtim.tv_sec != c->seen_mtim.tv_sec ||
		  sb.st_mtim.tv_nsec != c->seen_mtim.tv_nsec;
	c->seen_blocks = sb.st_blocks;
	c->seen_mtim = sb.st_mtim;
	return changed;
}

static bool watch_one(struct ctx *c, void *arg)
{
	bool unseen, shared, changed, over = false;

	lock_acquire(&c->lock);
	unseen = c->unseen;
	shared = c->copy_shared && c->passthrough == 0;
	lock_release(&c->lock);
	*(bool *)arg |= unseen;
	if (shared && serving_end(c)) {
		show(c);
		ctx_idle(c);
		seal_queue(c);
	}
	if (c->cut_due)
		settle(c);
	if (!unseen || !gate_try(&c->gate, false))
		return true;
	lock_acquire(&c->lock);
	if (c->watched && is_over(c)) {
		c->unseen = false;
		over = true;
	}
	lock_release(&c->lock);
	changed = look(c); /* nothing can change any more when it is over */
	gate_leave(&c->gate, false);
	if (changed) {
		atomic_fetch_add(&c->st->uses, 1);
		show(c);
	}
	if (over) {
		watch_end(c);
		ctx_idle(c);
		seal_queue(c);
	}
	return true;
}

bool watch_all(struct store *st)
{
	bool any = false;

	ctx_each(st, watch_one, &any);
	return any;
}

static bool end_one(struct ctx *c, void *arg)
{
	(void)arg;
	watch_end(c);
	return true;
}

void watch_stop(struct store *st)
{
	ctx_each(st, end_one, NULL);
}
