/* SPDX-License-Identifier: MIT */
#ifndef KVLM_POOL_H
#define KVLM_POOL_H
/*
 * Loops over independent items on several threads. Which thread runs which item
 * is left to chance; results do not depend on it because each item writes
 * only its own outputs in its own fixed order.
 */
#include <stddef.h>

#include "msg.h"

struct pool;

/* @threads >= 1 counts the caller: 1 starts none. -ENOMEM, -EAGAIN. */
WUR int pool_create(unsigned threads, struct pool **ret);
void pool_destroy(struct pool *p); /* NULL ok; joins */
unsigned pool_threads(const struct pool *p);
/* Calls fn(arg, item, thread) for every item < @n, thread < pool_threads(),
 * and returns when all are done. One loop at a time; not from within fn. */
void pool_for(struct pool *p, size_t n, void (*fn)(void *arg, size_t item, unsigned thread),
	      void *arg);
/* Online processors, at least 1. */
unsigned pool_default_threads(void);

#endif
