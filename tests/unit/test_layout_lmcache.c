/* SPDX-License-Identifier: MIT */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "layout_file.h"

static void fs(struct lfile *f, uint32_t fmt, uint32_t dtype, const uint32_t shape[4], size_t data)
{
	lfile_u32(f, (uint32_t)data);
	lfile_u32(f, fmt);
	lfile_u32(f, dtype);
	for (int i = 0; i < 4; i++)
		lfile_u32(f, shape[i]);
	lfile_noise(f, data, 5);
}

static void gds(struct lfile *f, const char *json, size_t data)
{
	lfile_u64(f, 4088);
	lfile_str(f, json);
	lfile_fill(f, ' ', 4096 - f->n);
	lfile_noise(f, data, 5);
}

static void expect(struct lfile *f, const char *dump)
{
	char *s = lfile_dump(f);

	cr_expect_str_eq(s, dump);
	free(s);
	lfile_fini(f);
}

Test(layout_lmcache, fs_formats)
{
	static const struct {
		uint32_t fmt, dtype, shape[4];
		size_t data;
		uint32_t regions;
		const char *dump;
	} t[] = {
		{ 1,
		  3,
		  { 2, 4, 16, 32 },
		  8192,
		  8,
		  "lmcache-fs layers=4 row=32 dtype=bf16 tokens=16" },
		{ 2, 1, { 16, 2, 32, 0 }, 2048, 1, "lmcache-fs row=64 dtype=f16 tokens=16" },
		{ 3, 4, { 2, 16, 32, 0 }, 4096, 2, "lmcache-fs row=32 dtype=f32 tokens=16" },
		{ 6,
		  2,
		  { 1, 4, 16, 72 },
		  9216,
		  4,
		  "lmcache-fs layers=4 row=72 dtype=f16 tokens=16" },
		{ 1,
		  7,
		  { 2, 4, 16, 32 },
		  4096,
		  8,
		  "lmcache-fs layers=4 row=32 dtype=fp8_e4m3 tokens=16 veto=\"already quantised: "
		  "elements are fp8_e4m3\"" },
		{ 1,
		  5,
		  { 2, 4, 16, 32 },
		  32768,
		  0,
		  "lmcache-fs layers=4 tokens=16 veto=\"elements are of no float type\"" },
		{ 4,
		  6,
		  { 777, 0, 0, 0 },
		  777,
		  0,
		  "lmcache-fs veto=\"compressed by LMCache (memory format 4)\"" },
		{ 5,
		  6,
		  { 777, 0, 0, 0 },
		  777,
		  0,
		  "lmcache-fs veto=\"compressed by LMCache (memory format 5)\"" },
	};

	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		struct lfile f = { 0 };
		struct layout *l;

		fs(&f, t[i].fmt, t[i].dtype, t[i].shape, t[i].data);
		l = lfile_recognise(&f);
		cr_expect_eq(l->n_regions, t[i].regions);
		if (l->n_regions)
			cr_expect_eq(l->regions[0].off_bytes, 28);
		layout_destroy(l);
		expect(&f, t[i].dump);
	}
}

Test(layout_lmcache, fs_headers_that_do_not_add_up)
{
	static const struct {
		uint32_t fmt, dtype, shape[4];
		size_t data;
	} t[] = {
		{ 1, 3, { 2, 4, 16, 32 }, 8190 },
		{ 1, 3, { 3, 4, 16, 32 }, 12288 },
		{ 1, 3, { 2, 4, 16, 0 }, 8192 },
		{ 0, 3, { 2, 4, 16, 32 }, 8192 },
		{ 7, 3, { 2, 4, 16, 32 }, 8192 },
		{ 1, 0, { 2, 4, 16, 32 }, 8192 },
		{ 1, 9, { 2, 4, 16, 32 }, 8192 },
		{ 1, 3, { 2, 0xffffffff, 16, 32 }, 8192 },
		{ 1, 3, { 2, 0x40000000, 0x40000000, 0x40000000 }, 8192 },
		{ 2, 1, { 16, 2, 32, 2 }, 4096 },
		{ 0xffffffff, 3, { 2, 4, 16, 32 }, 8192 },
	};

	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		struct lfile f = { 0 };

		fs(&f, t[i].fmt, t[i].dtype, t[i].shape, t[i].data);
		expect(&f, "opaque");
		fs(&f, 1, 3, (const uint32_t[]){ 2, 4, 16, 32 }, 8192);
		f.d[0]++; /* the length */
		expect(&f, "opaque");
	}
}

Test(layout_lmcache, gds_head_and_data)
{
	struct lfile f = { 0 };
	struct layout *l;

	gds(&f,
	    "{\"kvcache\": {\"dtype\": \"BF16\", \"shape\": [2, 4, 16, 32], \"data_offsets\": [0, "
	    "8192], \"fmt\": 1, "
	    "\"__metadata__\": {\"lmcache_version\": \"1\"}}}",
	    8192);
	l = lfile_recognise(&f);
	cr_assert_eq(l->n_regions, 8);
	cr_assert_eq(l->regions[0].off_bytes, 4096);
	layout_destroy(l);
	expect(&f, "lmcache-gds layers=4 row=32 dtype=bf16 tokens=16");
	gds(&f,
	    "{\"kvcache\": {\"dtype\": \"F8E4M3FN\", \"shape\": [16, 2, 32], \"data_offsets\": [0, "
	    "1024], \"fmt\": 2, "
	    "\"__metadata__\": {}}}",
	    1024);
	expect(&f, "lmcache-gds row=64 dtype=fp8_e4m3 tokens=16 veto=\"already quantised: elements "
		   "are fp8_e4m3\"");
	gds(&f,
	    "{\"kvcache\": {\"dtype\": \"U8\", \"shape\": [1024], \"data_offsets\": [0, 1024], "
	    "\"fmt\": 4, "
	    "\"__metadata__\": {}}}",
	    1024);
	expect(&f, "lmcache-gds veto=\"compressed by LMCache (memory format 4)\"");
}

/* Its .metadata twin is the head alone; a preallocated file is longer. */
Test(layout_lmcache, gds_head_without_its_data)
{
	struct lfile f = { 0 };

	gds(&f,
	    "{\"kvcache\": {\"dtype\": \"BF16\", \"shape\": [2, 4, 16, 32], \"data_offsets\": [0, "
	    "8192], \"fmt\": 1, "
	    "\"__metadata__\": {}}}",
	    0);
	expect(&f, "opaque");
	gds(&f,
	    "{\"kvcache\": {\"dtype\": \"BF16\", \"shape\": [2, 4, 16, 32], \"data_offsets\": [0, "
	    "8192], \"fmt\": 1, "
	    "\"fmt\": 2}}",
	    8192);
	expect(&f, "opaque");
}
