/* SPDX-License-Identifier: MIT */
/* The knapsack of two budgets, against an exact solver and against the bound. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "policy/solve.h"
#include "policy_items.h"
#include "testlib.h"

struct instance {
	struct cost_model m;
	struct cost_item *it;
	struct cost_option *opt;
	uint32_t *first, *pick;
	struct solve_problem p;
	uint64_t ssd_all, dram_all; /* what exact on SSD and decoded copies of all take */
	uint64_t ssd_least, dram_least;
	double least; /* value when each takes as little room as it can */
};

static void make(struct instance *x, const struct policy_mix *mix, unsigned n, unsigned opts,
		 double alpha, uint64_t *seed)
{
	struct cost_params par = { .alpha_s = alpha,
				   .recompute_s_per_page = 8e-6,
				   .may_remove = test_rand(seed) % 2 };
	struct cost_rates r;

	policy_rates(&r);
	memset(x, 0, sizeof(*x));
	cost_model_init(&x->m, &r, &par);
	x->it = calloc(n, sizeof(*x->it));
	x->opt = calloc((size_t)n * COST_OPTIONS_MAX, sizeof(*x->opt));
	x->first = calloc(n + 1, sizeof(*x->first));
	x->pick = calloc(n, sizeof(*x->pick));
	cr_assert(x->it && x->opt && x->first && x->pick);
	for (unsigned i = 0; i < n; i++) {
		struct cost_option *o = &x->opt[x->first[i]], *b = o;
		unsigned k;

		policy_item_make(&x->it[i], mix, i, n, seed);
		k = cost_options(&x->m, &x->it[i], x->it[i].heat, opts, o);
		x->first[i + 1] = x->first[i] + k;
		for (unsigned j = 1; j < k; j++)
			if (o[j].ssd < b->ssd || (o[j].ssd == b->ssd && o[j].dram < b->dram))
				b = &o[j];
		x->least += b->value;
		x->ssd_least += b->ssd;
		x->dram_least += b->dram;
		x->ssd_all += cost_ssd_pages(&x->it[i], &x->it[i].now);
		x->dram_all += x->it[i].decoded_pages;
	}
	x->p = (struct solve_problem){ .opt = x->opt, .first = x->first, .n = n };
}

static void drop(struct instance *x)
{
	free(x->it);
	free(x->opt);
	free(x->first);
	free(x->pick);
}

/* Every place that is allowed, by dynamic programming over both budgets in pages. */
static double exact(const struct instance *x)
{
	size_t w = x->p.ssd_pages + 1, h = x->p.dram_pages + 1;
	double *a = malloc(w * h * sizeof(*a)), *b = malloc(w * h * sizeof(*b)), best;

	cr_assert(a && b);
	for (size_t i = 0; i < w * h; i++)
		a[i] = 0;
	for (uint32_t i = 0; i < x->p.n; i++) {
		double *t = a;

		for (size_t k = 0; k < w * h; k++)
			b[k] = -HUGE_VAL;
		for (uint32_t bits = 0; bits < 1u << 14; bits++) {
			struct cost_place p = cost_unpack_place(bits);
			uint32_t s, d;
			double v;

			/* layers above the level read, and a copy beside a replica, are never better */
			if (cost_pack_place(&p) != bits || !cost_allowed(&x->m, &x->it[i], &p) ||
			    (p.stored == 0 && bits != 0) || p.dram > p.level + 1u ||
			    (p.copy && p.dram))
				continue;
			s = cost_ssd_pages(&x->it[i], &p);
			d = cost_dram_pages(&x->it[i], &p);
			v = x->it[i].heat *
			    (cost_value(&x->m, &x->it[i], &p) - x->m.params.alpha_s);
			for (size_t k = s; k < w; k++)
				for (size_t l = d; l < h; l++)
					b[k * h + l] = fmax(b[k * h + l],
							    a[(k - s) * h + l - d] + v);
		}
		a = b;
		b = t;
	}
	best = a[w * h - 1];
	free(a);
	free(b);
	return best;
}

static void check_pick(const struct instance *x, const struct solve_result *r)
{
	uint64_t s = 0, d = 0;
	double v = 0;

	for (uint32_t i = 0; i < x->p.n; i++) {
		const struct cost_option *o = &x->opt[x->first[i] + x->pick[i]];

		cr_assert_lt(x->pick[i], x->first[i + 1] - x->first[i]);
		s += o->ssd;
		d += o->dram;
		v += o->value;
	}
	cr_assert_eq(s, r->ssd);
	cr_assert_eq(d, r->dram);
	cr_assert(fabs(v - r->value) <= 1e-9 * fabs(v) + 1e-9);
	if (r->fits)
		cr_assert(s <= x->p.ssd_pages && d <= x->p.dram_pages);
	cr_assert_geq(r->bound, r->value - 1e-5 * fabs(r->value) - 1e-7);
}

Test(policy_solve, within_2_percent_of_exact_on_small_instances, .timeout = 300)
{
	struct policy_mix mix = { .pages_min = 4,
				  .pages_max = 28,
				  .layered_pct = 70,
				  .lossy_pct = 70,
				  .special_pct = 10 };
	double worst = 0, sum = 0;
	uint64_t seed = 7;
	unsigned n_runs = 0;

	for (unsigned run = 0; run < 60; run++) {
		unsigned n = 2 + (unsigned)(test_rand(&seed) % 9);
		struct instance x;
		struct solve_result r;
		double opt, gap;

		mix.zipf = (double)(run % 4) * 0.4;
		make(&x, &mix, n, COST_OPT_ALL | COST_OPT_FREE, exp2((double)(run % 7) - 8) * 1e-2,
		     &seed);
		x.p.ssd_pages = x.ssd_all * (30 + test_rand(&seed) % 80) / 100;
		x.p.dram_pages = x.dram_all * (5 + test_rand(&seed) % 60) / 100;
		cr_assert_eq(solve_run(&x.p, x.pick, &r), 0);
		check_pick(&x, &r);
		opt = r.fits ? exact(&x) : r.value;
		/* of what there is to gain over taking the least room */
		gap = opt > x.least ? (opt - r.value) / (opt - x.least) : 0;
		cr_assert(gap <= 0.02, "run %u, %u contexts: %.9g of %.9g, %.2f %% lost", run, n,
			  r.value, opt, gap * 100);
		worst = fmax(worst, gap);
		sum += gap;
		n_runs += r.fits;
		drop(&x);
	}
	cr_log_info("%u instances: worst %.4f %%, mean %.4f %%", n_runs, worst * 100,
		    sum * 100 / n_runs);
	cr_assert_gt(n_runs, 30);
}

static void within_bound(unsigned n, unsigned ssd_pct, unsigned dram_pct, unsigned opts,
			 uint64_t seed)
{
	struct policy_mix mix = { .pages_min = 64,
				  .pages_max = 65536,
				  .layered_pct = 80,
				  .lossy_pct = 80,
				  .special_pct = 5,
				  .zipf = 0.9,
				  .placed = true };
	struct instance x;
	struct solve_result r;
	double bound, gap;

	make(&x, &mix, n, opts, 0.5, &seed);
	x.p.ssd_pages = x.ssd_all * ssd_pct / 100;
	x.p.dram_pages = x.dram_all * dram_pct / 100;
	cr_assert_eq(solve_run(&x.p, x.pick, &r), 0);
	check_pick(&x, &r);
	/* the test's own bound, valid at any prices; of the budgets as they had to be widened */
	cr_assert_eq(r.fits, x.p.ssd_pages >= x.ssd_least && x.p.dram_pages >= x.dram_least);
	x.p.ssd_pages = x.p.ssd_pages > x.ssd_least ? x.p.ssd_pages : x.ssd_least;
	x.p.dram_pages = x.p.dram_pages > x.dram_least ? x.p.dram_pages : x.dram_least;
	cr_assert(r.ssd <= x.p.ssd_pages && r.dram <= x.p.dram_pages);
	bound = solve_bound_at(&x.p, r.ssd_price, r.dram_price);
	/* with nothing to gain there is only rounding */
	gap = bound - x.least > 1e-4 * fabs(x.least) ? (bound - r.value) / (bound - x.least) : 0;
	cr_log_info("%u contexts, SSD %u %%, DRAM %u %%: %.4f %% below the bound (fits %d)", n,
		    ssd_pct, dram_pct, gap * 100, r.fits);
	cr_assert(gap <= 0.02, "%u contexts, SSD %u %%, DRAM %u %%: %.3f %% below the bound", n,
		  ssd_pct, dram_pct, gap * 100);
	drop(&x);
}

Test(policy_solve, within_2_percent_of_the_bound_on_large_instances, .timeout = 300)
{
	static const unsigned ssd[] = { 60, 80, 100 }, dram[] = { 1, 10, 25, 50, 100 };
	uint64_t seed = 11;

	for (unsigned s = 0; s < 3; s++)
		for (unsigned d = 0; d < 5; d++) {
			within_bound(300, ssd[s], dram[d], COST_OPT_FREE, test_rand(&seed));
			within_bound(3000, ssd[s], dram[d], 0, test_rand(&seed));
		}
	within_bound(30000, 75, 15, 0, test_rand(&seed));
	within_bound(30000, 100, 10, 0, test_rand(&seed));
}

Test(policy_solve, budgets_that_cannot_be_kept_are_said)
{
	struct policy_mix mix = { .pages_min = 64, .pages_max = 4096, .special_pct = 20 };
	struct solve_result r;
	struct instance x;
	uint64_t seed = 4;

	make(&x, &mix, 50, 0, 1, &seed);
	x.p.dram_pages = x.dram_all / 4;
	cr_assert_eq(solve_run(&x.p, x.pick, &r), 0);
	cr_assert(!r.fits || x.m.params.may_remove);
	check_pick(&x, &r);
	cr_assert_leq(r.dram, x.p.dram_pages); /* the other one is kept all the same */
	drop(&x);
}

/* Values, not budgets, decide: the more room the more value, and with any room a larger
 * weight of quality never gives less of it, up to what the rounding may miss. */
Test(policy_solve, monotone_in_room_and_alpha, .timeout = 120)
{
	struct policy_mix mix = { .pages_min = 64,
				  .pages_max = 16384,
				  .layered_pct = 90,
				  .lossy_pct = 100,
				  .zipf = 0.6 };

	for (unsigned k = 0; k < 6; k++) {
		double last_q = -1, last_err = 0, last_alpha = 0, last_value = -HUGE_VAL;

		for (double alpha = 1.0 / 64; alpha <= 16; alpha *= 2) {
			struct solve_result r;
			uint64_t seed = 100 + k;
			struct instance x;
			double q = 0;

			make(&x, &mix, 200, COST_OPT_FREE, alpha, &seed);
			x.p.ssd_pages = x.ssd_all * (50 + 10 * k) / 100;
			x.p.dram_pages = x.dram_all * (3 + 5 * k) / 100;
			cr_assert_eq(solve_run(&x.p, x.pick, &r), 0);
			for (uint32_t i = 0; i < x.p.n; i++) {
				struct cost_place p =
					cost_unpack_place(x.opt[x.first[i] + x.pick[i]].place);

				q += x.it[i].heat * cost_quality(&x.it[i], &p);
			}
			/* exact solutions would give q >= last_q; these may miss by their errors */
			if (last_q >= 0)
				cr_assert_geq(q, last_q -
							 (r.bound - r.value + last_err) /
								 (alpha - last_alpha) -
							 1e-3);
			last_q = q;
			last_err = r.bound - r.value;
			last_alpha = alpha;
			drop(&x);
		}
		for (unsigned pct = 1; pct <= 100; pct = pct * 3 / 2 + 1) {
			struct solve_result r;
			uint64_t seed = 200 + k;
			struct instance x;

			make(&x, &mix, 200, COST_OPT_FREE, 1, &seed);
			x.p.ssd_pages = x.ssd_all;
			x.p.dram_pages = x.dram_all * pct / 100;
			cr_assert_eq(solve_run(&x.p, x.pick, &r), 0);
			cr_assert_geq(r.value, last_value);
			last_value = r.value;
			drop(&x);
		}
	}
}

static int solve_once(void *arg)
{
	struct instance *x = arg;
	struct solve_result r;

	return solve_run(&x->p, x->pick, &r);
}

Test(policy_solve, out_of_memory_is_said)
{
	struct policy_mix mix = { .pages_min = 64, .pages_max = 4096, .layered_pct = 50 };
	struct instance x;
	uint64_t seed = 5;

	make(&x, &mix, 40, 0, 1, &seed);
	x.p.ssd_pages = x.ssd_all;
	x.p.dram_pages = x.dram_all / 8;
	test_fault_loop(FAULT_ALLOC, solve_once, &x);
	drop(&x);
}
