/* SPDX-License-Identifier: MIT */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "layout_file.h"

static void expect(const char *json, size_t data_len, const char *dump)
{
	struct lfile f = { 0 };
	char *s;

	lfile_safetensors(&f, json, data_len);
	s = lfile_dump(&f);
	cr_expect_str_eq(s, dump, "%s: %s", json, s);
	free(s);
	lfile_fini(&f);
}

static struct layout *recognise(const char *json, size_t data_len)
{
	struct lfile f = { 0 };
	struct layout *l;

	lfile_safetensors(&f, json, data_len);
	l = lfile_recognise(&f);
	lfile_fini(&f);
	return l;
}

#define T(name, dtype, shape, from, to)                                                        \
	"\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":[" shape "],\"data_offsets\":[" #from \
	"," #to "]}"

Test(layout_safetensors, kvlm_one_tensor_per_layer_and_half)
{
	struct layout *l = recognise(
		"{" T("layer_0_k", "BF16", "10,64", 0, 1280) "," T(
			"layer_0_v", "BF16", "10,64", 1280,
			2560) "," T("layer_1_k", "BF16", "10,64", 2560,
				    3840) "," T("layer_1_v", "BF16", "10,64", 3840, 5120) "}",
		5120);

	cr_assert_eq(l->n_regions, 4);
	cr_assert_eq(l->layers, 2);
	cr_assert_eq(l->tokens, 10);
	cr_assert_eq(l->regions[2].layer, 1);
	cr_assert_eq(l->regions[2].kind, REGION_K);
	cr_assert_eq(l->regions[3].kind, REGION_V);
	cr_assert_eq(l->regions[3].row_bytes, 128);
	cr_assert_not(l->lossy_veto);
	layout_destroy(l);
	expect("{" T("layer_0_k", "F16", "10,4,16", 0, 1280) "," T("layer_0_v", "F16", "10,4,16",
								   1280, 2560) "}",
	       2560, "safetensors layers=1 heads=4 dim=16 dtype=f16 tokens=10");
}

Test(layout_safetensors, names_of_engines)
{
	static const struct {
		const char *name;
		int kind; /* -1: vetoed as not KV */
		unsigned layer;
	} t[] = {
		{ "kv_cache", REGION_KV, 0 },
		{ "key_cache.3", REGION_K, 3 },
		{ "value_cache.3", REGION_V, 3 },
		{ "layers.7.k_cache", REGION_K, 7 },
		{ "layers.7.v", REGION_V, 7 },
		{ "past_key_values.5.key", REGION_K, 5 },
		{ "past_key_values.5.value", REGION_V, 5 },
		{ "0.0", REGION_K, 0 },
		{ "31.1", REGION_V, 31 },
		{ "31.2", -1, 0 },
		{ "0.0.0", -1, 0 },
		{ "layer_4_state_0", REGION_K, 4 },
		{ "layer_4_state_1", REGION_V, 4 },
		{ "layer_4_state_k", REGION_K, 4 },
		{ "layer_4_sub_1", -1, 0 },
		{ "layer_4_tq_k", -1, 0 },
		{ "layer_4_k_scale", -1, 0 },
		{ "model.layers.3.self_attn.k_proj.weight", -1, 0 },
		{ "kvcache", REGION_KV, 0 },
		{ "LAYER_2_V", REGION_V, 2 },
		{ "conv_state_k", -1, 0 },
		{ "", -1, 0 },
		{ "\\u006b", REGION_K, 0 },
		{ "k99999999999999999999", REGION_K, 999999999 },
	};

	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		char json[300];
		struct layout *l;

		snprintf(json, sizeof(json),
			 "{\"%s\":{\"dtype\":\"F16\",\"shape\":[1,2,5,16],\"data_offsets\":[0,320]}"
			 "}",
			 t[i].name);
		l = recognise(json, 320);
		cr_expect_str_eq(l->name, "safetensors", "%s", t[i].name);
		cr_expect_gt(l->n_regions, 0);
		cr_expect_eq(l->lossy_veto, t[i].kind < 0, "%s", t[i].name);
		if (t[i].kind >= 0 && l->n_regions) {
			cr_expect_eq(l->regions[0].kind, t[i].kind, "%s", t[i].name);
			cr_expect_eq(l->regions[0].layer, t[i].layer, "%s", t[i].name);
		}
		layout_destroy(l);
	}
}

Test(layout_safetensors, axes_by_rank)
{
	/* vLLM: [2][T][H][D] halves */
	struct layout *l = recognise("{" T("kv_cache", "BF16", "2,16,4,8", 0, 2048) "}", 2048);

	cr_assert_eq(l->n_regions, 2);
	cr_assert_eq(l->regions[1].kind, REGION_V);
	cr_assert_eq(l->regions[1].off_bytes - l->regions[0].off_bytes, 1024);
	cr_assert_eq(l->regions[0].row_bytes, 64);
	cr_assert_eq(l->regions[0].head_bytes, 16);
	layout_destroy(l);
	/* mlx: [B][H][T][D], a region per head */
	l = recognise("{" T("0.0", "F16", "1,4,16,8", 0, 1024) "," T("0.1", "F16", "1,4,16,8", 1024,
								     2048) "}",
		      2048);
	cr_assert_eq(l->n_regions, 8);
	cr_assert_eq(l->tokens, 16);
	cr_assert_eq(l->regions[0].row_bytes, 16);
	cr_assert_eq(l->regions[7].kind, REGION_V);
	layout_destroy(l);
}

Test(layout_safetensors, mlx_recurrent_caches_are_told_by_their_class)
{
	expect("{\"__metadata__\":{\"2.0\":\"ArraysCache\",\"2.1\":\"RotatingKVCache\"}," T(
		       "0.0", "F32", "1,2,4,8", 0, 256) "," T("1.0", "F32", "1,2,4,8", 256,
							      512) "," T("1.1", "F32", "1,2,4,8",
									 512, 768) "}",
	       768, "safetensors layers=1 heads=2 dim=8 dtype=f32 tokens=4");
}

Test(layout_safetensors, skips_what_is_not_float_and_vetoes_fp8)
{
	struct layout *l =
		recognise("{" T("k", "BF16", "4,8", 0, 64) "," T("v", "U8", "64", 64, 128) "," T(
				  "ids", "I64", "8", 128, 192) "}",
			  192);

	cr_assert_eq(l->n_regions, 1);
	layout_destroy(l);
	l = recognise("{" T("k", "F8_E4M3", "4,8", 0, 32) "," T("v", "F8_E5M2", "4,8", 32, 64) "}",
		      64);
	cr_assert_eq(l->n_regions, 2);
	cr_assert(l->lossy_veto);
	layout_destroy(l);
}

Test(layout_safetensors, empty_tensors_and_padding_and_order_in_the_header)
{
	expect("{" T("v", "F16", "4,8", 64, 128) "," T("z", "F16", "0,8", 64,
						       64) "," T("k", "F16", "4,8", 0, 64) "}    ",
	       128, "safetensors layers=1 row=8 dtype=f16 tokens=4");
}

Test(layout_safetensors, hostile_headers_are_opaque)
{
	static const struct {
		const char *json;
		size_t data;
	} t[] = {
		{ "{}", 0 },
		{ "{" T("k", "F16", "4,8", 0, 64) "}", 65 }, /* trailing byte */
		{ "{" T("k", "F16", "4,8", 0, 64) "}", 63 }, /* cut */
		{ "{" T("k", "F16", "4,8", 0, 64) "," T("v", "F16", "4,8", 32, 96) "}",
		  96 }, /* overlap */
		{ "{" T("k", "F16", "4,8", 0, 64) "," T("v", "F16", "4,8", 0, 64) "}",
		  64 }, /* the same */
		{ "{" T("k", "F16", "4,8", 0, 64) "," T("v", "F16", "4,8", 66, 130) "}",
		  130 }, /* gap */
		{ "{" T("k", "F16", "4,8", 0, 64) "," T("k", "F16", "4,8", 64, 128) "}",
		  128 }, /* name twice */
		{ "{" T("k", "F16", "4,8", 0, 64) "," T("\\u006b", "F16", "4,8", 64, 128) "}",
		  128 },
		{ "{" T("k", "F16", "-4,-8", 0, 64) "}", 64 },
		{ "{" T("k", "F16", "4.0,8", 0, 64) "}", 64 },
		{ "{" T("k", "F16", "4294967296,4294967296,4294967296", 0, 0) "}",
		  0 },                                                       /* product 2^97 */
		{ "{" T("k", "F16", "9223372036854775808,2", 0, 0) "}", 0 }, /* wraps to 0 */
		{ "{" T("k", "F16", "1,1,1,1,1,1,1,1,1", 0, 2) "}", 2 },
		{ "{" T("k", "F16", "4,8", 64, 0) "}", 64 },
		{ "{" T("k", "F16", "4,8", 18446744073709551552, 0) "}", 64 },
		{ "{" T("k", "F17", "4,8", 0, 64) "}", 64 },
		{ "{" T("k", "F4", "3", 0, 1) "}", 1 },
		{ "{\"k\":{\"dtype\":\"F16\",\"dtype\":\"F16\",\"shape\":[4,8],\"data_offsets\":[0,"
		  "64]}}",
		  64 },
		{ "{\"k\":{\"dtype\":\"F16\",\"shape\":[4,8],\"shape\":[4,8],\"data_offsets\":[0,"
		  "64]}}",
		  64 },
		{ "{\"k\":{\"dtype\":\"F16\",\"shape\":[4,8]}}", 64 },
		{ "{\"k\":{\"dtype\":\"F16\",\"shape\":[4,8],\"data_offsets\":[0,64,64]}}", 64 },
		{ "{\"k\":[1,2]}", 0 },
		{ "{\"__metadata__\":{\"a\":1}," T("k", "F16", "4,8", 0, 64) "}", 64 },
		{ "{\"__metadata__\":{},\"__metadata__\":{}," T("k", "F16", "4,8", 0, 64) "}", 64 },
		{ "{" T("k", "F16", "4,8", 0, 64) "}}", 64 },
		{ "{" T("k", "F16", "4,8", 0, 64), 64 },
	};

	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++)
		expect(t[i].json, t[i].data, "opaque");
}

Test(layout_safetensors, header_length_near_the_limits)
{
	static const uint64_t len[] = {
		0, 1, 2, (8u << 20) + 1, 100000000, UINT64_MAX, UINT64_MAX - 7, 1ull << 63
	};

	for (size_t i = 0; i < sizeof(len) / sizeof(len[0]); i++) {
		struct lfile f = { .size = i & 1 ? 1ull << 40 : 0 };
		char *s;

		lfile_u64(&f, len[i]);
		lfile_str(&f, "{\"k\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[0,2]}}xx");
		s = lfile_dump(&f);
		cr_expect_str_eq(s, "opaque");
		cr_expect_leq(f.read_bytes, 100000);
		free(s);
		lfile_fini(&f);
	}
}

Test(layout_safetensors, nested_json_does_not_recurse_away)
{
	struct lfile f = { 0 };
	size_t n = 4u << 20;
	char *s;

	lfile_u64(&f, n + 5);
	lfile_str(&f, "{\"k\":");
	lfile_fill(&f, '[', n);
	s = lfile_dump(&f);
	cr_expect_str_eq(s, "opaque");
	free(s);
	lfile_fini(&f);
}

/* A header of the largest size with more tensors than are allowed, and one with
 * as many as are. */
Test(layout_safetensors, very_many_tensors)
{
	for (unsigned n = 65536; n <= 65537; n++) {
		struct lfile f = { 0 };
		struct layout *l;

		lfile_u64(&f, 0);
		lfile_str(&f, "{");
		for (unsigned i = 0; i < n; i++) {
			char t[120];

			snprintf(t, sizeof(t),
				 "%s\"k.%u\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[%u,"
				 "%u]}",
				 i ? "," : "", i, 2 * i, 2 * i + 2);
			lfile_str(&f, t);
		}
		lfile_str(&f, "}");
		memcpy(f.d, &(uint64_t){ f.n - 8 }, 8);
		lfile_noise(&f, 2 * n, 1);
		l = lfile_recognise(&f);
		cr_expect_eq(l->n_regions, n == 65536 ? n : 0);
		layout_destroy(l);
		lfile_fini(&f);
	}
}
