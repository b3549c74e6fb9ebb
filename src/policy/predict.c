/* SPDX-License-Identifier: MIT */
/* Predictions from frequencies. */
#include "policy/predict.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "policy/solve.h"

struct sums {
	const struct cost_model *m;
	double heat, hit, part, gone, delay, quality;
	uint64_t dram, ssd;
};

/* Reads of @it find it at @p. */
static void add(struct sums *s, const struct cost_item *it, const struct cost_place *p, double heat)
{
	s->heat += heat;
	s->delay += heat * cost_delay(s->m, it, p);
	s->quality += heat * cost_quality(it, p);
	if (p->stored == 0)
		s->gone += heat;
	else if (cost_is_dram_hit(p))
		s->hit += heat;
	else if (p->dram > 0)
		s->part += heat;
}

static void finish(const struct sums *s, struct predict *ret)
{
	double n = s->heat > 0 ? s->heat : 1;

	ret->hit_share = s->hit / n;
	ret->part_share = s->part / n;
	ret->gone_share = s->gone / n;
	ret->delay_s = s->delay / n;
	ret->quality = s->heat > 0 ? s->quality / n : 1;
	ret->dram_bytes = s->dram * COST_PAGE_BYTES;
	ret->ssd_bytes = s->ssd * COST_PAGE_BYTES;
}

/* Is there room on SSD for all as it is now? Then nothing goes. */
static bool all_fit(const struct predict_load *l)
{
	uint64_t pages = 0;

	for (uint32_t i = 0; i < l->n; i++)
		pages += cost_ssd_pages(&l->it[i], &l->it[i].now);
	return pages <= l->ssd_bytes / COST_PAGE_BYTES;
}

static int gather(const struct predict_load *l, const struct cost_model *m,
		  struct cost_option **ret_opt, uint32_t *first)
{
	unsigned opts = COST_OPT_FREE | (all_fit(l) ? COST_OPT_KEEP_SSD : 0);
	size_t max = (size_t)l->n * 16 + COST_OPTIONS_MAX, n = 0;
	struct cost_option *opt = mem_calloc(max, sizeof(*opt));

	for (uint32_t i = 0; opt && i < l->n; i++) {
		if (max - n < COST_OPTIONS_MAX) {
			struct cost_option *o = mem_realloc(opt, (max += max / 2) * sizeof(*o));

			if (!o)
				mem_free(opt);
			opt = o;
			if (!o)
				break;
		}
		first[i] = (uint32_t)n;
		n += cost_options(m, &l->it[i], l->it[i].heat, opts, opt + n);
	}
	first[l->n] = (uint32_t)n;
	*ret_opt = opt;
	return opt ? 0 : -ENOMEM;
}

int predict_adaptive(const struct predict_load *l, struct predict *ret)
{
	uint32_t *first = mem_calloc(l->n + 1u, sizeof(*first));
	uint32_t *pick = mem_calloc(l->n + 1u, sizeof(*pick));
	struct cost_option *opt = NULL;
	struct solve_result sr;
	struct cost_model m;
	struct sums s = { .m = &m };
	int r = -ENOMEM;

	cost_model_init(&m, &l->rates, &l->params);
	if (!first || !pick)
		goto out;
	r = gather(l, &m, &opt, first);
	if (r == 0)
		r = solve_run(&(struct solve_problem){ .opt = opt,
						       .first = first,
						       .n = l->n,
						       .ssd_pages = l->ssd_bytes / COST_PAGE_BYTES,
						       .dram_pages = l->dram_bytes /
								     COST_PAGE_BYTES },
			      pick, &sr);
	if (r < 0)
		goto out;
	for (uint32_t i = 0; i < l->n; i++) {
		struct cost_place p = cost_unpack_place(opt[first[i] + pick[i]].place);

		add(&s, &l->it[i], &p, l->it[i].heat);
	}
	s.dram = sr.dram;
	s.ssd = sr.ssd;
	*ret = (struct predict){ .value = sr.value, .bound = sr.bound, .fits = sr.fits };
	finish(&s, ret);
out:
	mem_free(opt);
	mem_free(pick);
	mem_free(first);
	return r;
}

/* ---- least recently used ----------------------------------------------------- */

struct lru_place {
	struct cost_place ssd, dram;
	double heat;
	uint32_t ssd_pages, dram_pages;
};

unsigned predict_level(const struct policy_ops *p, const struct cost_item *it)
{
	double quality[COST_LEVELS_MAX];
	struct policy_levels l = { .n = it->now.stored,
				   .quality = quality,
				   .floor = (double)it->floor };
	unsigned level, low;

	if (it->now.stored == 0)
		return 0;
	low = cost_floor(it, NULL);
	level = it->now.stored - 1u;
	for (unsigned k = 0; k < COST_LEVELS_MAX; k++)
		quality[k] = (double)it->quality[k];
	if (p->layers && l.n > 1 && l.floor < 1 && !(it->flags & COST_VETO))
		level = p->layers(p, &l) - 1;
	return level > low ? level : low;
}

static void lru_at(const struct predict_load *l, const struct policy_ops *p, uint32_t i,
		   struct lru_place *ret)
{
	const struct cost_item *it = &l->it[i];
	unsigned level = predict_level(p, it);

	ret->ssd = ret->dram = (struct cost_place){ .stored = it->now.stored,
						    .level = (uint8_t)level };
	ret->dram.dram = (uint8_t)(level + 1);
	ret->dram.packing = COST_PACK_DRAM;
	ret->heat = it->heat;
	ret->ssd_pages = cost_ssd_pages(it, &ret->ssd);
	ret->dram_pages = cost_dram_pages(it, &ret->dram);
}

/* Is it there when it is read, if contexts stay for @t? */
static double there(double heat, double t)
{
	return isinf(t) ? 1 : -expm1(-heat * t);
}

/* The time in which @room fills up; infinite when it never does. */
static double che(const struct predict_load *l, const struct policy_ops *p, bool dram, double room)
{
	double lo = 0, hi = 1;
	bool grow = true;

	for (int k = 0; k < 200 && (grow || hi - lo > 1e-6 * hi); k++) {
		double t = grow ? hi : (lo + hi) / 2, sum = 0;

		for (uint32_t i = 0; i < l->n; i++) {
			struct lru_place at;

			lru_at(l, p, i, &at);
			sum += (dram ? at.dram_pages : at.ssd_pages) * there(at.heat, t);
		}
		if (sum > room) {
			hi = t;
			grow = false;
		} else if (grow && k > 100) {
			return HUGE_VAL;
		} else {
			lo = t;
			hi = grow ? t * 2 : hi;
		}
	}
	return lo;
}

void predict_lru(const struct predict_load *l, const struct policy_ops *p, struct predict *ret)
{
	struct cost_model m;
	struct sums s = { .m = &m };
	double t_dram, t_ssd = HUGE_VAL, dram = 0, ssd = 0;

	cost_model_init(&m, &l->rates, &l->params);
	t_dram = che(l, p, true, (double)(l->dram_bytes / COST_PAGE_BYTES));
	if (l->params.may_remove)
		t_ssd = che(l, p, false, (double)(l->ssd_bytes / COST_PAGE_BYTES));
	for (uint32_t i = 0; i < l->n; i++) {
		struct cost_place gone = { 0 };
		struct lru_place at;
		double in_dram, on_ssd;

		lru_at(l, p, i, &at);
		on_ssd = there(at.heat, t_ssd);
		in_dram = fmin(there(at.heat, t_dram), on_ssd);
		add(&s, &l->it[i], &at.dram, at.heat * in_dram);
		add(&s, &l->it[i], &at.ssd, at.heat * (on_ssd - in_dram));
		add(&s, &l->it[i], &gone, at.heat * (1 - on_ssd));
		dram += in_dram * at.dram_pages;
		ssd += on_ssd * at.ssd_pages;
	}
	s.dram = (uint64_t)dram;
	s.ssd = (uint64_t)ssd;
	*ret = (struct predict){ .fits = ssd <= (double)(l->ssd_bytes / COST_PAGE_BYTES) };
	finish(&s, ret);
}

void predict_count(struct cost_item *it, uint32_t n, const struct predict_access *a, uint64_t n_a)
{
	for (uint32_t i = 0; i < n; i++)
		it[i].heat = 0;
	for (uint64_t k = 0; k < n_a; k++)
		if (a[k].ctx < n)
			it[a[k].ctx].heat += 1;
}
