/* SPDX-License-Identifier: MIT */
/* Files that hold fewer cells: of real writers, and what is refused. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "base/le.h"
#include "base/mem.h"
#include "layout_file.h"
#include "layouts/compact.h"
#include "testlib.h"

static void load(struct lfile *f, const char *name)
{
	char path[500], *s;
	size_t len;

	*f = (struct lfile){ .name = name };
	snprintf(path, sizeof(path), KVFS_GOLDEN_LAYOUTS "/files/%s", name);
	cr_assert_eq(io_read_file(AT_FDCWD, path, 1 << 20, &s, &len), 0, "%s", path);
	lfile_bytes(f, s, len);
	mem_free(s);
}

static struct compact *open_compact(struct lfile *f, struct layout **ret_l)
{
	struct layout_input in = lfile_input(f);
	struct compact *c;
	char why[80];

	*ret_l = lfile_recognise(f);
	cr_assert_eq(compact_open(&in, *ret_l, &c, why, sizeof(why)), 0, "%s: %s", f->name, why);
	return c;
}

static int collect(void *arg, const void *buf, size_t len)
{
	lfile_bytes(arg, buf, len);
	return 0;
}

/* What kvlm's own writer makes of a note: it stands behind the model. */
static void add_note(struct lfile *f, const char *note)
{
	struct lfile g = { .name = f->name };
	char *head = strndup((char *)f->d + 8, (size_t)le64_get(f->d)), *at;
	size_t data = 8 + (size_t)le64_get(f->d), len;

	at = strstr(head, "\"tokens\"");
	cr_assert(at);
	len = strlen(head);
	while (head[len - 1] == ' ')
		head[--len] = '\0';
	len += strlen(note);
	lfile_u64(&g, (len + 7) / 8 * 8);
	lfile_bytes(&g, head, (size_t)(at - head));
	lfile_str(&g, note);
	lfile_str(&g, at);
	lfile_fill(&g, ' ', (8 - len % 8) % 8);
	lfile_bytes(&g, f->d + data, f->n - data);
	free(head);
	lfile_fini(f);
	*f = g;
}

/* kvlm dropped tokens of its own file: ours is the same file, byte for byte. */
Test(layout_compact, same_bytes_as_the_writer_makes)
{
	static const char *const names[][2] = {
		{ "kvlm.llama", "kvlm-thin.llama" },
		{ "kvlm.safetensors", "kvlm-thin.safetensors" },
	};

	for (size_t i = 0; i < 2; i++) {
		struct lfile whole, thin, out = { 0 };
		struct layout *lw, *lt;
		struct compact *cw, *ct;
		uint64_t size;

		load(&whole, names[i][0]);
		load(&thin, names[i][1]);
		cw = open_compact(&whole, &lw);
		ct = open_compact(&thin, &lt);
		cr_assert_eq(compact_cells(cw), 24);
		cr_assert_eq(compact_cells(ct), 10);
		cr_assert_eq(compact_choose(cw, (const uint32_t *)compact_positions(ct), 10, &size),
			     0);
		cr_assert_eq(compact_write(cw, collect, &out), 0);
		cr_expect_eq(out.n, size);
		if (i)
			add_note(&out, "\"note\":\"keydiff:0.4+2+3\",");
		cr_expect_eq(out.n, thin.n, "%s", names[i][1]);
		cr_expect(out.n == thin.n && !memcmp(out.d, thin.d, out.n), "%s", names[i][1]);
		compact_close(cw);
		compact_close(ct);
		layout_destroy(lw);
		layout_destroy(lt);
		lfile_fini(&whole);
		lfile_fini(&thin);
		lfile_fini(&out);
	}
}

/* Rows and columns of the cells that stay are those of the source. */
static void check_values(struct lfile *a, struct lfile *b, uint32_t every)
{
	struct layout *x = lfile_recognise(a), *y = lfile_recognise(b);

	for (uint32_t i = 0; i < x->n_regions; i++) {
		const struct layout_region *r = &x->regions[i], *q = &y->regions[i];
		uint32_t e = elem_bytes(r->elem), rows = (uint32_t)(r->len_bytes / r->row_bytes);

		for (uint32_t t = 0; t < y->tokens; t++) {
			uint32_t from = t * every < x->tokens ? t * every : x->tokens - 1;

			if (!r->transposed)
				cr_assert(!memcmp(a->d + r->off_bytes + from * r->row_bytes,
						  b->d + q->off_bytes + t * q->row_bytes,
						  q->row_bytes));
			for (uint32_t k = 0; r->transposed && k < rows; k++)
				cr_assert(!memcmp(a->d + r->off_bytes + k * r->row_bytes + from * e,
						  b->d + q->off_bytes + k * q->row_bytes + t * e,
						  e));
		}
	}
	layout_destroy(x);
	layout_destroy(y);
}

Test(layout_compact, every_form_keeps_its_rows)
{
	static const char *const names[] = {
		"llama-llama-seq-f16-f16-fa1.bin",
		"llama-llama-seq-f16-f16-fa0.bin",
		"llama-llama-seq-bf16-bf16-fa1.bin",
		"llama-llama-seq-f32-f32-fa1.bin",
		"llama-qwen2vl-seq-f16-f16-fa1.bin",
		"llama-deepseek2-seq-f16-f16-fa1.bin",
		"kvlm.llama",
		"kvlm.safetensors",
		"kvlm-thin.safetensors",
	};
	static const uint32_t every[] = { 1, 2, 3, 7 };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		for (size_t k = 0; k < 4; k++) {
			struct lfile f, out;
			char why[LFILE_WHY];

			load(&f, names[i]);
			cr_assert_eq(lfile_compact(&f, every[k], &out, why), 0, "%s: %s", names[i],
				     why);
			cr_assert(k || (f.n == out.n && !memcmp(f.d, out.d, f.n)), "%s", names[i]);
			check_values(&f, &out, every[k]);
			lfile_fini(&f);
			lfile_fini(&out);
		}
}

Test(layout_compact, what_cannot_lose_tokens_is_refused_with_the_reason)
{
	static const char *const names[][2] = {
		{ "llama-gemma2-seq-f16-f16-fa1.bin", "memory module" },
		{ "llama-lfm2-seq-f16-f16-fa1.bin", "memory module" },
		{ "llama-mamba-seq-f16-f16-fa1.bin", "only llama.cpp" },
		{ "llama-llama-session-f16-f16-fa1.bin", "only llama.cpp" },
		{ "llama-llama_wide-seq-q8_0-q8_0-fa1.bin", "only llama.cpp" },
		{ "llama-llama_wide-seq-q4_0-f16-fa0.bin", "already quantised" },
		{ "omlx.safetensors", "as kvlm does" },
		{ "vllm-example.safetensors", "as kvlm does" },
		{ "weights.safetensors", "no tensor is named" },
		{ "lmcache-2ltd.data", "only llama.cpp" },
		{ "int64.npy", "only llama.cpp" },
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct lfile f, out;
		char why[LFILE_WHY] = "";

		load(&f, names[i][0]);
		cr_expect_eq(lfile_compact(&f, 2, &out, why), -EOPNOTSUPP, "%s", names[i][0]);
		cr_expect(strstr(why, names[i][1]), "%s: '%s'", names[i][0], why);
		lfile_fini(&f);
		lfile_fini(&out);
	}
}

static void refused(const char *json, size_t data, const char *reason)
{
	struct lfile f = { .name = "f" }, out;
	char why[LFILE_WHY] = "";

	lfile_safetensors(&f, json, data);
	cr_expect_eq(lfile_compact(&f, 2, &out, why), -EOPNOTSUPP, "%s", json);
	cr_expect(strstr(why, reason), "%s: '%s'", json, why);
	lfile_fini(&f);
	lfile_fini(&out);
}

#define K "\"layer_0_k\":{\"dtype\":\"F16\",\"shape\":[4,2,2],\"data_offsets\":[0,32]}"
#define V "\"layer_0_v\":{\"dtype\":\"F16\",\"shape\":[4,2,2],\"data_offsets\":[32,64]}"
#define META(m) "{\"__metadata__\":{\"format\":\"kvlm\"," m "}," K "," V "}"

Test(layout_compact, safetensors_with_other_facts_are_refused)
{
	struct lfile f = { .name = "f" }, out;
	char why[LFILE_WHY] = "";

	lfile_safetensors(&f, META("\"tokens\":\"1 2 3 4\""), 64);
	cr_expect_eq(lfile_compact(&f, 2, &out, why), 0, "%s", why);
	lfile_fini(&out);
	lfile_fini(&f);
	refused(META("\"note\":\"none\""), 64, "as kvlm does");
	refused(META("\"tokens\":\"1 2 3\""), 64, "one per cell");
	refused(META("\"tokens\":\"1 2 3 4\",\"positions\":\"0 1 2\""), 64, "one per cell");
	refused(META("\"tokens\":\"1 2 3 4\",\"positions\":\"0 1 2 3 4\""), 64, "one per cell");
	refused(META("\"tokens\":\"1 2 3 4\",\"positions\":\"0 1 2 -3\""), 64, "one per cell");
	refused(META("\"tokens\":\"1 2 3 4\",\"positions\":\"0 1 2 9999999999\""), 64,
		"one per cell");
	refused(META("\"tokens\":\"1\",\"positions\":\"0\",\"positions\":\"1\""), 64,
		"as kvlm does");
	refused("{\"__metadata__\":{\"format\":\"pt\",\"tokens\":\"1 2 3 4\"}," K "," V "}", 64,
		"as kvlm does");
	refused("{" K "," V "}", 64, "as kvlm does");
	refused("{\"__metadata__\":{\"format\":\"kvlm\",\"tokens\":\"1 2 3 4\"}," K
		",\"pos\":{\"dtype\":\"I32\",\"shape\":[8],\"data_offsets\":[32,64]}}",
		64, "not K and V");
}

static void expect_ranges(const int32_t *pos, uint32_t n, const char *want)
{
	struct sbuf b = SBUF_INIT;

	compact_ranges(pos, n, &b);
	cr_expect_str_eq(b.s ? b.s : "", want);
	sbuf_fini(&b);
}

Test(layout_compact, positions_are_told_as_ranges)
{
	const int32_t pos[] = { 0, 1, 2, 3, 128, 200, 201 }, other[] = { 9, 7, 8, 8, INT32_MAX, 0 };

	expect_ranges(pos, 7, "0-3,128,200-201");
	expect_ranges(pos, 1, "0");
	expect_ranges(pos, 0, "");
	expect_ranges(other, 6, "0,7-9,2147483647");
}

Test(layout_compact, keys_are_those_of_all_layers)
{
	struct compact_keys k;
	struct layout *l;
	struct compact *c;
	struct lfile f;
	uint32_t n = 0;

	load(&f, "llama-llama-seq-f16-f16-fa0.bin");
	c = open_compact(&f, &l);
	for (; compact_keys(c, n, &k); n++) {
		cr_expect_eq(k.off_bytes, l->regions[n].off_bytes);
		cr_expect(k.row_bytes == 64 && !k.head_bytes && k.elem == ELEM_F16);
	}
	cr_expect_eq(n, l->layers);
	compact_close(c);
	layout_destroy(l);
	lfile_fini(&f);
}

static int fail_write(void *arg, const void *buf, size_t len)
{
	return (*(int *)arg)-- ? 0 : -ENOSPC;
}

Test(layout_compact, failures_of_reading_and_writing_come_through)
{
	const uint32_t kept[] = { 0, 5, 23 };
	struct compact *c;
	struct layout *l;
	struct lfile f;
	uint64_t size;
	int left = 3;

	load(&f, "kvlm.safetensors");
	c = open_compact(&f, &l);
	cr_assert_eq(compact_choose(c, kept, 3, &size), 0);
	cr_expect_eq(compact_write(c, fail_write, &left), -ENOSPC);
	f.fail_at = l->regions[2].off_bytes;
	left = 1000;
	cr_expect_eq(compact_write(c, fail_write, &left), -EIO);
	/* a plan can be made again; fewer cells than heads would not be recognised */
	cr_expect_eq(compact_choose(c, kept, 2, &size), 0);
	cr_expect_eq(compact_choose(c, kept, 1, &size), -EOPNOTSUPP);
	compact_close(c);
	layout_destroy(l);
	lfile_fini(&f);
}

static int out_of_memory(void *arg)
{
	const uint32_t kept[] = { 0, 5, 23 };
	struct lfile *f = arg, out = { 0 };
	struct layout_input in = lfile_input(f);
	struct compact *c = NULL;
	struct layout *l;
	char why[LFILE_WHY];
	uint64_t size;
	int err = layout_recognise(&in, &l);

	if (err)
		return err;
	err = compact_open(&in, l, &c, why, sizeof(why));
	if (!err)
		err = compact_choose(c, kept, 3, &size);
	if (!err)
		err = compact_write(c, collect, &out);
	if (!err)
		cr_assert_eq(out.n, size);
	if (c)
		compact_close(c);
	layout_destroy(l);
	lfile_fini(&out);
	return err;
}

Test(layout_compact, every_failed_allocation_is_reported)
{
	static const char *const names[] = { "kvlm.safetensors", "kvlm.llama" };
	struct lfile f;

	for (size_t i = 0; i < 2; i++) {
		int n;

		load(&f, names[i]);
		n = test_fault_loop(FAULT_ALLOC, out_of_memory, &f);
		lfile_fini(&f);
		if (n < 0)
			cr_skip_test("this build has no fault injection");
		cr_expect_geq(n, 8, "%s: %d", names[i], n);
	}
}
