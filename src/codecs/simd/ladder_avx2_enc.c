// SPDX-License-Identifier: MIT
/*
 * The encoder's ladder kernels with AVX2: cells, codes and the exact layer, whose bits
 * are gathered by PEXT. Packing has the portable loops.
 */
#include "codecs/simd/ladder_avx2.h"

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

size_t ladder_exact_put_avx2(const struct ladder_level *v, const struct ladder_block *b,
			     struct ladder_bits_out *bits, uint16_t *zeros)
{
	return v->f16 ? exact_put_of(v, b, bits, zeros, true)
		      : exact_put_of(v, b, bits, zeros, false);
}

void ladder_cells_avx2(const struct ladder_level *v, struct ladder_block *b)
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

size_t ladder_codes_avx2(const struct ladder_desc *d, unsigned low, struct ladder_block *b,
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
