/* SPDX-License-Identifier: MIT */
/*
 * For each context: the exact cache gives the reference predictions of all its
 * queries; then each method's cache answers the same queries. A cache comes
 * from a file when a directory is given (a missing file is computed and saved
 * first, then read), so that a mount can lie in between; the method is
 * applied to what was read. Queries of a context do not see each other.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "command.h"
#include "engine.h"
#include "judge.h"
#include "opt.h"
#include "quant.h"
#include "suite.h"

enum { EVERYWHERE, ENDS, PLACES };

/* One method over the queries of one suite and place. */
struct score {
	uint32_t queries;
	double exact_match, edit; /* sums over queries */
	double bits, err;         /* sums: bits per value, mean attention error */
	struct judge j;           /* sums over answer positions */
};

/* A method's cache of the context at work. */
struct subject {
	struct kv *kv;    /* owned */
	double bits;      /* per value */
	struct shadow sh; /* over kv; its sums are owned */
};

struct eval {
	const char *model, *cache_dir, *exact_dir, *kernels;
	struct opt_list tasks, methods;
	enum cache_format format;
	enum dtype dtype;
	uint32_t threads, limit;
	const char *per_context;
	bool json, packed;

	FILE *contexts; /* owned; NULL without --per-context */
	struct engine e;
	struct quant quants[OPT_LIST_MAX];
	struct score (*scores)[SUITE_KINDS_][PLACES]; /* owned; [methods.n] */
	struct subject *subjects;                     /* owned; [methods.n] */
	float *ref, *got;                             /* owned; logits of one query's answer */
	double read_s, first_s;
	uint64_t read_bytes;
	uint32_t loads;
};

static int make_file(struct eval *v, const struct suite_context *c, const char *path, struct msg *m)
{
	const struct tokens t = { (int32_t *)(uintptr_t)c->tokens, c->n_tokens };
	struct kv *kv;
	int r = engine_prefill(&v->e, &t, v->dtype, 0, &kv, m);

	if (r)
		return r;
	r = cache_save(path, kv, v->format, v->e.model->hash, false, m);
	kv_destroy(kv);
	return r;
}

/* The context's cache with room for its queries: from @dir, or computed. */
static int get_cache(struct eval *v, const struct suite *s, const struct suite_context *c,
		     const char *dir, struct kv **ret, struct msg *m)
{
	const struct tokens t = { (int32_t *)(uintptr_t)c->tokens, c->n_tokens };
	uint32_t extra = suite_longest_query(s);
	double t0 = seconds_now();
	struct cache *f;
	char path[4096];
	int r = 0;

	if (!dir)
		return engine_prefill(&v->e, &t, v->dtype, extra, ret, m);
	snprintf(path, sizeof(path), "%s/%s-%03u.%s", dir, suite_kind_name(s->kind), c->id,
		 v->format == CACHE_LLAMA ? "bin" : "safetensors");
	if (access(path, F_OK))
		r = make_file(v, c, path, m);
	if (!r)
		r = cache_read(path, &f, m);
	if (r)
		return r;
	v->read_s += (double)f->read_ns * 1e-9;
	v->read_bytes += f->len;
	v->loads++;
	if (v->packed && f->n_layer % v->e.model->shape.n_layer == 0)
		f->n_layer = v->e.model->shape.n_layer; /* the others are other contexts' */
	if (f->n_tokens != c->n_tokens ||
	    memcmp(f->tokens, c->tokens, c->n_tokens * sizeof(*c->tokens)))
		r = msg_fail(m, -EINVAL, "%s: is the cache of another context", path);
	else
		r = cache_to_kv(f, v->e.model, c->n_tokens + extra, ret, m);
	cache_free(f);
	v->first_s += seconds_now() - t0;
	return r;
}

static int force_answer(struct eval *v, struct kv *kv, const struct suite_query *q, float *logits,
			struct shadow *sh, struct msg *m)
{
	return engine_force(&v->e, kv, q->prompt, q->n_prompt, q->answer, q->n_answer, logits, sh,
			    m);
}

static int edit_score(struct eval *v, struct kv *kv, const struct suite_query *q, double *ret,
		      struct msg *m)
{
	uint32_t cells = kv->n_cells, tokens = kv->n_tokens, got = 0;
	int32_t *out = malloc(q->n_answer * sizeof(*out));
	int r;

	if (!out)
		return msg_fail(m, -ENOMEM, "out of memory");
	r = engine_generate(&v->e, kv, q->prompt, q->n_prompt, q->n_answer, -1, out, &got, NULL, m);
	if (!r)
		*ret = 1 - (double)edit_distance(out, got, q->answer, q->n_answer) / q->n_answer;
	free(out);
	kv_truncate(kv, cells, tokens);
	return r;
}

/* One method's answer beside the exact one, whose logits are in v->ref. */
static int judge_method(struct eval *v, const struct suite *s, const struct suite_query *q,
			struct kv *kv, struct score *sc, struct msg *m)
{
	uint32_t nv = v->e.model->shape.n_vocab;
	struct judge j = { 0 };
	double edit = 0;
	int r = force_answer(v, kv, q, v->got, NULL, m);

	if (!r && s->kind == SUITE_CODE)
		r = edit_score(v, kv, q, &edit, m);
	if (r)
		return r;
	for (uint32_t i = 0; i < q->n_answer; i++)
		judge_add(&j, v->ref + (size_t)i * nv, v->got + (size_t)i * nv, nv, q->answer[i]);
	judge_sum(&sc->j, &j);
	sc->queries++;
	sc->exact_match += j.hit_lossy == j.n;
	sc->edit += edit;
	return 0;
}

static double layer_error(const struct shadow *sh, uint32_t n_layer)
{
	double sum = 0;

	for (uint32_t l = 0; l < n_layer; l++)
		sum += sqrt(sh->err2[l] / (sh->ref2[l] + 1e-300));
	return sum / n_layer;
}

static void subjects_fini(struct eval *v)
{
	for (size_t i = 0; i < v->methods.n; i++) {
		kv_destroy(v->subjects[i].kv);
		free(v->subjects[i].sh.err2);
		memset(&v->subjects[i], 0, sizeof(v->subjects[i]));
	}
}

/* Every method's cache, chained as shadows of the exact one. */
static int subjects_init(struct eval *v, const struct kv *loaded, struct msg *m)
{
	uint32_t n = v->e.model->shape.n_layer;
	int r = 0;

	for (size_t i = 0; !r && i < v->methods.n; i++) {
		struct subject *u = &v->subjects[i];

		r = quant_kv(&v->quants[i], loaded, &u->kv, &u->bits, m);
		if (r)
			break;
		u->sh.kv = u->kv;
		u->sh.err2 = calloc(2 * (size_t)n, sizeof(double));
		if (!u->sh.err2)
			r = msg_fail(m, -ENOMEM, "out of memory");
		else
			u->sh.ref2 = u->sh.err2 + n;
		u->sh.next = i + 1 < v->methods.n ? &v->subjects[i + 1].sh : NULL;
	}
	if (r)
		subjects_fini(v);
	return r;
}

static int run_queries(struct eval *v, const struct suite *s, const struct suite_context *c,
		       struct kv *exact, struct msg *m)
{
	int r = 0;

	for (size_t i = 0; !r && i < c->n_queries; i++) {
		const struct suite_query *q = &c->queries[i];

		r = force_answer(v, exact, q, v->ref, &v->subjects[0].sh, m);
		for (size_t k = 0; !r && k < v->methods.n; k++)
			r = judge_method(v, s, q, v->subjects[k].kv,
					 &v->scores[k][s->kind][c->ends ? ENDS : EVERYWHERE], m);
	}
	for (size_t k = 0; !r && k < v->methods.n; k++) {
		struct score *sc = &v->scores[k][s->kind][c->ends ? ENDS : EVERYWHERE];

		sc->bits += v->subjects[k].bits * (double)c->n_queries;
		sc->err += layer_error(&v->subjects[k].sh, v->e.model->shape.n_layer) *
			   (double)c->n_queries;
	}
	return r;
}

/* One line: what the first method did with this context. @was: its scores before. */
static void note_context(struct eval *v, const struct suite *s, const struct suite_context *c,
			 const struct score *was)
{
	const struct score *is = &v->scores[0][s->kind][c->ends ? ENDS : EVERYWHERE];
	double n = is->queries - was->queries, agree = is->j.agree - was->j.agree,
	       score = agree / (is->j.n - was->j.n + 1e-9);

	if (s->kind == SUITE_RECALL)
		score = (is->exact_match - was->exact_match) / (n + 1e-9);
	else if (s->kind == SUITE_CODE)
		score = (is->edit - was->edit) / (n + 1e-9);
	fprintf(v->contexts, "%s-%03u %.0f %.6f %.6f\n", suite_kind_name(s->kind), c->id, n, score,
		agree / (is->j.n - was->j.n + 1e-9));
}

static int run_context(struct eval *v, const struct suite *s, const struct suite_context *c,
		       struct msg *m)
{
	struct kv *exact = NULL, *loaded = NULL;
	struct score was = v->scores[0][s->kind][c->ends ? ENDS : EVERYWHERE];
	int r = get_cache(v, s, c, v->exact_dir, &exact, m);

	if (!r && v->cache_dir)
		r = get_cache(v, s, c, v->cache_dir, &loaded, m);
	if (!r)
		r = subjects_init(v, loaded ? loaded : exact, m);
	if (!r) {
		r = run_queries(v, s, c, exact, m);
		subjects_fini(v);
	}
	if (!r && v->contexts)
		note_context(v, s, c, &was);
	kv_destroy(loaded);
	kv_destroy(exact);
	return r;
}

static int run_suite(struct eval *v, const char *path, struct msg *m)
{
	bool show = isatty(2);
	struct suite *s;
	size_t n = (size_t)v->e.model->shape.n_vocab;
	int r = suite_read(path, (uint32_t)n, &s, m);

	if (r)
		return r;
	n *= suite_longest_query(s);
	v->ref = malloc(n * sizeof(*v->ref));
	v->got = malloc(n * sizeof(*v->got));
	if (!v->ref || !v->got)
		r = msg_fail(m, -ENOMEM, "out of memory");
	for (size_t i = 0; !r && i < s->n_contexts && i < v->limit; i++) {
		if (show)
			fprintf(stderr, "\r%s %zu/%zu ", suite_kind_name(s->kind), i + 1,
				s->n_contexts);
		r = run_context(v, s, &s->contexts[i], m);
	}
	if (show)
		fprintf(stderr, "\r%30s\r", "");
	free(v->ref);
	free(v->got);
	v->ref = v->got = NULL;
	suite_free(s);
	return r;
}

static void score_sum(struct score *a, const struct score *b)
{
	a->queries += b->queries;
	a->exact_match += b->exact_match;
	a->edit += b->edit;
	a->bits += b->bits;
	a->err += b->err;
	judge_sum(&a->j, &b->j);
}

static void print_score_json(const struct score *s)
{
	double n = s->queries ? s->queries : 1, p = s->j.n > 0 ? s->j.n : 1;

	printf("{\"queries\": %u, \"positions\": %.0f, \"exact_match\": %.5f, "
	       "\"edit_similarity\": %.5f, \"agreement\": %.6f, \"kl_nats\": %.6g, "
	       "\"perplexity\": %.5f, \"perplexity_exact\": %.5f, \"attention_error\": %.6g, "
	       "\"bits_per_value\": %.4f}",
	       s->queries, s->j.n, s->exact_match / n, s->edit / n, s->j.agree / p, s->j.kl / p,
	       judge_ppl(s->j.nll_lossy, p), judge_ppl(s->j.nll_exact, p), s->err / n, s->bits / n);
}

static void print_json(const struct eval *v)
{
	printf("{\"loads\": %u, \"read_bytes\": %llu, \"read_s\": %.6f, \"load_s\": %.6f, "
	       "\"methods\": {",
	       v->loads, (unsigned long long)v->read_bytes, v->read_s, v->first_s);
	for (size_t i = 0; i < v->methods.n; i++) {
		bool first = true;

		printf("%s\"%s\": {", i ? ", " : "", v->methods.v[i]);
		for (int k = 0; k < SUITE_KINDS_; k++) {
			const struct score *s = v->scores[i][k];

			if (!s[EVERYWHERE].queries && !s[ENDS].queries)
				continue;
			printf("%s\"%s\": {\"everywhere\": ", first ? "" : ", ",
			       suite_kind_name((enum suite_kind)k));
			print_score_json(&s[EVERYWHERE]);
			printf(", \"ends\": ");
			print_score_json(&s[ENDS]);
			printf("}");
			first = false;
		}
		printf("}");
	}
	printf("}}\n");
}

static double share(double sum, uint32_t n)
{
	return n ? 100 * sum / n : 0;
}

static void print_row(const struct eval *v, size_t method)
{
	struct score all = { 0 }, suite[SUITE_KINDS_] = { { 0 } };
	const struct score(*s)[PLACES] = v->scores[method];

	for (int k = 0; k < SUITE_KINDS_; k++) {
		score_sum(&suite[k], &s[k][EVERYWHERE]);
		score_sum(&suite[k], &s[k][ENDS]);
		score_sum(&all, &suite[k]);
	}
	printf("| `%s` | %.2f | %.1f | %.1f | %.1f | %.1f | %.3f | %.2f | %.2f | %.5f | %.4f |\n",
	       v->methods.v[method], all.queries ? all.bits / all.queries : 0,
	       share(s[SUITE_RECALL][EVERYWHERE].exact_match, s[SUITE_RECALL][EVERYWHERE].queries),
	       share(s[SUITE_RECALL][ENDS].exact_match, s[SUITE_RECALL][ENDS].queries),
	       share(s[SUITE_CODE][EVERYWHERE].edit, s[SUITE_CODE][EVERYWHERE].queries),
	       share(s[SUITE_CODE][ENDS].edit, s[SUITE_CODE][ENDS].queries),
	       judge_ppl(suite[SUITE_TEXT].j.nll_lossy, suite[SUITE_TEXT].j.n),
	       100 * suite[SUITE_TEXT].j.agree / (suite[SUITE_TEXT].j.n + 1e-9),
	       100 * all.j.agree / (all.j.n + 1e-9), all.j.kl / (all.j.n + 1e-9),
	       all.queries ? all.err / all.queries : 0);
}

static void print_table(const struct eval *v)
{
	struct score n = { 0 };

	for (int k = 0; k < SUITE_KINDS_; k++)
		for (int p = 0; p < PLACES; p++)
			score_sum(&n, &v->scores[0][k][p]);
	printf("| method | bits/value | recall anywhere %% | recall ends %% | code anywhere %% | "
	       "code ends %% | text perplexity | text agreement %% | all agreement %% | "
	       "KL nats | attention error |\n"
	       "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n");
	for (size_t i = 0; i < v->methods.n; i++)
		print_row(v, i);
	printf("\n%u queries, %.0f answer tokens per method\n", n.queries, n.j.n);
	if (v->loads)
		printf("%u caches read, %.1f MB, %.2f ms each from open to last byte\n", v->loads,
		       (double)v->read_bytes * 1e-6, 1e3 * v->read_s / v->loads);
}

/* A directory stands for its three suites. */
static int run_path(struct eval *v, const char *path, struct msg *m)
{
	char file[4096];
	struct stat st;
	int r = 0;

	if (stat(path, &st) || !S_ISDIR(st.st_mode))
		return run_suite(v, path, m);
	for (int k = 0; !r && k < SUITE_KINDS_; k++) {
		snprintf(file, sizeof(file), "%s/%s.txt", path,
			 suite_kind_name((enum suite_kind)k));
		r = run_suite(v, file, m);
	}
	return r;
}

static int run(struct eval *v, struct msg *m)
{
	int r = 0;

	if (!v->methods.n)
		v->methods.v[v->methods.n++] = "exact";
	for (size_t i = 0; !r && i < v->methods.n; i++)
		r = quant_parse(v->methods.v[i], &v->quants[i], m);
	if (!r)
		r = engine_open(&v->e, v->model, v->threads, v->kernels, m);
	if (r)
		return r;
	v->scores = calloc(v->methods.n, sizeof(*v->scores));
	v->subjects = calloc(v->methods.n, sizeof(*v->subjects));
	if (!v->scores || !v->subjects)
		r = msg_fail(m, -ENOMEM, "out of memory");
	if (!r && v->per_context && !(v->contexts = fopen(v->per_context, "we")))
		r = msg_fail(m, -errno, "%s: %s", v->per_context, strerror(errno));
	for (size_t i = 0; !r && i < v->tasks.n; i++)
		r = run_path(v, v->tasks.v[i], m);
	if (v->contexts && fclose(v->contexts) && !r)
		r = msg_fail(m, -EIO, "%s: cannot be written", v->per_context);
	if (!r && v->json)
		print_json(v);
	else if (!r)
		print_table(v);
	free(v->scores);
	free(v->subjects);
	engine_close(&v->e);
	return r;
}

int cmd_eval(int argc, char **argv, struct msg *m)
{
	struct eval v = { .format = CACHE_LLAMA, .dtype = DTYPE_BF16, .limit = UINT32_MAX };
	const struct opt opts[] = {
		{ "tasks", OPT_LIST, &v.tasks, "PATH",
		  "a task file, or a directory of the three suites", 0, 0 },
		{ "method", OPT_LIST, &v.methods, "M",
		  "as kvlm quant's; may be repeated (default exact)", 0, 0 },
		{ "cache-dir", OPT_STR, &v.cache_dir, "DIR",
		  "read caches from here (missing: made first)", 0, 0 },
		{ "exact-dir", OPT_STR, &v.exact_dir, "DIR",
		  "exact caches likewise (default: computed)", 0, 0 },
		{ "format", OPT_FORMAT, &v.format, "F",
		  "of the files: llama (default) or safetensors", 0, 0 },
		{ "dtype", OPT_DTYPE, &v.dtype, "T", "of caches made: bf16 (default), f16 or f32",
		  0, 0 },
		{ "packed", OPT_FLAG, &v.packed, NULL,
		  "files hold more layers than the model: its own come first (corpus --suites)", 0,
		  0 },
		{ "per-context", OPT_STR, &v.per_context, "FILE",
		  "a line for each context: name, queries, score (recall: exact match, code: edit "
		  "similarity, text: agreement) and agreement of the first method", 0, 0 },
		{ "limit", OPT_U32, &v.limit, "N", "only the first N contexts of each suite", 1,
		  UINT32_MAX },
		COMMON_OPTS(&v.threads, &v.kernels, &v.json),
	};
	struct opt_set s = {
		.usage = "kvlm eval MODEL --tasks PATH... [--cache-dir DIR] [--method M...]",
		.about = "Runs task suites with caches loaded from files, exact and lossy.",
		.opts = opts,
		.n_opts = sizeof(opts) / sizeof(opts[0]),
		.args = &v.model,
		.min_args = 1,
		.max_args = 1,
	};
	int r = opt_parse(&s, argc, argv, m);

	if (r)
		return r;
	if (!v.tasks.n)
		return msg_fail(m, -EINVAL, "--tasks is needed");
	return run(&v, m);
}
