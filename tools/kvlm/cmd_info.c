/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <string.h>

#include "cache.h"
#include "command.h"
#include "model.h"
#include "opt.h"

static void print_model(const struct model *md, bool json)
{
	const struct model_shape *s = &md->shape;

	printf(json ? "{\"kind\": \"model\", \"layers\": %u, \"width\": %u, \"heads\": %u, "
		      "\"kv_heads\": %u, \"head_dim\": %u, \"feed_forward\": %u, \"vocabulary\": "
		      "%u, "
		      "\"context\": %u, \"rope_base\": %g, \"hash\": \"%016llx\"}\n"
		    : "model: %u layers of width %u, %u heads over %u KV heads of %u, feed-forward "
		      "%u,\n"
		      "vocabulary %u, context %u, rope base %g, hash %016llx\n",
	       s->n_layer, s->n_embd, s->n_head, s->n_kv_head, s->head_dim, s->n_ff, s->n_vocab,
	       s->n_ctx, (double)s->rope_base, (unsigned long long)md->hash);
}

static void print_cache(const struct cache *c, bool json)
{
	printf(json ? "{\"kind\": \"cache\", \"format\": \"%s\", \"dtype\": \"%s\", \"layers\": "
		      "%u, "
		      "\"row\": %u, \"cells\": %u, \"tokens\": %u, \"v_transposed\": %s, "
		      "\"bytes\": %zu, \"model\": \"%016llx\"}\n"
		    : "cache: %s, %s, %u layers, rows of %u, %u cells for %u tokens, V transposed: "
		      "%s,\n"
		      "%zu bytes, model %016llx\n",
	       cache_format_name(c->format), dtype_name(c->dtype), c->n_layer, c->row, c->n_cells,
	       c->n_tokens, c->v_trans ? "true" : "false", c->len, (unsigned long long)c->model);
}

int cmd_info(int argc, char **argv, struct msg *m)
{
	const char *path;
	bool json = false;
	const struct opt opts[] = {
		{ "json", OPT_FLAG, &json, NULL, "print the result as one JSON object", 0, 0 },
	};
	struct opt_set s = {
		.usage = "kvlm info FILE",
		.about = "Checks a model (GGUF) or a cache file and says what it is.",
		.opts = opts,
		.n_opts = 1,
		.args = &path,
		.min_args = 1,
		.max_args = 1,
	};
	struct model *md;
	struct cache *c;
	char magic[4] = "";
	FILE *f;
	int r = opt_parse(&s, argc, argv, m);

	if (r)
		return r;
	f = fopen(path, "re");
	if (f && fread(magic, 1, 4, f) == 4 && !memcmp(magic, "GGUF", 4)) {
		fclose(f);
		r = model_load(path, &md, m);
		if (r)
			return r;
		print_model(md, json);
		model_free(md);
		return 0;
	}
	if (f)
		fclose(f);
	r = cache_read(path, &c, m);
	if (r)
		return r;
	print_cache(c, json);
	cache_free(c);
	return 0;
}
