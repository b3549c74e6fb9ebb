/* SPDX-License-Identifier: MIT */
/* Which way of loading from SSD is chosen, by what was timed. */
#include <criterion/criterion.h>

#include "store/cold_load.h"

#define GB 1000000000ull
#define LAYERS 2u

/* One load at the speeds of a machine, in bytes per second. */
static enum load_way load(struct cold_loads *l, uint64_t stream_Bps, uint64_t copy_Bps)
{
	enum load_way way = cold_choose(l, LAYERS);

	cold_note(l, LAYERS, way, GB, GB * GB / (way == LOAD_COPY ? copy_Bps : stream_Bps));
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
	cr_assert_eq(copies_of(&l, 2, 2 * GB, 3 * GB), 2);
	cr_assert_eq(copies_of(&l, 2, 2 * GB, 3 * GB), 0);
	cr_assert_geq(copies_of(&l, 64, 2 * GB, 3 * GB), 58);
	cold_fini(&l);
	cold_init(&l);
	cr_assert_leq(copies_of(&l, 64, 2 * GB, GB), 9);
	cr_assert_leq(copies_of(&l, 64, 2 * GB, GB), 1, "doubt ends");
	cold_fini(&l);
}

/* Pages that nobody used before. */
Test(cold_load, the_first_copies_may_be_slow)
{
	struct cold_loads l;

	cold_init(&l);
	cr_assert_eq(copies_of(&l, 2, 2 * GB, GB / 4), 2);
	cr_assert_leq(copies_of(&l, 2, 2 * GB, 3 * GB), 0);
	copies_of(&l, 24, 2 * GB, 3 * GB);
	cr_assert_geq(copies_of(&l, 32, 2 * GB, 3 * GB), 31);
	cold_fini(&l);
}

Test(cold_load, follows_a_change_of_the_device)
{
	struct cold_loads l;

	cold_init(&l);
	copies_of(&l, 40, 2 * GB, 3 * GB);
	/* throttled: three loads until that is believed, and the other way's turn */
	cr_assert_leq(copies_of(&l, 5, GB + GB / 2, GB), 4);
	cr_assert_leq(copies_of(&l, 32, GB + GB / 2, GB), 6);
	copies_of(&l, 128, 2 * GB, 3 * GB);
	cr_assert_geq(copies_of(&l, 32, 2 * GB, 3 * GB), 29);
	cold_fini(&l);
}

/* Readers who stream hinder each other more: a little faster is not enough. */
Test(cold_load, copies_where_streaming_is_hardly_faster)
{
	struct cold_loads l;

	cold_init(&l);
	copies_of(&l, 4, GB + GB / 8, GB);
	cr_assert_geq(copies_of(&l, 32, GB + GB / 8, GB), 31);
	cold_fini(&l);
}

/* Every third load, of either way, has to wait for somebody else. */
Test(cold_load, a_busy_device_hides_nothing)
{
	struct cold_loads l;
	unsigned copies = 0;

	cold_init(&l);
	for (unsigned i = 0; i < 96; i++) {
		uint64_t slow = i % 3 == 0 ? 4 : 1;

		copies += load(&l, 2 * GB / slow, 3 * GB / slow) == LOAD_COPY;
	}
	cr_assert_geq(copies, 80);
	cold_fini(&l);
}

Test(cold_load, levels_are_told_apart)
{
	struct cold_loads l;

	cold_init(&l);
	for (int i = 0; i < 2; i++) {
		cold_note(&l, 4, LOAD_COPY, GB, GB);
		cold_note(&l, 4, LOAD_STREAM, GB, GB / 2);
		cold_note(&l, 1, LOAD_COPY, GB, GB / 8);
		cold_note(&l, 1, LOAD_STREAM, GB, GB / 4);
	}
	cr_assert_eq(cold_choose(&l, 4), LOAD_STREAM);
	cr_assert_eq(cold_choose(&l, 1), LOAD_COPY);
	cold_fini(&l);
}

Test(cold_load, time_zero_is_no_division)
{
	struct cold_loads l;

	cold_init(&l);
	cold_note(&l, LAYERS, LOAD_COPY, 1, 0);
	cold_note(&l, LAYERS, LOAD_COPY, 1, 0);
	cr_assert_eq(cold_choose(&l, LAYERS), LOAD_STREAM);
	cold_fini(&l);
}
