// SPDX-License-Identifier: MIT
/*
 * What the ladder's encoder finds out about a chunk before it codes it: the step
 * from a sample, each channel's mean and spread from all of it, classes, widths
 * and centroids from a sample again. Everything that decides about bytes is
 * integer arithmetic, or floating point that is exact or the same everywhere, so
 * that all versions encode alike.
 *
 * Failure modes: values without spread, steps out of range and more patches than
 * are worth it are -KVFS_ENOGAIN.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/le.h"
#include "codecs/ladder.h"

#define STEP_BLOCKS 8u   /* 8 lines each, of every strip, that the step is taken from */
#define STEP_ROWS (2 * STEP_BLOCKS * LADDER_LINES) /* at most */
#define OUT_OCTAVES 4u
#define FOLDED_COLS 1024u /* of rows of all layers, which are taken as several */
#define SPREAD_MIN (-6)   /* least log2 of variance that has a class, in D0 squared */
#define ODD_PART 8u       /* more of a row not finite: not coded; more of rows out: not odd */

const struct ladder_opts ladder_defaults = {
	.n_bits = 2,
	.bits = { 2, 4 },
	.sinks = 4,
	/* D0 / sigma as measured on caches of two models: 1.4 for K, 1.6 when its means
	 * turn, 2.0 for V: the least loss of attention at equal size. */
	.step_256 = { [REGION_OPAQUE] = 174, [REGION_K] = 124, [REGION_V] = 256,
		      [REGION_KV] = 174 },
	.turning_256 = 174,
};

/* log2 in 1/256 of a positive, normal number. */
static int log2_256(double x)
{
	uint64_t u, m;
	int r;

	memcpy(&u, &x, 8);
	r = (int)(u >> 52 & 0x7ff) - 1023;
	m = (u & 0xfffffffffffffull) >> 21 | 1ull << 31; /* [1,2) in 1/2^31 */
	for (int i = 0; i < 8; i++) {
		m = m * m >> 31;
		r = r * 2 + (int)(m >> 32);
		if (m >> 32)
			m >>= 1;
	}
	return r;
}

/* ---- rows that are not coded --------------------------------------------- */

static uint16_t pattern_at(const struct ladder_head *h, const uint8_t *p)
{
	return le16_get(h->eb == 4 ? p + 2 : p);
}

/* Patterns that are not finite among n. */
static unsigned count_odd(const uint16_t *pat, unsigned n, uint16_t top)
{
	uint16_t sum = 0;

	for (unsigned l = 0; l < n; l++)
		sum = (uint16_t)(sum + ((pat[l] & top) == top));
	return sum;
}

static bool row_odd(const struct ladder_head *h, const uint8_t *row)
{
	uint16_t pat[64], top = h->elem == ELEM_F16 ? 0x7c00 : 0x7f80;
	uint32_t n = 0, c = 0;

	for (; h->eb == 2 && c + 64 <= h->cols; c += 64) {
		ladder_patterns_get(pat, row + 2 * (size_t)c, 64);
		n += count_odd(pat, 64, top);
	}
	for (; c < h->cols; c++)
		n += (pattern_at(h, row + (size_t)c * h->eb) & top) == top;
	return n > h->cols / ODD_PART;
}

static bool row_equal(const struct ladder_head *h, const uint8_t *row)
{
	return memcmp(row, row + h->eb, (size_t)(h->cols - 1) * h->eb) == 0;
}

/* Joins row i to the ranges; false when there are too many. */
static bool range_add(struct ladder_head *h, struct ladder_scratch *s, uint32_t i, bool fill,
		      const uint8_t *src)
{
	struct ladder_range *last = h->n_ranges ? &s->ranges[h->n_ranges - 1] : NULL;
	size_t row = (size_t)h->cols * h->eb;

	if (last && last->first + last->n == i && last->fill == fill &&
	    (!fill || memcmp(src + i * row, src + last->first * row, h->eb) == 0)) {
		last->n++;
		return true;
	}
	if (h->n_ranges == LADDER_RANGES_MAX)
		return false;
	s->ranges[h->n_ranges++] = (struct ladder_range){ i, 1, fill };
	return true;
}

/* Is row @i one of a context's tokens that are kept exact? */
static bool row_kept(const struct chunk_shape *shape, const struct ladder_opts *o, uint32_t i)
{
	uint64_t token = (uint64_t)shape->first_row + i, rows = shape->region_rows;

	if (shape->part_rows) {
		rows = shape->part_rows;
		token %= rows;
	}
	return (token < o->sinks && !shape->page) || (rows > token && rows - token <= o->window);
}

static bool find_ranges(struct ladder_head *h, struct ladder_scratch *s,
			const struct chunk_shape *shape, const struct ladder_opts *o,
			const uint8_t *src)
{
	size_t row = (size_t)h->cols * h->eb;
	uint32_t fold = (uint32_t)(shape->row_bytes / row);

	h->coded_rows = 0;
	for (uint32_t i = 0; i < h->rows; i++) {
		const uint8_t *p = src + i * row;
		bool fill = row_equal(h, p), exact = row_odd(h, p);

		if (!h->transposed)
			exact |= row_kept(shape, o, i / fold);
		if (!fill && !exact)
			h->coded_rows++;
		else if (!range_add(h, s, i, fill, src))
			return false;
	}
	if (h->transposed && o->sinks + o->window < h->cols) {
		h->first_cols = o->sinks;
		h->last_cols = o->window;
	}
	h->channels = h->transposed ? h->coded_rows : h->cols;
	return h->coded_rows > 0 && h->channels <= LADDER_CHANNELS_MAX;
}

/* ---- blocks -------------------------------------------------------------- */

static uint64_t lanes_below(unsigned n)
{
	return n >= 64 ? ~0ull : (1ull << n) - 1;
}

/* Lanes of a line that begins at element @at and lie in overlaid columns. */
static uint64_t lanes_overlaid(const struct ladder_head *h, uint32_t at, unsigned n)
{
	uint32_t first = at % h->cols, from = h->cols - h->last_cols;
	uint64_t m = 0;

	if (first >= h->first_cols && first + n <= from)
		return 0;
	for (unsigned l = 0; l < n; l++)
		m |= (uint64_t)(first + l < h->first_cols || first + l >= from) << l;
	return m;
}

static void skip_overlaid(const struct ladder_walk *w, struct ladder_block *b, unsigned j)
{
	uint64_t m = lanes_overlaid(w->h, w->at[j], b->count[j]);

	b->skip[j] |= m;
	for (; m; m &= m - 1)
		b->pat[j][__builtin_ctzll(m)] = 0;
}

void ladder_block_load(const struct ladder_walk *w, const uint8_t *src, struct ladder_block *b)
{
	const struct ladder_head *h = w->h;

	for (unsigned j = 0; j < LADDER_LINES; j++) {
		const uint8_t *p = src + (size_t)w->at[j] * h->eb;
		unsigned n = w->count[j];

		b->count[j] = (uint8_t)n;
		b->skip[j] = ~lanes_below(n);
		if (h->eb == 2 && n == 64)
			ladder_patterns_get(b->pat[j], p, 64);
		else if (h->eb == 2)
			ladder_patterns_get(b->pat[j], p, n);
		for (unsigned l = 0; h->eb == 4 && l < n; l++)
			b->pat[j][l] = le16_get(p + 4 * l + 2);
		for (unsigned l = n; l < 64; l++)
			b->pat[j][l] = 0;
		if (n && h->first_cols + h->last_cols)
			skip_overlaid(w, b, j);
	}
}

/* ---- the step ------------------------------------------------------------ */

static inline float value_of(bool f16, uint16_t p)
{
	uint32_t mag = (p & 0x7fffu) << (f16 ? 13 : 16);
	float f;

	memcpy(&f, &mag, 4);
	return (p >> 15 ? -f : f) * (f16 ? 0x1p112f : 1.0f);
}

/* Sums of the block's finite values, by lane. */
static void step_sums(const struct ladder_block *b, bool f16, float sum[64], float square[64],
		      float n[64])
{
	uint16_t top = f16 ? 0x7c00 : 0x7f80;

	for (unsigned j = 0; j < LADDER_LINES; j++)
		for (unsigned l = 0; l < 64; l++) {
			uint16_t p = b->pat[j][l];
			bool good = (p & top) != top && !(b->skip[j] >> l & 1);
			float x = good ? value_of(f16, p) : 0;

			sum[l] += x;
			square[l] += x * x;
			n[l] += good;
		}
}

static void step_add(struct ladder_scratch *s, const struct ladder_walk *w, bool f16)
{
	float sum[64] = { 0 }, square[64] = { 0 }, n[64] = { 0 };

	if (f16)
		step_sums(&s->block, true, sum, square, n);
	else
		step_sums(&s->block, false, sum, square, n);
	for (unsigned l = 0; l < w->d->lanes; l++) {
		uint32_t c = w->first_channel + (w->own_channels ? l : 0);

		s->stats->mean[c] += (double)sum[l];
		s->stats->square[c] += (double)square[l];
		s->stats->count[c] += (uint32_t)n[l];
	}
}

/* e from the geometric mean of the channels' spreads, times 2^(add / 256). */
static bool step_choose(struct ladder_scratch *s, struct ladder_head *h, int add_256)
{
	int64_t logs = 0, n = 0, e;
	unsigned bits = 0;

	for (uint32_t c = 0; c < h->channels; c++) {
		double k = s->stats->count[c], mean, var;

		if (s->stats->count[c] < 2)
			continue;
		mean = s->stats->mean[c] / k;
		var = s->stats->square[c] / k - mean * mean;
		if (!(var > mean * mean * 1e-9) || !(var > 1e-90) || !(var < 1e90))
			continue;
		logs += log2_256(var);
		n++;
	}
	if (n == 0)
		return false;
	for (unsigned i = 0; i < h->n_bits; i++)
		bits += h->bits[i];
	e = logs / (2 * n) + add_256;
	e = ((e + 128) >> 8) - (int64_t)bits;
	h->e = (int8_t)e;
	return h->elem == ELEM_F16 ? e >= -40 && e <= 0 : e >= -100 && e <= 100;
}

/* Rows of the sample, tokens in rows: how large their values are, as sums of patterns, which
 * go with the logarithm. One far above the others would make the step useless for them. */
struct step_rows {
	uint32_t n, size[STEP_ROWS];
	bool out[STEP_ROWS];
};

static void rows_add(struct step_rows *r, const struct ladder_block *b, uint16_t top)
{
	for (unsigned j = 0; j < LADDER_LINES; j++)
		for (unsigned l = 0; l < 64; l++) {
			uint16_t p = b->pat[j][l] & 0x7fff;

			r->size[r->n + j] += p < top ? p : 0;
		}
}

static int size_order(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

/* Rows that are OUT_OCTAVES above the median in the mean; whether there are any, but few:
 * else they are others, such as K beside V. */
static bool rows_out(struct step_rows *r, const struct ladder_head *h)
{
	uint32_t sorted[STEP_ROWS], far = h->cols * (OUT_OCTAVES << (h->elem == ELEM_F16 ? 10 : 7));
	uint32_t n = 0;

	memcpy(sorted, r->size, r->n * sizeof(sorted[0]));
	qsort(sorted, r->n, sizeof(sorted[0]), size_order);
	for (uint32_t i = 0; i < r->n; i++)
		n += r->out[i] = r->size[i] > sorted[r->n / 2] + far;
	return n > 0 && n <= r->n / ODD_PART;
}

/* What the step is taken from: a sample of the chunk, but for rows that are out. */
static void step_sample(struct ladder_scratch *s, const struct ladder_kern *k,
			const struct ladder_head *h, const uint8_t *src, struct step_rows *rows)
{
	uint16_t top = h->elem == ELEM_F16 ? 0x7c00 : 0x7f80;
	uint32_t groups = h->transposed ? (h->cols + 511) / 512 : (h->coded_rows + 7) / 8;
	uint32_t every = groups > STEP_BLOCKS ? groups / STEP_BLOCKS : 1;
	struct ladder_walk w;

	memset(s->stats->mean, 0, h->channels * sizeof(s->stats->mean[0]));
	memset(s->stats->square, 0, h->channels * sizeof(s->stats->square[0]));
	memset(s->stats->count, 0, h->channels * sizeof(s->stats->count[0]));
	rows->n = 0;
	ladder_walk_init(&w, k, h, s, true);
	while (ladder_walk_next(&w)) {
		if ((h->transposed ? w.piece - 1 : (w.coded - 1) / 8) % every)
			continue;
		ladder_block_load(&w, src, &s->block);
		if (!h->transposed)
			rows_add(rows, &s->block, top);
		for (unsigned j = 0; !h->transposed && j < LADDER_LINES; j++)
			if (rows->out[rows->n + j])
				memset(s->block.pat[j], 0xff, sizeof(s->block.pat[j]));
		step_add(s, &w, h->elem == ELEM_F16);
		if (!h->transposed && 64 * w.strip >= h->cols)
			rows->n += LADDER_LINES;
	}
}

static bool find_step(struct ladder_scratch *s, const struct ladder_kern *k,
		      const struct chunk_shape *shape, const struct ladder_opts *o,
		      const uint8_t *src, struct ladder_head *h)
{
	int step = o->step_256[shape->kind % REGION_KINDS_], gain;
	struct step_rows rows = { 0 };

	step_sample(s, k, h, src, &rows);
	if (rows_out(&rows, h))
		step_sample(s, k, h, src, &rows);
	gain = ladder_turning_find(s, shape, src, h);
	return step_choose(s, h, h->turn ? o->turning_256 - gain : step);
}

/* ---- means and spreads --------------------------------------------------- */

/* Adds the block's cells to its channels. */
static void stats_add(struct ladder_scratch *s, const struct ladder_walk *w)
{
	const struct ladder_block *b = &s->block;
	int32_t sum[64] = { 0 };
	uint32_t square[64] = { 0 }, n[64];

	for (unsigned l = 0; l < 64; l++)
		n[l] = 8;
	for (unsigned j = 0; j < LADDER_LINES; j++) {
		for (unsigned l = 0; l < 64; l++) {
			sum[l] += b->t[j][l];
			square[l] += (uint32_t)(b->t[j][l] * b->t[j][l]);
		}
		for (uint64_t m = b->skip[j]; m; m &= m - 1)
			n[__builtin_ctzll(m)]--;
	}
	for (unsigned l = 0; l < w->d->lanes; l++) {
		uint32_t c = w->first_channel + (w->own_channels ? l : 0);

		s->stats->sum[c] += sum[l];
		s->stats->square[c] += square[l];
		s->stats->count[c] += n[l];
	}
}

/* Values without a cell become patches; false when there are too many. */
static bool patches_add(struct ladder_head *h, struct ladder_scratch *s,
			const struct ladder_walk *w, const uint64_t before[LADDER_LINES])
{
	for (unsigned j = 0; j < LADDER_LINES; j++)
		for (uint64_t m = s->block.skip[j] & ~before[j]; m; m &= m - 1)
			s->stats->patches[h->n_patches++] = w->at[j] + (uint32_t)__builtin_ctzll(m);
	return h->n_patches <= LADDER_PATCHES_MAX && h->n_patches <= h->rows * h->cols / 32;
}

static int patch_order(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

void ladder_block_centre(struct ladder_block *b)
{
	for (unsigned j = 0; j < LADDER_LINES; j++) {
		const int16_t *z = b->z + j * b->z_step;

		for (unsigned l = 0; l < LADDER_LANES; l++)
			b->t[j][l] = (int16_t)(b->t[j][l] - z[l]);
		for (uint64_t m = b->skip[j]; m; m &= m - 1)
			b->t[j][__builtin_ctzll(m)] = 0;
	}
}

/* Sums of the cells, less turning means, by channel; and patches. */
static bool find_sums(const struct ladder_kern *k, struct ladder_scratch *s,
		      struct ladder_head *h, const uint8_t *src)
{
	struct ladder_level v = ladder_level_of(h, 0);
	uint64_t before[LADDER_LINES];
	struct ladder_walk w;

	memset(s->stats->sum, 0, h->channels * sizeof(s->stats->sum[0]));
	memset(s->stats->square, 0, h->channels * sizeof(s->stats->square[0]));
	memset(s->stats->count, 0, h->channels * sizeof(s->stats->count[0]));
	ladder_walk_init(&w, k, h, s, !h->turn);
	while (ladder_walk_next(&w)) {
		ladder_block_load(&w, src, &s->block);
		memcpy(before, s->block.skip, sizeof(before));
		k->cells(&v, &s->block);
		if (memcmp(before, s->block.skip, sizeof(before)) != 0 &&
		    !patches_add(h, s, &w, before))
			return false;
		if (h->turn) {
			ladder_walk_means(k, &w, &s->block);
			ladder_block_centre(&s->block);
		}
		stats_add(s, &w);
	}
	if (h->n_patches)
		qsort(s->stats->patches, h->n_patches, sizeof(s->stats->patches[0]), patch_order);
	return true;
}

int16_t ladder_mean_limit(double z)
{
	return (int16_t)(z < -LADDER_MEAN_MAX ? -LADDER_MEAN_MAX
			 : z > LADDER_MEAN_MAX ? LADDER_MEAN_MAX
					       : z + (z < 0 ? -0.5 : 0.5));
}

/* z, and how wide the channel is: its spread class, 0..LADDER_SPREADS - 1. */
static void find_spreads(struct ladder_scratch *s, const struct ladder_head *h)
{
	int bits = 0;

	for (unsigned i = 0; i < h->n_bits; i++)
		bits += h->bits[i];
	for (uint32_t c = 0; c < h->channels; c++) {
		double n = s->stats->count[c] ? s->stats->count[c] : 1, mean = (double)s->stats->sum[c] / n;
		double var = s->stats->square[c] / n - mean * mean;
		int spread = SPREAD_MIN;

		if (var > 1e-3)
			spread = (log2_256(var) + 128) / 256 - 2 * bits;
		spread -= SPREAD_MIN;
		if (!h->turn)
			s->mean[c] = ladder_mean_limit(mean);
		s->stats->spread[c] = (uint8_t)(spread < 0 ? 0
					: spread >= (int)LADDER_SPREADS ? (int)LADDER_SPREADS - 1
									: spread);
	}
}

int ladder_measure(struct codec_ctx *ctx, struct ladder_scratch *s,
		   const struct chunk_shape *shape, const struct ladder_opts *opts,
		   const uint8_t *src, size_t len, struct ladder_head *h)
{
	unsigned eb = elem_bytes(shape->elem);

	*h = (struct ladder_head){ .elem = shape->elem, .n_bits = opts->n_bits,
				   .transposed = shape->transposed };
	memcpy(h->bits, opts->bits, h->n_bits);
	if (shape->row_bytes % eb)
		return -KVFS_ENOGAIN;
	h->cols = shape->row_bytes / eb;
	if (h->cols > LADDER_CHANNELS_MAX && !h->transposed)
		while (h->cols > FOLDED_COLS && h->cols % 2 == 0)
			h->cols /= 2;
	if (!ladder_head_shape(h, len) || !find_ranges(h, s, shape, opts, src) ||
	    !find_step(s, ctx->ladder_kern, shape, opts, src, h))
		return -KVFS_ENOGAIN;
	h->n_classes = 1; /* until they are chosen: one without codes */
	memset(s->class, 0, h->channels);
	memset(s->mean, 0, h->channels * sizeof(s->mean[0]));
	if (h->turn)
		ladder_turning_means(ctx->ladder_kern, s, src, h);
	if (!find_sums(ctx->ladder_kern, s, h, src))
		return -KVFS_ENOGAIN;
	find_spreads(s, h);
	ladder_classes(ctx->ladder_kern, s, src, h);
	return 0;
}
