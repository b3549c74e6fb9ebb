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
 * stays changed by much (another load on the device, a throttle). Files are told apart by
 * how many layers are read. Readers beside each other hinder the second way more: it must be
 * clearly faster. What counts is how fast a way is when nothing is in its way: a
 * load that takes longer says more about what else went on.
 *
 * Thread-safe; never blocks for long.
 */
#include <stdbool.h>
#include <stdint.h>

#include "base/lock.h"

enum load_way { LOAD_STREAM, LOAD_COPY, LOAD_WAYS };

#define COLD_LAYERS_MAX 8u

/* Of files of which so many layers are read. */
struct cold_class {
	double Bps[LOAD_WAYS];  /* 0: not known */
	unsigned seen[LOAD_WAYS]; /* loads, as far as they matter */
	unsigned off[LOAD_WAYS]; /* in a row that were far from the figure */
	unsigned turns;         /* decisions so far */
};

struct cold_loads {
	struct lock lock;
	struct cold_class of[COLD_LAYERS_MAX] GUARDED; /* lock */
};

void cold_init(struct cold_loads *l);
void cold_fini(struct cold_loads *l);
/* The way that the next whole load of @layers from SSD should take. */
enum load_way cold_choose(struct cold_loads *l, unsigned layers);
/* @layers of a file of @bytes decoded were loaded from open to close in @ns. */
void cold_note(struct cold_loads *l, unsigned layers, enum load_way way, uint64_t bytes,
	       uint64_t ns);

#endif
