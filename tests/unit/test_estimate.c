/* SPDX-License-Identifier: MIT */
/* The sample that sealing takes is the one that policy/quality.h describes. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "policy/quality.h"
#include "store/estimate.h"

#define TOKENS 300u
#define HEADS 2u
#define DIM 64u
#define COLS (HEADS * DIM)
#define LEVELS 3u
#define REGION (TOKENS * COLS * 2)
#define SIZE (100 + 2 * REGION)

static uint8_t file[LEVELS][SIZE];
static float head[LEVELS][HEADS][2][TOKENS * DIM];

static uint32_t next(uint32_t *s)
{
	*s = *s * 1664525u + 1013904223u;
	return *s >> 8;
}

/* bf16 of about @x, coarser at lower levels; in the file and as floats. */
static void put(unsigned level, unsigned part, bool transposed, uint32_t t, uint32_t c, float x)
{
	uint32_t u, at = transposed ? c * TOKENS + t : t * COLS + c;
	uint8_t *p = file[level] + 100 + part * REGION + 2 * at;

	memcpy(&u, &x, 4);
	u &= 0xffffffffu << (16 + 2 * (LEVELS - 1 - level));
	p[0] = (uint8_t)(u >> 16);
	p[1] = (uint8_t)(u >> 24);
	memcpy(&x, &u, 4);
	head[level][c / DIM][part][t * DIM + c % DIM] = x;
}

static void make(bool transposed)
{
	for (unsigned l = 0; l < LEVELS; l++) {
		uint32_t s = 7;

		for (unsigned part = 0; part < 2; part++)
			for (uint32_t t = 0; t < TOKENS; t++)
				for (uint32_t c = 0; c < COLS; c++)
					put(l, part, part && transposed, t, c,
					    (float)next(&s) / (1 << 23) - 1.0f + (float)(c % 5));
	}
}

/* Sample @nth of one layer is of its next head. */
static void check(bool transposed, uint32_t target, unsigned nth)
{
	struct layout_region r[2] = {
		{ .off_bytes = 100, .len_bytes = REGION, .kind = REGION_K, .elem = ELEM_BF16,
		  .row_bytes = COLS * 2, .head_bytes = DIM * 2 },
		{ .off_bytes = 100 + REGION, .len_bytes = REGION, .kind = REGION_V,
		  .elem = ELEM_BF16, .row_bytes = COLS * 2, .head_bytes = DIM * 2 },
	};
	struct layout l = { .name = "test", .size_bytes = SIZE, .regions = r, .n_regions = 2,
			    .head_dim = DIM };
	static struct quality_work w;
	const unsigned h = nth % HEADS;
	struct quality_head x = { TOKENS, DIM, head[LEVELS - 1][h][0], head[LEVELS - 1][h][1] };
	float errors[CODEC_LAYERS_MAX] = { 0 };
	struct layout_chunk *chunks;
	struct estimate *e;
	uint64_t bytes;
	uint32_t n, seen = 0;

	if (transposed)
		r[1] = (struct layout_region){ .off_bytes = 100 + REGION, .len_bytes = REGION,
					       .kind = REGION_V, .elem = ELEM_BF16,
					       .transposed = 1, .row_bytes = TOKENS * 2 };
	make(transposed);
	cr_assert_eq(layout_cut(&l, target, target * 2, &chunks, &n), 0);
	cr_assert_eq(estimate_create(&l, chunks, n, LEVELS, nth, &bytes, &e), 0);
	cr_assert_geq(bytes, 2 * LEVELS * TOKENS * DIM * sizeof(float));
	for (uint32_t i = 0; i < n; i++) {
		seen += estimate_wants(e, i);
		for (unsigned v = 0; v < LEVELS; v++)
			estimate_take(e, i, v, file[v] + chunks[i].off_bytes);
	}
	cr_assert(seen > 0 && seen <= n);
	cr_assert(!estimate_wants(e, 0) || chunks[0].len_bytes > 100, "the header is not in it");
	estimate_errors(e, errors);
	quality_exact(&w, &x);
	for (unsigned v = 0; v + 1 < LEVELS; v++) {
		x.k = head[v][h][0];
		x.v = head[v][h][1];
		cr_assert_eq(errors[v], (float)quality_error(&w, &x), "level %u", v);
	}
	cr_assert(errors[0] > errors[1] && errors[1] > 0);
	estimate_destroy(e);
	mem_free(chunks);
}

Test(estimate, rows_of_tokens)
{
	check(false, 4096, 0);
	check(false, 1 << 20, 0);
}

Test(estimate, rows_of_channels)
{
	check(true, 4096, 0);
	check(true, 1 << 20, 0);
}

Test(estimate, further_samples_are_of_other_heads)
{
	for (unsigned nth = 1; nth < ESTIMATE_SAMPLES; nth++) {
		check(false, 4096, nth);
		check(true, 1 << 20, nth);
	}
}

/* Chunks that a sample of a file with more tokens and layers wants. */
static void wanted(unsigned layers, unsigned nth, bool ret[64])
{
	struct layout_region r[32];
	struct layout l = { .name = "test", .size_bytes = layers * 2 * REGION, .regions = r,
			    .n_regions = 2 * layers, .head_dim = DIM };
	struct layout_chunk *chunks;
	struct estimate *e;
	uint64_t bytes;
	uint32_t n;

	for (unsigned i = 0; i < 2 * layers; i++)
		r[i] = (struct layout_region){ .off_bytes = i * REGION, .len_bytes = REGION,
					       .layer = i / 2, .kind = i % 2 ? REGION_V : REGION_K,
					       .elem = ELEM_BF16, .row_bytes = COLS * 2,
					       .head_bytes = DIM * 2 };
	cr_assert_eq(layout_cut(&l, REGION, REGION, &chunks, &n), 0);
	cr_assert_eq(n, 2 * layers);
	cr_assert_eq(estimate_create(&l, chunks, n, LEVELS, nth, &bytes, &e), 0);
	for (uint32_t i = 0; i < n; i++)
		ret[i] = estimate_wants(e, i);
	estimate_destroy(e);
	mem_free(chunks);
}

Test(estimate, samples_together_see_most_layers)
{
	for (unsigned layers = 1; layers <= 16; layers++) {
		bool want[64] = { false };
		unsigned all = 0;

		for (unsigned nth = 0; nth < ESTIMATE_SAMPLES; nth++) {
			bool now[64];
			unsigned seen = 0;

			wanted(layers, nth, now);
			for (unsigned i = 0; i < layers; i++) {
				cr_assert_eq(now[2 * i], now[2 * i + 1], "K and V of a layer");
				seen += now[2 * i];
				want[i] |= now[2 * i];
			}
			cr_assert_eq(seen, layers < QUALITY_LAYERS ? layers : QUALITY_LAYERS,
				     "%u layers, sample %u: %u", layers, nth, seen);
		}
		for (unsigned i = 0; i < layers; i++)
			all += want[i];
		cr_assert_geq(all, layers <= 8 ? layers : layers * 3 / 4, "%u of %u layers", all, layers);
	}
}

Test(estimate, nothing_to_tell)
{
	struct layout_region k = { .off_bytes = 0, .len_bytes = 4096, .kind = REGION_K,
				   .elem = ELEM_BF16, .row_bytes = 256 };
	struct layout l = { .name = "test", .size_bytes = 4096, .regions = &k, .n_regions = 1 };
	struct layout_chunk c = { .len_bytes = 4096 };
	struct estimate *e;
	uint64_t bytes;

	cr_assert_eq(estimate_create(&l, &c, 1, 4, 0, &bytes, &e), -ENODATA);
	l.n_regions = 0;
	cr_assert_eq(estimate_create(&l, &c, 1, 4, 0, &bytes, &e), -ENODATA);
	estimate_destroy(NULL);
}
