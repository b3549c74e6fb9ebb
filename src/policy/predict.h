/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_POLICY_PREDICT_H
#define KVCACHEFS_POLICY_PREDICT_H
/*
 * What budgets would give, without running anything: for "kvcachectl plan". The load is a list of
 * contexts and how often each is read. Pure functions.
 *
 * The adaptive policy is predicted as the best plan for that load (solve.h), so as one that knows the
 * popularity; a running one has to learn it. Least recently used is predicted by Che's
 * approximation (Che, Tung, Wang 2002): independent reads, and a context stays in memory for
 * one characteristic time after a read, that in which what is read fills the memory.
 */
#include "policy/adaptive.h"
#include "policy/policy.h"

struct predict {
	double hit_share;  /* of reads, from memory alone */
	double part_share; /* of reads, partly from memory */
	double gone_share; /* of reads, of contexts that were removed */
	double delay_s;    /* mean */
	double quality;    /* mean */
	uint64_t dram_bytes, ssd_bytes;
	double value, bound; /* as struct solve_result; adaptive only */
	bool fits;
};

struct predict_load {
	const struct cost_item *it; /* heat: reads, at any common time; checked (cost_item_check) */
	uint32_t n;
	struct cost_rates rates;
	struct cost_params params;
	uint64_t dram_bytes, ssd_bytes;
};

WUR int predict_adaptive(const struct predict_load *l, struct predict *ret); /* -ENOMEM */
/* As lru or fixed:LEVEL (@p, not one that plans): what readers get is in memory in the faster
 * packing; what does not fit on SSD is removed when may_remove, least recently used first too. */
void predict_lru(const struct predict_load *l, const struct policy_ops *p, struct predict *ret);
/* The level that such a policy reads @it at. */
unsigned predict_level(const struct policy_ops *p, const struct cost_item *it);

/* One read, of the @ctx-th context. */
struct predict_access {
	uint64_t t_ns;
	uint32_t ctx;
};
/* Sets the heats to the numbers of reads. Accesses of contexts >= n are left out. */
void predict_count(struct cost_item *it, uint32_t n, const struct predict_access *a, uint64_t n_a);

#endif
