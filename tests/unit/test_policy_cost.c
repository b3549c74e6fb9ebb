/* SPDX-License-Identifier: MIT */
/* Frequency, delay, and the ways to hold a context: by table and by property. */
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "policy/heat.h"
#include "policy_items.h"
#include "testlib.h"

#define HOUR_NS (3600ull * 1000000000)
#define EPS 1e-5

static void near_to(double a, double b, const char *what)
{
	cr_assert(fabs(a - b) <= EPS * (fabs(a) + fabs(b)) + 1e-12, "%s: %.9g is not %.9g", what, a,
		  b);
}

Test(policy_cost, heat_halves_and_counts)
{
	near_to(heat_at(8, HOUR_NS, 2 * HOUR_NS, HOUR_NS), 4, "one half-life");
	near_to(heat_at(8, 2 * HOUR_NS, HOUR_NS, HOUR_NS), 8, "a clock that went back");
	near_to(heat_hit(8, 0, 3 * HOUR_NS, HOUR_NS), 2, "a hit");
	near_to(heat_hit(0, 0, HOUR_NS, HOUR_NS), 1, "the first hit");
	near_to(heat_at(NAN, 0, HOUR_NS, HOUR_NS), 0, "not a number");
	near_to(heat_at(INFINITY, 0, HOUR_NS, HOUR_NS), 0, "infinite");
	near_to(heat_at(-3, 0, HOUR_NS, HOUR_NS), 0, "negative");
	near_to(heat_at(3, 0, UINT64_MAX, HOUR_NS), 0, "very old");
	near_to(heat_log(8, HOUR_NS, HOUR_NS), heat_log(4, 2 * HOUR_NS, HOUR_NS), "the same heat");
	cr_assert_lt(heat_log(1, HOUR_NS, HOUR_NS), heat_log(1, 2 * HOUR_NS, HOUR_NS));
	cr_assert(isinf(heat_log(0, HOUR_NS, HOUR_NS)));
}

/* 4 levels, 1000 pages decoded; with these rates an SSD page takes 1 ms, a decoded one
 * 0.1 (SSD packing) or 0.01 ms (DRAM packing). */
static void simple(struct cost_model *m, struct cost_item *it)
{
	struct cost_params p = { .alpha_s = 2, .may_remove = true };
	struct cost_rates r = { .ssd_latency_s = 0.5,
				.ssd_Bps = 4096e3,
				.dram_latency_s = 0.25,
				.copy_latency_s = 0.125,
				.copy_Bps = 4096e6,
				.recode_Bps = 4096e4 };

	for (unsigned l = 0; l < COST_LEVELS_MAX; l++) {
		r.decode_Bps[COST_CLASS_LADDER][COST_PATH_STREAM][COST_PACK_SSD][l] = 4096e4;
		r.decode_Bps[COST_CLASS_LADDER][COST_PATH_STREAM][COST_PACK_DRAM][l] = 4096e5;
		r.decode_Bps[COST_CLASS_LADDER][COST_PATH_OPEN][COST_PACK_SSD][l] = 4096e4;
		r.decode_Bps[COST_CLASS_LADDER][COST_PATH_OPEN][COST_PACK_DRAM][l] = 4096e5;
	}
	cost_model_init(m, &r, &p);
	*it = (struct cost_item){ .heat = 1,
				  .layer_pages = { 100, 120, 250, 150 },
				  .base_pages = 170,
				  .decoded_pages = 1000,
				  .quality = { 0.5, 0.75, 0.875, 1 },
				  .recompute_s = 7,
				  .levels = 4,
				  .class = COST_CLASS_LADDER,
				  .now = { .stored = 4, .level = 3 } };
}

Test(policy_cost, delay_by_table)
{
	static const struct {
		const char *what;
		struct cost_place at;
		uint8_t path;
		double delay_s;
		uint32_t dram;
	} t[] = {
		{ "all from SSD", { 4, 0, 0, 0, 3 }, 0, 0.5 + 0.628013, 0 },
		{ "level 0 from SSD: decoding takes as long", { 4, 0, 0, 0, 0 }, 0, 0.5 + 0.141421, 0 },
		{ "two layers in memory", { 4, 2, 1, 0, 3 }, 0, 0.5 + 0.400125, 290 },
		{ "all that is read in memory", { 4, 2, 1, 0, 1 }, 0, 0.25 + 0.01, 290 },
		{ "the packing of the device in memory", { 4, 4, 0, 0, 3 }, 0, 0.25 + 0.1, 620 },
		{ "a decoded copy", { 4, 0, 0, 1, 3 }, 0, 0.125 + 0.001, 1000 },
		{ "a copy beside a replica", { 4, 1, 1, 1, 3 }, 0, 0.125 + 0.001, 1170 },
		{ "decoded at open, then read", { 4, 2, 1, 0, 1 }, 1, 0.25 + 0.01 + 0.001, 290 },
		{ "removed", { 0, 0, 0, 0, 0 }, 0, 7, 0 },
	};
	struct cost_model m;
	struct cost_item it;

	simple(&m, &it);
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		it.path = t[i].path;
		near_to(cost_delay(&m, &it, &t[i].at), t[i].delay_s, t[i].what);
		cr_assert_eq(cost_dram_pages(&it, &t[i].at), t[i].dram, "%s", t[i].what);
		near_to(cost_value(&m, &it, &t[i].at),
			2 * (t[i].at.stored ? it.quality[t[i].at.level] : 1) - t[i].delay_s,
			t[i].what);
	}
}

Test(policy_cost, moves_by_table)
{
	static const struct {
		const char *what;
		struct cost_place now, to;
		double seconds;
		uint32_t pages;
	} t[] = {
		{ "nothing", { 4, 2, 1, 0, 3 }, { 4, 2, 1, 0, 3 }, 0, 0 },
		{ "dropping layers", { 4, 2, 1, 0, 3 }, { 4, 1, 1, 0, 3 }, 0, 0 },
		{ "removal", { 4, 2, 1, 0, 3 }, { 0, 0, 0, 0, 0 }, 0, 0 },
		{ "another level", { 4, 2, 1, 0, 3 }, { 4, 2, 1, 0, 1 }, 0, 0 },
		{ "layers as they lie", { 4, 0, 0, 0, 3 }, { 4, 2, 0, 0, 3 }, 0.5 + 0.22, 220 },
		{ "recoded", { 4, 0, 0, 0, 3 }, { 4, 2, 1, 0, 3 }, 0.5 + 0.22 + 0.1, 345 },
		{ "more layers", { 4, 2, 1, 0, 3 }, { 4, 4, 1, 0, 3 }, 0.5 + 0.4, 400 },
		{ "other packing", { 4, 2, 1, 0, 3 }, { 4, 2, 0, 0, 3 }, 0.5 + 0.22, 220 },
		{ "a copy", { 4, 2, 1, 0, 3 }, { 4, 0, 0, 1, 3 }, 0.5 + 0.400125, 525 },
		{ "a copy of another level",
		  { 4, 0, 0, 1, 3 },
		  { 4, 0, 0, 1, 0 },
		  0.5 + 0.141421,
		  225 },
	};
	struct cost_model m;
	struct cost_item it;

	simple(&m, &it);
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		uint32_t pages;

		it.now = t[i].now;
		near_to(cost_move(&m, &it, &t[i].to, &pages), t[i].seconds, t[i].what);
		cr_assert_eq(pages, t[i].pages, "%s: %u", t[i].what, pages);
	}
}

/* Moves to memory end when their file is opened: none is offered while it is. */
Test(policy_cost, nothing_comes_to_memory_while_in_use)
{
	struct cost_option o[COST_OPTIONS_MAX];
	struct cost_model m;
	struct cost_item it;

	simple(&m, &it);
	it.flags = COST_BUSY;
	for (unsigned copy = 0; copy < 2; copy++) {
		it.now = (struct cost_place){ 4, 2, COST_PACK_DRAM, (uint8_t)copy, 3 };
		for (unsigned i = 0, n = cost_options(&m, &it, 50, COST_OPT_ALL, o); i < n; i++) {
			struct cost_place p = cost_unpack_place(o[i].place);

			cr_assert_leq(o[i].dram, cost_dram_pages(&it, &it.now));
			cr_assert_eq(p.copy, copy);
			cr_assert(cost_allowed(&m, &it, &p));
		}
	}
}

Test(policy_cost, a_copy_takes_whole_units)
{
	struct cost_model m;
	struct cost_item it;
	struct cost_place p = { 4, 0, 0, 1, 3 };

	simple(&m, &it);
	cr_assert_eq(cost_dram_pages(&it, &p), it.decoded_pages);
	it.copy_pages = it.decoded_pages + 24;
	cr_assert_eq(cost_dram_pages(&it, &p), it.decoded_pages + 24);
}

Test(policy_cost, floors_by_table)
{
	static const struct {
		float floor;
		uint8_t flags, stored;
		unsigned level;
		bool kept;
	} t[] = {
		{ 1, 0, 4, 3, true },          { 0, 0, 4, 0, true },
		{ 0.75f, 0, 4, 1, true },      { 0.76f, 0, 4, 2, true },
		{ 0, COST_VETO, 4, 3, true },  { 0.99f, 0, 4, 3, true },
		{ 0.99f, 0, 2, 1, false },     { 0.5f, 0, 2, 0, true },
		{ 0, COST_VETO, 3, 2, false },
	};
	struct cost_model m;
	struct cost_item it;

	simple(&m, &it);
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		bool kept;

		it.floor = t[i].floor;
		it.flags = t[i].flags;
		it.now.stored = t[i].stored;
		it.now.level = t[i].stored - 1u;
		cr_assert_eq(cost_floor(&it, &kept), t[i].level, "row %zu", i);
		cr_assert_eq(kept, t[i].kept, "row %zu", i);
	}
}

static bool next_place(struct cost_place *p)
{
	if (++p->level < COST_LEVELS_MAX)
		return true;
	p->level = 0;
	if (++p->dram <= COST_LEVELS_MAX)
		return true;
	p->dram = 0;
	if (++p->packing < COST_PACKINGS)
		return true;
	p->packing = 0;
	if (++p->copy <= 1)
		return true;
	p->copy = 0;
	return ++p->stored <= COST_LEVELS_MAX;
}

static const struct policy_mix any = { .pages_min = 16,
				       .pages_max = 100000,
				       .layered_pct = 70,
				       .lossy_pct = 70,
				       .special_pct = 30,
				       .zipf = 0.9,
				       .placed = true };

/* What every option says is what the functions on one place say. */
static void agrees(const struct cost_model *m, const struct cost_item *it,
		   const struct cost_option *o, bool free_moves)
{
	struct cost_place p = cost_unpack_place(o->place);
	double v = it->heat * (cost_value(m, it, &p) - m->params.alpha_s);

	if (!free_moves)
		v -= m->params.margin * cost_move(m, it, &p, NULL);
	cr_assert_eq(cost_pack_place(&p), o->place);
	cr_assert(cost_allowed(m, it, &p));
	cr_assert_eq(o->ssd, cost_ssd_pages(it, &p));
	cr_assert_eq(o->dram, cost_dram_pages(it, &p));
	cr_assert(fabs(o->value - v) <= 1e-4 * fabs(v) + 1e-7, "%.9g is not %.9g", o->value, v);
}

/* With any prices the best option left is as good as the best place there is. */
static void hull_suffices(const struct cost_model *m, const struct cost_item *it, uint64_t *seed)
{
	struct cost_option o[COST_OPTIONS_MAX];
	unsigned n = cost_options(m, it, it->heat, COST_OPT_FREE, o);
	struct cost_place p = { 0 };
	double prices[2], best = -HUGE_VAL, all = -HUGE_VAL;

	for (unsigned i = 0; i < 2; i++)
		prices[i] = test_rand(seed) % 3 ? exp2(-(double)(test_rand(seed) % 30)) : 0;
	for (unsigned i = 0; i < n; i++)
		best = fmax(best, o[i].value - prices[0] * o[i].ssd - prices[1] * o[i].dram);
	do {
		if (cost_allowed(m, it, &p))
			all = fmax(all, it->heat * (cost_value(m, it, &p) - m->params.alpha_s) -
						prices[0] * cost_ssd_pages(it, &p) -
						prices[1] * cost_dram_pages(it, &p));
	} while (next_place(&p));
	cr_assert(best >= all - 1e-4 * fabs(all) - 1e-7, "%.9g < %.9g", best, all);
}

Test(policy_cost, options_are_allowed_priced_right_and_enough)
{
	uint64_t seed = 1;
	struct cost_rates r;

	policy_rates(&r);
	for (unsigned i = 0; i < 3000; i++) {
		struct cost_params p = { .alpha_s = exp2((double)(test_rand(&seed) % 12) - 6),
					 .margin = (double)(test_rand(&seed) % 3) / 4,
					 .recompute_s_per_page = 8e-6,
					 .may_remove = test_rand(&seed) % 2 };
		struct cost_option o[COST_OPTIONS_MAX];
		struct cost_model m;
		struct cost_item it;

		policy_item_make(&it, &any, i, 3000, &seed);
		cr_assert(cost_item_check(&it));
		cost_model_init(&m, &r, &p);
		for (unsigned opts = 0; opts < 8; opts++) {
			unsigned n = cost_options(&m, &it, it.heat, opts, o);

			cr_assert(n >= 1 && n <= COST_OPTIONS_MAX);
			for (unsigned k = 0; k < n; k++)
				agrees(&m, &it, &o[k], opts & COST_OPT_FREE);
		}
		hull_suffices(&m, &it, &seed);
	}
}

Test(policy_cost, level_read_rises_with_alpha)
{
	struct cost_rates r;
	uint64_t seed = 2;

	policy_rates(&r);
	for (unsigned i = 0; i < 1000; i++) {
		unsigned last = 0;
		struct cost_item it;

		policy_item_make(&it, &any, i, 1000, &seed);
		it.now.copy = 0;
		for (double alpha = 1e-4; alpha < 1e4; alpha *= 1.5) {
			struct cost_params p = { .alpha_s = alpha };
			struct cost_model m;
			unsigned k;

			cost_model_init(&m, &r, &p);
			k = cost_best_level(&m, &it, &it.now);
			cr_assert_geq(k, last);
			last = k;
		}
	}
}

Test(policy_cost, numbers_from_outside_are_made_sound)
{
	uint64_t seed = 3;
	struct cost_rates r;
	struct cost_params p = { .alpha_s = NAN, .margin = -1, .recompute_s_per_page = INFINITY };
	struct cost_model m;

	policy_rates(&r);
	r.ssd_Bps = NAN;
	r.copy_Bps = -1;
	cost_model_init(&m, &r, &p);
	for (unsigned i = 0; i < 5000; i++) {
		struct cost_option o[COST_OPTIONS_MAX];
		struct cost_item it;

		test_fill(&it, sizeof(it), test_rand(&seed));
		if (i % 2)
			it.levels = 1 + it.levels % COST_LEVELS_MAX;
		if (!cost_item_check(&it))
			continue;
		for (unsigned k = 0, n = cost_options(&m, &it, 1, COST_OPT_ALL, o); k < n; k++)
			cr_assert(!isnan(o[k].value) && o[k].ssd <= COST_PAGES_MAX);
	}
	cr_assert_eq(cost_pages(0), 0);
	cr_assert_eq(cost_pages(4097), 2);
	cr_assert_eq(cost_pages(UINT64_MAX), COST_PAGES_MAX);
}
