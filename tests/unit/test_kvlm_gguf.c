/* SPDX-License-Identifier: MIT */
/* The GGUF and model loaders: good files, and every way to be a bad one. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "gguf.h"
#include "model.h"
#include "test_kvlm_tiny.h"

/* A copy with no byte to spare, so that ASan sees the first one too many. */
static int load(const uint8_t *buf, size_t len, struct model **ret, struct msg *m)
{
	uint8_t *exact = calloc(1, len + !len);
	struct gguf *g;
	int r;

	memcpy(exact, buf, len);
	m->text[0] = 0;
	r = gguf_parse(exact, len, &g, m);
	if (!r) {
		r = model_from_gguf(g, ret, m);
		gguf_close(g);
	}
	free(exact);
	return r;
}

static int load_tiny(const struct tiny *t, struct msg *m)
{
	struct model *md;
	size_t len;
	uint8_t *buf = tiny_gguf(t, &len);
	int r = load(buf, len, &md, m);

	if (!r)
		model_free(md);
	free(buf);
	return r;
}

Test(kvlm_gguf, loads_all_supported_types)
{
	const uint32_t types[] = { GGML_F32, GGML_F16, GGML_BF16 };
	struct msg m;

	for (int i = 0; i < 6; i++) {
		struct tiny t = TINY_DEFAULT;

		t.type = types[i / 2];
		t.tied = i % 2;
		t.version = i % 2 ? 2 : 3;
		cr_assert_eq(load_tiny(&t, &m), 0, "%s", m.text);
	}
}

Test(kvlm_gguf, shape_is_what_the_file_says)
{
	struct tiny t = TINY_DEFAULT;
	struct model *md;
	struct msg m;
	size_t len;
	uint8_t *buf = tiny_gguf(&t, &len);

	cr_assert_eq(load(buf, len, &md, &m), 0, "%s", m.text);
	cr_assert_eq(md->shape.n_layer, 2);
	cr_assert_eq(md->shape.n_kv_head, 2);
	cr_assert_eq(md->shape.head_dim, 10);
	cr_assert_eq(md->shape.n_vocab, 301);
	cr_assert_eq(md->vocab.bos, 256);
	cr_assert_eq(md->vocab.byte_id['A'], 'A');
	cr_assert_eq(md->vocab.byte_id[' '], ' ');
	cr_assert_eq(vocab_find(&md->vocab, "<|s300|>"), 300);
	model_free(md);
	free(buf);
}

static void expect(const struct tiny *t, int code, const char *text)
{
	struct msg m;
	int r = load_tiny(t, &m);

	cr_expect_eq(r, code, "code %d for '%s'", r, m.text);
	cr_expect(strstr(m.text, text), "'%s' lacks '%s'", m.text, text);
}

#define EXPECT(field, value, code, text)             \
	do {                                         \
		struct tiny damaged_ = TINY_DEFAULT; \
		damaged_.field = (value);            \
		expect(&damaged_, (code), (text));   \
	} while (0)

Test(kvlm_gguf, unsupported_things_are_named)
{
	EXPECT(arch, "falcon", -EOPNOTSUPP, "falcon");
	EXPECT(experts, 8, -EOPNOTSUPP, "experts");
	EXPECT(rope_type, "yarn", -EOPNOTSUPP, "yarn");
	EXPECT(type, 12, -EOPNOTSUPP, "Q4_K");
	EXPECT(add_tensor, "blk.0.attn_q.bias", -EOPNOTSUPP, "blk.0.attn_q.bias");
	EXPECT(version, 1, -EBADMSG, "version 1");
	EXPECT(rope_dim, 5, -EOPNOTSUPP, "odd rope");
	EXPECT(n_kv_head, 4, -EOPNOTSUPP, "4 KV heads");
}

Test(kvlm_gguf, missing_things_are_named)
{
	EXPECT(drop_key, "llama.block_count", -ENOENT, "llama.block_count");
	EXPECT(drop_key, "general.architecture", -ENOENT, "general.architecture");
	EXPECT(drop_tensor, "blk.1.ffn_up.weight", -EBADMSG, "blk.1.ffn_up.weight");
	EXPECT(drop_tensor, "token_embd.weight", -EBADMSG, "token_embd.weight");
	EXPECT(drop_tensor, "output_norm.weight", -EBADMSG, "output_norm.weight");
}

Test(kvlm_gguf, not_a_gguf)
{
	struct model *md;
	struct msg m;

	cr_assert_lt(load((const uint8_t *)"", 0, &md, &m), 0);
	cr_assert(strstr(m.text, "not a GGUF"));
	cr_assert_lt(load((const uint8_t *)"GGML\0\0\0\0hello", 13, &md, &m), 0);
	cr_assert(strstr(m.text, "not a GGUF"));
	cr_assert_eq(model_load("/nonexistent/x.gguf", &md, &m), -ENOENT);
	cr_assert(strstr(m.text, "/nonexistent/x.gguf"));
	cr_assert_lt(model_load("/dev/null", &md, &m), 0);
}

Test(kvlm_gguf, every_truncation_is_an_error)
{
	struct tiny t = TINY_DEFAULT;
	struct model *md;
	struct msg m;
	size_t len;
	uint8_t *buf;

	t.n_vocab = 5;
	buf = tiny_gguf(&t, &len);
	/* the last tensor's padding is not needed */
	for (size_t n = 0; n + 32 < len; n += n < 1200 ? 1 : 97) {
		int r = load(buf, n, &md, &m);

		cr_assert_lt(r, 0, "%zu of %zu bytes loaded", n, len);
		cr_assert(m.text[0]);
	}
	free(buf);
}

Test(kvlm_gguf, no_changed_byte_crashes)
{
	struct tiny t = TINY_DEFAULT;
	const uint8_t values[] = { 0x00, 0x01, 0x7f, 0x80, 0xff };
	struct model *md;
	struct msg m;
	size_t len;
	uint8_t *buf;

	t.n_vocab = 5;
	t.n_layer = 1;
	buf = tiny_gguf(&t, &len);
	for (size_t i = 0; i < 1600; i++)
		for (size_t v = 0; v < sizeof(values); v++) {
			uint8_t old = buf[i];

			buf[i] = values[v];
			if (!load(buf, len, &md, &m))
				model_free(md);
			buf[i] = old;
		}
	free(buf);
}

Test(kvlm_gguf, text_becomes_tokens_and_back)
{
	struct tiny t = TINY_DEFAULT;
	struct model *md;
	struct msg m;
	size_t len;
	uint8_t *buf = tiny_gguf(&t, &len);
	int32_t ids[16];
	char out[16];

	cr_assert_eq(load(buf, len, &md, &m), 0);
	cr_assert_eq(vocab_encode(&md->vocab, "a <|bos|>\xff<|no|", 15, ids, 16, &m), 9);
	cr_assert_eq(ids[0], 'a');
	cr_assert_eq(ids[1], ' ');
	cr_assert_eq(ids[2], 256);
	cr_assert_eq(ids[3], 255);
	cr_assert_eq(ids[4], '<');
	cr_assert_eq(vocab_encode(&md->vocab, "abc", 3, ids, 2, &m), -ERANGE);
	cr_assert_eq(vocab_parse_ids(&md->vocab, " 1, 2\n300 ", 10, ids, 16, &m), 3);
	cr_assert_eq(ids[2], 300);
	cr_assert_eq(vocab_parse_ids(&md->vocab, "301", 3, ids, 16, &m), -EINVAL);
	cr_assert_eq(vocab_parse_ids(&md->vocab, "1 -2", 4, ids, 16, &m), -EINVAL);
	cr_assert_eq(vocab_parse_ids(&md->vocab, "99999999999999999999", 20, ids, 16, &m), -EINVAL);
	cr_assert_eq(vocab_decode(&md->vocab, ' ', out, 16), 1);
	cr_assert_eq(out[0], ' ');
	cr_assert_eq(vocab_decode(&md->vocab, 256, out, 16), 7);
	model_free(md);
	free(buf);
}
