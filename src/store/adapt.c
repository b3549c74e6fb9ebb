/* SPDX-License-Identifier: MIT */
/*
 * The policy's thread: takes what happened from the queue, lets policy/adaptive decide, has
 * the moves carried out, and now and then brings rates and budgets up to date and plans
 * anew.
 */
#include "store/adapt.h"

#include <errno.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/thread.h"
#include "policy/policy.h"
#include "store/adapt_types.h"

#define TICK_NS NSEC_PER_SEC
/* Planning is followed by so many times its own length without it; carrying out a plan is not
 * counted: giving up the layers of many contexts takes seconds, and much is to be moved then. */
#define PLAN_REST 100
/* What could not be carried out is planned again after so long, unless something of it changes. */
#define RETRY_NS (10 * NSEC_PER_SEC)
/* Moves get at least this of the device. */
#define MOVES_MIN_BPS (64ull << 20)

/* ---- events -------------------------------------------------------------------- */

/* What others estimate by growth is known of what is there. */
static void packed(struct adaptive *a, const struct cost_item *it, const struct adapt_event *e)
{
	uint32_t base = adapt_base_pages(it, e->it.now.dram, e->replica_pages);

	if (base)
		adaptive_packed(a, it->id, base);
}

/* A copy that an open has made for itself lies in what is set aside for that (budgets), and
 * nobody else makes way for it: whether it earns to stay is asked when the file is closed. */
static bool is_passing(const struct cost_item *known, const struct cost_place *got)
{
	return (known->flags & COST_BUSY) && !known->now.copy && got->copy;
}

static void put(struct adaptive *a, struct cost_item it)
{
	struct cost_item known;

	if (adaptive_get(a, it.id, 0, &known)) {
		if (is_passing(&known, &it.now))
			it.now.copy = 0;
		/* its opens have counted already for the context, not yet here */
		if (known.flags & COST_BUSY) {
			it.heat = known.heat;
			it.heat_ns = known.heat_ns;
		}
	}
	if (!(it.flags & COST_BUSY)) /* as the next open gets it */
		it.now.level = (uint8_t)cost_best_level(adaptive_model(a), &it, &it.now);
	err_ignore(adaptive_put(a, &it)); /* without memory it is not planned */
}

/* What is in memory as it is; the level, where nobody uses it, as the next open gets it. */
static void merge(struct adaptive *a, const struct adapt_event *e)
{
	const struct cost_place *got = &e->it.now;
	struct cost_place p;
	struct cost_item it;

	/* of one that is being removed nothing counts; if it stays, that is told as FAILED */
	if (!adaptive_get(a, e->it.id, 0, &it) || (it.now.stored == 0 && e->kind != ADAPT_FAILED))
		return;
	p = it.now;
	if (e->kind != ADAPT_MOVED && e->kind != ADAPT_USED)
		p.stored = got->stored;
	if (e->kind == ADAPT_DROPPED) {
		p.dram = p.dram < p.stored ? p.dram : p.stored;
		p.level = p.level < p.stored ? p.level : (uint8_t)(p.stored - 1);
	} else {
		packed(a, &it, e);
		p.dram = got->dram < p.stored ? got->dram : p.stored;
		p.packing = got->packing;
		p.copy = got->copy && !(e->kind == ADAPT_MOVED && is_passing(&it, got));
	}
	it.now.copy = it.now.copy && p.copy;
	it.now.stored = p.stored; /* for its floor */
	p.level = (uint8_t)cost_best_level(adaptive_model(a), &it, &p);
	adaptive_placed(a, e->it.id, &p);
}

/* At once: whoever makes room asks for the next one. */
void adapt_failed(struct store *st, uint64_t ino, unsigned stored)
{
	struct adapt_event e = { .kind = ADAPT_FAILED, .it.id = ino };
	struct adapt *ad = st->adapt;
	struct ctx *c;

	if (stored && ctx_get(st, ino, false, &c) == 0) {
		lock_acquire(&c->lock);
		adapt_place_locked(c, &e.it.now);
		e.replica_pages = adapt_replica_pages_locked(c);
		lock_release(&c->lock);
		ctx_put(c);
	} /* else nothing of it is in memory */
	e.it.now.stored = (uint8_t)stored;
	lock_acquire(&ad->lock);
	if (stored)
		merge(ad->a, &e);
	adaptive_failed(ad->a, ino, stored > 0);
	lock_release(&ad->lock);
}

/* Until the end of the mount, for which nobody is to wait. */
static void carry_out(struct adapt *ad, const struct adaptive_moves *m)
{
	for (unsigned i = 0; i < m->n && !atomic_load(&ad->st->stopping); i++)
		adapt_carry_out(ad, &m->v[i]);
}

static void apply(struct adapt *ad, const struct adapt_event *e, struct adaptive_moves *m)
	REQUIRES(ad->lock)
{
	uint64_t id = e->it.id;

	m->n = 0;
	switch (e->kind) {
	case ADAPT_SEEN:
		put(ad->a, e->it);
		break;
	case ADAPT_SEALED:
		err_ignore(adaptive_arrive(ad->a, &e->it, e->now_ns, m)); /* likewise */
		break;
	case ADAPT_USED:
		if (e->last)
			adaptive_busy(ad->a, id, false);
		merge(ad->a, e);
		(void)adaptive_hit(ad->a, id, e->now_ns, m);
		break;
	case ADAPT_MOVED:
	case ADAPT_DROPPED:
		merge(ad->a, e);
		break;
	case ADAPT_FAILED:
		break;
	case ADAPT_HAND:
		adaptive_by_hand(ad->a, id);
		break;
	case ADAPT_GONE:
		adaptive_gone(ad->a, id);
		break;
	}
}

/* ---- rates and budgets ----------------------------------------------------------- */

uint64_t adapt_set_aside(struct store *st)
{
	uint64_t work = atomic_load(&st->dram.use_bytes[BUDGET_WINDOW]) +
			atomic_load(&st->dram.use_bytes[BUDGET_BUFFER]);
	uint64_t least = budget_limit(&st->dram) / 16;

	return atomic_load(&st->dram.use_bytes[BUDGET_TABLE]) + move_copies_room(st) +
	       (work > least ? work : least);
}

/* What of the limits is not taken by windows, tables, plain files and so on. */
static void budgets(struct adapt *ad, const struct adaptive_stats *s) REQUIRES(ad->lock)
{
	struct store *st = ad->st;
	uint64_t dram = budget_limit(&st->dram), ssd = space_limit(st), used = space_used(st);
	uint64_t held = atomic_load(&st->dram.use_bytes[BUDGET_REPLICA]) +
			atomic_load(&st->dram.use_bytes[BUDGET_COPY]);
	uint64_t known = s->dram_bytes + atomic_load(&st->made_bytes) +
			 (st->copies ? copy_pool_idle(st->copies) : 0);
	uint64_t other = adapt_set_aside(st), more = held > known ? held - known : 0;

	/* rounding; moves under way pass */
	other += more < dram / 16 ? more : dram / 16;
	dram = dram > other ? dram - other : 0;
	/* noise replans nothing */
	if (dram > ad->cfg.dram_bytes + ad->cfg.dram_bytes / 64 || dram < ad->cfg.dram_bytes)
		ad->cfg.dram_bytes = dram - dram / 64;
	used = used > s->ssd_bytes ? used - s->ssd_bytes : 0;
	ad->cfg.ssd_bytes = ssd > used ? ssd - used : 0;
}

/* The table grows by what clients make, so it may pass the budget for a moment, as other tables. */
static void count_table(struct adapt *ad, uint64_t bytes)
{
	struct budget *b = &ad->st->dram;

	if (bytes > ad->table_bytes)
		budget_force(b, BUDGET_TABLE, bytes - ad->table_bytes);
	else
		budget_give(b, BUDGET_TABLE, ad->table_bytes - bytes);
	ad->table_bytes = bytes;
}

/* Rates changed by more than noise, or the budgets. */
static void refresh(struct adapt *ad)
{
	struct store *st = ad->st;
	struct adaptive_stats s;
	struct cost_rates rates;
	struct tier_stats ts;

	st->ssd->ops->stats(st->ssd, &ts);
	rates_get(&st->rates, ts.bandwidth_Bps, ts.latency_ns, &rates);
	lock_acquire(&ad->lock);
	if (adaptive_set_rates(ad->a, &rates))
		ad->changed = true;
	adaptive_stats(ad->a, &s);
	count_table(ad, s.table_bytes);
	budgets(ad, &s);
	ad->cfg.moves_Bps = (uint64_t)(rates.ssd_Bps / ADAPTIVE_MOVES_PART);
	if (ad->cfg.moves_Bps < MOVES_MIN_BPS)
		ad->cfg.moves_Bps = MOVES_MIN_BPS;
	adaptive_configure(ad->a, &ad->cfg);
	lock_acquire(&ad->q_lock);
	ad->model = *adaptive_model(ad->a);
	lock_release(&ad->q_lock);
	lock_release(&ad->lock);
}

/* What a plan takes while it is made; without room for it there is none. */
static bool plan_room(struct store *st, uint64_t bytes)
{
	return budget_take(&st->dram, BUDGET_BUFFER, bytes) == 0 ||
	       (space_dram(st, bytes, NULL) && budget_take(&st->dram, BUDGET_BUFFER, bytes) == 0);
}

static void plan(struct adapt *ad, struct adaptive_moves *m)
{
	uint64_t start, took, bytes;
	struct adaptive_stats s;

	lock_acquire(&ad->lock);
	adaptive_stats(ad->a, &s);
	lock_release(&ad->lock);
	bytes = (uint64_t)s.contexts * ADAPTIVE_PLAN_BYTES;
	if (!plan_room(ad->st, bytes))
		return;
	ad->changed = false;
	m->max = ADAPT_MOVES_MAX;
	lock_acquire(&ad->lock);
	start = clock_mono_ns();
	if (start >= ad->retry_ns) {
		adaptive_retry(ad->a);
		ad->retry_ns = start + RETRY_NS;
	}
	if (adaptive_replan(ad->a, clock_real_ns(), m) < 0)
		m->n = 0; /* no memory for a plan: what events decide goes on */
	took = clock_mono_ns() - start;
	adaptive_stats(ad->a, &s);
	lock_release(&ad->lock);
	budget_give(&ad->st->dram, BUDGET_BUFFER, bytes);
	ad->changed = m->n == m->max || s.plan_waits; /* there is more */
	carry_out(ad, m);
	ad->plan_ns = clock_mono_ns() + took * PLAN_REST;
}

/* ---- the thread -------------------------------------------------------------------- */

/* A walk that others wait for begins before the next tick. */
static uint64_t next_ns(const struct adapt *ad) REQUIRES(ad->q_lock)
{
	bool awaited = ad->walk && ad->whole && !ad->known;

	return awaited && ad->walk_ns < ad->tick_ns ? ad->walk_ns : ad->tick_ns;
}

/* Takes all that waits; false: the end. */
static bool wait_events(struct adapt *ad, struct list *ret, bool busy)
{
	bool go;

	list_init(ret);
	lock_acquire(&ad->q_lock);
	while (!ad->stop && !ad->limits && list_empty(&ad->queue) && !busy &&
	       cond_wait_until(&ad->wake, &ad->q_lock, next_ns(ad)))
		;
	go = !ad->stop;
	if (ad->limits)
		ad->tick_ns = ad->plan_ns = 0;
	ad->changed |= ad->limits;
	ad->limits = false;
	while (!list_empty(&ad->queue)) {
		struct list *l = ad->queue.next;

		list_del(l);
		list_add_tail(ret, l);
	}
	ad->n_queue = 0;
	lock_release(&ad->q_lock);
	return go;
}

static void events_run(struct adapt *ad, struct list *events, struct adaptive_moves *m, bool run)
{
	while (!list_empty(events)) {
		struct adapt_event *e = container_of(events->next, struct adapt_event, link);

		list_del(&e->link);
		if (run) {
			m->max = adapt_may_bring(ad) ? ADAPT_MOVES_MAX : 0;
			lock_acquire(&ad->lock);
			apply(ad, e, m);
			lock_release(&ad->lock);
			ad->changed |= e->kind != ADAPT_MOVED;
			carry_out(ad, m);
		}
		mem_free(e);
	}
}

/* A walk is over, and what it found is in the table, unless something was lost on the way. */
static bool now_known(struct adapt *ad)
{
	bool known;

	lock_acquire(&ad->q_lock);
	known = ad->known = !ad->lost;
	cond_broadcast(&ad->all_known);
	lock_release(&ad->q_lock);
	return known;
}

static void *adapt_thread(void *arg)
{
	struct adapt *ad = arg;
	struct adaptive_moves m = { .v = ad->moves, .max = ADAPT_MOVES_MAX };
	struct list events;
	bool go = true, known = false;

	while (go) {
		go = wait_events(ad, &events, adapt_walking(ad) || ad->walked);
		events_run(ad, &events, &m, go);
		if (!go)
			break;
		if (ad->walked && !known)
			known = now_known(ad);
		ad->walked = false;
		adapt_walk_step(ad);
		if (clock_mono_ns() < ad->tick_ns)
			continue;
		refresh(ad);
		ad->changed |= atomic_exchange(&ad->again, false);
		/* nothing is given up for what is not yet known; later walks change little */
		if (ad->changed && known && clock_mono_ns() >= ad->plan_ns && adapt_may_bring(ad))
			plan(ad, &m);
		if (known)
			adapt_idle_step(ad);
		ad->tick_ns = clock_mono_ns() + TICK_NS;
	}
	return NULL;
}

/* ---- life -------------------------------------------------------------------------- */

static int table_make(struct adapt *ad) NO_TSA
{
	struct store *st = ad->st;
	struct cost_rates rates;

	ad->cfg = (struct adaptive_config){
		.cost = { .alpha_s = st->cfg.alpha_s,
			  .margin = ADAPTIVE_MARGIN,
			  .recompute_s_per_page = st->cfg.recompute_s_per_mb *
						  COST_PAGE_BYTES / 1e6,
			  .may_remove = st->cfg.full == FULL_EVICT },
		.half_ns = POLICY_HALF_NS,
		.dram_bytes = st->cfg.dram_bytes / 2, /* until the first refresh */
		.ssd_bytes = space_limit(st),
		.moves_Bps = MOVES_MIN_BPS,
	};
	rates_get(&st->rates, 0, 0, &rates);
	cost_model_init(&ad->model, &rates, &ad->cfg.cost);
	return adaptive_create(&ad->cfg, &rates, &ad->a);
}

int adapt_start(struct store *st)
{
	struct adapt *ad;
	int r;

	if (!st->policy->plans || st->read_only)
		return 0;
	ad = mem_zalloc(sizeof(*ad));
	if (!ad)
		return -ENOMEM;
	ad->st = st;
	lock_init(&ad->lock);
	lock_init(&ad->q_lock);
	cond_init(&ad->wake);
	cond_init(&ad->all_known);
	list_init(&ad->queue);
	lock_acquire(&ad->q_lock);
	ad->known_by_ns = clock_mono_ns() + ADAPT_KNOWN_NS;
	lock_release(&ad->q_lock);
	st->adapt = ad;
	r = table_make(ad);
	ad->moves = mem_alloc(ADAPT_MOVES_MAX * sizeof(*ad->moves));
	if (r == 0 && !ad->moves)
		r = -ENOMEM;
	if (r == 0)
		r = thread_start("kvfs-policy", adapt_thread, ad, &ad->thread);
	ad->started = r == 0;
	if (r < 0)
		adapt_free(st);
	return r;
}

void adapt_stop(struct store *st)
{
	struct adapt *ad = st->adapt;

	if (!ad)
		return;
	lock_acquire(&ad->q_lock);
	ad->stop = true;
	cond_signal(&ad->wake);
	cond_broadcast(&ad->all_known);
	lock_release(&ad->q_lock);
	if (ad->started)
		pthread_join(ad->thread, NULL);
	ad->started = false;
}

void adapt_free(struct store *st) NO_TSA
{
	struct adapt *ad = st->adapt;
	struct adaptive_moves none = { .n = 0 };

	if (!ad)
		return;
	events_run(ad, &ad->queue, &none, false);
	adaptive_destroy(ad->a);
	count_table(ad, 0);
	mem_free(ad->ino);
	mem_free(ad->moves);
	cond_fini(&ad->all_known);
	cond_fini(&ad->wake);
	lock_fini(&ad->q_lock);
	lock_fini(&ad->lock);
	mem_free(ad);
	st->adapt = NULL;
}
