/* SPDX-License-Identifier: MIT */
/*
 * Codec contexts for decoding are a megabyte or two of scratch each; more than the
 * threads that can run at once are of no use, so those beyond wait. The first context is
 * made at the start and never given up: whoever waits for one gets one, since
 * nobody who holds one waits for anything. Others use contexts of their own.
 * The budget is nearly always full, of what is only kept to be read: the first few
 * contexts are taken from it even then, or one thread alone would decode.
 */
#include <errno.h>

#include "store/read_types.h"

/* Contexts worth beyond a full budget: this many, or this part of it. */
#define FORCED_MIN 4u
#define FORCED_PART 16u

static struct codec_ctx *make(struct codec_pool *p, bool force)
{
	struct codec_ctx *c;

	if (force)
		budget_force(p->budget, BUDGET_BUFFER, codec_ctx_bytes_decoding());
	else if (budget_take(p->budget, BUDGET_BUFFER, codec_ctx_bytes_decoding()))
		return NULL;
	if (codec_ctx_create(CODEC_SIMD_BEST, &c)) {
		budget_give(p->budget, BUDGET_BUFFER, codec_ctx_bytes_decoding());
		return NULL;
	}
	return c;
}

int codec_pool_init(struct codec_pool *p, struct budget *b, unsigned max) NO_TSA
{
	uint64_t forced = budget_limit(b) / FORCED_PART / codec_ctx_bytes_decoding();
	struct codec_ctx *c;

	*p = (struct codec_pool) { .budget = b, .max = max < CODEC_POOL_MAX ? max : CODEC_POOL_MAX };
	p->n_forced = forced < FORCED_MIN ? FORCED_MIN : forced < p->max ? (unsigned)forced : p->max;
	c = make(p, false);
	if (!c)
		return -ENOMEM;
	lock_init(&p->lock);
	cond_init(&p->cond);
	p->idle[0] = c;
	p->n_idle = p->n_made = 1;
	return 0;
}

void codec_pool_fini(struct codec_pool *p) NO_TSA
{
	if (!p->n_made)
		return;
	while (p->n_idle) {
		codec_ctx_destroy(p->idle[--p->n_idle]);
		budget_give(p->budget, BUDGET_BUFFER, codec_ctx_bytes_decoding());
	}
	cond_fini(&p->cond);
	lock_fini(&p->lock);
}

struct codec_ctx *codec_pool_get(struct codec_pool *p)
{
	struct codec_ctx *c = NULL;

	lock_acquire(&p->lock);
	if (!p->n_idle && p->n_made < p->max) {
		bool force = p->n_made++ < p->n_forced;

		lock_release(&p->lock);
		c = make(p, force);
		lock_acquire(&p->lock);
		if (!c)
			p->n_made--;
	}
	while (!c) {
		if (p->n_idle)
			c = p->idle[--p->n_idle];
		else
			cond_wait(&p->cond, &p->lock);
	}
	lock_release(&p->lock);
	return c;
}

void codec_pool_put(struct codec_pool *p, struct codec_ctx *c)
{
	lock_acquire(&p->lock);
	p->idle[p->n_idle++] = c;
	cond_signal(&p->cond);
	lock_release(&p->lock);
}
