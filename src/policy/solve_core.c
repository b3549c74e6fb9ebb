/* SPDX-License-Identifier: MIT */
/*
 * Branch and bound over the least decided contexts, all others staying as picked. With
 * the prices as multipliers a context loses, by any option but its best one, the
 * difference after paying; a branch whose losses exceed what the incumbent leaves to
 * the bound is cut. Options are tried by loss, so the first cut ends the loop. Bounded
 * in nodes: it then keeps the best found.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "policy/solve_types.h"

#define CORE 24u
#define NODES 50000u

struct core_opt {
	double lost; /* to the context's best after paying */
	double value;
	uint32_t ssd, dram;
	uint32_t index;
};

struct core {
	struct solve_work *w;
	unsigned n;
	uint32_t ctx[CORE];
	double gap[CORE];
	struct core_opt *opt; /* owned; COST_OPTIONS_MAX each, by loss */
	unsigned n_opt[CORE];
	uint64_t ssd_least[CORE + 1], dram_least[CORE + 1]; /* of all from here on */
	uint64_t ssd_room, dram_room;
	double allowed; /* losses up to this can still win */
	double value;   /* of the incumbent, of the core alone */
	double best;    /* sum of the contexts' best after paying, plus the room's price */
	unsigned now[CORE], incumbent[CORE];
	unsigned nodes;
	bool better;
};

void solve_set(struct solve_work *w, uint32_t ctx, uint32_t opt)
{
	const struct cost_option *o = &w->p->opt[w->p->first[ctx]];
	const struct cost_option *from = o + w->pick[ctx], *to = o + opt;

	w->ssd += (uint64_t)to->ssd - from->ssd;
	w->dram += (uint64_t)to->dram - from->dram;
	w->value += (double)to->value - (double)from->value;
	w->pick[ctx] = opt;
}

void solve_sum(struct solve_work *w)
{
	w->value = 0;
	w->ssd = w->dram = 0;
	for (uint32_t i = 0; i < w->p->n; i++) {
		const struct cost_option *o = &w->p->opt[w->p->first[i] + w->pick[i]];

		w->value += o->value;
		w->ssd += o->ssd;
		w->dram += o->dram;
	}
}

static double paid(const struct solve_work *w, const struct cost_option *o)
{
	return (double)o->value - w->ssd_price * o->ssd - w->dram_price * o->dram;
}

/* Distance of the second best after paying. */
static double gap_of(const struct solve_work *w, uint32_t i)
{
	const struct cost_option *o = &w->p->opt[w->p->first[i]];
	double a = -HUGE_VAL, b = -HUGE_VAL;

	for (uint32_t j = 0, n = w->p->first[i + 1] - w->p->first[i]; j < n; j++) {
		double v = paid(w, &o[j]);

		if (v > a) {
			b = a;
			a = v;
		} else if (v > b) {
			b = v;
		}
	}
	return a - b;
}

/* The contexts with the smallest gaps, largest of them first. */
static void core_choose(struct core *c)
{
	for (uint32_t i = 0; i < c->w->p->n; i++) {
		double g = gap_of(c->w, i);
		unsigned j;

		if (c->n == CORE && g >= c->gap[0])
			continue;
		if (c->n == CORE) {
			memmove(c->gap, c->gap + 1, (CORE - 1) * sizeof(c->gap[0]));
			memmove(c->ctx, c->ctx + 1, (CORE - 1) * sizeof(c->ctx[0]));
			c->n--;
		}
		for (j = c->n++; j > 0 && c->gap[j - 1] < g; j--) {
			c->gap[j] = c->gap[j - 1];
			c->ctx[j] = c->ctx[j - 1];
		}
		c->gap[j] = g;
		c->ctx[j] = i;
	}
}

static int by_loss(const void *a, const void *b)
{
	const struct core_opt *x = a, *y = b;

	if (x->lost != y->lost)
		return x->lost < y->lost ? -1 : 1;
	return x->index < y->index ? -1 : x->index > y->index;
}

static void core_options(struct core *c, unsigned k)
{
	const struct solve_work *w = c->w;
	uint32_t i = c->ctx[k], n = w->p->first[i + 1] - w->p->first[i];
	const struct cost_option *o = &w->p->opt[w->p->first[i]];
	struct core_opt *out = &c->opt[k * COST_OPTIONS_MAX];
	uint32_t s = UINT32_MAX, d = UINT32_MAX;
	double best = -HUGE_VAL;

	for (uint32_t j = 0; j < n; j++)
		best = fmax(best, paid(w, &o[j]));
	for (uint32_t j = 0; j < n; j++) {
		out[j] = (struct core_opt){ .lost = best - paid(w, &o[j]),
					    .value = o[j].value,
					    .ssd = o[j].ssd,
					    .dram = o[j].dram,
					    .index = j };
		s = o[j].ssd < s ? o[j].ssd : s;
		d = o[j].dram < d ? o[j].dram : d;
	}
	qsort(out, n, sizeof(*out), by_loss);
	c->n_opt[k] = n;
	c->best += best;
	c->ssd_least[k] = s;
	c->dram_least[k] = d;
	for (uint32_t j = 0; j < n; j++)
		if (out[j].index == w->pick[i])
			c->incumbent[k] = j;
	c->value += o[w->pick[i]].value;
	c->ssd_room += o[w->pick[i]].ssd;
	c->dram_room += o[w->pick[i]].dram;
}

/* Depth first; losses and room taken so far. */
static void core_branch(struct core *c, unsigned k, double lost, double value, uint64_t ssd,
			uint64_t dram)
{
	const struct core_opt *o = &c->opt[k * COST_OPTIONS_MAX];

	if (k == c->n) {
		if (value > c->value + 1e-12 * fabs(c->value)) {
			c->value = value;
			c->allowed = c->best - value;
			c->better = true;
			memcpy(c->incumbent, c->now, sizeof(c->now));
		}
		return;
	}
	for (unsigned j = 0; j < c->n_opt[k] && c->nodes < NODES; j++) {
		if (lost + o[j].lost >= c->allowed)
			return;
		if (ssd + o[j].ssd + c->ssd_least[k + 1] > c->ssd_room ||
		    dram + o[j].dram + c->dram_least[k + 1] > c->dram_room)
			continue;
		c->nodes++;
		c->now[k] = j;
		core_branch(c, k + 1, lost + o[j].lost, value + o[j].value, ssd + o[j].ssd,
			    dram + o[j].dram);
	}
}

int solve_core(struct solve_work *w)
{
	struct core *c = mem_zalloc(sizeof(*c));
	int r = -ENOMEM;

	if (!c)
		return r;
	c->opt = mem_calloc((size_t)CORE * COST_OPTIONS_MAX, sizeof(*c->opt));
	if (!c->opt)
		goto out;
	c->w = w;
	c->ssd_room = w->ssd_room - w->ssd;
	c->dram_room = w->dram_room - w->dram;
	core_choose(c);
	for (unsigned k = 0; k < c->n; k++)
		core_options(c, k);
	for (unsigned k = c->n; k-- > 0;) {
		c->ssd_least[k] += c->ssd_least[k + 1];
		c->dram_least[k] += c->dram_least[k + 1];
	}
	c->best += w->ssd_price * (double)c->ssd_room + w->dram_price * (double)c->dram_room;
	c->allowed = c->best - c->value;
	core_branch(c, 0, 0, 0, 0, 0);
	for (unsigned k = 0; k < c->n && c->better; k++)
		solve_set(w, c->ctx[k], c->opt[k * COST_OPTIONS_MAX + c->incumbent[k]].index);
	r = 0;
out:
	mem_free(c->opt);
	mem_free(c);
	return r;
}
