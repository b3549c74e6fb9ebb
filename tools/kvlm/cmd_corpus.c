/* SPDX-License-Identifier: MIT */
/*
 * Contexts are cut one after another from the given texts (or from the shipped
 * task suites). When the text is used up they are cut again from another
 * offset, so that contexts overlap but none is equal to another; the manifest
 * says how many came from a second pass.
 *
 * With --pack BYTES each file is filled with as many contexts as fit, each
 * taking the model's number of layers: a file of the size and statistics of a
 * large model's cache, which no model can load.
 *
 * With --suites there is one file for each context of the task suites, its own
 * layers first, filled up with those of the contexts that follow it: large files
 * whose contexts can still be asked questions (kvlm eval --packed).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "command.h"
#include "corpus_suites.h"
#include "engine.h"
#include "json.h"
#include "opt.h"
#include "suite.h"

#define SHIFT 389 /* tokens between the starts of two passes over a text */

struct corpus {
	const char *model, *out, *tasks, *kernels;
	struct opt_list text;
	enum cache_format format;
	enum dtype dtype;
	uint32_t threads, contexts, tokens;
	uint64_t pack;
	bool ids, json, suites;
};

/* Where contexts come from: one long list of tokens, and a place in it. */
struct source {
	struct tokens all;
	size_t at, passes, cut;
	int32_t bos;
};

static int source_add(struct source *s, const int32_t *t, size_t n, struct msg *m)
{
	int32_t *p = realloc(s->all.v, (s->all.n + n) * sizeof(*p));

	if (!p)
		return msg_fail(m, -ENOMEM, "out of memory");
	memcpy(p + s->all.n, t, n * sizeof(*p));
	s->all.v = p;
	s->all.n += n;
	return 0;
}

static int source_add_suite(struct source *s, const struct engine *e, const char *dir,
			    const char *name, struct msg *m)
{
	struct suite *suite;
	char path[4096];
	int r;

	snprintf(path, sizeof(path), "%s/%s.txt", dir, name);
	r = suite_read(path, e->model->shape.n_vocab, &suite, m);
	if (r)
		return r;
	for (size_t i = 0; !r && i < suite->n_contexts; i++) {
		const struct suite_context *c = &suite->contexts[i];
		uint32_t skip = c->tokens[0] == s->bos;

		r = source_add(s, c->tokens + skip, c->n_tokens - skip, m);
	}
	suite_free(suite);
	return r;
}

/* DIR/../tasks beside the model's file. */
static void default_tasks(const char *model, char *out, size_t cap)
{
	const char *slash = strrchr(model, '/');

	snprintf(out, cap, "%.*s../tasks", slash ? (int)(slash + 1 - model) : 0, model);
}

static int source_open(struct source *s, const struct corpus *o, const struct engine *e,
		       struct msg *m)
{
	static const char *const names[] = { "text", "code", "recall" };
	char dir[4000];
	struct tokens t;
	int r = 0;

	memset(s, 0, sizeof(*s));
	s->bos = e->model->vocab.bos;
	for (size_t i = 0; !r && i < o->text.n; i++) {
		r = engine_read_prompt(e, o->text.v[i], o->ids, false, &t, m);
		if (!r) {
			r = source_add(s, t.v, t.n, m);
			tokens_fini(&t);
		}
	}
	default_tasks(o->model, dir, sizeof(dir));
	for (size_t i = 0; !r && !o->text.n && i < 3; i++)
		r = source_add_suite(s, e, o->tasks ? o->tasks : dir, names[i], m);
	if (r == -ENOENT && !o->text.n && !o->tasks)
		msg_fail(m, r, "no task suites in %s: give --text FILE or --tasks DIR", dir);
	if (!r && s->all.n < o->tokens)
		r = msg_fail(m, -EINVAL, "a text of %zu tokens is too short for contexts of %u",
			     s->all.n, o->tokens);
	if (r)
		tokens_fini(&s->all);
	return r;
}

/* The next context of @n tokens, BOS first. */
static void source_next(struct source *s, uint32_t n, int32_t *out)
{
	uint32_t bos = s->bos >= 0;

	if (s->at + n - bos > s->all.n) {
		s->passes++;
		s->at = s->passes * SHIFT % (s->all.n - (n - bos) + 1);
	}
	if (bos)
		out[0] = s->bos;
	memcpy(out + bos, s->all.v + s->at, (n - bos) * sizeof(*out));
	s->at += n - bos;
	s->cut++;
}

static int next_context(struct source *s, struct engine *e, const struct corpus *o, struct kv **ret,
			struct msg *m)
{
	struct tokens t = { malloc(o->tokens * sizeof(*t.v)), o->tokens };
	int r;

	if (!t.v)
		return msg_fail(m, -ENOMEM, "out of memory");
	source_next(s, o->tokens, t.v);
	r = engine_prefill(e, &t, o->dtype, 0, ret, m);
	tokens_fini(&t);
	return r;
}

static int write_plain(struct source *s, struct engine *e, const struct corpus *o, const char *path,
		       struct msg *m)
{
	struct kv *kv;
	int r = next_context(s, e, o, &kv, m);

	if (r)
		return r;
	r = cache_save(path, kv, o->format, e->model->hash, false, m);
	kv_destroy(kv);
	return r;
}

/* One context as layers [first, first + n_layer) of the file. */
static int pack_one(struct cache_writer *w, const struct kv *kv, uint32_t first, struct msg *m)
{
	uint8_t *buf;
	size_t len;
	int r = 0;

	for (uint32_t l = 0; !r && l < kv->n_layer; l++)
		for (int v = 0; !r && v < 2; v++) {
			r = cache_tensor_bytes(kv, l, v, &buf, &len, m);
			if (r)
				return r;
			r = cache_writer_put(w, first + l, v, buf, m);
			free(buf);
		}
	return r;
}

static int write_packed(struct source *s, struct engine *e, const struct corpus *o,
			const char *path, struct msg *m)
{
	const struct model_shape *sh = &e->model->shape;
	uint64_t each = 2ull * sh->n_layer * sh->n_kv_head * sh->head_dim * o->tokens *
			dtype_bytes(o->dtype);
	uint64_t n = (o->pack + each - 1) / each;
	struct cache_writer *w = NULL;
	struct kv *kv = NULL;
	char note[200];
	int r = 0;

	if (n > 65536 / sh->n_layer)
		return msg_fail(m, -EINVAL, "--pack %llu is too much for contexts of %u tokens",
				(unsigned long long)o->pack, o->tokens);
	snprintf(note, sizeof(note),
		 "packed: %llu contexts of %u tokens, each as %u layers of this "
		 "file; the tokens listed are the first context's",
		 (unsigned long long)n, o->tokens, sh->n_layer);
	for (uint64_t i = 0; !r && i < n; i++) {
		r = next_context(s, e, o, &kv, m);
		if (!r && !w) {
			const struct cache_desc d = {
				.format = o->format,
				.dtype = o->dtype,
				.n_layer = (uint32_t)n * sh->n_layer,
				.n_kv_head = sh->n_kv_head,
				.head_dim = sh->head_dim,
				.n_cells = o->tokens,
				.n_tokens = o->tokens,
				.tokens = kv->tokens,
				.pos = kv->pos,
				.note = note,
			};
			r = cache_writer_open(path, &d, &w, m);
		}
		if (!r)
			r = pack_one(w, kv, (uint32_t)i * sh->n_layer, m);
		kv_destroy(kv);
		kv = NULL;
	}
	if (r)
		cache_writer_abort(w);
	return r ? r : cache_writer_close(w, m);
}

/* What lies in the directory, for whoever measures with it. */
static int write_manifest(const struct corpus *o, const struct engine *e, const struct source *s,
			  struct msg *m)
{
	const struct model_shape *sh = &e->model->shape;
	uint64_t each = 2ull * sh->n_layer * sh->n_kv_head * sh->head_dim * o->tokens *
			dtype_bytes(o->dtype);
	char path[4096];
	FILE *f;

	snprintf(path, sizeof(path), "%s/manifest.json", o->out);
	f = fopen(path, "we");
	if (!f)
		return msg_fail(m, -errno, "%s: %s", path, strerror(errno));
	fprintf(f,
		"{\n \"files\": %u,\n \"format\": \"%s\",\n \"dtype\": \"%s\",\n"
		" \"tokens_per_context\": %u,\n \"layers_per_context\": %u,\n"
		" \"kv_heads\": %u,\n \"head_dim\": %u,\n \"model\": \"%016llx\",\n"
		" \"packed\": %s,\n \"contexts_per_file\": %llu,\n \"contexts\": %zu,\n"
		" \"text_tokens\": %zu,\n \"passes_over_text\": %zu\n}\n",
		o->contexts, cache_format_name(o->format), dtype_name(o->dtype), o->tokens,
		sh->n_layer, sh->n_kv_head, sh->head_dim, (unsigned long long)e->model->hash,
		o->pack ? "true" : "false",
		(unsigned long long)(o->pack ? (o->pack + each - 1) / each : 1), s->cut, s->all.n,
		s->passes + 1);
	if (fclose(f))
		return msg_fail(m, -EIO, "%s: cannot be written", path);
	return 0;
}

static int run(const struct corpus *o, struct engine *e, struct msg *m)
{
	struct source s;
	double t0 = seconds_now();
	char path[4096];
	int r = source_open(&s, o, e, m);

	if (r)
		return r;
	if (mkdir(o->out, 0777) && errno != EEXIST)
		r = msg_fail(m, -errno, "%s: %s", o->out, strerror(errno));
	for (uint32_t i = 0; !r && i < o->contexts; i++) {
		snprintf(path, sizeof(path), "%s/%s-%04u.%s", o->out,
			 o->pack ? "packed" : "context", i,
			 o->format == CACHE_LLAMA ? "bin" : "safetensors");
		r = o->pack ? write_packed(&s, e, o, path, m) : write_plain(&s, e, o, path, m);
		if (!r && !o->json)
			printf("%s\n", path);
		fflush(stdout);
	}
	if (!r)
		r = write_manifest(o, e, &s, m);
	if (!r && o->json)
		printf("{\"files\": %u, \"contexts\": %zu, \"tokens\": %u, \"passes\": %zu, "
		       "\"seconds\": %.3f}\n",
		       o->contexts, s.cut, o->tokens, s.passes + 1, seconds_now() - t0);
	tokens_fini(&s.all);
	return r;
}

static int run_suites(const struct corpus *o, struct engine *e, struct msg *m)
{
	char dir[4000];
	const struct corpus_suites cs = {
		.out = o->out, .tasks = o->tasks ? o->tasks : dir, .format = o->format,
		.dtype = o->dtype, .pack = o->pack, .limit = o->contexts ? o->contexts : UINT32_MAX,
	};
	double t0 = seconds_now();
	uint32_t files;
	int r;

	default_tasks(o->model, dir, sizeof(dir));
	if (mkdir(o->out, 0777) && errno != EEXIST)
		return msg_fail(m, -errno, "%s: %s", o->out, strerror(errno));
	r = corpus_suites_write(&cs, e, &files, m);
	if (!r)
		printf(o->json ? "{\"files\": %u, \"seconds\": %.3f}\n" : "%u files in %.1f s\n", files,
		       seconds_now() - t0);
	return r;
}

int cmd_corpus(int argc, char **argv, struct msg *m)
{
	struct corpus o = {
		.format = CACHE_LLAMA, .dtype = DTYPE_BF16, .contexts = 0, .tokens = 1500
	};
	const struct opt opts[] = {
		{ "suites", OPT_FLAG, &o.suites, NULL,
		  "one file for each context of the suites (--contexts: of each suite at most)", 0, 0 },
		{ "out", OPT_STR, &o.out, "DIR", "directory for the files (made if missing)", 0,
		  0 },
		{ "contexts", OPT_U32, &o.contexts, "N", "files to write (default 8)", 1, 100000 },
		{ "tokens", OPT_U32, &o.tokens, "T", "tokens of a context (default 1500)", 2,
		  1u << 20 },
		{ "pack", OPT_BYTES, &o.pack, "BYTES",
		  "fill each file with contexts up to this size", 0, 0 },
		{ "text", OPT_LIST, &o.text, "FILE", "text to cut contexts from; may be repeated",
		  0, 0 },
		{ "ids", OPT_FLAG, &o.ids, NULL, "the texts are token ids in decimal", 0, 0 },
		{ "tasks", OPT_STR, &o.tasks, "DIR", "without --text: these suites' contexts", 0,
		  0 },
		{ "format", OPT_FORMAT, &o.format, "F", "llama (default) or safetensors", 0, 0 },
		{ "dtype", OPT_DTYPE, &o.dtype, "T", "bf16 (default), f16 or f32", 0, 0 },
		COMMON_OPTS(&o.threads, &o.kernels, &o.json),
	};
	struct opt_set s = {
		.usage = "kvlm corpus MODEL --out DIR --contexts N --tokens T [--pack BYTES]",
		.about = "Writes real KV caches: one context per file, or many stacked as layers.",
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
	if (!o.out)
		return msg_fail(m, -EINVAL, "--out is needed");
	if (o.suites && (o.text.n || o.ids))
		return msg_fail(m, -EINVAL, "--suites takes no --text and no --ids");
	r = engine_open(&e, o.model, o.threads, o.kernels, m);
	if (r)
		return r;
	if (!o.suites && !o.contexts)
		o.contexts = 8;
	if (o.tokens > e.model->shape.n_ctx)
		r = msg_fail(m, -ERANGE, "the model's context is %u tokens", e.model->shape.n_ctx);
	if (!r)
		r = o.suites ? run_suites(&o, &e, m) : run(&o, &e, m);
	engine_close(&e);
	return r;
}
