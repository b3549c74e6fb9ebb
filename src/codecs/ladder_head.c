// SPDX-License-Identifier: MIT
/*
 * The ladder's layer 0 up to the codes: written, checked and read, and what of it
 * overrides decoded values. The same bytes in both packings.
 */
#include <errno.h>
#include <string.h>

#include "base/le.h"
#include "base/mem.h"
#include "codecs/ladder.h"

int ladder_scratch_get(struct codec_ctx *ctx, bool encode, struct ladder_scratch **ret)
{
	if (!ctx->ladder) {
		ctx->ladder = mem_alloc_pages(sizeof(*ctx->ladder));
		if (!ctx->ladder)
			return -ENOMEM;
		ctx->ladder->stats = NULL;
	}
	if (encode && !ctx->ladder->stats) {
		ctx->ladder->stats = mem_alloc_pages(sizeof(*ctx->ladder->stats));
		if (!ctx->ladder->stats)
			return -ENOMEM;
	}
	*ret = ctx->ladder;
	return 0;
}

void ladder_scratch_free(struct ladder_scratch *s)
{
	if (!s)
		return;
	mem_free_pages(s->stats, sizeof(*s->stats));
	mem_free_pages(s, sizeof(*s));
}

size_t ladder_scratch_bytes(const struct ladder_scratch *s)
{
	return s ? sizeof(*s) + (s->stats ? sizeof(*s->stats) : 0) : 0;
}

bool ladder_head_shape(struct ladder_head *h, size_t len)
{
	size_t n;

	if (h->elem != ELEM_F32 && h->elem != ELEM_F16 && h->elem != ELEM_BF16)
		return false;
	h->eb = (uint8_t)elem_bytes(h->elem);
	n = len / h->eb;
	if (n < LADDER_ELEMS_MIN || n > LADDER_ELEMS_MAX || h->cols < LADDER_COLS_MIN ||
	    h->cols > n || (!h->transposed && h->cols > LADDER_CHANNELS_MAX))
		return false;
	h->len = (uint32_t)len;
	h->rows = (uint32_t)(n / h->cols);
	h->tail_len = (uint32_t)(len - (size_t)h->rows * h->cols * h->eb);
	return true;
}

void ladder_head_places(struct ladder_head *h, size_t row_bytes)
{
	size_t over = (size_t)h->rows * (h->first_cols + h->last_cols) * h->eb;

	h->at_turns = LADDER_HEAD + 2u * h->n_classes;
	h->at_ranges = h->at_turns + 2u * h->head;
	h->at_rows = h->at_ranges + 8u * h->n_ranges;
	h->at_overlay = h->at_rows + row_bytes;
	h->at_patches = h->at_overlay + over;
	h->at_class = h->at_patches + (size_t)h->n_patches * (4 + h->eb);
	h->at_mean = h->at_class + (h->channels + 1) / 2;
	h->at_tail = h->at_mean + 2 * (size_t)h->channels;
	h->at_codes = h->at_tail + h->tail_len;
}

static size_t range_bytes(const struct ladder_head *h, const struct ladder_range *r)
{
	return r->fill ? h->eb : (size_t)r->n * h->cols * h->eb;
}

size_t ladder_ranges_bytes(const struct ladder_head *h, const struct ladder_range *r)
{
	size_t n = 0;

	for (uint32_t i = 0; i < h->n_ranges; i++)
		n += range_bytes(h, &r[i]);
	return n;
}

static uint8_t *write_overlay(const struct ladder_head *h, const uint8_t *src, uint8_t *at)
{
	size_t row = (size_t)h->cols * h->eb, first = (size_t)h->first_cols * h->eb;
	size_t last = (size_t)h->last_cols * h->eb;

	for (uint32_t i = 0; first + last && i < h->rows; i++, src += row) {
		memcpy(at, src, first);
		memcpy(at + first, src + row - last, last);
		at += first + last;
	}
	return at;
}

void ladder_head_write(const struct ladder_head *h, const struct ladder_scratch *s,
		       const uint8_t *src, uint8_t *dst)
{
	size_t row = (size_t)h->cols * h->eb;
	uint8_t *at = dst + h->at_rows;

	memset(dst, 0, LADDER_HEAD);
	dst[0] = h->elem;
	dst[1] = h->transposed;
	dst[2] = (uint8_t)h->e;
	dst[3] = h->n_classes;
	dst[4] = h->n_bits;
	memcpy(dst + 5, h->bits, LADDER_REFINEMENTS_MAX);
	le32_put(dst + 12, h->cols);
	le16_put(dst + 16, (uint16_t)h->n_ranges);
	le16_put(dst + 18, (uint16_t)h->first_cols);
	le16_put(dst + 20, (uint16_t)h->last_cols);
	dst[11] = h->turn;
	le16_put(dst + 22, h->head);
	le32_put(dst + 24, h->n_patches);
	le32_put(dst + 28, h->n_escapes);
	memcpy(dst + LADDER_HEAD, h->draw, h->n_classes);
	memcpy(dst + h->at_turns - h->n_classes, h->width, h->n_classes);
	for (unsigned i = 0; i < h->head / 2u; i++)
		le32_put(dst + h->at_turns + 4 * i, s->turns.pair[i]);
	for (uint32_t i = 0; i < h->n_ranges; i++) {
		const struct ladder_range *r = &s->ranges[i];

		le32_put(dst + h->at_ranges + 8 * i, r->first);
		le32_put(dst + h->at_ranges + 8 * i + 4, r->n | (r->fill ? LADDER_FILL : 0));
		memcpy(at, src + r->first * row, range_bytes(h, r));
		at += range_bytes(h, r);
	}
	at = write_overlay(h, src, at);
	for (uint32_t i = 0; i < h->n_patches; i++) {
		le32_put(at + 4 * i, s->stats->patches[i]);
		memcpy(at + 4 * h->n_patches + (size_t)i * h->eb,
		       src + (size_t)s->stats->patches[i] * h->eb, h->eb);
	}
	memset(dst + h->at_class, 0, h->at_mean - h->at_class);
	for (uint32_t c = 0; c < h->channels; c++) {
		dst[h->at_class + c / 2] |= (uint8_t)(s->class[c] << 4 * (c & 1));
		le16_put(dst + h->at_mean + 2 * (size_t)c, (uint16_t)s->mean[c]);
	}
	memcpy(dst + h->at_tail, src + h->rows * row, h->tail_len);
}

static bool read_bits(struct ladder_head *h, const uint8_t *src)
{
	unsigned sum = 0;

	if (h->n_bits == 0 || h->n_bits > LADDER_REFINEMENTS_MAX)
		return false;
	for (unsigned i = 0; i < LADDER_REFINEMENTS_MAX; i++) {
		uint8_t b = src[5 + i];

		if (i < h->n_bits ? b != 1 && b != 2 && b != 4 : b != 0)
			return false;
		h->bits[i] = b;
		sum += b;
	}
	return sum <= LADDER_BITS_MAX;
}

/* The fixed part. */
static bool read_fixed(struct ladder_head *h, const uint8_t *src, size_t len)
{
	h->elem = src[0];
	h->transposed = src[1];
	h->e = (int8_t)src[2];
	h->n_classes = src[3];
	h->n_bits = src[4];
	h->cols = le32_get(src + 12);
	h->n_ranges = le16_get(src + 16);
	h->first_cols = le16_get(src + 18);
	h->last_cols = le16_get(src + 20);
	h->n_patches = le32_get(src + 24);
	h->n_escapes = le32_get(src + 28);
	h->turn = src[11];
	h->head = le16_get(src + 22);
	if (src[1] > 1 || !read_bits(h, src) || !ladder_head_shape(h, len))
		return false;
	if (h->turn ? h->turn > 2 || h->transposed || h->head < 2 || h->head > LADDER_HEAD_MAX ||
				h->head % 2 || h->cols % h->head
		    : h->head != 0)
		return false;
	return h->e >= (h->elem == ELEM_F16 ? -40 : -100) && h->e <= (h->elem == ELEM_F16 ? 0 : 100) &&
	       h->n_classes >= 1 && h->n_classes <= LADDER_CLASSES_MAX &&
	       h->n_ranges <= LADDER_RANGES_MAX && h->n_patches <= LADDER_PATCHES_MAX &&
	       h->n_escapes <= LADDER_ESCAPES_MAX && h->first_cols + h->last_cols <= h->cols &&
	       (h->transposed || h->first_cols + h->last_cols == 0);
}

static bool read_ranges(struct ladder_scratch *s, struct ladder_head *h, const uint8_t *src)
{
	uint32_t next = 0;

	h->coded_rows = h->rows;
	for (uint32_t i = 0; i < h->n_ranges; i++) {
		struct ladder_range *r = &s->ranges[i];
		uint32_t n = le32_get(src + h->at_ranges + 8 * i + 4);

		r->first = le32_get(src + h->at_ranges + 8 * i);
		r->fill = n & LADDER_FILL;
		r->n = n & ~LADDER_FILL;
		if (r->first < next || r->first >= h->rows || r->n == 0 ||
		    r->n > h->rows - r->first)
			return false;
		next = r->first + r->n;
		h->coded_rows -= r->n;
	}
	h->channels = h->transposed ? h->coded_rows : h->cols;
	return h->coded_rows > 0 && h->channels <= LADDER_CHANNELS_MAX;
}

static bool read_patches(const struct ladder_head *h, const uint8_t *src)
{
	uint32_t next = 0, n = h->rows * h->cols;

	for (uint32_t i = 0; i < h->n_patches; i++) {
		uint32_t at = le32_get(src + h->at_patches + 4 * (size_t)i);

		if (at < next || at >= n)
			return false;
		next = at + 1;
	}
	return true;
}

int ladder_head_read(struct ladder_scratch *s, const uint8_t *src, size_t src_len, size_t len,
		     struct ladder_head *h)
{
	*h = (struct ladder_head){ 0 };
	if (src_len < LADDER_HEAD || !read_fixed(h, src, len))
		return -KVFS_ECODEC;
	ladder_head_places(h, 0);
	if (h->at_rows > src_len || !read_ranges(s, h, src))
		return -KVFS_ECODEC;
	ladder_head_places(h, ladder_ranges_bytes(h, s->ranges));
	if (h->at_codes > src_len || !read_patches(h, src))
		return -KVFS_ECODEC;
	memcpy(h->draw, src + LADDER_HEAD, h->n_classes);
	for (unsigned i = 0; i < h->n_classes; i++) {
		h->width[i] = src[h->at_turns - h->n_classes + i];
		if (h->width[i] > 8)
			return -KVFS_ECODEC;
	}
	for (uint32_t c = 0; c < h->channels; c++) {
		s->class[c] = src[h->at_class + c / 2] >> 4 * (c & 1) & 15;
		s->mean[c] = (int16_t)le16_get(src + h->at_mean + 2 * (size_t)c);
		if (s->class[c] >= h->n_classes)
			return -KVFS_ECODEC;
	}
	if (h->channels & 1 && src[h->at_mean - 1] >> 4)
		return -KVFS_ECODEC;
	for (unsigned i = 0; i < h->head / 2u; i++)
		s->turns.pair[i] = le32_get(src + h->at_turns + 4 * i);
	return 0;
}

static void fill_rows(const struct ladder_head *h, const uint8_t *one, size_t n, uint8_t *to)
{
	for (size_t i = 0; i < n * h->cols; i++, to += h->eb)
		memcpy(to, one, h->eb);
}

void ladder_overlay(const struct ladder_head *h, const struct ladder_scratch *s,
		    const uint8_t *src, uint8_t *dst)
{
	size_t row = (size_t)h->cols * h->eb, first = (size_t)h->first_cols * h->eb;
	size_t last = (size_t)h->last_cols * h->eb;
	const uint8_t *at = src + h->at_rows;

	for (uint32_t i = 0; i < h->n_ranges; i++) {
		const struct ladder_range *r = &s->ranges[i];

		if (r->fill)
			fill_rows(h, at, r->n, dst + r->first * row);
		else
			memcpy(dst + r->first * row, at, r->n * row);
		at += range_bytes(h, r);
	}
	for (uint32_t i = 0; first + last && i < h->rows; i++) {
		memcpy(dst + i * row, at, first);
		memcpy(dst + (i + 1) * row - last, at + first, last);
		at += first + last;
	}
	for (uint32_t i = 0; i < h->n_patches; i++)
		memcpy(dst + (size_t)le32_get(at + 4 * (size_t)i) * h->eb,
		       at + 4 * (size_t)h->n_patches + (size_t)i * h->eb, h->eb);
	memcpy(dst + h->rows * row, src + h->at_tail, h->tail_len);
}

unsigned ladder_digit(unsigned width)
{
	return width <= 2 ? width : width <= 4 ? 4 : 8;
}

struct ladder_level ladder_level_of(const struct ladder_head *h, unsigned missing)
{
	struct ladder_level v = { .f16 = h->elem == ELEM_F16, .e = h->e,
				  .draw = missing == h->n_bits };
	unsigned m = v.f16 ? 10 : 7, all = 0;

	for (unsigned i = 0; i < h->n_bits; i++) {
		all += h->bits[i];
		if (i >= h->n_bits - missing)
			v.shift = (uint8_t)(v.shift + h->bits[i]);
	}
	v.add = (int16_t)((v.shift ? 1 << (v.shift - 1) : 0) - (1 << (all - 1)));
	v.n_planes = (uint8_t)(m + 1);
	if (v.f16 && h->e + 24 < v.n_planes)
		v.n_planes = (uint8_t)(h->e + 24 < 0 ? 0 : h->e + 24);
	for (unsigned p = 0; p < v.n_planes; p++)
		v.limit[p] = (uint16_t)(1u << (m - p));
	return v;
}
