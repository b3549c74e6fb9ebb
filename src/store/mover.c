/* SPDX-License-Identifier: MIT */
/*
 * Bringing contexts to DRAM, by command and in the background after a read that found
 * nothing there: replicas (move_replica.c), decoded copies (move_copy.c).
 */
#include <errno.h>
#include <stdatomic.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"
#include "policy/policy.h"
#include "store/adapt.h"
#include "store/level.h"

void move_yield(struct store *st)
{
	struct timespec ts = { 0, 500000 };

	for (int w = 0; w < 40 && (workers_readers(st->workers) > 0 ||
				   clock_mono_ns() < atomic_load(&st->passing_until_ns));
	     w++)
		nanosleep(&ts, NULL);
}

/* ---- by command ----------------------------------------------------------- */

static int load_sealed(struct ctx *c, struct node *n)
{
	int r = ctx_enter(c);

	if (r < 0)
		return r;
	r = ctx_load_locked(c, n);
	if (r == 0 && c->rec.state == KVFS_RECORD_PLAIN)
		r = -EINVAL;
	if (r == 0)
		r = ctx_object_locked(c);
	if (r == 0)
		level_pin_locked(c, n, false); /* what it is to hold */
	gate_leave(&c->gate, true);
	return r;
}

int store_move(struct store *st, struct node *n, enum place where)
{
	struct ctx *c;
	int r;

	if (!S_ISREG(node_type(n)))
		return -EINVAL;
	r = ctx_get(st, node_ino(n), true, &c);
	if (r < 0)
		return r;
	adapt_by_hand(st, c->ino);
	lock_acquire(&c->lock);
	c->by_hand++;
	c->hand_place = where;
	c->working++;
	lock_release(&c->lock);
	if (where == PLACE_SSD) {
		space_drop_dram(c, true, true);
	} else {
		r = load_sealed(c, n);
		if (r == 0 && where == PLACE_DRAM)
			r = move_replica(c);
		if (r == 0 && where == PLACE_DRAM)
			space_drop_dram(c, false, true);
		if (r == 0 && where == PLACE_COPY) {
			gate_enter(&c->gate, false);
			r = move_copy(c, NULL);
			gate_leave(&c->gate, false);
		}
		r = damage_found(c, n, r);
	}
	ctx_work_end(c);
	if (c->cut_due)
		level_settle(c, n);
	ctx_put(c);
	return r;
}

struct promote {
	struct work work;
	struct ctx *c; /* one reference */
	struct node *n; /* one reference */
};

static void promote_run(struct work *w)
{
	struct promote *p = container_of(w, struct promote, work);
	struct store *st = p->c->st;
	int r = load_sealed(p->c, p->n);

	if (r == 0)
		r = move_replica(p->c);
	err_ignore(damage_found(p->c, p->n, r)); /* else it stays on SSD */
	ctx_work_end(p->c);
	if (p->c->cut_due)
		level_settle(p->c, p->n);
	node_forget(st->nodes, p->n, 1);
	ctx_put(p->c);
	mem_free(p);
	atomic_fetch_sub(&st->moves, 1);
}

#define MOVES_MAX 64

void move_later(struct ctx *c, struct node *n)
{
	struct store *st = c->st;
	struct promote *p;
	bool go;

	if (atomic_load(&st->stopping) || atomic_load(&st->moves) >= MOVES_MAX)
		return;
	lock_acquire(&c->lock);
	go = !c->working && !(c->rep && replica_complete(c->rep));
	c->working += go;
	lock_release(&c->lock);
	if (!go)
		return;
	p = mem_zalloc(sizeof(*p));
	if (!p) {
		ctx_work_end(c);
		return;
	}
	p->c = c;
	p->n = n;
	p->work.run = promote_run;
	list_init(&p->work.link);
	ctx_ref(c);
	node_ref(st->nodes, n);
	atomic_fetch_add(&st->moves, 1);
	workers_submit(st->workers, WORK_BACKGROUND, &p->work);
}

void move_after_read(struct ctx *c, struct node *n, bool whole, uint64_t size)
{
	struct policy_read pr = { .whole = whole, .logical_bytes = size,
				  .dram_bytes = size - size / 4,
				  .dram_limit = budget_limit(&c->st->dram) };

	if (c->state == CTX_SEALED && !c->st->adapt && c->st->policy->admit(&pr))
		move_later(c, n);
}

int store_prefetch(struct store *st, struct node *n, uid_t who)
{
	struct ctx *c;
	int r;

	(void)who;
	if (!S_ISREG(node_type(n)))
		return -EINVAL;
	r = ctx_get(st, node_ino(n), true, &c);
	if (r < 0)
		return r;
	move_later(c, n);
	ctx_put(c);
	return 0;
}
