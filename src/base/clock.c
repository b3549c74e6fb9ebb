/* SPDX-License-Identifier: MIT */
/* The three clocks as nanoseconds. They cannot fail on Linux. */
#include "base/clock.h"

#include <time.h>

static uint64_t clock_get(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

uint64_t clock_mono_ns(void)
{
	return clock_get(CLOCK_MONOTONIC);
}

uint64_t clock_real_ns(void)
{
	return clock_get(CLOCK_REALTIME);
}

uint64_t clock_thread_cpu_ns(void)
{
	return clock_get(CLOCK_THREAD_CPUTIME_ID);
}
