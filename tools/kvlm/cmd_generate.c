/* SPDX-License-Identifier: MIT */
/*
 * Time is counted as a reader of the cache sees it: read (open to last byte),
 * then converting into the running cache, then the prompt, up to the moment
 * the first token is known. Loading the model comes before and counts for
 * nothing.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "command.h"
#include "engine.h"
#include "json.h"
#include "opt.h"

struct generate {
	const char *model, *load, *prompt, *save, *kernels;
	enum cache_format format;
	enum dtype dtype;
	uint32_t threads, n;
	bool ids, json, ignore_eos, print_ids;
};

struct times {
	double read_s, convert_s, first_s, total_s;
};

/* The running cache: from the file, or an empty one. */
static int open_kv(const struct generate *o, struct engine *e, size_t extra, struct kv **ret,
		   struct times *t, struct msg *m)
{
	struct cache *c;
	double t0 = seconds_now();
	int r;

	if (extra > e->model->shape.n_ctx)
		return msg_fail(m, -ERANGE, "prompt longer than the model's context of %u",
				e->model->shape.n_ctx);
	if (!o->load)
		return kv_create(&e->model->shape, o->dtype, (uint32_t)extra, ret, m);
	r = cache_read(o->load, &c, m);
	if (r)
		return r;
	t->read_s = (double)c->read_ns * 1e-9;
	r = cache_to_kv(c, e->model, c->n_tokens + (uint32_t)extra, ret, m);
	cache_free(c);
	t->convert_s = seconds_now() - t0 - t->read_s;
	return r ? msg_prefix(m, r, o->load) : 0;
}

static void print_text(const struct vocab *v, const int32_t *ids, uint32_t n, bool json)
{
	char *text = malloc((size_t)n * 64 + 1);
	size_t len = 0;

	for (uint32_t i = 0; text && i < n; i++)
		len += vocab_decode(v, ids[i], text + len, 64);
	if (json)
		kjson_print_str(stdout, text ? text : "", len);
	else
		fwrite(text, 1, len, stdout);
	free(text);
}

static void print_ids(const int32_t *ids, uint32_t n, const char *sep)
{
	for (uint32_t i = 0; i < n; i++)
		printf("%s%d", i ? sep : "", ids[i]);
}

static void print_result(const struct generate *o, const struct engine *e, const struct kv *kv,
			 const struct times *t, const int32_t *out, uint32_t n)
{
	double first = t->read_s + t->convert_s + t->first_s;

	if (o->json) {
		printf("{\"context_tokens\": %u, \"read_s\": %.6f, \"convert_s\": %.6f, "
		       "\"first_token_s\": %.6f, \"total_s\": %.6f, \"model_load_s\": %.6f, "
		       "\"ids\": [",
		       kv->n_tokens, t->read_s, t->convert_s, first, t->total_s, e->load_s);
		print_ids(out, n, ", ");
		printf("], \"text\": ");
		print_text(&e->model->vocab, out, n, true);
		printf("}\n");
		return;
	}
	if (o->print_ids)
		print_ids(out, n, " ");
	else
		print_text(&e->model->vocab, out, n, false);
	printf("\n");
	fprintf(stderr,
		"cache read in %.4f s, converted in %.4f s; first token after %.4f s, "
		"%u tokens after %.4f s\n",
		t->read_s, t->convert_s, first, n, t->total_s);
}

static int run(const struct generate *o, struct engine *e, const struct tokens *p, struct msg *m)
{
	int32_t stop = o->ignore_eos ? -1 : e->model->vocab.eos;
	int32_t *out = malloc(((size_t)o->n + 1) * sizeof(*out));
	struct times t = { 0, 0, 0, 0 };
	struct kv *kv = NULL;
	double t0 = seconds_now();
	uint32_t n = 0;
	int r;

	if (!out)
		return msg_fail(m, -ENOMEM, "out of memory");
	r = open_kv(o, e, p->n + o->n, &kv, &t, m);
	if (!r)
		r = engine_generate(e, kv, p->v, p->n, o->n, stop, out, &n, &t.first_s, m);
	t.total_s = seconds_now() - t0;
	if (!r && o->save) {
		/* the last token has been chosen, not computed: the file gets it too */
		if (n)
			r = forward_run(e->forward, kv, &out[n - 1], 1, 1, NULL, NULL, m);
		if (!r)
			r = cache_save(o->save, kv, o->format, e->model->hash, false, m);
	}
	if (!r)
		print_result(o, e, kv, &t, out, n);
	kv_destroy(kv);
	free(out);
	return r;
}

int cmd_generate(int argc, char **argv, struct msg *m)
{
	struct generate o = { .format = CACHE_LLAMA, .dtype = DTYPE_BF16, .n = 32 };
	const struct opt opts[] = {
		{ "load", OPT_STR, &o.load, "CACHE", "begin with this cache (default: empty)", 0,
		  0 },
		{ "prompt", OPT_STR, &o.prompt, "FILE", "text that follows the context", 0, 0 },
		{ "n", OPT_U32, &o.n, "N", "tokens to generate (default 32)", 1, 1u << 20 },
		{ "save", OPT_STR, &o.save, "CACHE", "save the grown cache", 0, 0 },
		{ "format", OPT_FORMAT, &o.format, "F", "of --save: llama or safetensors", 0, 0 },
		{ "dtype", OPT_DTYPE, &o.dtype, "T", "without --load: bf16, f16 or f32", 0, 0 },
		{ "ids", OPT_FLAG, &o.ids, NULL, "the prompt is token ids in decimal", 0, 0 },
		{ "print-ids", OPT_FLAG, &o.print_ids, NULL, "print ids instead of text", 0, 0 },
		{ "ignore-eos", OPT_FLAG, &o.ignore_eos, NULL, "go on after EOS", 0, 0 },
		COMMON_OPTS(&o.threads, &o.kernels, &o.json),
	};
	struct opt_set s = {
		.usage = "kvlm generate MODEL [--load CACHE] --prompt FILE -n N",
		.about = "Loads a KV cache and continues greedily after the prompt.",
		.opts = opts,
		.n_opts = sizeof(opts) / sizeof(opts[0]),
		.args = &o.model,
		.min_args = 1,
		.max_args = 1,
	};
	struct tokens p = { NULL, 0 };
	struct engine e;
	int r = opt_parse(&s, argc, argv, m);

	if (r)
		return r;
	if (!o.prompt)
		return msg_fail(m, -EINVAL, "--prompt is needed");
	r = engine_open(&e, o.model, o.threads, o.kernels, m);
	if (r)
		return r;
	r = engine_read_prompt(&e, o.prompt, o.ids, !o.load, &p, m);
	if (!r && !p.n)
		r = msg_fail(m, -EINVAL, "the prompt is empty");
	if (!r)
		r = run(&o, &e, &p, m);
	tokens_fini(&p);
	engine_close(&e);
	return r;
}
