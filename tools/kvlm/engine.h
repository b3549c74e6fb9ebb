/* SPDX-License-Identifier: MIT */
#ifndef KVLM_ENGINE_H
#define KVLM_ENGINE_H
/*
 * What every command needs: a loaded model ready to run, prompts as tokens,
 * clocks. One per process; no hidden state.
 */
#include <stdbool.h>
#include <stdint.h>

#include "cache.h"
#include "forward.h"
#include "kv.h"
#include "model.h"
#include "msg.h"
#include "pool.h"

struct engine {
	struct model *model;
	const struct kernels *kernels;
	struct pool *pool;
	struct forward *forward;
	double load_s; /* how long loading the model took */
};

/* @threads 0: all processors. @kernels NULL: the fastest. Undoes itself. */
WUR int engine_open(struct engine *e, const char *model, uint32_t threads, const char *kernels,
		    struct msg *m);
void engine_close(struct engine *e); /* a zeroed or half-opened one is fine */

struct tokens {
	int32_t *v; /* owned */
	size_t n;
};
void tokens_fini(struct tokens *t);

/* A whole file as tokens: text, or decimal ids with @ids. With @bos the
 * vocabulary's BOS is put first unless the text begins with it. */
WUR int engine_read_prompt(const struct engine *e, const char *path, bool ids, bool bos,
			   struct tokens *ret, struct msg *m);
WUR int engine_encode(const struct engine *e, const char *text, size_t len, bool bos,
		      struct tokens *ret, struct msg *m);
/* A whole file into a malloc'ed, NUL-terminated buffer. */
WUR int read_text_file(const char *path, char **ret, size_t *ret_len, struct msg *m);

/* All of @tokens into a new cache with room for @extra more. */
WUR int engine_prefill(struct engine *e, const struct tokens *t, enum dtype dtype, uint32_t extra,
		       struct kv **ret, struct msg *m);

/*
 * Appends @prompt and then up to @n tokens chosen greedily, the last of which is
 * not put into the cache. @out has room for @n; *ret_n says how many came. Stops
 * after @stop (-1: never). *ret_first_s (may be NULL): seconds to the first.
 */
WUR int engine_generate(struct engine *e, struct kv *kv, const int32_t *prompt, size_t n_prompt,
			uint32_t n, int32_t stop, int32_t *out, uint32_t *ret_n,
			double *ret_first_s, struct msg *m);

double seconds_now(void); /* monotonic */

/*
 * Logits that predict the @n_answer tokens of @answer behind @prompt, teacher-forced:
 * n_vocab floats each. @kv and the caches of @sh (may be NULL) are left as they were.
 */
WUR int engine_force(struct engine *e, struct kv *kv, const int32_t *prompt, uint32_t n_prompt,
		     const int32_t *answer, uint32_t n_answer, float *logits, struct shadow *sh,
		     struct msg *m);

#endif
