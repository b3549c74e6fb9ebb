// SPDX-License-Identifier: MIT
/*
 * The parts that planes-fix and planes-huf share: choosing the levels from a
 * sample of the chunk, the head of the encoded bytes, offsets by run.
 *
 * Everything that decides about the bytes is integer arithmetic on samples
 * taken at fixed places, so that all versions and machines encode alike.
 */
#include "codecs/planes.h"

#include <errno.h>
#include <string.h>

#include "base/le.h"
#include "base/mem.h"
#include "codecs/codec_ctx.h"

#define MEAN_ROWS 128u        /* rows that column means are taken from */
#define MEAN_ROW_ELEMS 1024u  /* elements of a row that its mean is taken from */
#define ROWS_MIN 32u          /* fewer rows: column offsets would not pay */
#define ROW_ELEMS_MIN 64u     /* shorter rows: row offsets would not pay */
#define SAMPLE_RUNS 16u
#define SAMPLE_ELEMS 1024u    /* per sampled run */

int planes_scratch_get(struct codec_ctx *ctx, struct planes_scratch **ret)
{
	if (!ctx->planes) {
		ctx->planes = mem_alloc_pages(sizeof(*ctx->planes));
		if (!ctx->planes)
			return -ENOMEM;
	}
	*ret = ctx->planes;
	return 0;
}

/* log2(x) in 1/256, x >= 1: the fraction by repeated squaring. */
static uint64_t log2_256(uint32_t x)
{
	unsigned whole = 31u - (unsigned)__builtin_clz(x);
	uint64_t m = ((uint64_t)x << 31) >> whole; /* [1,2) in 1/2^31 */
	uint64_t r = whole;

	for (int i = 0; i < 8; i++) {
		m = m * m >> 31;
		r = r << 1 | m >> 32;
		if (m >> 32)
			m >>= 1;
	}
	return r;
}

uint64_t planes_entropy(const uint32_t hist[256])
{
	uint64_t n = 0, sum = 0;

	for (int i = 0; i < 256; i++)
		if (hist[i]) {
			n += hist[i];
			sum += hist[i] * log2_256(hist[i]);
		}
	return n ? log2_256((uint32_t)n) - sum / n : 0;
}

static void hist_add(const uint8_t *p, size_t n, uint32_t hist[256])
{
	uint32_t h[4][256] = { 0 };
	size_t i = 0;

	for (; i + 4 <= n; i += 4)
		for (int k = 0; k < 4; k++)
			h[k][p[i + k]]++;
	for (; i < n; i++)
		h[0][p[i]]++;
	for (i = 0; i < 256; i++)
		hist[i] += h[0][i] + h[1][i] + h[2][i] + h[3][i];
}

static void split_top(const struct planes_kern *k, unsigned eb, const uint8_t *src, size_t first,
		      size_t n, uint8_t *top)
{
	uint8_t *const none[PLANES_LOWS_MAX] = { NULL };

	k->split(eb, src + first * eb, n, top, none);
}

/* fp8 has its sign in the lowest bit of the top plane: even offsets keep it. */
static uint8_t mean_of(unsigned eb, uint32_t sum, uint32_t count)
{
	uint32_t mean = count ? (sum + count / 2) / count : 0;

	return (uint8_t)(eb == 1 ? mean & ~1u : mean);
}

/* The mean top byte of every column, over rows spread evenly. Zeros say nothing
 * about a channel's scale and are left out. */
static void column_means(const struct planes_kern *k, struct planes_scratch *s, unsigned eb,
			 const uint8_t *src, size_t rows, uint32_t cols)
{
	size_t take = rows < MEAN_ROWS ? rows : MEAN_ROWS;

	memset(s->sum, 0, cols * sizeof(s->sum[0]));
	memset(s->count, 0, cols * sizeof(s->count[0]));
	for (size_t r = 0; r < take; r++) {
		size_t row = r * rows / take;

		for (size_t c = 0; c < cols; c += PLANES_RUN) {
			size_t m = cols - c < PLANES_RUN ? cols - c : PLANES_RUN;

			split_top(k, eb, src, row * cols + c, m, s->top);
			k->colsum(s->top, m, s->sum + c, s->count + c);
		}
	}
	for (uint32_t c = 0; c < cols; c++)
		s->off[c] = mean_of(eb, s->sum[c], s->count[c]);
}

static void row_means(const struct planes_kern *k, struct planes_scratch *s, unsigned eb,
		      const uint8_t *src, size_t n, uint32_t cols)
{
	for (size_t first = 0, r = 0; first < n; first += cols, r++) {
		size_t left = n - first < cols ? n - first : cols;
		size_t m = left < MEAN_ROW_ELEMS ? left : MEAN_ROW_ELEMS;
		uint32_t sum = 0, count = 0;

		split_top(k, eb, src, first, m, s->top);
		for (size_t i = 0; i < m; i++) {
			sum += s->top[i];
			count += s->top[i] != 0;
		}
		s->off[r] = mean_of(eb, sum, count);
	}
}

/* Proposes offsets from the chunk's shape; flags stay 0 when none can pay. */
static void propose(const struct planes_kern *k, struct planes_scratch *s,
		    const struct chunk_shape *shape, const uint8_t *src, struct planes_head *h)
{
	size_t cols = shape->row_bytes / h->eb, rows;

	h->flags = 0;
	if (cols == 0 || cols > PLANES_COLS_MAX || shape->row_bytes % h->eb)
		return;
	rows = h->n / cols;
	if (shape->transposed && cols >= ROW_ELEMS_MIN && rows && rows < PLANES_COLS_MAX) {
		h->flags = PLANES_ROW_OFFSETS;
		h->n_off = (uint32_t)((h->n + cols - 1) / cols);
		row_means(k, s, h->eb, src, h->n, (uint32_t)cols);
	} else if (!shape->transposed && cols > 1 && rows >= ROWS_MIN) {
		h->flags = PLANES_COL_OFFSETS;
		h->n_off = (uint32_t)cols;
		column_means(k, s, h->eb, src, rows, (uint32_t)cols);
	}
	if (h->flags)
		h->cols = (uint32_t)cols;
}

/* Counts a sample of the chunk, plain into st and levelled into s->hist. */
static void count_sample(const struct planes_kern *k, struct planes_scratch *s,
			 const struct planes_head *h, const uint8_t *src,
			 struct planes_stats *st)
{
	uint8_t *low[PLANES_LOWS_MAX] = { NULL };
	size_t runs = SAMPLE_RUNS, each = SAMPLE_ELEMS;

	if (h->n <= runs * each) {
		runs = (h->n + each - 1) / each;
	}
	for (unsigned p = 0; p + 1 < h->eb; p++)
		low[p] = s->seg[1 + p];
	for (size_t r = 0; r < runs; r++) {
		size_t first = h->n <= runs * each ? r * each : r * (h->n - each) / (runs - 1);
		size_t m = h->n - first < each ? h->n - first : each;
		const uint8_t *off = planes_off_run(s, h, first, m);

		k->split(h->eb, src + first * h->eb, m, s->top, low);
		hist_add(s->top, m, st->hist);
		for (unsigned p = 0; p + 1 < h->eb; p++)
			hist_add(low[p], m, st->low_hist[p]);
		if (off) {
			k->sub(s->top, off, m);
			hist_add(s->top, m, s->hist);
		}
		st->sampled += (uint32_t)m;
	}
}

void planes_measure(const struct planes_kern *k, struct planes_scratch *s,
		    const struct chunk_shape *shape, const uint8_t *src, size_t len,
		    uint64_t (*cost)(const uint32_t hist[256]), struct planes_head *h,
		    struct planes_stats *st)
{
	unsigned eb = elem_bytes(shape->elem);

	*h = (struct planes_head){
		.eb = (uint8_t)eb,
		.n = (uint32_t)(len / eb),
		.tail_len = (uint32_t)(len % eb),
		.tail = src + len / eb * eb,
		.off = s->off,
	};
	memset(st, 0, sizeof(*st));
	memset(s->hist, 0, sizeof(s->hist));
	propose(k, s, shape, src, h);
	planes_off_init(s, h);
	count_sample(k, s, h, src, st);
	if (h->flags) {
		uint64_t saved = cost(st->hist), spent = cost(s->hist);

		spent = spent * h->n / st->sampled + 8ull * h->n_off;
		saved = saved * h->n / st->sampled;
		if (spent < saved) {
			memcpy(st->hist, s->hist, sizeof(st->hist));
			return;
		}
	}
	h->flags = 0;
	h->cols = 0;
	h->n_off = 0;
}

size_t planes_head_len(const struct planes_head *h)
{
	return PLANES_HEAD + h->n_off + h->tail_len;
}

size_t planes_head_write(const struct planes_head *h, uint8_t *dst)
{
	dst[0] = h->eb;
	dst[1] = h->flags;
	dst[2] = h->param;
	dst[3] = h->const_mask;
	le32_put(dst + 4, h->cols);
	le32_put(dst + 8, h->n_escapes);
	le32_put(dst + 12, 0);
	memcpy(dst + PLANES_HEAD, h->off, h->n_off);
	memcpy(dst + PLANES_HEAD + h->n_off, h->tail, h->tail_len);
	return planes_head_len(h);
}

static bool head_offsets_ok(struct planes_head *h)
{
	if (h->flags == 0)
		return h->cols == 0;
	if (h->cols == 0 || h->cols > PLANES_COLS_MAX)
		return false;
	if (h->flags == PLANES_COL_OFFSETS)
		h->n_off = h->cols;
	else if (h->flags == PLANES_ROW_OFFSETS)
		h->n_off = (h->n + h->cols - 1) / h->cols;
	else
		return false;
	return true;
}

int64_t planes_head_read(const uint8_t *src, size_t src_len, size_t len, struct planes_head *ret)
{
	struct planes_head h = { 0 };

	if (src_len < PLANES_HEAD || len > UINT32_MAX / 2)
		return -KVFS_ECODEC;
	h.eb = src[0];
	h.flags = src[1];
	h.param = src[2];
	h.const_mask = src[3];
	h.cols = le32_get(src + 4);
	h.n_escapes = le32_get(src + 8);
	if ((h.eb != 1 && h.eb != 2 && h.eb != 4) || le32_get(src + 12) != 0)
		return -KVFS_ECODEC;
	h.n = (uint32_t)(len / h.eb);
	h.tail_len = (uint32_t)(len % h.eb);
	if (!head_offsets_ok(&h) || planes_head_len(&h) > src_len)
		return -KVFS_ECODEC;
	h.off = src + PLANES_HEAD;
	h.tail = h.off + h.n_off;
	*ret = h;
	return (int64_t)planes_head_len(&h);
}

/* The wave starts with whole periods, so that a run may begin at any column. */
void planes_off_init(struct planes_scratch *s, const struct planes_head *h)
{
	if (h->flags != PLANES_COL_OFFSETS)
		return;
	for (size_t i = 0; i < h->cols + PLANES_RUN; i += h->cols) {
		size_t left = h->cols + PLANES_RUN - i;

		memcpy(s->off_wave + i, h->off, left < h->cols ? left : h->cols);
	}
}

const uint8_t *planes_off_run(struct planes_scratch *s, const struct planes_head *h, size_t first,
			      size_t n)
{
	if (h->flags == PLANES_COL_OFFSETS)
		return s->off_wave + first % h->cols;
	if (h->flags != PLANES_ROW_OFFSETS)
		return NULL;
	for (size_t i = 0; i < n;) {
		size_t at = first + i, left = h->cols - at % h->cols;

		if (left > n - i)
			left = n - i;
		memset(s->off_run + i, h->off[at / h->cols], left);
		i += left;
	}
	return s->off_run;
}

void planes_split_run(const struct planes_kern *k, struct planes_scratch *s,
		      const struct planes_head *h, const uint8_t *src, size_t first, size_t n,
		      uint8_t *top, uint8_t *const low[PLANES_LOWS_MAX])
{
	const uint8_t *off = planes_off_run(s, h, first, n);

	k->split(h->eb, src + first * h->eb, n, top, low);
	if (off)
		k->sub(top, off, n);
}
