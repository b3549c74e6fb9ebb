/* SPDX-License-Identifier: MIT */
/*
 * Three passes over the continuation, teacher-forced: exact with the lossy
 * cache as shadow (error per layer), then lossy alone; the continuation is the
 * given text, or what the model itself says after the exact cache.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "engine.h"
#include "judge.h"
#include "opt.h"

struct compare {
	const char *model, *exact, *lossy, *prompt, *kernels;
	uint32_t threads, n;
	bool ids, json;
};

static int load(const char *path, const struct engine *e, size_t extra, struct kv **ret,
		struct msg *m)
{
	struct cache *c;
	int r = cache_read(path, &c, m);

	if (r)
		return r;
	r = cache_to_kv(c, e->model, c->n_tokens + (uint32_t)extra, ret, m);
	cache_free(c);
	return r ? msg_prefix(m, r, path) : 0;
}

/* The model's own continuation: the last token is computed again for its logits. */
static int own_continuation(struct engine *e, struct kv *kv, uint32_t n, struct tokens *ret,
			    struct msg *m)
{
	uint32_t cells = kv->n_cells, tokens = kv->n_tokens, got = 0;
	int32_t last = kv->tokens[tokens - 1];
	int r;

	if (cells < 2 || kv->pos[cells - 1] != (int32_t)tokens - 1)
		return msg_fail(m, -EINVAL, "the exact cache lacks its last token; give --prompt");
	ret->v = malloc(n * sizeof(*ret->v));
	if (!ret->v)
		return msg_fail(m, -ENOMEM, "out of memory");
	kv_truncate(kv, cells - 1, tokens - 1);
	r = engine_generate(e, kv, &last, 1, n, -1, ret->v, &got, NULL, m);
	ret->n = got;
	kv_truncate(kv, cells, tokens);
	return r;
}

struct result {
	struct judge j;
	double *err2, *ref2; /* owned; [n_layer] */
};

static int passes(struct engine *e, struct kv *exact, struct kv *lossy, const struct tokens *t,
		  struct result *res, struct msg *m)
{
	uint32_t nv = e->model->shape.n_vocab, cells = lossy->n_cells, tokens = lossy->n_tokens;
	size_t n = t->n - 1;
	float *le = malloc(n * nv * sizeof(*le)), *ll = malloc(n * nv * sizeof(*ll));
	struct shadow sh = { lossy, res->err2, res->ref2, NULL };
	int r;

	if (!le || !ll) {
		r = msg_fail(m, -ENOMEM, "out of memory");
		goto out;
	}
	r = forward_run(e->forward, exact, t->v, n, 0, le, &sh, m);
	if (r)
		goto out;
	kv_truncate(lossy, cells, tokens);
	r = forward_run(e->forward, lossy, t->v, n, 0, ll, NULL, m);
	for (size_t i = 0; !r && i < n; i++)
		judge_add(&res->j, le + i * nv, ll + i * nv, nv, t->v[i + 1]);
out:
	free(le);
	free(ll);
	return r;
}

static void print_result(const struct compare *o, const struct engine *e, const struct result *res)
{
	const struct judge *j = &res->j;
	double pe = judge_ppl(j->nll_exact, j->n), pl = judge_ppl(j->nll_lossy, j->n), n = j->n;

	printf(o->json ? "{\"positions\": %.0f, \"agreement\": %.6f, \"kl_nats\": %.6g, "
			 "\"perplexity_exact\": %.5f, \"perplexity_lossy\": %.5f, "
			 "\"perplexity_difference\": %.5f, \"attention_error\": ["
		       : "%.0f positions: greedy tokens agree %.4f, KL %.6g nats, perplexity %.4f "
			 "and "
			 "%.4f (difference %.4f)\nattention output, relative error per layer:",
	       n, j->agree / n, j->kl / n, pe, pl, pl - pe);
	for (uint32_t l = 0; l < e->model->shape.n_layer; l++)
		printf("%s%.6g", o->json ? l ? ", " : "" : " ",
		       sqrt(res->err2[l] / (res->ref2[l] + 1e-300)));
	printf(o->json ? "]}\n" : "\n");
}

static int compare_caches(const struct compare *o, struct engine *e, struct msg *m)
{
	struct tokens t = { NULL, 0 };
	struct kv *exact = NULL, *lossy = NULL;
	struct result res = { .err2 = NULL };
	int r = o->prompt ? engine_read_prompt(e, o->prompt, o->ids, false, &t, m) : 0;

	if (!r)
		r = load(o->exact, e, o->prompt ? t.n : o->n, &exact, m);
	if (!r && !o->prompt)
		r = own_continuation(e, exact, o->n, &t, m);
	if (!r)
		r = load(o->lossy, e, t.n, &lossy, m);
	if (!r && (exact->n_tokens != lossy->n_tokens ||
		   memcmp(exact->tokens, lossy->tokens, exact->n_tokens * sizeof(*exact->tokens))))
		r = msg_fail(m, -EINVAL, "the two caches are of different contexts");
	if (!r && t.n < 2)
		r = msg_fail(m, -EINVAL, "a continuation needs two tokens at least");
	res.err2 = calloc(2 * (size_t)e->model->shape.n_layer, sizeof(double));
	if (res.err2)
		res.ref2 = res.err2 + e->model->shape.n_layer;
	else if (!r)
		r = msg_fail(m, -ENOMEM, "out of memory");
	if (!r)
		r = passes(e, exact, lossy, &t, &res, m);
	if (!r)
		print_result(o, e, &res);
	free(res.err2);
	kv_destroy(exact);
	kv_destroy(lossy);
	tokens_fini(&t);
	return r;
}

int cmd_compare(int argc, char **argv, struct msg *m)
{
	struct compare o = { .n = 128 };
	const struct opt opts[] = {
		{ "exact", OPT_STR, &o.exact, "CACHE", "the cache as it was computed", 0, 0 },
		{ "lossy", OPT_STR, &o.lossy, "CACHE", "the same context, read back", 0, 0 },
		{ "prompt", OPT_STR, &o.prompt, "FILE", "continuation to judge over", 0, 0 },
		{ "n", OPT_U32, &o.n, "N", "without --prompt: the model's own N tokens (128)", 2,
		  65536 },
		{ "ids", OPT_FLAG, &o.ids, NULL, "the prompt is token ids in decimal", 0, 0 },
		COMMON_OPTS(&o.threads, &o.kernels, &o.json),
	};
	struct opt_set s = {
		.usage = "kvlm compare MODEL --exact CACHE --lossy CACHE [--prompt FILE]",
		.about = "Says what a lossy cache costs: per layer, and in next tokens.",
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
	if (!o.exact || !o.lossy)
		return msg_fail(m, -EINVAL, "--exact and --lossy are needed");
	r = engine_open(&e, o.model, o.threads, o.kernels, m);
	if (r)
		return r;
	r = compare_caches(&o, &e, m);
	engine_close(&e);
	return r;
}
