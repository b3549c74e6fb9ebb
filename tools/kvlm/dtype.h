/* SPDX-License-Identifier: MIT */
#ifndef KVLM_DTYPE_H
#define KVLM_DTYPE_H
/*
 * The three element types of weights and caches. Narrowing rounds to nearest,
 * ties to even; NaN stays NaN; f16 overflows to infinity. Written without
 * hardware conversions, so that the bits do not depend on the processor.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum dtype { DTYPE_F32 = 0, DTYPE_F16 = 1, DTYPE_BF16 = 2, DTYPES_ };

static inline size_t dtype_bytes(enum dtype t)
{
	return t == DTYPE_F32 ? 4 : 2;
}
/* "f32", "f16", "bf16"; static. */
const char *dtype_name(enum dtype t);
/* -1 when unknown. */
int dtype_parse(const char *s);

static inline uint32_t f32_bits(float x)
{
	uint32_t u;

	memcpy(&u, &x, sizeof(u));
	return u;
}

static inline float f32_from_bits(uint32_t u)
{
	float x;

	memcpy(&x, &u, sizeof(x));
	return x;
}

static inline float bf16_to_f32(uint16_t h)
{
	return f32_from_bits((uint32_t)h << 16);
}

static inline uint16_t f32_to_bf16(float x)
{
	uint32_t u = f32_bits(x);

	if ((u & 0x7fffffffu) > 0x7f800000u)
		return (uint16_t)((u >> 16) | 0x40);
	return (uint16_t)((u + 0x7fffu + ((u >> 16) & 1)) >> 16);
}

float f16_to_f32(uint16_t h);
uint16_t f32_to_f16(float x);

/* @n little-endian elements at @src (any alignment) to floats. */
void dtype_to_f32(enum dtype t, const void *src, float *dst, size_t n);
void dtype_from_f32(enum dtype t, const float *src, void *dst, size_t n);
/* Replaces each value by what it becomes when stored as @t. */
void dtype_round(enum dtype t, float *x, size_t n);

#endif
