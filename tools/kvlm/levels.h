/* SPDX-License-Identifier: MIT */
#ifndef KVLM_LEVELS_H
#define KVLM_LEVELS_H
/*
 * kvcachefs' own codec on tensors in memory: what a file that was stored as layers
 * gives back at a level, and how many bits that takes. Chunks are of LEVELS_TOKENS
 * tokens, coded by ladder-huf, the form for SSD; what it does not take stays exact.
 */
#include <stdbool.h>
#include <stdint.h>

#include "dtype.h"
#include "msg.h"

#define LEVELS_TOKENS 256u

/* The codec's levels; the last one is exact. */
unsigned levels_count(void);

struct levels;

/* For tensors of @heads x @dim values per cell, of type @t. */
WUR int levels_create(unsigned level, enum dtype t, uint32_t heads, uint32_t dim,
		      struct levels **ret, struct msg *m);
void levels_destroy(struct levels *l); /* NULL ok */
/* @x is [cells][heads][dim] and becomes what the level gives. */
WUR int levels_tensor(struct levels *l, float *x, uint32_t cells, uint32_t layer, bool v,
		      struct msg *m);
/* Mean bits per value so far: the level's layers and its index entries. */
double levels_bits(const struct levels *l);

#endif
