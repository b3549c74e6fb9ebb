// SPDX-License-Identifier: MIT
/*
 * planes-huf: the form for SSD. The levelled top plane is Huffman-coded by
 * libzstd, segment by segment, so that planes stay in L2; low planes are raw,
 * unless a sample says that they too can be coded (constant, or zeros in
 * between, or f32 that was bf16).
 *
 * After the common head (planes.h), param = log2 of the elements of a segment
 * (the last one is shorter; a chunk without elements has none):
 *   directory: per segment and plane a u32, the stored bytes of that plane;
 *     per segment the low planes, lowest first, then the top plane
 *   the planes in the order of the directory, without gaps, to the end
 * A plane of n elements stored in n bytes is raw; in 1 byte, constant; in more
 * than 1 and fewer than n, one zstd frame; else malformed.
 *
 * Failure modes: a chunk that does not shrink is -KVFS_ENOGAIN, noticed from the
 * sample or when the output reaches the chunk's length.
 */
#include <errno.h>
#include <string.h>

#include "base/le.h"
#include "codecs/codec_ctx.h"

#define SEG_LOG 16u
#define CODED_BITS_256 (7 * 256 + 128) /* a low plane is coded below 7.5 bits */

struct huf_enc {
	struct codec_ctx *ctx;
	struct planes_scratch *s;
	struct planes_head h;
	const uint8_t *src;
	uint8_t *out;
	size_t at, limit; /* next byte of out; where to give up */
	bool low_coded[PLANES_LOWS_MAX];
};

static size_t huf_bound(const struct chunk_shape *shape, size_t len, unsigned layer)
{
	(void)shape, (void)layer;
	return len ? len : 1; /* what does not shrink is given up */
}

static size_t huf_segments(const struct planes_head *h)
{
	return ((size_t)h->n + (1u << h->param) - 1) >> h->param;
}

static uint64_t huf_cost(const uint32_t hist[256])
{
	uint64_t n = 0;

	for (unsigned v = 0; v < 256; v++)
		n += hist[v];
	return planes_entropy(hist) * n / 256;
}

/* Appends one plane in its shortest form; its length goes to the directory. */
static int put_plane(struct huf_enc *e, const uint8_t *plane, size_t n, uint8_t *dir)
{
	size_t room = e->limit - e->at, got = 1;
	int r;

	if (room == 0)
		return -KVFS_ENOGAIN;
	if (n == 1 || memcmp(plane, plane + 1, n - 1) == 0) {
		e->out[e->at] = plane[0];
	} else {
		r = zstd_pack(e->ctx, ZSTD_WAY_HUFFMAN, plane, n, e->out + e->at,
			      room < n - 1 ? room : n - 1, &got);
		if (r == -ENOMEM)
			return r;
		if (r < 0) {
			if (n > room)
				return -KVFS_ENOGAIN;
			memcpy(e->out + e->at, plane, n);
			got = n;
		}
	}
	le32_put(dir, (uint32_t)got);
	e->at += got;
	return 0;
}

static int put_segment(struct huf_enc *e, size_t first, size_t n, uint8_t *dir)
{
	uint8_t *low[PLANES_LOWS_MAX] = { NULL };
	unsigned lows = e->h.eb - 1u;
	int r;

	for (unsigned p = 0; p < lows; p++)
		low[p] = e->s->seg[1 + p];
	if (lows == 1 && !e->low_coded[0] && n > 1) { /* the common case: no second copy */
		if (n > e->limit - e->at)
			return -KVFS_ENOGAIN;
		low[0] = e->out + e->at;
	}
	for (size_t i = 0; i < n; i += PLANES_RUN) {
		size_t m = n - i < PLANES_RUN ? n - i : PLANES_RUN;
		uint8_t *run[PLANES_LOWS_MAX] = { NULL };

		for (unsigned p = 0; p < lows; p++)
			run[p] = low[p] + i;
		planes_split_run(e->ctx->kern, e->s, &e->h, e->src, first + i, m,
				 e->s->seg[0] + i, run);
	}
	for (unsigned p = 0; p < lows; p++, dir += 4) {
		if (e->low_coded[p] || n == 1) {
			r = put_plane(e, low[p], n, dir);
			if (r < 0)
				return r;
			continue;
		}
		if (n > e->limit - e->at)
			return -KVFS_ENOGAIN;
		if (low[p] != e->out + e->at)
			memcpy(e->out + e->at, low[p], n);
		le32_put(dir, (uint32_t)n);
		e->at += n;
	}
	return put_plane(e, e->s->seg[0], n, dir);
}

/* True when the sample promises a gain; decides which low planes are coded. */
static bool judge(struct huf_enc *e, const struct planes_stats *st, size_t len)
{
	uint64_t bits_256 = planes_entropy(st->hist);

	for (unsigned p = 0; p < PLANES_LOWS_MAX && p + 1u < e->h.eb; p++) {
		uint64_t low = planes_entropy(st->low_hist[p]);

		e->low_coded[p] = low < CODED_BITS_256;
		bits_256 += e->low_coded[p] ? low : 8 * 256;
	}
	return bits_256 * e->h.n / (8 * 256) + planes_head_len(&e->h) < len - len / 128;
}

static int huf_encode(struct codec_ctx *ctx, const struct chunk_shape *shape, const void *src,
		      size_t len, struct codec_out out[])
{
	struct huf_enc e = { .ctx = ctx, .src = src, .out = out[0].buf };
	struct planes_stats st;
	size_t dir, segs;
	int r;

	if (len == 0 || len > CODEC_CHUNK_MAX || shape->elem == ELEM_BYTES ||
	    shape->elem >= ELEM_TYPES_)
		return -EINVAL;
	if (len < PLANES_MIN_LEN)
		return -KVFS_ENOGAIN;
	r = planes_scratch_get(ctx, &e.s);
	if (r < 0)
		return r;
	planes_measure(ctx->kern, e.s, shape, src, len, huf_cost, &e.h, &st);
	e.h.param = SEG_LOG;
	e.limit = out[0].cap < len - 1 ? out[0].cap : len - 1;
	segs = huf_segments(&e.h);
	dir = planes_head_len(&e.h);
	e.at = dir + segs * e.h.eb * 4;
	if (!judge(&e, &st, len) || e.at >= e.limit)
		return -KVFS_ENOGAIN;
	planes_head_write(&e.h, e.out);
	for (size_t g = 0; g < segs; g++) {
		size_t first = g << SEG_LOG, left = e.h.n - first;

		r = put_segment(&e, first, left < 1u << SEG_LOG ? left : 1u << SEG_LOG,
				e.out + dir + g * e.h.eb * 4);
		if (r < 0)
			return r;
	}
	out[0].len = e.at;
	return 0;
}

struct huf_dec {
	struct codec_ctx *ctx;
	struct planes_scratch *s;
	struct planes_head h;
	const uint8_t *dir, *data; /* next of each */
	size_t left;               /* bytes at data */
};

/* The next plane of the directory: *ret points to n bytes, or to PLANES_RUN
 * equal ones (*ret_const). @spare has n bytes of room, @fill PLANES_RUN. */
static int get_plane(struct huf_dec *d, size_t n, uint8_t *spare, uint8_t *fill,
		     const uint8_t **ret, bool *ret_const)
{
	size_t len = le32_get(d->dir);
	int r = 0;

	if (len == 0 || len > n || len > d->left)
		return -KVFS_ECODEC;
	*ret_const = len == 1;
	*ret = d->data;
	if (len == 1) {
		memset(fill, d->data[0], PLANES_RUN);
		*ret = fill;
	} else if (len < n) {
		r = zstd_unpack(d->ctx, d->data, len, spare, n);
		*ret = spare;
	}
	d->dir += 4;
	d->data += len;
	d->left -= len;
	return r;
}

static int get_segment(struct huf_dec *d, size_t first, size_t n, uint8_t *dst, bool stream)
{
	const uint8_t *plane[1 + PLANES_LOWS_MAX], *low[PLANES_LOWS_MAX] = { NULL };
	bool same[1 + PLANES_LOWS_MAX];
	unsigned eb = d->h.eb;

	for (unsigned p = 0; p < eb; p++) { /* the top plane comes last */
		uint8_t *fill = p + 1 < eb ? d->s->fill[p] : d->s->top;
		int r = get_plane(d, n, d->s->seg[p], fill, &plane[p], &same[p]);

		if (r < 0)
			return r;
	}
	for (size_t i = 0; i < n; i += PLANES_RUN) {
		size_t m = n - i < PLANES_RUN ? n - i : PLANES_RUN;

		for (unsigned p = 0; p + 1 < eb; p++)
			low[p] = plane[p] + (same[p] ? 0 : i);
		d->ctx->kern->merge(eb, plane[eb - 1] + (same[eb - 1] ? 0 : i),
				    planes_off_run(d->s, &d->h, first + i, m), low, m,
				    dst + i * eb, stream);
	}
	return 0;
}

static int huf_decode(struct codec_ctx *ctx, const struct chunk_shape *shape,
		      const struct codec_in in[], unsigned n_in, void *dst, size_t len,
		      unsigned flags)
{
	struct huf_dec d = { .ctx = ctx };
	const uint8_t *src = n_in ? in[0].buf : NULL;
	size_t segs;
	int64_t r;

	(void)shape;
	if (n_in != 1 || len > CODEC_CHUNK_MAX)
		return -KVFS_ECODEC;
	r = planes_scratch_get(ctx, &d.s);
	if (r == 0)
		r = planes_head_read(src, in[0].len, len, &d.h);
	if (r < 0)
		return (int)r;
	if (d.h.param < PLANES_SEG_LOG_MIN || d.h.param > PLANES_SEG_LOG_MAX ||
	    d.h.const_mask != 0 || d.h.n_escapes != 0)
		return -KVFS_ECODEC;
	segs = huf_segments(&d.h);
	if ((in[0].len - (size_t)r) / (4u * d.h.eb) < segs)
		return -KVFS_ECODEC;
	d.dir = src + r;
	d.data = d.dir + segs * d.h.eb * 4;
	d.left = in[0].len - (size_t)r - segs * d.h.eb * 4;
	planes_off_init(d.s, &d.h);
	for (size_t g = 0; g < segs; g++) {
		size_t first = g << d.h.param, left = d.h.n - first;

		r = get_segment(&d, first, left < 1u << d.h.param ? left : 1u << d.h.param,
				(uint8_t *)dst + first * d.h.eb, flags & CODEC_DECODE_STREAM);
		if (r < 0)
			return (int)r;
	}
	memcpy((uint8_t *)dst + (size_t)d.h.n * d.h.eb, d.h.tail, d.h.tail_len);
	return d.left == 0 ? 0 : -KVFS_ECODEC;
}

const struct codec_ops codec_planes_huf = {
	.id = CODEC_PLANES_HUF,
	.layers = 1,
	.elem_mask = 1u << ELEM_F32 | 1u << ELEM_F16 | 1u << ELEM_BF16 | 1u << ELEM_F8E4M3 |
		     1u << ELEM_F8E5M2,
	.name = "planes-huf",
	.bound = huf_bound,
	.encode = huf_encode,
	.decode = huf_decode,
};
