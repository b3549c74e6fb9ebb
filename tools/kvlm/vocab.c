/* SPDX-License-Identifier: MIT */
#include "vocab.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SPACE_MARK "\xe2\x96\x81" /* how SentencePiece writes a space */

struct filler {
	struct vocab *v;
	bool no_memory;
};

/* The byte that a token of this name stands for, or -1. */
static int byte_of(const char *s, size_t len)
{
	unsigned b;
	char end;

	if (len == 6 && sscanf(s, "<0x%2x%c", &b, &end) == 2 && end == '>')
		return (int)b;
	if (len == 3 && !memcmp(s, SPACE_MARK, 3))
		return ' ';
	if (len == 1)
		return (unsigned char)s[0];
	return -1;
}

static void add_name(void *arg, uint64_t i, struct gguf_str s)
{
	struct filler *f = arg;
	struct vocab *v = f->v;
	int b;

	if (i >= v->n)
		return;
	v->names[i] = strndup(s.s, s.len);
	if (!v->names[i]) {
		f->no_memory = true;
		return;
	}
	b = byte_of(v->names[i], strlen(v->names[i]));
	v->id_byte[i] = (int16_t)b;
	/* "<0x41>" has the say over a token that is just "A" */
	if (b >= 0 && (v->byte_id[b] < 0 || s.len == 6))
		v->byte_id[b] = (int32_t)i;
}

static int32_t special_id(const struct gguf *g, const char *key, uint32_t n)
{
	uint64_t id;

	if (gguf_get_u64(g, key, &id, NULL) || id >= n)
		return -1;
	return (int32_t)id;
}

int vocab_init(struct vocab *v, const struct gguf *g, uint32_t n, struct msg *m)
{
	struct filler f = { v, false };
	uint64_t listed = 0;
	int r;

	memset(v, 0, sizeof(*v));
	v->n = n;
	for (int i = 0; i < 256; i++)
		v->byte_id[i] = -1;
	v->names = calloc(n, sizeof(*v->names));
	v->id_byte = malloc(n * sizeof(*v->id_byte));
	if (!v->names || !v->id_byte) {
		r = msg_fail(m, -ENOMEM, "out of memory");
		goto err_fini;
	}
	for (uint32_t i = 0; i < n; i++)
		v->id_byte[i] = -1;
	r = gguf_get_strs(g, "tokenizer.ggml.tokens", &listed, add_name, &f, m);
	if (r && r != -ENOENT)
		goto err_fini;
	if (f.no_memory) {
		r = msg_fail(m, -ENOMEM, "out of memory");
		goto err_fini;
	}
	v->bos = special_id(g, "tokenizer.ggml.bos_token_id", n);
	v->eos = special_id(g, "tokenizer.ggml.eos_token_id", n);
	return 0;
err_fini:
	vocab_fini(v);
	return r;
}

void vocab_fini(struct vocab *v)
{
	for (uint32_t i = 0; v->names && i < v->n; i++)
		free(v->names[i]);
	free(v->names);
	free(v->id_byte);
	memset(v, 0, sizeof(*v));
}

static int32_t find_len(const struct vocab *v, const char *s, size_t len)
{
	for (uint32_t i = 0; i < v->n; i++)
		if (v->names[i] && !strncmp(v->names[i], s, len) && !v->names[i][len])
			return (int32_t)i;
	return -1;
}

int32_t vocab_find(const struct vocab *v, const char *name)
{
	return find_len(v, name, strlen(name));
}

/* The symbol "<|...|>" at the start of @s, or -1; its length in *ret_len. */
static int32_t symbol_at(const struct vocab *v, const char *s, size_t len, size_t *ret_len)
{
	const char *end;

	if (len < 5 || s[0] != '<' || s[1] != '|')
		return -1;
	end = memmem(s + 2, len - 2 < 62 ? len - 2 : 62, "|>", 2);
	if (!end)
		return -1;
	*ret_len = (size_t)(end + 2 - s);
	return find_len(v, s, *ret_len);
}

ssize_t vocab_encode(const struct vocab *v, const char *text, size_t len, int32_t *out, size_t cap,
		     struct msg *m)
{
	size_t n = 0;

	for (size_t i = 0; i < len; n++) {
		size_t used = 1;
		int32_t id = symbol_at(v, text + i, len - i, &used);

		if (id < 0) {
			used = 1;
			id = v->byte_id[(unsigned char)text[i]];
		}
		if (id < 0)
			return msg_fail(m, -EINVAL,
					"the vocabulary has no token for byte 0x%02x; give ids",
					(unsigned char)text[i]);
		if (n == cap)
			return msg_fail(m, -ERANGE, "text of more than %zu tokens", cap);
		out[n] = id;
		i += used;
	}
	return (ssize_t)n;
}

ssize_t vocab_parse_ids(const struct vocab *v, const char *text, size_t len, int32_t *out,
			size_t cap, struct msg *m)
{
	size_t n = 0, i = 0;

	for (;;) {
		uint64_t id = 0;
		size_t start;

		while (i < len && strchr(" \t\r\n,", text[i]))
			i++;
		if (i == len)
			return (ssize_t)n;
		start = i;
		while (i < len && text[i] >= '0' && text[i] <= '9' && id <= UINT32_MAX)
			id = id * 10 + (unsigned)(text[i++] - '0');
		if (i == start || id >= v->n)
			return msg_fail(m, -EINVAL, "not a token id at byte %zu", start);
		if (n == cap)
			return msg_fail(m, -ERANGE, "more than %zu tokens", cap);
		out[n++] = (int32_t)id;
	}
}

size_t vocab_decode(const struct vocab *v, int32_t id, char *out, size_t cap)
{
	const char *name;
	size_t len;

	if (id < 0 || (uint32_t)id >= v->n || !cap)
		return 0;
	if (v->id_byte[id] >= 0) {
		out[0] = (char)v->id_byte[id];
		return 1;
	}
	name = v->names[id] ? v->names[id] : "?";
	len = strlen(name);
	len = len < cap ? len : cap;
	memcpy(out, name, len);
	return len;
}
