/* SPDX-License-Identifier: MIT */
#ifndef KVLM_KV_H
#define KVLM_KV_H
/*
 * A KV cache in memory. Values are kept as f32 in the kernels' order, but each
 * is rounded to the cache's type when it is written: attention reads exactly
 * what a file would hold, so continuing from a file and continuing without one
 * give the same bits.
 *
 * A cell is one cached token. Cells are in order of position; positions may
 * have gaps (a cache that dropped tokens), and the next token's position is
 * n_tokens, the length of the context, whatever was dropped.
 */
#include <stdint.h>

#include "dtype.h"
#include "model.h"
#include "msg.h"

#define KV_MAX_HEAD_DIM 1024

struct kv {
	uint32_t n_layer, n_kv_head, head_dim;
	uint32_t dim_panels; /* of 32, of head_dim */
	enum dtype dtype;
	uint32_t capacity; /* cells; a multiple of 32 */
	uint32_t n_cells;
	uint32_t n_tokens; /* of the context, dropped ones included */
	uint32_t cap_tokens;
	int32_t *pos;    /* owned; [capacity], ascending */
	int32_t *tokens; /* owned; [cap_tokens] */
	/* owned; per layer and head [capacity / 32][head_dim][32], zero beyond n_cells */
	float *k;
	/* owned; per layer and head [dim_panels][capacity][32], zero beyond n_cells */
	float *v;
	size_t k_head, v_head; /* floats of one head of one layer */
};

/* An empty cache for @tokens tokens of context. */
WUR int kv_create(const struct model_shape *s, enum dtype t, uint32_t tokens, struct kv **ret,
		  struct msg *m);
void kv_destroy(struct kv *kv); /* NULL ok */
/* A copy with the same contents. */
WUR int kv_clone(const struct kv *kv, struct kv **ret, struct msg *m);
/* Back to the first @n_cells cells and @n_tokens tokens, as if the later had
 * never been there. */
void kv_truncate(struct kv *kv, uint32_t n_cells, uint32_t n_tokens);

static inline float *kv_k(const struct kv *kv, uint32_t layer, uint32_t head)
{
	return kv->k + ((size_t)layer * kv->n_kv_head + head) * kv->k_head;
}

static inline float *kv_v(const struct kv *kv, uint32_t layer, uint32_t head)
{
	return kv->v + ((size_t)layer * kv->n_kv_head + head) * kv->v_head;
}

/* One head's row of one cell: @row is [head_dim] f32, rounded on the way in. */
void kv_put_k(struct kv *kv, uint32_t layer, uint32_t head, uint32_t cell, const float *row);
void kv_put_v(struct kv *kv, uint32_t layer, uint32_t head, uint32_t cell, const float *row);
void kv_get_k(const struct kv *kv, uint32_t layer, uint32_t head, uint32_t cell, float *row);
void kv_get_v(const struct kv *kv, uint32_t layer, uint32_t head, uint32_t cell, float *row);

#endif
