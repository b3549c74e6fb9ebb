/* SPDX-License-Identifier: MIT */
/* Which way of loading from SSD is chosen, by what was timed. */
#include <criterion/criterion.h>

#include "store/cold_load.h"

#define GB 1000000000ull

/* One load at the speeds of a machine, in bytes per second. */
static enum load_way load(struct cold_loads *l, uint64_t stream_Bps, uint64_t copy_Bps)
{
	enum load_way way = cold_choose(l);

	cold_note(l, way, GB, GB * GB / (way == LOAD_COPY ? copy_Bps : stream_Bps));
	return way;
}

static unsigned copies_of(struct cold_loads *l, unsigned n, uint64_t stream_Bps, uint64_t copy_Bps)
{
	unsigned copies = 0;

	while (n--)
		copies += load(l, stream_Bps, copy_Bps) == LOAD_COPY;
	return copies;
}

Test(cold_load, tries_both_and_keeps_the_faster)
{
	struct cold_loads l;

	cold_init(&l);
	cr_assert_eq(load(&l, 2 * GB, 3 * GB), LOAD_COPY);
	cr_assert_eq(load(&l, 2 * GB, 3 * GB), LOAD_STREAM);
	cr_assert_geq(copies_of(&l, 64, 2 * GB, 3 * GB), 58);
	cold_fini(&l);
	cold_init(&l);
	cr_assert_leq(copies_of(&l, 64, 2 * GB, GB), 6);
	cold_fini(&l);
}

Test(cold_load, follows_a_change_of_the_device)
{
	struct cold_loads l;

	cold_init(&l);
	copies_of(&l, 40, 2 * GB, 3 * GB);
	/* throttled: at most the other way's turn, one look at the used, one at the other */
	cr_assert_leq(copies_of(&l, 3, GB + GB / 2, GB + GB / 4), 2);
	cr_assert_leq(copies_of(&l, 32, GB + GB / 2, GB + GB / 4), 3);
	copies_of(&l, 18, 2 * GB, 3 * GB);
	cr_assert_geq(copies_of(&l, 32, 2 * GB, 3 * GB), 29);
	cold_fini(&l);
}

Test(cold_load, time_zero_is_no_division)
{
	struct cold_loads l;

	cold_init(&l);
	cold_note(&l, LOAD_COPY, 1, 0);
	cr_assert_eq(cold_choose(&l), LOAD_STREAM);
	cold_fini(&l);
}
