/* SPDX-License-Identifier: MIT */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "layout_file.h"

#define VETO " veto=\"where keys and values lie is not known; declare it\""

static void expect(struct lfile *f, const char *dump)
{
	char *s = lfile_dump(f);

	cr_expect_str_eq(s, dump);
	free(s);
}

Test(layout_numeric, floats_at_any_phase)
{
	static const unsigned t[] = { ELEM_BF16, ELEM_F16, ELEM_F32 };

	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		for (unsigned phase = 0; phase < elem_bytes(t[i]); phase++) {
			struct lfile f = { 0 };
			struct layout *l;

			lfile_noise(&f, phase, 1);
			lfile_floats(&f, t[i], 100000, 4);
			lfile_noise(&f, 3, 1);
			l = lfile_recognise(&f);
			cr_assert_str_eq(l->name, "numeric", "%s phase %u", elem_name(t[i]), phase);
			cr_assert_eq(l->elem, t[i], "%s phase %u", elem_name(t[i]), phase);
			cr_assert_eq(l->n_regions, 1);
			cr_assert_eq(l->regions[0].off_bytes, phase);
			cr_assert_eq(l->regions[0].kind, REGION_KV);
			cr_assert(l->lossy_veto);
			layout_destroy(l);
			lfile_fini(&f);
		}
	}
}

Test(layout_numeric, holes_and_headers_do_not_hide_floats)
{
	struct lfile f = { 0 };

	lfile_noise(&f, 4096, 1);
	lfile_floats(&f, ELEM_BF16, 200000, 4);
	lfile_fill(&f, 0, 300000);
	expect(&f, "numeric dtype=bf16" VETO);
	lfile_fini(&f);
}

Test(layout_numeric, other_bytes_stay_opaque)
{
	struct lfile f = { 0 };

	lfile_noise(&f, 300000, 1);
	expect(&f, "opaque");
	lfile_fini(&f);
	lfile_fill(&f, 0, 300000);
	expect(&f, "opaque");
	lfile_fini(&f);
	while (f.n < 300000)
		lfile_str(&f, "All happy families are alike; each unhappy family is unhappy in its "
			      "own way. ");
	expect(&f, "opaque");
	lfile_fini(&f);
	for (uint32_t i = 0; f.n < 300000; i++)
		lfile_u32(&f, i * 7);
	expect(&f, "opaque");
	lfile_fini(&f);
	/* half floats, half noise: not one type */
	lfile_floats(&f, ELEM_BF16, 100000, 4);
	lfile_noise(&f, 200000, 1);
	expect(&f, "opaque");
	lfile_fini(&f);
	lfile_floats(&f, ELEM_BF16, 1000, 4); /* small files stay plain anyway */
	expect(&f, "opaque");
	lfile_fini(&f);
}

Test(layout_numeric, vllm_config_decides)
{
	struct lfile f = {
		.name = "0123456789abcdef.bin",
		.dir = "cache/meta_llama_abc123_r0/0a3/4f_g0",
		.beside_name = "../../../meta_llama_abc123/config.json",
		.beside = "{\"model_name\": \"m\", \"tp\": {\"size\": [1, 2]}, \"dtype\": "
			  "\"torch.bfloat16\"}",
	};

	lfile_noise(&f, 131072, 1);
	expect(&f, "numeric dtype=bf16" VETO);
	f.beside = "{\"dtype\": \"float16\", \"rest\": ";
	expect(&f, "numeric dtype=f16" VETO);
	f.beside = "{\"dtype\": \"fp8_e4m3\"}";
	expect(&f, "numeric dtype=fp8_e4m3" VETO);
	f.beside = "{\"dtype\": 5}";
	expect(&f, "opaque");
	f.beside = "{\"dtype\": \"int4\"}";
	expect(&f, "opaque");
	f.beside = "";
	expect(&f, "opaque");
	f.beside = "{\"dtype\": \"bfloat16\"}";
	f.dir = "x/0a3/4f_g0";
	expect(&f, "opaque");
	f.dir = "4f_g0";
	expect(&f, "opaque");
	f.dir = "";
	expect(&f, "opaque");
	f.name = "0123456789abcdef.bin.tmp";
	expect(&f, "opaque");
	lfile_fini(&f);
}

Test(layout_numeric, read_errors_are_passed_on)
{
	struct lfile f = { .fail_at = 70000 };
	struct layout_input in;
	struct layout *l;

	lfile_floats(&f, ELEM_BF16, 65536, 4);
	in = lfile_input(&f);
	cr_assert_eq(layout_recognise(&in, &l), -EIO);
	lfile_fini(&f);
}
