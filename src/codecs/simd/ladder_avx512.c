// SPDX-License-Identifier: MIT
/*
 * The ladder kernels with AVX-512 (BW, VBMI, VBMI2): a line of 64 lanes is one
 * vector of codes, two of indices or patterns, four of floats. Lanes are put in
 * and taken out by VPEXPAND and VPCOMPRESS, the bits of the exact layer by PDEP and
 * PEXT on the masks of those lanes that have them; no branch depends on the data.
 */
#include "codecs/simd/ladder_avx512.h"

/* ---- layer 0 ------------------------------------------------------------- */

INLINE const uint8_t *unpack_planes(const struct ladder_desc *d, const uint8_t *src,
				    struct ladder_block *b, const unsigned n)
{
	__m512i plane[8];

#pragma GCC unroll 8
	for (unsigned p = 0; p < n; p++) {
		plane[p] = _mm512_maskz_expand_epi8(d->plane[p], pin(load(src)));
		src += _mm_popcnt_u64(d->plane[p]);
	}
#pragma GCC unroll 8
	for (unsigned j = 0; j < 8; j++) {
		__m512i v = _mm512_setzero_si512();

#pragma GCC unroll 8
		for (unsigned p = 0; p < n; p++)
			v = or_and(v, shift_to(plane[p], j, p), bytes(1u << p));
		store(b->code[j], v);
	}
	return src;
}

static size_t unpack_fix(const struct ladder_desc *d, const uint8_t *src, struct ladder_block *b)
{
	unsigned n = 0;
	const uint8_t *end;

	while (n < 8 && d->plane[n])
		n++;
	switch (n) {
	case 0:
	case 1:
		end = unpack_planes(d, src, b, 1);
		break;
	case 2:
		end = unpack_planes(d, src, b, 2);
		break;
	case 3:
		end = unpack_planes(d, src, b, 3);
		break;
	case 4:
		end = unpack_planes(d, src, b, 4);
		break;
	case 5:
		end = unpack_planes(d, src, b, 5);
		break;
	default:
		end = unpack_planes(d, src, b, 8);
	}
	return (size_t)(end - src);
}

INLINE const uint8_t *unpack_digits(const uint8_t *src, uint64_t mask, __m512i code[8],
				    const unsigned digit)
{
	const __m512i low = bytes((1u << digit) - 1);
	const unsigned per = 8 / digit;

#pragma GCC unroll 8
	for (unsigned s = 0; s < digit; s++) {
		__m512i v = _mm512_maskz_expand_epi8(mask, pin(load(src)));

		src += _mm_popcnt_u64(mask);
#pragma GCC unroll 8
		for (unsigned m = 0; m < per; m++)
			code[s * per + m] = or_and(code[s * per + m],
						   _mm512_srli_epi16(v, m * digit), low);
	}
	return src;
}

static void unpack_huf(const struct ladder_desc *d, const uint8_t *stream[LADDER_CLASSES_MAX],
		       struct ladder_block *b)
{
	__m512i code[8];

	for (unsigned j = 0; j < 8; j++)
		code[j] = _mm512_setzero_si512();
	for (unsigned i = 0; i < d->n_streams; i++) {
		const struct ladder_stream *s = &d->stream[i];
		const uint8_t *at = stream[s->class];

		if (s->digit == 1)
			at = unpack_digits(at, s->mask, code, 1);
		else if (s->digit == 2)
			at = unpack_digits(at, s->mask, code, 2);
		else if (s->digit == 4)
			at = unpack_digits(at, s->mask, code, 4);
		else
			at = unpack_digits(at, s->mask, code, 8);
		stream[s->class] = at;
	}
	for (unsigned j = 0; j < 8; j++)
		store(b->code[j], code[j]);
}

/* ---- values -------------------------------------------------------------- */

/* What is alike in all lines of a block. */
struct block_consts {
	__m128i shift;
	__m512i add, escape, bias[2], draw[2];
};

INLINE struct block_consts consts_of(const struct ladder_level *v, const struct ladder_desc *d)
{
	return (struct block_consts){
		.shift = _mm_cvtsi32_si128(v->shift),
		.add = words(v->add),
		.escape = load(d->escape),
		.bias = { load(d->bias), load(d->bias + 32) },
		.draw = { load(d->draw), load(d->draw + 32) },
	};
}

/* Adds a line's digits of one refinement. */
INLINE void refine_line(const uint8_t *src, unsigned lanes, unsigned j, __m512i t[2],
			const unsigned bits)
{
	__m512i v = load(src + j * bits / 8 * lanes);

	v = _mm512_srl_epi16(v, _mm_cvtsi32_si128((int)(j * bits % 8)));
	v = _mm512_and_si512(v, bytes((1u << bits) - 1));
	for (int h = 0; h < 2; h++)
		t[h] = _mm512_or_si512(_mm512_slli_epi16(t[h], bits), widen(v, h));
}

/* Which refinements there are, where the compiler is to know: none, the first or
 * both of 2 and 4 bits with nothing but the rest of 6 missing, or any. */
enum known { NONE, TWO, TWO_FOUR, ANY };

INLINE enum known known_of(const struct ladder_level *v, const struct ladder_more *more)
{
	if (more->n == 0)
		return NONE;
	if (more->n == 1 && more->bits[0] == 2 && v->shift == 4)
		return TWO;
	if (more->n == 2 && more->bits[0] == 2 && more->bits[1] == 4 && v->shift == 0)
		return TWO_FOUR;
	return ANY;
}

/* What the refinements that the compiler knows add to 64 t, and what is to be added
 * to all cells: in bytes, -32..31. */
INLINE __m512i refined_line(const struct ladder_desc *d, const struct ladder_more *more, unsigned j,
			    const enum known known)
{
	__m512i v = load(more->src[0] + j / 4 * d->lanes), low;

	v = _mm512_rolv_epi32(v, _mm512_set1_epi32((4 - 2 * (int)(j % 4)) & 31));
	if (known == TWO)
		return _mm512_sub_epi8(_mm512_and_si512(v, bytes(0x30)), bytes(24));
	low = _mm512_rorv_epi32(load(more->src[1] + j / 2 * d->lanes), _mm512_set1_epi32(4 * (j % 2)));
	v = _mm512_ternarylogic_epi32(v, low, bytes(0x0f), 0xd8 /* low where the mask is, else v */);
	return _mm512_sub_epi8(_mm512_and_si512(v, bytes(0x3f)), bytes(32));
}

/* A line from its codes and refinements: without any t, else cells but for z. */
INLINE void index_line(const struct block_consts *c, const struct ladder_desc *d,
		       struct ladder_more *more, const struct ladder_block *b, unsigned j,
		       __m512i t[2], const enum known known)
{
	__m512i code = load(b->code[j]), rest;
	uint64_t m = _mm512_cmpeq_epi8_mask(code, c->escape);

	for (int h = 0; h < 2; h++, m >>= 32) {
		t[h] = _mm512_sub_epi16(widen(code, h), c->bias[h]);
		t[h] = _mm512_mask_expand_epi16(t[h], (uint32_t)m, pin(load(more->escapes)));
		more->escapes += _mm_popcnt_u32((uint32_t)m);
	}
	if (known == NONE)
		return;
	if (known != ANY) {
		rest = refined_line(d, more, j, known);
		for (int h = 0; h < 2; h++)
			t[h] = _mm512_add_epi16(_mm512_slli_epi16(t[h], 6), widen_signed(rest, h));
		return;
	}
	for (unsigned i = 0; i < more->n; i++)
		if (more->bits[i] == 1)
			refine_line(more->src[i], d->lanes, j, t, 1);
		else if (more->bits[i] == 2)
			refine_line(more->src[i], d->lanes, j, t, 2);
		else
			refine_line(more->src[i], d->lanes, j, t, 4);
	for (int h = 0; h < 2; h++)
		t[h] = _mm512_add_epi16(_mm512_sll_epi16(t[h], c->shift), c->add);
}

/* The pair's two channels of 64 lanes, turned as the first line's are. */
struct turned {
	__m512i own[2], other[2];
};

INLINE struct turned turned_of(const struct ladder_desc *d, const struct ladder_turning *t)
{
	struct turned m;

	for (unsigned h = 0; h < 2; h++) {
		__m512i x = load(d->z + 32 * h), y = load(d->other + 32 * h);
		__m512i c = load(t->c + 32 * h), s = load(t->s + 32 * h);

		m.own[h] = _mm512_add_epi16(_mm512_mulhrs_epi16(x, c), _mm512_mulhrs_epi16(y, s));
		m.other[h] = _mm512_sub_epi16(_mm512_mulhrs_epi16(y, c), _mm512_mulhrs_epi16(x, s));
	}
	return m;
}

/* z of half a line. */
INLINE __m512i turned_line(const struct turned *m, const struct ladder_turning *t, unsigned j,
			   unsigned h)
{
	__m512i c = load((const char *)(t->lc + 32 * h) + j * t->step);
	__m512i s = load((const char *)(t->ls + 32 * h) + j * t->step);

	return _mm512_add_epi16(_mm512_mulhrs_epi16(m->own[h], c),
				_mm512_mulhrs_epi16(m->other[h], s));
}

INLINE __m512i drawn(__m512i q, __m512i t, __m512i by)
{
	q = _mm512_mask_add_epi16(q, _mm512_movepi16_mask(t), q, by);
	return _mm512_mask_sub_epi16(q, _mm512_cmpgt_epi16_mask(t, _mm512_setzero_si512()), q, by);
}

INLINE void values_of(const struct ladder_level *v, const struct ladder_desc *d,
		      struct ladder_more *more, struct ladder_block *b, const bool f16,
		      const enum known known, const bool turn)
{
	const __m512i nearest = _mm512_set1_epi32(0x8000);
	const struct block_consts c = consts_of(v, d);
	const __m512 step = power(v->e);
	struct ladder_more m = *more;
	const struct ladder_turning turning = b->turn;
	struct turned means;
	__m512i still[2];

	if (turn)
		means = turned_of(d, &b->turn);
	for (int h = 0; h < 2; h++)
		still[h] = load(b->z + 32 * h);
#pragma GCC unroll 8
	for (unsigned j = 0; j < LADDER_LINES; j++) {
		__m512i t[2];

		index_line(&c, d, &m, b, j, t, known);
		for (int h = 0; h < 2; h++) {
			__m512i z = still[h], q, u[2];
			__m512 f[2];

			if (turn)
				z = turned_line(&means, &turning, j, (unsigned)h);
			if (known == NONE) /* nothing is to be added */
				q = drawn(_mm512_add_epi16(_mm512_sll_epi16(t[h], c.shift), z), t[h],
					  c.draw[h]);
			else
				q = _mm512_add_epi16(t[h], z);
			for (int k = 0; k < 2; k++) {
				f[k] = _mm512_mul_ps(floats(q, k), step);
				u[k] = _mm512_add_epi32(_mm512_castps_si512(f[k]), nearest);
			}
			store(b->to[j] + 64 * h, f16 ? HALVES(f[0], f[1], _MM_FROUND_TO_NEAREST_INT)
						     : upper(u[0], u[1]));
		}
	}
	more->escapes = m.escapes;
}

/* One function for each case that the compiler is to know. */
#define VALUES(f16, known)                                        \
	(b->turn.c ? values_of(v, d, more, b, f16, known, true)    \
		   : values_of(v, d, more, b, f16, known, false))

static void values_avx512(const struct ladder_level *v, const struct ladder_desc *d,
			  struct ladder_more *more, struct ladder_block *b)
{
	const enum known known = known_of(v, more);

	if (v->f16 && known == NONE)
		VALUES(true, NONE);
	else if (v->f16)
		VALUES(true, ANY);
	else if (known == NONE)
		VALUES(false, NONE);
	else if (known == TWO)
		VALUES(false, TWO);
	else if (known == TWO_FOUR)
		VALUES(false, TWO_FOUR);
	else
		VALUES(false, ANY);
}

/* ---- the exact layer ----------------------------------------------------- */

/* At least n bits, of which there are mostly fewer than 58. */
INLINE uint64_t bits_at(const uint8_t *p, uint64_t at, unsigned n)
{
	unsigned by = at % 8;
	uint64_t v;

	p += at / 8;
	__builtin_memcpy(&v, p, 8);
	v >>= by;
	if (__builtin_expect(n > 57, 0))
		v |= (uint64_t)p[8] << 1 << (63 - by);
	return v;
}

/* Limits and bits of the planes, held for all lines. */
struct plane_consts {
	__m512i limit[11], bit[8];
};

INLINE struct plane_consts planes_of(const bool f16)
{
	struct plane_consts c;

#pragma GCC unroll 11
	for (unsigned k = 0; k < 11; k++)
		c.limit[k] = !f16 ? pin(bytes(128u >> k))
			     : k < 3 ? pin(words(1024 >> k)) : pin(bytes(1024u >> k));
#pragma GCC unroll 8
	for (unsigned k = 0; k < 8; k++)
		c.bit[k] = pin(bytes(1u << k));
	return c;
}

/* Lanes with a bit in plane k. */
INLINE uint64_t plane_lanes(const struct plane_consts *c, const struct sizes *s, unsigned k,
			    const bool f16)
{
	if (!f16 || k > 2)
		return _mm512_cmplt_epu8_mask(s->b, c->limit[k]);
	return _mm512_cmplt_epu16_mask(s->w[0], c->limit[k]) |
	       (uint64_t)_mm512_cmplt_epu16_mask(s->w[1], c->limit[k]) << 32;
}

#define FEW 4u /* last planes, which together have mostly fewer than 58 bits in a line */

/* Plane k's bits at their lanes, in its bit of the low or the high bytes. */
INLINE void plane_put(const struct plane_consts *c, unsigned k, uint64_t lanes, __m512i rest[2])
{
	rest[k / 8] = _mm512_mask_add_epi8(rest[k / 8], lanes, rest[k / 8], c->bit[k % 8]);
}

/* The last planes, from bit @at on; where they end. */
INLINE uint64_t few_planes(const struct plane_consts *c, const struct sizes *s, unsigned n_planes,
			   const uint8_t *p, uint64_t at, __m512i rest[2], const bool f16)
{
	const unsigned all = f16 ? 11 : 8;
	const uint64_t bits = bits_at(p, at, 0);
	__m512i before[2] = { rest[0], rest[1] };
	uint64_t m[FEW];
	unsigned n = 0;

#pragma GCC unroll 4
	for (unsigned i = 0; i < FEW; i++) {
		unsigned k = all - FEW + i;

		m[i] = f16 && k >= n_planes ? 0 : plane_lanes(c, s, k, f16);
		plane_put(c, k, _pdep_u64(bits >> n % 64, m[i]), rest);
		n += (unsigned)_mm_popcnt_u64(m[i]);
	}
	if (__builtin_expect(n <= 57, 1))
		return at + n;
	rest[0] = before[0];
	rest[1] = before[1];
#pragma GCC unroll 4
	for (unsigned i = 0; i < FEW; i++) {
		plane_put(c, all - FEW + i, _pdep_u64(bits_at(p, at, 64), m[i]), rest);
		at += (unsigned)_mm_popcnt_u64(m[i]);
	}
	return at;
}

/* The residuals of 64 lanes, low and high bytes. */
INLINE uint64_t residuals(const struct plane_consts *c, const struct sizes *s, unsigned n_planes,
			  const uint8_t *p, uint64_t at, __m512i rest[2], const bool f16)
{
	const unsigned many = (f16 ? 11 : 8) - FEW;

	rest[0] = rest[1] = _mm512_setzero_si512();
#pragma GCC unroll 8
	for (unsigned k = 0; k < many; k++) {
		uint64_t m = f16 && k >= n_planes ? 0 : plane_lanes(c, s, k, f16);
		unsigned n = (unsigned)_mm_popcnt_u64(m);

		plane_put(c, k, _pdep_u64(bits_at(p, at, k ? n : 64), m), rest);
		at += n;
	}
	return few_planes(c, s, n_planes, p, at, rest, f16);
}

INLINE size_t exact_of(const struct ladder_level *v, const struct ladder_desc *d,
		       struct ladder_more *more, struct ladder_bits *bits,
		       const uint16_t *zeros, struct ladder_block *b, const bool f16,
		       const enum known known)
{
	const struct block_consts c = consts_of(v, d);
	const __m512 step = power(v->e), half = power(v->e + 15);
	const uint16_t *from = zeros;
	const struct plane_consts planes = planes_of(f16);
	struct ladder_more more_m = *more;
	const struct ladder_turning turning = b->turn;
	struct turned means = { 0 };
	uint64_t at = bits->at;

	if (turning.c)
		means = turned_of(d, &turning);
	for (int h = 0; h < 2 && !turning.c; h++) /* or z itself */
		means.own[h] = load(b->z + 32 * h);
	for (unsigned j = 0; j < LADDER_LINES; j++) {
		uint64_t valid = _bzhi_u64(~0ull, b->count[j]), zero;
		__m512i q[2], t[2], rest[2];
		struct sizes s;

		index_line(&c, d, &more_m, b, j, t, known);
		for (int h = 0; h < 2; h++)
			q[h] = _mm512_add_epi16(
				t[h], turning.c ? turned_line(&means, &turning, j, (unsigned)h)
						: means.own[h]);
		s = sizes_of(q, valid);
		zero = zero_cells(q, valid);
		at = residuals(&planes, &s, v->n_planes, bits->p, at, rest, f16);
		for (int h = 0; h < 2; h++, zero >>= 32) {
			__m512i x = first_patterns(q[h], step, half, f16), r = widen(rest[0], h);

			if (f16)
				r = _mm512_or_si512(r, _mm512_slli_epi16(widen(rest[1], h), 8));
			x = ord(_mm512_add_epi16(x, r));
			x = _mm512_mask_expand_epi16(x, (uint32_t)zero, pin(load(from)));
			from += _mm_popcnt_u32((uint32_t)zero);
			store(b->to[j] + 64 * h, x);
		}
	}
	bits->at = at;
	more->escapes = more_m.escapes;
	return (size_t)(from - zeros);
}

static size_t exact_avx512(const struct ladder_level *v, const struct ladder_desc *d,
			   struct ladder_more *more, struct ladder_bits *bits,
			   const uint16_t *zeros, struct ladder_block *b)
{
	const enum known known = known_of(v, more);

	if (v->f16)
		return known == TWO_FOUR ? exact_of(v, d, more, bits, zeros, b, true, TWO_FOUR)
					 : exact_of(v, d, more, bits, zeros, b, true, ANY);
	return known == TWO_FOUR ? exact_of(v, d, more, bits, zeros, b, false, TWO_FOUR)
				 : exact_of(v, d, more, bits, zeros, b, false, ANY);
}

/* ---- turning means ------------------------------------------------------- */

static void turn_avx512(int16_t *c, int16_t *s, const int16_t *dc, const int16_t *ds, unsigned n)
{
	for (unsigned l = 0; l < n; l += 32) {
		__m512i x = load(c + l), y = load(s + l), a = load(dc + l), b = load(ds + l);

		store(c + l, _mm512_sub_epi16(_mm512_mulhrs_epi16(x, a), _mm512_mulhrs_epi16(y, b)));
		store(s + l, _mm512_add_epi16(_mm512_mulhrs_epi16(y, a), _mm512_mulhrs_epi16(x, b)));
	}
}

static void means_avx512(const struct ladder_desc *d, const struct ladder_turning *t, int16_t *z)
{
	struct turned m = turned_of(d, t);

	for (unsigned j = 0; j < LADDER_LINES; j++)
		for (unsigned h = 0; h < 2; h++)
			store(z + 64 * j + 32 * h, turned_line(&m, t, j, h));
}

const struct ladder_kern ladder_kern_avx512 = {
	.unpack_fix = unpack_fix,
	.pack_fix = ladder_pack_fix_avx512,
	.unpack_huf = unpack_huf,
	.pack_huf = ladder_pack_huf_avx512,
	.codes = ladder_codes_avx512,
	.digits = ladder_digits_avx512,
	.values = values_avx512,
	.exact = exact_avx512,
	.exact_put = ladder_exact_put_avx512,
	.cells = ladder_cells_avx512,
	.turn = turn_avx512,
	.means = means_avx512,
	.centre = ladder_centre_avx512,
};
