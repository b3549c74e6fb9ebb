/* SPDX-License-Identifier: MIT */
/*
 * u64 header length, a JSON object, then the tensors' bytes. The header has
 * "__metadata__" (strings) and per tensor dtype, shape and data_offsets.
 *
 *   layer_<i>_k, layer_<i>_v: [cells, heads, dim], all of one type and shape
 *   metadata: format "kvlm", tokens "256 262 72 ...", positions (only when
 *   tokens were dropped), model (hexadecimal), note
 *
 * The data is cut into as many equal pieces as there are tensors; each tensor
 * must own exactly one, so that every byte belongs to one tensor.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache_internal.h"
#include "json.h"

#define MAX_HEADER (256u << 20)
#define MAX_NAME 64

static const char *const st_dtypes[DTYPES_] = { "F32", "F16", "BF16" };

struct header {
	struct json j;
	struct cache *c;
	struct msg *m;
	const uint8_t *data;
	uint64_t data_len, tensor_len; /* tensor_len 0 until the first tensor */
	uint64_t shape[3];
	uint32_t seen;                  /* tensors */
	bool *slots;                    /* owned; pieces of the data that have a tensor */
	const char *tokens, *positions; /* raw text in the header, or NULL */
	size_t tokens_len, positions_len;
};

static int bad(struct msg *m, const char *what)
{
	return msg_fail(m, -EBADMSG, "safetensors: %s", what);
}

static int parse_metadata(struct header *h)
{
	char key[MAX_NAME], value[32];
	bool first = true;

	if (!kjson_expect(&h->j, '{'))
		return bad(h->m, "malformed metadata");
	while (kjson_next(&h->j, '}', &first)) {
		if (!kjson_key(&h->j, key, sizeof(key), NULL))
			break;
		if (!strcmp(key, "tokens")) {
			kjson_raw_string(&h->j, &h->tokens, &h->tokens_len);
		} else if (!strcmp(key, "positions")) {
			kjson_raw_string(&h->j, &h->positions, &h->positions_len);
		} else if (!strcmp(key, "model")) {
			if (kjson_string(&h->j, value, sizeof(value), NULL))
				h->c->model = strtoull(value, NULL, 16);
		} else {
			kjson_string(&h->j, NULL, 0, NULL);
		}
	}
	return h->j.failed ? bad(h->m, "malformed metadata") : 0;
}

static bool parse_numbers(struct json *j, uint64_t *out, size_t n)
{
	bool first = true;
	size_t i = 0;

	if (!kjson_expect(j, '['))
		return false;
	while (kjson_next(j, ']', &first)) {
		if (i == n || !kjson_u64(j, &out[i]))
			return false;
		i++;
	}
	return !j->failed && i == n;
}

struct tensor {
	uint32_t layer;
	bool v;
	int dtype;
	uint64_t shape[3], range[2];
};

static int parse_name(const char *name, struct tensor *t, struct msg *m)
{
	unsigned layer;
	char kind, end;

	if (sscanf(name, "layer_%5u_%c%c", &layer, &kind, &end) != 2 ||
	    (kind != 'k' && kind != 'v') || layer >= CACHE_MAX_LAYERS)
		return msg_fail(m, -EBADMSG, "safetensors: tensor '%.40s' is not layer_<i>_k or _v",
				name);
	t->layer = layer;
	t->v = kind == 'v';
	return 0;
}

static int parse_tensor_object(struct header *h, struct tensor *t)
{
	char key[MAX_NAME], text[16];
	bool first = true;
	unsigned have = 0;

	t->dtype = -1;
	if (!kjson_expect(&h->j, '{'))
		return bad(h->m, "malformed tensor");
	while (kjson_next(&h->j, '}', &first)) {
		if (!kjson_key(&h->j, key, sizeof(key), NULL))
			break;
		if (!strcmp(key, "dtype")) {
			if (!kjson_string(&h->j, text, sizeof(text), NULL))
				break;
			for (int i = 0; i < DTYPES_; i++)
				if (!strcmp(text, st_dtypes[i]))
					t->dtype = i;
			have |= 1;
		} else if (!strcmp(key, "shape")) {
			have |= parse_numbers(&h->j, t->shape, 3) ? 2u : 8u;
		} else if (!strcmp(key, "data_offsets")) {
			have |= parse_numbers(&h->j, t->range, 2) ? 4u : 8u;
		} else {
			have |= 8;
		}
		if (have & 8)
			break;
	}
	if (h->j.failed || have != 7)
		return bad(h->m, "malformed tensor or a shape that is not [cells, heads, dim]");
	if (t->dtype < 0)
		return msg_fail(h->m, -EOPNOTSUPP,
				"safetensors: a dtype that is not F32, F16 or BF16");
	return 0;
}

/* The first tensor sets type and shape; the data length then gives the layers. */
static int first_tensor(struct header *h, const struct tensor *t)
{
	uint64_t row, bytes, n;

	if (!t->shape[0] || !t->shape[1] || !t->shape[2] || t->shape[0] > CACHE_MAX_TOKENS ||
	    t->shape[1] > 1u << 16 || t->shape[2] > 1u << 16)
		return bad(h->m, "impossible shape");
	row = t->shape[1] * t->shape[2];
	bytes = row * t->shape[0] * dtype_bytes((enum dtype)t->dtype);
	n = h->data_len / bytes;
	if (row > 1u << 24 || h->data_len % bytes || n % 2 || !n || n / 2 > CACHE_MAX_LAYERS)
		return bad(h->m, "the data does not divide into K and V of equal size");
	memcpy(h->shape, t->shape, sizeof(h->shape));
	h->tensor_len = bytes;
	h->c->dtype = (enum dtype)t->dtype;
	h->c->n_cells = (uint32_t)t->shape[0];
	h->c->n_kv_head = (uint32_t)t->shape[1];
	h->c->head_dim = (uint32_t)t->shape[2];
	h->c->row = (uint32_t)row;
	h->c->n_layer = (uint32_t)(n / 2);
	h->c->k = calloc(h->c->n_layer, sizeof(*h->c->k));
	h->c->v = calloc(h->c->n_layer, sizeof(*h->c->v));
	h->slots = calloc(n, sizeof(*h->slots));
	if (!h->c->k || !h->c->v || !h->slots)
		return msg_fail(h->m, -ENOMEM, "out of memory");
	return 0;
}

static int add_tensor(struct header *h, const char *name)
{
	struct tensor t;
	const uint8_t **place;
	uint64_t slot;
	int r = parse_name(name, &t, h->m);

	if (!r)
		r = parse_tensor_object(h, &t);
	if (!r && !h->tensor_len)
		r = first_tensor(h, &t);
	if (r)
		return r;
	if ((enum dtype)t.dtype != h->c->dtype || memcmp(t.shape, h->shape, sizeof(h->shape)))
		return bad(h->m, "tensors of different types or shapes");
	slot = t.range[0] / h->tensor_len;
	if (t.range[0] % h->tensor_len || slot >= 2u * h->c->n_layer ||
	    t.range[1] != t.range[0] + h->tensor_len || h->slots[slot] || t.layer >= h->c->n_layer)
		return bad(h->m, "tensors overlap, leave gaps or end outside the file");
	place = t.v ? &h->c->v[t.layer] : &h->c->k[t.layer];
	if (*place)
		return bad(h->m, "a tensor is listed twice");
	*place = h->data + t.range[0];
	h->slots[slot] = true;
	h->seen++;
	return 0;
}

/* Numbers separated by blanks; @out NULL only counts. -1: malformed. */
static int64_t parse_list(const char *s, size_t len, int32_t *out)
{
	int64_t n = 0;
	size_t i = 0;

	while (i < len) {
		uint64_t x = 0;
		size_t start = i;

		while (i < len && s[i] >= '0' && s[i] <= '9' && x <= INT32_MAX)
			x = x * 10 + (unsigned)(s[i++] - '0');
		if (i == start || x > INT32_MAX || (i < len && s[i++] != ' '))
			return -1;
		if (out)
			out[n] = (int32_t)x;
		n++;
	}
	return n;
}

static int finish_lists(struct header *h)
{
	struct cache *c = h->c;
	int64_t n = h->tokens ? parse_list(h->tokens, h->tokens_len, NULL) : -1;
	int64_t cells = h->positions ? parse_list(h->positions, h->positions_len, NULL) : n;

	if (n < 1 || n > CACHE_MAX_TOKENS)
		return bad(h->m, "no usable list of tokens in the metadata");
	if (cells != c->n_cells)
		return bad(h->m, "positions and tensors disagree about the number of cells");
	c->n_tokens = (uint32_t)n;
	c->tokens = malloc((size_t)n * sizeof(*c->tokens));
	c->pos = malloc((size_t)cells * sizeof(*c->pos));
	if (!c->tokens || !c->pos)
		return msg_fail(h->m, -ENOMEM, "out of memory");
	parse_list(h->tokens, h->tokens_len, c->tokens);
	for (uint32_t i = 0; i < c->n_cells; i++)
		c->pos[i] = (int32_t)i;
	if (h->positions)
		parse_list(h->positions, h->positions_len, c->pos);
	return cache_check_pos(c, h->m);
}

static int parse_header(struct header *h)
{
	char name[MAX_NAME];
	bool first = true;
	int r = 0;

	if (!kjson_expect(&h->j, '{'))
		return bad(h->m, "the header is not a JSON object");
	while (!r && kjson_next(&h->j, '}', &first)) {
		if (!kjson_key(&h->j, name, sizeof(name), NULL))
			break;
		r = strcmp(name, "__metadata__") ? add_tensor(h, name) : parse_metadata(h);
	}
	if (r)
		return r;
	if (h->j.failed || kjson_peek(&h->j))
		return bad(h->m, "malformed header");
	if (!h->seen || h->seen != 2u * h->c->n_layer)
		return bad(h->m, "tensors are missing");
	return finish_lists(h);
}

int safetensors_parse(const uint8_t *buf, size_t len, struct cache *c, struct msg *m)
{
	struct header h = { .c = c, .m = m };
	uint64_t n = 0;
	int r;

	if (len < 10)
		return bad(m, "file too short");
	memcpy(&n, buf, 8);
	if (n > len - 8 || n > MAX_HEADER)
		return bad(m, "header ends outside the file");
	h.j.p = (const char *)buf + 8;
	h.j.end = h.j.p + n;
	h.data = buf + 8 + n;
	h.data_len = len - 8 - n;
	r = parse_header(&h);
	free(h.slots);
	return r;
}

static void print_list(FILE *f, const int32_t *x, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		fprintf(f, "%s%d", i ? " " : "", x[i]);
}

static void print_metadata(FILE *f, const struct cache_desc *d)
{
	bool gaps = d->n_cells != d->n_tokens;

	fprintf(f, "{\"__metadata__\":{\"format\":\"kvlm\",\"model\":\"%016llx\",",
		(unsigned long long)d->model);
	if (d->note) {
		fputs("\"note\":", f);
		kjson_print_str(f, d->note, strlen(d->note));
		fputc(',', f);
	}
	fputs("\"tokens\":\"", f);
	print_list(f, d->tokens, d->n_tokens);
	if (gaps) {
		fputs("\",\"positions\":\"", f);
		print_list(f, d->pos, d->n_cells);
	}
	fputs("\"}", f);
}

int safetensors_plan(const struct cache_desc *d, struct cache_plan *p, struct msg *m)
{
	uint64_t tensor = (uint64_t)d->n_cells * d->n_kv_head * d->head_dim * dtype_bytes(d->dtype);
	char *text = NULL;
	size_t len = 0, pad;
	uint64_t n;
	FILE *f = open_memstream(&text, &len);

	if (!f)
		return msg_fail(m, -ENOMEM, "out of memory");
	print_metadata(f, d);
	for (uint64_t i = 0; i < 2ull * d->n_layer; i++)
		fprintf(f,
			",\"layer_%llu_%c\":{\"dtype\":\"%s\",\"shape\":[%u,%u,%u],"
			"\"data_offsets\":[%llu,%llu]}",
			(unsigned long long)(i / 2), i % 2 ? 'v' : 'k', st_dtypes[d->dtype],
			d->n_cells, d->n_kv_head, d->head_dim, (unsigned long long)(i * tensor),
			(unsigned long long)((i + 1) * tensor));
	fputc('}', f);
	if (fclose(f) || !text) {
		free(text);
		return msg_fail(m, -ENOMEM, "out of memory");
	}
	pad = (8 - len % 8) % 8;
	p->head_len = 8 + len + pad;
	p->head = malloc(p->head_len);
	if (p->head) {
		n = len + pad;
		memcpy(p->head, &n, 8);
		memcpy(p->head + 8, text, len);
		memset(p->head + 8 + len, ' ', pad);
	}
	free(text);
	if (!p->head)
		return msg_fail(m, -ENOMEM, "out of memory");
	p->tensor_head = 0;
	p->k_stride = p->v_stride = 2 * tensor;
	p->k0 = p->head_len;
	p->v0 = p->head_len + tensor;
	p->total = p->head_len + 2 * tensor * d->n_layer;
	return 0;
}
