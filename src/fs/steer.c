/* SPDX-License-Identifier: MIT */
/*
 * A user's first job goes to the pool; further ones wait here until it is done.
 * So the pool's queue holds at most one job of each user and is served in turn.
 */
#include "fs/steer.h"

#include <errno.h>
#include <stdatomic.h>

#include "base/lock.h"
#include "base/mem.h"

#define STEER_THREADS 2

struct steer {
	struct workers *workers; /* owned */
	_Atomic bool stopping;
	struct lock lock;
	struct list active GUARDED;  /* given to the pool: one of each user */
	struct list waiting GUARDED; /* in the order they came */
};

static struct steer_job *job_of(struct list *jobs, uid_t uid)
{
	list_for_each (l, jobs) {
		struct steer_job *j = container_of(l, struct steer_job, link);

		if (j->uid == uid)
			return j;
	}
	return NULL;
}

/* The job's place in the pool goes to the user's next one. */
static void steer_next(struct steer *s, struct steer_job *j)
{
	struct steer_job *next;

	lock_acquire(&s->lock);
	list_del(&j->link);
	next = job_of(&s->waiting, j->uid);
	if (next) {
		list_del(&next->link);
		list_add_tail(&s->active, &next->link);
	}
	lock_release(&s->lock);
	if (next)
		workers_submit(s->workers, WORK_READ, &next->work);
}

static void steer_work(struct work *w)
{
	struct steer_job *j = container_of(w, struct steer_job, work);

	j->run(j, j->steer->stopping);
	steer_next(j->steer, j);
	j->done(j);
}

int steer_create(struct steer **ret)
{
	struct steer *s = mem_zalloc(sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	r = workers_create("kvfs-steer", STEER_THREADS, 1, &s->workers);
	if (r < 0) {
		mem_free(s);
		return r;
	}
	lock_init(&s->lock);
	lock_acquire(&s->lock);
	list_init(&s->active);
	list_init(&s->waiting);
	lock_release(&s->lock);
	*ret = s;
	return 0;
}

void steer_submit(struct steer *s, struct steer_job *j)
{
	bool busy;

	j->steer = s;
	j->work.run = steer_work;
	lock_acquire(&s->lock);
	busy = job_of(&s->active, j->uid);
	list_add_tail(busy ? &s->waiting : &s->active, &j->link);
	lock_release(&s->lock);
	if (!busy)
		workers_submit(s->workers, WORK_READ, &j->work);
}

void steer_stop(struct steer *s)
{
	if (s)
		s->stopping = true;
}

void steer_destroy(struct steer *s)
{
	if (!s)
		return;
	steer_stop(s);
	workers_destroy(s->workers);
	lock_fini(&s->lock);
	mem_free(s);
}
