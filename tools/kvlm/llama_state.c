/* SPDX-License-Identifier: MIT */
/*
 * llama.cpp's sequence state, version 3, little-endian and unaligned:
 *
 *   u32 magic "qsgg", u32 3, u32 n_token, i32 token[n_token]
 *   u32 n_stream (1), u32 cells; per cell i32 pos, u32 1, i32 sequence
 *   u32 v_trans, u32 n_layer
 *   per layer K: i32 type, u64 row bytes, cells rows
 *   per layer V: the same; when transposed i32 type, u32 element bytes,
 *                u32 row elements, then [row][cells]
 *
 * A server packs the token list as {-1, 1, n, n tokens, 0}.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cache_internal.h"

#define STATE_MAGIC 0x67677371u
#define STATE_VERSION 3u
#define CELL_BYTES 12u
#define TENSOR_HEAD 12u

enum { STATE_F32 = 0, STATE_F16 = 1, STATE_BF16 = 30 };

struct cursor {
	const uint8_t *buf;
	size_t at, len;
	struct msg *m;
};

static int bad(struct cursor *c, const char *what)
{
	return msg_fail(c->m, -EBADMSG, "llama.cpp state: %s at byte %zu", what, c->at);
}

static int take(struct cursor *c, uint64_t n, const uint8_t **ret)
{
	if (n > c->len - c->at)
		return bad(c, "file ends too early");
	*ret = c->buf + c->at;
	c->at += (size_t)n;
	return 0;
}

static int take_u32(struct cursor *c, uint32_t *ret)
{
	const uint8_t *p = NULL;
	int r = take(c, 4, &p);

	if (!r)
		memcpy(ret, p, 4);
	return r;
}

static int state_dtype(struct cursor *c, uint32_t type)
{
	if (type == STATE_F32)
		return DTYPE_F32;
	if (type == STATE_F16)
		return DTYPE_F16;
	if (type == STATE_BF16)
		return DTYPE_BF16;
	return msg_fail(c->m, -EOPNOTSUPP,
			"llama.cpp state: elements of ggml type %u are not supported "
			"(f32, f16 and bf16 are)",
			type);
}

/* The token list, packed or plain: where it starts, how many there are. */
static int take_tokens(struct cursor *c, const uint8_t **ret, uint32_t *ret_n)
{
	uint32_t n = 0, head[3], media;
	const uint8_t *p = NULL;
	int r = take_u32(c, &n);

	if (!r && n > CACHE_MAX_TOKENS)
		r = bad(c, "too many tokens");
	if (!r)
		r = take(c, (uint64_t)n * 4, &p);
	if (r)
		return r;
	if (n >= 4) {
		memcpy(head, p, sizeof(head));
		if (head[0] == UINT32_MAX) {
			if (head[1] != 1 || head[2] != n - 4)
				return bad(c, "packed token list of an unknown form");
			memcpy(&media, p + (size_t)(n - 1) * 4, 4);
			if (media)
				return bad(c, "images among the tokens");
			p += 12;
			n -= 4;
		}
	}
	*ret = p;
	*ret_n = n;
	return 0;
}

static int take_cells(struct cursor *c, struct cache *f)
{
	const uint8_t *p = NULL;
	int r = take(c, (uint64_t)f->n_cells * CELL_BYTES, &p);

	for (uint32_t i = 0; !r && i < f->n_cells; i++) {
		uint32_t seqs;

		memcpy(&f->pos[i], p + (size_t)i * CELL_BYTES, 4);
		memcpy(&seqs, p + (size_t)i * CELL_BYTES + 4, 4);
		if (seqs != 1)
			r = bad(c, "a cell that belongs to more than one sequence");
	}
	return r;
}

/* The small head before a tensor of rows; sets or compares type and row length. */
static int take_tensor(struct cursor *c, struct cache *f, bool first, const uint8_t **ret)
{
	uint32_t type = 0;
	uint64_t row = 0;
	const uint8_t *p = NULL;
	int r = take_u32(c, &type), t;

	if (!r)
		r = take(c, 8, &p);
	if (r)
		return r;
	memcpy(&row, p, 8);
	t = state_dtype(c, type);
	if (t < 0)
		return t;
	if (first) {
		f->dtype = (enum dtype)t;
		if (!row || row > 1u << 24 || row % dtype_bytes(f->dtype))
			return bad(c, "impossible row length");
		f->row = (uint32_t)(row / dtype_bytes(f->dtype));
	}
	if ((enum dtype)t != f->dtype || row != (uint64_t)f->row * dtype_bytes(f->dtype))
		return bad(c, "layers of different types or widths");
	return take(c, row * f->n_cells, ret);
}

static int take_transposed(struct cursor *c, struct cache *f, const uint8_t **ret)
{
	uint32_t type = 0, elem = 0, row = 0;
	int r = take_u32(c, &type), t;

	if (!r)
		r = take_u32(c, &elem);
	if (!r)
		r = take_u32(c, &row);
	if (r)
		return r;
	t = state_dtype(c, type);
	if (t < 0)
		return t;
	if ((enum dtype)t != f->dtype || elem != dtype_bytes(f->dtype) || row != f->row)
		return bad(c, "V of another type or width than K");
	return take(c, (uint64_t)row * elem * f->n_cells, ret);
}

static int take_layers(struct cursor *c, struct cache *f)
{
	int r = 0;

	for (uint32_t i = 0; !r && i < f->n_layer; i++)
		r = take_tensor(c, f, i == 0, &f->k[i]);
	for (uint32_t i = 0; !r && i < f->n_layer; i++)
		r = f->v_trans ? take_transposed(c, f, &f->v[i])
			       : take_tensor(c, f, false, &f->v[i]);
	if (!r && c->at != c->len)
		r = bad(c, "bytes beyond the end of the state");
	return r;
}

static int parse_state(struct cursor *c, struct cache *f)
{
	const uint8_t *tokens = NULL;
	uint32_t streams = 0, trans = 0;
	size_t cells_at;
	int r = take_tokens(c, &tokens, &f->n_tokens);

	if (!r)
		r = take_u32(c, &streams);
	if (!r && streams != 1)
		r = bad(c, "more or less than one stream");
	if (!r)
		r = take_u32(c, &f->n_cells);
	if (r)
		return r;
	if (!f->n_cells || f->n_cells > f->n_tokens)
		return bad(c, "no cells, or more cells than tokens");
	cells_at = c->at;
	if ((uint64_t)f->n_cells * CELL_BYTES > c->len - c->at)
		return bad(c, "file ends too early");
	c->at += (size_t)f->n_cells * CELL_BYTES;
	r = take_u32(c, &trans);
	if (!r)
		r = take_u32(c, &f->n_layer);
	if (!r && (trans > 1 || !f->n_layer || f->n_layer > (c->len - c->at) / TENSOR_HEAD))
		r = bad(c, "impossible layer count or V order");
	if (!r)
		r = cache_alloc(f, c->m);
	if (r)
		return r;
	f->v_trans = trans;
	memcpy(f->tokens, tokens, (size_t)f->n_tokens * 4);
	struct cursor cells = { c->buf, cells_at, c->len, c->m };
	r = take_cells(&cells, f);
	if (!r)
		r = cache_check_pos(f, c->m);
	return r ? r : take_layers(c, f);
}

int llama_state_parse(const uint8_t *buf, size_t len, struct cache *f, struct msg *m)
{
	struct cursor c = { buf, 0, len, m };
	uint32_t magic = 0, version = 0;
	int r = take_u32(&c, &magic);

	if (!r)
		r = take_u32(&c, &version);
	if (r)
		return r;
	if (magic != STATE_MAGIC)
		return bad(&c, "bad magic");
	if (version != STATE_VERSION)
		return msg_fail(m, -EOPNOTSUPP, "llama.cpp state of version %u (3 is supported)",
				version);
	return parse_state(&c, f);
}

static void put_u32(uint8_t **p, uint32_t x)
{
	memcpy(*p, &x, 4);
	*p += 4;
}

int llama_state_plan(const struct cache_desc *d, struct cache_plan *p, struct msg *m)
{
	uint64_t tensor = (uint64_t)d->n_cells * d->n_kv_head * d->head_dim * dtype_bytes(d->dtype);
	uint8_t *w;

	p->head_len = 12 + (size_t)d->n_tokens * 4 + 8 + (size_t)d->n_cells * CELL_BYTES + 8;
	p->head = w = malloc(p->head_len);
	if (!w)
		return msg_fail(m, -ENOMEM, "out of memory");
	put_u32(&w, STATE_MAGIC);
	put_u32(&w, STATE_VERSION);
	put_u32(&w, d->n_tokens);
	memcpy(w, d->tokens, (size_t)d->n_tokens * 4);
	w += (size_t)d->n_tokens * 4;
	put_u32(&w, 1);
	put_u32(&w, d->n_cells);
	for (uint32_t i = 0; i < d->n_cells; i++) {
		put_u32(&w, (uint32_t)d->pos[i]);
		put_u32(&w, 1);
		put_u32(&w, 0);
	}
	put_u32(&w, 0);
	put_u32(&w, d->n_layer);
	p->tensor_head = TENSOR_HEAD;
	p->k_stride = p->v_stride = TENSOR_HEAD + tensor;
	p->k0 = p->head_len + TENSOR_HEAD;
	p->v0 = p->k0 + p->k_stride * d->n_layer;
	p->total = p->head_len + 2 * p->k_stride * d->n_layer;
	return 0;
}

void llama_state_tensor_head(const struct cache_desc *d, uint8_t *out)
{
	uint64_t row = (uint64_t)d->n_kv_head * d->head_dim * dtype_bytes(d->dtype);

	put_u32(&out, d->dtype == DTYPE_F32   ? STATE_F32
		      : d->dtype == DTYPE_F16 ? STATE_F16
					      : STATE_BF16);
	memcpy(out, &row, 8);
}
