/* SPDX-License-Identifier: MIT */
/*
 * The writer knows every offset beforehand, so tensors may come in any order;
 * cache_save() writes them in the order of the file. Written in place, as the
 * engines do. After any failure the file is removed, if it is a regular one.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cache_internal.h"

struct cache_writer {
	int fd;
	bool regular;
	char *path; /* owned */
	struct cache_desc d;
	struct cache_plan plan;
	size_t row_bytes;
	uint8_t tensor_head[16];
};

static int write_at(struct cache_writer *w, const void *data, size_t len, uint64_t off,
		    struct msg *m)
{
	const uint8_t *p = data;

	while (len) {
		ssize_t n = pwrite(w->fd, p, len, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return msg_fail(m, n ? -errno : -EIO, "%s: %s", w->path,
					strerror(n ? errno : EIO));
		p += n;
		off += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

static int writer_prepare(struct cache_writer *w, struct msg *m)
{
	const struct cache_desc *d = &w->d;
	int r;

	if (!d->n_layer || d->n_layer > CACHE_MAX_LAYERS || !d->n_cells ||
	    d->n_cells > d->n_tokens || d->n_tokens > CACHE_MAX_TOKENS)
		return msg_fail(m, -EINVAL, "nothing to save, or too much");
	r = d->format == CACHE_LLAMA ? llama_state_plan(d, &w->plan, m)
				     : safetensors_plan(d, &w->plan, m);
	if (r)
		return r;
	if (d->format == CACHE_LLAMA)
		llama_state_tensor_head(d, w->tensor_head);
	w->row_bytes = (size_t)d->n_kv_head * d->head_dim * dtype_bytes(d->dtype);
	return 0;
}

int cache_writer_open(const char *path, const struct cache_desc *d, struct cache_writer **ret,
		      struct msg *m)
{
	struct cache_writer *w = calloc(1, sizeof(*w));
	struct stat st;
	int r;

	if (!w)
		return msg_fail(m, -ENOMEM, "out of memory");
	w->fd = -1;
	w->d = *d;
	w->path = strdup(path);
	r = w->path ? writer_prepare(w, m) : msg_fail(m, -ENOMEM, "out of memory");
	if (!r) {
		w->fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
		if (w->fd < 0)
			r = msg_fail(m, -errno, "%s: %s", path, strerror(errno));
		else
			w->regular = !fstat(w->fd, &st) && S_ISREG(st.st_mode);
	}
	if (!r)
		r = write_at(w, w->plan.head, w->plan.head_len, 0, m);
	if (r) {
		cache_writer_abort(w);
		return r;
	}
	*ret = w;
	return 0;
}

int cache_writer_put_cells(struct cache_writer *w, uint32_t layer, bool v, uint32_t cell0,
			   uint32_t cells, const void *data, struct msg *m)
{
	const struct cache_plan *p = &w->plan;
	uint64_t off = v ? p->v0 + p->v_stride * layer : p->k0 + p->k_stride * layer;
	int r = 0;

	if (p->tensor_head && cell0 == 0)
		r = write_at(w, w->tensor_head, p->tensor_head, off - p->tensor_head, m);
	if (!r)
		r = write_at(w, data, cells * w->row_bytes, off + (uint64_t)cell0 * w->row_bytes,
			     m);
	return r;
}

int cache_writer_put(struct cache_writer *w, uint32_t layer, bool v, const void *data,
		     struct msg *m)
{
	return cache_writer_put_cells(w, layer, v, 0, w->d.n_cells, data, m);
}

/* Half a cache is no cache; but a device or a pipe is not ours to remove. */
static void remove_file(const struct cache_writer *w)
{
	if (w->regular)
		unlink(w->path);
}

static void writer_free(struct cache_writer *w)
{
	free(w->path);
	free(w->plan.head);
	free(w);
}

int cache_writer_close(struct cache_writer *w, struct msg *m)
{
	int r = 0;

	if (w->d.sync && fsync(w->fd) < 0)
		r = msg_fail(m, -errno, "%s: fsync: %s", w->path, strerror(errno));
	if (close(w->fd) < 0 && !r)
		r = msg_fail(m, -errno, "%s: close: %s", w->path, strerror(errno));
	if (r)
		remove_file(w);
	writer_free(w);
	return r;
}

void cache_writer_abort(struct cache_writer *w)
{
	if (!w)
		return;
	if (w->fd >= 0) {
		close(w->fd);
		remove_file(w);
	}
	writer_free(w);
}

uint64_t cache_writer_bytes(const struct cache_writer *w)
{
	return w->plan.total;
}

int cache_tensor_bytes(const struct kv *kv, uint32_t layer, bool v, uint8_t **ret, size_t *ret_len,
		       struct msg *m)
{
	size_t n = (size_t)kv->n_kv_head * kv->head_dim, e = dtype_bytes(kv->dtype);
	float *row = malloc(n * sizeof(*row));
	uint8_t *out = malloc(n * e * kv->n_cells + 1);

	if (!row || !out) {
		free(row);
		free(out);
		return msg_fail(m, -ENOMEM, "out of memory");
	}
	for (uint32_t t = 0; t < kv->n_cells; t++) {
		for (uint32_t h = 0; h < kv->n_kv_head; h++)
			(v ? kv_get_v : kv_get_k)(kv, layer, h, t, row + (size_t)h * kv->head_dim);
		dtype_from_f32(kv->dtype, row, out + t * n * e, n);
	}
	free(row);
	*ret = out;
	*ret_len = n * e * kv->n_cells;
	return 0;
}

static int save_layers(struct cache_writer *w, const struct kv *kv, bool interleaved, struct msg *m)
{
	int r = 0;

	for (uint32_t i = 0; !r && i < 2 * kv->n_layer; i++) {
		uint32_t layer = interleaved ? i / 2 : i % kv->n_layer;
		bool v = interleaved ? i % 2 : i >= kv->n_layer;
		uint8_t *buf;
		size_t len;

		r = cache_tensor_bytes(kv, layer, v, &buf, &len, m);
		if (r)
			break;
		r = cache_writer_put(w, layer, v, buf, m);
		free(buf);
	}
	return r;
}

int cache_save(const char *path, const struct kv *kv, enum cache_format format, uint64_t model,
	       bool sync, struct msg *m)
{
	const struct cache_desc d = {
		.format = format,
		.dtype = kv->dtype,
		.n_layer = kv->n_layer,
		.n_kv_head = kv->n_kv_head,
		.head_dim = kv->head_dim,
		.n_cells = kv->n_cells,
		.n_tokens = kv->n_tokens,
		.tokens = kv->tokens,
		.pos = kv->pos,
		.model = model,
		.sync = sync,
	};
	struct cache_writer *w;
	int r = cache_writer_open(path, &d, &w, m);

	if (r)
		return r;
	r = save_layers(w, kv, format == CACHE_SAFETENSORS, m);
	if (r) {
		cache_writer_abort(w);
		return r;
	}
	return cache_writer_close(w, m);
}
