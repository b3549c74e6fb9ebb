// SPDX-License-Identifier: MIT
/*
 * The planes kernels in plain C: the definition of what the SIMD versions must
 * give, and what runs where there is no AVX2. Written so that compilers can
 * vectorise the long loops; byte order is handled by le.h.
 */
#include "codecs/simd/kernels.h"

#include <string.h>

#include "base/le.h"

static void split8(const uint8_t *src, size_t n, uint8_t *top)
{
	for (size_t i = 0; i < n; i++)
		top[i] = (uint8_t)(src[i] << 1 | src[i] >> 7);
}

static void split16(const uint8_t *src, size_t n, uint8_t *top, uint8_t *low)
{
	for (size_t i = 0; i < n; i++) {
		uint16_t v = le16_get(src + 2 * i);

		v = (uint16_t)(v << 1 | v >> 15);
		top[i] = (uint8_t)(v >> 8);
		if (low)
			low[i] = (uint8_t)v;
	}
}

static void split32(const uint8_t *src, size_t n, uint8_t *top,
		    uint8_t *const low[PLANES_LOWS_MAX])
{
	for (size_t i = 0; i < n; i++) {
		uint32_t v = le32_get(src + 4 * i);

		v = v << 1 | v >> 31;
		top[i] = (uint8_t)(v >> 24);
		for (unsigned p = 0; p < 3; p++)
			if (low[p])
				low[p][i] = (uint8_t)(v >> 8 * p);
	}
}

void planes_split_portable(unsigned eb, const uint8_t *src, size_t n, uint8_t *top,
			   uint8_t *const low[PLANES_LOWS_MAX])
{
	if (eb == 1)
		split8(src, n, top);
	else if (eb == 2)
		split16(src, n, top, low[0]);
	else
		split32(src, n, top, low);
}

static inline uint8_t top_at(const uint8_t *top, const uint8_t *off, size_t i)
{
	return (uint8_t)(top[i] + (off ? off[i] : 0));
}

static void merge8(const uint8_t *restrict top, const uint8_t *restrict off, size_t n,
		   uint8_t *restrict dst)
{
	for (size_t i = 0; i < n; i++) {
		uint8_t v = top_at(top, off, i);

		dst[i] = (uint8_t)(v >> 1 | v << 7);
	}
}

static void merge16(const uint8_t *restrict top, const uint8_t *restrict off,
		    const uint8_t *restrict low, size_t n, uint8_t *restrict dst)
{
	for (size_t i = 0; i < n; i++) {
		uint16_t v = (uint16_t)(top_at(top, off, i) << 8 | low[i]);

		le16_put(dst + 2 * i, (uint16_t)(v >> 1 | v << 15));
	}
}

static void merge32(const uint8_t *restrict top, const uint8_t *restrict off,
		    const uint8_t *const low[PLANES_LOWS_MAX], size_t n, uint8_t *restrict dst)
{
	for (size_t i = 0; i < n; i++) {
		uint32_t v = (uint32_t)top_at(top, off, i) << 24 | (uint32_t)low[2][i] << 16 |
			     (uint32_t)low[1][i] << 8 | low[0][i];

		le32_put(dst + 4 * i, v >> 1 | v << 31);
	}
}

void planes_merge_portable(unsigned eb, const uint8_t *top, const uint8_t *off,
			   const uint8_t *const low[PLANES_LOWS_MAX], size_t n,
			   uint8_t *dst, bool stream)
{
	(void)stream; /* no portable non-temporal store */
	if (eb == 1)
		merge8(top, off, n, dst);
	else if (eb == 2)
		merge16(top, off, low[0], n, dst);
	else
		merge32(top, off, low, n, dst);
}

void planes_sub_portable(uint8_t *top, const uint8_t *off, size_t n)
{
	for (size_t i = 0; i < n; i++)
		top[i] = (uint8_t)(top[i] - off[i]);
}

void planes_colsum_portable(const uint8_t *top, size_t n, uint32_t *sum, uint32_t *count)
{
	for (size_t i = 0; i < n; i++) {
		sum[i] += top[i];
		count[i] += top[i] != 0;
	}
}

#define EACH(byte) (0x0101010101010101ull * (byte))

/* Puts the 64-element rows of one block's codes into one part's bytes: eight
 * bytes at a time, which no shift here mixes after masking. */
static inline void pack_part(const uint8_t *code, unsigned shift, unsigned bits, uint8_t *out)
{
	unsigned per = 8 / bits;
	uint64_t mask = EACH((1ull << bits) - 1);

	for (unsigned g = 0; g < bits; g++, out += 64, code += 64 * per)
		for (unsigned i = 0; i < 64; i += 8) {
			uint64_t v = 0;

			for (unsigned k = 0; k < per; k++)
				v |= (le64_get(code + 64 * k + i) >> shift & mask) << bits * k;
			le64_put(out + i, v);
		}
}

static size_t pack_portable(const struct fix_dict *d, const uint8_t *top, size_t n_blocks,
			    uint8_t *const out[FIX_PARTS], uint8_t *esc)
{
	uint8_t code[FIX_BLOCK], *e = esc;
	unsigned escape = (1u << d->width) - 1;

	for (size_t b = 0; b < n_blocks; b++, top += FIX_BLOCK) {
		for (unsigned i = 0; i < FIX_BLOCK; i++) {
			code[i] = d->code[top[i]];
			*e = top[i];
			e += code[i] == escape;
		}
		if (d->width & 4)
			pack_part(code, 0, 4, out[0] + b * 256);
		if (d->width & 2)
			pack_part(code, d->width & 4, 2, out[1] + b * 128);
		if (d->width & 1)
			pack_part(code, d->width & 6, 1, out[2] + b * 64);
	}
	return (size_t)(e - esc);
}

/* The inverse; adds to the codes. */
static inline void unpack_part(const uint8_t *in, unsigned shift, unsigned bits, uint8_t *code)
{
	unsigned per = 8 / bits;
	uint64_t mask = EACH((1ull << bits) - 1);

	for (unsigned g = 0; g < bits; g++, in += 64, code += 64 * per)
		for (unsigned i = 0; i < 64; i += 8) {
			uint64_t v = le64_get(in + i);

			for (unsigned k = 0; k < per; k++) {
				uint8_t *to = code + 64 * k + i;

				le64_put(to, le64_get(to) | (v >> bits * k & mask) << shift);
			}
		}
}

/* A bit 7 for every one of 8 codes (each under 128) that is the escape. */
static inline uint64_t escapes_of(const uint8_t *code, unsigned escape)
{
	return ~((le64_get(code) ^ EACH(escape)) + EACH(0x7full)) & EACH(0x80ull);
}

/* Puts a block's escapes in place; false when they do not suffice. */
static bool put_escapes(const uint8_t *code, unsigned escape, struct fix_planes *in, uint8_t *top)
{
	for (unsigned i = 0; i < FIX_BLOCK; i += 8)
		for (uint64_t m = escapes_of(code + i, escape); m; m &= m - 1) {
			if (in->esc == in->esc_end)
				return false;
			top[i + (unsigned)__builtin_ctzll(m) / 8] = *in->esc++;
		}
	return true;
}

static bool unpack_portable(const struct fix_dict *d, struct fix_planes *in, size_t n_blocks,
			    uint8_t *top)
{
	uint8_t code[FIX_BLOCK];

	for (size_t b = 0; b < n_blocks; b++, top += FIX_BLOCK) {
		memset(code, 0, sizeof(code));
		if (d->width & 4)
			unpack_part(in->part[0] + b * 256, 0, 4, code);
		if (d->width & 2)
			unpack_part(in->part[1] + b * 128, d->width & 4, 2, code);
		if (d->width & 1)
			unpack_part(in->part[2] + b * 64, d->width & 6, 1, code);
		for (unsigned i = 0; i < FIX_BLOCK; i++)
			top[i] = d->value[code[i]];
		if (!put_escapes(code, (1u << d->width) - 1, in, top))
			return false;
	}
	for (unsigned p = 0; p < FIX_PARTS; p++)
		if (fix_part_used(d->width, p))
			in->part[p] += n_blocks * fix_part_bits(p) * 64;
	return true;
}

const struct planes_kern planes_kern_portable = {
	.name = "portable",
	.split = planes_split_portable,
	.merge = planes_merge_portable,
	.sub = planes_sub_portable,
	.colsum = planes_colsum_portable,
	.pack = pack_portable,
	.unpack = unpack_portable,
};
