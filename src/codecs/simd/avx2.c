// SPDX-License-Identifier: MIT
/*
 * The planes kernels with AVX2, 32 elements at a time; what is left at the end
 * goes to the portable ones. Shuffles stay within 128-bit lanes here, so each
 * plane passes through one permutation across lanes. Codes are looked up 16 at
 * a time by VPSHUFB; escapes are patched block by block.
 */
#include <immintrin.h>
#include <string.h>

#include "codecs/simd/kernels.h"

#define INLINE static inline __attribute__((always_inline))

INLINE __m256i load(const uint8_t *p)
{
	return _mm256_loadu_si256((const void *)p);
}

INLINE void store(uint8_t *p, __m256i v, bool stream)
{
	if (stream)
		_mm256_stream_si256((void *)p, v);
	else
		_mm256_storeu_si256((void *)p, v);
}

/* The low bytes of 32 words. */
INLINE __m256i narrow(__m256i a, __m256i b)
{
	return _mm256_permute4x64_epi64(_mm256_packus_epi16(a, b), 0xd8);
}

/* Rotates every byte left by one bit; right: by seven. */
INLINE __m256i rol8(__m256i v, int by)
{
	__m256i left = _mm256_set1_epi8((char)(0xff << by));

	return _mm256_or_si256(_mm256_and_si256(left, _mm256_slli_epi16(v, by)),
			      _mm256_andnot_si256(left, _mm256_srli_epi16(v, 8 - by)));
}

static void split8(const uint8_t *src, size_t n, uint8_t *top)
{
	for (size_t i = 0; i < n; i += 32)
		store(top + i, rol8(load(src + i), 1), false);
}

static void split16(const uint8_t *src, size_t n, uint8_t *top, uint8_t *low)
{
	const __m256i byte = _mm256_set1_epi16(0xff);

	for (size_t i = 0; i < n; i += 32) {
		__m256i v[2];

		for (int k = 0; k < 2; k++) {
			v[k] = load(src + 2 * i + 32 * k);
			v[k] = _mm256_or_si256(_mm256_slli_epi16(v[k], 1),
					       _mm256_srli_epi16(v[k], 15));
		}
		store(top + i,
		      narrow(_mm256_srli_epi16(v[0], 8), _mm256_srli_epi16(v[1], 8)), false);
		if (low)
			store(low + i,
			      narrow(_mm256_and_si256(v[0], byte), _mm256_and_si256(v[1], byte)),
			      false);
	}
}

static void split32(const uint8_t *src, size_t n, uint8_t *top,
		    uint8_t *const low[PLANES_LOWS_MAX])
{
	const __m256i group = _mm256_broadcastsi128_si256(
		_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
	const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);

	for (size_t i = 0; i < n; i += 32) {
		__m256i v[4], lo01, lo23, hi01, hi23, plane[4];

		for (int k = 0; k < 4; k++) {
			v[k] = load(src + 4 * i + 32 * k);
			v[k] = _mm256_or_si256(_mm256_slli_epi32(v[k], 1),
					       _mm256_srli_epi32(v[k], 31));
			v[k] = _mm256_shuffle_epi8(v[k], group);
		}
		lo01 = _mm256_unpacklo_epi32(v[0], v[1]); /* planes 0 and 1 */
		lo23 = _mm256_unpacklo_epi32(v[2], v[3]);
		hi01 = _mm256_unpackhi_epi32(v[0], v[1]); /* planes 2 and 3 */
		hi23 = _mm256_unpackhi_epi32(v[2], v[3]);
		plane[0] = _mm256_unpacklo_epi64(lo01, lo23);
		plane[1] = _mm256_unpackhi_epi64(lo01, lo23);
		plane[2] = _mm256_unpacklo_epi64(hi01, hi23);
		plane[3] = _mm256_unpackhi_epi64(hi01, hi23);
		store(top + i, _mm256_permutevar8x32_epi32(plane[3], order), false);
		for (int p = 0; p < 3; p++)
			if (low[p])
				store(low[p] + i, _mm256_permutevar8x32_epi32(plane[p], order),
				      false);
	}
}

static void split_avx2(unsigned eb, const uint8_t *src, size_t n, uint8_t *top,
		       uint8_t *const low[PLANES_LOWS_MAX])
{
	size_t whole = n & ~(size_t)31;
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

INLINE __m256i top_at(const uint8_t *top, const uint8_t *off, size_t i)
{
	__m256i v = load(top + i);

	return off ? _mm256_add_epi8(v, load(off + i)) : v;
}

INLINE __m256i ror16(__m256i v)
{
	return _mm256_or_si256(_mm256_srli_epi16(v, 1), _mm256_slli_epi16(v, 15));
}

INLINE __m256i ror32(__m256i v)
{
	return _mm256_or_si256(_mm256_srli_epi32(v, 1), _mm256_slli_epi32(v, 31));
}

INLINE void merge16(const uint8_t *top, const uint8_t *off, const uint8_t *low, size_t n,
		    uint8_t *dst, bool stream)
{
	for (size_t i = 0; i < n; i += 32) {
		__m256i t = top_at(top, off, i), l = load(low + i);
		__m256i a = ror16(_mm256_unpacklo_epi8(l, t));
		__m256i b = ror16(_mm256_unpackhi_epi8(l, t));

		store(dst + 2 * i, _mm256_permute2x128_si256(a, b, 0x20), stream);
		store(dst + 2 * i + 32, _mm256_permute2x128_si256(a, b, 0x31), stream);
	}
}

INLINE void merge32(const uint8_t *top, const uint8_t *off,
		    const uint8_t *const low[PLANES_LOWS_MAX], size_t n, uint8_t *dst, bool stream)
{
	for (size_t i = 0; i < n; i += 32, dst += 128) {
		__m256i t = top_at(top, off, i), l0 = load(low[0] + i);
		__m256i l1 = load(low[1] + i), l2 = load(low[2] + i);
		__m256i lo = _mm256_unpacklo_epi8(l0, l1), hi = _mm256_unpackhi_epi8(l0, l1);
		__m256i tlo = _mm256_unpacklo_epi8(l2, t), thi = _mm256_unpackhi_epi8(l2, t);
		__m256i a = ror32(_mm256_unpacklo_epi16(lo, tlo));
		__m256i b = ror32(_mm256_unpackhi_epi16(lo, tlo));
		__m256i c = ror32(_mm256_unpacklo_epi16(hi, thi));
		__m256i d = ror32(_mm256_unpackhi_epi16(hi, thi));

		store(dst, _mm256_permute2x128_si256(a, b, 0x20), stream);
		store(dst + 32, _mm256_permute2x128_si256(c, d, 0x20), stream);
		store(dst + 64, _mm256_permute2x128_si256(a, b, 0x31), stream);
		store(dst + 96, _mm256_permute2x128_si256(c, d, 0x31), stream);
	}
}

static void merge8(const uint8_t *top, const uint8_t *off, size_t n, uint8_t *dst)
{
	for (size_t i = 0; i < n; i += 32)
		store(dst + i, rol8(top_at(top, off, i), 7), false);
}

static void merge_avx2(unsigned eb, const uint8_t *top, const uint8_t *off,
		       const uint8_t *const low[PLANES_LOWS_MAX], size_t n, uint8_t *dst,
		       bool stream)
{
	size_t whole = n & ~(size_t)31;
	const uint8_t *rest[PLANES_LOWS_MAX];

	stream = stream && ((uintptr_t)dst & 31) == 0;
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

static void sub_avx2(uint8_t *top, const uint8_t *off, size_t n)
{
	size_t i = 0;

	for (; i + 32 <= n; i += 32)
		store(top + i, _mm256_sub_epi8(load(top + i), load(off + i)), false);
	planes_sub_portable(top + i, off + i, n - i);
}

static void colsum_avx2(const uint8_t *top, size_t n, uint32_t *sum, uint32_t *count)
{
	const __m256i one = _mm256_set1_epi32(1);
	size_t i = 0;

	for (; i + 8 <= n; i += 8) {
		__m256i v = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)(top + i)));
		__m256i *s = (void *)(sum + i), *c = (void *)(count + i);
		__m256i add = _mm256_min_epu32(v, one);

		_mm256_storeu_si256(s, _mm256_add_epi32(_mm256_loadu_si256(s), v));
		_mm256_storeu_si256(c, _mm256_add_epi32(_mm256_loadu_si256(c), add));
	}
	planes_colsum_portable(top + i, n - i, sum + i, count + i);
}

/* 32 codes' bits that a part contributes, shifted to bit 0: row of 64, half. */
INLINE __m256i part_row(const uint8_t *part, unsigned bits, unsigned row, unsigned half)
{
	unsigned per = 8 / bits;
	__m256i v = load(part + row / per * 64 + 32 * half);

	v = _mm256_srli_epi16(v, (int)(row % per * bits));
	return _mm256_and_si256(v, _mm256_set1_epi8((char)((1 << bits) - 1)));
}

INLINE __m256i codes_half(const uint8_t *const part[FIX_PARTS], unsigned width, unsigned row,
			  unsigned half)
{
	__m256i code = _mm256_setzero_si256(), more;
	unsigned shift = 0;

	if (width & 4) {
		code = part_row(part[0], 4, row, half);
		shift = 4;
	}
	if (width & 2) {
		more = part_row(part[1], 2, row, half);
		code = _mm256_or_si256(code, _mm256_slli_epi16(more, (int)shift));
		shift += 2;
	}
	if (width & 1) {
		more = part_row(part[2], 1, row, half);
		code = _mm256_or_si256(code, _mm256_slli_epi16(more, (int)shift));
	}
	return code;
}

/* Tables of 16: an index outside a table's 16 gets bit 7, which VPSHUFB answers
 * with 0. */
INLINE __m256i look_up(const __m256i *tables, unsigned width, __m256i code)
{
	const __m256i bias = _mm256_set1_epi8(0x70);
	__m256i v;

	if (width <= 4)
		return _mm256_shuffle_epi8(tables[0], code);
	v = _mm256_shuffle_epi8(tables[0], _mm256_adds_epu8(code, bias));
	for (unsigned t = 1; t < 1u << (width - 4); t++) {
		__m256i x = _mm256_xor_si256(code, _mm256_set1_epi8((char)(t << 4)));

		x = _mm256_shuffle_epi8(tables[t], _mm256_adds_epu8(x, bias));
		v = _mm256_or_si256(v, x);
	}
	return v;
}

/* Puts the next n escapes of a block where hit has bits. Positions are listed
 * first, four at a time whether there are four or not: a branch per escape
 * would be mispredicted at most of them. */
INLINE void put_escapes(const uint64_t hit[8], unsigned n, const uint8_t *esc, uint8_t *top)
{
	uint16_t at[FIX_BLOCK + 4], *next = at;

	for (unsigned row = 0; row < 8; row++) {
		uint64_t m = hit[row];
		unsigned count = (unsigned)_mm_popcnt_u64(m);

		for (unsigned k = 0; k < count; k += 4)
			for (unsigned i = 0; i < 4; i++, m = _blsr_u64(m))
				next[k + i] = (uint16_t)(64 * row + (unsigned)_tzcnt_u64(m));
		next += count;
	}
	for (unsigned i = 0; i < n; i++)
		top[at[i]] = esc[i];
}

INLINE bool unpack_width(const struct fix_dict *d, struct fix_planes *in, size_t n_blocks,
			 uint8_t *top, const unsigned width)
{
	const __m256i escape = _mm256_set1_epi8((char)((1 << width) - 1));
	const uint8_t *part[FIX_PARTS] = { in->part[0], in->part[1], in->part[2] };
	__m256i tables[8];

	for (unsigned t = 0; t < 8; t++)
		tables[t] = _mm256_broadcastsi128_si256(
			_mm_loadu_si128((const void *)(d->value + 16 * t)));
	for (; n_blocks; n_blocks--, top += FIX_BLOCK) {
		uint64_t hit[8];
		unsigned n = 0;

#pragma GCC unroll 8
		for (unsigned row = 0; row < 8; row++) {
			__m256i a = codes_half(part, width, row, 0);
			__m256i b = codes_half(part, width, row, 1);
			__m256i ha = _mm256_cmpeq_epi8(a, escape);
			__m256i hb = _mm256_cmpeq_epi8(b, escape);

			store(top + 64 * row, look_up(tables, width, a), false);
			store(top + 64 * row + 32, look_up(tables, width, b), false);
			hit[row] = (uint32_t)_mm256_movemask_epi8(ha) |
				   (uint64_t)(uint32_t)_mm256_movemask_epi8(hb) << 32;
			n += (unsigned)_mm_popcnt_u64(hit[row]);
		}
		for (unsigned p = 0; p < FIX_PARTS; p++)
			if (fix_part_used(width, p))
				part[p] += fix_part_bits(p) * 64;
		if (n == 0)
			continue;
		if (n > (size_t)(in->esc_end - in->esc))
			return false;
		put_escapes(hit, n, in->esc, top);
		in->esc += n;
	}
	for (unsigned p = 0; p < FIX_PARTS; p++)
		in->part[p] = part[p];
	return true;
}

static bool unpack_avx2(const struct fix_dict *d, struct fix_planes *in, size_t n_blocks,
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

/* Gathers bits [shift, shift + bits) of a block of codes into a part. */
INLINE void put_part(const uint8_t *code, unsigned shift, unsigned bits, uint8_t *out)
{
	const __m256i mask = _mm256_set1_epi8((char)((1 << bits) - 1));
	unsigned per = 8 / bits;

	for (unsigned g = 0; g < 2 * bits; g++) {
		const uint8_t *row = code + g / 2 * per * 64 + g % 2 * 32;
		__m256i v = _mm256_setzero_si256();

		for (unsigned k = 0; k < per; k++) {
			__m256i c = _mm256_srli_epi16(load(row + 64 * k), (int)shift);

			c = _mm256_slli_epi16(_mm256_and_si256(c, mask), (int)(k * bits));
			v = _mm256_or_si256(v, c);
		}
		store(out + 32 * g, v, false);
	}
}

static size_t pack_avx2(const struct fix_dict *d, const uint8_t *top, size_t n_blocks,
			uint8_t *const out[FIX_PARTS], uint8_t *esc)
{
	uint8_t code[FIX_BLOCK] __attribute__((aligned(32)));
	const unsigned escape = (1u << d->width) - 1;
	uint8_t *e = esc;

	for (size_t b = 0; b < n_blocks; b++, top += FIX_BLOCK) {
		unsigned shift = d->width & 4;

		for (unsigned i = 0; i < FIX_BLOCK; i++) {
			code[i] = d->code[top[i]];
			*e = top[i];
			e += code[i] == escape;
		}
		if (d->width & 4)
			put_part(code, 0, 4, out[0] + b * 256);
		if (d->width & 2) {
			put_part(code, shift, 2, out[1] + b * 128);
			shift += 2;
		}
		if (d->width & 1)
			put_part(code, shift, 1, out[2] + b * 64);
	}
	return (size_t)(e - esc);
}

const struct planes_kern planes_kern_avx2 = {
	.name = "avx2",
	.split = split_avx2,
	.merge = merge_avx2,
	.sub = sub_avx2,
	.colsum = colsum_avx2,
	.pack = pack_avx2,
	.unpack = unpack_avx2,
};
