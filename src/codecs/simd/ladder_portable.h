/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_CODECS_SIMD_LADDER_PORTABLE_H
#define KVCACHEFS_CODECS_SIMD_LADDER_PORTABLE_H
/* What the ladder's portable decoder and encoder share: cells and patterns. */
#include <string.h>

#include "base/le.h"
#include "codecs/simd/ladder_kern.h"

#define EACH(byte) (0x0101010101010101ull * (byte))

static inline uint32_t bits_of(float f)
{
	uint32_t u;

	memcpy(&u, &f, 4);
	return u;
}

static inline float float_of(uint32_t u)
{
	float f;

	memcpy(&f, &u, 4);
	return f;
}

/* 2^e, -126 <= e <= 127. */
static inline float power(int e)
{
	return float_of((uint32_t)(e + 127) << 23);
}

/* ord of the first pattern that is not below f (not 0, and normal as f32). */
static inline int16_t first_bf16(float f)
{
	uint32_t u = bits_of(f), sign = 0 - (u >> 31);

	u += 0xffff & ~sign;
	return (int16_t)(u >> 16 ^ (sign & 0x7fff));
}

static inline int16_t first_f16(float f)
{
	uint32_t u = bits_of(f), sign = u >> 16 & 0x8000, up = sign ? 0 : 1;

	u &= 0x7fffffff;
	if (u < 0x38800000) {
		float units = float_of(u) * 16777216.0f;

		u = (uint32_t)units;
		u += up && (float)u < units;
	} else {
		u = (u - (112u << 23) + (up ? 0x1fff : 0)) >> 13;
	}
	return (int16_t)(sign ? (u | 0x8000) ^ 0x7fff : u);
}

static inline void first_patterns(const struct ladder_level *v, const int16_t i[64], int16_t lo[64])
{
	float half = power(v->e - 1);

	if (v->f16)
		for (unsigned l = 0; l < LADDER_LANES; l++)
			lo[l] = first_f16((float)(2 * i[l] - 1) * half);
	else
		for (unsigned l = 0; l < LADDER_LANES; l++)
			lo[l] = first_bf16((float)(2 * i[l] - 1) * half);
}

static inline uint64_t lanes_below(unsigned n)
{
	return n >= 64 ? ~0ull : (1ull << n) - 1;
}

/* Lanes whose byte is 1, others being 0. */
static inline uint64_t lanes_set(const uint8_t in[64])
{
	uint64_t m = 0;

	for (unsigned l = 0; l < LADDER_LANES; l += 8) /* the product gathers eight bits */
		m |= (le64_get(in + l) * 0x0102040810204080ull >> 56) << l;
	return m;
}

/* Lanes with a bit in a plane; those of cell 0. */
static inline uint64_t lanes_within(const uint16_t size[64], unsigned limit)
{
	uint8_t in[64];

	for (unsigned l = 0; l < LADDER_LANES; l++)
		in[l] = size[l] <= limit;
	return lanes_set(in);
}

static inline void sizes(const int16_t i[64], uint16_t size[64])
{
	for (unsigned l = 0; l < LADDER_LANES; l++)
		size[l] = (uint16_t)(i[l] < 0 ? -i[l] : i[l]);
}

#endif
