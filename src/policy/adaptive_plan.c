/* SPDX-License-Identifier: MIT */
/*
 * The full plan: options of all contexts, the knapsack, and from where they are to where
 * they should be by moves that each pay. The target is near the optimum; the way there
 * is what keeps it from swinging: steps that only give up wait until their room is needed, and a
 * step up is made if it gains more than what makes way for it loses.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "policy/adaptive_types.h"
#include "policy/solve.h"

#define GROUP 32u
#define OPTIONS_FIRST 16u /* per context, to begin with */

struct change {
	uint32_t slot;
	uint32_t place;
	float gain;   /* less what the move is charged; of a step down mostly below 0 */
	float ratio;  /* of gain to pages, for the order */
	int32_t dram; /* pages more */
	uint32_t ssd_less, work;
};

struct plan {
	struct adaptive *a;
	uint64_t now_ns;
	struct adaptive_moves *m;
	struct cost_option *opt; /* owned */
	size_t opt_max;
	uint32_t *first, *pick, *slot; /* owned; slot: of the i-th context planned */
	struct change *up, *down;      /* owned; n each */
	uint32_t n, n_up, n_down, next_down;
};

static void plan_fini(struct plan *p)
{
	mem_free(p->opt);
	mem_free(p->first);
	mem_free(p->pick);
	mem_free(p->slot);
	mem_free(p->up);
	mem_free(p->down);
}

static int plan_options(struct plan *p)
{
	struct adaptive *a = p->a;
	/* what would go only to make room stays while there is room: a file whose computing takes less
	 * than reading it is to be read all the same */
	bool fits = a->used[ADAPTIVE_SSD] <= adaptive_budget(a, ADAPTIVE_SSD);
	unsigned opts = fits ? COST_OPT_KEEP_SSD : 0;
	size_t n = 0;

	p->opt_max = a->options_hint > a->n ? a->options_hint : (size_t)a->n * OPTIONS_FIRST;
	p->opt_max += COST_OPTIONS_MAX;
	p->opt = mem_alloc(p->opt_max * sizeof(*p->opt));
	p->first = mem_alloc((a->n + 1u) * sizeof(*p->first));
	p->slot = mem_alloc((a->n + 1u) * sizeof(*p->slot));
	if (!p->opt || !p->first || !p->slot)
		return -ENOMEM;
	for (uint32_t i = 0; i < a->n; i++) {
		const struct adaptive_entry *e = &a->e[i];

		if (e->it.now.stored == 0)
			continue;
		if (p->opt_max - n < COST_OPTIONS_MAX) {
			size_t max = p->opt_max + p->opt_max / 2;
			struct cost_option *o = mem_realloc(p->opt, max * sizeof(*o));

			if (!o)
				return -ENOMEM;
			p->opt = o;
			p->opt_max = max;
		}
		p->slot[p->n] = i;
		p->first[p->n++] = (uint32_t)n;
		n += cost_options(&a->model, &e->it, adaptive_heat(a, e, p->now_ns), opts, p->opt + n);
	}
	p->first[p->n] = (uint32_t)n;
	a->options_hint = (uint32_t)n;
	return 0;
}

static int plan_solve(struct plan *p)
{
	struct adaptive *a = p->a;
	struct solve_problem s = { .opt = p->opt,
				   .first = p->first,
				   .n = p->n,
				   .ssd_pages = adaptive_budget(a, ADAPTIVE_SSD),
				   .dram_pages = adaptive_budget(a, ADAPTIVE_DRAM) };
	struct solve_result r;
	int e;

	p->pick = mem_alloc((p->n + 1u) * sizeof(*p->pick));
	if (!p->pick)
		return -ENOMEM;
	e = solve_run(&s, p->pick, &r);
	if (e < 0)
		return e;
	a->price[ADAPTIVE_DRAM] = r.dram_price;
	a->price[ADAPTIVE_SSD] = r.ssd_price;
	a->price_ns = p->now_ns;
	a->plan_value = r.value;
	a->plan_bound = r.bound;
	a->plan_fits = r.fits;
	a->plans++;
	return 0;
}

/* ---- changes ---------------------------------------------------------------- */

static int by_ratio_up(const void *x, const void *y)
{
	const struct change *a = x, *b = y;

	if (a->ratio != b->ratio)
		return a->ratio > b->ratio ? -1 : 1;
	return a->slot < b->slot ? -1 : a->slot > b->slot;
}

/* As the place wanted is, with the layers on SSD that there are. */
static struct cost_place beside_ssd(const struct adaptive *a, const struct adaptive_entry *e,
				    uint32_t place)
{
	struct cost_place to = cost_unpack_place(place);

	if (to.stored == 0) /* its room on SSD is not needed yet, that in memory may be */
		to = (struct cost_place){ .level = e->it.now.level };
	to.stored = e->it.now.stored;
	to.level = (uint8_t)cost_best_level(&a->model, &e->it, &to);
	return to;
}

/* What a move adds to what the next open gets without it: that chooses its level by the
 * model of now, whatever was best before. */
static double value_without(const struct adaptive *a, const struct adaptive_entry *e,
			    const struct cost_place *to, double heat)
{
	struct cost_place next = e->it.now;

	if (!next.copy)
		next.level = (uint8_t)cost_best_level(&a->model, &e->it, &next);
	return adaptive_value(a, e, cost_same(to, &next) ? &e->it.now : &next, heat);
}

static bool change_of(const struct plan *p, uint32_t slot, const struct cost_place *to,
		      struct change *ret)
{
	const struct adaptive *a = p->a;
	const struct adaptive_entry *e = &a->e[slot];
	double heat = adaptive_heat(a, e, p->now_ns), now;

	if (cost_same(to, &e->it.now) || !cost_allowed(&a->model, &e->it, to))
		return false;
	now = value_without(a, e, to, heat);
	ret->slot = slot;
	ret->place = cost_pack_place(to);
	ret->dram = (int32_t)(cost_dram_pages(&e->it, to) - e->dram);
	ret->ssd_less = e->ssd - cost_ssd_pages(&e->it, to);
	ret->gain = (float)(adaptive_value(a, e, to, heat) - now -
			    a->model.params.margin * cost_move(&a->model, &e->it, to, &ret->work));
	/* what single precision may make of nothing is nothing */
	if (fabsf(ret->gain) < 1e-6 * fabs(now))
		ret->gain = 0;
	return true;
}

static uint64_t over(const struct adaptive *a, enum adaptive_tier t)
{
	uint64_t room = adaptive_budget(a, t);

	return a->used[t] > room ? a->used[t] - room : 0;
}

static double heat_of(const struct plan *p, uint32_t slot)
{
	return adaptive_heat(p->a, &p->a->e[slot], p->now_ns);
}

/* Layers or files leave SSD as planned, the least loss per page first, while it is over its budget;
 * what the plan does not suffice for goes by the heap. */
static void ssd_changes(struct plan *p)
{
	struct adaptive *a = p->a;
	uint32_t n = 0;

	if (over(a, ADAPTIVE_SSD) == 0)
		return;
	for (uint32_t i = 0; i < p->n; i++) {
		struct adaptive_entry *e = &a->e[p->slot[i]];
		struct cost_place to = cost_unpack_place(p->opt[p->first[i] + p->pick[i]].place);
		struct change *c = &p->up[n];

		if (to.stored >= e->it.now.stored)
			continue;
		if (to.stored > 0) { /* what is in memory changes with the others */
			uint8_t stored = to.stored;

			to = e->it.now;
			to.stored = stored;
			to.dram = to.dram < stored ? to.dram : stored;
			to.copy = to.copy && to.level < stored;
			to.level = (uint8_t)cost_best_level(&a->model, &e->it, &to);
		}
		if (change_of(p, p->slot[i], &to, c) && c->ssd_less > 0) {
			c->ratio = c->gain / (float)c->ssd_less;
			n++;
		}
	}
	qsort(p->up, n, sizeof(*p->up), by_ratio_up);
	for (uint32_t i = 0; i < n && over(a, ADAPTIVE_SSD) > 0 && p->m->n < p->m->max; i++) {
		struct cost_place to = cost_unpack_place(p->up[i].place);

		adaptive_emit(a, p->up[i].slot, &to, ADAPTIVE_SSD_FULL, heat_of(p, p->up[i].slot),
			      a->price[ADAPTIVE_SSD], p->m);
	}
	if (over(a, ADAPTIVE_SSD) > 0)
		adaptive_squeeze(a, ADAPTIVE_SSD, over(a, ADAPTIVE_SSD), ADAPTIVE_NO_POS, p->now_ns,
				 ADAPTIVE_SSD_FULL, p->m);
}

/* What differs in memory, steps up and down apart, each in order. */
static void dram_changes(struct plan *p)
{
	struct adaptive *a = p->a;

	for (uint32_t i = 0; i < p->n; i++) {
		const struct adaptive_entry *e = &a->e[p->slot[i]];
		struct cost_place to;
		struct change c;

		if (e->it.now.stored == 0)
			continue;
		to = beside_ssd(a, e, p->opt[p->first[i] + p->pick[i]].place);
		if (!change_of(p, p->slot[i], &to, &c))
			continue;
		if (c.dram <= 0) {
			/* one that gains comes first, whether its room is needed or not */
			c.ratio = c.gain > 0 || c.dram == 0 ? HUGE_VALF : c.gain / (float)-c.dram;
			p->down[p->n_down++] = c;
		} else if (c.gain > 0) {
			c.ratio = c.gain / (float)c.dram;
			p->up[p->n_up++] = c;
		}
	}
	qsort(p->down, p->n_down, sizeof(*p->down), by_ratio_up);
	qsort(p->up, p->n_up, sizeof(*p->up), by_ratio_up);
}

/* The same change from where the context is by now. False: it is none any more. */
static bool again(const struct plan *p, const struct change *c, struct change *ret)
{
	struct cost_place to = cost_unpack_place(c->place);

	return change_of(p, c->slot, &to, ret);
}

static void make(struct plan *p, const struct change *c, enum adaptive_reason why)
{
	struct cost_place to = cost_unpack_place(c->place);

	adaptive_emit(p->a, c->slot, &to, why, heat_of(p, c->slot), p->a->price[ADAPTIVE_DRAM],
		      p->m);
}

/* What takes no work waits for nothing. */
static bool may_make(struct plan *p, const struct change *c)
{
	if (c->work == 0 || adaptive_may_move(p->a, p->m))
		return true;
	p->a->plan_waits = true;
	return false;
}

/* Those that gain by themselves, then as many as memory lacks. */
static void steps_down(struct plan *p)
{
	struct adaptive *a = p->a;

	for (; p->next_down < p->n_down && p->m->n < p->m->max; p->next_down++) {
		const struct change *c = &p->down[p->next_down];
		bool gains = c->ratio == HUGE_VALF;

		if (!gains && over(a, ADAPTIVE_DRAM) == 0)
			break;
		if (gains && !(c->gain > 0 && may_make(p, c)))
			continue;
		make(p, c,
		     !gains    ? ADAPTIVE_DRAM_FULL
		     : c->dram ? ADAPTIVE_UNUSED
			       : ADAPTIVE_LEVEL);
	}
	if (over(a, ADAPTIVE_DRAM) > 0)
		adaptive_squeeze(a, ADAPTIVE_DRAM, over(a, ADAPTIVE_DRAM), ADAPTIVE_NO_POS,
				 p->now_ns, ADAPTIVE_DRAM_FULL, p->m);
}

/* Steps up taken together: one alone may not pay for what makes way, which comes in other
 * sizes, and what is left of its room is for the next ones. */
struct group {
	uint32_t begin, end; /* of p->up */
	double gain;
	int64_t dram;
};

/* With what must make way. False: it does not pay. */
static bool steps_up(struct plan *p, const struct group *g)
{
	struct adaptive *a = p->a;
	int64_t lack = (int64_t)(a->used[ADAPTIVE_DRAM] - adaptive_budget(a, ADAPTIVE_DRAM));
	uint32_t end = p->next_down;
	struct change c;
	double loss = 0;

	for (lack += g->dram; lack > 0 && end < p->n_down; end++) {
		if (!again(p, &p->down[end], &c) || c.dram >= 0)
			continue;
		lack += c.dram;
		loss -= c.gain;
	}
	if (lack > 0 || (loss > 0 && g->gain <= loss * ADAPTIVE_CLEAR_GAIN) ||
	    p->m->max - p->m->n < end - p->next_down + g->end - g->begin)
		return false;
	for (; p->next_down < end; p->next_down++)
		if (again(p, &p->down[p->next_down], &c) && c.dram < 0)
			make(p, &c, ADAPTIVE_MADE_WAY);
	for (uint32_t i = g->begin; i < g->end; i++)
		if (again(p, &p->up[i], &c))
			make(p, &c,
			     loss > 0 || a->price[ADAPTIVE_DRAM] > 0 ? ADAPTIVE_EARNS
								     : ADAPTIVE_ROOM);
	return true;
}

static void all_steps_up(struct plan *p)
{
	struct group g = { 0, 0, 0, 0 };

	while (g.end < p->n_up && adaptive_may_move(p->a, p->m)) {
		struct change c;

		if (again(p, &p->up[g.end], &c)) {
			g.gain += c.gain;
			g.dram += c.dram;
		}
		g.end++;
		if (steps_up(p, &g) || g.end - g.begin == GROUP)
			g = (struct group){ g.end, g.end, 0, 0 };
	}
	p->a->plan_waits |= g.end < p->n_up;
}

int adaptive_replan(struct adaptive *a, uint64_t now_ns, struct adaptive_moves *m)
{
	struct plan p = { .a = a, .now_ns = now_ns, .m = m };
	int r;

	m->n = 0;
	adaptive_tick(a, now_ns);
	if (a->model_changed)
		for (uint32_t i = 0; i < a->n; i++)
			adaptive_rekey(a, i);
	a->model_changed = false;
	r = plan_options(&p);
	if (r == 0)
		r = plan_solve(&p);
	p.up = mem_alloc((p.n + 1u) * sizeof(*p.up));
	p.down = mem_alloc((p.n + 1u) * sizeof(*p.down));
	if (r == 0 && (!p.up || !p.down))
		r = -ENOMEM;
	if (r == 0) {
		a->plan_waits = false;
		ssd_changes(&p);
		dram_changes(&p);
		steps_down(&p);
		all_steps_up(&p);
	}
	plan_fini(&p);
	return r;
}
