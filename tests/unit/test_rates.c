/* SPDX-License-Identifier: MIT */
/* Measured rates: what was seen counts, what was not comes from its nearest neighbour. */
#include <criterion/criterion.h>

#include "codecs/codec.h"
#include "store/rates.h"

#define MIB (1u << 20)

static struct cost_rates now(struct rates *r)
{
	struct cost_rates c;

	rates_get(r, 0, 0, &c);
	return c;
}

Test(rates, nothing_is_unknown)
{
	struct rates r;
	struct cost_rates c;

	rates_init(&r, 4);
	c = now(&r);
	cr_assert(c.ssd_Bps > 0 && c.ssd_latency_s > 0 && c.dram_latency_s > 0);
	cr_assert(c.copy_Bps > 0 && c.copy_latency_s > 0 && c.recode_Bps > 0);
	for (unsigned i = 0; i < COST_CLASSES; i++)
		for (unsigned p = 0; p < COST_PATHS; p++)
			for (unsigned k = 0; k < COST_PACKINGS; k++)
				for (unsigned l = 0; l < COST_LEVELS_MAX; l++)
					cr_assert_gt(c.decode_Bps[i][p][k][l], 0);
	rates_fini(&r);
}

Test(rates, what_was_seen_counts)
{
	struct rates r;
	struct cost_rates c;

	rates_init(&r, 4);
	/* 1 MiB in 1 ms, from layers 0 and 1 */
	rates_decoded(&r, CODEC_LADDER_HUF, 2, MIB, 1000000);
	rates_decoded(&r, CODEC_LADDER_HUF, 2, 100, 1); /* too short to be timed */
	c = now(&r);
	cr_assert_float_eq(c.decode_Bps[COST_CLASS_LADDER][COST_PATH_STREAM][COST_PACK_SSD][1],
			   MIB * 1e3, 1);
	cr_assert_float_eq(c.decode_Bps[COST_CLASS_LADDER][COST_PATH_STREAM][COST_PACK_SSD][3],
			   MIB * 1e3, 1, "the nearest level");
	cr_assert_gt(c.decode_Bps[COST_CLASS_LADDER][COST_PATH_OPEN][COST_PACK_SSD][1], MIB * 1e3,
		     "more threads");
	rates_get(&r, 1e9, 2e5, &c);
	cr_assert_float_eq(c.ssd_Bps, 1e9, 1);
	cr_assert_geq(c.ssd_latency_s, 2e-4);
	rates_fini(&r);
}

/* A packing that no plan has chosen is never seen: it must not be thought slow for that. */
Test(rates, an_unseen_packing_is_as_fast_beside_the_other_as_elsewhere)
{
	struct rates r;
	struct cost_rates c;
	double (*Bps)[COST_LEVELS_MAX];

	rates_init(&r, 2);
	rates_decoded_open(&r, CODEC_LADDER_HUF, 2, MIB, 100000, true);
	c = now(&r);
	Bps = c.decode_Bps[COST_CLASS_LADDER][COST_PATH_OPEN];
	cr_assert_float_eq(Bps[COST_PACK_SSD][1], MIB * 1e4, 1);
	cr_assert_geq(Bps[COST_PACK_DRAM][1], 1.5 * MIB * 1e4);
	rates_decoded_open(&r, CODEC_LADDER_FIX, 2, MIB, 80000, true);
	c = now(&r);
	cr_assert_float_eq(Bps[COST_PACK_DRAM][1], MIB * 1.25e4, 1, "now it was seen");
	rates_fini(&r);
}

Test(rates, a_device_hides_how_fast_decoding_is)
{
	struct rates r;
	double *Bps;
	struct cost_rates c;

	rates_init(&r, 1);
	Bps = &c.decode_Bps[COST_CLASS_PLANES][COST_PATH_OPEN][COST_PACK_DRAM][0];
	rates_decoded_open(&r, CODEC_PLANES_FIX, 1, MIB, 1000000, true);
	rates_decoded_open(&r, CODEC_PLANES_FIX, 1, MIB, 9000000, false);
	c = now(&r);
	cr_assert_float_eq(*Bps, MIB * 1e3, 1, "it waited for the device");
	rates_decoded_open(&r, CODEC_PLANES_FIX, 1, MIB, 100000, false);
	c = now(&r);
	cr_assert_gt(*Bps, MIB * 1e3, "at least so fast");
	rates_fini(&r);
}

Test(rates, noise_does_not_turn_the_order_round)
{
	struct rates r;
	struct cost_rates c;
	double (*Bps)[COST_LEVELS_MAX];

	rates_init(&r, 1);
	rates_decoded(&r, CODEC_LADDER_HUF, 1, MIB, 1000000);
	rates_decoded(&r, CODEC_LADDER_HUF, 2, MIB, 900000);
	rates_decoded(&r, CODEC_LADDER_FIX, 1, MIB, 3000000); /* somebody else had the processor */
	c = now(&r);
	Bps = c.decode_Bps[COST_CLASS_LADDER][COST_PATH_STREAM];
	cr_assert_geq(Bps[COST_PACK_SSD][0], Bps[COST_PACK_SSD][1]);
	cr_assert_geq(Bps[COST_PACK_DRAM][0], Bps[COST_PACK_SSD][0]);
	cr_assert_geq(Bps[COST_PACK_DRAM][1], Bps[COST_PACK_SSD][1]);
	rates_fini(&r);
}

Test(rates, one_stall_is_no_rate)
{
	struct rates r;
	struct cost_rates c;

	rates_init(&r, 1);
	rates_copied(&r, MIB, 1000000000); /* a second of nothing, then 1 ms each */
	for (int i = 0; i < 9; i++)
		rates_copied(&r, MIB, 1000000);
	c = now(&r);
	cr_assert_float_eq(c.copy_Bps, MIB * 1e3, MIB * 1e2);
	rates_fini(&r);
}

Test(rates, growth)
{
	struct rates r;

	rates_init(&r, 1);
	cr_assert_gt(rates_growth(&r, COST_CLASS_LADDER), 1);
	rates_grown(&r, COST_CLASS_LADDER, 100, 150);
	cr_assert_float_eq(rates_growth(&r, COST_CLASS_LADDER), 1.5, 1e-9);
	rates_fini(&r);
}
