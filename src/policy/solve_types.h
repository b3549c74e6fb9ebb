/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_POLICY_SOLVE_TYPES_H
#define KVCACHEFS_POLICY_SOLVE_TYPES_H
/* Between solve.c and solve_core.c. */
#include "policy/solve.h"

/* The least that a context can take of either. */
struct solve_base {
	uint32_t ssd, dram;
};

/* What all contexts take at some prices, beyond that. */
struct solve_look {
	double ssd_price, dram_price;
	double reduced; /* value less what is paid */
	double value;
	uint64_t ssd, dram;
};

/* A pick being improved; it fits all the time. */
struct solve_work {
	const struct solve_problem *p;
	uint32_t *pick; /* the caller's */
	uint64_t ssd_room, dram_room;
	double ssd_price, dram_price;
	double value;
	uint64_t ssd, dram; /* taken */
};

/* Above this many contexts settling a few of them changes nothing that shows. */
#define SOLVE_CORE_MAX 8192u

void solve_set(struct solve_work *w, uint32_t ctx, uint32_t opt);
/* value, ssd and dram from the pick. */
void solve_sum(struct solve_work *w);
/* Settles the least decided contexts exactly, or as far as a bounded search gets. 0; -ENOMEM,
 * with the pick as it was. */
WUR int solve_core(struct solve_work *w);

#endif
