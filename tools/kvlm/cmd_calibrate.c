/* SPDX-License-Identifier: MIT */
/*
 * Pairs of the error that policy/quality.h sees in a level of a context's cache, and of
 * the share of greedy tokens that the level keeps there; and the curve through them, or
 * how well a given curve foretells them.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "command.h"
#include "engine.h"
#include "estimate.h"
#include "judge.h"
#include "levels.h"
#include "opt.h"
#include "policy/quality.h"
#include "quant.h"
#include "suite.h"

#define CURVE_TEXT_MAX 512

struct pair {
	struct quality_pair p;
	enum suite_kind kind;
	uint32_t context;
	unsigned level;
};

struct calibrate {
	const char *model, *curve, *kernels;
	struct opt_list tasks;
	enum dtype dtype;
	uint32_t threads, limit, least;
	bool json;

	struct engine e;
	struct pair *pairs; /* owned */
	size_t n_pairs, cap_pairs;
	float *ref, *got; /* owned; logits of one answer */
};

static int pairs_add(struct calibrate *c, struct pair p, struct msg *m)
{
	if (c->n_pairs == c->cap_pairs) {
		size_t cap = c->cap_pairs ? 2 * c->cap_pairs : 64;
		struct pair *grown = realloc(c->pairs, cap * sizeof(*grown));

		if (!grown)
			return msg_fail(m, -ENOMEM, "out of memory");
		c->pairs = grown;
		c->cap_pairs = cap;
	}
	c->pairs[c->n_pairs++] = p;
	return 0;
}

/* Answers of all levels beside the exact one's. */
static int judge_levels(struct calibrate *c, const struct suite_context *sc, struct kv *exact,
			struct kv *lossy[], struct judge j[], struct msg *m)
{
	uint32_t nv = c->e.model->shape.n_vocab;
	int r = 0;

	for (size_t i = 0; !r && i < sc->n_queries; i++) {
		const struct suite_query *q = &sc->queries[i];

		r = engine_force(&c->e, exact, q->prompt, q->n_prompt, q->answer, q->n_answer,
				 c->ref, NULL, m);
		for (unsigned l = 0; !r && l + 1 < levels_count(); l++) {
			r = engine_force(&c->e, lossy[l], q->prompt, q->n_prompt, q->answer,
					 q->n_answer, c->got, NULL, m);
			for (uint32_t t = 0; !r && t < q->n_answer; t++)
				judge_add(&j[l], c->ref + (size_t)t * nv, c->got + (size_t)t * nv,
					  nv, q->answer[t]);
		}
	}
	return r;
}

static int run_context(struct calibrate *c, const struct suite *s, const struct suite_context *sc,
		       struct msg *m)
{
	const struct tokens t = { (int32_t *)(uintptr_t)sc->tokens, sc->n_tokens };
	struct kv *exact = NULL, *lossy[16] = { NULL };
	struct judge j[16] = { { 0 } };
	double error[16], bits;
	unsigned n = levels_count() - 1;
	int r = engine_prefill(&c->e, &t, c->dtype, suite_longest_query(s), &exact, m);

	for (unsigned l = 0; !r && l < n; l++) {
		r = quant_kv(&(struct quant){ .kind = QUANT_LADDER, .bits = l }, exact, &lossy[l],
			     &bits, m);
		if (!r)
			r = estimate_error(exact, lossy[l], &error[l], m);
	}
	if (!r)
		r = judge_levels(c, sc, exact, lossy, j, m);
	for (unsigned l = 0; l < n; l++) {
		if (!r)
			r = pairs_add(c,
				      (struct pair){ { error[l], j[l].agree / j[l].n, j[l].n },
						     s->kind, sc->id, l },
				      m);
		kv_destroy(lossy[l]);
	}
	kv_destroy(exact);
	return r;
}

static uint32_t answer_tokens(const struct suite_context *sc)
{
	uint32_t n = 0;

	for (size_t i = 0; i < sc->n_queries; i++)
		n += sc->queries[i].n_answer;
	return n;
}

static int run_suite(struct calibrate *c, const char *path, struct msg *m)
{
	uint32_t nv = c->e.model->shape.n_vocab;
	struct suite *s;
	size_t n;
	int r = suite_read(path, nv, &s, m);

	if (r)
		return r;
	n = (size_t)nv * suite_longest_query(s);
	c->ref = malloc(n * sizeof(*c->ref));
	c->got = malloc(n * sizeof(*c->got));
	if (!c->ref || !c->got)
		r = msg_fail(m, -ENOMEM, "out of memory");
	for (size_t i = 0; !r && i < s->n_contexts && i < c->limit; i++)
		if (answer_tokens(&s->contexts[i]) >= c->least)
			r = run_context(c, s, &s->contexts[i], m);
	free(c->ref);
	free(c->got);
	c->ref = c->got = NULL;
	suite_free(s);
	return r;
}

static int run_path(struct calibrate *c, const char *path, struct msg *m)
{
	char file[4096];
	struct stat st;
	int r = 0;

	if (stat(path, &st) || !S_ISDIR(st.st_mode))
		return run_suite(c, path, m);
	for (int k = 0; !r && k < SUITE_KINDS_; k++) {
		snprintf(file, sizeof(file), "%s/%s.txt", path,
			 suite_kind_name((enum suite_kind)k));
		r = run_suite(c, file, m);
	}
	return r;
}

/* Pair @i of the lossy levels, then one per context for the exact level. */
static struct quality_pair pair_at(const struct calibrate *c, size_t i)
{
	return i < c->n_pairs ? c->pairs[i].p : (struct quality_pair){ 0, 1, 0 };
}

/* Place of pair @i among the first @n by error, or by quality; equals share the mean. */
static double rank_of(const struct calibrate *c, size_t n, bool error, size_t i)
{
	struct quality_pair p = pair_at(c, i);
	double rank = 0;

	for (size_t k = 0; k < n; k++) {
		struct quality_pair o = pair_at(c, k);
		double x = error ? p.error : p.quality, y = error ? o.error : o.quality;

		rank += y < x ? 1 : y == x ? 0.5 : 0;
	}
	return rank;
}

/* Spearman's: of small errors with high quality. */
static double rank_correlation(const struct calibrate *c, bool with_exact)
{
	size_t n = c->n_pairs + (with_exact ? c->n_pairs / (levels_count() - 1) : 0);
	double mean = (double)n / 2, ab = 0, aa = 0, bb = 0;

	for (size_t i = 0; i < n; i++) {
		double a = rank_of(c, n, true, i) - mean, b = rank_of(c, n, false, i) - mean;

		ab -= a * b;
		aa += a * a;
		bb += b * b;
	}
	return aa > 0 && bb > 0 ? ab / sqrt(aa * bb) : 0;
}

static double absolute_error(const struct calibrate *c, const struct quality_curve *curve)
{
	double sum = 0;

	for (size_t i = 0; i < c->n_pairs; i++)
		sum += fabs(quality_of(curve, c->pairs[i].p.error) - c->pairs[i].p.quality);
	return c->n_pairs ? sum / (double)c->n_pairs : 0;
}

static void print_result(const struct calibrate *c, const struct quality_curve *curve)
{
	const char *form = c->json ? "%s{\"context\": \"%s-%03u\", \"level\": %u, \"error\": %.6g, "
				     "\"quality\": %.6g, \"tokens\": %.0f}"
				   : "%s%s-%03u %u %.6g %.6g %.0f\n";
	char text[CURVE_TEXT_MAX];

	quality_curve_print(curve, text, sizeof(text));
	printf(c->json ? "{\"model\": \"%016llx\", \"curve\": \"%s\", \"rank_correlation\": %.4f, "
			 "\"rank_correlation_lossy\": %.4f, \"mean_absolute_error\": %.5f, \"pairs\": ["
		       : "# context, level, error, quality, tokens; model %016llx\n# curve %s\n# rank correlation "
			 "%.4f (of lossy levels alone %.4f), mean absolute error %.5f\n",
	       (unsigned long long)c->e.model->hash, text, rank_correlation(c, true),
	       rank_correlation(c, false), absolute_error(c, curve));
	for (size_t i = 0; i < c->n_pairs; i++) {
		const struct pair *p = &c->pairs[i];

		printf(form, c->json && i ? ", " : "", suite_kind_name(p->kind), p->context,
		       p->level, p->p.error, p->p.quality, p->p.weight);
	}
	if (c->json)
		printf("]}\n");
}

static int fit(const struct calibrate *c, struct quality_curve *ret, struct msg *m)
{
	struct quality_pair *p = malloc((c->n_pairs + 1) * sizeof(*p));
	int r;

	if (!p)
		return msg_fail(m, -ENOMEM, "out of memory");
	for (size_t i = 0; i < c->n_pairs; i++)
		p[i] = c->pairs[i].p;
	r = quality_fit(p, c->n_pairs, ret);
	free(p);
	return r ? msg_fail(m, r, "%zu pairs are no curve", c->n_pairs) : 0;
}

static int run(struct calibrate *c, struct msg *m)
{
	struct quality_curve curve = quality_builtin;
	int r = 0;

	if (c->curve && strcmp(c->curve, "builtin") != 0 && quality_curve_parse(c->curve, &curve))
		return msg_fail(m, -EINVAL, "'%s' is no curve", c->curve);
	r = engine_open(&c->e, c->model, c->threads, c->kernels, m);
	for (size_t i = 0; !r && i < c->tasks.n; i++)
		r = run_path(c, c->tasks.v[i], m);
	if (!r && !c->curve)
		r = fit(c, &curve, m);
	if (!r)
		print_result(c, &curve);
	free(c->pairs);
	engine_close(&c->e);
	return r;
}

int cmd_calibrate(int argc, char **argv, struct msg *m)
{
	struct calibrate c = { .dtype = DTYPE_BF16, .limit = UINT32_MAX, .least = 200 };
	const struct opt opts[] = {
		{ "tasks", OPT_LIST, &c.tasks, "PATH",
		  "a task file, or a directory of the three suites", 0, 0 },
		{ "curve", OPT_STR, &c.curve, "CURVE",
		  "check this one (error:quality,... or builtin), do not fit", 0, 0 },
		{ "least", OPT_U32, &c.least, "N", "skip contexts with fewer answer tokens (200)",
		  1, UINT32_MAX },
		{ "dtype", OPT_DTYPE, &c.dtype, "T", "of caches: bf16 (default), f16 or f32", 0, 0 },
		{ "limit", OPT_U32, &c.limit, "N", "only the first N contexts of each suite", 1,
		  UINT32_MAX },
		COMMON_OPTS(&c.threads, &c.kernels, &c.json),
	};
	struct opt_set s = {
		.usage = "kvlm calibrate MODEL --tasks PATH... [--curve CURVE]",
		.about = "Measures what each level costs, and fits the curve from error to quality.",
		.opts = opts,
		.n_opts = sizeof(opts) / sizeof(opts[0]),
		.args = &c.model,
		.min_args = 1,
		.max_args = 1,
	};
	int r = opt_parse(&s, argc, argv, m);

	if (r)
		return r;
	if (!c.tasks.n)
		return msg_fail(m, -EINVAL, "--tasks is needed");
	return run(&c, m);
}
