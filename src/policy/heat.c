/* SPDX-License-Identifier: MIT */
/* Decayed hit counts. */
#include "policy/heat.h"

#include <math.h>

double heat_at(double heat, uint64_t heat_ns, uint64_t now_ns, uint64_t half_ns)
{
	if (!isfinite(heat) || heat <= 0)
		return 0;
	if (now_ns <= heat_ns || half_ns == 0)
		return heat;
	return heat * exp2(-(double)(now_ns - heat_ns) / (double)half_ns);
}

double heat_hit(double heat, uint64_t heat_ns, uint64_t now_ns, uint64_t half_ns)
{
	return heat_at(heat, heat_ns, now_ns, half_ns) + 1;
}

double heat_log(double heat, uint64_t heat_ns, uint64_t half_ns)
{
	if (!isfinite(heat) || heat <= 0)
		return -HUGE_VAL;
	return log2(heat) + (half_ns ? (double)heat_ns / (double)half_ns : 0);
}
