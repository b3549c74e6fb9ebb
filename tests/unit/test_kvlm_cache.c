/* SPDX-License-Identifier: MIT */
/* Cache files: what is written is read back; nothing hostile gets through. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cache.h"
#include "dtype.h"
#include "json.h"
#include "quant.h"
#include "suite.h"
#include "test_kvlm_tiny.h"

#define LAYERS 2
#define HEADS 2
#define DIM 3
#define TOKENS 9
#define ROW (HEADS * DIM)

/* A small file's bytes, malloc'ed; with @cells < TOKENS the middle is dropped. */
static uint8_t *small_file(enum cache_format f, enum dtype d, uint32_t cells, size_t *ret_len)
{
	char path[] = "/tmp/kvlm-cache-XXXXXX";
	int fd = mkstemp(path);
	int32_t tokens[TOKENS], pos[TOKENS];
	float x[TOKENS * ROW];
	uint8_t bytes[sizeof(x)], *out;
	struct cache_writer *w;
	struct msg m;
	uint64_t rng = 5;
	struct cache_desc desc = {
		.format = f,
		.dtype = d,
		.n_layer = LAYERS,
		.n_kv_head = HEADS,
		.head_dim = DIM,
		.n_cells = cells,
		.n_tokens = TOKENS,
		.tokens = tokens,
		.pos = pos,
		.model = 0x1234,
		.note = "a \"note\"\n",
	};
	ssize_t n;

	for (int i = 0; i < TOKENS; i++) {
		tokens[i] = 10 * i;
		pos[i] = i < 2 ? i : i + TOKENS - (int)cells;
	}
	cr_assert_eq(cache_writer_open(path, &desc, &w, &m), 0, "%s", m.text);
	for (uint32_t i = 0; i < 2 * LAYERS; i++) {
		for (uint32_t k = 0; k < TOKENS * ROW; k++)
			x[k] = tiny_uniform(&rng);
		dtype_from_f32(d, x, bytes, (size_t)cells * ROW);
		cr_assert_eq(cache_writer_put(w, i / 2, i % 2, bytes, &m), 0);
	}
	*ret_len = cache_writer_bytes(w);
	cr_assert_eq(cache_writer_close(w, &m), 0, "%s", m.text);
	out = malloc(*ret_len + 1);
	n = pread(fd, out, *ret_len + 1, 0);
	cr_assert_eq((size_t)n, *ret_len);
	close(fd);
	unlink(path);
	return out;
}

/* Parses a copy with no byte to spare. */
static int parse(const uint8_t *buf, size_t len, struct cache **ret, struct msg *m)
{
	uint8_t *exact = malloc(len + !len);
	int r;

	memcpy(exact, buf, len);
	m->text[0] = 0;
	r = cache_parse(exact, len, ret, m);
	if (r)
		free(exact);
	else
		(*ret)->buf = exact;
	return r;
}

static void check_contents(const struct cache *c, enum dtype d, uint32_t cells)
{
	uint64_t rng = 5;
	float x[TOKENS * ROW], row[ROW];

	cr_assert_eq(c->n_layer, LAYERS);
	cr_assert_eq(c->row, ROW);
	cr_assert_eq(c->n_tokens, TOKENS);
	cr_assert_eq(c->n_cells, cells);
	cr_assert_eq(c->tokens[8], 80);
	cr_assert_eq(c->pos[cells - 1], TOKENS - 1);
	for (uint32_t i = 0; i < 2 * LAYERS; i++) {
		for (uint32_t k = 0; k < TOKENS * ROW; k++)
			x[k] = tiny_uniform(&rng);
		dtype_round(d, x, TOKENS * ROW);
		for (uint32_t t = 0; t < cells; t++) {
			cache_get_row(c, i / 2, i % 2, t, row);
			cr_assert(!memcmp(row, x + (size_t)t * ROW, sizeof(row)));
		}
	}
}

Test(kvlm_cache, round_trip)
{
	for (int i = 0; i < CACHE_FORMATS_ * DTYPES_ * 2; i++) {
		enum cache_format f = (enum cache_format)(i % 2);
		enum dtype d = (enum dtype)(i / 2 % DTYPES_);
		uint32_t cells = i < CACHE_FORMATS_ * DTYPES_ ? TOKENS : 5;
		struct cache *c;
		struct msg m;
		size_t len;
		uint8_t *buf = small_file(f, d, cells, &len);

		cr_assert_eq(parse(buf, len, &c, &m), 0, "%s", m.text);
		cr_assert_eq(c->format, f);
		cr_assert_eq(c->dtype, d);
		cr_assert_eq(c->model, f == CACHE_SAFETENSORS ? 0x1234 : 0);
		check_contents(c, d, cells);
		cache_free(c);
		free(buf);
	}
}

Test(kvlm_cache, every_truncation_and_every_extra_byte_is_an_error)
{
	for (int f = 0; f < CACHE_FORMATS_; f++) {
		struct cache *c;
		struct msg m;
		size_t len;
		uint8_t *buf = small_file((enum cache_format)f, DTYPE_BF16, 5, &len);

		for (size_t n = 0; n < len; n++) {
			cr_assert_lt(parse(buf, n, &c, &m), 0, "%zu of %zu bytes", n, len);
			cr_assert(m.text[0]);
		}
		buf[len] = 0;
		cr_assert_lt(parse(buf, len + 1, &c, &m), 0);
		free(buf);
	}
}

Test(kvlm_cache, no_changed_byte_crashes)
{
	const uint8_t values[] = { 0x00, 0x01, 0x20, 0x2c, 0x39, 0x7f, 0x80, 0xff };

	for (int f = 0; f < CACHE_FORMATS_; f++) {
		struct cache *c;
		struct msg m;
		size_t len;
		uint8_t *buf = small_file((enum cache_format)f, DTYPE_F16, TOKENS, &len);
		float row[ROW];

		for (size_t i = 0; i < len; i++)
			for (size_t v = 0; v < sizeof(values); v++) {
				uint8_t old = buf[i];

				buf[i] = values[v];
				if (!parse(buf, len, &c, &m)) {
					for (uint32_t l = 0; l < c->n_layer; l++)
						cache_get_row(c, l, true, c->n_cells - 1, row);
					cache_free(c);
				}
				buf[i] = old;
			}
		free(buf);
	}
}

/* llama: magic 0, version 4, tokens 8, list 12.., streams 48, cells 52, list 56.. */
static void expect_damage(size_t at, uint32_t value, int code, const char *text)
{
	struct cache *c;
	struct msg m;
	size_t len;
	uint8_t *buf = small_file(CACHE_LLAMA, DTYPE_F32, TOKENS, &len);
	int r;

	memcpy(buf + at, &value, 4);
	r = parse(buf, len, &c, &m);
	cr_expect_eq(r, code, "byte %zu: %d, '%s'", at, r, m.text);
	cr_expect(strstr(m.text, text), "byte %zu: '%s' lacks '%s'", at, m.text, text);
	free(buf);
}

Test(kvlm_cache, damage_of_a_llama_state_is_named)
{
	size_t layers = 56 + 12 * TOKENS;

	expect_damage(0, 0x6767736e, -EBADMSG, "not a cache file");
	expect_damage(4, 9, -EOPNOTSUPP, "version 9");
	expect_damage(8, 1u << 30, -EBADMSG, "too many tokens");
	expect_damage(48, 2, -EBADMSG, "stream");
	expect_damage(52, 0, -EBADMSG, "no cells");
	expect_damage(52, TOKENS + 1, -EBADMSG, "more cells than tokens");
	expect_damage(56 + 12, 0, -EBADMSG, "positions");
	expect_damage(56 + 12, 100, -EBADMSG, "positions");
	expect_damage(56 + 4, 2, -EBADMSG, "sequence");
	expect_damage(layers, 7, -EBADMSG, "V order");
	expect_damage(layers + 4, 3, -EBADMSG, "byte");
	expect_damage(layers + 8, 8, -EOPNOTSUPP, "type 8");
	expect_damage(layers + 12, 0, -EBADMSG, "row length");
	expect_damage(layers + 12, 5, -EBADMSG, "row length");
}

static void expect_json(const char *json, const char *text)
{
	uint8_t buf[1024];
	struct cache *c;
	struct msg m;
	uint64_t n = strlen(json);
	int r;

	memcpy(buf, &n, 8);
	memcpy(buf + 8, json, n);
	memset(buf + 8 + n, 0, 8);
	r = parse(buf, 8 + n + 8, &c, &m);
	cr_expect_lt(r, 0, "%s", json);
	cr_expect(strstr(m.text, text), "%s: '%s' lacks '%s'", json, m.text, text);
}

#define K "\"layer_0_k\":{\"dtype\":\"F32\",\"shape\":[1,1,1],\"data_offsets\":[0,4]}"
#define V "\"layer_0_v\":{\"dtype\":\"F32\",\"shape\":[1,1,1],\"data_offsets\":[4,8]}"
#define M "\"__metadata__\":{\"tokens\":\"7\"}"

Test(kvlm_cache, damage_of_safetensors_is_named)
{
	uint8_t buf[512];
	struct cache *c;
	struct msg m;
	uint64_t n = strlen("{" K "," V "," M "}");

	memcpy(buf, &n, 8);
	memcpy(buf + 8, "{" K "," V "," M "}", n);
	memset(buf + 8 + n, 0, 8);
	cr_assert_eq(parse(buf, 8 + n + 8, &c, &m), 0, "%s", m.text);
	cache_free(c);
	expect_json("{" K "," V "}", "tokens");
	expect_json("{" K "," M "}", "missing");
	expect_json("{" K "," K "," M "}", "overlap");
	expect_json("{}", "missing");
	expect_json("{" K "," V "," M ",}", "malformed");
	expect_json("{" K "," V "," M "} x", "malformed");
	expect_json("{" K " " V "," M "}", "malformed");
	expect_json("{\"weight\":{}," K "}", "weight");
	expect_json("{\"layer_0_k\":{\"dtype\":\"I64\",\"shape\":[1,1,1],\"data_offsets\":[0,8]}}",
		    "dtype");
	expect_json("{\"layer_0_k\":{\"dtype\":\"F32\",\"shape\":[1,1],\"data_offsets\":[0,4]}}",
		    "shape");
	expect_json("{\"layer_0_k\":{\"dtype\":\"F32\",\"shape\":[9999999999,9,9],\"data_offsets\":"
		    "[0,4]}}",
		    "shape");
	expect_json("{\"layer_7_k\":{\"dtype\":\"F32\",\"shape\":[1,1,1],\"data_offsets\":[0,4]}}",
		    "overlap");
	expect_json("{" K ",\"layer_0_v\":{\"dtype\":\"F32\",\"shape\":[1,1,1],"
		    "\"data_offsets\":[5,9]}," M "}",
		    "overlap");
	expect_json("{" K "," V ",\"__metadata__\":{\"tokens\":\"7 x\"}}", "tokens");
	expect_json("{" K "," V ",\"__metadata__\":{\"tokens\":\"7 8\"}}", "positions");
	expect_json("{" K "," V ",\"__metadata__\":{\"tokens\":[7]}}", "metadata");
}

Test(kvlm_cache, server_packed_token_list_is_read)
{
	int32_t head[] = { -1, 1, TOKENS - 4, 1, 2, 3, 4, 5, 0 };
	struct cache *c;
	struct msg m;
	size_t len;
	uint8_t *buf = small_file(CACHE_LLAMA, DTYPE_F32, 5, &len);

	/* nine words: five tokens in a packed list; cells at 0, 1 and then 6.. */
	memcpy(buf + 12, head, sizeof(head));
	for (int32_t i = 0; i < 5; i++)
		memcpy(buf + 56 + 12 * i, &i, 4);
	cr_assert_eq(parse(buf, len, &c, &m), 0, "%s", m.text);
	cr_assert_eq(c->n_tokens, 5);
	cr_assert_eq(c->tokens[4], 5);
	cache_free(c);
	head[8] = 1;
	memcpy(buf + 12, head, sizeof(head));
	cr_assert_lt(parse(buf, len, &c, &m), 0);
	cr_assert(strstr(m.text, "images"));
	free(buf);
}

Test(kvlm_cache, a_file_that_cannot_be_written_is_reported)
{
	int32_t one = 0;
	struct cache_desc d = { .dtype = DTYPE_F32,
				.n_layer = 1,
				.n_kv_head = 1,
				.head_dim = 1,
				.n_cells = 1,
				.n_tokens = 1,
				.tokens = &one,
				.pos = &one };
	struct cache_writer *w;
	struct cache *c;
	struct msg m;

	cr_assert_eq(cache_writer_open("/nonexistent/x", &d, &w, &m), -ENOENT);
	cr_assert_eq(cache_writer_open("/dev/full", &d, &w, &m), -ENOSPC);
	cr_assert_eq(cache_read("/nonexistent/x", &c, &m), -ENOENT);
	cr_assert_lt(cache_read("/dev/null", &c, &m), 0);
	cr_assert_lt(cache_read("/", &c, &m), 0);
}

Test(kvlm_dtype, narrow_types_survive_and_round_to_nearest)
{
	uint64_t rng = 3;

	for (uint32_t i = 0; i < 65536; i++) {
		uint16_t h = (uint16_t)i;
		float f = f16_to_f32(h), b = bf16_to_f32(h);

		cr_assert(f32_to_f16(f) == h || f != f, "%04x", h);
		cr_assert(f32_to_bf16(b) == h || b != b, "%04x", h);
		cr_assert((f == f) == ((h & 0x7fff) <= 0x7c00));
	}
	for (int i = 0; i < 200000; i++) {
		float x = ldexpf(tiny_uniform(&rng), (int)(tiny_rand(&rng) % 44) - 27);
		uint16_t h = f32_to_f16(x);
		double err = fabs((double)f16_to_f32(h) - x);

		/* no neighbour is nearer */
		cr_assert(fabs(x) > 65504 || err <= fabs((double)f16_to_f32(h + 1) - x));
		cr_assert(fabs(x) > 65504 || (h & 0x7fff) == 0 ||
			  err <= fabs((double)f16_to_f32(h - 1) - x));
	}
	cr_assert_eq(f32_to_f16(65519.9f), 0x7bff);
	cr_assert_eq(f32_to_f16(65520.0f), 0x7c00);
	cr_assert_eq(f32_to_f16(1.0f + 0x1p-11f), 0x3c00);
	cr_assert_eq(f32_to_f16(1.0f + 3 * 0x1p-11f), 0x3c02);
	cr_assert_eq(f32_to_bf16(1.0f + 0x1p-8f), 0x3f80);
	cr_assert_eq(f32_to_bf16(1.0f + 3 * 0x1p-8f), 0x3f82);
}

Test(kvlm_quant, methods_are_parsed_strictly)
{
	const char *bad[] = { "",        "exac",     "exact:2",      "axis",     "axis:0",
			      "axis:9",  "kivi:2+1", "kivi:2+1+2+3", "window:0", "window",
			      "kivi:2x", "axis:-1",  "foo:2" };
	struct quant q;
	struct msg m;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_expect_eq(quant_parse(bad[i], &q, &m), -EINVAL, "%s", bad[i]);
	cr_assert_eq(quant_parse("kivi:2+4+128", &q, &m), 0);
	cr_assert(q.kind == QUANT_KIVI && q.bits == 2 && q.sinks == 4 && q.recent == 128);
	cr_assert_eq(quant_parse("window:100", &q, &m), 0);
	cr_assert(q.kind == QUANT_DROP && q.sinks == 4 && q.recent == 100);
}

Test(kvlm_quant, error_stays_within_half_a_step)
{
	static float x[200 * 64], y[200 * 64];
	uint64_t rng = 8;

	for (unsigned bits = 2; bits <= 8; bits++)
		for (int kind = QUANT_AXIS; kind <= QUANT_KIVI; kind++)
			for (int v = 0; v < 2; v++) {
				struct quant q = { .kind = (enum quant_kind)kind,
						   .bits = bits,
						   .sinks = 3,
						   .recent = 10 };

				for (int i = 0; i < 200 * 64; i++)
					y[i] = x[i] = tiny_uniform(&rng);
				quant_tensor(&q, y, 200, 2, 32, v);
				cr_assert(!memcmp(x, y, 3 * 64 * 4), "sinks stay");
				cr_assert(!memcmp(x + 190 * 64, y + 190 * 64, 10 * 64 * 4));
				for (int i = 0; i < 200 * 64; i++)
					cr_assert_lt(fabsf(x[i] - y[i]),
						     1.01f / (float)((1 << bits) - 1) + 2e-3f);
			}
	/* a constant group has no step */
	for (int i = 0; i < 200 * 64; i++)
		x[i] = 0.5f;
	quant_tensor(&(struct quant){ .kind = QUANT_KIVI, .bits = 2 }, x, 200, 2, 32, true);
	cr_assert_eq(x[77], 0.5f);
}

Test(kvlm_quant, bits_are_counted_whole)
{
	struct quant q;
	struct msg m;

	cr_assert_eq(quant_parse("kivi:2", &q, &m), 0);
	cr_assert_float_eq(quant_bits(&q, 320, 2, 64, 16), 3.0, 1e-9);
	cr_assert_eq(quant_parse("window:60", &q, &m), 0);
	cr_assert_float_eq(quant_bits(&q, 640, 2, 64, 16), 1.6, 1e-9);
	cr_assert_float_eq(quant_bits(&q, 10, 2, 64, 16), 16, 1e-9);
	cr_assert_eq(quant_parse("keydiff:0.25", &q, &m), 0);
	cr_assert_float_eq(quant_bits(&q, 640, 2, 64, 16), 4, 1e-9);
	cr_assert_eq(quant_parse("axis:4", &q, &m), 0);
	/* 4 bits, one range per token for V and per channel for K */
	cr_assert_float_eq(quant_bits(&q, 128, 2, 64, 16), 4 + 32.0 / 128, 1e-9);
}

Test(kvlm_suite, tasks_are_read_and_faults_name_their_line)
{
	const char good[] =
		"# x\nsuite code\ncontext 3 ends 3 1 2 3\nquery 0 -1 1 5\nanswer 2 6 7\n";
	const struct {
		const char *text, *says;
	} bad[] = {
		{ "", "no suite" },
		{ "suite poetry\n", "line 1" },
		{ "suite code\nquery 0 0 1 5\n", "line 2" },
		{ "suite code\ncontext 0 here 1 1\n", "line 2" },
		{ "suite code\ncontext 0 ends 2 1\n", "line 2" },
		{ "suite code\ncontext 0 ends 1 1 1\n", "line 2" },
		{ "suite code\ncontext 0 ends 1 10\n", "line 2" },
		{ "suite code\ncontext 0 ends 1 1\n", "without queries" },
		{ "suite code\ncontext 0 ends 1 1\nquery 0 0 1 1\n", "without" },
		{ "suite code\ncontext 0 ends 1 1\nquery 0 1 1 1\n", "line 3" },
		{ "suite code\ncontext 0 ends 1 1\nanswer 1 1\n", "line 3" },
		{ "suite code\ncontext 0 ends 1 1\nquery 0 0 1 1\nquery 0 0 1 1\n", "line 4" },
		{ "nonsense\n", "line 1" },
	};
	struct suite *s;
	struct msg m;

	cr_assert_eq(suite_parse(good, strlen(good), 10, &s, &m), 0, "%s", m.text);
	cr_assert_eq(s->kind, SUITE_CODE);
	cr_assert_eq(s->contexts[0].ends, true);
	cr_assert_eq(s->contexts[0].queries[0].at, -1);
	cr_assert_eq(s->contexts[0].queries[0].answer[1], 7);
	cr_assert_eq(suite_longest_query(s), 3);
	suite_free(s);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		cr_expect_lt(suite_parse(bad[i].text, strlen(bad[i].text), 10, &s, &m), 0);
		cr_expect(strstr(m.text, bad[i].says), "%s: '%s'", bad[i].text, m.text);
	}
}

Test(kvlm_json, strings_are_decoded_and_printed)
{
	const char text[] =
		"{\"a\\u00e9\\ud83d\\ude00\\n\": [1, 2.5e3, true, {\"x\": null}], \"b\": 7}";
	struct json j = { text, text + strlen(text), false };
	char key[32], out[64] = "";
	bool first = true;
	uint64_t u = 0;
	FILE *f = fmemopen(out, sizeof(out), "w");

	cr_assert(kjson_expect(&j, '{'));
	cr_assert(kjson_next(&j, '}', &first) && kjson_key(&j, key, sizeof(key), NULL));
	cr_assert_str_eq(key, "a\xc3\xa9\xf0\x9f\x98\x80\n");
	cr_assert(kjson_skip(&j));
	cr_assert(kjson_next(&j, '}', &first) && kjson_key(&j, key, sizeof(key), NULL));
	cr_assert(kjson_u64(&j, &u) && u == 7);
	cr_assert(!kjson_next(&j, '}', &first) && !j.failed && !kjson_peek(&j));
	kjson_print_str(f, "q\"\n\xff\xc3\xa9", 6);
	fclose(f);
	cr_assert_str_eq(out, "\"q\\\"\\u000a\\u00ff\xc3\xa9\"");
}

Test(kvlm_json, nesting_is_bounded)
{
	char deep[200];
	struct json j = { deep, deep + sizeof(deep), false };

	memset(deep, '[', sizeof(deep));
	cr_assert(!kjson_skip(&j));
	cr_assert(j.failed);
}
