/* SPDX-License-Identifier: MIT */
/*
 * Mutexes and conditions. A failing pthread call here is a bug of ours (lock
 * used before init, released twice), so it aborts instead of going on with
 * broken exclusion.
 */
#include "base/lock.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"

static void lock_must(int rc)
{
	if (rc)
		abort();
}

void lock_init(struct lock *l)
{
	lock_must(pthread_mutex_init(&l->m, NULL));
}

void lock_fini(struct lock *l)
{
	lock_must(pthread_mutex_destroy(&l->m));
}

void lock_acquire(struct lock *l) NO_TSA
{
	lock_must(pthread_mutex_lock(&l->m));
}

bool lock_try(struct lock *l) NO_TSA
{
	int rc = pthread_mutex_trylock(&l->m);

	if (rc != EBUSY)
		lock_must(rc);
	return rc == 0;
}

void lock_release(struct lock *l) NO_TSA
{
	lock_must(pthread_mutex_unlock(&l->m));
}

void cond_init(struct cond *c)
{
	pthread_condattr_t a;

	lock_must(pthread_condattr_init(&a));
	lock_must(pthread_condattr_setclock(&a, CLOCK_MONOTONIC));
	lock_must(pthread_cond_init(&c->c, &a));
	pthread_condattr_destroy(&a);
}

void cond_fini(struct cond *c)
{
	lock_must(pthread_cond_destroy(&c->c));
}

void cond_wait(struct cond *c, struct lock *l)
{
	lock_must(pthread_cond_wait(&c->c, &l->m));
}

bool cond_wait_until(struct cond *c, struct lock *l, uint64_t deadline_ns)
{
	struct timespec ts = {
		.tv_sec = (time_t)(deadline_ns / NSEC_PER_SEC),
		.tv_nsec = (long)(deadline_ns % NSEC_PER_SEC),
	};
	int rc = pthread_cond_timedwait(&c->c, &l->m, &ts);

	if (rc != ETIMEDOUT)
		lock_must(rc);
	return rc == 0;
}

void cond_signal(struct cond *c)
{
	lock_must(pthread_cond_signal(&c->c));
}

void cond_broadcast(struct cond *c)
{
	lock_must(pthread_cond_broadcast(&c->c));
}
