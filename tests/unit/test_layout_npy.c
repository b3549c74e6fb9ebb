/* SPDX-License-Identifier: MIT */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "layout_file.h"

static void head(struct lfile *f, int version, const char *dict)
{
	lfile_str(f, "\x93NUMPY");
	lfile_u16(f, (uint16_t)version);
	if (version == 1)
		lfile_u16(f, (uint16_t)strlen(dict));
	else
		lfile_u32(f, (uint32_t)strlen(dict));
	lfile_str(f, dict);
}

static void expect(struct lfile *f, const char *dump)
{
	char *s = lfile_dump(f);

	cr_expect_str_eq(s, dump);
	free(s);
	lfile_fini(f);
}

Test(layout_npy, axes_come_from_the_declaration)
{
	struct lfile f = { .declared = "order=2LTHD" };
	struct layout *l;

	head(&f, 1,
	     "{'descr': '<f2', 'fortran_order': False, 'shape': (2, 3, 16, 4, 8), }          \n");
	lfile_noise(&f, 2 * 3 * 16 * 4 * 8 * 2, 1);
	l = lfile_recognise(&f);
	cr_assert_eq(l->n_regions, 6);
	cr_assert_eq(l->regions[5].kind, REGION_V);
	cr_assert_eq(l->regions[5].layer, 2);
	cr_assert_eq(l->regions[5].row_bytes, 64);
	cr_assert_eq(l->regions[5].head_bytes, 16);
	layout_destroy(l);
	expect(&f, "npy layers=3 heads=4 dim=8 dtype=f16 tokens=16");
}

Test(layout_npy, without_a_fitting_declaration_it_is_exact_only)
{
	static const char *const declared[] = { NULL, "order=LTD", "order=2LTHD", "auto",
						"nonsense" };

	for (size_t i = 0; i < sizeof(declared) / sizeof(declared[0]); i++) {
		struct lfile f = { .declared = declared[i] };

		head(&f, 2, "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 5, 4, 4, 8)}\n");
		lfile_noise(&f, 3 * 5 * 4 * 4 * 8 * 4, 1);
		expect(&f, "npy row=8 dtype=f32 veto=\"what its axes are is not declared\"");
	}
}

Test(layout_npy, a_full_declaration_does_not_take_it_for_a_raw_page)
{
	struct lfile f = { .declared = "order=TD dim=1 dtype=f16" };

	head(&f, 1, "{'descr': '<f2', 'fortran_order': False, 'shape': (8, 4), }\n");
	lfile_noise(&f, 64, 1);
	expect(&f, "npy row=4 dtype=f16 tokens=8");
}

Test(layout_npy, bf16_hides_in_two_byte_integers_and_voids)
{
	static const char *const descr[] = { "<u2", "<i2", "|V2" };

	for (size_t i = 0; i < sizeof(descr) / sizeof(descr[0]); i++) {
		struct lfile f = { .declared = "order=LTD" };
		char dict[120];

		snprintf(dict, sizeof(dict),
			 "{'descr': '%s', 'fortran_order': False, 'shape': (2, 64, 512), }\n",
			 descr[i]);
		head(&f, 1, dict);
		lfile_floats(&f, ELEM_BF16, 2 * 64 * 512, 3);
		expect(&f, "npy layers=2 row=512 dtype=bf16 tokens=64");
		head(&f, 1, dict);
		lfile_noise(&f, 2 * 2 * 64 * 512, 3);
		expect(&f, "npy veto=\"what its axes are is not declared\"");
	}
}

Test(layout_npy, fortran_order_turns_the_axes_round)
{
	struct lfile f = { .declared = "order=TD" };
	struct layout *l;

	head(&f, 1, "{'descr': '<f4', 'fortran_order': True, 'shape': (8, 4), }\n");
	lfile_noise(&f, 128, 1);
	l = lfile_recognise(&f);
	cr_assert_eq(l->n_regions, 4);
	layout_destroy(l);
	lfile_fini(&f);
}

Test(layout_npy, other_types_are_recognised_without_regions)
{
	static const struct {
		const char *dict;
		size_t data;
	} t[] = {
		{ "{'descr': '<i8', 'fortran_order': False, 'shape': (3,), }\n", 24 },
		{ "{'descr': '>f2', 'fortran_order': False, 'shape': (3,), }\n", 6 },
		{ "{'descr': '<f8', 'fortran_order': False, 'shape': (), }\n", 8 },
		{ "{'descr': '<U5', 'fortran_order': False, 'shape': (2,), }\n", 40 },
		{ "{'descr': '|b1', 'fortran_order': False, 'shape': (7, 1), }\n", 7 },
	};

	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		struct lfile f = { 0 };

		head(&f, 1, t[i].dict);
		lfile_noise(&f, t[i].data, 1);
		expect(&f, "npy veto=\"what its axes are is not declared\"");
	}
}

Test(layout_npy, hostile_headers_are_opaque)
{
	static const char *const bad[] = {
		"",
		"{}",
		"{'descr': '<f2'}",
		"{'descr': '<f2', 'fortran_order': False, 'shape': (-1, 32), }",
		"{'descr': '<f2', 'fortran_order': False, 'shape': (32), 'x': 1}",
		"{'descr': '<f2', 'fortran_order': False, 'shape': (4 8)}",
		"{'descr': '<f2', 'fortran_order': False, 'shape': (,)}",
		"{'descr': '<f2', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,32)}",
		"{'descr': '<f2', 'fortran_order': False, 'shape': (9223372036854775808, 2)}",
		"{'descr': '<f2', 'fortran_order': False, 'shape': (99999999999999999999,)}",
		"{'descr': '<f2', 'fortran_order': Maybe, 'shape': (32,)}",
		"{'descr': '<f2', 'descr': '<f2', 'fortran_order': False, 'shape': (32,)}",
		"{'descr': '<f', 'fortran_order': False, 'shape': (32,)}",
		"{'descr': '<f0', 'fortran_order': False, 'shape': (32,)}",
		"{'descr': '<f999999999', 'fortran_order': False, 'shape': (32,)}",
		"{'descr': 'f2', 'fortran_order': False, 'shape': (32,)}",
		"{'descr': [('a', '<f2')], 'fortran_order': False, 'shape': (32,)}",
		"{'descr': '|O', 'fortran_order': False, 'shape': (8,)}",
		"{'descr': '<f2', 'fortran_order': False, 'shape': (32,)} x",
		"{'descr': '<f2', 'fortran_order': False, 'shape': (32,)",
		"{'descr': '<f2' 'fortran_order': False, 'shape': (32,)}",
		"{'descr': '<f2', 'fortran_order': False, 'shape': (31,)}",
		"{'descr': '<f2', 'fortran_order': False, 'shape': (33,)}",
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct lfile f = { 0 };

		head(&f, 1, bad[i]);
		lfile_noise(&f, 64, 1);
		expect(&f, "opaque");
	}
}

Test(layout_npy, lengths_and_versions)
{
	for (unsigned i = 0; i < 6; i++) {
		struct lfile f = { .size = 1ull << 40 };

		lfile_str(&f, "\x93NUMPY");
		lfile_u16(&f, (uint16_t[]){ 2, 3, 0, 4, 0x101, 2 }[i]);
		lfile_u32(&f, (uint32_t[]){ 0xffffffff, 4097, 60, 60, 60, 0 }[i]);
		expect(&f, "opaque");
	}
}
