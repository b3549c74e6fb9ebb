/* SPDX-License-Identifier: MIT */
#include "thin.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/elem.h"
#include "codecs/drop.h"

/* Either form of a cache, shown row by row. */
struct source {
	const struct cache *file;
	const struct kv *kv;
	const int32_t *pos;
	uint32_t n_cells, n_layer, heads, dim;
};

static void get_key(const struct source *s, uint32_t layer, uint32_t cell, float *row)
{
	if (s->file) {
		cache_get_row(s->file, layer, false, cell, row);
		return;
	}
	for (uint32_t h = 0; h < s->heads; h++)
		kv_get_k(s->kv, layer, h, cell, row + (size_t)h * s->dim);
}

static void score_layer(const struct quant *q, const struct source *s, uint32_t layer, double *work,
			float *row, struct drop_cell *cells)
{
	struct drop_layer l;

	drop_layer_init(&l, q->drop.method, ELEM_F32, s->heads * s->dim, s->dim, work);
	for (uint32_t t = 0; t < s->n_cells; t++) {
		get_key(s, layer, t, row);
		drop_measure(&l, row, 1);
	}
	for (uint32_t t = 0; t < s->n_cells; t++) {
		get_key(s, layer, t, row);
		drop_score(&l, row, 1, &cells[t]);
	}
}

static int choose(const struct quant *q, const struct source *s, uint32_t **ret, uint32_t *ret_n,
		  struct msg *m)
{
	uint32_t keep = quant_cells(q, s->n_cells);
	double *work = malloc(drop_work_len(s->heads * s->dim, s->dim) * sizeof(*work));
	float *row = malloc((size_t)s->heads * s->dim * sizeof(*row));
	struct drop_cell *cells = malloc(s->n_cells * sizeof(*cells));
	uint32_t *kept = malloc(keep * sizeof(*kept));
	int r = 0;

	if (!work || !row || !cells || !kept) {
		free(kept);
		r = msg_fail(m, -ENOMEM, "out of memory");
	} else {
		drop_init(cells, s->pos, s->n_cells);
		for (uint32_t i = 0; q->drop.method != DROP_WINDOW && i < s->n_layer; i++)
			score_layer(q, s, i, work, row, cells);
		drop_select(&q->drop, cells, s->n_cells, keep, kept);
		*ret = kept;
		*ret_n = keep;
	}
	free(work);
	free(row);
	free(cells);
	return r;
}

int thin_choose(const struct quant *q, const struct cache *c, uint32_t heads, uint32_t **ret,
		uint32_t *ret_n, struct msg *m)
{
	const struct source s = { .file = c,
				  .pos = c->pos,
				  .n_cells = c->n_cells,
				  .n_layer = c->n_layer,
				  .heads = heads,
				  .dim = c->row / heads };

	return choose(q, &s, ret, ret_n, m);
}

int thin_kv(const struct quant *q, struct kv *kv, struct msg *m)
{
	const struct source s = { .kv = kv,
				  .pos = kv->pos,
				  .n_cells = kv->n_cells,
				  .n_layer = kv->n_layer,
				  .heads = kv->n_kv_head,
				  .dim = kv->head_dim };
	float row[KV_MAX_HEAD_DIM];
	uint32_t *kept, n;
	int r = choose(q, &s, &kept, &n, m);

	if (r)
		return r;
	for (uint32_t l = 0; l < kv->n_layer; l++)
		for (uint32_t h = 0; h < kv->n_kv_head; h++)
			for (uint32_t i = 0; i < n; i++) {
				kv_get_k(kv, l, h, kept[i], row);
				kv_put_k(kv, l, h, i, row);
				kv_get_v(kv, l, h, kept[i], row);
				kv_put_v(kv, l, h, i, row);
			}
	for (uint32_t i = 0; i < n; i++)
		kv->pos[i] = kv->pos[kept[i]];
	kv_truncate(kv, n, kv->n_tokens);
	free(kept);
	return 0;
}
