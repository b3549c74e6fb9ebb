/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_POLICY_HEAT_H
#define KVCACHEFS_POLICY_HEAT_H
/*
 * How often a context is used: its hits, each counting half as much per half-life.
 * Two numbers, the heat and the time at which it holds (CLOCK_REALTIME), survive
 * restarts. A context read at a steady rate r has a heat of r x half-life / ln 2;
 * equally, heat is the number of hits to be expected over the next half-life / ln 2,
 * which is the horizon that all utilities of this policy are over.
 *
 * All heats decay by the same factor, so their order changes by hits alone: that is
 * what heat_log() gives, and why nothing has to be sorted again as time goes by.
 * Pure functions; a clock that went backwards counts as no time.
 */
#include <stdint.h>

/* The heat at @now_ns. Not finite or negative: 0 (the numbers come from a disk). */
double heat_at(double heat, uint64_t heat_ns, uint64_t now_ns, uint64_t half_ns);
/* The same after one hit more at @now_ns. */
double heat_hit(double heat, uint64_t heat_ns, uint64_t now_ns, uint64_t half_ns);
/* log2 of what the heat would be at time 0, the same whenever it is asked: larger is
 * hotter. -HUGE_VAL for none. */
double heat_log(double heat, uint64_t heat_ns, uint64_t half_ns);

#endif
