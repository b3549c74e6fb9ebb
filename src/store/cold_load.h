/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_STORE_COLD_LOAD_H
#define KVCACHEFS_STORE_COLD_LOAD_H
/*
 * Which way a whole file comes from SSD faster on this machine: decoded into a
 * copy while it is opened and then read natively, or decoded while it is read.
 * The first takes far less processor time per byte, the second overlaps reading
 * and the device; which of these counts depends on cores, device and reader. So
 * both are tried, open to close is timed, and the faster one is used; the other
 * one has its turn again now and then, or at once when the used one's speed
 * changes by much (another load on the device, a throttle).
 *
 * Thread-safe; never blocks for long.
 */
#include <stdbool.h>
#include <stdint.h>

#include "base/lock.h"

enum load_way { LOAD_STREAM, LOAD_COPY, LOAD_WAYS };

struct cold_loads {
	struct lock lock;
	double Bps[LOAD_WAYS] GUARDED; /* average; 0: not known */
	unsigned turns GUARDED;        /* decisions so far */
};

void cold_init(struct cold_loads *l);
void cold_fini(struct cold_loads *l);
/* The way that the next whole load from SSD should take. */
enum load_way cold_choose(struct cold_loads *l);
/* A file of @bytes was loaded from open to close in @ns. */
void cold_note(struct cold_loads *l, enum load_way way, uint64_t bytes, uint64_t ns);

#endif
