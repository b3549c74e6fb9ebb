/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "command.h"
#include "engine.h"
#include "opt.h"

struct prefill {
	const char *model, *prompt, *save, *kernels;
	enum cache_format format;
	enum dtype dtype;
	uint32_t threads;
	bool ids, no_bos, sync, json, next;
};

static void print_result(const struct prefill *o, const struct engine *e, size_t tokens,
			 uint64_t bytes, double prefill_s, double save_s)
{
	if (o->json)
		printf("{\"tokens\": %zu, \"bytes\": %llu, \"format\": \"%s\", \"dtype\": \"%s\", "
		       "\"model_load_s\": %.6f, \"prefill_s\": %.6f, \"save_s\": %.6f}\n",
		       tokens, (unsigned long long)bytes, cache_format_name(o->format),
		       dtype_name(o->dtype), e->load_s, prefill_s, save_s);
	else
		printf("%zu tokens computed in %.3f s (%.0f/s); %llu bytes%s%s in %.3f s\n", tokens,
		       prefill_s, (double)tokens / prefill_s, (unsigned long long)bytes,
		       o->save ? " saved to " : " not saved", o->save ? o->save : "", save_s);
}

/* The greedy next token of every position, one line. */
static int print_next(const struct prefill *o, struct engine *e, const struct tokens *t,
		      struct msg *m)
{
	uint32_t nv = e->model->shape.n_vocab;
	float *logits = malloc(t->n * nv * sizeof(*logits));
	struct kv *kv = NULL;
	int r = logits ? 0 : msg_fail(m, -ENOMEM, "out of memory");

	if (!r)
		r = kv_create(&e->model->shape, o->dtype, (uint32_t)t->n, &kv, m);
	if (!r)
		r = forward_run(e->forward, kv, t->v, t->n, 0, logits, NULL, m);
	for (size_t i = 0; !r && i < t->n; i++)
		printf("%u%c", argmax(logits + i * nv, nv), i + 1 < t->n ? ' ' : '\n');
	kv_destroy(kv);
	free(logits);
	return r;
}

static int run(const struct prefill *o, struct engine *e, struct msg *m)
{
	struct tokens t;
	struct kv *kv;
	double t0, t1;
	uint64_t bytes;
	int r = engine_read_prompt(e, o->prompt, o->ids, !o->no_bos, &t, m);

	if (r)
		return r;
	if (o->next) {
		r = print_next(o, e, &t, m);
		tokens_fini(&t);
		return r;
	}
	t0 = seconds_now();
	r = engine_prefill(e, &t, o->dtype, 0, &kv, m);
	t1 = seconds_now();
	if (!r) {
		bytes = 2ull * kv->n_layer * kv->n_kv_head * kv->head_dim * kv->n_cells *
			dtype_bytes(o->dtype);
		if (o->save)
			r = cache_save(o->save, kv, o->format, e->model->hash, o->sync, m);
		if (!r)
			print_result(o, e, t.n, bytes, t1 - t0, seconds_now() - t1);
		kv_destroy(kv);
	}
	tokens_fini(&t);
	return r;
}

int cmd_prefill(int argc, char **argv, struct msg *m)
{
	struct prefill o = { .format = CACHE_LLAMA, .dtype = DTYPE_BF16 };
	const struct opt opts[] = {
		{ "prompt", OPT_STR, &o.prompt, "FILE", "the context's text", 0, 0 },
		{ "save", OPT_STR, &o.save, "CACHE", "write the cache to this file", 0, 0 },
		{ "format", OPT_FORMAT, &o.format, "F", "llama (default) or safetensors", 0, 0 },
		{ "dtype", OPT_DTYPE, &o.dtype, "T", "bf16 (default), f16 or f32", 0, 0 },
		{ "ids", OPT_FLAG, &o.ids, NULL, "the prompt is token ids in decimal", 0, 0 },
		{ "no-bos", OPT_FLAG, &o.no_bos, NULL, "do not put BOS first", 0, 0 },
		{ "next", OPT_FLAG, &o.next, NULL, "only print every position's greedy next token",
		  0, 0 },
		{ "sync", OPT_FLAG, &o.sync, NULL, "fsync the cache file", 0, 0 },
		COMMON_OPTS(&o.threads, &o.kernels, &o.json),
	};
	struct opt_set s = {
		.usage = "kvlm prefill MODEL --prompt FILE [--save CACHE]",
		.about = "Computes a context and saves its KV cache as a file.",
		.opts = opts,
		.n_opts = sizeof(opts) / sizeof(opts[0]),
		.args = &o.model,
		.min_args = 1,
		.max_args = 1,
	};
	struct engine e;
	int r = opt_parse(&s, argc, argv, m);

	if (r)
		return r;
	if (!o.prompt)
		return msg_fail(m, -EINVAL, "--prompt is needed");
	r = engine_open(&e, o.model, o.threads, o.kernels, m);
	if (r)
		return r;
	r = run(&o, &e, m);
	engine_close(&e);
	return r;
}
