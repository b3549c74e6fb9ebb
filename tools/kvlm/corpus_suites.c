/* SPDX-License-Identifier: MIT */
/*
 * Files of one context of the task suites each, filled up with the contexts that
 * follow it (after the last comes the first). A context is kept while the files
 * before it need it; all must have the same number of tokens.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "corpus_suites.h"

struct member {
	enum suite_kind kind;
	const struct suite_context *c; /* borrowed */
	struct kv *kv;                 /* owned; NULL: not computed, or no longer needed */
};

struct members {
	struct member *v; /* owned */
	size_t n;
	struct suite *suites[SUITE_KINDS_]; /* owned */
};

static void members_fini(struct members *ms)
{
	for (size_t i = 0; i < ms->n; i++)
		kv_destroy(ms->v[i].kv);
	for (int k = 0; k < SUITE_KINDS_; k++)
		suite_free(ms->suites[k]);
	free(ms->v);
}

static int members_open(struct members *ms, const struct corpus_suites *o, struct engine *e,
			struct msg *m)
{
	char path[4096];
	int r = 0;

	for (int k = 0; !r && k < SUITE_KINDS_; k++) {
		struct member *v;
		struct suite *s;

		snprintf(path, sizeof(path), "%s/%s.txt", o->tasks,
			 suite_kind_name((enum suite_kind)k));
		r = suite_read(path, e->model->shape.n_vocab, &ms->suites[k], m);
		if (r)
			break;
		s = ms->suites[k];
		v = realloc(ms->v, (ms->n + s->n_contexts) * sizeof(*v));
		if (!v)
			return msg_fail(m, -ENOMEM, "out of memory");
		ms->v = v;
		for (size_t i = 0; i < s->n_contexts && i < o->limit; i++)
			ms->v[ms->n++] = (struct member){ (enum suite_kind)k, &s->contexts[i], NULL };
	}
	for (size_t i = 1; !r && i < ms->n; i++)
		if (ms->v[i].c->n_tokens != ms->v[0].c->n_tokens)
			r = msg_fail(m, -EINVAL, "contexts of %u and %u tokens do not go into one file",
				     ms->v[0].c->n_tokens, ms->v[i].c->n_tokens);
	return r;
}

static int get(struct member *b, const struct corpus_suites *o, struct engine *e, struct msg *m)
{
	const struct tokens t = { (int32_t *)(uintptr_t)b->c->tokens, b->c->n_tokens };

	return b->kv ? 0 : engine_prefill(e, &t, o->dtype, 0, &b->kv, m);
}

static int put_layers(struct cache_writer *w, const struct kv *kv, uint32_t first, struct msg *m)
{
	int r = 0;

	for (uint32_t l = 0; !r && l < kv->n_layer; l++)
		for (int v = 0; !r && v < 2; v++) {
			uint8_t *buf;
			size_t len;

			r = cache_tensor_bytes(kv, l, v, &buf, &len, m);
			if (r)
				return r;
			r = cache_writer_put(w, first + l, v, buf, m);
			free(buf);
		}
	return r;
}

static int write_one(struct members *ms, size_t at, size_t each, const struct corpus_suites *o,
		     struct engine *e, struct msg *m)
{
	const struct model_shape *sh = &e->model->shape;
	struct member *own = &ms->v[at];
	struct cache_writer *w = NULL;
	char path[4096];
	int r = get(own, o, e, m);

	if (r)
		return r;
	snprintf(path, sizeof(path), "%s/%s-%03u.%s", o->out, suite_kind_name(own->kind),
		 own->c->id, o->format == CACHE_LLAMA ? "bin" : "safetensors");
	{
		const struct cache_desc d = {
			.format = o->format, .dtype = o->dtype,
			.n_layer = (uint32_t)each * sh->n_layer, .n_kv_head = sh->n_kv_head,
			.head_dim = sh->head_dim, .n_cells = own->kv->n_cells,
			.n_tokens = own->kv->n_tokens, .tokens = own->kv->tokens, .pos = own->kv->pos,
			.note = "packed: the tokens listed are those of the first layers",
		};
		r = cache_writer_open(path, &d, &w, m);
	}
	for (size_t i = 0; !r && i < each; i++) {
		struct member *b = &ms->v[(at + i) % ms->n];

		r = get(b, o, e, m);
		if (!r)
			r = put_layers(w, b->kv, (uint32_t)i * sh->n_layer, m);
	}
	if (r) {
		cache_writer_abort(w);
		return r;
	}
	return cache_writer_close(w, m);
}

int corpus_suites_write(const struct corpus_suites *o, struct engine *e, uint32_t *ret_files,
			struct msg *m)
{
	const struct model_shape *sh = &e->model->shape;
	struct members ms = { 0 };
	size_t each, size;
	int r = members_open(&ms, o, e, m);

	*ret_files = 0;
	if (!r && !ms.n)
		r = msg_fail(m, -EINVAL, "the suites in %s have no contexts", o->tasks);
	if (!r) {
		size = 2ull * sh->n_layer * sh->n_kv_head * sh->head_dim * ms.v[0].c->n_tokens *
		       dtype_bytes(o->dtype);
		each = o->pack ? (o->pack + size - 1) / size : 1;
		if (each > 65536 / sh->n_layer)
			r = msg_fail(m, -EINVAL, "--pack %llu is too much for these contexts",
				     (unsigned long long)o->pack);
		for (size_t i = 0; !r && i < ms.n; i++) {
			r = write_one(&ms, i, each, o, e, m);
			*ret_files += !r;
			kv_destroy(ms.v[i].kv); /* the first ones are computed again for the last files */
			ms.v[i].kv = NULL;
		}
	}
	members_fini(&ms);
	return r;
}
