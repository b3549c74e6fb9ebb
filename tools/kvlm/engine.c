/* SPDX-License-Identifier: MIT */
#include "engine.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

double seconds_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

int engine_open(struct engine *e, const char *model, uint32_t threads, const char *kernels,
		struct msg *m)
{
	double t0 = seconds_now();
	int r;

	memset(e, 0, sizeof(*e));
	e->kernels = kernels ? kernels_named(kernels) : kernels_best();
	if (!e->kernels)
		return msg_fail(m, -EINVAL, "kernels '%s' do not exist or do not run here",
				kernels);
	r = model_load(model, &e->model, m);
	if (!r) {
		r = pool_create(threads ? threads : pool_default_threads(), &e->pool);
		if (r)
			msg_fail(m, r, "cannot start threads: %s", strerror(-r));
	}
	if (!r)
		r = forward_create(e->model, e->kernels, e->pool, &e->forward, m);
	if (r)
		engine_close(e);
	e->load_s = seconds_now() - t0;
	return r;
}

void engine_close(struct engine *e)
{
	forward_destroy(e->forward);
	pool_destroy(e->pool);
	model_free(e->model);
	memset(e, 0, sizeof(*e));
}

void tokens_fini(struct tokens *t)
{
	free(t->v);
	t->v = NULL;
	t->n = 0;
}

int read_text_file(const char *path, char **ret, size_t *ret_len, struct msg *m)
{
	FILE *f = fopen(path, "re");
	size_t len = 0, cap = 1 << 16, n;
	char *buf, *grown;
	int r = 0;

	if (!f)
		return msg_fail(m, -errno, "%s: %s", path, strerror(errno));
	buf = malloc(cap + 1);
	while (buf && (n = fread(buf + len, 1, cap - len, f)) > 0) {
		len += n;
		if (len < cap)
			continue;
		grown = realloc(buf, 2 * cap + 1);
		if (!grown)
			free(buf);
		buf = grown;
		cap *= 2;
	}
	if (!buf)
		r = msg_fail(m, -ENOMEM, "%s: out of memory", path);
	else if (ferror(f))
		r = msg_fail(m, -EIO, "%s: cannot be read", path);
	fclose(f);
	if (r) {
		free(buf);
		return r;
	}
	buf[len] = 0;
	*ret = buf;
	*ret_len = len;
	return 0;
}

static int encode(const struct engine *e, const char *text, size_t len, bool ids, bool bos,
		  struct tokens *ret, struct msg *m)
{
	const struct vocab *v = &e->model->vocab;
	int32_t *t = malloc((len + 2) * sizeof(*t));
	ssize_t n;

	if (!t)
		return msg_fail(m, -ENOMEM, "out of memory");
	n = ids ? vocab_parse_ids(v, text, len, t + 1, len, m)
		: vocab_encode(v, text, len, t + 1, len, m);
	if (n < 0) {
		free(t);
		return (int)n;
	}
	if (bos && v->bos >= 0 && !(n && t[1] == v->bos)) {
		t[0] = v->bos;
		n++;
	} else {
		memmove(t, t + 1, (size_t)n * sizeof(*t));
	}
	ret->v = t;
	ret->n = (size_t)n;
	return 0;
}

int engine_encode(const struct engine *e, const char *text, size_t len, bool bos,
		  struct tokens *ret, struct msg *m)
{
	return encode(e, text, len, false, bos, ret, m);
}

int engine_read_prompt(const struct engine *e, const char *path, bool ids, bool bos,
		       struct tokens *ret, struct msg *m)
{
	size_t len;
	char *text;
	int r = read_text_file(path, &text, &len, m);

	if (r)
		return r;
	r = encode(e, text, len, ids, bos, ret, m);
	free(text);
	return r ? msg_prefix(m, r, path) : 0;
}

int engine_prefill(struct engine *e, const struct tokens *t, enum dtype dtype, uint32_t extra,
		   struct kv **ret, struct msg *m)
{
	struct kv *kv;
	int r;

	if (t->n > e->model->shape.n_ctx)
		return msg_fail(m, -ERANGE, "%zu tokens are more than the model's context of %u",
				t->n, e->model->shape.n_ctx);
	r = kv_create(&e->model->shape, dtype, (uint32_t)t->n + extra, &kv, m);
	if (r)
		return r;
	r = forward_run(e->forward, kv, t->v, t->n, t->n, NULL, NULL, m);
	if (r) {
		kv_destroy(kv);
		return r;
	}
	*ret = kv;
	return 0;
}

int engine_generate(struct engine *e, struct kv *kv, const int32_t *prompt, size_t n_prompt,
		    uint32_t n, int32_t stop, int32_t *out, uint32_t *ret_n, double *ret_first_s,
		    struct msg *m)
{
	uint32_t n_vocab = e->model->shape.n_vocab, got = 0;
	float *logits = malloc(n_vocab * sizeof(*logits));
	double t0 = seconds_now();
	int r = 0;

	if (!logits)
		return msg_fail(m, -ENOMEM, "out of memory");
	while (!r && got < n) {
		const int32_t *in = got ? &out[got - 1] : prompt;
		size_t n_in = got ? 1 : n_prompt;

		r = forward_run(e->forward, kv, in, n_in, n_in - 1, logits, NULL, m);
		if (r)
			break;
		out[got++] = (int32_t)argmax(logits, n_vocab);
		if (got == 1 && ret_first_s)
			*ret_first_s = seconds_now() - t0;
		if (out[got - 1] == stop)
			break;
	}
	free(logits);
	*ret_n = got;
	return r;
}

int engine_force(struct engine *e, struct kv *kv, const int32_t *prompt, uint32_t n_prompt,
		 const int32_t *answer, uint32_t n_answer, float *logits, struct shadow *sh,
		 struct msg *m)
{
	uint32_t cells = kv->n_cells, tokens = kv->n_tokens, n = n_prompt + n_answer - 1;
	int32_t *t = malloc(n * sizeof(*t));
	int r;

	if (!t)
		return msg_fail(m, -ENOMEM, "out of memory");
	memcpy(t, prompt, n_prompt * sizeof(*t));
	memcpy(t + n_prompt, answer, (n_answer - 1) * sizeof(*t));
	r = forward_run(e->forward, kv, t, n, n_prompt - 1, logits, sh, m);
	free(t);
	for (; !r && sh; sh = sh->next)
		kv_truncate(sh->kv, sh->kv->n_cells - n, tokens);
	kv_truncate(kv, cells, tokens);
	return r;
}
