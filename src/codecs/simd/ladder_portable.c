// SPDX-License-Identifier: MIT
/*
 * The ladder kernels in plain C: what the SIMD versions must give. Loops over
 * the 64 lanes are written for the vectoriser; codes and digits go eight lanes
 * at a time through 64-bit words, which no shift here mixes after masking.
 */
#include "codecs/simd/ladder_portable.h"

/* ---- layer 0 ------------------------------------------------------------- */

/* Spreads one byte per lane of mask; 0 elsewhere. */
static size_t spread(const uint8_t *src, uint64_t mask, uint8_t to[64])
{
	size_t n = 0;

	if (mask == ~0ull) {
		memcpy(to, src, 64);
		return 64;
	}
	memset(to, 0, 64);
	for (; mask; mask &= mask - 1)
		to[__builtin_ctzll(mask)] = src[n++];
	return n;
}

static size_t unpack_fix(const struct ladder_desc *d, const uint8_t *src, struct ladder_block *b)
{
	const uint8_t *at = src;
	uint8_t plane[64];

	memset(b->code, 0, sizeof(b->code));
	for (unsigned p = 0; p < 8 && d->plane[p]; p++) {
		at += spread(at, d->plane[p], plane);
		for (unsigned l = 0; l < 64; l += 8) {
			uint64_t v = le64_get(plane + l);

			for (unsigned j = 0; j < 8; j++) {
				uint8_t *to = b->code[j] + l;

				le64_put(to, le64_get(to) | (v >> j & EACH(1ull)) << p);
			}
		}
	}
	return (size_t)(at - src);
}

static void unpack_huf(const struct ladder_desc *d, const uint8_t *stream[LADDER_CLASSES_MAX],
		       struct ladder_block *b)
{
	memset(b->code, 0, sizeof(b->code));
	for (unsigned i = 0; i < d->n_streams; i++) {
		const struct ladder_stream *s = &d->stream[i];
		unsigned per = 8 / s->digit;
		uint64_t low = EACH((1ull << s->digit) - 1);
		uint8_t plane[64];

		for (unsigned j = 0; j < 8; j++) {
			if (j % per == 0)
				stream[s->class] += spread(stream[s->class], s->mask, plane);
			for (unsigned l = 0; l < 64; l += 8) {
				uint64_t v = le64_get(plane + l) >> j % per * s->digit & low;

				le64_put(b->code[j] + l, le64_get(b->code[j] + l) | v);
			}
		}
	}
}

/* Codes to k in t. */
static void index_codes(const struct ladder_desc *d, struct ladder_more *more,
			struct ladder_block *b)
{
	for (unsigned j = 0; j < LADDER_LINES; j++) {
		uint8_t hit[64];
		uint64_t m;

		for (unsigned l = 0; l < LADDER_LANES; l++)
			b->t[j][l] = (int16_t)(b->code[j][l] - d->bias[l]);
		for (unsigned l = 0; l < LADDER_LANES; l++)
			hit[l] = b->code[j][l] == d->escape[l];
		for (m = lanes_set(hit); m; m &= m - 1)
			b->t[j][__builtin_ctzll(m)] = *more->escapes++;
	}
}

/* ---- refinements --------------------------------------------------------- */

/* t = t << bits | digit. */
static void refine(unsigned bits, const uint8_t *src, unsigned lanes, struct ladder_block *b)
{
	unsigned per = 8 / bits, mask = (1u << bits) - 1;
	uint8_t in[64] = { 0 };

	for (unsigned j = 0; j < LADDER_LINES; j++) {
		unsigned down = j % per * bits;

		if (down == 0) {
			memcpy(in, src, lanes);
			src += lanes;
		}
		for (unsigned l = 0; l < LADDER_LANES; l++)
			b->t[j][l] = (int16_t)((uint16_t)b->t[j][l] << bits |
					       (in[l] >> down & mask));
	}
}

/* ---- turning means ------------------------------------------------------- */

/* (a * b + 2^14) >> 15 in halves of 16 bits, for the vectoriser. */
static inline int16_t mul(int16_t a, int16_t b)
{
	uint16_t high = (uint16_t)((a * b) >> 16), low = (uint16_t)(a * b);

	return (int16_t)(uint16_t)(high + high + (uint16_t)((uint16_t)((low >> 14) + 1) >> 1));
}

void ladder_turn_portable(int16_t *c, int16_t *s, const int16_t *dc, const int16_t *ds, unsigned n)
{
	for (unsigned l = 0; l < n; l++) {
		int16_t x = c[l], y = s[l];

		c[l] = (int16_t)(mul(x, dc[l]) - mul(y, ds[l]));
		s[l] = (int16_t)(mul(y, dc[l]) + mul(x, ds[l]));
	}
}

void ladder_means_portable(const struct ladder_desc *d, const struct ladder_turning *t, int16_t *z)
{
	int16_t own[64], other[64];

	for (unsigned l = 0; l < LADDER_LANES; l++) {
		own[l] = (int16_t)(mul(d->z[l], t->c[l]) + mul(d->other[l], t->s[l]));
		other[l] = (int16_t)(mul(d->other[l], t->c[l]) - mul(d->z[l], t->s[l]));
	}
	for (unsigned j = 0; j < LADDER_LINES; j++, z += LADDER_LANES) {
		const int16_t *c = (const int16_t *)((const char *)t->lc + j * t->step);
		const int16_t *s = (const int16_t *)((const char *)t->ls + j * t->step);

		for (unsigned l = 0; l < LADDER_LANES; l++)
			z[l] = (int16_t)(mul(own[l], c[l]) + mul(other[l], s[l]));
	}
}

/* ---- values -------------------------------------------------------------- */

/* To the nearest, ties away from 0. The value is 0 or normal. */
static inline uint16_t to_bf16(float f)
{
	return (uint16_t)((bits_of(f) + 0x8000) >> 16);
}

/* To the nearest, ties to even; |f| < 2^16, f16 denormals included. */
static inline uint16_t to_f16(float f)
{
	uint32_t u = bits_of(f), sign = u >> 16 & 0x8000;

	u &= 0x7fffffff;
	if (u < 0x38800000) /* the addition rounds */
		u = bits_of(float_of(u) + 0.5f) - bits_of(0.5f);
	else
		u = (u - (112u << 23) + 0xfff + (u >> 13 & 1)) >> 13;
	return (uint16_t)(sign | u);
}

/* The cells: (t << shift) + add + z, drawn towards z where t is k. */
static inline void points(const struct ladder_level *v, const struct ladder_desc *d,
			  const struct ladder_block *b, unsigned j, int16_t q[64])
{
	const int16_t *t = b->t[j], *z = b->z + j * b->z_step;

	for (unsigned l = 0; l < LADDER_LANES; l++)
		q[l] = (int16_t)(((uint16_t)t[l] << v->shift) + v->add + z[l]);
	if (!v->draw)
		return;
	for (unsigned l = 0; l < LADDER_LANES; l++)
		q[l] = (int16_t)(q[l] + (d->draw[l] & -(t[l] < 0)) - (d->draw[l] & -(t[l] > 0)));
}

/* t of all lines. */
static void indices(const struct ladder_desc *d, struct ladder_more *more, struct ladder_block *b)
{
	if (b->turn.c) {
		ladder_means_portable(d, &b->turn, b->turned[0]);
		b->z = b->turned[0];
		b->z_step = LADDER_LANES;
	}
	index_codes(d, more, b);
	for (unsigned i = 0; i < more->n; i++)
		refine(more->bits[i], more->src[i], d->lanes, b);
}

static void put_line(uint8_t *to, const uint16_t pat[64])
{
	for (unsigned l = 0; l < LADDER_LANES; l++)
		le16_put(to + 2 * l, pat[l]);
}

static void values_portable(const struct ladder_level *v, const struct ladder_desc *d,
			    struct ladder_more *more, struct ladder_block *b)
{
	float step = power(v->e);
	uint16_t pat[64];
	int16_t q[64];

	indices(d, more, b);
	for (unsigned j = 0; j < LADDER_LINES; j++) {
		points(v, d, b, j, q);
		if (v->f16)
			for (unsigned l = 0; l < LADDER_LANES; l++)
				pat[l] = to_f16((float)q[l] * step);
		else
			for (unsigned l = 0; l < LADDER_LANES; l++)
				pat[l] = to_bf16((float)q[l] * step);
		put_line(b->to[j], pat);
	}
}

/* ---- the exact layer ----------------------------------------------------- */

static uint64_t bits_get(const struct ladder_bits *b)
{
	const uint8_t *p = b->p + b->at / 8;
	unsigned by = b->at % 8;

	return le64_get(p) >> by | (uint64_t)p[8] << 1 << (63 - by);
}

static size_t exact_line(const struct ladder_level *v, struct ladder_bits *bits,
			 const uint16_t *zeros, struct ladder_block *b, unsigned j)
{
	uint64_t valid = lanes_below(b->count[j]), zero;
	uint16_t size[64], pat[64];
	int16_t q[64], lo[64];
	size_t n = 0;

	points(v, NULL, b, j, q);
	sizes(q, size);
	first_patterns(v, q, lo);
	zero = lanes_within(size, 0) & valid;
	for (unsigned p = 0; p < v->n_planes; p++) {
		uint64_t m = lanes_within(size, v->limit[p]) & valid & ~zero, word;

		word = bits_get(bits);
		bits->at += (unsigned)__builtin_popcountll(m);
		for (; m; m &= m - 1, word >>= 1)
			lo[__builtin_ctzll(m)] = (int16_t)(lo[__builtin_ctzll(m)] +
							   (int)((word & 1) << p));
	}
	for (unsigned l = 0; l < LADDER_LANES; l++)
		pat[l] = (uint16_t)(lo[l] ^ (lo[l] < 0 ? 0x7fff : 0));
	for (; zero; zero &= zero - 1)
		pat[__builtin_ctzll(zero)] = zeros[n++];
	put_line(b->to[j], pat);
	return n;
}

static size_t exact_portable(const struct ladder_level *v, const struct ladder_desc *d,
			     struct ladder_more *more, struct ladder_bits *bits,
			     const uint16_t *zeros, struct ladder_block *b)
{
	size_t n = 0;

	indices(d, more, b);
	for (unsigned j = 0; j < LADDER_LINES; j++)
		if (b->count[j])
			n += exact_line(v, bits, zeros + n, b, j);
	return n;
}

const struct ladder_kern ladder_kern_portable = {
	.unpack_fix = unpack_fix,
	.pack_fix = ladder_pack_fix_portable,
	.unpack_huf = unpack_huf,
	.pack_huf = ladder_pack_huf_portable,
	.codes = ladder_codes_portable,
	.digits = ladder_digits_portable,
	.values = values_portable,
	.exact = exact_portable,
	.exact_put = ladder_exact_put_portable,
	.cells = ladder_cells_portable,
	.turn = ladder_turn_portable,
	.means = ladder_means_portable,
	.centre = ladder_centre_portable,
};
