/* SPDX-License-Identifier: MIT */
#include "dtype.h"

static const char *const dtype_names[DTYPES_] = { "f32", "f16", "bf16" };

const char *dtype_name(enum dtype t)
{
	return (unsigned)t < DTYPES_ ? dtype_names[t] : "?";
}

int dtype_parse(const char *s)
{
	for (int i = 0; i < DTYPES_; i++)
		if (!strcmp(s, dtype_names[i]))
			return i;
	return -1;
}

float f16_to_f32(uint16_t h)
{
	uint32_t sign = (uint32_t)(h & 0x8000) << 16;
	uint32_t exp = (h >> 10) & 0x1f, man = h & 0x3ff;

	if (exp == 0x1f)
		return f32_from_bits(sign | 0x7f800000u | man << 13);
	if (exp)
		return f32_from_bits(sign | (exp + 112) << 23 | man << 13);
	/* zero and subnormals: man * 2^-24 is exact */
	return f32_from_bits(sign | f32_bits((float)man * 0x1p-24f));
}

uint16_t f32_to_f16(float x)
{
	uint32_t u = f32_bits(x), sign = (u >> 16) & 0x8000;
	uint32_t a = u & 0x7fffffffu;

	if (a > 0x7f800000u)
		return (uint16_t)(sign | 0x7e00 | ((a >> 13) & 0x3ff));
	if (a >= 0x477ff000u) /* 65520 and more */
		return (uint16_t)(sign | 0x7c00);
	if (a < 0x38800000u) {
		/* below 2^-14: adding 0.5 leaves multiples of 2^-24, rounded */
		float r = f32_from_bits(a) + 0.5f;

		return (uint16_t)(sign | (f32_bits(r) - 0x3f000000u));
	}
	a += 0xfff + ((a >> 13) & 1);
	return (uint16_t)(sign | ((a - 0x38000000u) >> 13));
}

void dtype_to_f32(enum dtype t, const void *src, float *dst, size_t n)
{
	const uint8_t *p = src;
	uint16_t h;

	switch (t) {
	case DTYPE_F32:
		memcpy(dst, src, n * 4);
		return;
	case DTYPE_F16:
		for (size_t i = 0; i < n; i++) {
			memcpy(&h, p + 2 * i, 2);
			dst[i] = f16_to_f32(h);
		}
		return;
	default:
		for (size_t i = 0; i < n; i++) {
			memcpy(&h, p + 2 * i, 2);
			dst[i] = bf16_to_f32(h);
		}
	}
}

void dtype_from_f32(enum dtype t, const float *src, void *dst, size_t n)
{
	uint8_t *p = dst;
	uint16_t h;

	switch (t) {
	case DTYPE_F32:
		memcpy(dst, src, n * 4);
		return;
	case DTYPE_F16:
		for (size_t i = 0; i < n; i++) {
			h = f32_to_f16(src[i]);
			memcpy(p + 2 * i, &h, 2);
		}
		return;
	default:
		for (size_t i = 0; i < n; i++) {
			h = f32_to_bf16(src[i]);
			memcpy(p + 2 * i, &h, 2);
		}
	}
}

void dtype_round(enum dtype t, float *x, size_t n)
{
	if (t == DTYPE_F16)
		for (size_t i = 0; i < n; i++)
			x[i] = f16_to_f32(f32_to_f16(x[i]));
	else if (t == DTYPE_BF16)
		for (size_t i = 0; i < n; i++)
			x[i] = bf16_to_f32(f32_to_bf16(x[i]));
}
