// SPDX-License-Identifier: MIT
/*
 * The ladder's decoder: block by block, layer 0's index, as many refinements as are
 * given, then values, or with the exact layer patterns. What is stored apart goes
 * over it at the end.
 *
 * Failure modes: whatever does not fit together is -KVFS_ECODEC. The lengths of
 * layers follow from the head, but for the exact layer's and the escapes; those
 * are read with zeros behind their end and compared when all is done.
 */
#include <errno.h>
#include <string.h>

#include "base/le.h"
#include "codecs/ladder.h"

#define EXACT_HEAD 16u

struct dec {
	struct codec_ctx *ctx;
	struct ladder_scratch *s;
	struct ladder_head h;
	uint8_t *dst;
	struct ladder_codes codes;
	struct ladder_more more; /* refinements that are used, escapes */
	const int16_t *escapes_end;
	struct ladder_in refine[LADDER_REFINEMENTS_MAX];
	bool exact;
	struct ladder_in in; /* the exact layer's bits */
	uint64_t bit;        /* of the next byte of it */
	const uint16_t *zeros, *zeros_end;
	const uint8_t *lower; /* f32: next lower half; NULL for lossy levels */
	unsigned lower_step;  /* 2, or 0 when one is for all */
};

static int open_refinements(struct dec *d, const struct codec_in in[])
{
	struct ladder_sizes z;

	ladder_sizes_of(&d->h, d->s, &z);
	for (unsigned i = 0; i < d->more.n; i++) {
		const uint8_t *p = in[1 + i].buf;

		if (in[1 + i].len != z.lanes * d->h.bits[i])
			return -KVFS_ECODEC;
		d->refine[i] = (struct ladder_in){ p, p + in[1 + i].len, d->s->tail[1 + i], false };
	}
	return 0;
}

static int open_exact(struct dec *d, const struct codec_in *in)
{
	const uint8_t *p = in->buf, *low, *high;
	size_t left = in->len, n, n_high, n_bits, lower = 0;
	struct ladder_scratch *s = d->s;
	int r;

	if (left < EXACT_HEAD || le32_get(p) > (d->h.eb == 4))
		return -KVFS_ECODEC;
	n = le32_get(p + 4);
	n_high = le32_get(p + 8);
	n_bits = le32_get(p + 12);
	left -= EXACT_HEAD;
	if (d->h.eb == 4)
		lower = le32_get(p) ? 2 : 2 * (size_t)d->h.coded_rows * d->h.cols;
	if (n > LADDER_ZEROS_MAX || n_high > left || n_bits > left - n_high ||
	    n + lower != left - n_high - n_bits)
		return -KVFS_ECODEC;
	d->in = (struct ladder_in){ p + EXACT_HEAD, p + EXACT_HEAD + n_bits,
				    s->tail[CODEC_LAYERS_MAX], false };
	low = p + EXACT_HEAD + n_bits;
	high = low + n;
	d->lower = high + n_high;
	d->lower_step = le32_get(p) ? 0 : 2;
	r = ladder_plane_get(d->ctx, high, n_high, s->plane, n);
	for (size_t i = 0; r == 0 && i < n; i++) {
		unsigned v = (unsigned)s->plane[i] << 8 | low[i];

		s->zeros[i] = (uint16_t)(v >> 1 | v << 15);
	}
	memset(s->zeros + n, 0, 1024 * sizeof(s->zeros[0]));
	d->zeros = s->zeros;
	d->zeros_end = s->zeros + n;
	return r;
}

/* The block's patterns from its codes. */
static int get_block(struct dec *d, const struct ladder_level *v, const struct ladder_desc *desc)
{
	const struct ladder_kern *k = d->ctx->ladder_kern;
	struct ladder_block *b = &d->s->block;
	struct ladder_bits bits;

	for (unsigned i = 0; i < d->more.n; i++) {
		d->more.src[i] = ladder_in_get(&d->refine[i], 512);
		d->refine[i].p += (size_t)desc->lanes * d->h.bits[i];
	}
	if (!d->exact) {
		k->values(v, desc, &d->more, b);
		return d->more.escapes > d->escapes_end ? -KVFS_ECODEC : 0;
	}
	bits = (struct ladder_bits){ ladder_in_get(&d->in, 1024), d->bit };
	d->zeros += k->exact(v, desc, &d->more, &bits, d->zeros, b);
	d->in.p += bits.at / 8;
	d->bit = bits.at % 8;
	return d->more.escapes > d->escapes_end || d->zeros > d->zeros_end || d->in.p > d->in.end
		       ? -KVFS_ECODEC
		       : 0;
}

/* Whole lines go where they belong, others and f32 through the block. */
static void aim_block(struct dec *d, const struct ladder_walk *w)
{
	struct ladder_block *b = &d->s->block;

	memcpy(b->count, w->count, sizeof(b->count));
	if (w->full && d->h.eb == 2) {
		for (unsigned j = 0; j < LADDER_LINES; j++)
			b->to[j] = d->dst + (size_t)w->at[j] * 2;
		return;
	}
	for (unsigned j = 0; j < LADDER_LINES; j++)
		b->to[j] = d->h.eb == 2 && w->count[j] == 64 ? d->dst + (size_t)w->at[j] * 2
							     : (uint8_t *)b->pat[j];
}

/* A line of f32: the pattern above what the exact layer has, or the middle. */
static void store_wide(struct dec *d, const uint8_t *pat, unsigned n, uint8_t *to)
{
	for (unsigned l = 0; l < n; l++) {
		uint32_t low = 0x8000;

		if (d->lower) {
			low = le16_get(d->lower);
			d->lower += d->lower_step;
		}
		le32_put(to + 4 * l, (uint32_t)le16_get(pat + 2 * l) << 16 | low);
	}
}

/* The lines that went through the block. */
static void store_block(struct dec *d, const struct ladder_walk *w)
{
	const struct ladder_block *b = &d->s->block;

	if (w->full && d->h.eb == 2)
		return;
	for (unsigned j = 0; j < LADDER_LINES; j++) {
		uint8_t *to = d->dst + (size_t)w->at[j] * d->h.eb;

		if (d->h.eb == 4)
			store_wide(d, b->to[j], w->count[j], to);
		else if (w->count[j] < 64)
			memcpy(to, b->to[j], 2u * w->count[j]);
	}
}

static int decode_blocks(struct dec *d)
{
	struct ladder_level v = ladder_level_of(&d->h, d->h.n_bits - d->more.n);
	struct ladder_walk w;

	d->more.escapes = d->s->escapes;
	d->escapes_end = d->s->escapes + d->h.n_escapes;
	memcpy(d->more.bits, d->h.bits, sizeof(d->h.bits));
	ladder_walk_init(&w, d->ctx->ladder_kern, &d->h, d->s, false);
	while (ladder_walk_next(&w)) {
		int r;

		ladder_codes_get(d->ctx, &w, &d->codes);
		aim_block(d, &w);
		ladder_walk_turn(d->ctx->ladder_kern, &w, &d->s->block);
		r = get_block(d, &v, w.d);
		if (r < 0)
			return r;
		store_block(d, &w);
	}
	if (!ladder_codes_done(&d->codes) || d->more.escapes != d->escapes_end)
		return -KVFS_ECODEC;
	if (d->exact && (d->zeros != d->zeros_end || d->in.p + (d->bit > 0) != d->in.end))
		return -KVFS_ECODEC;
	return 0;
}

int ladder_decode(struct codec_ctx *ctx, bool huf, const struct codec_in in[], unsigned n_in,
		  void *dst, size_t len)
{
	struct dec d = { .ctx = ctx, .dst = dst };
	int r;

	if (n_in == 0 || len > CODEC_CHUNK_MAX)
		return -KVFS_ECODEC;
	r = ladder_scratch_get(ctx, false, &d.s);
	if (r == 0)
		r = ladder_head_read(d.s, in[0].buf, in[0].len, len, &d.h);
	if (r == 0 && n_in > 2u + d.h.n_bits)
		r = -KVFS_ECODEC;
	if (r < 0)
		return r;
	d.exact = n_in == 2u + d.h.n_bits;
	d.more.n = d.exact ? d.h.n_bits : n_in - 1;
	r = ladder_codes_open(ctx, d.s, &d.h, huf, in[0].buf, in[0].len, &d.codes);
	if (r == 0)
		r = open_refinements(&d, in);
	if (r == 0 && d.exact)
		r = open_exact(&d, &in[n_in - 1]);
	if (r == 0)
		r = decode_blocks(&d);
	if (r == 0)
		ladder_overlay(&d.h, d.s, in[0].buf, dst);
	return r;
}

int ladder_transcode(struct codec_ctx *ctx, bool huf, const void *src, size_t src_len, size_t len,
		     struct codec_out *to)
{
	struct ladder_codes_out out;
	struct ladder_codes codes;
	struct ladder_scratch *s;
	struct ladder_head h;
	struct ladder_walk w;
	uint8_t *end;
	int r = ladder_scratch_get(ctx, false, &s);

	if (r == 0)
		r = ladder_head_read(s, src, src_len, len, &h);
	if (r == 0)
		r = ladder_codes_open(ctx, s, &h, !huf, src, src_len, &codes);
	if (r == 0 && to->cap < h.at_codes)
		r = -KVFS_ENOGAIN;
	if (r == 0)
		r = ladder_codes_out_open(ctx, s, &h, huf, (uint8_t *)to->buf + h.at_codes,
					  to->cap - h.at_codes, &out);
	if (r < 0)
		return r;
	memcpy(to->buf, src, h.at_codes);
	ladder_walk_init(&w, ctx->ladder_kern, &h, s, false);
	while (r == 0 && ladder_walk_next(&w)) {
		ladder_codes_get(ctx, &w, &codes);
		r = ladder_codes_put(ctx, s, w.d, &out);
	}
	if (r == 0)
		r = ladder_codes_out_close(ctx, s, &h, &out, &end);
	if (r == 0)
		to->len = (size_t)(end - (uint8_t *)to->buf);
	return r;
}
