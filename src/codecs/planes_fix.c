// SPDX-License-Identifier: MIT
/*
 * planes-fix: the form for DRAM. Every levelled top byte becomes a code of
 * fixed width for one of the chunk's most frequent values; rarer ones get the
 * last code, the escape, and lie in a list of their own, in element order, so
 * that no positions are stored. All else is raw: decoding is table lookups and
 * copies. bf16 takes 3 or 4 bits of code, f16 and fp8 5 to 7.
 *
 * After the common head (planes.h), w = param = code width, const_mask = which
 * low planes are constant:
 *   dictionary: 2^w - 1 bytes, the value of each code but the escape
 *   one byte per constant low plane, its value, lowest plane first
 *   zeros up to a multiple of 64 bytes from the start
 *   each other low plane, lowest first: n bytes, zeros up to a multiple of 64
 *   the code planes, parts of 4, 2, 1 bits as w has them (simd/kernels.h):
 *     ceil(n / 512) blocks of 64 * bits bytes each. Elements beyond n have code 0.
 *   the escapes: n_escapes bytes, to the end
 *
 * Failure modes: a chunk that does not shrink is -KVFS_ENOGAIN, noticed from the
 * sample, or at the latest when the escapes reach the chunk's length.
 */
#include <errno.h>
#include <string.h>

#include "codecs/codec_ctx.h"

/* Where the parts of the encoded bytes lie. */
struct fix_map {
	size_t dict, fill, low[PLANES_LOWS_MAX], part[FIX_PARTS], esc;
};

static size_t align64(size_t x)
{
	return (x + 63) & ~(size_t)63;
}

static struct fix_map fix_map_of(const struct planes_head *h)
{
	struct fix_map m = { 0 };
	size_t blocks = ((size_t)h->n + FIX_BLOCK - 1) / FIX_BLOCK, at;

	m.dict = planes_head_len(h);
	m.fill = m.dict + (1u << h->param) - 1;
	at = align64(m.fill + (unsigned)__builtin_popcount(h->const_mask));
	for (unsigned p = 0; p + 1 < h->eb; p++)
		if (!(h->const_mask >> p & 1)) {
			m.low[p] = at;
			at = align64(at + h->n);
		}
	for (unsigned p = 0; p < FIX_PARTS; p++)
		if (fix_part_used(h->param, p)) {
			m.part[p] = at;
			at += blocks * fix_part_bits(p) * 64;
		}
	m.esc = at;
	return m;
}

static size_t fix_bound(const struct chunk_shape *shape, size_t len, unsigned layer)
{
	(void)shape, (void)layer;
	return len ? len : 1; /* what does not shrink is given up */
}

/* Values by falling frequency, equal ones by rising value; those that do not
 * occur come last. Few occur, so that insertion is quick. */
static void rank_values(const uint32_t hist[256], uint8_t order[256])
{
	unsigned n = 0, last = 256;

	for (unsigned v = 0; v < 256; v++) {
		unsigned at;

		if (hist[v] == 0)
			continue;
		for (at = n++; at > 0 && hist[order[at - 1]] < hist[v]; at--)
			order[at] = order[at - 1];
		order[at] = (uint8_t)v;
	}
	for (unsigned v = 256; v-- > 0;)
		if (hist[v] == 0)
			order[--last] = (uint8_t)v;
}

/* Bits that the sample's top plane takes at the best width. */
static uint64_t fix_cost_width(const uint32_t hist[256], unsigned *ret_width)
{
	uint8_t order[256];
	uint64_t n = 0, in = 0, best = UINT64_MAX;
	unsigned i = 0;

	rank_values(hist, order);
	for (unsigned v = 0; v < 256; v++)
		n += hist[v];
	for (unsigned w = FIX_WIDTH_MIN; w <= FIX_WIDTH_MAX; w++) {
		uint64_t bits;

		for (; i < (1u << w) - 1; i++)
			in += hist[order[i]];
		bits = w * n + 8 * (n - in);
		if (bits < best) {
			best = bits;
			*ret_width = w;
		}
	}
	return best;
}

static uint64_t fix_cost(const uint32_t hist[256])
{
	unsigned width;

	return fix_cost_width(hist, &width);
}

static void dict_make(const uint32_t hist[256], unsigned width, struct fix_dict *d)
{
	uint8_t order[256];
	unsigned escape = (1u << width) - 1;

	rank_values(hist, order);
	d->width = width;
	memset(d->value, 0, sizeof(d->value));
	memset(d->code, (int)escape, sizeof(d->code));
	for (unsigned c = 0; c < escape; c++) {
		d->value[c] = order[c];
		d->code[order[c]] = (uint8_t)c;
	}
}

/* Is a low plane that the sample saw as constant so throughout? */
static bool low_is_const(const struct planes_kern *k, struct planes_scratch *s, unsigned eb,
			 const uint8_t *src, size_t n, unsigned plane)
{
	uint8_t *low[PLANES_LOWS_MAX] = { NULL };
	uint8_t *buf = s->seg[1];

	low[plane] = buf;
	k->split(eb, src, 1, s->top, low);
	for (size_t i = 0; i < n; i += PLANES_RUN) {
		size_t m = n - i < PLANES_RUN ? n - i : PLANES_RUN;

		low[plane] = buf + 1;
		k->split(eb, src + i * eb, m, s->top, low);
		if (memcmp(buf, buf + 1, m) != 0)
			return false;
	}
	return true;
}

static uint8_t find_const(const struct planes_kern *k, struct planes_scratch *s,
			  const struct planes_stats *st, const struct planes_head *h,
			  const uint8_t *src)
{
	uint8_t mask = 0;

	for (unsigned p = 0; p + 1 < h->eb; p++) {
		bool one = false;

		for (unsigned v = 0; v < 256; v++)
			one |= st->low_hist[p][v] == st->sampled;
		if (one && low_is_const(k, s, h->eb, src, h->n, p))
			mask |= (uint8_t)(1u << p);
	}
	return mask;
}

/* Everything in front of the planes, and the planes' padding. */
static void write_front(const struct planes_head *h, const struct fix_map *m,
			const struct fix_dict *d, const uint8_t *src, uint8_t *out)
{
	uint8_t one, lows[PLANES_LOWS_MAX];
	uint8_t *low[PLANES_LOWS_MAX] = { lows, lows + 1, lows + 2 };
	size_t at = m->fill;

	planes_head_write(h, out);
	memcpy(out + m->dict, d->value, (1u << d->width) - 1);
	planes_split_portable(h->eb, src, 1, &one, low);
	for (unsigned p = 0; p + 1 < h->eb; p++)
		if (h->const_mask >> p & 1)
			out[at++] = lows[p];
	memset(out + at, 0, align64(at) - at);
	for (unsigned p = 0; p + 1 < h->eb; p++)
		if (!(h->const_mask >> p & 1))
			memset(out + m->low[p] + h->n, 0, align64(h->n) - h->n);
}

/* Codes all elements; the number of escapes, or -KVFS_ENOGAIN when they reach limit. */
static int64_t write_planes(const struct planes_kern *k, struct planes_scratch *s,
			    const struct planes_head *h, const struct fix_map *m,
			    const uint8_t *src, uint8_t *out, size_t limit)
{
	uint8_t *low[PLANES_LOWS_MAX] = { NULL }, *part[FIX_PARTS] = { NULL };
	size_t esc = m->esc;

	for (unsigned p = 0; p + 1 < h->eb; p++)
		if (!(h->const_mask >> p & 1))
			low[p] = out + m->low[p];
	for (unsigned p = 0; p < FIX_PARTS; p++)
		if (fix_part_used(h->param, p))
			part[p] = out + m->part[p];
	for (size_t i = 0; i < h->n; i += PLANES_RUN) {
		size_t n = h->n - i < PLANES_RUN ? h->n - i : PLANES_RUN;
		size_t blocks = (n + FIX_BLOCK - 1) / FIX_BLOCK, got;

		planes_split_run(k, s, h, src, i, n, s->top, low);
		memset(s->top + n, s->dict.value[0], blocks * FIX_BLOCK - n);
		got = k->pack(&s->dict, s->top, blocks, part, s->esc);
		if (got > limit - esc)
			return -KVFS_ENOGAIN;
		memcpy(out + esc, s->esc, got);
		esc += got;
		for (unsigned p = 0; p + 1 < h->eb; p++)
			low[p] = low[p] ? low[p] + n : NULL;
		for (unsigned p = 0; p < FIX_PARTS; p++)
			part[p] = part[p] ? part[p] + blocks * fix_part_bits(p) * 64 : NULL;
	}
	return (int64_t)(esc - m->esc);
}

static int fix_encode(struct codec_ctx *ctx, const struct chunk_shape *shape, const void *src,
		      size_t len, struct codec_out out[])
{
	struct planes_scratch *s;
	struct planes_stats st;
	struct planes_head h;
	struct fix_map m;
	uint64_t bits;
	unsigned width = 0;
	size_t limit = out[0].cap < len - 1 ? out[0].cap : len - 1;
	int64_t r;

	if (len == 0 || len > CODEC_CHUNK_MAX || shape->elem == ELEM_BYTES ||
	    shape->elem >= ELEM_TYPES_)
		return -EINVAL;
	if (len < PLANES_MIN_LEN)
		return -KVFS_ENOGAIN;
	r = planes_scratch_get(ctx, &s);
	if (r < 0)
		return (int)r;
	planes_measure(ctx->kern, s, shape, src, len, fix_cost, &h, &st);
	bits = fix_cost_width(st.hist, &width) * h.n / st.sampled;
	dict_make(st.hist, width, &s->dict);
	h.param = (uint8_t)width;
	h.const_mask = find_const(ctx->kern, s, &st, &h, src);
	m = fix_map_of(&h);
	if (m.esc >= limit || m.esc + (bits - (uint64_t)width * h.n) / 8 >= len - len / 128)
		return -KVFS_ENOGAIN; /* the second as the sample has it */
	r = write_planes(ctx->kern, s, &h, &m, src, out[0].buf, limit);
	if (r < 0)
		return (int)r;
	h.n_escapes = (uint32_t)r;
	write_front(&h, &m, &s->dict, src, out[0].buf);
	out[0].len = m.esc + h.n_escapes;
	return 0;
}

/* Checks all but the codes themselves and readies the scratch. */
static int fix_open(struct planes_scratch *s, const uint8_t *src, size_t src_len, size_t len,
		    struct planes_head *h, struct fix_map *m)
{
	size_t at;
	int64_t r = planes_head_read(src, src_len, len, h);

	if (r < 0)
		return (int)r;
	if (h->param < FIX_WIDTH_MIN || h->param > FIX_WIDTH_MAX ||
	    h->const_mask >> (h->eb - 1))
		return -KVFS_ECODEC;
	*m = fix_map_of(h);
	if (m->esc > src_len || src_len - m->esc != h->n_escapes)
		return -KVFS_ECODEC;
	s->dict.width = h->param;
	memset(s->dict.value, 0, sizeof(s->dict.value));
	memcpy(s->dict.value, src + m->dict, (1u << h->param) - 1);
	at = m->fill;
	for (unsigned p = 0; p + 1 < h->eb; p++)
		if (h->const_mask >> p & 1)
			memset(s->fill[p], src[at++], PLANES_RUN);
	for (; at < align64(at); at++)
		if (src[at] != 0)
			return -KVFS_ECODEC;
	planes_off_init(s, h);
	return 0;
}

static int fix_decode(struct codec_ctx *ctx, const struct chunk_shape *shape,
		      const struct codec_in in[], unsigned n_in, void *dst, size_t len,
		      unsigned flags)
{
	const uint8_t *src = n_in ? in[0].buf : NULL, *low[PLANES_LOWS_MAX] = { NULL };
	struct fix_planes fp = { 0 };
	struct planes_scratch *s;
	struct planes_head h;
	struct fix_map m = { 0 };
	int r;

	(void)shape;
	if (n_in != 1 || len > CODEC_CHUNK_MAX)
		return -KVFS_ECODEC;
	r = planes_scratch_get(ctx, &s);
	if (r == 0)
		r = fix_open(s, src, in[0].len, len, &h, &m);
	if (r < 0)
		return r;
	for (unsigned p = 0; p < FIX_PARTS; p++)
		fp.part[p] = src + m.part[p];
	fp.esc = src + m.esc;
	fp.esc_end = fp.esc + h.n_escapes;
	for (size_t i = 0; i < h.n; i += PLANES_RUN) {
		size_t n = h.n - i < PLANES_RUN ? h.n - i : PLANES_RUN;

		if (!ctx->kern->unpack(&s->dict, &fp, (n + FIX_BLOCK - 1) / FIX_BLOCK, s->top))
			return -KVFS_ECODEC;
		for (unsigned p = 0; p + 1 < h.eb; p++)
			low[p] = h.const_mask >> p & 1 ? s->fill[p] : src + m.low[p] + i;
		ctx->kern->merge(h.eb, s->top, planes_off_run(s, &h, i, n), low, n,
				 (uint8_t *)dst + i * h.eb, flags & CODEC_DECODE_STREAM);
	}
	memcpy((uint8_t *)dst + (size_t)h.n * h.eb, h.tail, h.tail_len);
	return fp.esc == fp.esc_end ? 0 : -KVFS_ECODEC;
}

const struct codec_ops codec_planes_fix = {
	.id = CODEC_PLANES_FIX,
	.layers = 1,
	.elem_mask = 1u << ELEM_F32 | 1u << ELEM_F16 | 1u << ELEM_BF16 | 1u << ELEM_F8E4M3 |
		     1u << ELEM_F8E5M2,
	.name = "planes-fix",
	.bound = fix_bound,
	.encode = fix_encode,
	.decode = fix_decode,
};
