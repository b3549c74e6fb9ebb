/* SPDX-License-Identifier: MIT */
/*
 * Carrying moves out. Giving up is done at once, by whoever needs the room, and waits for
 * nobody: what is in use stays. Bringing things to memory is work for the background, which
 * yields to readers and ends when the file is opened. In either case the policy is told
 * what is there afterwards.
 */
#include <errno.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "store/adapt_types.h"
#include "store/evict.h"
#include "store/level.h"

/* What one plan brings may all begin; the next one waits until fewer are under way. */
#define JOBS_FEW 64
#define JOBS_MAX (JOBS_FEW + ADAPT_MOVES_MAX)

/* ---- down ----------------------------------------------------------------------- */

/* Some of its layers: those that stay are copied, if there is room for that. */
static void trim(struct ctx *c, unsigned n)
{
	struct replica *old = NULL, *less;

	lock_acquire(&c->lock);
	if (c->rep && replica_complete(c->rep) && replica_layers(c->rep) > n)
		old = replica_get(c->rep);
	lock_release(&c->lock);
	if (!old)
		return;
	if (replica_trim(old, n, &less) < 0)
		less = NULL;
	lock_acquire(&c->lock);
	if (c->rep == old) {
		struct replica *r = c->rep;

		c->rep = less;
		less = r; /* the one to be put */
	}
	lock_release(&c->lock);
	replica_put(less);
	replica_put(old);
	store_count(c->st, CNT_DRAM_EVICTED, 1);
	ctx_cooled(c);
}

static void down_dram(struct ctx *c, const struct cost_place *to, enum adaptive_reason why)
{
	if (to->dram == 0 || !to->copy)
		space_drop_dram(c, to->dram == 0, !to->copy);
	if (to->dram > 0)
		trim(c, to->dram);
	ctx_reason(c, adaptive_reason_name(why));
}

static int down_layers(struct store *st, const struct adaptive_move *m)
{
	struct node *n = index_find(st, m->id);
	struct ctx *c;
	int r;

	if (!n)
		return -ENOENT;
	r = ctx_get(st, m->id, true, &c);
	if (r == 0) {
		r = level_shed(c, n, m->to.stored);
		ctx_idle_try(c);
		ctx_put(c);
	}
	node_forget(st->nodes, n, 1);
	return r;
}

/* Layers or all of the file. */
static void down_ssd(struct store *st, const struct adaptive_move *m)
{
	int r = m->to.stored ? down_layers(st, m) : evict_one(st, m->id);

	if (r == -ENOENT)
		adapt_gone(st, m->id);
	else if (r < 0) /* the policy took it for done */
		adapt_failed(st, m->id, m->from.stored);
}

/* ---- up -------------------------------------------------------------------------- */

struct job {
	struct work work;
	struct ctx *c;     /* one reference */
	struct node *node; /* one reference */
	struct cost_place to;
	enum adaptive_reason why;
	unsigned by_hand; /* of the context, when it began */
};

#define TIMED_BYTES (8u << 20)

/* How fast its readers will get it: what was decoded first, which is in no cache any more. */
static void time_copy(struct ctx *c)
{
	size_t len = 1u << 20, sum = 0;
	struct copy *copy;
	uint64_t start;
	ssize_t got;
	char *buf;

	lock_acquire(&c->lock);
	copy = c->copy ? copy_get(c->copy) : NULL;
	lock_release(&c->lock);
	buf = copy ? mem_alloc_pages(len) : NULL;
	if (buf && pread(copy_fd(copy), buf, len, 0) == (ssize_t)len) { /* touches buf */
		start = clock_mono_ns();
		do {
			got = pread(copy_fd(copy), buf, len, (off_t)(len + sum));
			sum += got > 0 ? (size_t)got : 0;
		} while (got > 0 && sum < TIMED_BYTES);
		rates_copied(&c->st->rates, sum, clock_mono_ns() - start);
	}
	mem_free_pages(buf, len);
	copy_put(copy);
}

/* Somebody opened it or brings it elsewhere. */
static bool overtaken(const struct job *j)
{
	struct ctx *c = j->c;
	bool yes;

	lock_acquire(&c->lock);
	yes = atomic_load(&c->wanted) || c->opens > 0 || c->by_hand != j->by_hand;
	lock_release(&c->lock);
	return yes;
}

static int begin(struct job *j)
{
	struct ctx *c = j->c;
	int r = ctx_enter(c);

	if (r < 0)
		return r;
	r = ctx_load_locked(c, j->node);
	if (r == 0 && c->rec.state == KVFS_RECORD_PLAIN)
		r = -EINVAL;
	if (r == 0)
		r = ctx_object_locked(c);
	if (r == 0 && j->to.copy)
		level_choose_locked(c, j->to.level + 1u);
	gate_leave(&c->gate, true);
	return r;
}

/* What came to memory while it was brought elsewhere by hand goes again. */
static void undo(struct job *j)
{
	struct ctx *c = j->c;
	enum place where = PLACE_COPY;

	lock_acquire(&c->lock);
	if (c->by_hand != j->by_hand && c->opens == 0)
		where = c->hand_place;
	lock_release(&c->lock);
	if (where != PLACE_COPY)
		space_drop_dram(c, where == PLACE_SSD, true);
}

static void up(struct job *j)
{
	struct ctx *c = j->c;
	const struct read_pace pace = { .cancel = &c->wanted, .alone = true };
	int r;

	move_yield(c->st);
	atomic_store(&c->wanted, false); /* an open that is past that shows in its count */
	r = overtaken(j) ? -KVFS_ECANCELED : begin(j);

	if (r == 0 && !j->to.copy)
		space_drop_dram(c, false, true);
	if (r == 0 && j->to.dram > 0)
		r = move_replica_as(c, j->to.dram, (enum cost_packing)j->to.packing);
	/* from the replica, if both fit for so long */
	if (r == 0 && j->to.dram == 0 && budget_free(&c->st->dram) < copy_held(c->size))
		space_drop_dram(c, true, false);
	if (r == 0 && j->to.copy && !overtaken(j)) {
		gate_enter(&c->gate, false);
		r = move_copy(c, &pace);
		gate_leave(&c->gate, false);
		if (r == 0)
			time_copy(c);
	}
	if (r == 0 && j->to.dram == 0)
		space_drop_dram(c, true, false);
	if (r == 0)
		ctx_reason(c, adaptive_reason_name(j->why));
	else
		adapt_failed(c->st, c->ino, 0);
	undo(j);
	err_ignore(damage_found(c, j->node, r)); /* else it stays where it is */
}

static void job_run(struct work *w)
{
	struct job *j = container_of(w, struct job, work);
	struct store *st = j->c->st;

	if (!atomic_load(&st->stopping))
		up(j);
	ctx_work_end(j->c);
	if (j->c->cut_due)
		level_settle(j->c, j->node);
	node_forget(st->nodes, j->node, 1);
	ctx_put(j->c);
	mem_free(j);
	atomic_fetch_sub(&st->moves, 1);
}

static int up_later(struct store *st, struct ctx *c, const struct adaptive_move *m)
{
	struct node *n = index_find(st, m->id);
	bool behind = seal_behind(st), go;
	unsigned by_hand;
	struct job *j;

	if (!n)
		return -ENOENT;
	lock_acquire(&c->lock);
	go = !behind && !c->working && !c->opens && !atomic_load(&st->stopping) &&
	     atomic_load(&st->moves) < JOBS_MAX;
	c->working += go;
	by_hand = c->by_hand;
	lock_release(&c->lock);
	j = go ? mem_zalloc(sizeof(*j)) : NULL;
	if (!j) {
		if (go)
			ctx_work_end(c);
		node_forget(st->nodes, n, 1);
		return -EBUSY;
	}
	j->c = c;
	j->node = n;
	j->to = m->to;
	j->why = m->reason;
	j->by_hand = by_hand;
	j->work.run = job_run;
	list_init(&j->work.link);
	ctx_ref(c);
	atomic_fetch_add(&st->moves, 1);
	workers_submit(st->workers, WORK_BACKGROUND, &j->work);
	return 0;
}

bool adapt_may_bring(struct adapt *ad)
{
	return !seal_behind(ad->st) && atomic_load(&ad->st->moves) < JOBS_FEW;
}

/* ---- which ------------------------------------------------------------------------- */

static bool is_up(const struct cost_place *now, const struct cost_place *to)
{
	return to->dram > now->dram || to->copy > now->copy ||
	       (to->dram > 0 && to->packing != now->packing);
}

void adapt_carry_out(struct adapt *ad, const struct adaptive_move *m)
{
	struct store *st = ad->st;
	bool work = m->work_pages > 0;
	struct cost_place now;
	struct ctx *c;
	int r = 0;

	if (m->to.stored < m->from.stored) {
		down_ssd(st, m); /* and what was in memory of that */
		return;
	}
	if (ctx_get(st, m->id, work, &c) < 0)
		return; /* nothing of it is in memory */
	adapt_place(c, &now);
	if (work && is_up(&now, &m->to))
		r = up_later(st, c, m);
	else
		down_dram(c, &m->to, m->reason);
	if (r == -EBUSY)
		atomic_store(&ad->again, true);
	if (r < 0)
		adapt_failed(st, m->id, 0);
	if (r < 0 || !work)
		adapt_moved(c);
	ctx_put(c);
}
