/* SPDX-License-Identifier: MIT */
/*
 * Reads in order of time. A move up takes effect when the device has done it, one that gives up
 * at once; a later move of the same context replaces one still under way.
 */
#include "policy/simulate.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "policy/heat.h"

#define MOVES 1024u
#define NONE UINT32_MAX

struct sim_ctx {
	struct cost_item it;    /* it.now: where reads find it */
	struct cost_place next; /* where it will be at due_ns */
	uint64_t due_ns;        /* 0: nothing under way */
	uint32_t older, newer;  /* least recently used first; NONE: end; own index: not in it */
};

struct sim {
	const struct simulate_config *c;
	struct cost_model m;
	struct sim_ctx *x; /* owned */
	uint32_t n;
	struct adaptive *a; /* owned; NULL: least recently used */
	struct adaptive_moves moves;
	uint64_t now_ns, next_plan_ns;
	double reads_free_s, moves_free_s; /* device, in seconds since the first access */
	uint64_t start_ns;
	uint32_t oldest, newest;
	uint64_t dram, ssd; /* pages, by where contexts will be */
	float *delay;       /* owned; of counted reads */
	double busy_s;
	struct simulate_result r;
	double quality, delays;
	uint64_t hit, part, gone;
};

static void hold(struct sim *s, const struct sim_ctx *x, int sign)
{
	const struct cost_place *p = x->due_ns ? &x->next : &x->it.now;

	s->dram += (uint64_t)sign * cost_dram_pages(&x->it, p);
	s->ssd += (uint64_t)sign * cost_ssd_pages(&x->it, p);
}

static void note_held(struct sim *s)
{
	if (s->dram * COST_PAGE_BYTES > s->r.dram_bytes_max)
		s->r.dram_bytes_max = s->dram * COST_PAGE_BYTES;
	if (s->ssd * COST_PAGE_BYTES > s->r.ssd_bytes_max)
		s->r.ssd_bytes_max = s->ssd * COST_PAGE_BYTES;
}

static double seconds_at(const struct sim *s)
{
	return (double)(s->now_ns - s->start_ns) / 1e9;
}

/* However long it takes. */
static uint64_t time_at(const struct sim *s, double seconds)
{
	double left = (double)(UINT64_MAX - s->start_ns) * 0.5;

	return s->start_ns + (uint64_t)fmin(seconds * 1e9, left);
}

/* Moves use the device when reads leave it. */
static void place(struct sim *s, struct sim_ctx *x, const struct cost_place *to)
{
	uint32_t pages = 0;
	double took = 0;

	hold(s, x, -1);
	if (to->stored > 0)
		took = cost_move(&s->m, &x->it, to, &pages);
	if (pages == 0) {
		x->it.now = *to;
		x->due_ns = 0;
	} else {
		double from = fmax(s->moves_free_s, fmax(s->reads_free_s, seconds_at(s)));

		s->moves_free_s = from + took;
		s->busy_s += took;
		x->next = *to;
		x->due_ns = time_at(s, from + took) + 1;
		/* what both have stays meanwhile */
		x->it.now.stored = to->stored;
		if (x->it.now.dram > to->dram || x->it.now.packing != to->packing)
			x->it.now.dram = 0;
		x->it.now.copy = x->it.now.copy && to->copy && x->it.now.level == to->level;
		if (!x->it.now.copy)
			x->it.now.level = to->level;
	}
	hold(s, x, 1);
	s->r.moved_bytes += (uint64_t)pages * COST_PAGE_BYTES;
	s->r.moves++;
}

static void settle(struct sim *s, struct sim_ctx *x)
{
	if (x->due_ns && x->due_ns <= s->now_ns) {
		x->it.now = x->next;
		x->due_ns = 0;
	}
}

static void obey(struct sim *s)
{
	for (unsigned i = 0; i < s->moves.n; i++) {
		const struct adaptive_move *v = &s->moves.v[i];
		struct sim_ctx *x = &s->x[v->id];

		settle(s, x);
		place(s, x, &v->to);
		if (v->to.stored == 0)
			adaptive_gone(s->a, v->id);
	}
}

/* ---- least recently used ------------------------------------------------------- */

static void lru_out(struct sim *s, uint32_t i)
{
	struct sim_ctx *x = &s->x[i];

	if (x->older == i)
		return;
	*(x->older == NONE ? &s->oldest : &s->x[x->older].newer) = x->newer;
	*(x->newer == NONE ? &s->newest : &s->x[x->newer].older) = x->older;
	x->older = x->newer = i;
}

static void lru_in(struct sim *s, uint32_t i)
{
	struct sim_ctx *x = &s->x[i];

	lru_out(s, i);
	x->older = s->newest;
	x->newer = NONE;
	*(s->newest == NONE ? &s->oldest : &s->x[s->newest].newer) = i;
	s->newest = i;
}

static bool removable(const struct sim *s, const struct sim_ctx *x)
{
	return s->m.params.may_remove && !(x->it.flags & (COST_PINNED | COST_BUSY));
}

/* From the oldest on until both budgets are kept; never @keep. */
static void lru_squeeze(struct sim *s, uint32_t keep)
{
	uint64_t dram = s->c->cfg.dram_bytes / COST_PAGE_BYTES;
	uint64_t ssd = s->c->cfg.ssd_bytes / COST_PAGE_BYTES;

	for (uint32_t i = s->oldest, next; i != NONE && (s->dram > dram || s->ssd > ssd);
	     i = next) {
		struct sim_ctx *x = &s->x[i];
		struct cost_place to = x->due_ns ? x->next : x->it.now;

		next = x->newer;
		if (i == keep)
			continue;
		to.dram = to.copy = 0;
		if (s->ssd > ssd && removable(s, x))
			to = (struct cost_place){ 0 };
		else if (s->dram <= dram)
			continue;
		place(s, x, &to);
	}
}

static void lru_read(struct sim *s, uint32_t i)
{
	struct sim_ctx *x = &s->x[i];
	struct cost_place to = x->it.now;

	lru_in(s, i);
	lru_squeeze(s, i);
	if (x->due_ns || cost_is_dram_hit(&to))
		return;
	to.dram = (uint8_t)(to.level + 1);
	to.packing = COST_PACK_DRAM;
	if (!s->c->policy->admit(&(struct policy_read){
		    .whole = true,
		    .logical_bytes = (uint64_t)x->it.decoded_pages * COST_PAGE_BYTES,
		    .dram_bytes = (uint64_t)cost_dram_pages(&x->it, &to) * COST_PAGE_BYTES,
		    .dram_limit = s->c->cfg.dram_bytes }))
		return;
	place(s, x, &to);
	lru_squeeze(s, i);
}

/* ---- reads ----------------------------------------------------------------------- */

/* As it is when it is new. */
static void lru_level(const struct sim *s, struct sim_ctx *x)
{
	struct cost_place *p = &x->it.now;

	if (s->a || p->stored == 0)
		return;
	p->level = (uint8_t)predict_level(s->c->policy, &x->it);
	p->copy = 0;
}

/* Its bytes on the device are read after those of earlier reads. */
static double wait_for_device(struct sim *s, const struct sim_ctx *x)
{
	const struct cost_place *p = &x->it.now;
	double at = seconds_at(s), wait, took;
	uint32_t pages = 0;

	if (p->stored == 0 || cost_is_dram_hit(p))
		return 0;
	for (unsigned l = p->dram; l <= p->level; l++)
		pages += x->it.layer_pages[l];
	took = (double)pages * s->m.ssd_s;
	wait = s->c->queue && s->reads_free_s > at ? s->reads_free_s - at : 0;
	s->reads_free_s = fmax(s->reads_free_s, at) + took;
	s->busy_s += took;
	return wait;
}

static void read_one(struct sim *s, struct sim_ctx *x, bool counted)
{
	const struct cost_place *p = &x->it.now;
	double delay = cost_delay(&s->m, &x->it, p) + wait_for_device(s, x);

	if (!counted)
		return;
	s->delay[s->r.reads++] = (float)delay;
	s->delays += delay;
	s->quality += cost_quality(&x->it, p);
	s->gone += p->stored == 0;
	s->hit += cost_is_dram_hit(p);
	s->part += p->stored > 0 && !cost_is_dram_hit(p) && p->dram > 0;
}

/* It was removed and is stored anew, without history. */
static int store_again(struct sim *s, uint32_t i)
{
	struct sim_ctx *x = &s->x[i];

	hold(s, x, -1);
	x->due_ns = 0;
	x->it.heat = 0;
	x->it.now = (struct cost_place){ .stored = x->it.levels, .level = x->it.levels - 1u };
	lru_level(s, x);
	hold(s, x, 1);
	if (!s->a)
		return 0;
	return adaptive_arrive(s->a, &x->it, s->now_ns, &s->moves);
}

/* Who reads has it decoded, and where there is room that stays. (Under lru such copies are the
 * first to go, for the next one.) */
static void decoded_at_open(struct sim *s, uint32_t i)
{
	struct sim_ctx *x = &s->x[i];
	uint64_t room = s->c->cfg.dram_bytes / COST_PAGE_BYTES;

	if (x->it.path != COST_PATH_OPEN || x->due_ns || x->it.now.stored == 0 || x->it.now.copy ||
	    s->dram + cost_copy_pages(&x->it) > room)
		return;
	hold(s, x, -1);
	x->it.now.copy = 1;
	hold(s, x, 1);
	adaptive_placed(s->a, i, &x->it.now);
}

static int one(struct sim *s, uint32_t i, bool counted)
{
	struct sim_ctx *x = &s->x[i];
	int r = 0;

	settle(s, x);
	read_one(s, x, counted);
	if (s->a)
		decoded_at_open(s, i);
	if (x->it.now.stored == 0)
		r = store_again(s, i);
	else if (s->a)
		adaptive_hit(s->a, i, s->now_ns, &s->moves);
	if (!s->a)
		lru_read(s, i);
	else if (r == 0)
		obey(s);
	if (r < 0 || !s->a || s->c->replan_ns == 0 || s->now_ns < s->next_plan_ns)
		return r;
	s->next_plan_ns = s->now_ns + s->c->replan_ns;
	r = adaptive_replan(s->a, s->now_ns, &s->moves);
	if (r == 0)
		obey(s);
	return r;
}

/* ---- the run --------------------------------------------------------------------- */

static int start(struct sim *s, const struct cost_item *it, uint64_t t_ns)
{
	int r = 0;

	s->now_ns = s->start_ns = t_ns;
	s->next_plan_ns = t_ns + s->c->replan_ns;
	cost_model_init(&s->m, &s->c->rates, &s->c->cfg.cost);
	if (s->c->policy->plans)
		r = adaptive_create(&s->c->cfg, &s->c->rates, &s->a);
	for (uint32_t i = 0; i < s->n && r == 0; i++) {
		struct sim_ctx *x = &s->x[i];

		x->it = it[i];
		x->it.id = i;
		x->older = x->newer = i;
		if (!cost_item_check(&x->it))
			return -EINVAL;
		lru_level(s, x);
		hold(s, x, 1);
		if (s->a)
			r = adaptive_put(s->a, &x->it);
		else
			lru_in(s, i);
	}
	if (r == 0 && s->a) {
		r = adaptive_replan(s->a, s->now_ns, &s->moves);
		if (r == 0)
			obey(s);
	} else if (r == 0) {
		lru_squeeze(s, NONE);
	}
	/* from here on budgets hold */
	s->r = (struct simulate_result){ .reads = 0 };
	s->busy_s = s->moves_free_s = 0;
	return r;
}

static int by_size(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;

	return x < y ? -1 : x > y;
}

static void finish(struct sim *s, struct simulate_result *ret)
{
	double n = s->r.reads ? (double)s->r.reads : 1, t = seconds_at(s);

	*ret = s->r;
	ret->hit_share = (double)s->hit / n;
	ret->part_share = (double)s->part / n;
	ret->gone_share = (double)s->gone / n;
	ret->delay_mean_s = s->delays / n;
	ret->quality = s->quality / n;
	ret->device_share = t > 0 ? s->busy_s / t : 0;
	if (s->r.reads == 0)
		return;
	qsort(s->delay, s->r.reads, sizeof(*s->delay), by_size);
	ret->delay_p50_s = (double)s->delay[s->r.reads / 2];
	ret->delay_p99_s = (double)s->delay[s->r.reads * 99 / 100];
	ret->delay_max_s = (double)s->delay[s->r.reads - 1];
}

int simulate_run(const struct simulate_config *c, const struct cost_item *it, uint32_t n,
		 const struct predict_access *a, uint64_t n_a, struct simulate_result *ret)
{
	struct sim s = { .c = c, .n = n, .oldest = NONE, .newest = NONE };
	int r = -ENOMEM;

	s.x = mem_calloc(n + 1u, sizeof(*s.x));
	s.delay = mem_calloc(n_a + 1, sizeof(*s.delay));
	s.moves = (struct adaptive_moves){ mem_calloc(MOVES, sizeof(*s.moves.v)), 0, MOVES };
	if (s.x && s.delay && s.moves.v)
		r = start(&s, it, n_a ? a[0].t_ns : 0);
	for (uint64_t k = 0; k < n_a && r == 0; k++) {
		if (a[k].t_ns > s.now_ns)
			s.now_ns = a[k].t_ns;
		if (a[k].ctx < n)
			r = one(&s, a[k].ctx, k >= c->warm);
		note_held(&s);
	}
	if (r == 0)
		finish(&s, ret);
	adaptive_destroy(s.a);
	mem_free(s.moves.v);
	mem_free(s.delay);
	mem_free(s.x);
	return r;
}
