/* SPDX-License-Identifier: MIT */
/*
 * What opens, seals, movers and operators tell the policy: a queue that its thread empties. It
 * is bounded; what does not fit, a walk through all contexts finds.
 */
#include "store/adapt.h"

#include "base/clock.h"
#include "base/mem.h"
#include "store/adapt_types.h"

#define QUEUE_MAX 65536u

static void event_put(struct adapt *ad, const struct adapt_event *what)
{
	struct adapt_event *e = mem_alloc(sizeof(*e));
	bool full;

	if (e) {
		*e = *what;
		e->now_ns = clock_real_ns();
		list_init(&e->link);
	}
	lock_acquire(&ad->q_lock);
	full = !e || ad->n_queue >= QUEUE_MAX || ad->stop;
	if (full) {
		ad->walk = ad->lost = true; /* finds what was lost */
	} else {
		list_add_tail(&ad->queue, &e->link);
		ad->n_queue++;
		cond_signal(&ad->wake);
	}
	lock_release(&ad->q_lock);
	if (full)
		mem_free(e);
}

/* Without a name it is left to whoever has it open, and nothing of it may move. While its
 * name is going, it may stay yet; ctx_gone_locked() has the last word. */
static bool nameless(struct ctx *c)
{
	bool yes;

	lock_acquire(&c->lock);
	yes = c->unlinked && !c->leaving;
	lock_release(&c->lock);
	return yes;
}

static void seen(struct ctx *c, struct node *n, enum adapt_kind kind)
{
	struct adapt_event e = { .kind = kind };

	if (c->st->adapt && !nameless(c) && adapt_item(c, n, &e.it))
		event_put(c->st->adapt, &e);
}

void adapt_seen(struct ctx *c, struct node *n)
{
	seen(c, n, ADAPT_SEEN);
}

void adapt_sealed(struct ctx *c, struct node *n)
{
	seen(c, n, ADAPT_SEALED);
}

/* Queued under the lock: who looks later is heard later. While something is being moved, what
 * is there is neither what was nor what will be, and the policy keeps what it has planned; the
 * end of that tells (ctx_work_end). */
static void report(struct ctx *c, enum adapt_kind kind)
{
	struct adapt_event e = { .kind = kind, .it.id = c->ino };

	lock_acquire(&c->lock);
	if (kind == ADAPT_USED || c->working == 0) {
		adapt_place_locked(c, &e.it.now);
		e.replica_pages = adapt_replica_pages_locked(c);
		e.last = c->opens == 0;
		event_put(c->st->adapt, &e);
	}
	lock_release(&c->lock);
}

void adapt_used(struct ctx *c)
{
	if (c->st->adapt && c->state != CTX_PLAIN)
		report(c, ADAPT_USED);
}

void adapt_moved(struct ctx *c)
{
	if (c->st->adapt)
		report(c, ADAPT_MOVED);
}

void adapt_by_hand(struct store *st, uint64_t ino)
{
	struct adapt_event e = { .kind = ADAPT_HAND, .it.id = ino };

	if (st->adapt)
		event_put(st->adapt, &e);
}

void adapt_dropped(struct store *st, uint64_t ino, unsigned stored)
{
	struct adapt_event e = { .kind = ADAPT_DROPPED, .it.id = ino };

	if (!st->adapt)
		return;
	e.it.now.stored = (uint8_t)stored;
	event_put(st->adapt, &e);
}

void adapt_gone(struct store *st, uint64_t ino)
{
	struct adapt_event e = { .kind = ADAPT_GONE, .it.id = ino };

	if (st->adapt)
		event_put(st->adapt, &e);
}

void adapt_limits(struct store *st)
{
	struct adapt *ad = st->adapt;

	if (!ad)
		return;
	lock_acquire(&ad->q_lock);
	ad->limits = true;
	cond_signal(&ad->wake);
	lock_release(&ad->q_lock);
}
