// SPDX-License-Identifier: MIT
/*
 * The ladder kernels with AVX2: a line of 64 lanes is two vectors of codes, four of
 * indices or patterns, eight of floats. Bytes are spread over lanes by PDEP, eight
 * at a time; escapes are put in place after the lines of a block, for there a
 * branch per escape would be mispredicted at most of them. Packing has the portable
 * loops.
 */
#include <immintrin.h>
#include <string.h>

#include "codecs/simd/ladder_kern.h"

#define INLINE static inline __attribute__((always_inline))

INLINE __m256i load(const void *p)
{
	return _mm256_loadu_si256(p);
}

INLINE void store(void *p, __m256i v)
{
	_mm256_storeu_si256(p, v);
}

INLINE __m256i words(int v)
{
	return _mm256_set1_epi16((short)v);
}

INLINE __m256i bytes(unsigned v)
{
	return _mm256_set1_epi8((char)v);
}

INLINE uint64_t load64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, 8);
	return v;
}

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

struct consts {
	__m128i shift;
	__m256i add;
	__m256 step, half;
};

/* Floats are 2^16 times too large (see floats). */
INLINE __m256 power(int e)
{
	return _mm256_castsi256_ps(_mm256_set1_epi32((e + 111) << 23));
}

INLINE struct consts consts_of(const struct ladder_level *v)
{
	return (struct consts){ _mm_cvtsi32_si128(v->shift), words(v->add), power(v->e),
				power(v->e + 15) };
}

INLINE __m256i point(const struct consts *c, __m256i t, const int16_t *z)
{
	return _mm256_add_epi16(_mm256_sll_epi16(t, c->shift), _mm256_add_epi16(load(z), c->add));
}

/* The sign of t is taken over by what is subtracted. */
INLINE __m256i drawn(__m256i q, __m256i t, const int16_t *by)
{
	return _mm256_sub_epi16(q, _mm256_sign_epi16(load(by), t));
}

/* The even or odd of 16 words as floats, times 2^16. */
INLINE __m256 floats(__m256i q, int odd)
{
	return _mm256_cvtepi32_ps(odd ? _mm256_and_si256(q, _mm256_set1_epi32(-65536))
				      : _mm256_slli_epi32(q, 16));
}

INLINE __m256i upper(__m256i even, __m256i odd)
{
	return _mm256_blend_epi16(_mm256_srli_epi32(even, 16), odd, 0xaa);
}

/* clang takes only a literal for the rounding, also in what is inlined. */
#define HALVES(even, odd, mode)                                                               \
	_mm256_or_si256(                                                                     \
		_mm256_cvtepu16_epi32(_mm256_cvtps_ph(even, mode)),                             \
		_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm256_cvtps_ph(odd, mode)), 16))

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

INLINE __m256i ord(__m256i p)
{
	return _mm256_xor_si256(p, _mm256_srli_epi16(_mm256_srai_epi16(p, 15), 1));
}

/* ord of the first patterns of 16 cells: at (q - 1/2) steps, rounded up. */
INLINE __m256i first_patterns(__m256i q, const struct consts *c, const bool f16)
{
	__m256 f[2];
	__m256i u[2];

	for (int k = 0; k < 2; k++) {
		f[k] = _mm256_sub_ps(_mm256_mul_ps(floats(q, k), c->step), c->half);
		u[k] = _mm256_castps_si256(f[k]);
		u[k] = _mm256_add_epi32(u[k], _mm256_andnot_si256(_mm256_srai_epi32(u[k], 31),
								  _mm256_set1_epi32(0xffff)));
	}
	if (f16)
		return ord(HALVES(f[0], f[1], _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC));
	return ord(upper(u[0], u[1]));
}

/* |q| - 1 of 64 lanes, that of 0 as large as can be: words, and saturated bytes. */
struct sizes {
	__m256i w[4], b[2];
	uint64_t zero, valid;
};

/* A bit for each of 32 words that is not 0. */
INLINE uint32_t mask_of(__m256i a, __m256i b)
{
	__m256i v = _mm256_packs_epi16(a, b);

	return (uint32_t)_mm256_movemask_epi8(_mm256_permute4x64_epi64(v, 0xd8));
}

INLINE struct sizes sizes_of(const __m256i q[4], unsigned count)
{
	const __m256i nil = _mm256_setzero_si256();
	struct sizes s;

	s.valid = _bzhi_u64(~0ull, count);
	for (unsigned i = 0; i < 4; i++)
		s.w[i] = _mm256_sub_epi16(_mm256_abs_epi16(q[i]), words(1));
	for (unsigned h = 0; h < 2; h++) {
		__m256i a = _mm256_min_epu16(s.w[2 * h], words(255));
		__m256i b = _mm256_min_epu16(s.w[2 * h + 1], words(255));

		s.b[h] = _mm256_permute4x64_epi64(_mm256_packus_epi16(a, b), 0xd8);
	}
	s.zero = mask_of(_mm256_cmpeq_epi16(q[0], nil), _mm256_cmpeq_epi16(q[1], nil)) |
		 (uint64_t)mask_of(_mm256_cmpeq_epi16(q[2], nil), _mm256_cmpeq_epi16(q[3], nil))
			 << 32;
	s.zero &= s.valid;
	return s;
}

/* Lanes with 0 < |q| <= limit. */
INLINE uint64_t within(const struct sizes *s, unsigned limit)
{
	uint32_t m[2];

	for (unsigned h = 0; h < 2; h++)
		if (limit < 255) {
			__m256i x = _mm256_min_epu8(s->b[h], bytes(limit - 1));

			m[h] = (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(x, s->b[h]));
		} else {
			__m256i most = words((int)limit - 1), a = s->w[2 * h], b = s->w[2 * h + 1];

			m[h] = mask_of(_mm256_cmpeq_epi16(_mm256_min_epu16(a, most), a),
				       _mm256_cmpeq_epi16(_mm256_min_epu16(b, most), b));
		}
	return (m[0] | (uint64_t)m[1] << 32) & s->valid;
}

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

/* 16 of 32 bytes as words. */
INLINE __m256i widen(__m256i v, unsigned half)
{
	return _mm256_cvtepu8_epi16(half ? _mm256_extracti128_si256(v, 1)
					 : _mm256_castsi256_si128(v));
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

INLINE void bits_put(struct ladder_bits_out *o, uint64_t v, unsigned n)
{
	uint64_t acc = o->acc | v << o->n;

	memcpy(o->p, &acc, 8);
	if (o->n + n >= 64) {
		o->p += 8;
		acc = o->n ? v >> (64 - o->n) : 0;
	}
	o->acc = acc;
	o->n = (o->n + n) % 64;
}

/* Bit k of 64 words. */
INLINE uint64_t bits_of(const __m256i w[4], unsigned k)
{
	const __m128i up = _mm_cvtsi32_si128((int)(15 - k));

	return mask_of(_mm256_sll_epi16(w[0], up), _mm256_sll_epi16(w[1], up)) |
	       (uint64_t)mask_of(_mm256_sll_epi16(w[2], up), _mm256_sll_epi16(w[3], up)) << 32;
}

INLINE size_t exact_put_of(const struct ladder_level *v, const struct ladder_block *b,
			   struct ladder_bits_out *bits, uint16_t *zeros, const bool f16)
{
	const struct consts c = consts_of(v);
	uint16_t *to = zeros;

	for (unsigned j = 0; j < LADDER_LINES; j++) {
		const int16_t *z = b->z + j * b->z_step;
		__m256i q[4], rest[4];
		struct sizes s;

		if (b->count[j] == 0)
			continue;
		for (unsigned i = 0; i < 4; i++) {
			q[i] = _mm256_add_epi16(load(b->t[j] + 16 * i), load(z + 16 * i));
			q[i] = _mm256_add_epi16(q[i], c.add);
			rest[i] = _mm256_sub_epi16(ord(load(b->pat[j] + 16 * i)),
						   first_patterns(q[i], &c, f16));
		}
		s = sizes_of(q, b->count[j]);
		for (unsigned k = 0; k < v->n_planes; k++) {
			uint64_t m = within(&s, v->limit[k]), x = bits_of(rest, k) & ~b->skip[j];

			bits_put(bits, _pext_u64(x, m), (unsigned)_mm_popcnt_u64(m));
		}
		for (; s.zero; s.zero = _blsr_u64(s.zero)) {
			unsigned l = (unsigned)_tzcnt_u64(s.zero);

			*to++ = b->skip[j] >> l & 1 ? 0 : b->pat[j][l];
		}
	}
	return (size_t)(to - zeros);
}

static size_t exact_put_avx2(const struct ladder_level *v, const struct ladder_block *b,
			     struct ladder_bits_out *bits, uint16_t *zeros)
{
	return v->f16 ? exact_put_of(v, b, bits, zeros, true)
		      : exact_put_of(v, b, bits, zeros, false);
}

/* ---- cells and codes ----------------------------------------------------- */

static void cells_avx2(const struct ladder_level *v, struct ladder_block *b)
{
	const __m256 back = _mm256_castsi256_ps(_mm256_set1_epi32((127 - v->e) << 23));
	const __m256 limit = _mm256_set1_ps(LADDER_CELL_LIMIT), sign = _mm256_set1_ps(-0.0f);

	for (unsigned j = 0; j < LADDER_LINES; j++)
		for (unsigned l = 0; l < LADDER_LANES; l += 16) {
			__m256i i[2];

			for (unsigned h = 0; h < 2; h++) {
				const void *p = b->pat[j] + l + 8 * h;
				__m128i w = _mm_loadu_si128(p);
				__m256 y = _mm256_cvtph_ps(w), good;

				if (!v->f16)
					y = _mm256_castsi256_ps(
						_mm256_slli_epi32(_mm256_cvtepu16_epi32(w), 16));
				y = _mm256_mul_ps(y, back);
				good = _mm256_cmp_ps(_mm256_andnot_ps(sign, y), limit, _CMP_LT_OQ);
				y = _mm256_floor_ps(_mm256_add_ps(y, _mm256_set1_ps(0.5f)));
				i[h] = _mm256_cvtps_epi32(_mm256_and_ps(y, good));
				b->skip[j] |= (uint64_t)(~_mm256_movemask_ps(good) & 255)
					      << (l + 8 * h);
			}
			i[0] = _mm256_packs_epi32(i[0], i[1]);
			store(b->t[j] + l, _mm256_permute4x64_epi64(i[0], 0xd8));
		}
}

static size_t codes_avx2(const struct ladder_desc *d, unsigned low, struct ladder_block *b,
			 int16_t *esc)
{
	const __m128i down = _mm_cvtsi32_si128((int)low);
	int16_t *at = esc;

	for (unsigned j = 0; j < LADDER_LINES; j++)
		for (unsigned l = 0; l < 64; l += 32) {
			uint32_t has = (uint32_t)(d->plane[0] >> l), m;
			__m256i escape = load(d->escape + l), code[2], out[2], all;

			for (unsigned h = 0; h < 2; h++) {
				__m256i k = _mm256_sra_epi16(load(b->t[j] + l + 16 * h), down);
				__m256i most = widen(escape, h);

				code[h] = _mm256_add_epi16(k, load(d->bias + l + 16 * h));
				out[h] = _mm256_cmpeq_epi16(_mm256_max_epu16(code[h], most), code[h]);
				code[h] = _mm256_and_si256(code[h], words(255));
			}
			m = mask_of(out[0], out[1]) & has;
			all = _mm256_packus_epi16(code[0], code[1]);
			all = _mm256_permute4x64_epi64(all, 0xd8);
			store(b->code[j] + l, all);
			for (uint32_t x = ~has; x; x = _blsr_u32(x))
				b->code[j][l + _tzcnt_u32(x)] = 0;
			for (; m; m = _blsr_u32(m)) {
				unsigned i = l + _tzcnt_u32(m);

				b->code[j][i] = d->escape[i];
				*at++ = (int16_t)(b->t[j][i] >> low);
			}
		}
	return (size_t)(at - esc);
}

const struct ladder_kern ladder_kern_avx2 = {
	.unpack_fix = unpack_fix,
	.pack_fix = ladder_pack_fix_portable,
	.unpack_huf = unpack_huf,
	.pack_huf = ladder_pack_huf_portable,
	.codes = codes_avx2,
	.digits = ladder_digits_portable,
	.values = values_avx2,
	.exact = exact_avx2,
	.exact_put = exact_put_avx2,
	.cells = cells_avx2,
	.turn = turn_avx2,
	.means = means_avx2,
	.centre = ladder_centre_portable,
};
