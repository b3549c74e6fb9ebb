// SPDX-License-Identifier: MIT
/*
 * The ladder's encoder: measure, then one pass over the blocks that writes all
 * layers side by side, then what is known only at its end.
 *
 * Failure modes: chunks without a usable step or with too many oddities, and those
 * that all layers together would not make smaller, are -KVFS_ENOGAIN.
 */
#include <errno.h>
#include <string.h>

#include "base/le.h"
#include "codecs/ladder.h"

#define EXACT_HEAD 16u

struct enc {
	struct codec_ctx *ctx;
	struct ladder_scratch *s;
	struct ladder_head h;
	const uint8_t *src;
	struct ladder_codes_out codes;
	struct ladder_out refine[LADDER_REFINEMENTS_MAX], exact;
	struct ladder_bits_out bits;
	uint8_t *exact_at;
	uint32_t n_zeros;
};

/* Room behind the head of each layer that has one. */
static int open_layers(struct enc *e, bool huf, struct codec_out out[])
{
	struct codec_out *last = &out[1 + e->h.n_bits];
	int r;

	if (out[0].cap < e->h.at_codes || last->cap < EXACT_HEAD)
		return -KVFS_ENOGAIN;
	r = ladder_codes_out_open(e->ctx, e->s, &e->h, huf, (uint8_t *)out[0].buf + e->h.at_codes,
				  out[0].cap - e->h.at_codes, &e->codes);
	for (unsigned i = 0; i < e->h.n_bits; i++) {
		uint8_t *p = out[1 + i].buf;

		e->refine[i] = (struct ladder_out){ p, p + out[1 + i].cap, e->s->tail[1 + i] };
	}
	e->exact_at = last->buf;
	e->exact = (struct ladder_out){ e->exact_at + EXACT_HEAD, e->exact_at + last->cap,
					e->s->tail[CODEC_LAYERS_MAX] };
	return r;
}

/* The block's bits of the exact layer, and the patterns of cell 0. */
static int put_exact(struct enc *e, const struct ladder_level *v)
{
	uint8_t *at = ladder_out_get(&e->exact, 1024);
	size_t n;

	e->bits.p = at;
	n = e->ctx->ladder_kern->exact_put(v, &e->s->block, &e->bits,
					   e->s->zeros + e->n_zeros);
	e->n_zeros += (uint32_t)n;
	return e->n_zeros <= LADDER_ZEROS_MAX &&
			       ladder_out_put(&e->exact, at, (size_t)(e->bits.p - at))
		       ? 0
		       : -KVFS_ENOGAIN;
}

static int put_block(struct enc *e, const struct ladder_level *v, const struct ladder_desc *d)
{
	const struct ladder_kern *k = e->ctx->ladder_kern;
	struct ladder_block *b = &e->s->block;
	unsigned low = 0;
	int r;

	k->cells(v, b);
	k->centre(v, b);
	for (unsigned i = e->h.n_bits; i-- > 0; low += e->h.bits[i]) {
		uint8_t *at = ladder_out_get(&e->refine[i], 64 * 8);

		k->digits(e->h.bits[i], low, d->lanes, b, at);
		if (!ladder_out_put(&e->refine[i], at, (size_t)d->lanes * e->h.bits[i]))
			return -KVFS_ENOGAIN;
	}
	e->h.n_escapes += (uint32_t)k->codes(d, low, b, e->s->escapes + e->h.n_escapes);
	if (e->h.n_escapes > LADDER_ESCAPES_MAX)
		return -KVFS_ENOGAIN;
	r = ladder_codes_put(e->ctx, e->s, d, &e->codes);
	return r < 0 ? r : put_exact(e, v);
}

static int put_blocks(struct enc *e)
{
	struct ladder_level v = ladder_level_of(&e->h, 0);
	struct ladder_walk w;
	int r = 0;

	ladder_walk_init(&w, e->ctx->ladder_kern, &e->h, e->s, false);
	while (r == 0 && ladder_walk_next(&w)) {
		ladder_block_load(&w, e->src, &e->s->block);
		ladder_walk_means(e->ctx->ladder_kern, &w, &e->s->block);
		r = put_block(e, &v, w.d);
	}
	return r;
}

/* f32: what the patterns lack; one for all when they are alike. */
static int put_lower(struct enc *e, bool *ret_equal)
{
	struct ladder_walk w;
	uint8_t *from = e->exact.p;

	*ret_equal = e->h.eb == 4;
	if (e->h.eb != 4)
		return 0;
	ladder_walk_init(&w, e->ctx->ladder_kern, &e->h, e->s, true);
	while (ladder_walk_next(&w))
		for (unsigned j = 0; j < LADDER_LINES; j++) {
			const uint8_t *p = e->src + (size_t)w.at[j] * 4;

			if ((size_t)(e->exact.end - e->exact.p) < 2u * w.count[j])
				return -KVFS_ENOGAIN;
			for (unsigned l = 0; l < w.count[j]; l++, p += 4, e->exact.p += 2) {
				memcpy(e->exact.p, p, 2);
				*ret_equal &= memcmp(e->exact.p, from, 2) == 0;
			}
		}
	if (*ret_equal)
		e->exact.p = from + 2;
	return 0;
}

/* The bits that wait, the patterns of cell 0, lower halves, and the head. */
static int close_exact(struct enc *e, size_t *ret_len)
{
	uint8_t last[8], *head = e->exact_at;
	uint32_t n_bits, n = e->n_zeros;
	bool equal;
	int64_t r;

	le64_put(last, e->bits.acc);
	if (!ladder_out_put(&e->exact, last, (e->bits.n + 7) / 8) ||
	    (size_t)(e->exact.end - e->exact.p) < n)
		return -KVFS_ENOGAIN;
	n_bits = (uint32_t)(e->exact.p - head - EXACT_HEAD);
	for (uint32_t i = 0; i < n; i++) {
		uint16_t p = e->s->zeros[i];

		p = (uint16_t)(p << 1 | p >> 15);
		*e->exact.p++ = (uint8_t)p;
		e->s->plane[i] = (uint8_t)(p >> 8);
	}
	r = ladder_plane_put(e->ctx, e->s->plane, n, e->exact.p,
			     (size_t)(e->exact.end - e->exact.p));
	if (r < 0)
		return (int)r;
	e->exact.p += r;
	le32_put(head + 4, n);
	le32_put(head + 8, (uint32_t)r);
	le32_put(head + 12, n_bits);
	r = put_lower(e, &equal);
	le32_put(head, equal);
	*ret_len = (size_t)(e->exact.p - head);
	return (int)r;
}

static int encode_all(struct enc *e, bool huf, size_t len, struct codec_out out[])
{
	size_t sum, last = 1u + e->h.n_bits;
	uint8_t *end;
	int r = open_layers(e, huf, out);

	if (r == 0)
		r = put_blocks(e);
	if (r == 0)
		r = ladder_codes_out_close(e->ctx, e->s, &e->h, &e->codes, &end);
	if (r == 0)
		r = close_exact(e, &out[last].len);
	if (r < 0)
		return r;
	ladder_head_write(&e->h, e->s, e->src, out[0].buf);
	out[0].len = (size_t)(end - (uint8_t *)out[0].buf);
	sum = out[0].len + out[last].len;
	for (unsigned i = 0; i < e->h.n_bits; i++) {
		out[1 + i].len = (size_t)(e->refine[i].p - (uint8_t *)out[1 + i].buf);
		sum += out[1 + i].len;
	}
	return sum < len ? 0 : -KVFS_ENOGAIN;
}

int ladder_encode(struct codec_ctx *ctx, bool huf, const struct chunk_shape *shape,
		  const struct ladder_opts *opts, const void *src, size_t len,
		  struct codec_out out[], unsigned *ret_layers)
{
	struct enc e = { .ctx = ctx, .src = src };
	int r;

	if (len == 0 || len > CODEC_CHUNK_MAX ||
	    (shape->elem != ELEM_F32 && shape->elem != ELEM_F16 && shape->elem != ELEM_BF16))
		return -EINVAL;
	r = ladder_scratch_get(ctx, true, &e.s);
	if (r == 0)
		r = ladder_measure(ctx, e.s, shape, opts, src, len, &e.h);
	if (r < 0)
		return r;
	ladder_head_places(&e.h, ladder_ranges_bytes(&e.h, e.s->ranges));
	r = encode_all(&e, huf, len, out);
	*ret_layers = 2u + e.h.n_bits;
	return r;
}
