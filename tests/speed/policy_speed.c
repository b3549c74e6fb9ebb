/* SPDX-License-Identifier: MIT */
/*
 * How long the adaptive policy takes: a full plan of many contexts, an arrival and a hit among
 * them, making room; in processor time, so that others on the machine do not count. Not
 * a test: prints a table. policy_speed [contexts [rounds]]
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "policy/adaptive.h"
#include "policy_items.h"
#include "testlib.h"

#define HOUR (3600ull * NSEC_PER_SEC)
#define MOVES 4096u
#define EVENTS 20000u

static struct adaptive_moves m;
static uint64_t took[EVENTS];

static uint64_t cpu_ns(void)
{
	struct timespec t;

	CHECK_EQ(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t), 0);
	return (uint64_t)t.tv_sec * NSEC_PER_SEC + (uint64_t)t.tv_nsec;
}

static int cmp(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void row(const char *what, unsigned n, double unit_ns, const char *unit)
{
	qsort(took, n, sizeof(took[0]), cmp);
	printf("%-34s median %8.2f  p99 %8.2f  worst %8.2f %s\n", what,
	       (double)took[n / 2] / unit_ns, (double)took[n * 99 / 100] / unit_ns,
	       (double)took[n - 1] / unit_ns, unit);
}

struct load {
	struct adaptive *a;
	struct policy_mix mix;
	unsigned n;
	uint64_t now, seed;
	uint64_t dram, ssd; /* pages that decoded copies and all layers take */
};

static void load_init(struct load *l, unsigned n, struct adaptive_config *cfg)
{
	struct cost_rates r;

	policy_rates(&r);
	*l = (struct load){ .n = n,
			    .now = 1000 * HOUR,
			    .seed = 1,
			    .mix = { .pages_min = 256,
				     .pages_max = 65536,
				     .layered_pct = 80,
				     .lossy_pct = 80,
				     .special_pct = 3,
				     .zipf = 0.9 } };
	CHECK_EQ(adaptive_create(cfg, &r, &l->a), 0);
	for (unsigned i = 0; i < n; i++) {
		struct cost_item it;

		policy_item_make(&it, &l->mix, i, n, &l->seed);
		it.heat_ns = l->now;
		l->dram += it.decoded_pages;
		l->ssd += cost_ssd_pages(&it, &it.now);
		CHECK_EQ(adaptive_put(l->a, &it), 0);
	}
}

static void plans(struct load *l, const char *what, unsigned rounds)
{
	struct adaptive_stats s;

	for (unsigned i = 0; i < rounds; i++) {
		uint64_t start = cpu_ns();

		CHECK_EQ(adaptive_replan(l->a, l->now, &m), 0);
		took[i] = cpu_ns() - start;
		l->now += 60 * NSEC_PER_SEC;
	}
	row(what, rounds, NSEC_PER_MSEC, "ms");
	adaptive_stats(l->a, &s);
	printf("%34s value %.6g, bound %.6g, %u moves in the last\n", "", s.plan_value,
	       s.plan_bound, m.n);
}

static void events(struct load *l, bool arrive, const char *what)
{
	uint64_t moves = 0;

	for (unsigned i = 0; i < EVENTS; i++) {
		unsigned id = (unsigned)(test_rand(&l->seed) % l->n);
		struct cost_item it;
		uint64_t start;

		policy_item_make(&it, &l->mix, id, l->n, &l->seed);
		it.heat = 0;
		it.id = arrive ? l->n + i + 1 : id + 1;
		l->now += NSEC_PER_SEC / 10;
		start = cpu_ns();
		if (arrive)
			CHECK_EQ(adaptive_arrive(l->a, &it, l->now, &m), 0);
		else
			CHECK(adaptive_hit(l->a, it.id, l->now, &m));
		took[i] = cpu_ns() - start;
		moves += m.n;
		for (unsigned k = 0; k < m.n; k++)
			if (m.v[k].to.stored == 0)
				adaptive_gone(l->a, m.v[k].id);
	}
	row(what, EVENTS, 1000, "us");
	printf("%34s %.2f moves each\n", "", (double)moves / EVENTS);
}

int main(int argc, char **argv)
{
	unsigned n = argc > 1 ? (unsigned)atoi(argv[1]) : 100000;
	unsigned rounds = argc > 2 ? (unsigned)atoi(argv[2]) : 20;
	struct adaptive_config cfg = { .cost = { .alpha_s = 0.3,
						 .margin = 0.25,
						 .recompute_s_per_page = 2e-5,
						 .may_remove = true },
				       .half_ns = HOUR,
				       .dram_bytes = UINT64_MAX,
				       .ssd_bytes = UINT64_MAX };
	struct load l;

	m = (struct adaptive_moves){ calloc(MOVES, sizeof(*m.v)), 0, MOVES };
	CHECK(m.v != NULL && n > 0 && rounds > 0 && rounds <= EVENTS);
	load_init(&l, n, &cfg);
	cfg.dram_bytes = l.dram * COST_PAGE_BYTES / 10;
	cfg.ssd_bytes = l.ssd * COST_PAGE_BYTES;
	adaptive_configure(l.a, &cfg);
	printf("%u contexts\n", n);
	plans(&l, "plan, memory 10 %, storage ample", rounds);
	events(&l, false, "hit");
	cfg.ssd_bytes = l.ssd * COST_PAGE_BYTES * 8 / 10;
	adaptive_configure(l.a, &cfg);
	plans(&l, "plan, storage 80 % too", rounds);
	events(&l, true, "arrival");
	cfg.cost.alpha_s = 0.1;
	adaptive_configure(l.a, &cfg);
	plans(&l, "plan after a change of alpha", 1);
	for (unsigned i = 0; i < EVENTS; i++) {
		uint64_t start = cpu_ns();

		adaptive_room(l.a, ADAPTIVE_DRAM, 16u << 20, 0, l.now, &m);
		took[i] = cpu_ns() - start;
	}
	row("16 MiB of memory", EVENTS, 1000, "us");
	adaptive_destroy(l.a);
	free(m.v);
	return 0;
}
