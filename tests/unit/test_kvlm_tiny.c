/* SPDX-License-Identifier: MIT */
#include "test_kvlm_tiny.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dtype.h"
#include "gguf.h"

uint64_t tiny_rand(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15ull;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

float tiny_uniform(uint64_t *state)
{
	return (float)(tiny_rand(state) >> 40) * 0x1p-23f - 1;
}

struct builder {
	const struct tiny *t;
	FILE *f, *data; /* head and tensor bytes */
	uint32_t keys, tensors;
	uint64_t data_len, rng;
};

static void u32(FILE *f, uint32_t x)
{
	fwrite(&x, 4, 1, f);
}

static void u64(FILE *f, uint64_t x)
{
	fwrite(&x, 8, 1, f);
}

static void str(FILE *f, const char *s)
{
	u64(f, strlen(s));
	fwrite(s, 1, strlen(s), f);
}

static bool key(struct builder *b, const char *name, uint32_t type)
{
	if (b->t->drop_key && !strcmp(name, b->t->drop_key))
		return false;
	str(b->f, name);
	u32(b->f, type);
	b->keys++;
	return true;
}

static void key_u32(struct builder *b, const char *name, uint32_t x)
{
	if (key(b, name, 4))
		u32(b->f, x);
}

static void key_f32(struct builder *b, const char *name, float x)
{
	if (key(b, name, 6))
		fwrite(&x, 4, 1, b->f);
}

static void key_str(struct builder *b, const char *name, const char *s)
{
	if (key(b, name, 8))
		str(b->f, s);
}

static void vocabulary(struct builder *b)
{
	char name[16];

	if (!key(b, "tokenizer.ggml.tokens", 9))
		return;
	u32(b->f, 8);
	u64(b->f, b->t->n_vocab);
	for (uint32_t i = 0; i < b->t->n_vocab; i++) {
		snprintf(name, sizeof(name), i < 256 ? "<0x%02X>" : "<|s%u|>", i);
		str(b->f, i == 256 ? "<|bos|>" : i == ' ' ? "\xe2\x96\x81" : name);
	}
	if (b->t->n_vocab > 256)
		key_u32(b, "tokenizer.ggml.bos_token_id", 256);
}

static void keys(struct builder *b)
{
	const struct tiny *t = b->t;

	key_str(b, "general.architecture", t->arch ? t->arch : "llama");
	key_u32(b, "llama.block_count", t->n_layer);
	key_u32(b, "llama.context_length", t->n_ctx);
	key_u32(b, "llama.embedding_length", t->n_embd);
	key_u32(b, "llama.feed_forward_length", t->n_ff);
	key_u32(b, "llama.attention.head_count", t->n_head);
	key_u32(b, "llama.attention.head_count_kv", t->n_kv_head);
	key_u32(b, "llama.attention.key_length", t->head_dim);
	key_u32(b, "llama.attention.value_length", t->head_dim);
	key_f32(b, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
	key_u32(b, "llama.rope.dimension_count", t->rope_dim);
	key_f32(b, "llama.rope.freq_base", 500.0f);
	if (t->rope_type)
		key_str(b, "llama.rope.scaling.type", t->rope_type);
	if (t->rope_scale != 0)
		key_f32(b, "llama.rope.scaling.factor", t->rope_scale);
	if (t->experts)
		key_u32(b, "llama.expert_count", t->experts);
	vocabulary(b);
}

static void tensor(struct builder *b, const char *name, uint32_t ne0, uint32_t ne1, uint32_t type)
{
	size_t n = (size_t)ne0 * (ne1 ? ne1 : 1), bytes;
	float *x = malloc(n * sizeof(*x));
	enum dtype d = type == GGML_F16 ? DTYPE_F16 : type == GGML_BF16 ? DTYPE_BF16 : DTYPE_F32;

	if (b->t->drop_tensor && !strcmp(name, b->t->drop_tensor)) {
		free(x);
		return;
	}
	for (size_t i = 0; i < n; i++)
		x[i] = ne1 ? tiny_uniform(&b->rng) * 1.5f / sqrtf((float)ne0)
			   : 1 + tiny_uniform(&b->rng) / 4;
	str(b->f, name);
	u32(b->f, ne1 ? 2 : 1);
	u64(b->f, ne0);
	if (ne1)
		u64(b->f, ne1);
	u32(b->f, type);
	u64(b->f, b->data_len);
	b->tensors++;
	bytes = n * dtype_bytes(d);
	dtype_from_f32(d, x, x, n);
	fwrite(x, 1, bytes, b->data);
	for (b->data_len += bytes; b->data_len % 32; b->data_len++)
		fputc(0, b->data);
	free(x);
}

static void layer(struct builder *b, uint32_t i)
{
	const struct tiny *t = b->t;
	uint32_t q = t->n_head * t->head_dim, kv = t->n_kv_head * t->head_dim;
	const struct {
		const char *name;
		uint32_t cols, rows;
	} mats[] = {
		{ "attn_q", t->n_embd, q },         { "attn_k", t->n_embd, kv },
		{ "attn_v", t->n_embd, kv },        { "attn_output", q, t->n_embd },
		{ "ffn_gate", t->n_embd, t->n_ff }, { "ffn_up", t->n_embd, t->n_ff },
		{ "ffn_down", t->n_ff, t->n_embd }, { "attn_norm", t->n_embd, 0 },
		{ "ffn_norm", t->n_embd, 0 },
	};
	char name[64];

	for (size_t k = 0; k < sizeof(mats) / sizeof(mats[0]); k++) {
		snprintf(name, sizeof(name), "blk.%u.%s.weight", i, mats[k].name);
		tensor(b, name, mats[k].cols, mats[k].rows, mats[k].rows ? t->type : GGML_F32);
	}
}

uint8_t *tiny_gguf(const struct tiny *t, size_t *ret_len)
{
	struct builder b = { .t = t, .rng = t->seed };
	char *head = NULL, *data = NULL;
	size_t head_len = 0, data_len = 0, start;
	uint32_t version = t->version ? t->version : 3;
	uint64_t counts[2];
	uint8_t *out;

	b.f = open_memstream(&head, &head_len);
	b.data = open_memstream(&data, &data_len);
	keys(&b);
	tensor(&b, "token_embd.weight", t->n_embd, t->n_vocab, t->type);
	tensor(&b, "output_norm.weight", t->n_embd, 0, GGML_F32);
	if (!t->tied)
		tensor(&b, "output.weight", t->n_embd, t->n_vocab, t->type);
	for (uint32_t i = 0; i < t->n_layer; i++)
		layer(&b, i);
	if (t->add_tensor)
		tensor(&b, t->add_tensor, t->n_embd, 0, GGML_F32);
	fclose(b.f);
	fclose(b.data);
	start = (24 + head_len + 31) / 32 * 32;
	out = calloc(1, start + data_len);
	memcpy(out, "GGUF", 4);
	memcpy(out + 4, &version, 4);
	counts[0] = b.tensors;
	counts[1] = b.keys;
	memcpy(out + 8, counts, 16);
	memcpy(out + 24, head, head_len);
	memcpy(out + start, data, data_len);
	free(head);
	free(data);
	*ret_len = start + data_len;
	return out;
}
