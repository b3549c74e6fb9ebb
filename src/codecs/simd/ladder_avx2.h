/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_CODECS_SIMD_LADDER_AVX2_H
#define KVCACHEFS_CODECS_SIMD_LADDER_AVX2_H
/* What the ladder's AVX2 decoder and encoder share: lanes, cells, patterns.
 * Nothing for who is not compiled for it. */
#ifdef __AVX2__
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

/* 16 of 32 bytes as words. */
INLINE __m256i widen(__m256i v, unsigned half)
{
	return _mm256_cvtepu8_epi16(half ? _mm256_extracti128_si256(v, 1)
					 : _mm256_castsi256_si128(v));
}

/* The encoder's, in ladder_avx2_enc.c. */
size_t ladder_exact_put_avx2(const struct ladder_level *v, const struct ladder_block *b,
			     struct ladder_bits_out *bits, uint16_t *zeros);
void ladder_cells_avx2(const struct ladder_level *v, struct ladder_block *b);
size_t ladder_codes_avx2(const struct ladder_desc *d, unsigned low, struct ladder_block *b,
			 int16_t *esc);

#endif
#endif
