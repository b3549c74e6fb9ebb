/* SPDX-License-Identifier: MIT */
/* Buffers of a pool, above all those that share a slab of huge pages. */
#include <criterion/criterion.h>
#include <string.h>

#include "store/pages.h"

#define POOL (32u << 20)
#define LEN (700u << 10)

static struct budget b;
static struct pages p;

static void setup(void)
{
	budget_init(&b, 256u << 20);
	cr_assert_eq(pages_init(&p, &b, BUDGET_BUFFER, sizeof(struct pbuf), 16u << 10, 4u << 20, POOL),
		     0);
}

static void teardown(void)
{
	pages_fini(&p);
	cr_assert_eq(budget_free(&b), 256u << 20, "everything is given back");
}

TestSuite(pages, .init = setup, .fini = teardown);

/* Makes whatever one growth makes. */
static void grow(size_t len)
{
	struct pages_shape s;
	struct pbuf *made;

	cr_assert(pages_may_grow(&p, len, &s));
	made = pages_grow(&p, &s);
	cr_assert_not_null(made);
	pages_add(&p, made);
	cr_assert_eq(p.held_bytes, (256u << 20) - budget_free(&b), "the pool counts what the budget does");
}

static struct pbuf *take(size_t len)
{
	struct pbuf *x = pages_take(&p, len, false, false);

	cr_assert_not_null(x);
	cr_assert_geq(x->cap_bytes, len);
	memset(x->p, 0x5a, x->cap_bytes);
	return x;
}

Test(pages, a_slab_is_several_buffers_apart)
{
	struct pbuf *x[8];
	unsigned n = 0;

	grow(LEN);
	while (n < 8 && (x[n] = pages_take(&p, LEN, false, false)) != NULL) {
		memset(x[n]->p, (int)n, x[n]->cap_bytes);
		n++;
	}
	cr_assert_gt(n, 1);
	for (unsigned i = 0; i < n; i++) {
		cr_assert_eq((uintptr_t)x[i]->p % 4096, 0);
		cr_assert_eq(x[i]->p[0], i);
		cr_assert_eq(x[i]->p[x[i]->cap_bytes - 1], i);
		pages_give(&p, x[i]);
	}
}

Test(pages, a_slab_goes_only_whole)
{
	uint64_t before, got;
	struct pbuf *x;
	struct list out;

	before = budget_free(&b);
	grow(LEN);
	x = take(LEN);
	list_init(&out);
	cr_assert_eq(pages_idle(&p, 1, &out), 0, "one buffer of it is in use");
	pages_give(&p, x);
	got = pages_idle(&p, 1, &out);
	cr_assert_geq(got, 2u << 20);
	pages_free(&p, &out);
	cr_assert_eq(budget_free(&b), before);
	cr_assert_null(pages_take(&p, LEN, false, false));
}

Test(pages, the_reserve_stays)
{
	struct pbuf *x[4];
	struct list out;

	list_init(&out);
	cr_assert_eq(pages_idle(&p, 1u << 30, &out), 0);
	for (int i = 0; i < 4; i++) {
		cr_assert_null(pages_take(&p, 1u << 20, false, false));
		x[i] = pages_take(&p, 1u << 20, false, true);
		cr_assert_not_null(x[i]);
		cr_assert(x[i]->reserved);
	}
	for (int i = 0; i < 4; i++)
		pages_give(&p, x[i]);
}

Test(pages, small_ones_are_on_their_own)
{
	struct pbuf *x;

	grow(40u << 10);
	x = take(40u << 10);
	cr_assert_null(x->slab);
	cr_assert_null(pages_take(&p, 40u << 10, false, false));
	pages_give(&p, x);
}

Test(pages, growth_ends_at_the_most_and_at_the_budget)
{
	struct pages_shape s;
	unsigned n = 0;

	while (pages_may_grow(&p, LEN, &s)) {
		struct pbuf *made = pages_grow(&p, &s);

		cr_assert_not_null(made);
		pages_add(&p, made);
		cr_assert_lt(n++, 64);
	}
	cr_assert_leq(p.held_bytes, POOL);
	cr_assert_gt(p.held_bytes, POOL - (1u << 20), "filled with smaller slabs at the end");
}

Test(pages, a_full_budget_fails_cleanly)
{
	uint64_t rest = budget_free(&b), held = p.held_bytes;
	struct pages_shape s;

	cr_assert_eq(budget_take(&b, BUDGET_TABLE, rest), 0);
	cr_assert(pages_may_grow(&p, LEN, &s));
	cr_assert_null(pages_grow(&p, &s));
	pages_grow_failed(&p, &s);
	cr_assert_eq(p.held_bytes, held);
	budget_give(&b, BUDGET_TABLE, rest);
}
