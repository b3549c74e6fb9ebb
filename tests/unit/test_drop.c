/* SPDX-License-Identifier: MIT */
/* Token dropping: who stays, for each method, with good keys and bad ones. */
#include <criterion/criterion.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/elem.h"
#include "codecs/drop.h"

#define CELLS 200
#define HEADS 2
#define DIM 4
#define ROW (HEADS * DIM)

static uint32_t rng_next(uint32_t *s)
{
	*s = *s * 1664525 + 1013904223;
	return *s >> 8;
}

static void noise(float *x, size_t n, uint32_t seed)
{
	for (size_t i = 0; i < n; i++)
		x[i] = (float)rng_next(&seed) / (float)(1 << 23) - 1;
}

/* One layer through both passes, @step rows at a time. */
static void score(unsigned method, unsigned elem, const void *rows, uint32_t n, uint32_t head,
		  uint32_t step, struct drop_cell *c)
{
	double *work = malloc(drop_work_len(ROW, head) * sizeof(*work));
	size_t row_bytes = (size_t)ROW * elem_bytes(elem);
	struct drop_layer l;

	drop_layer_init(&l, method, elem, ROW, head, work);
	for (uint32_t t = 0; t < n; t += step)
		drop_measure(&l, (const uint8_t *)rows + t * row_bytes,
			     n - t < step ? n - t : step);
	for (uint32_t t = 0; t < n; t += step)
		drop_score(&l, (const uint8_t *)rows + t * row_bytes, n - t < step ? n - t : step,
			   c + t);
	free(work);
}

/* All of it over positions 0..n-1; the cells that stay as flags. */
static void choose(const char *text, const float *rows, uint32_t n, uint32_t keep, bool *stays)
{
	struct drop_cell *c = malloc(n * sizeof(*c));
	uint32_t *ret = malloc(keep * sizeof(*ret));
	int32_t *pos = malloc(n * sizeof(*pos));
	struct drop_params p;

	cr_assert_eq(drop_parse(text, &p), 0, "%s", text);
	for (uint32_t i = 0; i < n; i++)
		pos[i] = (int32_t)i;
	drop_init(c, pos, n);
	if (p.method != DROP_WINDOW)
		score(p.method, ELEM_F32, rows, n, DIM, n, c);
	drop_select(&p, c, n, keep, ret);
	memset(stays, 0, n);
	for (uint32_t i = 0; i < keep; i++) {
		cr_assert(i ? ret[i] > ret[i - 1] : true, "not ascending");
		cr_assert_lt(ret[i], n);
		stays[ret[i]] = true;
	}
	free(c);
	free(ret);
	free(pos);
}

Test(drop, text_has_one_form)
{
	static const char *const good[] = { "window:0.5",       "knorm:0.25",      "keydiff:0.125",
					    "keydiff:0.000001", "window:0.999999", "knorm:0.5+0+0",
					    "keydiff:0.5+4+128" };
	static const char *const bad[] = { "",
					   "knorm",
					   "knorm:",
					   "knorm:0",
					   "knorm:0.0",
					   "knorm:1",
					   "knorm:1.0",
					   "knorm:.5",
					   "knorm:0.50",
					   "knorm:0.5 ",
					   "knorm:0.5+4",
					   "knorm:0.5+4+64",
					   "window:0.5+4+0",
					   "snapkv:0.5",
					   "Knorm:0.5",
					   "knorm:0.1234567",
					   "knorm:0.5+-4+1",
					   "knorm:0,5",
					   "knorm:0.5+ 4+1",
					   "window:512",
					   "keydifff:0.5" };
	char text[DROP_TEXT_MAX];
	struct drop_params p;

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		cr_assert_eq(drop_parse(good[i], &p), 0, "%s", good[i]);
		drop_format(&p, text);
		cr_expect_str_eq(text, good[i]);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_expect_eq(drop_parse(bad[i], &p), -EINVAL, "%s", bad[i]);
	cr_assert_eq(drop_parse("keydiff:0.5", &p), 0);
	cr_expect_eq(p.sinks, DROP_SINKS);
	cr_expect_eq(p.recent, DROP_RECENT);
}

Test(drop, count_is_the_share_rounded_up)
{
	struct drop_params p;

	cr_assert_eq(drop_parse("window:0.125", &p), 0);
	cr_expect_eq(drop_count(&p, 1), 1);
	cr_expect_eq(drop_count(&p, 8), 1);
	cr_expect_eq(drop_count(&p, 9), 2);
	cr_expect_eq(drop_count(&p, 1000), 125);
	cr_assert_eq(drop_parse("window:0.999999", &p), 0);
	cr_expect_eq(drop_count(&p, 10), 10);
	cr_expect_eq(drop_count(&p, UINT32_MAX), 4294963001u);
}

Test(drop, count_is_exact_and_sinks_and_window_stay)
{
	static const char *const texts[] = { "window:0.5", "knorm:0.5+4+10", "keydiff:0.5+4+10",
					     "keydiff:0.5+0+0", "knorm:0.5+1000+1000" };
	float rows[CELLS * ROW];
	bool stays[CELLS];

	noise(rows, CELLS * ROW, 1);
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		for (uint32_t keep = 1; keep <= CELLS; keep += keep < 20 ? 1 : 15) {
			uint32_t n = 0, sinks = i < 3 ? 4 : i == 3 ? 0 : 1000;
			uint32_t recent = i < 3 ? 10 : i == 3 ? 0 : 1000;

			choose(texts[i], rows, CELLS, keep, stays);
			for (uint32_t t = 0; t < CELLS; t++)
				n += stays[t];
			cr_assert_eq(n, keep);
			cr_assert(stays[CELLS - 1]);
			for (uint32_t t = 0; t < sinks && t + 1 < keep; t++)
				cr_assert(stays[t], "%s: sink %u of %u", texts[i], t, keep);
			for (uint32_t t = 0; t < recent && t + sinks < keep; t++)
				cr_assert(stays[CELLS - 1 - t], "%s: latest %u", texts[i], t);
		}
}

Test(drop, equal_keys_leave_the_window)
{
	float rows[CELLS * ROW];
	bool want[CELLS], got[CELLS];

	for (size_t i = 0; i < CELLS * ROW; i++)
		rows[i] = 0.5f;
	choose("window:0.5", rows, CELLS, 50, want);
	choose("knorm:0.5+4+0", rows, CELLS, 50, got);
	cr_expect_eq(memcmp(want, got, sizeof(want)), 0);
	choose("keydiff:0.5+4+0", rows, CELLS, 50, got);
	cr_expect_eq(memcmp(want, got, sizeof(want)), 0);
	memset(rows, 0, sizeof(rows));
	choose("knorm:0.5+4+0", rows, CELLS, 50, got);
	cr_expect_eq(memcmp(want, got, sizeof(want)), 0);
	choose("keydiff:0.5+4+0", rows, CELLS, 50, got);
	cr_expect_eq(memcmp(want, got, sizeof(want)), 0);
}

Test(drop, knorm_keeps_small_keys_and_keydiff_other_ones)
{
	float rows[CELLS * ROW];
	bool stays[CELLS];

	for (uint32_t t = 0; t < CELLS; t++)
		for (uint32_t i = 0; i < ROW; i++)
			rows[t * ROW + i] = 3;
	for (uint32_t i = 0; i < ROW; i++) {
		rows[77 * ROW + i] = 1;   /* small, as all others point */
		rows[99 * ROW + i] *= -2; /* large, against them */
	}
	choose("knorm:0.5+4+0", rows, CELLS, 6, stays);
	cr_expect(stays[77] && !stays[99] && stays[0]);
	choose("keydiff:0.5+4+0", rows, CELLS, 6, stays);
	cr_expect(stays[99] && !stays[77] && stays[0]);
}

Test(drop, bad_key_goes_first_and_harms_no_other)
{
	static const float bad[] = { NAN, INFINITY, -INFINITY };
	static const char *const texts[] = { "knorm:0.5+4+0", "keydiff:0.5+4+0" };
	float rows[CELLS * ROW], without[CELLS * ROW];
	bool stays[CELLS], want[CELLS];

	noise(rows, CELLS * ROW, 2);
	memcpy(without, rows, 50 * ROW * sizeof(*rows));
	memcpy(without + 50 * ROW, rows + 51 * ROW, (CELLS - 51) * ROW * sizeof(*rows));
	for (size_t i = 0; i < 6; i++) {
		for (uint32_t k = 0; k < ROW; k++)
			rows[50 * ROW + k] = bad[i % 3];
		choose(texts[i / 3], rows, CELLS, 100, stays);
		choose(texts[i / 3], without, CELLS - 1, 100, want);
		cr_expect_not(stays[50]);
		for (uint32_t t = 0; t < CELLS; t++)
			cr_assert_eq(stays[t], t == 50 ? false : want[t < 50 ? t : t - 1]);
		choose(texts[i / 3], rows, CELLS, CELLS - 1, stays);
		cr_expect_not(stays[50]);
		choose(texts[i / 3], rows, CELLS, CELLS, stays);
		cr_expect(stays[50]);
	}
}

Test(drop, cells_out_of_order_are_chosen_by_position)
{
	int32_t pos[10] = { 7, 8, 9, 0, 1, 2, 3, 4, 5, 6 };
	static const uint32_t want[] = { 0, 1, 2, 3, 4 };
	struct drop_cell c[10];
	struct drop_params p = { .method = DROP_WINDOW, .share = 500000, .sinks = 2 };
	uint32_t ret[5];

	drop_init(c, pos, 10);
	drop_select(&p, c, 10, 5, ret);
	cr_expect_eq(memcmp(ret, want, sizeof(want)), 0);
}

Test(drop, scores_do_not_depend_on_how_rows_come_or_on_their_type)
{
	uint16_t narrow[CELLS * ROW + 1];
	float rows[CELLS * ROW];
	int32_t pos[CELLS] = { 0 };
	struct drop_cell a[CELLS], b[CELLS];
	uint8_t *odd = (uint8_t *)narrow + 1;
	uint32_t seed = 9;

	for (unsigned method = DROP_KNORM; method <= DROP_KEYDIFF; method++)
		for (unsigned elem = ELEM_F32; elem <= ELEM_BF16; elem++)
			for (uint32_t head = 0; head <= DIM; head += DIM) {
				for (size_t i = 0; i < CELLS * ROW; i++) {
					/* normal numbers and, of f16, denormal ones */
					int e = (int)(rng_next(&seed) % 24) - 17;
					uint32_t m = rng_next(&seed) & 127, u;
					float x = ldexpf((float)(128 + m), e - 7);
					uint16_t h;

					memcpy(&u, &x, 4);
					h = (uint16_t)(u >> 16);
					if (elem == ELEM_F16) {
						h = (uint16_t)(rng_next(&seed) & 0xfbff);
						x = ldexpf((float)(h & 1023) +
								   (h & 0x7c00 ? 1024 : 0),
							   (h >> 10 & 31 ? h >> 10 & 31 : 1) - 25);
						x = h >> 15 ? -x : x;
					}
					rows[i] = x;
					memcpy(odd + 2 * i, &h, 2);
				}
				drop_init(a, pos, CELLS);
				drop_init(b, pos, CELLS);
				score(method, ELEM_F32, rows, CELLS, head, CELLS, a);
				if (elem == ELEM_F32)
					score(method, elem, rows, CELLS, head, 7, b);
				else
					score(method, elem, odd, CELLS, head, 1, b);
				for (uint32_t t = 0; t < CELLS; t++)
					cr_assert_eq(a[t].score, b[t].score, "%u %u", elem, t);
			}
}
