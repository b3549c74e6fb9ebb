/* SPDX-License-Identifier: MIT */
#include "kv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kernels.h"

static int kv_alloc(struct kv *kv, struct msg *m)
{
	size_t heads = (size_t)kv->n_layer * kv->n_kv_head;

	kv->dim_panels = (kv->head_dim + PANEL - 1) / PANEL;
	kv->k_head = (size_t)kv->capacity * kv->head_dim;
	kv->v_head = (size_t)kv->capacity * kv->dim_panels * PANEL;
	kv->pos = calloc(kv->capacity, sizeof(*kv->pos));
	kv->tokens = calloc(kv->cap_tokens + 1, sizeof(*kv->tokens));
	kv->k = calloc(heads * kv->k_head, sizeof(float));
	kv->v = calloc(heads * kv->v_head, sizeof(float));
	if (!kv->pos || !kv->tokens || !kv->k || !kv->v)
		return msg_fail(m, -ENOMEM, "out of memory for a cache of %u tokens",
				kv->cap_tokens);
	return 0;
}

int kv_create(const struct model_shape *s, enum dtype t, uint32_t tokens, struct kv **ret,
	      struct msg *m)
{
	struct kv *kv = calloc(1, sizeof(*kv));
	int r;

	if (!kv)
		return msg_fail(m, -ENOMEM, "out of memory");
	kv->n_layer = s->n_layer;
	kv->n_kv_head = s->n_kv_head;
	kv->head_dim = s->head_dim;
	kv->dtype = t;
	kv->capacity = (tokens + PANEL) / PANEL * PANEL;
	kv->cap_tokens = tokens;
	r = kv_alloc(kv, m);
	if (r) {
		kv_destroy(kv);
		return r;
	}
	*ret = kv;
	return 0;
}

void kv_destroy(struct kv *kv)
{
	if (!kv)
		return;
	free(kv->pos);
	free(kv->tokens);
	free(kv->k);
	free(kv->v);
	free(kv);
}

int kv_clone(const struct kv *kv, struct kv **ret, struct msg *m)
{
	struct kv *c = malloc(sizeof(*c));
	size_t heads = (size_t)kv->n_layer * kv->n_kv_head;
	int r;

	if (!c)
		return msg_fail(m, -ENOMEM, "out of memory");
	*c = *kv;
	r = kv_alloc(c, m);
	if (r) {
		kv_destroy(c);
		return r;
	}
	memcpy(c->pos, kv->pos, kv->capacity * sizeof(*kv->pos));
	memcpy(c->tokens, kv->tokens, kv->cap_tokens * sizeof(*kv->tokens));
	memcpy(c->k, kv->k, heads * kv->k_head * sizeof(float));
	memcpy(c->v, kv->v, heads * kv->v_head * sizeof(float));
	*ret = c;
	return 0;
}

void kv_truncate(struct kv *kv, uint32_t n_cells, uint32_t n_tokens)
{
	const float zero[KV_MAX_HEAD_DIM] = { 0 };

	/* the kernels read whole panels: what is beyond the end must be zero */
	for (uint32_t l = 0; l < kv->n_layer; l++)
		for (uint32_t h = 0; h < kv->n_kv_head; h++)
			for (uint32_t c = n_cells; c < kv->n_cells; c++) {
				kv_put_k(kv, l, h, c, zero);
				kv_put_v(kv, l, h, c, zero);
			}
	kv->n_cells = n_cells;
	kv->n_tokens = n_tokens;
}

static float rounded(enum dtype t, float x)
{
	if (t == DTYPE_BF16)
		return bf16_to_f32(f32_to_bf16(x));
	if (t == DTYPE_F16)
		return f16_to_f32(f32_to_f16(x));
	return x;
}

void kv_put_k(struct kv *kv, uint32_t layer, uint32_t head, uint32_t cell, const float *row)
{
	float *p = kv_k(kv, layer, head) + (size_t)(cell / PANEL) * kv->head_dim * PANEL +
		   cell % PANEL;

	for (uint32_t d = 0; d < kv->head_dim; d++)
		p[(size_t)d * PANEL] = rounded(kv->dtype, row[d]);
}

void kv_put_v(struct kv *kv, uint32_t layer, uint32_t head, uint32_t cell, const float *row)
{
	float *p = kv_v(kv, layer, head) + (size_t)cell * PANEL;

	for (uint32_t d = 0; d < kv->head_dim; d++)
		p[(size_t)(d / PANEL) * kv->capacity * PANEL + d % PANEL] = rounded(kv->dtype,
										    row[d]);
}

void kv_get_k(const struct kv *kv, uint32_t layer, uint32_t head, uint32_t cell, float *row)
{
	const float *p = kv_k(kv, layer, head) + (size_t)(cell / PANEL) * kv->head_dim * PANEL +
			 cell % PANEL;

	for (uint32_t d = 0; d < kv->head_dim; d++)
		row[d] = p[(size_t)d * PANEL];
}

void kv_get_v(const struct kv *kv, uint32_t layer, uint32_t head, uint32_t cell, float *row)
{
	const float *p = kv_v(kv, layer, head) + (size_t)cell * PANEL;

	for (uint32_t d = 0; d < kv->head_dim; d++)
		row[d] = p[(size_t)(d / PANEL) * kv->capacity * PANEL + d % PANEL];
}
