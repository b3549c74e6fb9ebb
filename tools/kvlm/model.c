/* SPDX-License-Identifier: MIT */
/*
 * Reads the shape from the GGUF's keys, looks up every tensor, checks its
 * dimensions and packs it. A tensor that this program does not know (biases,
 * experts, adapters) would change the result, so its presence is an error too.
 */
#include "model.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dtype.h"
#include "kernels.h"

#define MAX_LAYERS 512
#define MAX_WIDTH (1u << 17)

struct loader {
	const struct gguf *g;
	struct model *md;
	size_t used; /* tensors of the file that were wanted */
	struct msg *m;
};

static int out_of_memory(struct loader *l)
{
	return msg_fail(l->m, -ENOMEM, "out of memory for the model");
}

/* An unsigned key within 1..max; @fallback for an absent one, 0: required. */
static int key_u32(struct loader *l, const char *key, uint32_t fallback, uint32_t max,
		   uint32_t *ret)
{
	uint64_t u = fallback;
	int r = 0;

	if (!fallback || gguf_has(l->g, key))
		r = gguf_get_u64(l->g, key, &u, l->m);
	if (r)
		return r;
	if (u < 1 || u > max)
		return msg_fail(l->m, -EOPNOTSUPP, "GGUF: %s = %llu is outside 1..%u", key,
				(unsigned long long)u, max);
	*ret = (uint32_t)u;
	return 0;
}

static int key_f32(struct loader *l, const char *key, float fallback, float *ret)
{
	int r;

	*ret = fallback;
	if (fallback != 0 && !gguf_has(l->g, key))
		return 0;
	r = gguf_get_f32(l->g, key, ret, l->m);
	if (!r && !(isfinite(*ret) && *ret > 0))
		r = msg_fail(l->m, -EOPNOTSUPP, "GGUF: %s is not a positive number", key);
	return r;
}

static int check_arch(struct loader *l)
{
	struct gguf_str s;
	uint64_t experts = 0;
	int r = gguf_get_str(l->g, "general.architecture", &s, l->m);

	if (r)
		return r;
	if (s.len != 5 || memcmp(s.s, "llama", 5))
		return msg_fail(l->m, -EOPNOTSUPP,
				"architecture '%.*s' is not supported (llama is)",
				(int)(s.len < 40 ? s.len : 40), s.s);
	if (gguf_has(l->g, "llama.expert_count") &&
	    !gguf_get_u64(l->g, "llama.expert_count", &experts, NULL) && experts)
		return msg_fail(l->m, -EOPNOTSUPP, "mixture of experts is not supported");
	return 0;
}

static int read_rope(struct loader *l, struct model_shape *s)
{
	struct gguf_str type;
	int r = key_u32(l, "llama.rope.dimension_count", s->head_dim, s->head_dim, &s->rope_dim);

	if (!r)
		r = key_f32(l, "llama.rope.freq_base", 10000.0f, &s->rope_base);
	if (r)
		return r;
	if (s->rope_dim % 2)
		return msg_fail(l->m, -EOPNOTSUPP, "odd rope dimension count %u", s->rope_dim);
	s->rope_scale = 1;
	if (!gguf_has(l->g, "llama.rope.scaling.type"))
		return key_f32(l, "llama.rope.scale_linear", 1.0f, &s->rope_scale);
	r = gguf_get_str(l->g, "llama.rope.scaling.type", &type, l->m);
	if (r || (type.len == 4 && !memcmp(type.s, "none", 4)))
		return r;
	if (type.len != 6 || memcmp(type.s, "linear", 6))
		return msg_fail(l->m, -EOPNOTSUPP, "rope scaling '%.*s' is not supported",
				(int)(type.len < 40 ? type.len : 40), type.s);
	return key_f32(l, "llama.rope.scaling.factor", 0, &s->rope_scale);
}

static int read_heads(struct loader *l, struct model_shape *s)
{
	uint32_t dim_v = 0;
	int r = key_u32(l, "llama.attention.head_count", 0, 4096, &s->n_head);

	if (!r)
		r = key_u32(l, "llama.attention.head_count_kv", s->n_head, 4096, &s->n_kv_head);
	if (r)
		return r;
	if (s->n_head % s->n_kv_head)
		return msg_fail(l->m, -EOPNOTSUPP, "%u heads over %u KV heads", s->n_head,
				s->n_kv_head);
	if (s->n_embd % s->n_head && !gguf_has(l->g, "llama.attention.key_length"))
		return msg_fail(l->m, -EOPNOTSUPP, "width %u over %u heads", s->n_embd, s->n_head);
	r = key_u32(l, "llama.attention.key_length",
		    s->n_embd / s->n_head ? s->n_embd / s->n_head : 1, 1024, &s->head_dim);
	if (!r)
		r = key_u32(l, "llama.attention.value_length", s->head_dim, 1024, &dim_v);
	if (!r && dim_v != s->head_dim)
		return msg_fail(l->m, -EOPNOTSUPP, "key and value lengths differ");
	return r ? r : read_rope(l, s);
}

static int read_shape(struct loader *l)
{
	struct model_shape *s = &l->md->shape;
	const struct gguf_tensor *e = gguf_find_tensor(l->g, "token_embd.weight");
	int r = check_arch(l);

	if (!r)
		r = key_u32(l, "llama.block_count", 0, MAX_LAYERS, &s->n_layer);
	if (!r)
		r = key_u32(l, "llama.embedding_length", 0, MAX_WIDTH, &s->n_embd);
	if (!r)
		r = key_u32(l, "llama.feed_forward_length", 0, MAX_WIDTH * 4, &s->n_ff);
	if (!r)
		r = key_u32(l, "llama.context_length", 0, 1u << 24, &s->n_ctx);
	if (!r)
		r = key_f32(l, "llama.attention.layer_norm_rms_epsilon", 0, &s->norm_eps);
	if (!r)
		r = read_heads(l, s);
	if (r)
		return r;
	if (!e || e->n_dims != 2 || e->ne[1] > 1u << 20)
		return msg_fail(l->m, -EBADMSG, "GGUF: no usable tensor token_embd.weight");
	s->n_vocab = (uint32_t)e->ne[1];
	return 0;
}

/* The tensor so named, of dimensions [ne1][ne0]; one dimension when ne1 is 0. */
static int want_tensor(struct loader *l, const char *name, uint64_t ne0, uint64_t ne1,
		       const struct gguf_tensor **ret)
{
	const struct gguf_tensor *t = gguf_find_tensor(l->g, name);

	if (!t)
		return msg_fail(l->m, -EBADMSG, "GGUF: tensor %s is missing", name);
	if (!t->data)
		return msg_fail(l->m, -EOPNOTSUPP,
				"tensor %s is of type %s (%u); F32, F16 and BF16 are supported",
				name, gguf_type_name(t->type), t->type);
	if (t->n_dims != (ne1 ? 2u : 1u) || t->ne[0] != ne0 || (ne1 && t->ne[1] != ne1))
		return msg_fail(l->m, -EBADMSG, "GGUF: tensor %s has an unexpected shape", name);
	l->used++;
	*ret = t;
	return 0;
}

static enum dtype tensor_dtype(const struct gguf_tensor *t)
{
	return t->type == GGML_F32 ? DTYPE_F32 : t->type == GGML_F16 ? DTYPE_F16 : DTYPE_BF16;
}

/* FNV-1a over 8-byte words: only to tell models apart. */
static uint64_t mix(uint64_t h, const void *data, size_t len)
{
	const uint8_t *p = data;
	uint64_t w;

	for (; len >= 8; len -= 8, p += 8) {
		memcpy(&w, p, 8);
		h = (h ^ w) * 0x100000001b3ull;
		h ^= h >> 29;
	}
	for (; len; len--, p++)
		h = (h ^ *p) * 0x100000001b3ull;
	return h;
}

static int load_flat(struct loader *l, const char *name, uint64_t ne0, uint64_t ne1, float **ret)
{
	const struct gguf_tensor *t = NULL;
	size_t n = (size_t)(ne0 * (ne1 ? ne1 : 1));
	int r = want_tensor(l, name, ne0, ne1, &t);

	if (r)
		return r;
	*ret = malloc(n * sizeof(float));
	if (!*ret)
		return out_of_memory(l);
	dtype_to_f32(tensor_dtype(t), t->data, *ret, n);
	l->md->hash = mix(l->md->hash, *ret, n * sizeof(float));
	return 0;
}

static int pack_rows(struct loader *l, const float *rows, uint32_t n, uint32_t cols,
		     struct packed *ret)
{
	uint32_t panels = (n + PANEL - 1) / PANEL;

	ret->w = calloc((size_t)panels * PANEL, cols * sizeof(float));
	if (!ret->w)
		return out_of_memory(l);
	for (uint32_t r = 0; r < n; r++) {
		float *p = ret->w + (size_t)(r / PANEL) * cols * PANEL + r % PANEL;

		for (uint32_t c = 0; c < cols; c++)
			p[(size_t)c * PANEL] = rows[(size_t)r * cols + c];
	}
	ret->rows = n;
	ret->cols = cols;
	ret->panels = panels;
	return 0;
}

static int load_packed(struct loader *l, const char *name, uint32_t rows, uint32_t cols,
		       struct packed *ret)
{
	float *flat = NULL;
	int r = load_flat(l, name, cols, rows, &flat);

	if (!r)
		r = pack_rows(l, flat, rows, cols, ret);
	free(flat);
	return r;
}

static int load_layer(struct loader *l, uint32_t i)
{
	const struct model_shape *s = &l->md->shape;
	struct model_layer *y = &l->md->layers[i];
	uint32_t q = s->n_head * s->head_dim, kv = s->n_kv_head * s->head_dim, d = s->n_embd;
	const struct {
		const char *name;
		struct packed *dst;
		uint32_t rows, cols;
	} mats[] = {
		{ "attn_q", &y->q, q, d },
		{ "attn_k", &y->k, kv, d },
		{ "attn_v", &y->v, kv, d },
		{ "attn_output", &y->o, d, q },
		{ "ffn_gate", &y->gate, s->n_ff, d },
		{ "ffn_up", &y->up, s->n_ff, d },
		{ "ffn_down", &y->down, d, s->n_ff },
	};
	char name[64];
	int r;

	snprintf(name, sizeof(name), "blk.%u.attn_norm.weight", i);
	r = load_flat(l, name, d, 0, &y->attn_norm);
	snprintf(name, sizeof(name), "blk.%u.ffn_norm.weight", i);
	if (!r)
		r = load_flat(l, name, d, 0, &y->ffn_norm);
	for (size_t k = 0; !r && k < sizeof(mats) / sizeof(mats[0]); k++) {
		snprintf(name, sizeof(name), "blk.%u.%s.weight", i, mats[k].name);
		r = load_packed(l, name, mats[k].rows, mats[k].cols, mats[k].dst);
	}
	return r;
}

/* Angles per position, with the file's frequency factors where it has some. */
static int load_rope(struct loader *l)
{
	const struct model_shape *s = &l->md->shape;
	float *factors = NULL;
	int r = 0;

	if (gguf_find_tensor(l->g, "rope_freqs.weight"))
		r = load_flat(l, "rope_freqs.weight", s->rope_dim / 2, 0, &factors);
	l->md->rope_inv = calloc(s->rope_dim / 2, sizeof(double));
	if (!r && !l->md->rope_inv)
		r = out_of_memory(l);
	for (uint32_t i = 0; !r && i < s->rope_dim / 2; i++)
		l->md->rope_inv[i] = pow(s->rope_base, -2.0 * i / s->rope_dim) /
				     (double)s->rope_scale / (factors ? factors[i] : 1.0f);
	free(factors);
	return r;
}

static int check_all_used(struct loader *l)
{
	static const char *const suffixes[] = {
		"attn_norm.weight", "ffn_norm.weight", "attn_q.weight",
		"attn_k.weight",    "attn_v.weight",   "attn_output.weight",
		"ffn_gate.weight",  "ffn_up.weight",   "ffn_down.weight",
	};

	if (l->used == gguf_tensors(l->g))
		return 0;
	for (size_t i = 0; i < gguf_tensors(l->g); i++) {
		struct gguf_str n = gguf_tensor(l->g, i)->name;
		const char *dot = n.len > 4 && !memcmp(n.s, "blk.", 4)
					  ? memchr(n.s + 4, '.', n.len - 4)
					  : NULL;
		bool known = !dot;

		for (size_t k = 0; dot && k < sizeof(suffixes) / sizeof(suffixes[0]); k++)
			known |= strlen(suffixes[k]) == n.len - (size_t)(dot + 1 - n.s) &&
				 !memcmp(dot + 1, suffixes[k], strlen(suffixes[k]));
		if (!known)
			return msg_fail(l->m, -EOPNOTSUPP, "tensor %.*s is not supported",
					(int)(n.len < 80 ? n.len : 80), n.s);
	}
	return msg_fail(l->m, -EOPNOTSUPP, "the file has %zu tensors, %zu of them unknown",
			gguf_tensors(l->g), gguf_tensors(l->g) - l->used);
}

static int load_all(struct loader *l)
{
	struct model *md = l->md;
	struct model_shape *s = &md->shape;
	int r = read_shape(l);

	if (r)
		return r;
	md->hash = mix(0xcbf29ce484222325ull, s, sizeof(*s));
	md->layers = calloc(s->n_layer, sizeof(*md->layers));
	if (!md->layers)
		return out_of_memory(l);
	r = vocab_init(&md->vocab, l->g, s->n_vocab, l->m);
	if (!r)
		r = load_flat(l, "token_embd.weight", s->n_embd, s->n_vocab, &md->embd);
	if (!r)
		r = load_flat(l, "output_norm.weight", s->n_embd, 0, &md->out_norm);
	if (!r && gguf_find_tensor(l->g, "output.weight"))
		r = load_packed(l, "output.weight", s->n_vocab, s->n_embd, &md->head);
	else if (!r)
		r = pack_rows(l, md->embd, s->n_vocab, s->n_embd, &md->head);
	for (uint32_t i = 0; !r && i < s->n_layer; i++)
		r = load_layer(l, i);
	if (!r)
		r = load_rope(l);
	return r ? r : check_all_used(l);
}

int model_from_gguf(const struct gguf *g, struct model **ret, struct msg *m)
{
	struct model *md = calloc(1, sizeof(*md));
	struct loader l = { g, md, 0, m };
	int r = md ? load_all(&l) : out_of_memory(&l);

	if (r) {
		model_free(md);
		return r;
	}
	*ret = md;
	return 0;
}

int model_load(const char *path, struct model **ret, struct msg *m)
{
	struct gguf *g;
	int r = gguf_open(path, &g, m);

	if (r)
		return r;
	r = model_from_gguf(g, ret, m);
	gguf_close(g);
	return r ? msg_prefix(m, r, path) : 0;
}

void model_free(struct model *md)
{
	if (!md)
		return;
	for (uint32_t i = 0; md->layers && i < md->shape.n_layer; i++) {
		struct model_layer *y = &md->layers[i];

		free(y->attn_norm);
		free(y->ffn_norm);
		free(y->q.w);
		free(y->k.w);
		free(y->v.w);
		free(y->o.w);
		free(y->gate.w);
		free(y->up.w);
		free(y->down.w);
	}
	free(md->layers);
	free(md->embd);
	free(md->out_norm);
	free(md->head.w);
	free(md->rope_inv);
	vocab_fini(&md->vocab);
	free(md);
}
