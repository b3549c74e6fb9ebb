/* SPDX-License-Identifier: MIT */
#include "estimate.h"

#include <errno.h>
#include <stdlib.h>

#include "levels.h"
#include "policy/quality.h"

struct sample {
	uint32_t cell[QUALITY_TOKENS];
	uint32_t n;
	struct quality_work work;
	float k[QUALITY_TOKENS * KV_MAX_HEAD_DIM], v[QUALITY_TOKENS * KV_MAX_HEAD_DIM];
	float k2[QUALITY_TOKENS * KV_MAX_HEAD_DIM], v2[QUALITY_TOKENS * KV_MAX_HEAD_DIM];
};

static void choose_cells(struct sample *s, uint32_t cells)
{
	uint64_t at[QUALITY_RUNS];
	unsigned runs = quality_spread((cells + LEVELS_TOKENS - 1) / LEVELS_TOKENS, QUALITY_RUNS, at);

	s->n = 0;
	if (cells <= QUALITY_TOKENS)
		for (; s->n < cells; s->n++)
			s->cell[s->n] = s->n;
	else
		for (unsigned r = 0; r < runs; r++)
			for (uint32_t i = 0; i < QUALITY_RUN; i++)
				if (at[r] * LEVELS_TOKENS + i < cells)
					s->cell[s->n++] = (uint32_t)at[r] * LEVELS_TOKENS + i;
}

/* The sampled cells of one head; only the first QUALITY_DIM_MAX of its values. */
static struct quality_head load(const struct sample *s, const struct kv *kv, uint32_t layer,
				uint32_t head, float *k, float *v)
{
	uint32_t dim = kv->head_dim < QUALITY_DIM_MAX ? kv->head_dim : QUALITY_DIM_MAX;

	/* rows are written one after the other: what a longer head has more is overwritten */
	for (uint32_t t = 0; t < s->n; t++) {
		kv_get_k(kv, layer, head, s->cell[t], k + (size_t)t * dim);
		kv_get_v(kv, layer, head, s->cell[t], v + (size_t)t * dim);
	}
	return (struct quality_head){ s->n, dim, k, v };
}

int estimate_error(const struct kv *exact, const struct kv *lossy, double *ret, struct msg *m)
{
	struct sample *s = malloc(sizeof(*s));
	uint64_t layers[QUALITY_LAYERS];
	unsigned n = quality_spread(exact->n_layer, QUALITY_LAYERS, layers);
	double sum = 0;

	if (!s)
		return msg_fail(m, -ENOMEM, "out of memory");
	choose_cells(s, exact->n_cells);
	for (unsigned i = 0; i < n; i++) {
		uint32_t layer = (uint32_t)layers[i], head = i % exact->n_kv_head;
		struct quality_head a = load(s, exact, layer, head, s->k, s->v);
		struct quality_head b = load(s, lossy, layer, head, s->k2, s->v2);

		quality_exact(&s->work, &a);
		sum += quality_error(&s->work, &b);
	}
	*ret = n ? sum / n : 0;
	free(s);
	return 0;
}
