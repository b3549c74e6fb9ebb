/* SPDX-License-Identifier: MIT */
/*
 * Which elements: of up to QUALITY_LAYERS pairs of K and V one head each, and of that
 * head runs of tokens that begin where chunks of K do, so that few chunks are decoded
 * at every level. V's rows are the same tokens, in whatever chunks they lie; where rows
 * are channels, those of the head.
 */
#include "store/estimate.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "base/le.h"
#include "base/mem.h"
#include "policy/quality.h"

#define PAIRS_MAX 4096u /* of a file; more are as good as these */

struct run {
	uint32_t first, n; /* tokens */
};

/* One head of one layer. */
struct head {
	const struct layout_region *r[2]; /* K, V */
	uint32_t tokens, dim, col;  /* of the sample; its first column */
	uint32_t n_runs;
	struct run run[QUALITY_RUNS];
	float *x[2][CODEC_LAYERS_MAX]; /* owned; [tokens][dim] at each level */
};

struct estimate {
	const struct layout_chunk *chunks;
	unsigned levels, nth, n_heads;
	struct head head[QUALITY_LAYERS];
	struct quality_work work;
};

static uint32_t tokens_of(const struct layout_region *r)
{
	return r->transposed ? r->row_bytes / elem_bytes(r->elem) :
			       (uint32_t)(r->len_bytes / r->row_bytes);
}

static uint32_t cols_of(const struct layout_region *r)
{
	return r->transposed ? (uint32_t)(r->len_bytes / r->row_bytes) :
			       r->row_bytes / elem_bytes(r->elem);
}

static bool is_float(unsigned elem)
{
	return elem == ELEM_F32 || elem == ELEM_F16 || elem == ELEM_BF16;
}

/* The V that goes with @k; most often the next region, or as far behind as the others. */
static const struct layout_region *partner(const struct layout *l, uint32_t k)
{
	const struct layout_region *a = &l->regions[k];

	for (uint32_t n = 1; n < l->n_regions; n++) {
		const struct layout_region *b = &l->regions[(k + n) % l->n_regions];

		if (b->kind == REGION_V && b->layer == a->layer && is_float(b->elem) &&
		    b->row_bytes && tokens_of(b) == tokens_of(a) && cols_of(b) == cols_of(a))
			return b;
	}
	return NULL;
}

/* ---- the sample ------------------------------------------------------------- */

/* quality_spread, for sample @nth between what others have; ascending. */
static unsigned spread(uint64_t n, unsigned max, unsigned nth, uint64_t ret[])
{
	uint64_t at[QUALITY_LAYERS + QUALITY_RUNS], step = n / (max * ESTIMATE_SAMPLES);
	uint64_t by = n ? nth * (step ? step : 1) % n : 0;
	unsigned k = quality_spread(n, max, at), first = 0;

	while (first < k && at[first] + by < n)
		first++;
	for (unsigned i = 0; i < k; i++) /* those that come round at the end go to the front */
		ret[i] = (at[(first + i) % k] + by) % n;
	return k;
}

static void add_run(struct head *h, uint32_t first, uint32_t n)
{
	h->run[h->n_runs++] = (struct run) { first, n };
	h->tokens += n;
}

/* Tokens at which chunks of K begin, and how many they have. */
static void choose_runs(struct head *h, const struct layout_chunk *chunks, uint32_t n_chunks,
			unsigned nth)
{
	const struct layout_region *k = h->r[0];
	uint64_t end = k->off_bytes + k->len_bytes, at[QUALITY_RUNS];
	uint32_t tokens = tokens_of(k), first = 0, n = 0, pick;
	bool by_chunk;

	if (tokens <= QUALITY_TOKENS) {
		add_run(h, 0, tokens);
		return;
	}
	while (first < n_chunks && chunks[first].off_bytes < k->off_bytes)
		first++; /* the region's beginning may be another chunk's end */
	while (first + n < n_chunks && chunks[first + n].off_bytes < end)
		n++;
	by_chunk = !k->transposed && n > 0; /* else chunks have all tokens */
	if (!by_chunk)
		n = tokens / QUALITY_RUN;
	pick = spread(n, QUALITY_RUNS, nth, at);
	for (uint32_t i = 0; i < pick; i++) {
		uint64_t t = at[i] * QUALITY_RUN, m = QUALITY_RUN;

		if (by_chunk) {
			const struct layout_chunk *c = &chunks[first + at[i]];

			t = (c->off_bytes - k->off_bytes + k->row_bytes - 1) / k->row_bytes;
			m = c->len_bytes / k->row_bytes;
		}
		m = m < QUALITY_RUN ? m : QUALITY_RUN;
		m = t + m < tokens ? m : tokens > t ? tokens - t : 0;
		if (m)
			add_run(h, (uint32_t)t, (uint32_t)m);
	}
}

static void choose_head(struct head *h, const struct layout *l, unsigned i)
{
	const struct layout_region *k = h->r[0];
	uint32_t cols = cols_of(k), dim = k->head_bytes / elem_bytes(k->elem);

	dim = dim ? dim : l->head_dim;
	if (!dim || cols % dim)
		dim = cols % QUALITY_DIM ? cols : QUALITY_DIM;
	h->col = i % (cols / dim) * dim;
	h->dim = dim < QUALITY_DIM_MAX ? dim : QUALITY_DIM_MAX;
}

static int choose(struct estimate *e, const struct layout *l, uint32_t n_chunks)
{
	uint32_t k[PAIRS_MAX], n = 0;
	uint64_t at[QUALITY_LAYERS];

	for (uint32_t i = 0; i < l->n_regions && n < PAIRS_MAX; i++) {
		const struct layout_region *r = &l->regions[i];

		if (r->kind == REGION_K && is_float(r->elem) && r->row_bytes && partner(l, i))
			k[n++] = i;
	}
	if (n == 0)
		return -ENODATA;
	e->n_heads = spread(n, QUALITY_LAYERS, e->nth, at);
	for (unsigned i = 0; i < e->n_heads; i++) {
		struct head *h = &e->head[i];

		h->r[0] = &l->regions[k[at[i]]];
		h->r[1] = partner(l, k[at[i]]);
		choose_head(h, l, i + e->nth * (QUALITY_LAYERS + 1)); /* of one layer, too */
		choose_runs(h, e->chunks, n_chunks, e->nth);
	}
	return 0;
}

int estimate_create(const struct layout *l, const struct layout_chunk *chunks, uint32_t n_chunks,
		    unsigned levels, unsigned nth, uint64_t *ret_bytes, struct estimate **ret)
{
	struct estimate *e = mem_zalloc(sizeof(*e));
	int r;

	if (!e)
		return -ENOMEM;
	e->chunks = chunks;
	e->levels = levels;
	e->nth = nth;
	r = choose(e, l, n_chunks);
	*ret_bytes = sizeof(*e);
	for (unsigned i = 0; i < e->n_heads && r == 0; i++)
		for (unsigned p = 0; p < 2 * levels && r == 0; p++) {
			struct head *h = &e->head[i];
			size_t bytes = (size_t)h->tokens * h->dim * sizeof(float);

			h->x[p & 1][p / 2] = mem_zalloc(bytes + 1);
			r = h->x[p & 1][p / 2] ? 0 : -ENOMEM;
			*ret_bytes += bytes;
		}
	if (r == 0)
		*ret = e;
	else
		estimate_destroy(e);
	return r;
}

void estimate_destroy(struct estimate *e)
{
	if (!e)
		return;
	for (unsigned i = 0; i < e->n_heads; i++)
		for (unsigned p = 0; p < 2 * CODEC_LAYERS_MAX; p++)
			mem_free(e->head[i].x[p & 1][p / 2]);
	mem_free(e);
}

/* ---- taking it ---------------------------------------------------------------- */

static float f16_value(uint16_t v)
{
	int exp = v >> 10 & 31;
	float m = (float)(v & 1023), f;

	if (exp == 31)
		f = m ? NAN : INFINITY;
	else
		f = exp ? ldexpf(m + 1024, exp - 25) : ldexpf(m, -24);
	return v & 0x8000 ? -f : f;
}

static float value_at(const uint8_t *p, unsigned elem)
{
	uint32_t u;
	float f;

	if (elem == ELEM_F16)
		return f16_value(le16_get(p));
	u = elem == ELEM_F32 ? le32_get(p) : (uint32_t)le16_get(p) << 16;
	memcpy(&f, &u, sizeof(f));
	return f;
}

/* Where element (@token, @col) of the region is in the file. */
static uint64_t place(const struct layout_region *r, uint32_t token, uint32_t col)
{
	uint32_t row = r->transposed ? col : token, at = r->transposed ? token : col;

	return r->off_bytes + (uint64_t)row * r->row_bytes + (uint64_t)at * elem_bytes(r->elem);
}

/* The elements of the head's part @p in [from, end) of the file, whose bytes are at @b (NULL:
 * only looks whether there are any). Runs go along a row, or for channels along tokens. */
static bool take_head(struct head *h, unsigned p, uint64_t from, uint64_t end, const uint8_t *b,
		      float *x)
{
	const struct layout_region *r = h->r[p];
	unsigned es = elem_bytes(r->elem);
	uint32_t base = 0;
	bool any = false;

	if (from >= r->off_bytes + r->len_bytes || end <= r->off_bytes)
		return false;
	for (uint32_t i = 0; i < h->n_runs; base += h->run[i++].n) {
		if (place(r, h->run[i].first, h->col) >= end ||
		    place(r, h->run[i].first + h->run[i].n - 1, h->col + h->dim - 1) < from)
			continue;
		any = true;
		for (uint32_t t = 0; b && t < h->run[i].n; t++)
			for (uint32_t c = 0; c < h->dim; c++) {
				uint64_t at = place(r, h->run[i].first + t, h->col + c);

				if (at >= from && at + es <= end)
					x[(size_t)(base + t) * h->dim + c] =
						value_at(b + (at - from), r->elem);
			}
	}
	return any;
}

bool estimate_wants(const struct estimate *e, uint32_t i)
{
	uint64_t from = e->chunks[i].off_bytes, end = from + e->chunks[i].len_bytes;

	for (unsigned h = 0; h < 2 * e->n_heads; h++)
		if (take_head((struct head *)&e->head[h / 2], h & 1, from, end, NULL, NULL))
			return true;
	return false;
}

void estimate_take(struct estimate *e, uint32_t i, unsigned level, const uint8_t *decoded)
{
	uint64_t from = e->chunks[i].off_bytes, end = from + e->chunks[i].len_bytes;

	for (unsigned h = 0; h < 2 * e->n_heads; h++)
		(void)take_head(&e->head[h / 2], h & 1, from, end, decoded,
				e->head[h / 2].x[h & 1][level]);
}

void estimate_errors(struct estimate *e, float ret[CODEC_LAYERS_MAX])
{
	double sum[CODEC_LAYERS_MAX] = { 0 };
	unsigned top = e->levels - 1;

	for (unsigned i = 0; i < e->n_heads; i++) {
		struct head *h = &e->head[i];
		struct quality_head x = { h->tokens, h->dim, h->x[0][top], h->x[1][top] };

		quality_exact(&e->work, &x);
		for (unsigned l = 0; l < top; l++) {
			x.k = h->x[0][l];
			x.v = h->x[1][l];
			sum[l] += quality_error(&e->work, &x);
		}
	}
	for (unsigned l = 0; l < top; l++)
		ret[l] = (float)(sum[l] / e->n_heads);
}
