/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_CODECS_SIMD_LADDER_AVX512_H
#define KVCACHEFS_CODECS_SIMD_LADDER_AVX512_H
/* What the ladder's AVX-512 decoder and encoder share: lanes, cells, patterns.
 * Nothing for who is not compiled for it. */
#ifdef __AVX512VBMI2__
#include <immintrin.h>

#include "codecs/simd/ladder_kern.h"

#define INLINE static inline __attribute__((always_inline))

INLINE __m512i load(const void *p)
{
	return _mm512_loadu_si512(p);
}

INLINE void store(void *p, __m512i v)
{
	_mm512_storeu_si512(p, v);
}

INLINE __m512i bytes(unsigned v)
{
	return _mm512_set1_epi8((char)v);
}

INLINE __m512i words(int v)
{
	return _mm512_set1_epi16((short)v);
}

/* Keeps the compiler from making a constant anew wherever it is used, which costs
 * more than to load it. */
INLINE __m512i pin(__m512i v)
{
	__asm__("" : "+v"(v));
	return v;
}

/* acc | (v & mask) */
INLINE __m512i or_and(__m512i acc, __m512i v, __m512i mask)
{
	return _mm512_ternarylogic_epi32(acc, v, mask, 0xf8);
}

/* Every byte's bit @from to bit @to, others in between. */
INLINE __m512i shift_to(__m512i v, unsigned from, unsigned to)
{
	return from >= to ? _mm512_srli_epi16(v, from - to) : _mm512_slli_epi16(v, to - from);
}

INLINE __m512i widen(__m512i v, int half)
{
	return _mm512_cvtepu8_epi16(half ? _mm512_extracti64x4_epi64(v, 1)
					 : _mm512_castsi512_si256(v));
}

INLINE __m512i widen_signed(__m512i v, int half)
{
	return _mm512_cvtepi8_epi16(half ? _mm512_extracti64x4_epi64(v, 1)
					 : _mm512_castsi512_si256(v));
}

INLINE __m512i join(__m256i a, __m256i b)
{
	return _mm512_inserti64x4(_mm512_castsi256_si512(a), b, 1);
}

/* The low bytes of 64 words. */
INLINE __m512i narrow(__m512i a, __m512i b)
{
	return join(_mm512_cvtepi16_epi8(a), _mm512_cvtepi16_epi8(b));
}

/* The even or odd of 32 words as floats, times 2^16. */
INLINE __m512 floats(__m512i q, int odd)
{
	return _mm512_cvtepi32_ps(odd ? _mm512_and_si512(q, _mm512_set1_epi32(-65536))
				      : _mm512_slli_epi32(q, 16));
}

/* The upper words of both, in the places that floats took them from. */
INLINE __m512i upper(__m512i even, __m512i odd)
{
	return _mm512_mask_blend_epi16(0xaaaaaaaa, _mm512_srli_epi32(even, 16), odd);
}

/* f16 in the lower words of dwords; both into the places they came from. */
/* clang takes only a literal for the rounding, also in what is inlined. */
#define HALVES(even, odd, mode)                                                               \
	_mm512_or_si512(                                                                     \
		_mm512_cvtepu16_epi32(_mm512_cvtps_ph(even, mode)),                             \
		_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm512_cvtps_ph(odd, mode)), 16))

/* 2^(e - 16), for what floats gives. */
INLINE __m512 power(int e)
{
	return _mm512_castsi512_ps(_mm512_set1_epi32((e + 111) << 23));
}

INLINE __m512i ord(__m512i p)
{
	return _mm512_ternarylogic_epi32(p, _mm512_srai_epi16(p, 15), words(0x7fff), 0x78);
}

/* ord of the first patterns of 32 cells: at (q - 1/2) steps, rounded up. */
INLINE __m512i first_patterns(__m512i q, __m512 step, __m512 half, const bool f16)
{
	__m512 f[2];
	__m512i u[2];

	for (int k = 0; k < 2; k++) {
		f[k] = _mm512_fmsub_ps(floats(q, k), step, half);
		u[k] = _mm512_castps_si512(f[k]);
		u[k] = _mm512_mask_add_epi32(
			u[k], _mm512_cmpgt_epi32_mask(u[k], _mm512_setzero_si512()), u[k],
			_mm512_set1_epi32(0xffff));
	}
	if (f16)
		return ord(HALVES(f[0], f[1], _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC));
	return ord(upper(u[0], u[1]));
}

/* |q| - 1 of 64 lanes, that of 0 as large as can be: in words, and saturated in
 * bytes. */
struct sizes {
	__m512i w[2], b;
};

INLINE struct sizes sizes_of(const __m512i q[2], uint64_t valid)
{
	struct sizes s;

	for (int h = 0; h < 2; h++)
		s.w[h] = _mm512_sub_epi16(_mm512_abs_epi16(q[h]), words(1));
	if (valid != ~0ull)
		for (int h = 0; h < 2; h++)
			s.w[h] = _mm512_mask_mov_epi16(words(-1), (uint32_t)(valid >> 32 * h),
						       s.w[h]);
	s.b = join(_mm512_cvtusepi16_epi8(s.w[0]), _mm512_cvtusepi16_epi8(s.w[1]));
	return s;
}

/* Lanes with 0 < |q| <= limit. */
INLINE uint64_t within(const struct sizes *s, unsigned limit)
{
	if (limit < 255)
		return _mm512_cmplt_epu8_mask(s->b, bytes(limit));
	return _mm512_cmplt_epu16_mask(s->w[0], words((int)limit)) |
	       (uint64_t)_mm512_cmplt_epu16_mask(s->w[1], words((int)limit)) << 32;
}

INLINE uint64_t zero_cells(const __m512i q[2], uint64_t valid)
{
	return (_mm512_testn_epi16_mask(q[0], q[0]) |
		(uint64_t)_mm512_testn_epi16_mask(q[1], q[1]) << 32) & valid;
}

/* The encoder's, in ladder_avx512_enc.c. */
size_t ladder_pack_fix_avx512(const struct ladder_desc *d, const struct ladder_block *b,
			      uint8_t *dst);
void ladder_pack_huf_avx512(const struct ladder_desc *d, const struct ladder_block *b,
			    uint8_t *stream[LADDER_CLASSES_MAX]);
size_t ladder_codes_avx512(const struct ladder_desc *d, unsigned low, struct ladder_block *b,
			   int16_t *esc);
void ladder_digits_avx512(unsigned bits, unsigned low, unsigned lanes,
			  const struct ladder_block *b, uint8_t *dst);
size_t ladder_exact_put_avx512(const struct ladder_level *v, const struct ladder_block *b,
			       struct ladder_bits_out *bits, uint16_t *zeros);
void ladder_cells_avx512(const struct ladder_level *v, struct ladder_block *b);
void ladder_centre_avx512(const struct ladder_level *v, struct ladder_block *b);

#endif
#endif
