/* SPDX-License-Identifier: MIT */
/* The estimate of what a level costs: the sample, the error, the curve and its fit. */
#include <criterion/criterion.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "policy/quality.h"

#define DIM 24u

static struct quality_work work;
static float k[QUALITY_TOKENS][DIM], v[QUALITY_TOKENS][DIM];
static float k2[QUALITY_TOKENS][DIM], v2[QUALITY_TOKENS][DIM];

static float noise(uint32_t *seed)
{
	float sum = -6;

	for (int i = 0; i < 12; i++) {
		*seed = *seed * 1664525u + 1013904223u;
		sum += (float)(*seed >> 8) * 0x1p-24f;
	}
	return sum;
}

static void fill(float k_scale)
{
	uint32_t seed = 7;

	for (uint32_t t = 0; t < QUALITY_TOKENS; t++)
		for (uint32_t i = 0; i < DIM; i++) {
			k[t][i] = noise(&seed) * k_scale;
			v[t][i] = noise(&seed);
		}
	memcpy(k2, k, sizeof(k));
	memcpy(v2, v, sizeof(v));
}

static void disturb(float part)
{
	uint32_t seed = 99;

	for (uint32_t t = 0; t < QUALITY_TOKENS; t++)
		for (uint32_t i = 0; i < DIM; i++) {
			k2[t][i] = k[t][i] * (1 + part * noise(&seed));
			v2[t][i] = v[t][i] * (1 + part * noise(&seed));
		}
}

static double error_of(uint32_t tokens)
{
	struct quality_head exact = { tokens, DIM, k[0], v[0] }, decoded = { tokens, DIM, k2[0], v2[0] };

	quality_exact(&work, &exact);
	return quality_error(&work, &decoded);
}

Test(policy_quality, spread)
{
	uint64_t at[8];

	cr_assert_eq(quality_spread(0, 4, at), 0);
	cr_assert_eq(quality_spread(1, 4, at), 1);
	cr_assert_eq(at[0], 0);
	cr_assert_eq(quality_spread(3, 4, at), 3);
	cr_assert(at[0] == 0 && at[1] == 1 && at[2] == 2);
	cr_assert_eq(quality_spread(9, 1, at), 1);
	for (uint64_t n = 5; n < 200; n++) {
		cr_assert_eq(quality_spread(n, 5, at), 5);
		cr_assert(at[0] == 0 && at[4] == n - 1);
		for (int i = 1; i < 5; i++)
			cr_assert_gt(at[i], at[i - 1]);
	}
	cr_assert_eq(quality_spread(UINT64_MAX, 8, at), 8);
	cr_assert(at[7] == UINT64_MAX - 1 && at[3] > UINT64_MAX / 7 * 2);
}

Test(policy_quality, errors_grow_with_what_is_lost)
{
	double last = 0;

	fill(1);
	cr_assert_eq(error_of(QUALITY_TOKENS), 0, "the same");
	for (float part = 0.01f; part < 1; part *= 2) {
		disturb(part);
		cr_assert_gt(error_of(QUALITY_TOKENS), last);
		last = error_of(QUALITY_TOKENS);
		cr_assert_gt(error_of(9), 0);
	}
}

Test(policy_quality, scales_do_not_matter)
{
	double plain;

	fill(1);
	disturb(0.05f);
	plain = error_of(200);
	for (float by = 0x1p-10f; by < 0x1p12f; by *= 0x1p11f) {
		fill(by);
		disturb(0.05f);
		cr_assert_float_eq(error_of(200), plain, plain * 1e-3);
	}
}

/* Values alone by 1 %, and nothing but them to see: 1 % of what is divided by, a tenth. */
Test(policy_quality, one_token_gives_its_values_error)
{
	fill(1);
	for (uint32_t i = 0; i < DIM; i++)
		v2[0][i] = v[0][i] * 1.01f;
	cr_assert_float_eq(error_of(1), 0.1, 1e-4);
}

/* What all tokens' values share counts for nothing, up to a tenth. */
Test(policy_quality, shared_values)
{
	double plain, shifted;

	fill(1);
	disturb(0.05f);
	plain = error_of(QUALITY_TOKENS);
	for (uint32_t t = 0; t < QUALITY_TOKENS; t++)
		for (uint32_t i = 0; i < DIM; i++) {
			v[t][i] += 0.5f;
			v2[t][i] += 0.5f;
		}
	shifted = error_of(QUALITY_TOKENS);
	cr_assert_float_eq(shifted, plain, plain * 0.02);
}

Test(policy_quality, odd_heads)
{
	fill(1);
	disturb(0.05f);
	k[3][5] = k2[3][5] = NAN;
	v[QUALITY_TOKENS - 1][0] = v2[QUALITY_TOKENS - 1][0] = INFINITY;
	cr_assert_gt(error_of(QUALITY_TOKENS), 0, "NaN in the exact head is left out");
	cr_assert_lt(error_of(QUALITY_TOKENS), 1);
	v2[4][0] = NAN;
	cr_assert_eq(error_of(QUALITY_TOKENS), HUGE_VAL, "NaN that decoding made");
	cr_assert_eq(error_of(0), 0, "no token");
	memset(k, 0, sizeof(k));
	memset(v, 0, sizeof(v));
	memset(k2, 0, sizeof(k2));
	memset(v2, 0, sizeof(v2));
	cr_assert_eq(error_of(QUALITY_TOKENS), 0, "zeros");
	v2[9][0] = 1;
	cr_assert_eq(quality_of(&quality_builtin, error_of(QUALITY_TOKENS)), 0, "made of zeros");
	for (uint32_t t = 0; t < QUALITY_TOKENS; t++)
		k[t][0] = v[t][0] = k2[t][0] = v2[t][0] = NAN;
	cr_assert_eq(error_of(QUALITY_TOKENS), 0, "nothing but NaN");
}

Test(policy_quality, curves)
{
	struct quality_curve c;
	char text[256];

	cr_assert_eq(quality_curve_parse("0.1:0.9,0.3:0.6", &c), 0);
	cr_assert_float_eq(quality_of(&c, 0), 1, 0);
	cr_assert_float_eq(quality_of(&c, -1), 1, 0);
	cr_assert_float_eq(quality_of(&c, 0.05), 0.95, 1e-9);
	cr_assert_float_eq(quality_of(&c, 0.1), 0.9, 1e-9);
	cr_assert_float_eq(quality_of(&c, 0.2), 0.75, 1e-9);
	cr_assert_float_eq(quality_of(&c, 0.6), 0.2, 1e-9);
	cr_assert_eq(quality_of(&c, 3), 0);
	cr_assert_eq(quality_of(&c, HUGE_VAL), 0);
	cr_assert_eq(quality_of(&c, NAN), 0);
	quality_curve_print(&c, text, sizeof(text));
	cr_assert_str_eq(text, "0.1:0.9,0.3:0.6");
	quality_curve_print(&quality_builtin, text, sizeof(text));
	cr_assert_eq(quality_curve_parse(text, &c), 0, "the built-in curve is one");
	for (double e = 0; e < 5; e += 0.001)
		cr_assert_leq(quality_of(&quality_builtin, e + 0.001), quality_of(&quality_builtin, e));
}

Test(policy_quality, texts_that_are_no_curve)
{
	static const char *const bad[] = { "", "0.1", "0.1:", ":0.5", "0:1", "0.1:0.9,", ",0.1:0.9",
					   "0.1:1.1", "-0.1:1", "nan:1", "0.1:nan", "0.2:0.9,0.1:0.8",
					   "0.1:0.8,0.2:0.9", "0.1:0.9 ", "0.1:0.9:1", "1e9:0.5",
					   "1:1,2:1,3:1,4:1,5:1,6:1,7:1,8:1,9:1" };
	struct quality_curve c;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_assert_eq(quality_curve_parse(bad[i], &c), -EINVAL, "'%s'", bad[i]);
}

Test(policy_quality, fits)
{
	struct quality_pair p[200], one[2] = { { 0.1, 0.9, 5 }, { 0.2, 0.8, 5 } };
	struct quality_curve c;
	uint32_t seed = 5;

	for (int i = 0; i < 200; i++) {
		p[i].error = (i % 20 + 1) * 0.01;
		p[i].quality = fmin(1, 1 - 0.5 * p[i].error + 0.01 * noise(&seed));
		p[i].weight = 100;
	}
	cr_assert_eq(quality_fit(p, 200, &c), 0);
	for (unsigned i = 1; i < c.n; i++) {
		cr_assert_gt(c.at[i].error, c.at[i - 1].error);
		cr_assert_leq(c.at[i].quality, c.at[i - 1].quality);
	}
	for (double e = 0; e < 0.3; e += 0.01)
		cr_assert_float_eq(quality_of(&c, e), 1 - 0.5 * e, 0.01);
	cr_assert_eq(quality_fit(one, 1, &c), -EINVAL, "one pair");
	cr_assert_eq(quality_fit(one, 2, &c), 0);
	cr_assert_eq(c.n, 2);
	one[0].quality = NAN;
	cr_assert_eq(quality_fit(one, 2, &c), -EINVAL);
}
