// SPDX-License-Identifier: MIT
/*
 * The planes kernels with AVX-512 (BW, VBMI, VBMI2: Ice Lake, Zen 4 and later),
 * 64 elements at a time; what is left at the end goes to the portable ones.
 *
 * Escapes are spread to their places by VPEXPANDB and gathered by VPCOMPRESSB,
 * without a branch on the data: the only loop-carried value is the number of
 * escapes so far.
 */
#include <immintrin.h>
#include <string.h>

#include "codecs/simd/kernels.h"

#define INLINE static inline __attribute__((always_inline))

INLINE __m512i load(const uint8_t *p)
{
	return _mm512_loadu_si512(p);
}

INLINE void store(uint8_t *p, __m512i v, bool stream)
{
	if (stream)
		_mm512_stream_si512((void *)p, v);
	else
		_mm512_storeu_si512(p, v);
}

/* Indices base + i * step, which VPERMT2B takes mod 128: the first 64 / step * 2
 * of them pick every step-th byte of a pair of vectors. */
INLINE __m512i every(unsigned base, unsigned step)
{
	uint8_t b[64] __attribute__((aligned(64)));

	for (unsigned i = 0; i < 64; i++)
		b[i] = (uint8_t)(base + i * step);
	return _mm512_load_si512(b);
}

/* Rotates every byte left by one bit; right: by seven. */
INLINE __m512i rol8(__m512i v, int by)
{
	__m512i left = _mm512_set1_epi8((char)(0xff << by));

	return _mm512_or_si512(_mm512_and_si512(left, _mm512_slli_epi16(v, by)),
			      _mm512_andnot_si512(left, _mm512_srli_epi16(v, 8 - by)));
}

static void split8(const uint8_t *src, size_t n, uint8_t *top)
{
	for (size_t i = 0; i < n; i += 64)
		store(top + i, rol8(load(src + i), 1), false);
}

static void split16(const uint8_t *src, size_t n, uint8_t *top, uint8_t *low)
{
	const __m512i even = every(0, 2), odd = every(1, 2);

	for (size_t i = 0; i < n; i += 64) {
		__m512i a = load(src + 2 * i), b = load(src + 2 * i + 64);

		a = _mm512_shldi_epi16(a, a, 1);
		b = _mm512_shldi_epi16(b, b, 1);
		store(top + i, _mm512_permutex2var_epi8(a, odd, b), false);
		if (low)
			store(low + i, _mm512_permutex2var_epi8(a, even, b), false);
	}
}

/* Plane p of 64 elements in v[4]. */
INLINE __m512i plane32(const __m512i v[4], __m512i index)
{
	__m512i ab = _mm512_permutex2var_epi8(v[0], index, v[1]);
	__m512i cd = _mm512_permutex2var_epi8(v[2], index, v[3]);

	return _mm512_shuffle_i64x2(ab, cd, 0x44);
}

static void split32(const uint8_t *src, size_t n, uint8_t *top,
		    uint8_t *const low[PLANES_LOWS_MAX])
{
	const __m512i at[4] = { every(0, 4), every(1, 4), every(2, 4), every(3, 4) };

	for (size_t i = 0; i < n; i += 64) {
		__m512i v[4];

		for (int k = 0; k < 4; k++)
			v[k] = _mm512_rol_epi32(load(src + 4 * i + 64 * k), 1);
		store(top + i, plane32(v, at[3]), false);
		for (int p = 0; p < 3; p++)
			if (low[p])
				store(low[p] + i, plane32(v, at[p]), false);
	}
}

static void split_avx512(unsigned eb, const uint8_t *src, size_t n, uint8_t *top,
			 uint8_t *const low[PLANES_LOWS_MAX])
{
	size_t whole = n & ~(size_t)63;
	uint8_t *rest[PLANES_LOWS_MAX];

	if (eb == 1)
		split8(src, whole, top);
	else if (eb == 2)
		split16(src, whole, top, low[0]);
	else
		split32(src, whole, top, low);
	if (whole == n)
		return;
	for (int p = 0; p < 3; p++)
		rest[p] = low[p] ? low[p] + whole : NULL;
	planes_split_portable(eb, src + whole * eb, n - whole, top + whole, rest);
}

INLINE __m512i top_at(const uint8_t *top, const uint8_t *off, size_t i)
{
	__m512i v = load(top + i);

	return off ? _mm512_add_epi8(v, load(off + i)) : v;
}

/* Bytes 2i, 2i+1 of the result are byte first+i of a, of b. */
INLINE __m512i zip_index(unsigned first)
{
	uint8_t b[64] __attribute__((aligned(64)));

	for (unsigned i = 0; i < 32; i++) {
		b[2 * i] = (uint8_t)(first + i);
		b[2 * i + 1] = (uint8_t)(64 + first + i);
	}
	return _mm512_load_si512(b);
}

INLINE void merge16(const uint8_t *top, const uint8_t *off, const uint8_t *low, size_t n,
		    uint8_t *dst, bool stream)
{
	const __m512i lo = zip_index(0), hi = zip_index(32);

	for (size_t i = 0; i < n; i += 64) {
		__m512i t = top_at(top, off, i), l = load(low + i);
		__m512i a = _mm512_permutex2var_epi8(l, lo, t);
		__m512i b = _mm512_permutex2var_epi8(l, hi, t);

		store(dst + 2 * i, _mm512_shrdi_epi16(a, a, 1), stream);
		store(dst + 2 * i + 64, _mm512_shrdi_epi16(b, b, 1), stream);
	}
}

INLINE void merge32(const uint8_t *top, const uint8_t *off,
		    const uint8_t *const low[PLANES_LOWS_MAX], size_t n, uint8_t *dst, bool stream)
{
	const __m512i lo = zip_index(0), hi = zip_index(32);
	uint16_t w[2][32] __attribute__((aligned(64)));
	__m512i wlo, whi;

	for (unsigned i = 0; i < 16; i++)
		for (unsigned h = 0; h < 2; h++) {
			w[h][2 * i] = (uint16_t)(16 * h + i);
			w[h][2 * i + 1] = (uint16_t)(32 + 16 * h + i);
		}
	wlo = _mm512_load_si512(w[0]);
	whi = _mm512_load_si512(w[1]);
	for (size_t i = 0; i < n; i += 64) {
		__m512i t = top_at(top, off, i), l0 = load(low[0] + i);
		__m512i l1 = load(low[1] + i), l2 = load(low[2] + i);
		__m512i half[2][2] = {
			{ _mm512_permutex2var_epi8(l0, lo, l1),
			  _mm512_permutex2var_epi8(l2, lo, t) },
			{ _mm512_permutex2var_epi8(l0, hi, l1),
			  _mm512_permutex2var_epi8(l2, hi, t) },
		};

		for (int h = 0; h < 2; h++) {
			__m512i a = _mm512_permutex2var_epi16(half[h][0], wlo, half[h][1]);
			__m512i b = _mm512_permutex2var_epi16(half[h][0], whi, half[h][1]);

			store(dst + 4 * i + 128 * h, _mm512_ror_epi32(a, 1), stream);
			store(dst + 4 * i + 128 * h + 64, _mm512_ror_epi32(b, 1), stream);
		}
	}
}

static void merge8(const uint8_t *top, const uint8_t *off, size_t n, uint8_t *dst)
{
	for (size_t i = 0; i < n; i += 64)
		store(dst + i, rol8(top_at(top, off, i), 7), false);
}

static void merge_avx512(unsigned eb, const uint8_t *top, const uint8_t *off,
			 const uint8_t *const low[PLANES_LOWS_MAX], size_t n, uint8_t *dst,
			 bool stream)
{
	size_t whole = n & ~(size_t)63;
	const uint8_t *rest[PLANES_LOWS_MAX];

	stream = stream && ((uintptr_t)dst & 63) == 0;
	if (eb == 2 && stream)
		merge16(top, off, low[0], whole, dst, true);
	else if (eb == 2)
		merge16(top, off, low[0], whole, dst, false);
	else if (eb == 4 && stream)
		merge32(top, off, low, whole, dst, true);
	else if (eb == 4)
		merge32(top, off, low, whole, dst, false);
	else
		merge8(top, off, whole, dst);
	if (stream)
		_mm_sfence();
	if (whole == n)
		return;
	for (int p = 0; p < 3; p++)
		rest[p] = low[p] ? low[p] + whole : NULL;
	planes_merge_portable(eb, top + whole, off ? off + whole : NULL, rest, n - whole,
			      dst + whole * eb, false);
}

static void sub_avx512(uint8_t *top, const uint8_t *off, size_t n)
{
	size_t i = 0;

	for (; i + 64 <= n; i += 64)
		store(top + i, _mm512_sub_epi8(load(top + i), load(off + i)), false);
	planes_sub_portable(top + i, off + i, n - i);
}

static void colsum_avx512(const uint8_t *top, size_t n, uint32_t *sum, uint32_t *count)
{
	const __m512i one = _mm512_set1_epi32(1);
	size_t i = 0;

	for (; i + 16 <= n; i += 16) {
		__m512i v = _mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)(top + i)));
		__m512i s = _mm512_loadu_si512(sum + i), c = _mm512_loadu_si512(count + i);

		_mm512_storeu_si512(sum + i, _mm512_add_epi32(s, v));
		_mm512_storeu_si512(count + i,
				    _mm512_mask_add_epi32(c, _mm512_test_epi32_mask(v, v), c,
							  one));
	}
	planes_colsum_portable(top + i, n - i, sum + i, count + i);
}

/* Row k of 64 codes' bits that a part contributes, shifted to bit 0. */
INLINE __m512i part_row(const uint8_t *part, unsigned bits, unsigned row)
{
	unsigned per = 8 / bits;
	__m512i v = load(part + row / per * 64);

	v = _mm512_srli_epi16(v, row % per * bits);
	return _mm512_and_si512(v, _mm512_set1_epi8((char)((1 << bits) - 1)));
}

INLINE __m512i codes_row(const uint8_t *const part[FIX_PARTS], unsigned width, unsigned row)
{
	__m512i code = _mm512_setzero_si512();
	unsigned shift = 0;

	if (width & 4) {
		code = part_row(part[0], 4, row);
		shift = 4;
	}
	if (width & 2) {
		code = _mm512_or_si512(code, _mm512_slli_epi16(part_row(part[1], 2, row), shift));
		shift += 2;
	}
	if (width & 1)
		code = _mm512_or_si512(code, _mm512_slli_epi16(part_row(part[2], 1, row), shift));
	return code;
}

INLINE bool unpack_width(const struct fix_dict *d, struct fix_planes *in, size_t n_blocks,
			 uint8_t *top, const unsigned width)
{
	const __m512i escape = _mm512_set1_epi8((char)((1 << width) - 1));
	__m512i d0 = load(d->value), d1 = load(d->value + 64);
	const uint8_t *part[FIX_PARTS] = { in->part[0], in->part[1], in->part[2] };
	const uint8_t *esc = in->esc;

	if (width <= 4)
		d0 = _mm512_broadcast_i32x4(_mm512_castsi512_si128(d0));
	for (; n_blocks; n_blocks--, top += FIX_BLOCK) {
#pragma GCC unroll 8
		for (unsigned row = 0; row < 8; row++) {
			__m512i code = codes_row(part, width, row), v, e;
			__mmask64 m = _mm512_cmpeq_epi8_mask(code, escape);
			unsigned n = (unsigned)_mm_popcnt_u64(m);

			if (n > (size_t)(in->esc_end - esc))
				return false;
			if (width <= 4)
				v = _mm512_shuffle_epi8(d0, code);
			else if (width <= 6)
				v = _mm512_permutexvar_epi8(code, d0);
			else
				v = _mm512_permutex2var_epi8(d0, code, d1);
			e = _mm512_maskz_loadu_epi8(_bzhi_u64(~0ull, n), esc);
			esc += n;
			store(top + 64 * row, _mm512_mask_expand_epi8(v, m, e), false);
		}
		for (unsigned p = 0; p < FIX_PARTS; p++)
			if (fix_part_used(width, p))
				part[p] += fix_part_bits(p) * 64;
	}
	for (unsigned p = 0; p < FIX_PARTS; p++)
		in->part[p] = part[p];
	in->esc = esc;
	return true;
}

static bool unpack_avx512(const struct fix_dict *d, struct fix_planes *in, size_t n_blocks,
			  uint8_t *top)
{
	switch (d->width) {
	case 3:
		return unpack_width(d, in, n_blocks, top, 3);
	case 4:
		return unpack_width(d, in, n_blocks, top, 4);
	case 5:
		return unpack_width(d, in, n_blocks, top, 5);
	case 6:
		return unpack_width(d, in, n_blocks, top, 6);
	default:
		return unpack_width(d, in, n_blocks, top, 7);
	}
}

/* Gathers bits [shift, shift + bits) of 8 rows of codes into a part. */
INLINE void put_part(const __m512i code[8], unsigned shift, unsigned bits, uint8_t *out)
{
	const __m512i mask = _mm512_set1_epi8((char)((1 << bits) - 1));
	unsigned per = 8 / bits;

	for (unsigned g = 0; g < bits; g++) {
		__m512i v = _mm512_setzero_si512();

		for (unsigned k = 0; k < per; k++) {
			__m512i c = _mm512_srli_epi16(code[g * per + k], shift);

			c = _mm512_slli_epi16(_mm512_and_si512(c, mask), k * bits);
			v = _mm512_or_si512(v, c);
		}
		store(out + 64 * g, v, false);
	}
}

INLINE size_t pack_width(const struct fix_dict *d, const uint8_t *top, size_t n_blocks,
			 uint8_t *const out[FIX_PARTS], uint8_t *esc, const unsigned width)
{
	const __m512i escape = _mm512_set1_epi8((char)((1 << width) - 1));
	const __m512i t0 = load(d->code), t1 = load(d->code + 64), t2 = load(d->code + 128),
		      t3 = load(d->code + 192);
	uint8_t *e = esc;

	for (size_t b = 0; b < n_blocks; b++, top += FIX_BLOCK) {
		__m512i code[8];
		unsigned shift = 0;

#pragma GCC unroll 8
		for (unsigned row = 0; row < 8; row++) {
			__m512i v = load(top + 64 * row);
			__mmask64 m;

			code[row] = _mm512_mask_blend_epi8(_mm512_movepi8_mask(v),
							   _mm512_permutex2var_epi8(t0, v, t1),
							   _mm512_permutex2var_epi8(t2, v, t3));
			m = _mm512_cmpeq_epi8_mask(code[row], escape);
			store(e, _mm512_maskz_compress_epi8(m, v), false);
			e += _mm_popcnt_u64(m);
		}
#pragma GCC unroll 3
		for (unsigned p = 0; p < FIX_PARTS; p++)
			if (fix_part_used(width, p)) {
				unsigned bits = fix_part_bits(p);

				put_part(code, shift, bits, out[p] + b * bits * 64);
				shift += bits;
			}
	}
	return (size_t)(e - esc);
}

static size_t pack_avx512(const struct fix_dict *d, const uint8_t *top, size_t n_blocks,
			  uint8_t *const out[FIX_PARTS], uint8_t *esc)
{
	switch (d->width) {
	case 3:
		return pack_width(d, top, n_blocks, out, esc, 3);
	case 4:
		return pack_width(d, top, n_blocks, out, esc, 4);
	case 5:
		return pack_width(d, top, n_blocks, out, esc, 5);
	case 6:
		return pack_width(d, top, n_blocks, out, esc, 6);
	default:
		return pack_width(d, top, n_blocks, out, esc, 7);
	}
}

const struct planes_kern planes_kern_avx512 = {
	.name = "avx512",
	.split = split_avx512,
	.merge = merge_avx512,
	.sub = sub_avx512,
	.colsum = colsum_avx512,
	.pack = pack_avx512,
	.unpack = unpack_avx512,
};
