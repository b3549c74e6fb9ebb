/* SPDX-License-Identifier: MIT */
/*
 * Helpers sleep on a condition until the loop number changes, then take items
 * from a shared counter until none is left. They spin a little before they
 * sleep: between two layers of a decode step lie microseconds.
 */
#include "pool.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#define POOL_SPINS 2000

struct helper {
	struct pool *pool;
	pthread_t thread;
	unsigned index;
};

struct pool {
	pthread_mutex_t lock;
	pthread_cond_t wake;
	unsigned threads;
	struct helper *helpers; /* owned; threads - 1 */
	/* the loop; written by the caller before loop_no changes */
	void (*fn)(void *, size_t, unsigned);
	void *arg;
	size_t n;
	_Atomic size_t next;
	_Atomic unsigned busy;    /* helpers not yet done with this loop */
	_Atomic unsigned loop_no; /* changed under lock */
	_Atomic bool quit;
};

static void pool_take_items(struct pool *p, unsigned thread)
{
	size_t i;

	while ((i = atomic_fetch_add_explicit(&p->next, 1, memory_order_relaxed)) < p->n)
		p->fn(p->arg, i, thread);
}

static void pool_wait_loop(struct pool *p, unsigned seen)
{
	for (unsigned i = 0; i < POOL_SPINS; i++)
		if (atomic_load(&p->loop_no) != seen)
			return;
	pthread_mutex_lock(&p->lock);
	while (atomic_load(&p->loop_no) == seen)
		pthread_cond_wait(&p->wake, &p->lock);
	pthread_mutex_unlock(&p->lock);
}

static void *helper_main(void *arg)
{
	struct helper *h = arg;
	struct pool *p = h->pool;
	unsigned seen = 0;

	for (;;) {
		pool_wait_loop(p, seen);
		seen++;
		if (atomic_load(&p->quit))
			return NULL;
		pool_take_items(p, h->index);
		atomic_fetch_sub(&p->busy, 1);
	}
}

static void pool_start_loop(struct pool *p)
{
	pthread_mutex_lock(&p->lock);
	atomic_fetch_add(&p->loop_no, 1);
	pthread_cond_broadcast(&p->wake);
	pthread_mutex_unlock(&p->lock);
}

void pool_for(struct pool *p, size_t n, void (*fn)(void *, size_t, unsigned), void *arg)
{
	if (p->threads == 1 || n < 2) {
		for (size_t i = 0; i < n; i++)
			fn(arg, i, 0);
		return;
	}
	p->fn = fn;
	p->arg = arg;
	p->n = n;
	atomic_store(&p->next, 0);
	atomic_store(&p->busy, p->threads - 1);
	pool_start_loop(p);
	pool_take_items(p, 0);
	for (unsigned spins = 0; atomic_load(&p->busy); spins++)
		if (spins > POOL_SPINS)
			sched_yield();
}

int pool_create(unsigned threads, struct pool **ret)
{
	struct pool *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->wake, NULL);
	p->threads = 1;
	p->helpers = calloc(threads, sizeof(*p->helpers));
	if (!p->helpers) {
		pool_destroy(p);
		return -ENOMEM;
	}
	while (p->threads < threads) {
		struct helper *h = &p->helpers[p->threads - 1];

		h->pool = p;
		h->index = p->threads;
		if (pthread_create(&h->thread, NULL, helper_main, h)) {
			pool_destroy(p);
			return -EAGAIN;
		}
		p->threads++;
	}
	*ret = p;
	return 0;
}

void pool_destroy(struct pool *p)
{
	if (!p)
		return;
	atomic_store(&p->quit, true);
	pool_start_loop(p);
	for (unsigned i = 0; i + 1 < p->threads; i++)
		pthread_join(p->helpers[i].thread, NULL);
	free(p->helpers);
	pthread_cond_destroy(&p->wake);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

unsigned pool_threads(const struct pool *p)
{
	return p->threads;
}

unsigned pool_default_threads(void)
{
	long n = sysconf(_SC_NPROCESSORS_ONLN);

	return n < 1 ? 1 : n > 64 ? 64 : (unsigned)n;
}
