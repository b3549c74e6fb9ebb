// SPDX-License-Identifier: MIT
/*
 * The encoder's ladder kernels with AVX-512: lanes are gathered by VPCOMPRESS, bits by
 * PEXT on the masks of those lanes that have them.
 */
#include "codecs/simd/ladder_avx512.h"

size_t ladder_pack_fix_avx512(const struct ladder_desc *d, const struct ladder_block *b,
			      uint8_t *dst)
{
	uint8_t *at = dst;
	__m512i code[8];

	for (unsigned j = 0; j < 8; j++)
		code[j] = load(b->code[j]);
	for (unsigned p = 0; p < 8 && d->plane[p]; p++) {
		__m512i v = _mm512_setzero_si512();

#pragma GCC unroll 8
		for (unsigned j = 0; j < 8; j++) {
			__m512i bit = _mm512_and_si512(_mm512_srli_epi16(code[j], p), bytes(1));

			v = _mm512_or_si512(v, _mm512_slli_epi16(bit, j));
		}
		store(at, _mm512_maskz_compress_epi8(d->plane[p], v));
		at += _mm_popcnt_u64(d->plane[p]);
	}
	return (size_t)(at - dst);
}

void ladder_pack_huf_avx512(const struct ladder_desc *d, const struct ladder_block *b,
			    uint8_t *stream[LADDER_CLASSES_MAX])
{
	for (unsigned i = 0; i < d->n_streams; i++) {
		const struct ladder_stream *s = &d->stream[i];
		unsigned per = 8 / s->digit;
		__m512i low = bytes((1u << s->digit) - 1);

		for (unsigned j = 0; j < 8; j += per) {
			__m512i v = _mm512_setzero_si512();

			for (unsigned m = 0; m < per; m++) {
				__m512i c = _mm512_and_si512(load(b->code[j + m]), low);

				v = _mm512_or_si512(v, _mm512_slli_epi16(c, m * s->digit));
			}
			store(stream[s->class], _mm512_maskz_compress_epi8(s->mask, v));
			stream[s->class] += _mm_popcnt_u64(s->mask);
		}
	}
}

size_t ladder_codes_avx512(const struct ladder_desc *d, unsigned low, struct ladder_block *b,
			   int16_t *esc)
{
	const __m512i escape = load(d->escape), bias[2] = { load(d->bias), load(d->bias + 32) };
	int16_t *at = esc;

	for (unsigned j = 0; j < LADDER_LINES; j++) {
		__m512i code[2], all;
		uint64_t m = 0;

		for (int h = 0; h < 2; h++) {
			__m512i k = _mm512_sra_epi16(load(b->t[j] + 32 * h),
						     _mm_cvtsi32_si128((int)low));
			uint32_t has = (uint32_t)(d->plane[0] >> 32 * h), out;

			code[h] = _mm512_maskz_add_epi16(has, k, bias[h]);
			out = has & _mm512_cmpge_epu16_mask(code[h], widen(escape, h));
			store(at, _mm512_maskz_compress_epi16(out, k));
			at += _mm_popcnt_u32(out);
			m |= (uint64_t)out << 32 * h;
		}
		all = narrow(code[0], code[1]);
		store(b->code[j], _mm512_mask_mov_epi8(all, m, escape));
	}
	return (size_t)(at - esc);
}

void ladder_digits_avx512(unsigned bits, unsigned low, unsigned lanes,
			  const struct ladder_block *b, uint8_t *dst)
{
	const __m128i down = _mm_cvtsi32_si128((int)low);
	const __m512i mask = bytes((1u << bits) - 1);
	unsigned per = 8 / bits;

	for (unsigned s = 0; s < bits; s++, dst += lanes) {
		__m512i v = _mm512_setzero_si512();

		for (unsigned m = 0; m < per; m++) {
			const int16_t *t = b->t[s * per + m];
			__m512i x = narrow(_mm512_srl_epi16(load(t), down),
					   _mm512_srl_epi16(load(t + 32), down));

			x = _mm512_and_si512(x, mask);
			v = _mm512_or_si512(v, _mm512_sll_epi16(x, _mm_cvtsi32_si128((int)(m * bits))));
		}
		store(dst, v);
	}
}

INLINE void bits_put(struct ladder_bits_out *o, uint64_t v, unsigned n)
{
	uint64_t acc = o->acc | v << o->n;

	__builtin_memcpy(o->p, &acc, 8);
	if (o->n + n >= 64) {
		o->p += 8;
		acc = o->n ? v >> (64 - o->n) : 0;
	}
	o->acc = acc;
	o->n = (o->n + n) % 64;
}

INLINE size_t exact_put_of(const struct ladder_level *v, const struct ladder_block *b,
			   struct ladder_bits_out *bits, uint16_t *zeros, const bool f16)
{
	const __m512 step = power(v->e), half = power(v->e + 15);
	uint16_t *to = zeros;

	for (unsigned j = 0; j < LADDER_LINES; j++) {
		uint64_t valid = _bzhi_u64(~0ull, b->count[j]), zero;
		__m512i q[2], rest[2];
		struct sizes s;

		if (!valid)
			continue;
		for (int h = 0; h < 2; h++) {
			uint32_t own = ~(uint32_t)(b->skip[j] >> 32 * h);

			q[h] = _mm512_add_epi16(load(b->t[j] + 32 * h),
						load(b->z + j * b->z_step + 32 * h));
			q[h] = _mm512_add_epi16(q[h], words(v->add));
			rest[h] = _mm512_maskz_sub_epi16(own, ord(load(b->pat[j] + 32 * h)),
							 first_patterns(q[h], step, half, f16));
		}
		s = sizes_of(q, valid);
		zero = zero_cells(q, valid);
		for (unsigned k = 0; k < v->n_planes; k++) {
			uint64_t m = within(&s, v->limit[k]), x;

			x = _mm512_test_epi16_mask(rest[0], words(1 << k)) |
			    (uint64_t)_mm512_test_epi16_mask(rest[1], words(1 << k)) << 32;
			bits_put(bits, _pext_u64(x, m), (unsigned)_mm_popcnt_u64(m));
		}
		for (int h = 0; h < 2; h++, zero >>= 32) {
			uint32_t own = ~(uint32_t)(b->skip[j] >> 32 * h);
			__m512i x = _mm512_maskz_mov_epi16(own, load(b->pat[j] + 32 * h));

			store(to, _mm512_maskz_compress_epi16((uint32_t)zero, x));
			to += _mm_popcnt_u32((uint32_t)zero);
		}
	}
	return (size_t)(to - zeros);
}

size_t ladder_exact_put_avx512(const struct ladder_level *v, const struct ladder_block *b,
			       struct ladder_bits_out *bits, uint16_t *zeros)
{
	return v->f16 ? exact_put_of(v, b, bits, zeros, true)
		      : exact_put_of(v, b, bits, zeros, false);
}

void ladder_cells_avx512(const struct ladder_level *v, struct ladder_block *b)
{
	const __m512 back = _mm512_castsi512_ps(_mm512_set1_epi32((127 - v->e) << 23));
	const __m512 limit = _mm512_set1_ps(LADDER_CELL_LIMIT);

	for (unsigned j = 0; j < LADDER_LINES; j++)
		for (unsigned l = 0; l < LADDER_LANES; l += 16) {
			__m256i p = _mm256_loadu_si256((const void *)(b->pat[j] + l));
			__m512i i;
			__mmask16 good;
			__m512 y;

			if (v->f16)
				y = _mm512_cvtph_ps(p);
			else
				y = _mm512_castsi512_ps(
					_mm512_slli_epi32(_mm512_cvtepu16_epi32(p), 16));
			y = _mm512_mul_ps(y, back);
			good = _mm512_cmp_ps_mask(_mm512_abs_ps(y), limit, _CMP_LT_OQ);
			y = _mm512_add_ps(y, _mm512_set1_ps(0.5f));
			i = _mm512_maskz_cvt_roundps_epi32(good, y, _MM_FROUND_TO_NEG_INF |
								    _MM_FROUND_NO_EXC);
			_mm256_storeu_si256((void *)(b->t[j] + l), _mm512_cvtepi32_epi16(i));
			b->skip[j] |= (uint64_t)(uint16_t)~good << l;
		}
}

void ladder_centre_avx512(const struct ladder_level *v, struct ladder_block *b)
{
	for (unsigned j = 0; j < LADDER_LINES; j++)
		for (unsigned h = 0; h < 2; h++) {
			uint32_t own = ~(uint32_t)(b->skip[j] >> 32 * h);
			__m512i t = _mm512_maskz_sub_epi16(own, load(b->t[j] + 32 * h),
							   load(b->z + j * b->z_step + 32 * h));

			store(b->t[j] + 32 * h, _mm512_sub_epi16(t, words(v->add)));
		}
}
