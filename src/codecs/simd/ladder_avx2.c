// SPDX-License-Identifier: MIT
/*
 * The ladder kernels with AVX2: a line of 64 lanes is two vectors of codes, four of
 * indices or patterns, eight of floats. Bytes are spread over lanes by PDEP, eight
 * at a time; escapes are put in place after the lines of a block, for there a
 * branch per escape would be mispredicted at most of them.
 */
#include "codecs/simd/ladder_avx2.h"

/* ---- layer 0 ------------------------------------------------------------- */

/* One byte per lane of mask, 0 elsewhere. */
INLINE const uint8_t *spread(const uint8_t *src, uint64_t mask, uint8_t to[64])
{
	if (mask == ~0ull) {
		store(to, load(src));
		store(to + 32, load(src + 32));
		return src + 64;
	}
	for (unsigned l = 0; l < 64; l += 8, mask >>= 8) {
		uint64_t lanes = _pdep_u64(mask, 0x0101010101010101ull) * 255;
		uint64_t v = _pdep_u64(load64(src), lanes);

		memcpy(to + l, &v, 8);
		src += _mm_popcnt_u32((uint32_t)(mask & 255));
	}
	return src;
}

static size_t unpack_fix(const struct ladder_desc *d, const uint8_t *src, struct ladder_block *b)
{
	uint8_t plane[8][64] __attribute__((aligned(32)));
	const uint8_t *at = src;
	unsigned n = 0;

	for (; n < 8 && d->plane[n]; n++)
		at = spread(at, d->plane[n], plane[n]);
	for (unsigned h = 0; h < 64; h += 32) {
		__m256i code[8];

		for (unsigned j = 0; j < 8; j++)
			code[j] = _mm256_setzero_si256();
		for (unsigned p = 0; p < n; p++) {
			__m256i v = load(plane[p] + h), one = bytes(1);
			__m128i by = _mm_cvtsi32_si128((int)p);

#pragma GCC unroll 8
			for (unsigned j = 0; j < 8; j++) {
				__m256i x = _mm256_and_si256(_mm256_srli_epi16(v, (int)j), one);

				code[j] = _mm256_or_si256(code[j], _mm256_sll_epi16(x, by));
			}
		}
		for (unsigned j = 0; j < 8; j++)
			store(b->code[j] + h, code[j]);
	}
	return (size_t)(at - src);
}

INLINE const uint8_t *unpack_digits(const uint8_t *src, uint64_t mask, struct ladder_block *b,
				    const unsigned digit)
{
	const __m256i low = bytes((1u << digit) - 1);
	uint8_t plane[64] __attribute__((aligned(32)));
	const unsigned per = 8 / digit;

	for (unsigned s = 0; s < digit; s++) {
		src = spread(src, mask, plane);
		for (unsigned h = 0; h < 64; h += 32) {
			__m256i v = load(plane + h);

#pragma GCC unroll 8
			for (unsigned m = 0; m < per; m++) {
				uint8_t *to = b->code[s * per + m] + h;
				__m256i x = _mm256_srli_epi16(v, (int)(m * digit));

				store(to, _mm256_or_si256(load(to), _mm256_and_si256(x, low)));
			}
		}
	}
	return src;
}

static void unpack_huf(const struct ladder_desc *d, const uint8_t *stream[LADDER_CLASSES_MAX],
		       struct ladder_block *b)
{
	memset(b->code, 0, sizeof(b->code));
	for (unsigned i = 0; i < d->n_streams; i++) {
		const struct ladder_stream *s = &d->stream[i];
		const uint8_t **at = &stream[s->class];

		if (s->digit == 1)
			*at = unpack_digits(*at, s->mask, b, 1);
		else if (s->digit == 2)
			*at = unpack_digits(*at, s->mask, b, 2);
		else if (s->digit == 4)
			*at = unpack_digits(*at, s->mask, b, 4);
		else
			*at = unpack_digits(*at, s->mask, b, 8);
	}
}

/* ---- turning means ------------------------------------------------------- */

static void turn_avx2(int16_t *c, int16_t *s, const int16_t *dc, const int16_t *ds, unsigned n)
{
	for (unsigned l = 0; l < n; l += 16) {
		__m256i x = load(c + l), y = load(s + l), a = load(dc + l), b = load(ds + l);

		store(c + l, _mm256_sub_epi16(_mm256_mulhrs_epi16(x, a), _mm256_mulhrs_epi16(y, b)));
		store(s + l, _mm256_add_epi16(_mm256_mulhrs_epi16(y, a), _mm256_mulhrs_epi16(x, b)));
	}
}

static void means_avx2(const struct ladder_desc *d, const struct ladder_turning *t, int16_t *z)
{
	for (unsigned h = 0; h < 64; h += 16) {
		__m256i x = load(d->z + h), y = load(d->other + h);
		__m256i a = load(t->c + h), b = load(t->s + h);
		__m256i own = _mm256_add_epi16(_mm256_mulhrs_epi16(x, a), _mm256_mulhrs_epi16(y, b));
		__m256i other = _mm256_sub_epi16(_mm256_mulhrs_epi16(y, a),
						 _mm256_mulhrs_epi16(x, b));

		for (unsigned j = 0; j < LADDER_LINES; j++) {
			a = load((const char *)(t->lc + h) + j * t->step);
			b = load((const char *)(t->ls + h) + j * t->step);
			store(z + 64 * j + h, _mm256_add_epi16(_mm256_mulhrs_epi16(own, a),
							       _mm256_mulhrs_epi16(other, b)));
		}
	}
}

/* ---- indices ------------------------------------------------------------- */

/* Puts the escapes where hit has bits. Positions are listed first, four at a time
 * whether there are four or not. */
INLINE void put_escapes(const uint64_t hit[LADDER_LINES], struct ladder_more *more, int16_t *t)
{
	uint16_t at[512 + 4], *next = at;

	for (unsigned j = 0; j < LADDER_LINES; j++) {
		uint64_t m = hit[j];
		unsigned n = (unsigned)_mm_popcnt_u64(m);

		for (unsigned k = 0; k < n; k += 4)
			for (unsigned i = 0; i < 4; i++, m = _blsr_u64(m))
				next[k + i] = (uint16_t)(64 * j + (unsigned)_tzcnt_u64(m));
		next += n;
	}
	for (const uint16_t *p = at; p < next; p++)
		t[*p] = *more->escapes++;
}

/* Codes to k in t, and the means where they turn. */
static void index_codes(const struct ladder_desc *d, struct ladder_more *more,
			struct ladder_block *b)
{
	uint64_t hit[LADDER_LINES] = { 0 };

	if (b->turn.c) {
		means_avx2(d, &b->turn, b->turned[0]);
		b->z = b->turned[0];
		b->z_step = LADDER_LANES;
	}
	for (unsigned h = 0; h < 64; h += 32) {
		__m256i escape = load(d->escape + h);
		__m256i bias[2] = { load(d->bias + h), load(d->bias + h + 16) };

		for (unsigned j = 0; j < LADDER_LINES; j++) {
			__m256i code = load(b->code[j] + h);
			__m256i lo = _mm256_cvtepu8_epi16(_mm256_castsi256_si128(code));
			__m256i hi = _mm256_cvtepu8_epi16(_mm256_extracti128_si256(code, 1));
			uint32_t m;

			m = (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(code, escape));
			hit[j] |= (uint64_t)m << h;
			store(b->t[j] + h, _mm256_sub_epi16(lo, bias[0]));
			store(b->t[j] + h + 16, _mm256_sub_epi16(hi, bias[1]));
		}
	}
	put_escapes(hit, more, b->t[0]);
}

/* 16 lanes of a line refined. */
INLINE __m256i refine(__m256i t, const uint8_t *src, unsigned lanes, unsigned j, unsigned l,
		      const unsigned bits)
{
	__m128i v = _mm_loadu_si128((const void *)(src + j * bits / 8 * lanes + l));

	v = _mm_srl_epi16(v, _mm_cvtsi32_si128((int)(j * bits % 8)));
	v = _mm_and_si128(v, _mm_set1_epi8((char)((1u << bits) - 1)));
	return _mm256_or_si256(_mm256_slli_epi16(t, (int)bits), _mm256_cvtepu8_epi16(v));
}

enum known { NONE, TWO, TWO_FOUR, ANY };

INLINE enum known known_of(const struct ladder_more *more)
{
	if (more->n == 0)
		return NONE;
	if (more->n > 2 || more->bits[0] != 2 || (more->n == 2 && more->bits[1] != 4))
		return ANY;
	return more->n == 1 ? TWO : TWO_FOUR;
}

/* t of 16 lanes with all refinements. */
INLINE __m256i refined(const struct ladder_block *b, const struct ladder_more *more, unsigned lanes,
		       unsigned j, unsigned l, const enum known known)
{
	__m256i t = load(b->t[j] + l);

	if (known == TWO || known == TWO_FOUR)
		t = refine(t, more->src[0], lanes, j, l, 2);
	if (known == TWO_FOUR)
		t = refine(t, more->src[1], lanes, j, l, 4);
	for (unsigned i = 0; known == ANY && i < more->n; i++)
		t = more->bits[i] == 1   ? refine(t, more->src[i], lanes, j, l, 1)
		    : more->bits[i] == 2 ? refine(t, more->src[i], lanes, j, l, 2)
					 : refine(t, more->src[i], lanes, j, l, 4);
	return t;
}

/* ---- values -------------------------------------------------------------- */

INLINE __m256i point(const struct consts *c, __m256i t, const int16_t *z)
{
	return _mm256_add_epi16(_mm256_sll_epi16(t, c->shift), _mm256_add_epi16(load(z), c->add));
}

/* The sign of t is taken over by what is subtracted. */
INLINE __m256i drawn(__m256i q, __m256i t, const int16_t *by)
{
	return _mm256_sub_epi16(q, _mm256_sign_epi16(load(by), t));
}

INLINE void values_of(const struct ladder_level *v, const struct ladder_desc *d,
		      const struct ladder_more *more, struct ladder_block *b, const bool f16,
		      const enum known known)
{
	const __m256i nearest = _mm256_set1_epi32(0x8000);
	const struct consts c = consts_of(v);

#pragma GCC unroll 8
	for (unsigned j = 0; j < LADDER_LINES; j++)
		for (unsigned l = 0; l < 64; l += 16) {
			__m256i t = refined(b, more, d->lanes, j, l, known), u[2];
			__m256i q = point(&c, t, b->z + j * b->z_step + l);
			__m256 f[2];

			if (known == NONE)
				q = drawn(q, t, d->draw + l);
			for (int k = 0; k < 2; k++) {
				f[k] = _mm256_mul_ps(floats(q, k), c.step);
				u[k] = _mm256_add_epi32(_mm256_castps_si256(f[k]), nearest);
			}
			store(b->to[j] + 2 * l, f16 ? HALVES(f[0], f[1], _MM_FROUND_TO_NEAREST_INT)
						    : upper(u[0], u[1]));
		}
}

static void values_avx2(const struct ladder_level *v, const struct ladder_desc *d,
			struct ladder_more *more, struct ladder_block *b)
{
	const enum known known = known_of(more);

	index_codes(d, more, b);
	if (v->f16 && known == NONE)
		values_of(v, d, more, b, true, NONE);
	else if (v->f16)
		values_of(v, d, more, b, true, ANY);
	else if (known == NONE)
		values_of(v, d, more, b, false, NONE);
	else if (known == TWO)
		values_of(v, d, more, b, false, TWO);
	else if (known == TWO_FOUR)
		values_of(v, d, more, b, false, TWO_FOUR);
	else
		values_of(v, d, more, b, false, ANY);
}

/* ---- the exact layer ----------------------------------------------------- */

INLINE uint64_t bits_at(const uint8_t *p, uint64_t at)
{
	unsigned by = at % 8;

	p += at / 8;
	return load64(p) >> by | (uint64_t)p[8] << 1 << (63 - by);
}

/* @value in the bytes of 32 lanes whose bit is set. */
INLINE __m256i to_lanes(uint32_t bits, unsigned value)
{
	const __m256i each = _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2,
					      2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3);
	const __m256i one = _mm256_set1_epi64x((long long)0x8040201008040201ull);
	__m256i v = _mm256_shuffle_epi8(_mm256_set1_epi32((int)bits), each);

	v = _mm256_cmpeq_epi8(_mm256_and_si256(v, one), one);
	return _mm256_and_si256(v, bytes(value));
}

/* The residuals of 64 lanes: low bytes of each half, then high ones. */
INLINE uint64_t residuals(unsigned n_planes, const struct sizes *s, const uint8_t *p, uint64_t at,
			  __m256i rest[4], const bool f16)
{
	for (unsigned i = 0; i < 4; i++)
		rest[i] = _mm256_setzero_si256();
#pragma GCC unroll 11
	for (unsigned k = 0; k < 11; k++) {
		uint64_t m, lanes;

		if ((!f16 && k > 7) || (f16 && k >= n_planes))
			continue;
		m = within(s, (f16 ? 1024u : 128u) >> k);
		lanes = _pdep_u64(bits_at(p, at), m);
		at += (unsigned)_mm_popcnt_u64(m);
		for (unsigned h = 0; h < 2; h++) {
			__m256i *to = &rest[k / 8 * 2 + h];

			*to = _mm256_or_si256(*to, to_lanes((uint32_t)(lanes >> 32 * h),
							    1u << k % 8));
		}
	}
	return at;
}

INLINE size_t exact_of(const struct ladder_level *v, const struct ladder_desc *d,
		       const struct ladder_more *more, struct ladder_bits *bits,
		       const uint16_t *zeros, struct ladder_block *b, const bool f16,
		       const enum known known)
{
	const struct consts c = consts_of(v);
	const uint16_t *from = zeros;
	uint64_t at = bits->at;

	for (unsigned j = 0; j < LADDER_LINES; j++) {
		__m256i q[4], rest[4];
		struct sizes s;

		if (b->count[j] == 0)
			continue;
		for (unsigned i = 0; i < 4; i++)
			q[i] = point(&c, refined(b, more, d->lanes, j, 16 * i, known),
				     b->z + j * b->z_step + 16 * i);
		s = sizes_of(q, b->count[j]);
		at = residuals(v->n_planes, &s, bits->p, at, rest, f16);
		for (unsigned i = 0; i < 4; i++) {
			__m256i r = widen(rest[i / 2], i & 1);

			if (f16)
				r = _mm256_or_si256(
					r, _mm256_slli_epi16(widen(rest[2 + i / 2], i & 1), 8));
			r = ord(_mm256_add_epi16(first_patterns(q[i], &c, f16), r));
			store(b->to[j] + 32 * i, r);
		}
		for (; s.zero; s.zero = _blsr_u64(s.zero))
			memcpy(b->to[j] + 2 * _tzcnt_u64(s.zero), from++, 2);
	}
	bits->at = at;
	return (size_t)(from - zeros);
}

static size_t exact_avx2(const struct ladder_level *v, const struct ladder_desc *d,
			 struct ladder_more *more, struct ladder_bits *bits,
			 const uint16_t *zeros, struct ladder_block *b)
{
	index_codes(d, more, b);
	if (v->f16)
		return exact_of(v, d, more, bits, zeros, b, true, ANY);
	return known_of(more) == TWO_FOUR
		       ? exact_of(v, d, more, bits, zeros, b, false, TWO_FOUR)
		       : exact_of(v, d, more, bits, zeros, b, false, ANY);
}

const struct ladder_kern ladder_kern_avx2 = {
	.unpack_fix = unpack_fix,
	.pack_fix = ladder_pack_fix_portable,
	.unpack_huf = unpack_huf,
	.pack_huf = ladder_pack_huf_portable,
	.codes = ladder_codes_avx2,
	.digits = ladder_digits_portable,
	.values = values_avx2,
	.exact = exact_avx2,
	.exact_put = ladder_exact_put_avx2,
	.cells = ladder_cells_avx2,
	.turn = turn_avx2,
	.means = means_avx2,
	.centre = ladder_centre_portable,
};
