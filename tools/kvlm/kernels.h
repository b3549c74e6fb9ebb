/* SPDX-License-Identifier: MIT */
#ifndef KVLM_KERNELS_H
#define KVLM_KERNELS_H
/*
 * The inner loops, compiled once per instruction set from one source. Every
 * output is a sum taken in one order that depends neither on the vector width,
 * the batch, the thread count nor the machine, and nothing is contracted to
 * fused multiply-add: all versions give the same bits, which the tests check.
 */
#include <stddef.h>

#define PANEL 32 /* columns of a packed matrix that lie together */

struct kernels {
	const char *name;
	/*
	 * y[r][p*32 + c] = sum over i = 0..k-1, in that order, of
	 * x[r][i] * w[p*panel_stride + i*32 + c]. @y is 32 * panels wide at
	 * least. No alignment is needed.
	 */
	void (*gemm)(float *y, size_t ldy, const float *x, size_t ldx, size_t rows, const float *w,
		     size_t panel_stride, size_t k, size_t panels);
	/*
	 * Replaces s[0..n) by exp(s - max), s[n..padded) by 0, and returns the
	 * sum. padded is a multiple of 32, n >= 1.
	 */
	float (*softmax)(float *s, size_t n, size_t padded);
	/* y = x / sqrt(mean(x^2) + eps) * w */
	void (*rmsnorm)(float *y, const float *x, const float *w, size_t n, float eps);
	/* gate = gate / (1 + exp(-gate)) * up */
	void (*silu_mul)(float *gate, const float *up, size_t n);
};

/* The fastest this processor runs. */
const struct kernels *kernels_best(void);
/* By name ("portable", "avx2", "avx512"); NULL when not built in or not
 * runnable here. */
const struct kernels *kernels_named(const char *name);
/* The i-th version built in and runnable here; NULL past the last. */
const struct kernels *kernels_nth(size_t i);

#endif
