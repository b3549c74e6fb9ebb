/* SPDX-License-Identifier: MIT */
/*
 * One level for every reader of a file with a grant: what adaptive policies have to
 * beat, and a way out of them. Nothing is dropped. In all else as lru.
 */
#include "policy/fixed.h"

#include "policy/lru.h"

static double fixed_value(const struct policy_item *i)
{
	return policy_lru.value(i);
}

static bool fixed_admit(const struct policy_read *r)
{
	return policy_lru.admit(r);
}

/* The level asked for, or the next one that is good enough. */
static unsigned fixed_layers(const struct policy_ops *p, const struct policy_levels *l)
{
	unsigned n = p->level + 1;

	while (n < l->n && l->quality[n - 1] < l->floor)
		n++;
	return n < l->n ? n : l->n;
}

#define FIXED(k)                                                            \
	[k] = {                                                             \
		.name = "fixed:" #k,                                        \
		.help = "files with a grant are read at level " #k,         \
		.level = k,                                                 \
		.value = fixed_value,                                       \
		.admit = fixed_admit,                                       \
		.layers = fixed_layers,                                     \
	}

const struct policy_ops policy_fixed[POLICY_FIXED_LEVELS] = {
	FIXED(0), FIXED(1), FIXED(2), FIXED(3), FIXED(4), FIXED(5), FIXED(6),
};
