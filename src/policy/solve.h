/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_POLICY_SOLVE_H
#define KVCACHEFS_POLICY_SOLVE_H
/*
 * Which option of each context, so that both kinds of room suffice: a multiple-choice
 * knapsack with two budgets. Pure but for memory.
 *
 * The two budgets get prices per page; at given prices each context takes what is worth
 * most to it after paying, and the prices are sought at which the budgets just
 * suffice. That is the Lagrangian dual of the linear relaxation (equal to it, so its
 * value at any prices is an upper bound: "LP bound"), and what the greedy on
 * convex hulls by marginal utility per byte does when there is one budget (Sinha and
 * Zoltners 1979; AdaptCache and EVICPRESS use that greedy tier by tier). Two budgets
 * make one more search, not another algorithm: both are priced at once, because
 * what is on SSD limits what can be in memory.
 *
 * At those prices one or two contexts are undecided between options. Room that is left is given out
 * by gain per price paid, and the least decided contexts are settled among themselves
 * by branch and bound, which makes small instances nearly always exact.
 */
#include <stdbool.h>

#include "base/err.h"
#include "policy/cost.h"

struct solve_problem {
	const struct cost_option *opt; /* of context i: opt[first[i]] to opt[first[i + 1]] - 1 */
	const uint32_t *first;         /* n + 1; every context has at least one option */
	uint32_t n;
	uint64_t ssd_pages, dram_pages;
};

struct solve_result {
	double value; /* of what was picked: sum of the options' */
	double bound; /* of no solution is it larger (with the budgets as widened) */
	double ssd_price, dram_price; /* per page; 0: that budget does not matter */
	uint64_t ssd, dram;           /* pages taken */
	bool fits; /* false: the least of all options is more than a budget, which
				   * was widened to that least */
};

/* ret_pick[i]: index within the options of context i; room for n. 0; -ENOMEM. */
WUR int solve_run(const struct solve_problem *p, uint32_t *ret_pick, struct solve_result *ret);
/* The bound at any prices >= 0 (weak duality): for checking. */
double solve_bound_at(const struct solve_problem *p, double ssd_price, double dram_price);

#endif
