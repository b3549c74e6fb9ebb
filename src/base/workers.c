/* SPDX-License-Identifier: MIT */
/*
 * Worker pool. One mutex guards both queues and the counts; items run with it
 * released. Readers and background threads sleep on a condition each, so that
 * a submit wakes one thread of the right kind. Nothing here can fail after
 * workers_create. Destroying lets the threads run until both queues are empty
 * and no item runs, because a running item may submit another of either class.
 */
#include "base/workers.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/lock.h"
#include "base/mem.h"
#include "base/thread.h"

#define WORKERS_CLASSES 2

struct workers {
	unsigned threads, bg_max, started; /* constant after create */
	struct lock lock;
	struct cond wake[WORKERS_CLASSES];          /* by enum work_class */
	struct cond idle;                           /* nothing queued or running */
	struct list queue[WORKERS_CLASSES] GUARDED; /* under lock */
	unsigned running[WORKERS_CLASSES] GUARDED;  /* under lock */
	bool stop GUARDED;                          /* under lock */
	/* WORK_READ items queued or running. Changed under lock, read without:
	 * background work polls it as a hint and a stale value only delays. */
	_Atomic unsigned readers;
	pthread_t thread[]; /* started of them */
};

static bool workers_idle(struct workers *w) REQUIRES(&w->lock)
{
	return list_empty(&w->queue[WORK_READ]) && list_empty(&w->queue[WORK_BACKGROUND]) &&
	       !w->running[WORK_READ] && !w->running[WORK_BACKGROUND];
}

/* Background work may start: no reader waits and fewer than bg_max run. */
static bool workers_bg_ready(struct workers *w) REQUIRES(&w->lock)
{
	return !list_empty(&w->queue[WORK_BACKGROUND]) && list_empty(&w->queue[WORK_READ]) &&
	       w->running[WORK_BACKGROUND] < w->bg_max;
}

static bool workers_ready(struct workers *w, enum work_class c) REQUIRES(&w->lock)
{
	return c == WORK_READ ? !list_empty(&w->queue[c]) : workers_bg_ready(w);
}

/* Wakes a background thread if it may go on now. */
static void workers_kick_bg(struct workers *w) REQUIRES(&w->lock)
{
	if (workers_bg_ready(w))
		cond_signal(&w->wake[WORK_BACKGROUND]);
}

/* Takes the oldest item of @c and runs it, the lock released meanwhile. */
static void workers_run(struct workers *w, enum work_class c) REQUIRES(&w->lock)
{
	struct work *work = container_of(w->queue[c].next, struct work, link);

	list_del(&work->link);
	w->running[c]++;
	if (c == WORK_READ)
		workers_kick_bg(w); /* the last waiting reader is served */
	lock_release(&w->lock);
	work->run(work); /* may free it */
	lock_acquire(&w->lock);
	w->running[c]--;
	if (c == WORK_READ)
		w->readers--;
	else
		workers_kick_bg(w);
	if (workers_idle(w)) {
		cond_broadcast(&w->idle);
		if (w->stop) {
			cond_broadcast(&w->wake[WORK_READ]);
			cond_broadcast(&w->wake[WORK_BACKGROUND]);
		}
	}
}

static void workers_loop(struct workers *w, enum work_class c)
{
	lock_acquire(&w->lock);
	for (;;) {
		if (workers_ready(w, c))
			workers_run(w, c);
		else if (w->stop && workers_idle(w))
			break;
		else
			cond_wait(&w->wake[c], &w->lock);
	}
	lock_release(&w->lock);
}

static void *workers_read_thread(void *arg)
{
	workers_loop(arg, WORK_READ);
	return NULL;
}

static void *workers_bg_thread(void *arg)
{
	/* Best effort: without it, background work only competes harder. */
	(void)setpriority(PRIO_PROCESS, (id_t)gettid(), WORKERS_BG_NICE);
	workers_loop(arg, WORK_BACKGROUND);
	return NULL;
}

/* Threads see empty queues until this is done; w is not shared before that. */
static void workers_init(struct workers *w) NO_TSA
{
	lock_init(&w->lock);
	cond_init(&w->idle);
	for (int c = 0; c < WORKERS_CLASSES; c++) {
		cond_init(&w->wake[c]);
		list_init(&w->queue[c]);
	}
}

int workers_create(const char *name, unsigned threads, unsigned bg_max, struct workers **ret)
{
	unsigned total;
	struct workers *w;

	if (!bg_max)
		bg_max = 1;
	if (threads > 4096 || bg_max > 4096)
		return -EAGAIN;
	total = threads ? threads + bg_max : 0;
	w = mem_zalloc(sizeof(*w) + total * sizeof(w->thread[0]));
	if (!w)
		return -ENOMEM;
	w->threads = threads;
	w->bg_max = bg_max;
	workers_init(w);
	while (w->started < total) {
		bool bg = w->started >= threads;
		char thread_name[32];
		int rc;

		snprintf(thread_name, sizeof(thread_name), "%.10s-%c%u", name, bg ? 'b' : 'r',
			 bg ? w->started - threads : w->started);
		rc = thread_start(thread_name, bg ? workers_bg_thread : workers_read_thread, w,
				  &w->thread[w->started]);
		if (rc) {
			workers_destroy(w);
			return rc;
		}
		w->started++;
	}
	*ret = w;
	return 0;
}

void workers_destroy(struct workers *w)
{
	if (!w)
		return;
	if (!w->threads)
		workers_drain(w);
	lock_acquire(&w->lock);
	w->stop = true;
	for (int c = 0; c < WORKERS_CLASSES; c++)
		cond_broadcast(&w->wake[c]);
	lock_release(&w->lock);
	for (unsigned i = 0; i < w->started; i++)
		pthread_join(w->thread[i], NULL);
	for (int c = 0; c < WORKERS_CLASSES; c++)
		cond_fini(&w->wake[c]);
	cond_fini(&w->idle);
	lock_fini(&w->lock);
	mem_free(w);
}

void workers_submit(struct workers *w, enum work_class c, struct work *work)
{
	lock_acquire(&w->lock);
	assert(!work->link.next || list_empty(&work->link));
	work->cls = c;
	list_add_tail(&w->queue[c], &work->link);
	if (c == WORK_READ) {
		w->readers++;
		cond_signal(&w->wake[WORK_READ]);
	} else {
		workers_kick_bg(w);
	}
	lock_release(&w->lock);
}

bool workers_cancel(struct workers *w, struct work *work)
{
	bool queued;

	lock_acquire(&w->lock);
	queued = work->link.next && !list_empty(&work->link);
	if (queued) {
		list_del(&work->link);
		if (work->cls == WORK_READ) {
			w->readers--;
			workers_kick_bg(w);
		}
		if (workers_idle(w))
			cond_broadcast(&w->idle);
	}
	lock_release(&w->lock);
	return queued;
}

bool workers_run_one(struct workers *w, bool also_background)
{
	bool ran = true;

	lock_acquire(&w->lock);
	if (workers_ready(w, WORK_READ))
		workers_run(w, WORK_READ);
	else if (also_background && workers_ready(w, WORK_BACKGROUND))
		workers_run(w, WORK_BACKGROUND);
	else
		ran = false;
	lock_release(&w->lock);
	return ran;
}

void workers_drain(struct workers *w)
{
	while (!w->threads && workers_run_one(w, true))
		;
	lock_acquire(&w->lock);
	while (!workers_idle(w))
		cond_wait(&w->idle, &w->lock);
	lock_release(&w->lock);
}

unsigned workers_threads(const struct workers *w)
{
	return w->threads;
}

unsigned workers_readers(const struct workers *w)
{
	return atomic_load_explicit(&w->readers, memory_order_relaxed);
}

void workers_yield(const struct workers *w)
{
	struct timespec ts = { 0, 500000 };

	for (int i = 0; i < 20 && workers_readers(w) > 0; i++)
		nanosleep(&ts, NULL);
}
