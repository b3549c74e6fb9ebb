/* SPDX-License-Identifier: MIT */
#ifndef KVLM_FORWARD_H
#define KVLM_FORWARD_H
/*
 * The network: tokens in, logits out, the cache grows. The result for a token
 * depends on the cache and the token alone, to the bit: not on how the tokens
 * were cut into batches and calls, nor on the number of threads.
 */
#include <stdint.h>

#include "kernels.h"
#include "kv.h"
#include "model.h"
#include "msg.h"
#include "pool.h"

/*
 * Further caches that are looked at with the first one's queries. New tokens get
 * the same K and V in all, so what differs is what was in the caches before;
 * err2 and ref2 add up, per layer, |shadow's output - output|^2 and |output|^2
 * of attention, before the output matrix.
 */
struct shadow {
	struct kv *kv;       /* borrowed; same shape */
	double *err2, *ref2; /* borrowed; [n_layer] */
	struct shadow *next; /* NULL: the last */
};

struct forward;

/* Buffers for batches; @md, @k and @pool are borrowed until it is destroyed. */
WUR int forward_create(const struct model *md, const struct kernels *k, struct pool *pool,
		       struct forward **ret, struct msg *m);
void forward_destroy(struct forward *f); /* NULL ok */

/*
 * Appends @n tokens to @kv. Of tokens [logits_from, n) the logits are written to
 * @logits, n_vocab floats each; none when logits_from is n. @sh may be NULL.
 * -ERANGE: more tokens than the cache holds or the model was made for;
 * -EINVAL: a token outside the vocabulary. Then nothing was appended.
 */
WUR int forward_run(struct forward *f, struct kv *kv, const int32_t *tokens, size_t n,
		    size_t logits_from, float *logits, struct shadow *sh, struct msg *m);

/* Index of the largest of n floats, the first of equals. */
uint32_t argmax(const float *x, uint32_t n);

#endif
