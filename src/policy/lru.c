/* SPDX-License-Identifier: MIT */
/* Least recently used: the baseline. */
#include "policy/lru.h"

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
