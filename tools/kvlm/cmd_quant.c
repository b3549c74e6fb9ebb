/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache.h"
#include "command.h"
#include "opt.h"
#include "quant.h"

struct options {
	const char *load, *save, *method;
	uint32_t heads;
	bool json;
};

struct error_sums {
	double err2[2], ref2[2]; /* K, V */
};

/* One tensor: read, quantise, round to the file's type, write the cells that stay. */
static int convert_tensor(const struct cache *c, const struct quant *q, uint32_t heads,
			  uint32_t layer, bool v, struct cache_writer *w, struct error_sums *e,
			  struct msg *m)
{
	size_t n = (size_t)c->row * c->n_cells, eb = dtype_bytes(c->dtype);
	float *x = malloc(n * sizeof(*x)), *old = malloc(c->row * sizeof(*old));
	uint8_t *bytes = malloc(n * eb);
	uint32_t below = c->n_cells, from = c->n_cells, cells = 0;
	int r = 0;

	if (!x || !old || !bytes) {
		r = msg_fail(m, -ENOMEM, "out of memory");
		goto out;
	}
	for (uint32_t t = 0; t < c->n_cells; t++)
		cache_get_row(c, layer, v, t, x + (size_t)t * c->row);
	if (q->kind == QUANT_WINDOW)
		quant_kept(q, c->n_cells, &below, &from);
	else
		quant_tensor(q, x, c->n_cells, heads, c->row / heads, v);
	dtype_round(c->dtype, x, n);
	for (uint32_t t = 0; t < c->n_cells; t++) {
		cache_get_row(c, layer, v, t, old);
		for (uint32_t i = 0; i < c->row; i++) {
			double d = (double)x[(size_t)t * c->row + i] - old[i];

			e->err2[v] += d * d;
			e->ref2[v] += (double)old[i] * old[i];
		}
		if (t >= below && t < from)
			continue;
		dtype_from_f32(c->dtype, x + (size_t)t * c->row,
			       bytes + (size_t)cells * c->row * eb, c->row);
		cells++;
	}
	r = cache_writer_put(w, layer, v, bytes, m);
out:
	free(x);
	free(old);
	free(bytes);
	return r;
}

static int convert(const struct cache *c, const struct quant *q, const struct options *o,
		   struct error_sums *e, uint64_t *ret_bytes, struct msg *m)
{
	uint32_t heads = c->n_kv_head ? c->n_kv_head : o->heads, below = 0, from = 0;
	struct cache_writer *w;
	struct cache_desc d = {
		.format = c->format,
		.dtype = c->dtype,
		.n_layer = c->n_layer,
		.n_kv_head = heads,
		.head_dim = c->row / heads,
		.n_cells = c->n_cells,
		.n_tokens = c->n_tokens,
		.tokens = c->tokens,
		.pos = c->pos,
		.model = c->model,
		.note = o->method,
	};
	int r;

	if (c->row % heads)
		return msg_fail(m, -EINVAL, "%u elements per row do not divide into %u heads",
				c->row, heads);
	if (q->kind == QUANT_WINDOW) {
		quant_kept(q, c->n_cells, &below, &from);
		memmove(c->pos + below, c->pos + from, (c->n_cells - from) * sizeof(*c->pos));
		d.n_cells -= from - below;
	}
	r = cache_writer_open(o->save, &d, &w, m);
	if (r)
		return r;
	for (uint32_t i = 0; !r && i < 2 * c->n_layer; i++) {
		bool pairs = c->format == CACHE_SAFETENSORS;

		r = convert_tensor(c, q, heads, pairs ? i / 2 : i % c->n_layer,
				   pairs ? i % 2 : i >= c->n_layer, w, e, m);
	}
	if (r) {
		cache_writer_abort(w);
		return r;
	}
	*ret_bytes = cache_writer_bytes(w);
	return cache_writer_close(w, m);
}

int cmd_quant(int argc, char **argv, struct msg *m)
{
	struct options o = { .method = "kivi:4", .heads = 1 };
	const struct opt opts[] = {
		{ "save", OPT_STR, &o.save, "CACHE", "write the lossy cache to this file", 0, 0 },
		{ "method", OPT_STR, &o.method, "M",
		  "axis:B, kivi:B[+SINKS+RECENT], window:W, exact", 0, 0 },
		{ "heads", OPT_U32, &o.heads, "N", "KV heads, where the file does not say (llama)",
		  1, 4096 },
		{ "json", OPT_FLAG, &o.json, NULL, "print the result as one JSON object", 0, 0 },
	};
	struct opt_set s = {
		.usage = "kvlm quant CACHE --method METHOD --save CACHE",
		.about = "Writes the cache that a plain reference quantiser would give back.",
		.opts = opts,
		.n_opts = sizeof(opts) / sizeof(opts[0]),
		.args = &o.load,
		.min_args = 1,
		.max_args = 1,
	};
	struct error_sums e = { { 0, 0 }, { 0, 0 } };
	uint64_t bytes = 0;
	struct quant q;
	struct cache *c;
	double bits;
	int r = opt_parse(&s, argc, argv, m);

	if (r)
		return r;
	if (!o.save)
		return msg_fail(m, -EINVAL, "--save is needed");
	r = quant_parse(o.method, &q, m);
	if (!r)
		r = cache_read(o.load, &c, m);
	if (r)
		return r;
	bits = quant_bits(&q, c->n_cells, c->n_kv_head ? c->n_kv_head : o.heads,
			  c->row / (c->n_kv_head ? c->n_kv_head : o.heads),
			  8 * (uint32_t)dtype_bytes(c->dtype));
	r = convert(c, &q, &o, &e, &bytes, m);
	if (!r)
		printf(o.json ? "{\"method\": \"%s\", \"bits_per_value\": %.4f, \"k_error\": %.6f, "
				"\"v_error\": %.6f, \"bytes\": %llu}\n"
			      : "%s: %.3f bits per value; relative error of K %.4f, V %.4f; %llu "
				"bytes\n",
		       o.method, bits, sqrt(e.err2[0] / (e.ref2[0] + 1e-300)),
		       sqrt(e.err2[1] / (e.ref2[1] + 1e-300)), (unsigned long long)bytes);
	cache_free(c);
	return r;
}
