/* SPDX-License-Identifier: MIT */
/* What the two formats share: reading, converting, and the writer. */
#include "cache.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cache_internal.h"

static const char *const format_names[CACHE_FORMATS_] = { "llama", "safetensors" };

const char *cache_format_name(enum cache_format f)
{
	return (unsigned)f < CACHE_FORMATS_ ? format_names[f] : "?";
}

int cache_format_parse(const char *s)
{
	for (int i = 0; i < CACHE_FORMATS_; i++)
		if (!strcmp(s, format_names[i]))
			return i;
	return -1;
}

int cache_alloc(struct cache *c, struct msg *m)
{
	c->tokens = malloc(((size_t)c->n_tokens + 1) * sizeof(*c->tokens));
	c->pos = malloc(((size_t)c->n_cells + 1) * sizeof(*c->pos));
	c->k = calloc(c->n_layer, sizeof(*c->k));
	c->v = calloc(c->n_layer, sizeof(*c->v));
	if (!c->tokens || !c->pos || !c->k || !c->v)
		return msg_fail(m, -ENOMEM, "out of memory");
	return 0;
}

int cache_check_pos(const struct cache *c, struct msg *m)
{
	for (uint32_t i = 0; i < c->n_cells; i++)
		if (c->pos[i] < 0 || (uint32_t)c->pos[i] >= c->n_tokens ||
		    (i && c->pos[i] <= c->pos[i - 1]))
			return msg_fail(m, -EBADMSG,
					"cache: positions do not ascend within the %u tokens",
					c->n_tokens);
	return 0;
}

int cache_parse(const void *buf, size_t len, struct cache **ret, struct msg *m)
{
	struct cache *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return msg_fail(m, -ENOMEM, "out of memory");
	if (len >= 4 && !memcmp(buf, "qsgg", 4)) {
		c->format = CACHE_LLAMA;
		r = llama_state_parse(buf, len, c, m);
	} else if (len >= 9 && ((const char *)buf)[8] == '{') {
		c->format = CACHE_SAFETENSORS;
		r = safetensors_parse(buf, len, c, m);
	} else {
		r = msg_fail(
			m, -EBADMSG,
			"not a cache file (neither a llama.cpp sequence state nor safetensors)");
	}
	if (r) {
		cache_free(c);
		return r;
	}
	*ret = c;
	return 0;
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

/* All of @fd into a buffer; it may shrink or end early meanwhile. */
static int read_all(int fd, void **ret, size_t *ret_len)
{
	struct stat st;
	size_t at = 0;
	char *buf;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	buf = malloc((size_t)st.st_size + 1);
	if (!buf)
		return -ENOMEM;
	while (at < (size_t)st.st_size) {
		ssize_t n = read(fd, buf + at, (size_t)st.st_size - at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			int r = -errno;

			free(buf);
			return r;
		}
		if (!n)
			break;
		at += (size_t)n;
	}
	*ret = buf;
	*ret_len = at;
	return 0;
}

int cache_read(const char *path, struct cache **ret, struct msg *m)
{
	uint64_t t0 = now_ns(), t1;
	int fd = open(path, O_RDONLY | O_CLOEXEC), r;
	size_t len = 0;
	void *buf = NULL;

	if (fd < 0)
		return msg_fail(m, -errno, "%s: %s", path, strerror(errno));
	r = read_all(fd, &buf, &len);
	t1 = now_ns();
	close(fd);
	if (r)
		return msg_fail(m, r, "%s: %s", path,
				r == -EINVAL ? "not a regular file" : strerror(-r));
	r = cache_parse(buf, len, ret, m);
	if (r) {
		free(buf);
		return msg_prefix(m, r, path);
	}
	(*ret)->buf = buf;
	(*ret)->len = len;
	(*ret)->read_ns = t1 - t0;
	return 0;
}

void cache_free(struct cache *c)
{
	if (!c)
		return;
	free(c->tokens);
	free(c->pos);
	free(c->k);
	free(c->v);
	free(c->buf);
	free(c);
}

void cache_get_row(const struct cache *c, uint32_t layer, bool v, uint32_t cell, float *dst)
{
	size_t e = dtype_bytes(c->dtype);
	const uint8_t *p = v ? c->v[layer] : c->k[layer];

	if (!v || !c->v_trans) {
		dtype_to_f32(c->dtype, p + (size_t)cell * c->row * e, dst, c->row);
		return;
	}
	for (uint32_t i = 0; i < c->row; i++)
		dtype_to_f32(c->dtype, p + ((size_t)i * c->n_cells + cell) * e, dst + i, 1);
}

static int check_model(const struct cache *c, const struct model *md, struct msg *m)
{
	const struct model_shape *s = &md->shape;

	if (c->n_layer != s->n_layer || c->row != s->n_kv_head * s->head_dim ||
	    (c->n_kv_head && c->n_kv_head != s->n_kv_head))
		return msg_fail(m, -EBADMSG,
				"cache of %u layers x %u elements; the model has %u x %u",
				c->n_layer, c->row, s->n_layer, s->n_kv_head * s->head_dim);
	if (c->model && c->model != md->hash)
		return msg_fail(m, -EBADMSG, "the cache was made by another model");
	for (uint32_t i = 0; i < c->n_tokens; i++)
		if (c->tokens[i] < 0 || (uint32_t)c->tokens[i] >= s->n_vocab)
			return msg_fail(m, -EBADMSG, "cache: token %d is outside the vocabulary",
					c->tokens[i]);
	return 0;
}

int cache_to_kv(const struct cache *c, const struct model *md, uint32_t tokens, struct kv **ret,
		struct msg *m)
{
	struct kv *kv;
	float *row;
	int r = check_model(c, md, m);

	if (!r)
		r = kv_create(&md->shape, c->dtype, tokens > c->n_tokens ? tokens : c->n_tokens,
			      &kv, m);
	if (r)
		return r;
	row = malloc(c->row * sizeof(*row));
	if (!row) {
		kv_destroy(kv);
		return msg_fail(m, -ENOMEM, "out of memory");
	}
	for (uint32_t l = 0; l < c->n_layer; l++)
		for (uint32_t t = 0; t < c->n_cells; t++) {
			cache_get_row(c, l, false, t, row);
			for (uint32_t h = 0; h < kv->n_kv_head; h++)
				kv_put_k(kv, l, h, t, row + (size_t)h * kv->head_dim);
			cache_get_row(c, l, true, t, row);
			for (uint32_t h = 0; h < kv->n_kv_head; h++)
				kv_put_v(kv, l, h, t, row + (size_t)h * kv->head_dim);
		}
	free(row);
	memcpy(kv->tokens, c->tokens, c->n_tokens * sizeof(*c->tokens));
	memcpy(kv->pos, c->pos, c->n_cells * sizeof(*c->pos));
	kv->n_cells = c->n_cells;
	kv->n_tokens = c->n_tokens;
	*ret = kv;
	return 0;
}
