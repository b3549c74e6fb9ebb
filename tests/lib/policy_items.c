/* SPDX-License-Identifier: MIT */
#include "policy_items.h"

#include <math.h>
#include <string.h>

#include "testlib.h"

#define GBps 1e9

void policy_rates(struct cost_rates *ret)
{
	/* by level: 2, 4, 8 bits, exact */
	static const double dram[] = { 20, 20, 15, 8 }, ssd[] = { 5, 5, 5, 3 };
	struct cost_rates r = { .ssd_latency_s = 200e-6,
				.ssd_Bps = 1 * GBps,
				.dram_latency_s = 30e-6,
				.copy_latency_s = 10e-6,
				.copy_Bps = 25 * GBps,
				.recode_Bps = 2 * GBps };

	for (unsigned c = 0; c < COST_CLASSES; c++)
		for (unsigned p = 0; p < COST_PATHS; p++)
			for (unsigned l = 0; l < COST_LEVELS_MAX; l++) {
				unsigned i = c == COST_CLASS_LADDER && l < 4 ? l : 3;

				r.decode_Bps[c][p][COST_PACK_DRAM][l] = dram[i] * GBps;
				r.decode_Bps[c][p][COST_PACK_SSD][l] = ssd[i] * GBps;
			}
	*ret = r;
}

static double unit(uint64_t *seed)
{
	return (double)(test_rand(seed) >> 11) / 9007199254740992.0;
}

static bool chance(uint64_t *seed, unsigned pct)
{
	return test_rand(seed) % 100 < pct;
}

static uint32_t part(uint32_t pages, double share)
{
	uint32_t n = (uint32_t)ceil(pages * share);

	return n ? n : 1;
}

static void special(struct cost_item *it, uint64_t *seed)
{
	switch (test_rand(seed) % 4) {
	case 0:
		it->flags |= COST_PINNED;
		break;
	case 1:
		it->flags |= COST_VETO;
		break;
	case 2:
		it->flags |= COST_BUSY;
		break;
	default:
		if (it->levels > 1 && it->floor < 1)
			it->now.stored = (uint8_t)(1 + test_rand(seed) % (it->levels - 1u));
		it->now.level = it->now.stored - 1u;
	}
}

static void place(struct cost_item *it, uint64_t *seed)
{
	it->now.packing = test_rand(seed) % COST_PACKINGS;
	it->now.dram = (uint8_t)(test_rand(seed) % (it->now.stored + 1u));
	it->now.copy = chance(seed, 20);
}

void policy_item_make(struct cost_item *it, const struct policy_mix *mix, unsigned i, unsigned n,
		      uint64_t *seed)
{
	static const float floors[] = { 0, 0.8f, 0.95f, 0.99f };
	double lo = mix->pages_min, hi = mix->pages_max, rank = (double)((i * 7919ull) % n);
	uint32_t pages = (uint32_t)(lo * pow(hi / lo, unit(seed)));
	bool layered = chance(seed, mix->layered_pct);

	memset(it, 0, sizeof(*it));
	it->id = i + 1;
	it->heat = pow(1 + rank, -mix->zipf) * (0.5 + unit(seed)) * 20;
	it->decoded_pages = pages;
	it->recompute_s = chance(seed, 30) ? -1
					   : (float)(pages * 4096.0 / GBps * (1 + 5 * unit(seed)));
	it->floor = 1;
	it->levels = 1;
	it->class = COST_CLASS_PLANES;
	it->path = test_rand(seed) % COST_PATHS;
	it->layer_pages[0] = part(pages, 0.66 + 0.1 * unit(seed));
	it->base_pages = part(pages, 0.75);
	it->quality[0] = 1;
	if (layered) {
		double q = 0.5 + 0.45 * unit(seed);

		it->levels = 4;
		it->class = COST_CLASS_LADDER;
		it->layer_pages[0] = part(pages, 0.12 + 0.04 * unit(seed));
		it->base_pages = part(pages, 0.17);
		it->layer_pages[1] = part(pages, 0.125);
		it->layer_pages[2] = part(pages, 0.25);
		it->layer_pages[3] = part(pages, 0.12 + 0.1 * unit(seed));
		for (unsigned l = 0; l < 4; l++, q += (1 - q) * (0.7 + 0.3 * unit(seed)))
			it->quality[l] = l == 3 ? 1 : (float)q;
		if (chance(seed, mix->lossy_pct))
			it->floor = floors[test_rand(seed) % 4];
	}
	it->now.stored = it->levels;
	it->now.level = it->levels - 1u;
	if (mix->placed && chance(seed, 50))
		place(it, seed);
	if (chance(seed, mix->special_pct))
		special(it, seed);
	if (it->now.dram > it->now.stored)
		it->now.dram = it->now.stored;
}
