/* SPDX-License-Identifier: MIT */
/*
 * Properties of the DRAM arena: extents never overlap, keep their bytes, the
 * budget is exact at every step and back at its start in the end, memory goes
 * down when extents are freed and never past the budget, every failure leaves
 * nothing behind, and threads may do all of it at once. The set of free extents
 * under it is compared with a plain bitmap.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/units.h"
#include "testlib.h"
#include "tiers/extent.h"
#include "tiers/tier.h"

#define MIB (1ull << 20)

/* Resident bytes of this process; 0 where a sanitizer's own would blur them. */
static uint64_t rss_bytes(void)
{
#ifdef TEST_SANITIZED
	return 0;
#endif
	unsigned long size = 0, resident = 0;
	FILE *f = fopen("/proc/self/statm", "re");

	CHECK(f && fscanf(f, "%lu %lu", &size, &resident) == 2);
	fclose(f);
	return (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* --- the set of free extents against a bitmap --- */

#define MAP_UNITS 512

static void check_set(const struct extent_set *s, const bool *free_map)
{
	uint64_t runs = 0, total = 0, best[9] = { 0 };

	for (uint64_t i = 0, run; i < MAP_UNITS; i += run + 1) {
		for (run = 0; i + run < MAP_UNITS && free_map[i + run]; run++)
			;
		runs += run > 0;
		total += run;
		for (uint64_t want = 1; want < 9; want++)
			if (run >= want && (!best[want] || run < best[want]))
				best[want] = run;
	}
	CHECK_EQ(s->count, runs);
	CHECK_EQ(s->bytes, total);
	for (uint64_t want = 1; want < 9; want++) {
		const struct extent *e = extent_set_best(s, want);

		CHECK_EQ(e ? e->len : 0, best[want]);
	}
}

static void test_extent_set_is_a_bitmap(void)
{
	static bool free_map[MAP_UNITS];
	struct extent_set s = EXTENT_SET_INIT;
	struct extent *spare = NULL;
	uint64_t seed = 1;

	for (int round = 0; round < 20000; round++) {
		uint64_t off = test_rand(&seed) % MAP_UNITS, len = test_rand(&seed) % 8 + 1;
		struct extent *e;
		bool fits = off + len <= MAP_UNITS;

		for (uint64_t i = off; fits && i < off + len; i++)
			fits = !free_map[i];
		if (fits) {
			e = extent_spare_pop(&spare);
			if (!e)
				e = malloc(sizeof(*e));
			CHECK(e);
			e->off = off;
			e->len = len;
			extent_set_add(&s, e, &spare);
			memset(free_map + off, 1, len);
		} else if ((e = extent_set_best(&s, len))) {
			extent_set_remove(&s, e);
			memset(free_map + e->off, 0, e->len);
			extent_spare_push(&spare, e);
		}
		if (round % 50 == 0)
			check_set(&s, free_map);
	}
	for (struct extent *e; (e = extent_set_first(&s));) {
		extent_set_remove(&s, e);
		free(e);
	}
	for (struct extent *e; (e = extent_spare_pop(&spare));)
		free(e);
}

/* --- the arena --- */

struct piece {
	unsigned char *p;
	size_t len;
	uint64_t seed;
};

/* A mark at both ends and on every page says whose bytes these are. */
static void mark(const struct piece *x)
{
	for (size_t i = 0; i < x->len; i += 4096)
		x->p[i] = (unsigned char)(x->seed + i / 4096);
	x->p[x->len - 1] = (unsigned char)x->seed;
}

static void check_mark(const struct piece *x)
{
	CHECK(x->p[x->len - 1] == (unsigned char)x->seed);
	for (size_t i = 0; i + 1 < x->len; i += 4096)
		CHECK(x->p[i] == (unsigned char)(x->seed + i / 4096));
}

static size_t random_len(uint64_t *seed)
{
	uint64_t kind = test_rand(seed) % 10, r = test_rand(seed);

	if (kind < 3)
		return r % 4096 + 1;
	if (kind < 8)
		return r % MIB + 1;
	return kind == 8 ? r % (5 * MIB) + 1 : 2 * MIB * (r % 3 + 1) - r % 4096;
}

/* No two pieces share a page, whatever their lengths. */
static void check_apart(const struct piece *x, size_t n)
{
	for (size_t i = 0; i < n; i++)
		for (size_t j = i + 1; j < n; j++) {
			uintptr_t a = (uintptr_t)x[i].p, b = (uintptr_t)x[j].p;

			if (!x[i].p || !x[j].p)
				continue;
			CHECK(a % 4096 == 0);
			CHECK(a + round_up_u64(x[i].len, 4096) <= b ||
			      b + round_up_u64(x[j].len, 4096) <= a);
		}
}

#define PIECES 60

static void test_random_use(void)
{
	static struct piece x[PIECES];
	struct budget b;
	struct arena *a;
	uint64_t seed = 3, limit = 40 * MIB, refused = 0;
	uint64_t rss0 = rss_bytes();

	budget_init(&b, limit);
	CHECK_EQ(arena_create(&b, limit, &a), 0);
	for (int round = 0; round < 10000; round++) {
		struct piece *k = &x[test_rand(&seed) % PIECES];

		if (k->p) {
			check_mark(k);
			arena_free(a, k->p, k->len);
			k->p = NULL;
		} else {
			void *p = NULL;
			int rc;

			k->len = random_len(&seed);
			rc = arena_alloc(a, k->len, &p);
			CHECK(rc == 0 || rc == -KVFS_EBUDGET);
			CHECK((rc == 0) == (p != NULL));
			refused += rc != 0;
			k->p = p;
			k->seed = test_rand(&seed);
			if (p)
				mark(k);
		}
		CHECK(budget_used(&b) <= limit);
		CHECK(arena_used(a) <= b.use_bytes[BUDGET_REPLICA]);
		if (round % 500 == 0) {
			check_apart(x, PIECES);
			CHECK(rss_bytes() < rss0 + limit + 16 * MIB);
			/* without warm extents the budget is exactly what is out */
			arena_trim(a);
			CHECK_EQ(b.use_bytes[BUDGET_REPLICA], arena_used(a));
		}
	}
	CHECK(refused > 30);
	for (int i = 0; i < PIECES; i++) {
		if (!x[i].p)
			continue;
		check_mark(&x[i]);
		arena_free(a, x[i].p, x[i].len);
	}
	CHECK_EQ(arena_used(a), 0);
	arena_trim(a);
	CHECK_EQ(b.use_bytes[BUDGET_REPLICA], 0);
	arena_destroy(a);
	CHECK_EQ(budget_used(&b), 0);
}

static void test_memory_is_given_back(void)
{
	struct budget b;
	struct arena *a;
	void *p[8];
	uint64_t rss0 = rss_bytes(), full;

	budget_init(&b, 256 * MIB);
	CHECK_EQ(arena_create(&b, 256 * MIB, &a), 0);
	for (int i = 0; i < 8; i++) {
		/* in turn whole huge pages and a length that gets none */
		CHECK_EQ(arena_alloc(a, i % 2 ? 20 * MIB : 19 * MIB + MIB / 2, &p[i]), 0);
		memset(p[i], 1, 19 * MIB + MIB / 2);
	}
	full = rss_bytes();
	CHECK(!full || full > rss0 + 150 * MIB);
	CHECK(full < rss0 + budget_used(&b) + 8 * MIB);
	for (int i = 0; i < 8; i++)
		arena_free(a, p[i], i % 2 ? 20 * MIB : 19 * MIB + MIB / 2);
	CHECK_EQ(arena_used(a), 0);
	/* what stays resident is in the budget, and little */
	CHECK(budget_used(&b) <= 256 * MIB / 32 + MIB);
	CHECK(rss_bytes() < rss0 + budget_used(&b) + 8 * MIB);
	arena_trim(a);
	CHECK(rss_bytes() < rss0 + 8 * MIB);
	arena_destroy(a);
	CHECK_EQ(budget_used(&b), 0);
}

/* A warm extent must not stand between a reader and the last bytes. */
static void test_whole_budget_is_usable(void)
{
	struct budget b;
	struct arena *a;
	uint64_t limit = 64 * MIB, room;
	void *p, *q;

	budget_init(&b, limit + 64 * 1024); /* and the nodes */
	CHECK_EQ(arena_create(&b, limit, &a), 0);
	CHECK_EQ(arena_alloc(a, 100000, &p), 0);
	arena_free(a, p, 100000);
	CHECK(budget_used(&b) > 100000); /* it stays warm */
	CHECK_EQ(arena_alloc(a, limit, &p), 0);
	room = budget_free(&b);
	CHECK_EQ(arena_alloc(a, room + 1, &q), -KVFS_EBUDGET);
	CHECK_EQ(arena_alloc(a, SIZE_MAX, &q), -KVFS_EBUDGET);
	CHECK_EQ(arena_alloc(a, 0, &q), -EINVAL);
	arena_free(a, NULL, 5);
	arena_free(a, p, limit);
	arena_destroy(a);
	CHECK_EQ(budget_used(&b), 0);
}

/* Every second one freed, then the holes' sum asked for in one piece. */
static void test_fragmentation_costs_no_memory(void)
{
	enum { N = 512 };
	static void *p[N];
	struct budget b;
	struct arena *a;
	uint64_t each = 64 * 1024;
	void *big;

	budget_init(&b, N * each + MIB);
	CHECK_EQ(arena_create(&b, N * each + MIB, &a), 0);
	for (int i = 0; i < N; i++)
		CHECK_EQ(arena_alloc(a, each, &p[i]), 0);
	for (int i = 0; i < N; i += 2)
		arena_free(a, p[i], each);
	CHECK_EQ(arena_alloc(a, N / 2 * each - 5 * 4096, &big), 0);
	memset(big, 1, N / 2 * each - 5 * 4096);
	arena_free(a, big, N / 2 * each - 5 * 4096);
	for (int i = 1; i < N; i += 2)
		arena_free(a, p[i], each);
	arena_destroy(a);
	CHECK_EQ(budget_used(&b), 0);
}

static int alloc_some(void *arg)
{
	struct budget b;
	struct arena *a = NULL;
	void *p[100];
	int rc, n = 0;

	budget_init(&b, 64 * MIB);
	rc = arena_create(&b, 64 * MIB, &a);
	while (!rc && n < 100) {
		rc = arena_alloc(a, 5000, &p[n]);
		n += !rc;
	}
	while (n--)
		arena_free(a, p[n], 5000);
	arena_destroy(a);
	CHECK_EQ(budget_used(&b), 0);
	return rc;
}

static void test_out_of_memory_at_every_step(void)
{
	int n = test_fault_loop(FAULT_ALLOC, alloc_some, NULL);

	CHECK(n < 0 || n > 100);
}

static struct arena *shared;

static void *use_shared(void *arg)
{
	struct piece x[8] = { 0 };
	uint64_t seed = (uintptr_t)arg;

	for (int round = 0; round < 3000; round++) {
		struct piece *k = &x[test_rand(&seed) % 8];
		void *p;

		if (k->p) {
			check_mark(k);
			arena_free(shared, k->p, k->len);
			k->p = NULL;
			continue;
		}
		k->len = random_len(&seed);
		k->seed = test_rand(&seed);
		if (arena_alloc(shared, k->len, &p) == 0) {
			k->p = p;
			mark(k);
		}
		if (round % 100 == 0)
			arena_trim(shared);
	}
	for (int i = 0; i < 8; i++)
		if (x[i].p) {
			check_mark(&x[i]);
			arena_free(shared, x[i].p, x[i].len);
		}
	return NULL;
}

static void test_threads(void)
{
	struct budget b;
	pthread_t t[4];

	budget_init(&b, 32 * MIB);
	CHECK_EQ(arena_create(&b, 32 * MIB, &shared), 0);
	for (uintptr_t i = 0; i < 4; i++)
		CHECK_EQ(pthread_create(&t[i], NULL, use_shared, (void *)(i + 1)), 0);
	for (int i = 0; i < 4; i++)
		CHECK_EQ(pthread_join(t[i], NULL), 0);
	CHECK_EQ(arena_used(shared), 0);
	CHECK(b.peak_bytes <= 32 * MIB);
	arena_destroy(shared);
	CHECK_EQ(budget_used(&b), 0);
}

int main(void)
{
	test_extent_set_is_a_bitmap();
	test_random_use();
	test_memory_is_given_back();
	test_whole_budget_is_usable();
	test_fragmentation_costs_no_memory();
	test_out_of_memory_at_every_step();
	test_threads();
	arena_destroy(NULL);
	return 0;
}
