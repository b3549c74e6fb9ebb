/* SPDX-License-Identifier: MIT */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "layout_file.h"

#define KIB 1024u
#define MIB 1048576u

static struct layout_chunk *cut(const struct layout *l, uint32_t target, uint32_t max, uint32_t *n)
{
	struct layout_chunk *c = NULL;

	cr_assert_eq(layout_cut(l, target, max, &c, n), 0);
	layout_check_properties(l);
	return c;
}

static struct layout of(struct layout_region *r, uint32_t n, uint64_t size)
{
	return (struct layout){
		.name = "declared", .regions = r, .n_regions = n, .size_bytes = size
	};
}

Test(layout_cut, an_empty_file_has_no_chunks)
{
	struct layout l = of(NULL, 0, 0);
	uint32_t n = 9;

	mem_free(cut(&l, MIB, MIB, &n));
	cr_assert_eq(n, 0);
}

Test(layout_cut, opaque_files_are_cut_at_multiples_without_a_short_tail)
{
	struct layout l = of(NULL, 0, 5 * MIB + 100);
	struct layout_chunk *c;
	uint32_t n;

	c = cut(&l, MIB, 2 * MIB, &n);
	cr_assert_eq(n, 5);
	cr_assert_eq(c[4].off_bytes, 4 * MIB);
	cr_assert_eq(c[4].len_bytes, MIB + 100);
	mem_free(c);
	c = cut(&l, MIB, MIB, &n);
	cr_assert_eq(n, 6);
	cr_assert_eq(c[5].len_bytes, 100);
	mem_free(c);
}

Test(layout_cut, regions_are_cut_into_equal_runs_of_rows)
{
	struct layout_region r = { .off_bytes = 13,
				   .len_bytes = 1300 * 2048,
				   .kind = REGION_K,
				   .elem = ELEM_F16,
				   .row_bytes = 2048,
				   .head_bytes = 256,
				   .layer = 3 };
	struct layout l = of(&r, 1, 13 + 1300 * 2048 + 5);
	struct layout_chunk *c;
	uint32_t n;

	c = cut(&l, MIB, MIB + MIB / 2, &n);
	cr_assert_eq(n, 5);
	cr_assert_eq(c[0].len_bytes, 13);
	cr_assert_eq(c[0].shape.kind, REGION_OPAQUE);
	cr_assert_eq(c[1].len_bytes, 434 * 2048);
	cr_assert_eq(c[2].shape.first_row, 434);
	cr_assert_eq(c[2].shape.region_rows, 1300);
	cr_assert_eq(c[2].shape.layer, 3);
	cr_assert_eq(c[2].shape.head_bytes, 256);
	cr_assert_eq(c[4].len_bytes, 5);
	mem_free(c);
}

Test(layout_cut, rows_longer_than_a_chunk_are_cut_at_elements)
{
	struct layout_region r = { .off_bytes = 1,
				   .len_bytes = 2 * 3000004,
				   .kind = REGION_V,
				   .elem = ELEM_F32,
				   .row_bytes = 3000004,
				   .transposed = 1 };
	struct layout l = of(&r, 1, 1 + 2 * 3000004);
	struct layout_chunk *c;
	uint32_t n;

	c = cut(&l, MIB, MIB, &n);
	cr_assert_eq(n, 7);
	for (uint32_t i = 1; i < n; i++) {
		cr_assert_eq(c[i].shape.row_bytes, 0);
		cr_assert_eq(c[i].shape.transposed, 1);
		cr_assert_eq((c[i].off_bytes - 1) % 4, 0);
	}
	mem_free(c);
}

/* Half of them keys, half of them values, each @len. */
static struct layout many(struct layout_region r[], uint32_t n, uint32_t len)
{
	struct layout l;

	for (uint32_t i = 0; i < n; i++)
		r[i] = (struct layout_region){ .off_bytes = (uint64_t)i * len,
					       .len_bytes = len,
					       .elem = ELEM_BF16,
					       .kind = i < n / 2 ? REGION_K : REGION_V,
					       .layer = i % (n / 2),
					       .row_bytes = 2048 };
	l = of(r, n, (uint64_t)n * len);
	l.name = "safetensors";
	return l;
}

Test(layout_cut, small_neighbours_share_a_chunk)
{
	struct layout_region r[40];
	struct layout l = many(r, 40, 8 * KIB);
	struct layout_chunk *c;
	uint32_t n;

	c = cut(&l, 160 * KIB, MIB, &n);
	cr_assert_eq(n, 2);
	cr_assert_eq(c[0].shape.kind, REGION_K);
	cr_assert_eq(c[0].shape.region_rows, 80);
	cr_assert_eq(c[0].shape.part_rows, 4);
	cr_assert_eq(c[1].shape.kind, REGION_V);
	mem_free(c);
	c = cut(&l, 200 * KIB, MIB, &n);
	cr_assert_eq(n, 2);
	cr_assert_eq(c[0].shape.kind, REGION_KV);
	mem_free(c);
	r[1].elem = ELEM_F16; /* another type */
	r[3].off_bytes += 2;  /* a gap on both sides */
	r[3].len_bytes -= 2048;
	r[5].off_bytes -= 2048; /* not alike */
	r[5].len_bytes += 2048;
	r[4].len_bytes -= 2048;
	c = cut(&l, 176 * KIB, MIB, &n);
	cr_assert_eq(n, 8);
	cr_assert_eq(c[6].shape.region_rows, 88);
	cr_assert_eq(c[6].shape.part_rows, 0);
	mem_free(c);
	l = many(r, 40, 8 * KIB);
	for (uint32_t i = 0; i < 10; i++) /* rows of another length */
		r[2 * i].row_bytes = 1024;
	c = cut(&l, 160 * KIB, MIB, &n);
	cr_assert_eq(n, 21);
	cr_assert_eq(c[0].shape.row_bytes, 1024);
	mem_free(c);
}

/* First tokens are where a context begins, which a page need not do. */
Test(layout_cut, short_pages_have_no_first_tokens)
{
	struct layout_region r[16];
	struct layout l = many(r, 16, 63 * 2048);
	struct layout_chunk *c;
	uint32_t n;

	c = cut(&l, 768 * KIB, MIB, &n);
	cr_assert(n == 16 && !c[0].shape.page);
	mem_free(c);
	l.name = "declared";
	c = cut(&l, 700 * KIB, MIB, &n);
	cr_assert(n == 16 && c[0].shape.page && c[0].shape.part_rows == 0);
	mem_free(c);
	c = cut(&l, 768 * KIB, MIB, &n); /* share chunks sooner */
	cr_assert_lt(n, 16);
	mem_free(c);
	l = many(r, 16, 64 * 2048);
	l.name = "declared";
	c = cut(&l, 768 * KIB, MIB, &n);
	cr_assert(n == 16 && !c[0].shape.page);
	mem_free(c);
}

Test(layout_cut, others_keep_to_themselves)
{
	struct layout_region r[16];
	struct layout l = many(r, 16, 48 * KIB);
	struct layout_chunk *c;
	uint32_t n;

	c = cut(&l, 768 * KIB, MIB, &n);
	cr_assert_eq(n, 16);
	cr_assert_eq(c[7].shape.kind, REGION_K);
	cr_assert_eq(c[7].shape.layer, 7);
	cr_assert_eq(c[8].shape.kind, REGION_V);
	mem_free(c);
	r[3].len_bytes = 32 * KIB; /* a small one between large ones */
	r[4].off_bytes -= 16 * KIB;
	r[4].len_bytes = 64 * KIB;
	c = cut(&l, 768 * KIB, MIB, &n);
	cr_assert_eq(n, 16);
	mem_free(c);
}

Test(layout_cut, sparse_giants_are_refused_without_memory)
{
	struct layout l = of(NULL, 0, 1ull << 63);
	struct layout_chunk *c;
	uint32_t n;

	cr_assert_eq(layout_cut(&l, MIB, MIB, &c, &n), -E2BIG);
	l.size_bytes = UINT64_MAX;
	cr_assert_eq(layout_cut(&l, MIB, MIB, &c, &n), -E2BIG);
	l.size_bytes = (uint64_t)MIB * LAYOUT_CHUNKS_MAX;
	cr_assert_eq(layout_cut(&l, MIB, MIB, &c, &n), 0);
	cr_assert_eq(n, LAYOUT_CHUNKS_MAX);
	mem_free(c);
}

Test(layout_cut, absurd_targets_still_cover_the_file)
{
	struct layout_region r = { .off_bytes = 3,
				   .len_bytes = 4000,
				   .kind = REGION_K,
				   .elem = ELEM_F32,
				   .row_bytes = 400 };
	struct layout l = of(&r, 1, 5000);
	static const uint32_t t[] = { 0, 1, 3, 7, 400, UINT32_MAX };
	struct layout_chunk *c;
	uint32_t n;

	for (size_t i = 0; i < 6; i++)
		for (size_t k = 0; k < 6; k++)
			mem_free((c = cut(&l, t[i], t[k], &n)));
}
