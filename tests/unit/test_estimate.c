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
static float head[LEVELS][2][TOKENS * DIM];

static uint32_t next(uint32_t *s)
{
	*s = *s * 1664525u + 1013904223u;
	return *s >> 8;
}

/* bf16 of about @x, coarser at lower levels; in the file and, of head 0, as floats. */
static void put(unsigned level, unsigned part, bool transposed, uint32_t t, uint32_t c, float x)
{
	uint32_t u, at = transposed ? c * TOKENS + t : t * COLS + c;
	uint8_t *p = file[level] + 100 + part * REGION + 2 * at;

	memcpy(&u, &x, 4);
	u &= 0xffffffffu << (16 + 2 * (LEVELS - 1 - level));
	p[0] = (uint8_t)(u >> 16);
	p[1] = (uint8_t)(u >> 24);
	memcpy(&x, &u, 4);
	if (c < DIM)
		head[level][part][t * DIM + c] = x;
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

static void check(bool transposed, uint32_t target)
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
	struct quality_head x = { TOKENS, DIM, head[LEVELS - 1][0], head[LEVELS - 1][1] };
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
	cr_assert_eq(estimate_create(&l, chunks, n, LEVELS, &bytes, &e), 0);
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
		x.k = head[v][0];
		x.v = head[v][1];
		cr_assert_eq(errors[v], (float)quality_error(&w, &x), "level %u", v);
	}
	cr_assert(errors[0] > errors[1] && errors[1] > 0);
	estimate_destroy(e);
	mem_free(chunks);
}

Test(estimate, rows_of_tokens)
{
	check(false, 4096);
	check(false, 1 << 20);
}

Test(estimate, rows_of_channels)
{
	check(true, 4096);
	check(true, 1 << 20);
}

Test(estimate, nothing_to_tell)
{
	struct layout_region k = { .off_bytes = 0, .len_bytes = 4096, .kind = REGION_K,
				   .elem = ELEM_BF16, .row_bytes = 256 };
	struct layout l = { .name = "test", .size_bytes = 4096, .regions = &k, .n_regions = 1 };
	struct layout_chunk c = { .len_bytes = 4096 };
	struct estimate *e;
	uint64_t bytes;

	cr_assert_eq(estimate_create(&l, &c, 1, 4, &bytes, &e), -ENODATA);
	l.n_regions = 0;
	cr_assert_eq(estimate_create(&l, &c, 1, 4, &bytes, &e), -ENODATA);
	estimate_destroy(NULL);
}
