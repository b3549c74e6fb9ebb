/* SPDX-License-Identifier: MIT */
/* Least recently used, the baseline; and what stands in for the adaptive policy's table. */
#include "policy/lru.h"

#include "policy/heat.h"

static double lru_value(const struct policy_item *i)
{
	return (double)i->last_ns;
}

/* Everything that fits, as a page cache would. */
static bool lru_admit(const struct policy_read *r)
{
	return r->dram_bytes <= r->dram_limit / 2;
}

const struct policy_ops policy_lru = {
	.name = "lru",
	.help = "the least recently used context goes first",
	.value = lru_value,
	.admit = lru_admit,
};

/* Lost by removing it, per byte made free: hits that would compute it anew, which takes as long as
 * it is large. What was only written counts as one hit then, as in adaptive.h. */
static double adaptive_loss(const struct policy_item *i)
{
	double bytes = i->stored_bytes ? (double)i->stored_bytes : 1;
	double heat = i->heat > 0 ? heat_at(i->heat, i->heat_ns, i->now_ns, POLICY_HALF_NS) :
				    heat_at(1, i->last_ns, i->now_ns, POLICY_HALF_NS);

	return heat * (double)i->logical_bytes / bytes;
}

const struct policy_ops policy_adaptive = {
	.name = "adaptive",
	.help = "layers and places by what they save readers per byte",
	.plans = true,
	.value = adaptive_loss,
	.admit = lru_admit,
};
