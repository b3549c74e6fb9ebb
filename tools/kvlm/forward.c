/* SPDX-License-Identifier: MIT */
/*
 * Works in batches of BATCH tokens; each layer is a handful of parallel loops:
 *
 *   norm -> q, k, v -> rope, cache write -> attention -> output, add
 *        -> norm -> gate, up, silu -> down, add
 *
 * Matrix products are split by groups of panels, attention by (KV head, block
 * of queries). Scores of a block are taken against all cells up to its last
 * query's; what a query may not see is set to zero after the softmax, which
 * changes no bit of the sums.
 */
#include "forward.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define BATCH 256
#define QUERIES 16    /* of a block of attention */
#define PANEL_GROUP 2 /* panels of one work item */
#define ROW_GROUP 64  /* rows of one work item */

struct forward {
	const struct model *md;                         /* borrowed */
	const struct kernels *kern;                     /* borrowed */
	struct pool *pool;                              /* borrowed */
	uint32_t q_ld, kv_ld, ff_ld, embd_ld, vocab_ld; /* row lengths: padded to panels */
	/* owned; [BATCH][...] */
	float *x, *h, *q, *k, *v, *att, *gate, *up, *out, *logits;
	float *cs;     /* [BATCH][rope_dim / 2][2] cosines and sines */
	float *scores; /* [threads][rows of a block][score_cells] */
	size_t score_cells;
	float *block_q, *block_o; /* [threads][rows of a block][head_dim padded] */
	float *exact; /* [BATCH][q_ld] attention output while the shadow's is computed */
	/* the batch at work */
	struct kv *kv;
	uint32_t n, cell0, layer;
};

static uint32_t padded(uint32_t n)
{
	return (n + PANEL - 1) / PANEL * PANEL;
}

static uint32_t block_rows(const struct model_shape *s)
{
	return QUERIES * (s->n_head / s->n_kv_head);
}

static float *rows_alloc(size_t rows, size_t ld)
{
	return calloc(rows, ld * sizeof(float));
}

int forward_create(const struct model *md, const struct kernels *k, struct pool *pool,
		   struct forward **ret, struct msg *m)
{
	const struct model_shape *s = &md->shape;
	struct forward *f = calloc(1, sizeof(*f));
	size_t rows = (size_t)pool_threads(pool) * block_rows(s);

	if (!f)
		return msg_fail(m, -ENOMEM, "out of memory");
	f->md = md;
	f->kern = k;
	f->pool = pool;
	f->q_ld = padded(s->n_head * s->head_dim);
	f->kv_ld = padded(s->n_kv_head * s->head_dim);
	f->ff_ld = padded(s->n_ff);
	f->embd_ld = padded(s->n_embd);
	f->vocab_ld = padded(s->n_vocab);
	f->x = rows_alloc(BATCH, f->embd_ld);
	f->h = rows_alloc(BATCH, f->embd_ld);
	f->out = rows_alloc(BATCH, f->embd_ld);
	f->q = rows_alloc(BATCH, f->q_ld);
	f->att = rows_alloc(BATCH, f->q_ld);
	f->k = rows_alloc(BATCH, f->kv_ld);
	f->v = rows_alloc(BATCH, f->kv_ld);
	f->gate = rows_alloc(BATCH, f->ff_ld);
	f->up = rows_alloc(BATCH, f->ff_ld);
	f->logits = rows_alloc(BATCH, f->vocab_ld);
	f->cs = rows_alloc(BATCH, s->rope_dim);
	f->block_q = rows_alloc(rows, padded(s->head_dim));
	f->block_o = rows_alloc(rows, padded(s->head_dim));
	f->exact = rows_alloc(BATCH, f->q_ld);
	if (!f->x || !f->h || !f->out || !f->q || !f->att || !f->k || !f->v || !f->gate || !f->up ||
	    !f->logits || !f->cs || !f->block_q || !f->block_o || !f->exact) {
		forward_destroy(f);
		return msg_fail(m, -ENOMEM, "out of memory for the model's buffers");
	}
	*ret = f;
	return 0;
}

void forward_destroy(struct forward *f)
{
	if (!f)
		return;
	free(f->x);
	free(f->h);
	free(f->out);
	free(f->q);
	free(f->att);
	free(f->k);
	free(f->v);
	free(f->gate);
	free(f->up);
	free(f->logits);
	free(f->cs);
	free(f->scores);
	free(f->block_q);
	free(f->block_o);
	free(f->exact);
	free(f);
}

struct matmul {
	const struct forward *f;
	const struct packed *w;
	const float *x;
	float *y;
	uint32_t x_ld, y_ld;
};

static void matmul_item(void *arg, size_t item, unsigned thread)
{
	const struct matmul *j = arg;
	uint32_t groups = (j->w->panels + PANEL_GROUP - 1) / PANEL_GROUP;
	uint32_t p = (uint32_t)(item % groups) * PANEL_GROUP;
	uint32_t row = (uint32_t)(item / groups) * ROW_GROUP;
	uint32_t left = j->w->panels - p, rows = j->f->n - row;

	j->f->kern->gemm(j->y + (size_t)row * j->y_ld + (size_t)p * PANEL, j->y_ld,
			 j->x + (size_t)row * j->x_ld, j->x_ld, rows < ROW_GROUP ? rows : ROW_GROUP,
			 j->w->w + (size_t)p * j->w->cols * PANEL, (size_t)j->w->cols * PANEL,
			 j->w->cols, left < PANEL_GROUP ? left : PANEL_GROUP);
}

/* y = x w for the rows of the batch */
static void matmul(const struct forward *f, const struct packed *w, const float *x, uint32_t x_ld,
		   float *y, uint32_t y_ld)
{
	struct matmul j = { f, w, x, y, x_ld, y_ld };
	uint32_t groups = (w->panels + PANEL_GROUP - 1) / PANEL_GROUP;

	pool_for(f->pool, (size_t)groups * ((f->n + ROW_GROUP - 1) / ROW_GROUP), matmul_item, &j);
}

static void norm_rows(const struct forward *f, const float *w)
{
	for (uint32_t t = 0; t < f->n; t++)
		f->kern->rmsnorm(f->h + (size_t)t * f->embd_ld, f->x + (size_t)t * f->embd_ld, w,
				 f->md->shape.n_embd, f->md->shape.norm_eps);
}

static void add_rows(const struct forward *f)
{
	for (uint32_t t = 0; t < f->n; t++)
		for (uint32_t i = 0; i < f->md->shape.n_embd; i++)
			f->x[(size_t)t * f->embd_ld + i] += f->out[(size_t)t * f->embd_ld + i];
}

/* Cosines and sines of the batch's positions, in double so that libraries agree. */
static void fill_rope(struct forward *f, uint32_t pos0)
{
	uint32_t half = f->md->shape.rope_dim / 2;

	for (uint32_t t = 0; t < f->n; t++)
		for (uint32_t i = 0; i < half; i++) {
			double a = (double)(pos0 + t) * f->md->rope_inv[i];

			f->cs[((size_t)t * half + i) * 2] = (float)cos(a);
			f->cs[((size_t)t * half + i) * 2 + 1] = (float)sin(a);
		}
}

static void turn(const struct forward *f, float *rows, uint32_t ld, uint32_t heads)
{
	const struct model_shape *s = &f->md->shape;
	uint32_t half = s->rope_dim / 2;

	for (uint32_t t = 0; t < f->n; t++)
		for (uint32_t h = 0; h < heads; h++) {
			float *r = rows + (size_t)t * ld + (size_t)h * s->head_dim;
			const float *cs = f->cs + (size_t)t * half * 2;

			for (uint32_t i = 0; i < half; i++) {
				float a = r[2 * i], b = r[2 * i + 1];

				r[2 * i] = a * cs[2 * i] - b * cs[2 * i + 1];
				r[2 * i + 1] = a * cs[2 * i + 1] + b * cs[2 * i];
			}
		}
}

static void write_cells(const struct forward *f, struct kv *kv, uint32_t cell0)
{
	for (uint32_t t = 0; t < f->n; t++)
		for (uint32_t h = 0; h < kv->n_kv_head; h++) {
			kv_put_k(kv, f->layer, h, cell0 + t,
				 f->k + (size_t)t * f->kv_ld + (size_t)h * kv->head_dim);
			kv_put_v(kv, f->layer, h, cell0 + t,
				 f->v + (size_t)t * f->kv_ld + (size_t)h * kv->head_dim);
		}
}

/* One KV head against QUERIES tokens: rows are (query head of the group, token). */
static void attend_item(void *arg, size_t item, unsigned thread)
{
	const struct forward *f = arg;
	const struct model_shape *s = &f->md->shape;
	const struct kv *kv = f->kv;
	uint32_t group = s->n_head / s->n_kv_head, ldo = padded(s->head_dim);
	uint32_t head = (uint32_t)(item % s->n_kv_head),
		 t0 = (uint32_t)(item / s->n_kv_head) * QUERIES;
	uint32_t nt = f->n - t0 < QUERIES ? f->n - t0 : QUERIES;
	uint32_t cells = f->cell0 + t0 + nt, ld = padded(cells);
	size_t rows0 = (size_t)thread * block_rows(s);
	float *sc = f->scores + rows0 * f->score_cells;
	float *bq = f->block_q + rows0 * ldo, *bo = f->block_o + rows0 * ldo;
	const float scale = (float)(1.0 / sqrt(s->head_dim));

	for (uint32_t g = 0; g < group; g++)
		for (uint32_t t = 0; t < nt; t++) {
			const float *q = f->q + (size_t)(t0 + t) * f->q_ld +
					 (size_t)(head * group + g) * s->head_dim;

			for (uint32_t d = 0; d < s->head_dim; d++)
				bq[(size_t)(g * nt + t) * ldo + d] = q[d] * scale;
		}
	f->kern->gemm(sc, ld, bq, ldo, (size_t)group * nt, kv_k(kv, f->layer, head),
		      (size_t)kv->head_dim * PANEL, kv->head_dim, ld / PANEL);
	for (uint32_t r = 0; r < group * nt; r++)
		bq[(size_t)r * ldo] = /* the row's sum: q is not needed any more */
			f->kern->softmax(sc + (size_t)r * ld, f->cell0 + t0 + r % nt + 1, ld);
	f->kern->gemm(bo, ldo, sc, ld, (size_t)group * nt, kv_v(kv, f->layer, head),
		      (size_t)kv->capacity * PANEL, cells, kv->dim_panels);
	for (uint32_t r = 0; r < group * nt; r++) {
		float *o = f->att + (size_t)(t0 + r % nt) * f->q_ld +
			   (size_t)(head * group + r / nt) * s->head_dim;

		for (uint32_t d = 0; d < s->head_dim; d++)
			o[d] = bo[(size_t)r * ldo + d] / bq[(size_t)r * ldo];
	}
}

static void attend(struct forward *f, struct kv *kv, uint32_t cell0)
{
	f->kv = kv;
	f->cell0 = cell0;
	pool_for(f->pool, (size_t)f->md->shape.n_kv_head * ((f->n + QUERIES - 1) / QUERIES),
		 attend_item, f);
}

/* Attention over a shadow with the same queries, into f->att; f->exact has the output. */
static void attend_shadow(struct forward *f, struct shadow *sh)
{
	uint32_t width = f->md->shape.n_head * f->md->shape.head_dim;
	double err = 0, ref = 0;

	write_cells(f, sh->kv, sh->kv->n_cells);
	attend(f, sh->kv, sh->kv->n_cells);
	for (uint32_t t = 0; t < f->n; t++)
		for (uint32_t i = 0; i < width; i++) {
			double exact = f->exact[(size_t)t * f->q_ld + i];
			double d = f->att[(size_t)t * f->q_ld + i] - exact;

			err += d * d;
			ref += exact * exact;
		}
	sh->err2[f->layer] += err;
	sh->ref2[f->layer] += ref;
}

static void run_layer(struct forward *f, struct kv *kv, struct shadow *sh)
{
	const struct model_layer *y = &f->md->layers[f->layer];
	const struct model_shape *s = &f->md->shape;

	norm_rows(f, y->attn_norm);
	matmul(f, &y->q, f->h, f->embd_ld, f->q, f->q_ld);
	matmul(f, &y->k, f->h, f->embd_ld, f->k, f->kv_ld);
	matmul(f, &y->v, f->h, f->embd_ld, f->v, f->kv_ld);
	turn(f, f->q, f->q_ld, s->n_head);
	turn(f, f->k, f->kv_ld, s->n_kv_head);
	write_cells(f, kv, kv->n_cells);
	attend(f, kv, kv->n_cells);
	if (sh)
		memcpy(f->exact, f->att, (size_t)f->n * f->q_ld * sizeof(float));
	for (struct shadow *s2 = sh; s2; s2 = s2->next)
		attend_shadow(f, s2);
	if (sh)
		memcpy(f->att, f->exact, (size_t)f->n * f->q_ld * sizeof(float));
	matmul(f, &y->o, f->att, f->q_ld, f->out, f->embd_ld);
	add_rows(f);
	norm_rows(f, y->ffn_norm);
	matmul(f, &y->gate, f->h, f->embd_ld, f->gate, f->ff_ld);
	matmul(f, &y->up, f->h, f->embd_ld, f->up, f->ff_ld);
	for (uint32_t t = 0; t < f->n; t++)
		f->kern->silu_mul(f->gate + (size_t)t * f->ff_ld, f->up + (size_t)t * f->ff_ld,
				  s->n_ff);
	matmul(f, &y->down, f->gate, f->ff_ld, f->out, f->embd_ld);
	add_rows(f);
}

static void append_tokens(struct kv *kv, const int32_t *tokens, uint32_t n)
{
	for (uint32_t t = 0; t < n; t++) {
		kv->pos[kv->n_cells + t] = (int32_t)(kv->n_tokens + t);
		kv->tokens[kv->n_tokens + t] = tokens[t];
	}
	kv->n_cells += n;
	kv->n_tokens += n;
}

/* Logits of the batch's rows from @first, compacted to n_vocab each. */
static void run_head(struct forward *f, uint32_t first, float *logits)
{
	const struct model_shape *s = &f->md->shape;
	uint32_t rows = f->n - first;

	memmove(f->x, f->x + (size_t)first * f->embd_ld, (size_t)rows * f->embd_ld * sizeof(float));
	f->n = rows;
	norm_rows(f, f->md->out_norm);
	matmul(f, &f->md->head, f->h, f->embd_ld, f->logits, f->vocab_ld);
	for (uint32_t t = 0; t < rows; t++)
		memcpy(logits + (size_t)t * s->n_vocab, f->logits + (size_t)t * f->vocab_ld,
		       s->n_vocab * sizeof(float));
}

static void run_batch(struct forward *f, struct kv *kv, const int32_t *tokens, uint32_t first,
		      float *logits, struct shadow *sh)
{
	const struct model_shape *s = &f->md->shape;

	for (uint32_t t = 0; t < f->n; t++)
		memcpy(f->x + (size_t)t * f->embd_ld, f->md->embd + (size_t)tokens[t] * s->n_embd,
		       s->n_embd * sizeof(float));
	fill_rope(f, kv->n_tokens);
	for (f->layer = 0; f->layer < s->n_layer; f->layer++)
		run_layer(f, kv, sh);
	append_tokens(kv, tokens, f->n);
	for (; sh; sh = sh->next)
		append_tokens(sh->kv, tokens, f->n);
	if (first < f->n)
		run_head(f, first, logits);
}

static int check_call(const struct forward *f, const struct kv *kv, const int32_t *tokens, size_t n,
		      struct msg *m)
{
	if (n > kv->cap_tokens - kv->n_tokens || n > kv->capacity - kv->n_cells)
		return msg_fail(m, -ERANGE, "the cache has room for %u tokens", kv->cap_tokens);
	if (kv->n_tokens + n > f->md->shape.n_ctx)
		return msg_fail(m, -ERANGE, "%zu tokens are more than the model's context of %u",
				kv->n_tokens + n, f->md->shape.n_ctx);
	for (size_t i = 0; i < n; i++)
		if (tokens[i] < 0 || (uint32_t)tokens[i] >= f->md->shape.n_vocab)
			return msg_fail(m, -EINVAL, "token %d is outside the vocabulary",
					tokens[i]);
	return 0;
}

/* Room for the scores of a block against @cells cells. */
static int grow_scores(struct forward *f, size_t cells, struct msg *m)
{
	size_t rows = (size_t)pool_threads(f->pool) * block_rows(&f->md->shape);
	float *p;

	if (cells <= f->score_cells)
		return 0;
	cells = (cells + 1023) / 1024 * 1024;
	p = realloc(f->scores, rows * cells * sizeof(float));
	if (!p)
		return msg_fail(m, -ENOMEM, "out of memory for attention");
	f->scores = p;
	f->score_cells = cells;
	return 0;
}

int forward_run(struct forward *f, struct kv *kv, const int32_t *tokens, size_t n,
		size_t logits_from, float *logits, struct shadow *sh, struct msg *m)
{
	int r = check_call(f, kv, tokens, n, m);

	if (!r)
		r = grow_scores(f, padded((uint32_t)(kv->n_cells + n)), m);
	for (struct shadow *s = sh; !r && s; s = s->next) {
		r = check_call(f, s->kv, tokens, n, m);
		if (!r)
			r = grow_scores(f, padded((uint32_t)(s->kv->n_cells + n)), m);
	}
	if (r)
		return r;
	for (size_t i = 0; i < n; i += f->n) {
		size_t left = n - i, batch = left < BATCH ? left : BATCH;
		size_t first = logits_from > i ? logits_from - i : 0;

		f->n = (uint32_t)batch;
		run_batch(f, kv, tokens + i, first < batch ? (uint32_t)first : (uint32_t)batch,
			  logits, sh);
		if (first < batch)
			logits += (batch - first) * f->md->shape.n_vocab;
		f->n = (uint32_t)batch;
	}
	return 0;
}

uint32_t argmax(const float *x, uint32_t n)
{
	uint32_t best = 0;

	for (uint32_t i = 1; i < n; i++)
		if (x[i] > x[best])
			best = i;
	return best;
}
