/* SPDX-License-Identifier: MIT */
/*
 * The network against a slow reference in double precision, and its promise of
 * one result: the same bits whatever the threads, the kernels, the batches, and
 * whether the cache went through a file.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cache.h"
#include "forward.h"
#include "gguf.h"
#include "model.h"
#include "pool.h"
#include "quant.h"
#include "test_kvlm_tiny.h"

#define N 330 /* tokens: more than a batch, more than one block, odd */

#define CHECK(cond)                                                                \
	do {                                                                       \
		if (!(cond)) {                                                     \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond); \
			exit(1);                                                   \
		}                                                                  \
	} while (0)

struct fixture {
	struct tiny t;
	uint8_t *buf;
	struct gguf *g;
	struct model *md;
	int32_t tokens[N];
	struct msg m;
};

static void fixture_init(struct fixture *f, const struct tiny *t)
{
	uint64_t rng = 99;
	size_t len;

	f->t = *t;
	f->buf = tiny_gguf(t, &len);
	CHECK(!gguf_parse(f->buf, len, &f->g, &f->m));
	CHECK(!model_from_gguf(f->g, &f->md, &f->m));
	for (int i = 0; i < N; i++)
		f->tokens[i] = (int32_t)(tiny_rand(&rng) % t->n_vocab);
}

static void fixture_fini(struct fixture *f)
{
	model_free(f->md);
	gguf_close(f->g);
	free(f->buf);
}

/* ---- the reference ---- */

static double *weights(const struct fixture *f, const char *fmt, uint32_t layer)
{
	char name[64];
	const struct gguf_tensor *t;
	double *out;
	float *x;
	size_t n;

	snprintf(name, sizeof(name), fmt, layer);
	t = gguf_find_tensor(f->g, name);
	if (!t)
		return NULL;
	n = t->ne[0] * t->ne[1];
	x = malloc(n * sizeof(*x));
	out = malloc(n * sizeof(*out));
	dtype_to_f32(t->type == GGML_F16    ? DTYPE_F16
		     : t->type == GGML_BF16 ? DTYPE_BF16
					    : DTYPE_F32,
		     t->data, x, n);
	for (size_t i = 0; i < n; i++)
		out[i] = x[i];
	free(x);
	return out;
}

static void mul(double *y, const double *w, const double *x, uint32_t rows, uint32_t cols)
{
	for (uint32_t r = 0; r < rows; r++) {
		y[r] = 0;
		for (uint32_t c = 0; c < cols; c++)
			y[r] += w[(size_t)r * cols + c] * x[c];
	}
}

static void norm(double *y, const double *x, const double *w, uint32_t n)
{
	double sum = 0;

	for (uint32_t i = 0; i < n; i++)
		sum += x[i] * x[i];
	for (uint32_t i = 0; i < n; i++)
		y[i] = x[i] / sqrt(sum / n + (double)1e-5f) * w[i];
}

static void rope(const struct tiny *t, double *x, uint32_t heads, uint32_t pos)
{
	for (uint32_t h = 0; h < heads; h++)
		for (uint32_t i = 0; i < t->rope_dim / 2; i++) {
			double a = pos / (t->rope_scale != 0 ? (double)t->rope_scale : 1) *
				   pow(500.0, -2.0 * i / t->rope_dim);
			double *p = x + h * t->head_dim + 2 * i, u = p[0], v = p[1];

			p[0] = u * cos(a) - v * sin(a);
			p[1] = u * sin(a) + v * cos(a);
		}
}

/* One query head over keys 0..pos; k and v are [token][kv head][dim]. */
static void attend(const struct tiny *t, double *o, const double *q, const double *k,
		   const double *v, uint32_t kv_head, uint32_t pos)
{
	double s[N], max = -1e300, sum = 0;
	uint32_t row = t->n_kv_head * t->head_dim;

	for (uint32_t j = 0; j <= pos; j++) {
		s[j] = 0;
		for (uint32_t d = 0; d < t->head_dim; d++)
			s[j] += q[d] * k[(size_t)j * row + kv_head * t->head_dim + d];
		s[j] /= sqrt(t->head_dim);
		max = fmax(max, s[j]);
	}
	for (uint32_t j = 0; j <= pos; j++)
		sum += s[j] = exp(s[j] - max);
	for (uint32_t d = 0; d < t->head_dim; d++) {
		o[d] = 0;
		for (uint32_t j = 0; j <= pos; j++)
			o[d] += s[j] / sum * v[(size_t)j * row + kv_head * t->head_dim + d];
	}
}

static void ref_attention(const struct fixture *f, double *x, uint32_t l)
{
	const struct tiny *t = &f->t;
	uint32_t d = t->n_embd, qd = t->n_head * t->head_dim, kd = t->n_kv_head * t->head_dim;
	double *wn = weights(f, "blk.%u.attn_norm.weight", l),
	       *wq = weights(f, "blk.%u.attn_q.weight", l);
	double *wk = weights(f, "blk.%u.attn_k.weight", l),
	       *wv = weights(f, "blk.%u.attn_v.weight", l);
	double *wo = weights(f, "blk.%u.attn_output.weight", l);
	double *k = malloc(N * kd * sizeof(*k)), *v = malloc(N * kd * sizeof(*v));
	double *h = malloc(d * sizeof(*h)), *q = malloc(qd * sizeof(*q)),
	       *o = malloc(qd * sizeof(*o));

	for (uint32_t i = 0; i < N; i++) {
		norm(h, x + i * d, wn, d);
		mul(q, wq, h, qd, d);
		mul(k + i * kd, wk, h, kd, d);
		mul(v + i * kd, wv, h, kd, d);
		rope(t, q, t->n_head, i);
		rope(t, k + i * kd, t->n_kv_head, i);
		for (uint32_t a = 0; a < t->n_head; a++)
			attend(t, o + a * t->head_dim, q + a * t->head_dim, k, v,
			       a / (t->n_head / t->n_kv_head), i);
		mul(h, wo, o, d, qd);
		for (uint32_t c = 0; c < d; c++)
			x[i * d + c] += h[c];
	}
	free(wn), free(wq), free(wk), free(wv), free(wo);
	free(k), free(v), free(h), free(q), free(o);
}

static void ref_feed_forward(const struct fixture *f, double *x, uint32_t l)
{
	uint32_t d = f->t.n_embd, ff = f->t.n_ff;
	double *wn = weights(f, "blk.%u.ffn_norm.weight", l),
	       *wg = weights(f, "blk.%u.ffn_gate.weight", l);
	double *wu = weights(f, "blk.%u.ffn_up.weight", l),
	       *wd = weights(f, "blk.%u.ffn_down.weight", l);
	double *h = malloc(d * sizeof(*h)), *g = malloc(ff * sizeof(*g)),
	       *u = malloc(ff * sizeof(*u));

	for (uint32_t i = 0; i < N; i++) {
		norm(h, x + i * d, wn, d);
		mul(g, wg, h, ff, d);
		mul(u, wu, h, ff, d);
		for (uint32_t c = 0; c < ff; c++)
			g[c] = g[c] / (1 + exp(-g[c])) * u[c];
		mul(h, wd, g, d, ff);
		for (uint32_t c = 0; c < d; c++)
			x[i * d + c] += h[c];
	}
	free(wn), free(wg), free(wu), free(wd);
	free(h), free(g), free(u);
}

/* Logits [N][n_vocab] in double. */
static double *reference(const struct fixture *f)
{
	uint32_t d = f->t.n_embd, nv = f->t.n_vocab;
	double *we = weights(f, "token_embd.weight", 0), *wn = weights(f, "output_norm.weight", 0);
	double *wo = f->t.tied ? NULL : weights(f, "output.weight", 0);
	double *x = malloc(N * d * sizeof(*x)), *h = malloc(d * sizeof(*h));
	double *out = malloc((size_t)N * nv * sizeof(*out));

	for (uint32_t i = 0; i < N; i++)
		memcpy(x + i * d, we + (size_t)f->tokens[i] * d, d * sizeof(*x));
	for (uint32_t l = 0; l < f->t.n_layer; l++) {
		ref_attention(f, x, l);
		ref_feed_forward(f, x, l);
	}
	for (uint32_t i = 0; i < N; i++) {
		norm(h, x + i * d, wn, d);
		mul(out + (size_t)i * nv, wo ? wo : we, h, nv, d);
	}
	free(we), free(wn), free(wo), free(x), free(h);
	return out;
}

/* ---- the program ---- */

/* Logits of all tokens, fed @step at a time. */
static float *program(struct fixture *f, unsigned threads, const struct kernels *k,
		      enum dtype dtype, size_t step, struct kv **ret_kv)
{
	uint32_t nv = f->t.n_vocab;
	float *logits = malloc((size_t)N * nv * sizeof(*logits));
	struct pool *pool;
	struct forward *fw;
	struct kv *kv;

	CHECK(!pool_create(threads, &pool));
	CHECK(!forward_create(f->md, k, pool, &fw, &f->m));
	CHECK(!kv_create(&f->md->shape, dtype, N + 50, &kv, &f->m));
	for (size_t i = 0; i < N; i += step) {
		size_t n = N - i < step ? N - i : step;

		CHECK(!forward_run(fw, kv, f->tokens + i, n, 0, logits + i * nv, NULL, &f->m));
	}
	CHECK(kv->n_cells == N && kv->n_tokens == N);
	forward_destroy(fw);
	pool_destroy(pool);
	if (ret_kv)
		*ret_kv = kv;
	else
		kv_destroy(kv);
	return logits;
}

static void against_reference(const struct tiny *t, const char *what)
{
	struct fixture f;
	double *ref, worst = 0, scale = 0;
	float *got;

	fixture_init(&f, t);
	ref = reference(&f);
	got = program(&f, 1, kernels_best(), DTYPE_F32, N, NULL);
	for (size_t i = 0; i < (size_t)N * t->n_vocab; i++) {
		worst = fmax(worst, fabs(got[i] - ref[i]));
		scale = fmax(scale, fabs(ref[i]));
	}
	printf("%s: largest error %.2e of logits up to %.2f\n", what, worst, scale);
	CHECK(scale > 0.1 && worst < 2e-5 * scale);
	free(ref);
	free(got);
	fixture_fini(&f);
}

static void one_result(const struct tiny *t)
{
	const size_t steps[] = { 1, 7, 64, 256, N };
	size_t bytes = (size_t)N * t->n_vocab * sizeof(float);
	const struct kernels *k;
	struct fixture f;
	float *first, *got;

	fixture_init(&f, t);
	first = program(&f, 1, kernels_named("portable"), DTYPE_BF16, N, NULL);
	for (size_t i = 0; (k = kernels_nth(i)); i++)
		for (size_t s = 0; s < 5; s++)
			for (unsigned threads = 1; threads <= 3; threads += 1 + (s > 1)) {
				got = program(&f, threads, k, DTYPE_BF16, steps[s], NULL);
				if (memcmp(first, got, bytes)) {
					fprintf(stderr, "%s, %u threads, steps of %zu differ\n",
						k->name, threads, steps[s]);
					exit(1);
				}
				free(got);
			}
	free(first);
	fixture_fini(&f);
	printf("same bits from all kernels, threads and batches\n");
}

static void same_after_file(struct fixture *f, const char *dir, enum dtype d, enum cache_format fmt)
{
	uint32_t nv = f->t.n_vocab;
	float *a = malloc(20 * nv * sizeof(*a)), *b = malloc(20 * nv * sizeof(*b));
	struct kv *kv, *back;
	struct cache *c;
	struct pool *pool;
	struct forward *fw;
	char path[300];

	free(program(f, 1, kernels_best(), d, N, &kv));
	snprintf(path, sizeof(path), "%s/%s-%s", dir, dtype_name(d), cache_format_name(fmt));
	CHECK(!cache_save(path, kv, fmt, f->md->hash, false, &f->m));
	CHECK(!cache_read(path, &c, &f->m));
	CHECK(c->dtype == d && c->format == fmt && c->n_cells == N);
	CHECK(!cache_to_kv(c, f->md, N + 20, &back, &f->m));
	CHECK(!pool_create(1, &pool));
	CHECK(!forward_create(f->md, kernels_best(), pool, &fw, &f->m));
	CHECK(!forward_run(fw, kv, f->tokens, 20, 0, a, NULL, &f->m));
	CHECK(!forward_run(fw, back, f->tokens, 20, 0, b, NULL, &f->m));
	CHECK(!memcmp(a, b, 20 * nv * sizeof(*a)));
	forward_destroy(fw);
	pool_destroy(pool);
	cache_free(c);
	kv_destroy(kv);
	kv_destroy(back);
	free(a);
	free(b);
	unlink(path);
}

/* Dropping tokens: the shadow's attention is what running on it gives. */
static void truncate_and_shadow(const struct tiny *t)
{
	double err2[8] = { 0 }, ref2[8] = { 0 }, bits;
	const struct quant q = { .kind = QUANT_DROP, .sinks = 4, .recent = 100,
				 .drop = { .method = DROP_WINDOW, .sinks = 4, .recent = 100 } };
	struct fixture f;
	struct kv *kv, *small, *copy;
	struct pool *pool;
	struct forward *fw;
	struct msg *m;
	float *a, *b;
	uint32_t nv = t->n_vocab;

	fixture_init(&f, t);
	m = &f.m;
	a = malloc(30 * nv * sizeof(*a));
	b = malloc(30 * nv * sizeof(*b));
	free(program(&f, 1, kernels_best(), DTYPE_F16, N, &kv));
	CHECK(!kv_clone(kv, &copy, m));
	CHECK(!pool_create(2, &pool));
	CHECK(!forward_create(f.md, kernels_best(), pool, &fw, m));
	/* an equal shadow differs in nothing */
	struct shadow same = { copy, err2, ref2, NULL };
	CHECK(!forward_run(fw, kv, f.tokens, 30, 0, a, &same, m));
	for (uint32_t l = 0; l < t->n_layer; l++)
		CHECK(err2[l] == 0 && ref2[l] > 0);
	/* cut back, the past is forgotten: the same tokens give the same logits */
	kv_truncate(kv, N, N);
	CHECK(!forward_run(fw, kv, f.tokens, 30, 0, b, NULL, m));
	CHECK(!memcmp(a, b, 30 * nv * sizeof(*a)));
	kv_truncate(kv, N, N);
	CHECK(!quant_kv(&q, kv, &small, &bits, m));
	CHECK(small->n_cells == 104 && small->n_tokens == N && small->pos[3] == 3 &&
	      small->pos[4] == N - 100);
	/* one shadow does not see another */
	double err2b[8] = { 0 }, ref2b[8] = { 0 };
	struct shadow last = { copy, err2b, ref2b, NULL };
	struct shadow sh = { small, err2, ref2, &last };

	kv_truncate(copy, N, N);
	CHECK(!forward_run(fw, kv, f.tokens, 30, 0, b, &sh, m));
	CHECK(!memcmp(a, b, 30 * nv * sizeof(*a)));
	CHECK(err2[0] > 0 && small->n_cells == 134);
	for (uint32_t l = 0; l < t->n_layer; l++)
		CHECK(err2b[l] == 0 && ref2b[l] > 0);
	forward_destroy(fw);
	pool_destroy(pool);
	kv_destroy(kv);
	kv_destroy(small);
	kv_destroy(copy);
	free(a);
	free(b);
	fixture_fini(&f);
}

static void limits(const struct tiny *t)
{
	int32_t bad[2] = { 0, (int32_t)t->n_vocab };
	struct fixture f;
	struct pool *pool;
	struct forward *fw;
	struct kv *kv;

	fixture_init(&f, t);
	CHECK(!pool_create(1, &pool));
	CHECK(!forward_create(f.md, kernels_best(), pool, &fw, &f.m));
	CHECK(!kv_create(&f.md->shape, DTYPE_F16, 40, &kv, &f.m));
	CHECK(forward_run(fw, kv, bad, 2, 2, NULL, NULL, &f.m) < 0 && kv->n_cells == 0);
	CHECK(forward_run(fw, kv, f.tokens, 41, 41, NULL, NULL, &f.m) < 0 && kv->n_cells == 0);
	CHECK(!forward_run(fw, kv, f.tokens, 40, 40, NULL, NULL, &f.m));
	CHECK(forward_run(fw, kv, f.tokens, 1, 1, NULL, NULL, &f.m) < 0 && kv->n_cells == 40);
	kv_destroy(kv);
	CHECK(!kv_create(&f.md->shape, DTYPE_F16, t->n_ctx + 10, &kv, &f.m));
	for (uint32_t i = 0; i < t->n_ctx; i++)
		CHECK(!forward_run(fw, kv, f.tokens, 1, 1, NULL, NULL, &f.m));
	CHECK(forward_run(fw, kv, f.tokens, 1, 1, NULL, NULL, &f.m) < 0);
	CHECK(strstr(f.m.text, "context"));
	kv_destroy(kv);
	forward_destroy(fw);
	pool_destroy(pool);
	fixture_fini(&f);
}

int main(void)
{
	char dir[] = "/tmp/kvlm-test-XXXXXX";
	struct tiny t = TINY_DEFAULT, u;
	struct fixture f;

	against_reference(&t, "f32, untied");
	u = t;
	u.type = GGML_F16;
	u.tied = true;
	against_reference(&u, "f16, tied");
	u = t;
	u.type = GGML_BF16;
	u.rope_dim = 6;
	u.seed = 2;
	against_reference(&u, "bf16, rope over 6 of 10 dimensions");
	u = t;
	u.rope_type = "linear";
	u.rope_scale = 4;
	against_reference(&u, "linear rope scaling");
	u = t;
	u.n_kv_head = 6;
	u.n_layer = 1;
	against_reference(&u, "a KV head for each head");
	u = t;
	u.head_dim = 64;
	u.rope_dim = 64;
	u.n_head = 4;
	u.n_embd = 256;
	u.n_layer = 1;
	against_reference(&u, "the shipped model's widths");
	one_result(&t);
	truncate_and_shadow(&t);
	limits(&t);
	CHECK(mkdtemp(dir));
	fixture_init(&f, &t);
	for (int d = 0; d < DTYPES_; d++)
		for (int c = 0; c < CACHE_FORMATS_; c++)
			same_after_file(&f, dir, (enum dtype)d, (enum cache_format)c);
	fixture_fini(&f);
	rmdir(dir);
	printf("a cache from a file continues as if it had never left\n");
	return 0;
}
