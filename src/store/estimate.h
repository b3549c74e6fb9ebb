/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_STORE_ESTIMATE_H
#define KVCACHEFS_STORE_ESTIMATE_H
/*
 * The samples of policy/quality.h, the first taken while a file is encoded, others when nobody
 * uses the mount (resample.c): rows of some heads of K and V, exact and at every level, as their
 * chunks pass by. Belongs to one thread.
 */
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "codecs/codec.h"
#include "layouts/layout.h"

struct estimate;
#define ESTIMATE_SAMPLES 4u

/* For a file of @l that is cut into @chunks (both borrowed) and has at most @levels levels,
 * exact included. Sample number @nth, below ESTIMATE_SAMPLES: 0 is that of quality.h, each further
 * one has other layers, heads and tokens as far as there are such. *ret_bytes: the memory
 * that it takes. -ENODATA: no layer has K and V of equal shape; -ENOMEM. */
WUR int estimate_create(const struct layout *l, const struct layout_chunk *chunks,
			uint32_t n_chunks, unsigned levels, unsigned nth, uint64_t *ret_bytes,
			struct estimate **ret);
void estimate_destroy(struct estimate *e); /* NULL ok */
/* Is anything of chunk @i in the sample? */
bool estimate_wants(const struct estimate *e, uint32_t i);
/* Chunk @i as it decodes at @level; at levels - 1 it is exact. */
void estimate_take(struct estimate *e, uint32_t i, unsigned level, const uint8_t *decoded);
/* The error of each level below exact, when all chunks have passed. */
void estimate_errors(struct estimate *e, float ret[CODEC_LAYERS_MAX]);

#endif
