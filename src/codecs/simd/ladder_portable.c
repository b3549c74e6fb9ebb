// SPDX-License-Identifier: MIT
/*
 * The ladder kernels in plain C: what the SIMD versions must give. Loops over
 * the 64 lanes are written for the vectoriser; codes and digits go eight lanes
 * at a time through 64-bit words, which no shift here mixes after masking.
 */
#include <string.h>

#include "base/le.h"
#include "codecs/simd/ladder_kern.h"

#define EACH(byte) (0x0101010101010101ull * (byte))

static uint32_t bits_of(float f)
{
	uint32_t u;

	memcpy(&u, &f, 4);
	return u;
}

static float float_of(uint32_t u)
{
	float f;

	memcpy(&f, &u, 4);
	return f;
}

/* 2^e, -126 <= e <= 127. */
static float power(int e)
{
	return float_of((uint32_t)(e + 127) << 23);
}

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

static size_t gather(const uint8_t from[64], uint64_t mask, uint8_t *dst)
{
	size_t n = 0;

	if (mask == ~0ull) {
		memcpy(dst, from, 64);
		return 64;
	}
	for (; mask; mask &= mask - 1)
		dst[n++] = from[__builtin_ctzll(mask)];
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

size_t ladder_pack_fix_portable(const struct ladder_desc *d, const struct ladder_block *b, uint8_t *dst)
{
	uint8_t *at = dst, plane[64];

	for (unsigned p = 0; p < 8 && d->plane[p]; p++) {
		for (unsigned l = 0; l < 64; l += 8) {
			uint64_t v = 0;

			for (unsigned j = 0; j < 8; j++)
				v |= (le64_get(b->code[j] + l) >> p & EACH(1ull)) << j;
			le64_put(plane + l, v);
		}
		at += gather(plane, d->plane[p], at);
	}
	return (size_t)(at - dst);
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

void ladder_pack_huf_portable(const struct ladder_desc *d, const struct ladder_block *b,
		     uint8_t *stream[LADDER_CLASSES_MAX])
{
	for (unsigned i = 0; i < d->n_streams; i++) {
		const struct ladder_stream *s = &d->stream[i];
		unsigned per = 8 / s->digit;
		uint64_t low = EACH((1ull << s->digit) - 1);
		uint8_t plane[64];

		for (unsigned j = 0; j < 8; j += per) {
			for (unsigned l = 0; l < 64; l += 8) {
				uint64_t v = 0;

				for (unsigned m = 0; m < per; m++)
					v |= (le64_get(b->code[j + m] + l) & low) << m * s->digit;
				le64_put(plane + l, v);
			}
			stream[s->class] += gather(plane, s->mask, stream[s->class]);
		}
	}
}

/* Codes to k in t. */
static void index_codes(const struct ladder_desc *d, struct ladder_more *more,
			struct ladder_block *b)
{
	for (unsigned j = 0; j < LADDER_LINES; j++) {
		unsigned any = 0;

		for (unsigned l = 0; l < LADDER_LANES; l++)
			b->t[j][l] = (int16_t)(b->code[j][l] - d->bias[l]);
		for (unsigned l = 0; l < LADDER_LANES; l++)
			any += b->code[j][l] == d->escape[l];
		for (unsigned l = 0; any && l < LADDER_LANES; l++)
			if (b->code[j][l] == d->escape[l]) {
				b->t[j][l] = *more->escapes++;
				any--;
			}
	}
}

size_t ladder_codes_portable(const struct ladder_desc *d, unsigned low, struct ladder_block *b,
			     int16_t *esc)
{
	size_t n = 0;

	for (unsigned j = 0; j < LADDER_LINES; j++)
		for (unsigned l = 0; l < d->lanes; l++) {
			int k = b->t[j][l] >> low, code = k + d->bias[l];

			if (!(d->plane[0] >> l & 1)) {
				b->code[j][l] = 0;
			} else if (code < 0 || code >= d->escape[l]) {
				b->code[j][l] = d->escape[l];
				esc[n++] = (int16_t)k;
			} else {
				b->code[j][l] = (uint8_t)code;
			}
		}
	return n;
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

void ladder_digits_portable(unsigned bits, unsigned low, unsigned lanes,
			    const struct ladder_block *b, uint8_t *dst)
{
	unsigned per = 8 / bits, mask = (1u << bits) - 1;

	for (unsigned s = 0; s < bits; s++, dst += lanes) {
		uint8_t v[64] = { 0 };

		for (unsigned m = 0; m < per; m++)
			for (unsigned l = 0; l < LADDER_LANES; l++)
				v[l] |= (uint8_t)((b->t[s * per + m][l] >> low & mask)
						  << m * bits);
		memcpy(dst, v, lanes);
	}
}

/* ---- turning means ------------------------------------------------------- */

static inline int16_t mul(int16_t a, int16_t b)
{
	return (int16_t)((a * b + 0x4000) >> 15);
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

/* ord of the first pattern that is not below f (not 0, and normal as f32). */
static inline int16_t first_bf16(float f)
{
	uint32_t u = bits_of(f), sign = 0 - (u >> 31);

	u += 0xffff & ~sign;
	return (int16_t)(u >> 16 ^ (sign & 0x7fff));
}

static inline int16_t first_f16(float f)
{
	uint32_t u = bits_of(f), sign = u >> 16 & 0x8000, up = sign ? 0 : 1;

	u &= 0x7fffffff;
	if (u < 0x38800000) {
		float units = float_of(u) * 16777216.0f;

		u = (uint32_t)units;
		u += up && (float)u < units;
	} else {
		u = (u - (112u << 23) + (up ? 0x1fff : 0)) >> 13;
	}
	return (int16_t)(sign ? (u | 0x8000) ^ 0x7fff : u);
}

static void first_patterns(const struct ladder_level *v, const int16_t i[64], int16_t lo[64])
{
	float half = power(v->e - 1);

	if (v->f16)
		for (unsigned l = 0; l < LADDER_LANES; l++)
			lo[l] = first_f16((float)(2 * i[l] - 1) * half);
	else
		for (unsigned l = 0; l < LADDER_LANES; l++)
			lo[l] = first_bf16((float)(2 * i[l] - 1) * half);
}

static inline uint64_t lanes_below(unsigned n)
{
	return n >= 64 ? ~0ull : (1ull << n) - 1;
}

/* Lanes with a bit in a plane; those of cell 0. */
static inline uint64_t lanes_within(const uint16_t size[64], unsigned limit)
{
	uint8_t in[64];
	uint64_t m = 0;

	for (unsigned l = 0; l < LADDER_LANES; l++)
		in[l] = size[l] <= limit;
	for (unsigned l = 0; l < LADDER_LANES; l += 8) /* the product gathers eight bits */
		m |= (le64_get(in + l) * 0x0102040810204080ull >> 56) << l;
	return m;
}

static void sizes(const int16_t i[64], uint16_t size[64])
{
	for (unsigned l = 0; l < LADDER_LANES; l++)
		size[l] = (uint16_t)(i[l] < 0 ? -i[l] : i[l]);
}

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

static inline void bits_put(struct ladder_bits_out *o, uint64_t v, unsigned n)
{
	o->acc |= v << o->n;
	if (o->n + n >= 64) {
		le64_put(o->p, o->acc);
		o->p += 8;
		o->acc = o->n ? v >> (64 - o->n) : 0;
		o->n += n - 64;
	} else {
		o->n += n;
	}
}

size_t ladder_exact_put_portable(const struct ladder_level *v, const struct ladder_block *b,
				 struct ladder_bits_out *bits, uint16_t *zeros)
{
	size_t n = 0;

	for (unsigned j = 0; j < LADDER_LINES; j++) {
		uint64_t valid = lanes_below(b->count[j]), zero;
		uint16_t size[64], rest[64];
		int16_t q[64], lo[64];

		if (!valid)
			continue;
		points(v, NULL, b, j, q);
		sizes(q, size);
		first_patterns(v, q, lo);
		zero = lanes_within(size, 0) & valid;
		for (unsigned l = 0; l < LADDER_LANES; l++) {
			uint16_t p = b->pat[j][l];

			rest[l] = (uint16_t)((p ^ (p >> 15 ? 0x7fff : 0)) - lo[l]);
			if (b->skip[j] >> l & 1)
				rest[l] = 0;
		}
		for (unsigned p = 0; p < v->n_planes; p++) {
			uint64_t m = lanes_within(size, v->limit[p]) & valid & ~zero, word = 0;
			unsigned got = 0;

			for (; m; m &= m - 1)
				word |= (uint64_t)(rest[__builtin_ctzll(m)] >> p & 1) << got++;
			if (got)
				bits_put(bits, word, got);
		}
		for (; zero; zero &= zero - 1) {
			unsigned l = (unsigned)__builtin_ctzll(zero);

			zeros[n++] = b->skip[j] >> l & 1 ? 0 : b->pat[j][l];
		}
	}
	return n;
}

/* ---- cells --------------------------------------------------------------- */

/* x / D of a line; something beyond the limit for what is not finite. */
static inline void quotients(const struct ladder_level *v, const uint16_t pat[64], float y[64])
{
	float back = power(-v->e);

	if (v->f16)
		for (unsigned l = 0; l < LADDER_LANES; l++) {
			uint32_t p = pat[l], mag = p & 0x7fff, odd = mag >= 0x7c00 ? 0x60000000 : 0;
			float f = float_of(mag << 13) * 0x1p112f * back;

			y[l] = float_of((bits_of(f) | odd) | p >> 15 << 31);
		}
	else
		for (unsigned l = 0; l < LADDER_LANES; l++)
			y[l] = float_of((uint32_t)pat[l] << 16) * back;
}

void ladder_cells_portable(const struct ladder_level *v, struct ladder_block *b)
{
	const uint32_t limit = bits_of(LADDER_CELL_LIMIT);

	for (unsigned j = 0; j < LADDER_LINES; j++) {
		uint32_t good[64], all = ~0u;
		float y[64];

		quotients(v, b->pat[j], y);
		for (unsigned l = 0; l < LADDER_LANES; l++) { /* NaN has more bits than that */
			good[l] = 0 - (uint32_t)((bits_of(y[l]) & 0x7fffffff) < limit);
			all &= good[l];
		}
		for (unsigned l = 0; l < LADDER_LANES; l++) {
			float x = float_of(bits_of(y[l] + 0.5f) & good[l]);
			int i = (int)x;

			b->t[j][l] = (int16_t)(i - ((float)i > x));
		}
		for (unsigned l = 0; !all && l < LADDER_LANES; l++)
			b->skip[j] |= (uint64_t)!good[l] << l;
	}
}

void ladder_centre_portable(const struct ladder_level *v, struct ladder_block *b)
{
	for (unsigned j = 0; j < LADDER_LINES; j++) {
		const int16_t *z = b->z + j * b->z_step;

		for (unsigned l = 0; l < LADDER_LANES; l++)
			b->t[j][l] = (int16_t)((b->skip[j] >> l & 1 ? 0 : b->t[j][l] - z[l]) -
					       v->add);
	}
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
