/* SPDX-License-Identifier: MIT */
/*
 * The loops themselves. meson compiles this file once per instruction set, with
 * KERNELS_NAME (the symbol), KERNELS_WIDE (floats per vector register) and
 * KERNELS_ROWS (rows of a tile) defined, and -ffp-contract=off.
 *
 * Sums over many elements (norm, softmax) run in 16 lanes, element i in lane
 * i % 16, and the lanes are added in a fixed tree: the same on every machine.
 */
#include <math.h>
#include <string.h>

#include "kernels.h"

#ifndef KERNELS_NAME
#define KERNELS_NAME kernels_portable
#define KERNELS_TEXT "portable"
#define KERNELS_WIDE 4
#define KERNELS_ROWS 4
#endif

#define INLINE static inline __attribute__((always_inline))

typedef float vec __attribute__((vector_size(4 * KERNELS_WIDE), aligned(4), may_alias));
typedef float v16 __attribute__((vector_size(64), aligned(4), may_alias));
typedef int i16 __attribute__((vector_size(64), aligned(4), may_alias));
typedef unsigned u16 __attribute__((vector_size(64), aligned(4), may_alias));

extern const struct kernels KERNELS_NAME;

/* rows x (2 vectors) outputs held in registers over the whole sum. */
INLINE void tile(float *y, size_t ldy, const float *x, size_t ldx, const int rows, const float *w,
		 size_t k)
{
	vec acc[KERNELS_ROWS][2];

	for (int r = 0; r < rows; r++)
		acc[r][0] = acc[r][1] = (vec){ 0 };
	for (size_t i = 0; i < k; i++) {
		const vec w0 = *(const vec *)(w + i * PANEL);
		const vec w1 = *(const vec *)(w + i * PANEL + KERNELS_WIDE);

#pragma GCC unroll 16
		for (int r = 0; r < rows; r++) {
			const float a = x[(size_t)r * ldx + i];

			acc[r][0] += a * w0;
			acc[r][1] += a * w1;
		}
	}
	for (int r = 0; r < rows; r++) {
		*(vec *)(y + (size_t)r * ldy) = acc[r][0];
		*(vec *)(y + (size_t)r * ldy + KERNELS_WIDE) = acc[r][1];
	}
}

static void panel_rows(float *y, size_t ldy, const float *x, size_t ldx, size_t rows,
		       const float *w, size_t k)
{
	for (; rows >= KERNELS_ROWS; rows -= KERNELS_ROWS) {
		tile(y, ldy, x, ldx, KERNELS_ROWS, w, k);
		y += KERNELS_ROWS * ldy;
		x += KERNELS_ROWS * ldx;
	}
	for (; rows >= 2; rows -= 2) {
		tile(y, ldy, x, ldx, 2, w, k);
		y += 2 * ldy;
		x += 2 * ldx;
	}
	if (rows)
		tile(y, ldy, x, ldx, 1, w, k);
}

static void gemm(float *y, size_t ldy, const float *x, size_t ldx, size_t rows, const float *w,
		 size_t panel_stride, size_t k, size_t panels)
{
	for (size_t p = 0; p < panels; p++)
		for (size_t c = 0; c < PANEL; c += 2 * KERNELS_WIDE)
			panel_rows(y + p * PANEL + c, ldy, x, ldx, rows, w + p * panel_stride + c,
				   k);
}

/* x where mask is not set, +0 elsewhere; also when x is NaN */
INLINE v16 clear_where(v16 x, i16 mask)
{
	i16 bits;

	memcpy(&bits, &x, sizeof(bits));
	bits &= ~mask;
	memcpy(&x, &bits, sizeof(x));
	return x;
}

/* exp(x) for x <= 88: relative error below 3e-7; 0 under -87. */
INLINE v16 exp16(v16 x)
{
	const v16 magic = (v16){ 0 } + 12582912.0f; /* 1.5 * 2^23: rounds to integer */
	const v16 m = x * 1.44269504f + magic;
	const v16 n = m - magic;
	u16 scale;
	v16 r, p;

	r = x - n * 0.693359375f;
	r = r - n * -2.12194440e-4f;
	p = r * 1.9875691500e-4f + 1.3981999507e-3f;
	p = p * r + 8.3334519073e-3f;
	p = p * r + 4.1665795894e-2f;
	p = p * r + 1.6666665459e-1f;
	p = p * r + 5.0000001201e-1f;
	p = p * r * r + r + 1.0f;
	memcpy(&scale, &m, sizeof(scale));
	scale = (scale << 23) + 0x3f800000u; /* 2^n from the low bits of m */
	memcpy(&r, &scale, sizeof(r));
	return clear_where(p * r, x < -87.0f);
}

INLINE float sum16(v16 s)
{
	float t[16];

	memcpy(t, &s, sizeof(t));
	for (int w = 8; w; w /= 2)
		for (int i = 0; i < w; i++)
			t[i] += t[i + w];
	return t[0];
}

INLINE v16 load16(const float *p, size_t n, float fill)
{
	float t[16];

	if (n >= 16)
		return *(const v16 *)p;
	for (size_t i = 0; i < 16; i++)
		t[i] = i < n ? p[i] : fill;
	return *(const v16 *)t;
}

static float softmax(float *s, size_t n, size_t padded)
{
	float max = s[0];
	v16 sum = { 0 };

	for (size_t i = n; i < padded; i++)
		s[i] = -INFINITY;
	for (size_t i = 1; i < n; i++)
		max = s[i] > max ? s[i] : max;
	for (size_t i = 0; i < padded; i += 16) {
		const v16 e = exp16(*(const v16 *)(s + i) - max);

		*(v16 *)(s + i) = e;
		sum += e;
	}
	return sum16(sum);
}

static void rmsnorm(float *y, const float *x, const float *w, size_t n, float eps)
{
	v16 sum = { 0 };
	float scale;

	for (size_t i = 0; i < n; i += 16) {
		const v16 v = load16(x + i, n - i, 0);

		sum += v * v;
	}
	scale = 1.0f / sqrtf(sum16(sum) / (float)n + eps);
	for (size_t i = 0; i < n; i++)
		y[i] = x[i] * scale * w[i];
}

static void silu_mul(float *gate, const float *up, size_t n)
{
	for (size_t i = 0; i < n; i += 16) {
		const v16 g = load16(gate + i, n - i, 0), u = load16(up + i, n - i, 0);
		const i16 low = g < -80.0f; /* there the product is 0 for us */
		const v16 y = clear_where(g / (1.0f + exp16(clear_where(-g, low))) * u, low);

		memcpy(gate + i, &y, (n - i < 16 ? n - i : 16) * sizeof(float));
	}
}

const struct kernels KERNELS_NAME = {
	.name = KERNELS_TEXT,
	.gemm = gemm,
	.softmax = softmax,
	.rmsnorm = rmsnorm,
	.silu_mul = silu_mul,
};
