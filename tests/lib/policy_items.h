/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_TESTS_POLICY_ITEMS_H
#define KVCACHEFS_TESTS_POLICY_ITEMS_H
/* Contexts and rates for tests of the policy, from a seed. */
#include "policy/cost.h"

/* A device of 1 GB/s and decoders as on a server core or two. */
void policy_rates(struct cost_rates *ret);

struct policy_mix {
	uint32_t pages_min, pages_max; /* decoded size, log-uniform */
	unsigned layered_pct;          /* with 4 levels, others exact in one layer */
	unsigned lossy_pct;            /* of those, with a floor below 1 */
	unsigned special_pct;          /* pinned, vetoed, in use, exact layers lost */
	double zipf;                   /* heat of the i-th is ~ (1 + i)^-zipf, shuffled */
	bool placed;                   /* some are in memory already */
};

/* The @i-th of @n, all its numbers from @seed. It lies on SSD with all it has. */
void policy_item_make(struct cost_item *it, const struct policy_mix *mix, unsigned i, unsigned n,
		      uint64_t *seed);

#endif
