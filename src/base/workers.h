/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_BASE_WORKERS_H
#define KVCACHEFS_BASE_WORKERS_H
/*
 * Threads over two FIFO queues. Somebody waits for a WORK_READ item; sealing,
 * moving and scrubbing are WORK_BACKGROUND. @threads threads run only the
 * former and bg_max further ones, at nice +5, only the latter, and those start
 * nothing while a WORK_READ item waits. They are not the same threads because
 * a thread without CAP_SYS_NICE cannot raise its priority again.
 * Work items belong to the caller and embed struct work; submitting does not
 * allocate. threads == 0 gives the serial twin: workers_submit only queues and
 * workers_run_one() runs the oldest item on the calling thread, so that tests
 * are deterministic.
 */
#include <stdbool.h>

#include "base/err.h"
#include "base/list.h"

/* Of the threads for background work: little enough that a queue of it is worked off
 * beside a client that keeps a core busy. */
#define WORKERS_BG_NICE 5

enum work_class { WORK_READ, WORK_BACKGROUND };

struct work {
	struct list link;           /* private to the pool while queued; start as zeros */
	enum work_class cls;        /* private to the pool */
	void (*run)(struct work *); /* on a pool thread, no locks held; may free the item */
};

struct workers;

/* -ENOMEM, -EAGAIN (no threads). @name (at most 10 characters) is the threads'
 * name prefix. @bg_max 0 counts as 1. */
WUR int workers_create(const char *name, unsigned threads, unsigned bg_max, struct workers **ret);
/* Runs everything queued (and what that submits), then joins. NULL ok. */
void workers_destroy(struct workers *w);
/* Queues @work; it must not be queued already. Never runs it inside the call. */
void workers_submit(struct workers *w, enum work_class c, struct work *work);
/* Takes a queued item back; false when it runs or ran already. */
bool workers_cancel(struct workers *w, struct work *work);
/* Serial twin or helping thread: runs one WORK_READ item if there is one (then,
 * only with @also_background, one background item). False when there was none. */
bool workers_run_one(struct workers *w, bool also_background);
/* Waits until nothing is queued or running; the serial twin runs it all. Not
 * from a work item. */
void workers_drain(struct workers *w);
/* As given to workers_create: without the background threads. */
unsigned workers_threads(const struct workers *w);
/* WORK_READ items queued or running now: background work yields by polling it. */
unsigned workers_readers(const struct workers *w);
/* Waits while there are any, 10 ms at most. */
void workers_yield(const struct workers *w);

#endif
