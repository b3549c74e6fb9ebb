/* SPDX-License-Identifier: MIT */
/* The adaptive policy as a whole: random events, steady loads, pressure, reasons. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/sbuf.h"
#include "policy/adaptive.h"
#include "policy/heat.h"
#include "policy_items.h"
#include "testlib.h"

#define SEC 1000000000ull
#define HOUR (3600 * SEC)
#define MOVES 4096u
#define CONTEXTS 400u

/* A policy and, beside it, where everything is if one does as it says. */
struct rig {
	struct adaptive *a;
	struct adaptive_config cfg;
	struct adaptive_moves m;
	struct cost_item it[CONTEXTS + 1]; /* by id; levels 0: none */
	uint64_t dram, ssd, now_ns;
	uint64_t moved_pages;
	unsigned moves;
};

static const struct policy_mix mixed = { .pages_min = 64,
					 .pages_max = 16384,
					 .layered_pct = 75,
					 .lossy_pct = 75,
					 .special_pct = 10,
					 .zipf = 0.9,
					 .placed = true };
static const struct policy_mix plain = {
	.pages_min = 64, .pages_max = 16384, .layered_pct = 75, .lossy_pct = 75, .zipf = 0.9
};

static struct rig *rig_create(uint64_t dram_pages, uint64_t ssd_pages, double margin,
			      bool may_remove)
{
	struct rig *g = calloc(1, sizeof(*g));
	struct cost_rates r;

	cr_assert(g);
	policy_rates(&r);
	g->cfg = (struct adaptive_config){ .cost = { .alpha_s = 0.3,
						     .margin = margin,
						     .recompute_s_per_page = 2e-5,
						     .may_remove = may_remove },
					   .half_ns = HOUR,
					   .dram_bytes = dram_pages * COST_PAGE_BYTES,
					   .ssd_bytes = ssd_pages * COST_PAGE_BYTES };
	cr_assert_eq(adaptive_create(&g->cfg, &r, &g->a), 0);
	g->m.v = calloc(MOVES, sizeof(*g->m.v));
	g->m.max = MOVES;
	g->now_ns = 1000 * HOUR;
	return g;
}

static void rig_destroy(struct rig *g)
{
	adaptive_destroy(g->a);
	free(g->m.v);
	free(g);
}

static void count(struct rig *g, unsigned id, int sign)
{
	const struct cost_item *it = &g->it[id];

	if (it->levels == 0)
		return;
	g->dram += (uint64_t)sign * cost_dram_pages(it, &it->now);
	g->ssd += (uint64_t)sign * cost_ssd_pages(it, &it->now);
}

static void know(struct rig *g, const struct cost_item *it)
{
	count(g, (unsigned)it->id, -1);
	g->it[it->id] = *it;
	count(g, (unsigned)it->id, 1);
}

/* Carries the moves out, one by one: each must be allowed and keep the budgets, or at
 * least not make worse what was beyond them before. */
static void obey(struct rig *g)
{
	uint64_t dram = g->cfg.dram_bytes / COST_PAGE_BYTES,
		 ssd = g->cfg.ssd_bytes / COST_PAGE_BYTES;
	struct adaptive_stats s;

	for (unsigned i = 0; i < g->m.n; i++) {
		const struct adaptive_move *v = &g->m.v[i];
		uint64_t most = g->dram > dram ? g->dram : dram,
			 most_ssd = g->ssd > ssd ? g->ssd : ssd;
		struct cost_item *it = &g->it[v->id];
		struct cost_place to = v->to;
		bool kept;

		cr_assert(it->levels > 0);
		cr_assert(cost_same(&v->from, &it->now), "move %u of %u", i, g->m.n);
		cr_assert(cost_allowed(adaptive_model(g->a), it, &to), "move %u of %u", i, g->m.n);
		cr_assert(to.stored > 0 || g->cfg.cost.may_remove);
		if (to.stored > 0 && !(it->flags & COST_BUSY)) {
			cr_assert_geq(to.level, cost_floor(it, &kept));
			cr_assert(!kept || it->floor >= 1 || it->quality[to.level] >= it->floor);
		}
		cr_assert(v->reason > ADAPTIVE_NONE && v->reason < ADAPTIVE_REASONS_);
		cr_assert_eq(v->reason == ADAPTIVE_REMOVED, to.stored == 0);
		count(g, (unsigned)v->id, -1);
		it->now = to;
		count(g, (unsigned)v->id, 1);
		cr_assert_leq(g->dram, most, "move %u of %u", i, g->m.n);
		cr_assert_leq(g->ssd, most_ssd);
		g->moved_pages += v->work_pages;
		g->moves++;
		if (to.stored == 0) {
			it->levels = 0;
			adaptive_gone(g->a, v->id);
		}
	}
	adaptive_stats(g->a, &s);
	cr_assert_eq(s.dram_bytes, g->dram * COST_PAGE_BYTES);
	cr_assert_eq(s.ssd_bytes, g->ssd * COST_PAGE_BYTES);
}

static void fill_rig(struct rig *g, const struct policy_mix *mix, unsigned n, uint64_t *seed)
{
	for (unsigned i = 0; i < n; i++) {
		struct cost_item it;

		policy_item_make(&it, mix, i, n, seed);
		it.heat_ns = g->now_ns;
		know(g, &it);
		cr_assert_eq(adaptive_put(g->a, &it), 0);
	}
}

static double value_of(const struct rig *g)
{
	double sum = 0;

	for (unsigned i = 1; i <= CONTEXTS; i++) {
		struct cost_item it;

		if (adaptive_get(g->a, i, g->now_ns, &it))
			sum += it.heat * (cost_value(adaptive_model(g->a), &it, &it.now) -
					  g->cfg.cost.alpha_s);
	}
	return sum;
}

/* Without anything in memory. */
static double value_bare(const struct rig *g)
{
	double sum = 0;

	for (unsigned i = 1; i <= CONTEXTS; i++) {
		struct cost_item it;

		if (!adaptive_get(g->a, i, g->now_ns, &it))
			continue;
		it.now.dram = it.now.copy = 0;
		sum += it.heat *
		       (cost_value(adaptive_model(g->a), &it, &it.now) - g->cfg.cost.alpha_s);
	}
	return sum;
}

/* ---- properties ---------------------------------------------------------------- */

static void one_event(struct rig *g, uint64_t *seed)
{
	unsigned id = 1 + (unsigned)(test_rand(seed) % CONTEXTS);
	struct cost_item it, *k = &g->it[id];

	g->m.n = 0;
	g->now_ns += test_rand(seed) % (10 * SEC);
	switch (test_rand(seed) % 16) {
	case 0:
	case 1:
	case 2:
		policy_item_make(&it, &mixed, id - 1, CONTEXTS, seed);
		it.heat = test_rand(seed) % 2 ? 0 : it.heat;
		it.heat_ns = g->now_ns;
		know(g, &it);
		cr_assert_eq(adaptive_arrive(g->a, &it, g->now_ns, &g->m), 0);
		break;
	case 3:
		count(g, id, -1);
		k->levels = 0;
		adaptive_gone(g->a, id);
		break;
	case 4:
		if (k->levels) {
			bool busy = test_rand(seed) % 2;

			k->flags = busy ? k->flags | COST_BUSY : k->flags & (uint8_t)~COST_BUSY;
			adaptive_busy(g->a, id, busy);
		}
		break;
	case 5:
		g->m.max = 1 + test_rand(seed) % MOVES;
		adaptive_room(g->a, test_rand(seed) % ADAPTIVE_TIERS, test_rand(seed) % (64u << 20),
			      id, g->now_ns, &g->m);
		break;
	case 6:
		g->cfg.dram_bytes = test_rand(seed) % (2ull << 30);
		g->cfg.ssd_bytes = (1ull << 30) + test_rand(seed) % (4ull << 30);
		g->cfg.moves_Bps = test_rand(seed) % 2 ? 0 : 100u << 20;
		g->cfg.cost.alpha_s = exp2((double)(test_rand(seed) % 8) - 6);
		adaptive_configure(g->a, &g->cfg);
		break;
	case 7:
		/* a move was not carried out */
		if (k->levels && !(k->flags & COST_BUSY)) {
			count(g, id, -1);
			k->now.dram = k->now.copy = 0;
			count(g, id, 1);
			adaptive_placed(g->a, id, &k->now);
		}
		break;
	case 8:
		g->m.max = 1 + test_rand(seed) % MOVES;
		cr_assert_eq(adaptive_replan(g->a, g->now_ns, &g->m), 0);
		break;
	default:
		cr_assert_eq(adaptive_hit(g->a, id, g->now_ns, &g->m), k->levels > 0);
	}
	obey(g);
	g->m.max = MOVES;
}

Test(policy_adaptive, random_events_keep_budgets_and_floors, .timeout = 300)
{
	for (uint64_t seed = 1; seed <= 6; seed++) {
		struct rig *g = rig_create(100000, 500000, 0.25, seed % 2);
		uint64_t s = seed;

		for (unsigned i = 0; i < 4000; i++)
			one_event(g, &s);
		rig_destroy(g);
	}
}

static unsigned replan(struct rig *g)
{
	cr_assert_eq(adaptive_replan(g->a, g->now_ns, &g->m), 0);
	obey(g);
	return g->m.n;
}

Test(policy_adaptive, plans_arrive_near_the_bound_and_then_rest, .timeout = 120)
{
	for (uint64_t seed = 1; seed <= 12; seed++) {
		struct rig *g = rig_create(20000 * seed, seed % 3 ? 2000000 : 500000,
					   seed % 2 ? 0 : 0.25, seed % 4 == 0);
		struct adaptive_stats st;
		uint64_t s = seed;
		unsigned rounds = 0;
		double bare, gap;

		fill_rig(g, &plain, CONTEXTS, &s);
		while (replan(g) > 0)
			cr_assert_lt(++rounds, 12);
		/* also much later: all heats decay alike, so only what moves are charged against shrinks */
		bare = value_bare(g);
		adaptive_stats(g->a, &st);
		gap = (st.plan_bound - value_of(g)) / (st.plan_bound - bare);
		cr_log_info("seed %u: %u rounds, %.3f %% below the bound", (unsigned)seed, rounds,
			    gap * 100);
		cr_assert_leq(gap, 0.02);
		for (unsigned i = 0; i < 3; i++)
			cr_assert_eq(replan(g), 0);
		rig_destroy(g);
	}
}

/* Poisson arrivals of Zipf popularity that does not change: what moves at all is noise. */
static void steady(struct rig *g, const double *cdf, unsigned hits, uint64_t *seed)
{
	for (unsigned i = 0; i < hits; i++) {
		double u = (double)(test_rand(seed) >> 11) / 9007199254740992.0 * cdf[CONTEXTS - 1];
		unsigned id = 0;

		while (id < CONTEXTS - 1 && cdf[id] < u)
			id++;
		g->now_ns +=
			(uint64_t)(-log1p(-(double)(test_rand(seed) >> 11) / 9007199254740992.0) *
				   2 * SEC);
		cr_assert(adaptive_hit(g->a, id + 1, g->now_ns, &g->m));
		obey(g);
		if (i % 100 == 99)
			replan(g);
	}
}

Test(policy_adaptive, steady_load_does_not_swing, .timeout = 120)
{
	struct rig *g = rig_create(150000, 2000000, 0.25, false);
	double cdf[CONTEXTS], sum = 0, share;
	uint64_t seed = 9, pages = 0;

	fill_rig(g, &plain, CONTEXTS, &seed);
	for (unsigned i = 0; i < CONTEXTS; i++)
		cdf[i] = sum += pow(1 + (double)((i * 7919u) % CONTEXTS), -0.9);
	steady(g, cdf, 20000, &seed);
	g->moved_pages = g->moves = 0;
	steady(g, cdf, 20000, &seed);
	for (unsigned i = 1; i <= CONTEXTS; i++)
		pages += g->it[i].decoded_pages;
	/* what 20,000 reads read, against what was moved meanwhile */
	share = (double)g->moved_pages / ((double)pages / CONTEXTS * 20000);
	cr_log_info("%u moves at 20000 reads, %.2f %% of the bytes read", g->moves, share * 100);
	cr_assert_lt(share, 0.02);
	rig_destroy(g);
}

Test(policy_adaptive, events_alone_come_near_a_plan, .timeout = 120)
{
	struct rig *g = rig_create(150000, 2000000, 0.25, false);
	double cdf[CONTEXTS], sum = 0, gap;
	uint64_t seed = 10;
	struct adaptive_stats st;

	for (unsigned i = 0; i < CONTEXTS; i++) {
		struct cost_item it;

		cdf[i] = sum += pow(1 + (double)((i * 7919u) % CONTEXTS), -0.9);
		policy_item_make(&it, &plain, i, CONTEXTS, &seed);
		it.heat = 0;
		know(g, &it);
		cr_assert_eq(adaptive_arrive(g->a, &it, g->now_ns, &g->m), 0);
		obey(g);
	}
	for (unsigned i = 0; i < 20000; i++) {
		double u = (double)(test_rand(&seed) >> 11) / 9007199254740992.0 * sum;
		unsigned id = 0;

		while (id < CONTEXTS - 1 && cdf[id] < u)
			id++;
		g->now_ns += 2 * SEC;
		cr_assert(adaptive_hit(g->a, id + 1, g->now_ns, &g->m));
		obey(g);
	}
	sum = value_of(g);
	replan(g);
	adaptive_stats(g->a, &st);
	gap = (st.plan_bound - sum) / (st.plan_bound - value_bare(g));
	cr_log_info("%.2f %% below the bound without any plan", gap * 100);
	cr_assert_lt(gap, 0.15);
	rig_destroy(g);
}

/* ---- by table ------------------------------------------------------------------ */

static void simple_item(struct cost_item *it, unsigned id, double heat, uint64_t now_ns)
{
	*it = (struct cost_item){ .id = id,
				  .heat = heat,
				  .heat_ns = now_ns,
				  .layer_pages = { 130, 125, 250, 150 },
				  .base_pages = 170,
				  .decoded_pages = 1000,
				  .quality = { 0.7f, 0.97f, 0.999f, 1 },
				  .recompute_s = 1,
				  .floor = 1,
				  .levels = 4,
				  .class = COST_CLASS_LADDER,
				  .now = { .stored = 4, .level = 3 } };
}

static void simple_add(struct rig *g, unsigned id, double heat, float least, uint8_t flags)
{
	struct cost_item it;

	simple_item(&it, id, heat, g->now_ns);
	it.floor = least;
	it.flags = flags;
	know(g, &it);
	cr_assert_eq(adaptive_put(g->a, &it), 0);
}

Test(policy_adaptive, hot_is_in_memory_and_cold_is_not)
{
	struct rig *g = rig_create(1700, 100000, 0.1, false);
	double cold;

	for (unsigned id = 1; id <= 8; id++)
		simple_add(g, id, 9 - id, 1, 0);
	replan(g);
	/* as many layers as hits earn: less and less, and none in the end */
	for (unsigned id = 2; id <= 8; id++)
		cr_assert_leq(cost_dram_pages(&g->it[id], &g->it[id].now),
			      cost_dram_pages(&g->it[id - 1], &g->it[id - 1].now));
	cold = cost_delay(adaptive_model(g->a), &g->it[8], &g->it[8].now);
	cr_assert(g->it[1].now.dram > 1 && g->it[8].now.dram == 0 && !g->it[8].now.copy);
	cr_assert_lt(cost_delay(adaptive_model(g->a), &g->it[1], &g->it[1].now), cold / 2);
	/* the other way round */
	g->now_ns += HOUR;
	for (unsigned i = 0; i < 40; i++) {
		adaptive_hit(g->a, 8, g->now_ns, &g->m);
		obey(g);
	}
	cr_assert_lt(cost_delay(adaptive_model(g->a), &g->it[8], &g->it[8].now), cold / 2);
	rig_destroy(g);
}

/* Removing it would cost nothing, but nothing asks for its room. */
Test(policy_adaptive, what_is_cheap_to_compute_is_brought_to_memory_all_the_same)
{
	struct rig *g = rig_create(1700, 100000, 0.1, true);

	for (unsigned id = 1; id <= 8; id++) {
		struct cost_item it;

		simple_item(&it, id, 9 - id, g->now_ns);
		it.recompute_s = 0;
		know(g, &it);
		cr_assert_eq(adaptive_put(g->a, &it), 0);
	}
	replan(g);
	cr_assert(g->it[1].now.dram > 1 || g->it[1].now.copy);
	for (unsigned id = 1; id <= 8; id++)
		cr_assert_eq(g->it[id].now.stored, g->it[id].levels);
	rig_destroy(g);
}

/* An open has decoded it into memory. */
static bool copy_stays(struct rig *g, unsigned id)
{
	struct cost_item *it = &g->it[id];
	struct cost_place p = it->now;

	count(g, id, -1);
	p.copy = 1;
	it->now = p;
	count(g, id, 1);
	adaptive_placed(g->a, id, &p);
	adaptive_hit(g->a, id, g->now_ns, &g->m);
	obey(g);
	return it->now.copy;
}

Test(policy_adaptive, an_opens_copy_stays_where_it_earns_its_room)
{
	struct rig *g = rig_create(4000, 100000, 0.1, false);

	for (unsigned id = 1; id <= 20; id++)
		simple_add(g, id, id == 9 ? 1 : 100, 1, 0);
	replan(g);
	cr_assert(!copy_stays(g, 9), "one use in a hundred of the others'");
	g->cfg.dram_bytes = 40000 * COST_PAGE_BYTES;
	adaptive_configure(g->a, &g->cfg);
	replan(g);
	cr_assert(copy_stays(g, 9), "there is room for all");
	rig_destroy(g);
}

/* Layer 0 takes more of memory than was thought. */
Test(policy_adaptive, what_is_in_memory_counts_as_it_is)
{
	struct rig *g = rig_create(4000, 100000, 0.1, false);
	struct cost_place p = { .stored = 1, .dram = 1, .packing = COST_PACK_DRAM };
	struct adaptive_stats s, more;

	simple_add(g, 1, 100, 1, 0);
	adaptive_placed(g->a, 1, &p);
	adaptive_stats(g->a, &s);
	adaptive_packed(g->a, 1, g->it[1].base_pages + 50);
	adaptive_stats(g->a, &more);
	cr_assert_eq(more.dram_bytes, s.dram_bytes + 50 * COST_PAGE_BYTES);
	adaptive_packed(g->a, 77, 1); /* not known: nothing */
	rig_destroy(g);
}

Test(policy_adaptive, storage_pressure_drops_layers_before_files_and_spares_pins)
{
	struct rig *g = rig_create(0, 100000, 0, true);

	simple_add(g, 1, 1, 0, 0); /* may become lossy */
	simple_add(g, 2, 1, 1, 0); /* must stay exact: can only go */
	simple_add(g, 3, 1, 0, COST_PINNED);
	simple_add(g, 4, 1, 0, COST_BUSY);
	simple_add(g, 5, 1, 0, COST_VETO);
	cr_assert_geq(adaptive_room(g->a, ADAPTIVE_SSD, 150 * 4096, 0, g->now_ns, &g->m),
		      150 * 4096);
	obey(g);
	cr_assert_eq(g->m.n, 1);
	cr_assert_eq(g->m.v[0].id, 1);
	cr_assert_eq(g->m.v[0].reason, ADAPTIVE_SSD_FULL);
	cr_assert_gt(g->it[1].now.stored, 0);
	/* all that can go */
	adaptive_room(g->a, ADAPTIVE_SSD, 1ull << 40, 5, g->now_ns, &g->m);
	obey(g);
	cr_assert(g->it[1].levels == 0 && g->it[2].levels == 0);
	cr_assert(g->it[3].now.stored == 4 && g->it[4].now.stored == 4 && g->it[5].now.stored == 4);
	rig_destroy(g);
}

/* What cannot go is passed over, and is asked again by the next one who needs room. */
Test(policy_adaptive, what_failed_is_passed_over_once)
{
	struct rig *g = rig_create(0, 100000, 0, true);
	struct adaptive_move last;
	struct cost_place was;
	uint64_t spare;

	simple_add(g, 1, 1, 1, 0);
	simple_add(g, 2, 10, 1, 0);
	was = g->it[1].now;
	spare = adaptive_spare(g->a, 0);
	for (int i = 0; i < 2; i++) {
		adaptive_room(g->a, ADAPTIVE_SSD, 4096, 0, g->now_ns, &g->m);
		cr_assert(g->m.n == 1 && g->m.v[0].id == 1 && g->m.v[0].to.stored == 0);
		adaptive_placed(g->a, 1, &was);
		adaptive_failed(g->a, 1, true);
		cr_assert(adaptive_last(g->a, 1, &last) && last.reason == ADAPTIVE_FAILED);
		cr_assert_lt(adaptive_spare(g->a, 0), spare);
		adaptive_room(g->a, ADAPTIVE_SSD, 4096, 0, g->now_ns, &g->m);
		cr_assert(g->m.n == 1 && g->m.v[0].id == 2);
		adaptive_placed(g->a, 2, &was);
		adaptive_retry(g->a);
		cr_assert_eq(adaptive_spare(g->a, 0), spare);
	}
	adaptive_failed(g->a, 1, true);
	adaptive_placed(g->a, 1, &was); /* something of it changed */
	adaptive_room(g->a, ADAPTIVE_SSD, 4096, 0, g->now_ns, &g->m);
	cr_assert(g->m.n == 1 && g->m.v[0].id == 1);
	adaptive_failed(g->a, 77, true); /* not known: nothing */
	rig_destroy(g);
}

Test(policy_adaptive, spare_is_what_pressure_can_free)
{
	uint64_t seed = 21;

	for (unsigned i = 0; i < 40; i++) {
		struct rig *g = rig_create(20000, 1u << 24, 0.1, i % 2);
		uint64_t spare;

		fill_rig(g, &mixed, 60, &seed);
		adaptive_busy(g->a, 7, true);
		adaptive_gone(g->a, 60);
		spare = adaptive_spare(g->a, 9);
		cr_assert_gt(spare, 0);
		cr_assert_eq(adaptive_room(g->a, ADAPTIVE_SSD, 1ull << 40, 9, g->now_ns, &g->m),
			     spare);
		cr_assert_eq(adaptive_spare(g->a, 9), 0);
		rig_destroy(g);
	}
}

Test(policy_adaptive, budgets_that_shrink_are_kept_at_once)
{
	struct rig *g = rig_create(100000, 1000000, 0.25, false);
	uint64_t seed = 3;

	fill_rig(g, &plain, CONTEXTS, &seed);
	while (replan(g) > 0)
		;
	g->cfg.dram_bytes /= 4;
	g->cfg.moves_Bps = 1; /* giving up needs no moving */
	adaptive_configure(g->a, &g->cfg);
	replan(g);
	cr_assert_leq(g->dram * COST_PAGE_BYTES, g->cfg.dram_bytes);
	rig_destroy(g);
}

Test(policy_adaptive, bytes_moved_are_capped)
{
	struct rig *g = rig_create(400000, 2000000, 0, false);
	uint64_t seed = 5, start;
	unsigned n = 0;

	g->cfg.moves_Bps = 40u << 20;
	adaptive_configure(g->a, &g->cfg);
	fill_rig(g, &plain, CONTEXTS, &seed);
	start = g->now_ns;
	for (; n < 200; n++) {
		g->now_ns += SEC / 10;
		replan(g);
		/* a burst of a second, and one context more */
		cr_assert_leq((double)g->moved_pages,
			      10240.0 * ((double)(g->now_ns - start) / 1e9 + 1) + 2 * 16384);
	}
	cr_assert_gt(g->moved_pages, 100000);
	rig_destroy(g);
}

Test(policy_adaptive, noise_in_rates_and_a_restart_change_nothing)
{
	struct rig *g = rig_create(100000, 1000000, 0.25, false);
	uint64_t seed = 6;
	struct cost_rates r;

	fill_rig(g, &plain, CONTEXTS, &seed);
	while (replan(g) > 0)
		;
	policy_rates(&r);
	r.ssd_Bps *= 1.2;
	cr_assert_not(adaptive_set_rates(g->a, &r));
	cr_assert_eq(replan(g), 0);
	r.ssd_Bps *= 4;
	cr_assert(adaptive_set_rates(g->a, &r));
	policy_rates(&r);
	cr_assert(adaptive_set_rates(g->a, &r));
	/* from what is persisted: place, heat and its time */
	adaptive_destroy(g->a);
	cr_assert_eq(adaptive_create(&g->cfg, &r, &g->a), 0);
	for (unsigned i = 1; i <= CONTEXTS; i++)
		cr_assert_eq(adaptive_put(g->a, &g->it[i]), 0);
	cr_assert_eq(replan(g), 0);
	rig_destroy(g);
}

Test(policy_adaptive, quality_that_turns_out_lower_is_answered)
{
	struct rig *g = rig_create(0, 100000, 0, false);
	struct cost_item it;

	g->cfg.cost.alpha_s = 0.004;
	adaptive_configure(g->a, &g->cfg);
	simple_add(g, 1, 5, 0.5f, 0);
	while (replan(g) > 0)
		;
	cr_assert_lt(g->it[1].now.level, 3);
	/* the reader measured level 0 and 1: useless */
	it = g->it[1];
	it.quality[0] = it.quality[1] = it.quality[2] = 0.1f;
	know(g, &it);
	cr_assert_eq(adaptive_put(g->a, &it), 0);
	replan(g);
	cr_assert_eq(g->it[1].now.level, 3);
	rig_destroy(g);
}

Test(policy_adaptive, reasons_are_sentences)
{
	struct rig *g = rig_create(100000, 1000000, 0.25, true);
	uint64_t seed = 8;

	fill_rig(g, &mixed, CONTEXTS, &seed);
	replan(g);
	cr_assert_gt(g->m.n, 0);
	for (unsigned i = 0; i < g->m.n; i++) {
		struct sbuf b = SBUF_INIT;

		adaptive_why(&g->m.v[i], 4, &b);
		cr_assert(b.len > 40 && b.s[b.len - 1] == '.');
		cr_assert(strstr(b.s, "nan") == NULL && strstr(b.s, "inf") == NULL, "%s", b.s);
		if (i == 0)
			cr_log_info("%s", b.s);
		sbuf_fini(&b);
	}
	cr_assert_str_eq(adaptive_reason_name(ADAPTIVE_MADE_WAY), "made-way");
	cr_assert_str_eq(adaptive_reason_name((enum adaptive_reason)99), "?");
	rig_destroy(g);
}

static bool explained(struct rig *g, unsigned id, const char *has)
{
	struct sbuf b = SBUF_INIT;
	bool ok = adaptive_explain(g->a, id, g->now_ns, &b) && strstr(b.s, has) &&
		  !strstr(b.s, "nan");

	cr_log_info("%u: %s", id, b.s ? b.s : "-");
	sbuf_fini(&b);
	return ok;
}

Test(policy_adaptive, places_are_explained)
{
	struct rig *g = rig_create(2000, 100000, 0.1, false);

	simple_add(g, 1, 50, 1, 0);
	simple_add(g, 2, 40, 1, COST_PINNED);
	simple_add(g, 3, 2, 1, COST_VETO);
	cr_assert(explained(g, 1, "it is next"));
	cr_assert(explained(g, 2, "pinned"));
	while (replan(g) > 0)
		;
	cr_assert(explained(g, 1, "in memory"));
	cr_assert(explained(g, 3, "elsewhere that room is worth"));
	cr_assert(explained(g, 3, "must stay exact"));
	cr_assert_not(explained(g, 4, ""));
	rig_destroy(g);
}

/* Its entry stays until the removal was carried out; whoever asks meanwhile is told so. */
Test(policy_adaptive, explained_after_it_was_removed)
{
	struct rig *g = rig_create(2000, 100000, 0.1, true);
	struct cost_option o[COST_OPTIONS_MAX];
	struct cost_item it;

	simple_add(g, 1, 50, 1, 0);
	cr_assert_gt(adaptive_room(g->a, ADAPTIVE_SSD, COST_PAGE_BYTES, 0, g->now_ns, &g->m), 0);
	cr_assert(adaptive_get(g->a, 1, g->now_ns, &it));
	cr_assert_eq(it.now.stored, 0);
	cr_assert(explained(g, 1, "being removed"));
	cr_assert_eq(cost_floor(&it, NULL), 0);
	for (unsigned opts = 0; opts < 8; opts++) {
		cr_assert_eq(cost_options(adaptive_model(g->a), &it, it.heat, opts, o), 1);
		cr_assert_eq(cost_unpack_place(o[0].place).stored, 0);
	}
	adaptive_gone(g->a, 1);
	rig_destroy(g);
}

Test(policy_adaptive, heat_decays_after_the_clock_went_back)
{
	struct rig *g = rig_create(2000, 100000, 0.1, false);
	struct cost_item it;

	g->now_ns += 1000 * HOUR;
	simple_add(g, 1, 7, 1, 0);
	g->now_ns -= 1000 * HOUR;
	cr_assert(adaptive_hit(g->a, 1, g->now_ns, &g->m));
	cr_assert(adaptive_get(g->a, 1, g->now_ns + HOUR, &it));
	cr_assert_float_eq(it.heat, 4, 1e-6);
	rig_destroy(g);
}

static int live_once(void *arg)
{
	static struct adaptive_move v[64];
	struct adaptive_moves m = { v, 0, 64 };
	struct cost_rates r;
	struct adaptive *a;
	uint64_t seed = 1;
	int e;

	policy_rates(&r);
	e = adaptive_create(&((struct rig *)arg)->cfg, &r, &a);
	for (unsigned i = 0; e == 0 && i < 600; i++) {
		struct cost_item it;

		policy_item_make(&it, &plain, i, 600, &seed);
		e = adaptive_arrive(a, &it, HOUR, &m);
		if (e < 0) {
			adaptive_destroy(a);
			return e;
		}
	}
	if (e < 0)
		return e;
	e = adaptive_replan(a, HOUR, &m);
	adaptive_destroy(a);
	return e;
}

Test(policy_adaptive, out_of_memory_leaves_it_usable)
{
	struct rig *g = rig_create(100000, 1000000, 0.25, false);

	test_fault_loop(FAULT_ALLOC, live_once, g);
	rig_destroy(g);
}
