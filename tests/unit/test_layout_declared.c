/* SPDX-License-Identifier: MIT */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "layout_file.h"

static struct layout *page(const char *declared, size_t len)
{
	struct lfile f = { .declared = declared };
	struct layout *l;

	lfile_noise(&f, len, 9);
	l = lfile_recognise(&f);
	lfile_fini(&f);
	return l;
}

Test(layout_declared, orders_of_the_engines)
{
	static const struct {
		const char *declared;
		size_t len;
		uint32_t regions, tokens, row, head;
		uint32_t last_layer;
		int first_kind, last_kind;
	} t[] = {
		{ "dtype=bf16 order=2LTHD layers=3 heads=2 dim=8", 2 * 3 * 5 * 32, 6, 5, 32, 16, 2,
		  REGION_K, REGION_V },
		{ "dtype=bf16 order=2TLHD layers=3 heads=2 dim=8", 2 * 3 * 5 * 32, 2, 5, 96, 16, 0,
		  REGION_K, REGION_V },
		{ "dtype=bf16 order=L2THD layers=3 heads=2 dim=8", 2 * 3 * 5 * 32, 6, 5, 32, 16, 2,
		  REGION_K, REGION_V },
		{ "dtype=f16 order=2HTLD layers=3 heads=2 dim=8", 2 * 3 * 5 * 32, 4, 5, 48, 48, 0,
		  REGION_K, REGION_V },
		{ "dtype=f16 order=page_head layers=3 heads=2 dim=8", 2 * 3 * 5 * 32, 4, 5, 48, 48,
		  0, REGION_K, REGION_V },
		{ "dtype=f32 order=T2D dim=16", 5 * 2 * 64, 1, 5, 128, 0, 0, REGION_KV, REGION_KV },
		{ "dtype=f32 order=2TD dim=8 heads=2", 5 * 2 * 64, 2, 5, 64, 32, 0, REGION_K,
		  REGION_V },
		{ "dtype=bf16 order=LTD layers=4 dim=72", 4 * 5 * 144, 4, 5, 144, 0, 3, REGION_KV,
		  REGION_KV },
		{ "dtype=bf16 order=KV_2LTD layers=4 dim=64", 2 * 4 * 5 * 128, 8, 5, 128, 0, 3,
		  REGION_K, REGION_V },
		{ "dtype=bf16 order=NL2THD layers=2 heads=2 dim=8 tokens=16", 3 * 2 * 2 * 16 * 32,
		  12, 48, 32, 16, 1, REGION_K, REGION_V },
		{ "dtype=bf16 order=TD dim=8 kind=v", 160, 1, 10, 16, 0, 0, REGION_V, REGION_V },
	};

	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		struct layout *l = page(t[i].declared, t[i].len);

		cr_assert_str_eq(l->name, "declared", "%s", t[i].declared);
		cr_assert_eq(l->n_regions, t[i].regions, "%s: %u", t[i].declared, l->n_regions);
		cr_assert_eq(l->tokens, t[i].tokens, "%s: %u", t[i].declared, l->tokens);
		cr_assert_eq(l->regions[0].row_bytes, t[i].row, "%s", t[i].declared);
		cr_assert_eq(l->regions[0].head_bytes, t[i].head, "%s: %u", t[i].declared,
			     l->regions[0].head_bytes);
		cr_assert_eq(l->regions[0].kind, t[i].first_kind);
		cr_assert_eq(l->regions[l->n_regions - 1].kind, t[i].last_kind);
		cr_assert_eq(l->regions[l->n_regions - 1].layer, t[i].last_layer, "%s",
			     t[i].declared);
		cr_assert_not(l->lossy_veto);
		layout_destroy(l);
	}
}

Test(layout_declared, skip_and_pad_stay_opaque)
{
	struct layout *l =
		page("dtype=bf16 order=2TD dim=8 skip=7 tokens=5 pad=64", 7 + 2 * 5 * 16 + 33);

	cr_assert_eq(l->n_regions, 2);
	cr_assert_eq(l->regions[0].off_bytes, 7);
	cr_assert_eq(l->regions[1].off_bytes + l->regions[1].len_bytes, 7 + 160);
	layout_destroy(l);
}

Test(layout_declared, a_size_that_does_not_divide_is_not_it)
{
	static const struct {
		const char *declared;
		size_t len;
	} t[] = {
		{ "dtype=bf16 order=2LTHD layers=3 heads=2 dim=8", 2 * 3 * 5 * 32 + 2 },
		{ "dtype=bf16 order=2LTHD layers=3 heads=2 dim=8 tokens=6", 2 * 3 * 5 * 32 },
		{ "dtype=bf16 order=2TD dim=8 skip=8", 8 },
		{ "dtype=bf16 order=2TD dim=8 skip=9", 8 },
		{ "dtype=bf16 order=2TD dim=8 tokens=5 pad=32", 160 + 32 },
		{ "dtype=bf16 order=2TLHD layers=1073741824 heads=1073741824 dim=1073741824", 160 },
	};

	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		struct layout *l = page(t[i].declared, t[i].len);

		cr_expect_str_eq(l->name, "opaque", "%s", t[i].declared);
		layout_destroy(l);
	}
}

Test(layout_declared, too_many_regions_become_few)
{
	struct layout *l = page("dtype=bf16 order=2LTD layers=50000 dim=1 tokens=1", 2 * 50000 * 2);

	cr_assert_str_eq(l->name, "declared");
	cr_assert_eq(l->n_regions, 2);
	cr_assert_eq(l->regions[1].kind, REGION_V);
	layout_destroy(l);
	l = page("dtype=bf16 order=L2TD layers=50000 dim=1 tokens=1", 2 * 50000 * 2);
	cr_assert_eq(l->n_regions, 1);
	cr_assert_eq(l->regions[0].kind, REGION_KV);
	layout_destroy(l);
}

Test(layout_declared, opaque_forbids_looking_and_auto_allows_it)
{
	struct lfile f = { .declared = "opaque" };
	char *s;

	lfile_safetensors(&f, "{\"k\":{\"dtype\":\"F16\",\"shape\":[4,8],\"data_offsets\":[0,64]}}",
			  64);
	s = lfile_dump(&f);
	cr_expect_str_eq(s, "opaque");
	free(s);
	f.declared = " auto ";
	s = lfile_dump(&f);
	cr_expect_eq(strncmp(s, "safetensors", 11), 0);
	free(s);
	lfile_fini(&f);
}

Test(layout_declared, check_says_what_is_wrong)
{
	static const struct {
		const char *s, *why;
	} bad[] = {
		{ "", "order= is missing" },
		{ "dtype=bf16", "order= is missing" },
		{ "order=", "order=: not KEY=VALUE" },
		{ "order=XYZ", "order=XYZ: letters are 2 L T H D N B" },
		{ "order=2TTD", "order=2TTD: a letter occurs twice" },
		{ "order=2LHD", "order=2LHD: needs T, and D at its end" },
		{ "order=DT", "order=DT: needs T, and D at its end" },
		{ "order=TDH", "order=TDH: needs T, and D at its end" },
		{ "order=2TD dtype=int4 dim=4",
		  "dtype=int4: bf16, f16, f32, fp8_e4m3 or fp8_e5m2" },
		{ "order=2TD dtype=u8 dim=4", "dtype=u8: bf16, f16, f32, fp8_e4m3 or fp8_e5m2" },
		{ "order=2LTD dtype=f16 dim=4", "layers= is missing" },
		{ "order=2TD dtype=f16", "dim= is missing" },
		{ "order=2THD dtype=f16 dim=4", "heads= is missing" },
		{ "order=N2TD dtype=f16 dim=4", "tokens= is missing (N is found by the size)" },
		{ "order=TD dim=0", "dim=: not a number, or out of range" },
		{ "order=TD dim=-5", "dim=: not a number, or out of range" },
		{ "order=TD dim=18446744073709551616", "dim=: not a number, or out of range" },
		{ "order=TD dim=12x", "dim=: not a number, or out of range" },
		{ "order=TD color=5", "unknown key color" },
		{ "order=TD dim=4 dim=4", "dim= is said twice" },
		{ "order=2TD kind=k", "kind= and a 2 in the order exclude each other" },
		{ "order=TD kind=opaque", "kind=opaque: k, v or kv" },
		{ "bf16", "bf16: not KEY=VALUE" },
	};
	char why[100], big[400];

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		cr_expect_eq(layout_declared_check(bad[i].s, why, sizeof(why)), -EINVAL, "%s",
			     bad[i].s);
		cr_expect_str_eq(why, bad[i].why);
		cr_expect_eq(layout_declared_check(bad[i].s, NULL, 0), -EINVAL);
	}
	memset(big, ' ', sizeof(big));
	big[sizeof(big) - 1] = '\0';
	cr_expect_eq(layout_declared_check(big, why, sizeof(why)), -EINVAL);
	cr_expect_eq(layout_declared_check("opaque", why, sizeof(why)), 0);
	cr_expect_eq(layout_declared_check("order=2LTHD", why, sizeof(why)), 0);
	cr_expect_eq(layout_declared_check("dtype=bf16 order=2LTHD layers=32 heads=8 dim=128", why,
					   sizeof(why)),
		     0);
}

Test(layout_declared, vetoes_come_from_names_and_checksums)
{
	static const struct {
		const char *name, *dir, *veto;
		bool checksummed;
	} t[] = {
		{ "page.bin", "", "", false },
		{ "page.bin", "", "a checksum of the content is kept beside it", true },
		{ "kv_fp8.bin", "", "already quantised: its path says fp8", false },
		{ "x", "Llama-3-INT8/r0", "already quantised: its path says int8", false },
		{ "slot-q8_0.bin", "", "already quantised: its path says q8", false },
		{ "iraq8.bin", "", "", false },
		{ "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef.mamba_m_0_1."
		  "bin",
		  "", "side pool of HiCache, not keys and values", false },
		{ "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef.swa_m_0_1.bin",
		  "", "", false },
		{ "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef_m_0_1.bin", "",
		  "", false },
		{ "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef.bin", "", "",
		  false },
	};

	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		struct lfile f = {
			.name = t[i].name,
			.dir = t[i].dir,
			.declared = "dtype=f16 order=TD dim=8",
			.checksummed = t[i].checksummed,
		};
		struct layout *l;

		lfile_noise(&f, 160, 1);
		l = lfile_recognise(&f);
		cr_expect_str_eq(l->veto, t[i].veto, "%s", t[i].name);
		layout_destroy(l);
		lfile_fini(&f);
	}
}
