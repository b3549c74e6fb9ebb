/* SPDX-License-Identifier: MIT */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "layout_file.h"

#define SEQ 0x67677371u
#define SESSION 0x6767736eu

struct model {
	uint32_t cells, layers, row; /* elements */
	uint32_t type_k, type_v;     /* ggml */
	bool ext, trans, no_v, no_stream;
	uint32_t n_seq; /* ids per cell */
};
static const struct model small = {
	.cells = 50, .layers = 3, .row = 128, .type_k = 1, .type_v = 1, .n_seq = 1
};

static uint64_t row_bytes(uint32_t type, uint32_t elems)
{
	return type == 0 ? 4ull * elems : type == 8 ? 34ull * elems / 32 : 2ull * elems;
}

static void tensor(struct lfile *f, uint32_t type, uint32_t row, uint32_t cells, uint32_t seed)
{
	lfile_u32(f, type);
	lfile_u64(f, row_bytes(type, row));
	lfile_noise(f, row_bytes(type, row) * cells, seed);
}

static void module(struct lfile *f, const struct model *m)
{
	if (!m->no_stream)
		lfile_u32(f, 1);
	lfile_u32(f, m->cells);
	for (uint32_t i = 0; i < m->cells; i++) {
		lfile_u32(f, i);
		lfile_u32(f, m->n_seq);
		if (m->ext)
			lfile_noise(f, 12, i);
		for (uint32_t s = 0; s < m->n_seq; s++)
			lfile_u32(f, s);
	}
	lfile_u32(f, m->trans);
	lfile_u32(f, m->layers);
	for (uint32_t i = 0; i < m->layers; i++)
		tensor(f, m->type_k, m->row, m->cells, i);
	for (uint32_t i = 0; i < m->layers && !m->no_v; i++) {
		if (!m->trans) {
			tensor(f, m->type_v, m->row, m->cells, 100 + i);
			continue;
		}
		lfile_u32(f, m->type_v);
		lfile_u32(f, m->type_v ? 2 : 4);
		lfile_u32(f, m->row);
		lfile_noise(f, (m->type_v ? 2ull : 4ull) * m->row * m->cells, i);
	}
}

static void recurrent(struct lfile *f, uint32_t layers)
{
	lfile_u32(f, 1);
	lfile_u32(f, 49);
	lfile_u32(f, 0);
	lfile_u32(f, 0);
	lfile_u32(f, layers);
	for (uint32_t i = 0; i < layers; i++) {
		lfile_u32(f, 0);
		lfile_u64(f, 1024);
		lfile_floats(f, ELEM_F32, 256, i);
	}
}

static void head(struct lfile *f, uint32_t magic, uint32_t version, uint32_t tokens)
{
	lfile_u32(f, magic);
	lfile_u32(f, version);
	lfile_u32(f, tokens);
	for (uint32_t i = 0; i < tokens; i++)
		lfile_u32(f, i);
}

static void expect(struct lfile *f, const char *dump)
{
	char *s = lfile_dump(f);

	cr_expect_str_eq(s, dump);
	free(s);
	lfile_fini(f);
}

Test(layout_llama, plain_sequence_file_and_its_regions)
{
	struct lfile f = { 0 };
	struct layout *l;

	head(&f, SEQ, 3, 54);
	module(&f, &small);
	l = lfile_recognise(&f);
	cr_assert_str_eq(l->name, "llama-seq");
	cr_assert_eq(l->n_regions, 6);
	cr_assert_not(l->lossy_veto);
	/* magic..tokens, n_stream, cells, meta, v_trans, n_layer, type, row */
	cr_assert_eq(l->regions[0].off_bytes, 12 + 4 * 54 + 8 + 12 * 50 + 8 + 12);
	cr_assert_eq(l->regions[0].kind, REGION_K);
	cr_assert_eq(l->regions[0].row_bytes, 256);
	cr_assert_eq(l->regions[0].len_bytes, 256 * 50);
	cr_assert_eq(l->regions[4].kind, REGION_V);
	cr_assert_eq(l->regions[4].layer, 1);
	cr_assert_eq(l->regions[5].off_bytes + l->regions[5].len_bytes, f.n);
	layout_destroy(l);
	expect(&f, "llama-seq layers=3 row=128 dtype=f16 tokens=50");
}

Test(layout_llama, every_form_of_cells_streams_and_v)
{
	for (unsigned i = 0; i < 16; i++) {
		struct lfile f = { 0 };
		struct model m = small;

		m.ext = i & 1;
		m.trans = i & 2;
		m.no_stream = i & 4;
		m.n_seq = i & 8 ? 0 : 1;
		head(&f, SEQ, i & 4 ? 2 : 3, i);
		module(&f, &m);
		expect(&f, "llama-seq layers=3 row=128 dtype=f16 tokens=50");
	}
}

Test(layout_llama, transposed_v_has_channels_as_rows)
{
	struct lfile f = { 0 };
	struct model m = small;
	struct layout *l;

	m.trans = true;
	head(&f, SEQ, 3, 1);
	module(&f, &m);
	l = lfile_recognise(&f);
	cr_assert_eq(l->regions[3].transposed, 1);
	cr_assert_eq(l->regions[3].row_bytes, 2 * 50);
	cr_assert_eq(l->regions[3].len_bytes, 2 * 50 * 128);
	layout_destroy(l);
	lfile_fini(&f);
}

Test(layout_llama, latent_attention_has_no_v)
{
	struct lfile f = { 0 };
	struct model m = small;
	struct layout *l;

	m.no_v = true;
	head(&f, SEQ, 3, 1);
	module(&f, &m);
	l = lfile_recognise(&f);
	cr_assert_eq(l->n_regions, 3);
	cr_assert_eq(l->regions[0].kind, REGION_KV);
	layout_destroy(l);
	lfile_fini(&f);
}

Test(layout_llama, element_types)
{
	static const struct {
		uint32_t type;
		const char *dump;
	} t[] = {
		{ 0, "llama-seq layers=3 row=128 dtype=f32 tokens=50" },
		{ 30, "llama-seq layers=3 row=128 dtype=bf16 tokens=50" },
		{ 8, "llama-seq layers=3 tokens=50 veto=\"already quantised: rows are q8_0\"" },
	};

	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		struct lfile f = { 0 };
		struct model m = small;

		m.type_k = m.type_v = t[i].type;
		head(&f, SEQ, 3, 5);
		module(&f, &m);
		expect(&f, t[i].dump);
	}
}

Test(layout_llama, quantised_k_beside_f16_v_is_exact_and_has_v_regions)
{
	struct lfile f = { 0 };
	struct model m = small;
	struct layout *l;

	m.type_k = 8;
	head(&f, SEQ, 3, 5);
	module(&f, &m);
	l = lfile_recognise(&f);
	cr_assert_eq(l->n_regions, 3);
	cr_assert_eq(l->regions[0].kind, REGION_V);
	cr_assert(l->lossy_veto);
	layout_destroy(l);
	lfile_fini(&f);
}

Test(layout_llama, session_puts_elements_at_odd_offsets)
{
	struct lfile f = { 0 };
	struct layout *l;

	head(&f, SESSION, 10, 7);
	lfile_u32(&f, 5);
	lfile_str(&f, "llama");
	module(&f, &small);
	l = lfile_recognise(&f);
	cr_assert_eq(l->n_regions, 6);
	cr_assert_eq(l->regions[0].off_bytes % 2, 1);
	layout_destroy(l);
	expect(&f, "llama-session layers=3 row=128 dtype=f16 tokens=50");
}

Test(layout_llama, session_of_version_9_has_outputs_and_logits)
{
	struct lfile f = { 0 };
	struct model m = small;

	m.no_stream = true;
	head(&f, SESSION, 9, 7);
	lfile_u32(&f, 5);
	lfile_str(&f, "qwen2");
	lfile_u32(&f, 2);
	lfile_u64(&f, 0x100000000);
	lfile_u64(&f, 300);
	lfile_noise(&f, 1200, 3);
	lfile_u64(&f, 0);
	module(&f, &m);
	expect(&f, "llama-session layers=3 row=128 dtype=f16 tokens=50");
}

Test(layout_llama, sliding_window_and_hybrid_models_have_several_modules)
{
	struct lfile f = { 0 };
	struct model swa = small;

	swa.cells = 20;
	swa.layers = 2;
	head(&f, SEQ, 3, 7);
	module(&f, &small);
	module(&f, &swa);
	expect(&f, "llama-seq layers=5 row=128 dtype=f16 tokens=50");

	head(&f, SEQ, 3, 7);
	module(&f, &small);
	recurrent(&f, 4);
	expect(&f, "llama-seq layers=3 row=128 dtype=f16 tokens=50");
}

/* Mamba and RWKV: nothing but state, in files of any version. */
Test(layout_llama, pure_recurrent_models_are_never_lossy)
{
	for (uint32_t version = 2; version <= 3; version++) {
		struct lfile f = { 0 };
		struct layout *l;

		head(&f, SEQ, version, 7);
		lfile_u32(&f, 1);
		lfile_u32(&f, 49);
		lfile_u32(&f, 0);
		lfile_u32(&f, 0);
		lfile_u32(&f, 4);
		for (uint32_t i = 0; i < 8; i++) {
			lfile_u32(&f, 0);
			lfile_u64(&f, i < 4 ? 1024 : 4096);
			lfile_floats(&f, ELEM_F32, i < 4 ? 256 : 1024, i);
		}
		l = lfile_recognise(&f);
		cr_expect_str_eq(l->name, "llama-seq");
		cr_expect(l->lossy_veto);
		layout_destroy(l);
		lfile_fini(&f);
	}
}

Test(layout_llama, several_streams_and_empty_ones)
{
	struct lfile f = { 0 };
	struct model m = small;

	m.no_stream = true;
	head(&f, SESSION, 10, 0);
	lfile_u32(&f, 5);
	lfile_str(&f, "llama");
	lfile_u32(&f, 3);
	module(&f, &m);
	lfile_u32(&f, 0);
	m.cells = 9;
	module(&f, &m);
	expect(&f, "llama-session layers=3 row=128 dtype=f16 tokens=50");
}

Test(layout_llama, a_byte_more_or_less_is_not_recognised)
{
	struct lfile f = { 0 };
	char *s;

	head(&f, SEQ, 3, 5);
	module(&f, &small);
	for (size_t n = 0; n <= f.n + 1; n += n < 2000 || n > f.n - 2000 ? 1 : 257) {
		struct lfile cut = { .d = f.d, .n = n < f.n ? n : f.n, .size = n };

		if (n == f.n)
			continue;
		s = lfile_dump(&cut);
		cr_assert_str_eq(s, "opaque", "%zu of %zu bytes", n, f.n);
		free(s);
	}
	lfile_fini(&f);
}

Test(layout_llama, other_versions_and_magics_are_opaque)
{
	static const uint32_t bad[][2] = {
		{ SEQ, 1 }, { SEQ, 4 }, { SESSION, 8 }, { SESSION, 11 }, { 0x67676d6c, 3 }
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct lfile f = { 0 };

		head(&f, bad[i][0], bad[i][1], 5);
		module(&f, &small);
		expect(&f, "opaque");
	}
}

/* Overwrites each u32 of the header part in turn by extreme values. */
Test(layout_llama, extreme_numbers_anywhere_are_bounded)
{
	static const uint32_t evil[] = { 0, 1, 0x7fffffff, 0x80000000, 0xffffffff, 0x01000000 };
	struct lfile f = { 0 };

	head(&f, SEQ, 3, 2);
	module(&f, &small);
	for (size_t at = 8; at + 4 <= 12 + 8 + 8 + 12 * 50 + 8 + 12; at += 4) {
		for (size_t e = 0; e < sizeof(evil) / sizeof(evil[0]); e++) {
			struct lfile g = { 0 };

			lfile_bytes(&g, f.d, f.n);
			memcpy(g.d + at, &evil[e], 4);
			layout_destroy(lfile_recognise(&g));
			cr_assert_lt(g.read_bytes, 16u << 20);
			lfile_fini(&g);
		}
	}
	lfile_fini(&f);
}

Test(layout_llama, a_sparse_file_that_claims_sixteen_million_cells_reads_little)
{
	struct lfile f = { .size = 1ull << 62 };
	struct layout *l;

	lfile_u32(&f, SEQ);
	lfile_u32(&f, 3);
	lfile_u32(&f, 0);
	lfile_u32(&f, 1);
	lfile_u32(&f, 16u << 20);
	l = lfile_recognise(&f);
	cr_assert_str_eq(l->name, "opaque");
	cr_assert_leq(f.read_bytes, 300u << 20);
	layout_destroy(l);
	lfile_fini(&f);
}

Test(layout_llama, a_read_error_is_passed_on)
{
	struct lfile f = { .fail_at = 300 };
	struct layout_input in;
	struct layout *l;

	head(&f, SEQ, 3, 2);
	module(&f, &small);
	in = lfile_input(&f);
	cr_assert_eq(layout_recognise(&in, &l), -EIO);
	lfile_fini(&f);
}
