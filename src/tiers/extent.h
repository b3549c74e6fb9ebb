/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_TIERS_EXTENT_H
#define KVCACHEFS_TIERS_EXTENT_H
/*
 * A set of disjoint free extents of an address range, for the arena: best fit
 * and merging with neighbours, both in O(log n). Nodes belong to the caller,
 * who keeps spares in a list, so that adding never fails. Not thread-safe.
 */
#include <stdint.h>

struct extent {
	uint64_t off, len;
	/* private to the set: two treaps, [0] by offset, [1] by length */
	struct extent *left[2], *right[2];
	uint64_t prio;
};

struct extent_set {
	struct extent *root[2];
	uint64_t count, bytes;
};
#define EXTENT_SET_INIT { { NULL, NULL }, 0, 0 }

/* The shortest extent of at least @len, of several the first; NULL: none. */
struct extent *extent_set_best(const struct extent_set *s, uint64_t len);
/* The first extent by offset; NULL when empty. */
struct extent *extent_set_first(const struct extent_set *s);
/* Adds [@e->off, +@e->len), which must not overlap the set, and merges it with
 * extents it touches. Nodes no longer needed go to @spare. */
void extent_set_add(struct extent_set *s, struct extent *e, struct extent **spare);
void extent_set_remove(struct extent_set *s, struct extent *e);

/* A list of unused nodes. */
void extent_spare_push(struct extent **spare, struct extent *e);
struct extent *extent_spare_pop(struct extent **spare); /* NULL: empty */

#endif
