/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_BASE_CLOCK_H
#define KVCACHEFS_BASE_CLOCK_H
#include <stdint.h>

#define NSEC_PER_SEC 1000000000ull
#define NSEC_PER_MSEC 1000000ull

/* CLOCK_MONOTONIC in ns. */
uint64_t clock_mono_ns(void);
/* CLOCK_REALTIME in ns since the epoch. */
uint64_t clock_real_ns(void);
/* CPU time of the calling thread in ns. */
uint64_t clock_thread_cpu_ns(void);

#endif
