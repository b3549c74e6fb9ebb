/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_STORE_EVICT_H
#define KVCACHEFS_STORE_EVICT_H
/* Making room on SSD by removing files (full=evict), and what pins hold back. */
#include "store/store_types.h"

/* Evicts until @bytes are free: true when they are. @all_or_none: nothing goes when
 * it can be seen that all that could go would not do; else as far as it goes.
 * Never @keep_ino; with @worse nothing that is worth as much as that, nor what is pinned.
 * evict_lock held. */
bool evict_for(struct store *st, uint64_t bytes, uint64_t keep_ino, bool all_or_none, bool worse)
	REQUIRES(&st->evict_lock);
/* Evicts this file. -EBUSY when it is in use or pinned, -ENOENT. */
WUR int evict_one(struct store *st, uint64_t ino);

/* What pinned files may occupy and still be safe from eviction. */
uint64_t evict_pin_share(struct store *st);
/* May @bytes more be pinned? Counts them when they may. No gate held. */
WUR bool evict_pin_room(struct store *st, uint64_t bytes);
void evict_unpinned(struct store *st, uint64_t bytes);

#endif
