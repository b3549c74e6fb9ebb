/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache.h"
#include "command.h"
#include "levels.h"
#include "opt.h"
#include "quant.h"
#include "thin.h"

struct options {
	const char *load, *save, *method;
	uint32_t heads;
	bool json;
};

struct job {
	struct cache *c;
	const struct quant *q;
	uint32_t heads;
	struct levels *levels; /* owned; QUANT_LADDER */
	uint32_t *kept; /* owned; cells that stay; NULL: all */
	uint32_t n_kept;
};

struct error_sums {
	double err2[2], ref2[2]; /* K, V */
};

/* One tensor: read, quantise, round to the file's type, write the cells that stay. */
static int convert_tensor(const struct job *j, uint32_t layer, bool v, struct cache_writer *w,
			  struct error_sums *e, struct msg *m)
{
	const struct cache *c = j->c;
	size_t n = (size_t)c->row * c->n_cells, eb = dtype_bytes(c->dtype);
	float *x = malloc(n * sizeof(*x)), *old = malloc(c->row * sizeof(*old));
	uint8_t *bytes = malloc(n * eb);
	uint32_t cells = 0;
	int r = 0;

	if (!x || !old || !bytes) {
		r = msg_fail(m, -ENOMEM, "out of memory");
		goto out;
	}
	for (uint32_t t = 0; t < c->n_cells; t++)
		cache_get_row(c, layer, v, t, x + (size_t)t * c->row);
	if (j->levels)
		r = levels_tensor(j->levels, x, c->n_cells, layer, v, m);
	else if (!j->kept)
		quant_tensor(j->q, x, c->n_cells, j->heads, c->row / j->heads, v);
	dtype_round(c->dtype, x, n);
	for (uint32_t t = 0; t < c->n_cells; t++) {
		cache_get_row(c, layer, v, t, old);
		for (uint32_t i = 0; i < c->row; i++) {
			double d = (double)x[(size_t)t * c->row + i] - old[i];

			e->err2[v] += d * d;
			e->ref2[v] += (double)old[i] * old[i];
		}
		if (j->kept && (cells == j->n_kept || j->kept[cells] != t))
			continue;
		dtype_from_f32(c->dtype, x + (size_t)t * c->row,
			       bytes + (size_t)cells * c->row * eb, c->row);
		cells++;
	}
	if (!r)
		r = cache_writer_put(w, layer, v, bytes, m);
out:
	free(x);
	free(old);
	free(bytes);
	return r;
}

static int convert(const struct job *j, const struct options *o, struct error_sums *e,
		   uint64_t *ret_bytes, struct msg *m)
{
	const struct cache *c = j->c;
	struct cache_writer *w;
	struct cache_desc d = {
		.format = c->format,
		.dtype = c->dtype,
		.n_layer = c->n_layer,
		.n_kv_head = j->heads,
		.head_dim = c->row / j->heads,
		.n_cells = j->n_kept,
		.n_tokens = c->n_tokens,
		.tokens = c->tokens,
		.pos = c->pos,
		.model = c->model,
		.note = o->method,
	};
	int r = cache_writer_open(o->save, &d, &w, m);

	if (r)
		return r;
	for (uint32_t i = 0; !r && i < 2 * c->n_layer; i++) {
		bool pairs = c->format == CACHE_SAFETENSORS;

		r = convert_tensor(j, pairs ? i / 2 : i % c->n_layer,
				   pairs ? i % 2 : i >= c->n_layer, w, e, m);
	}
	if (r) {
		cache_writer_abort(w);
		return r;
	}
	*ret_bytes = cache_writer_bytes(w);
	return cache_writer_close(w, m);
}

/* What a dropping method leaves; the cache's positions become those. */
static int choose_cells(struct job *j, struct msg *m)
{
	int r;

	if (j->c->row % j->heads)
		return msg_fail(m, -EINVAL, "%u elements per row do not divide into %u heads",
				j->c->row, j->heads);
	j->n_kept = j->c->n_cells;
	if (j->q->kind != QUANT_DROP)
		return 0;
	r = thin_choose(j->q, j->c, j->heads, &j->kept, &j->n_kept, m);
	for (uint32_t i = 0; !r && i < j->n_kept; i++)
		j->c->pos[i] = j->c->pos[j->kept[i]];
	return r;
}

static void print_result(const struct options *o, double bits, const struct error_sums *e,
			 uint64_t bytes)
{
	printf(o->json ? "{\"method\": \"%s\", \"bits_per_value\": %.4f, \"k_error\": %.6f, "
			 "\"v_error\": %.6f, \"bytes\": %llu}\n"
		       : "%s: %.3f bits per value; relative error of K %.4f, V %.4f; %llu "
			 "bytes\n",
	       o->method, bits, sqrt(e->err2[0] / (e->ref2[0] + 1e-300)),
	       sqrt(e->err2[1] / (e->ref2[1] + 1e-300)), (unsigned long long)bytes);
}

static int run(struct job *j, const struct options *o, struct msg *m)
{
	const struct cache *c = j->c;
	struct error_sums e = { { 0, 0 }, { 0, 0 } };
	uint64_t bytes = 0;
	double bits;
	int r = choose_cells(j, m);

	if (!r && j->q->kind == QUANT_LADDER)
		r = levels_create(j->q->bits, c->dtype, j->heads, c->row / j->heads, &j->levels, m);
	if (!r)
		r = convert(j, o, &e, &bytes, m);
	if (r)
		return r;
	bits = j->levels ? levels_bits(j->levels)
			 : quant_bits(j->q, c->n_cells, j->heads, c->row / j->heads,
				      8 * (uint32_t)dtype_bytes(c->dtype));
	print_result(o, bits, &e, bytes);
	return 0;
}

int cmd_quant(int argc, char **argv, struct msg *m)
{
	struct options o = { .method = "kivi:4", .heads = 1 };
	const struct opt opts[] = {
		{ "save", OPT_STR, &o.save, "CACHE", "write the lossy cache to this file", 0, 0 },
		{ "method", OPT_STR, &o.method, "M",
		  "axis:B, kivi:B[+SINKS+RECENT], ladder:L, window:W, window:S, knorm:S, keydiff:S, exact", 0,
		  0 },
		{ "heads", OPT_U32, &o.heads, "N", "KV heads, where the file does not say (llama)",
		  1, 4096 },
		{ "json", OPT_FLAG, &o.json, NULL, "print the result as one JSON object", 0, 0 },
	};
	struct opt_set s = {
		.usage = "kvlm quant CACHE --method METHOD --save CACHE",
		.about = "Writes the cache that a plain reference quantiser, or a level, would give back.",
		.opts = opts,
		.n_opts = sizeof(opts) / sizeof(opts[0]),
		.args = &o.load,
		.min_args = 1,
		.max_args = 1,
	};
	struct quant q;
	struct job j = { .q = &q };
	int r = opt_parse(&s, argc, argv, m);

	if (r)
		return r;
	if (!o.save)
		return msg_fail(m, -EINVAL, "--save is needed");
	r = quant_parse(o.method, &q, m);
	if (!r)
		r = cache_read(o.load, &j.c, m);
	if (r)
		return r;
	j.heads = j.c->n_kv_head ? j.c->n_kv_head : o.heads;
	r = run(&j, &o, m);
	levels_destroy(j.levels);
	free(j.kept);
	cache_free(j.c);
	return r;
}
