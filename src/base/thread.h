/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_BASE_THREAD_H
#define KVCACHEFS_BASE_THREAD_H
/*
 * Starting threads the one way that is right in this program: asynchronous
 * signals stay with the main thread, which is the only one that handles them,
 * and every thread has a name that top -H and stack dumps show.
 */
#include <pthread.h>

#include "base/err.h"

/* @name is cut at 15 characters. The thread is joined by the caller.
 * -EAGAIN when the system has no more threads or memory. */
WUR int thread_start(const char *name, void *(*fn)(void *), void *arg, pthread_t *ret);

/* The calling thread goes to another CPU if it runs on @cpu (sched_getcpu() of
 * another thread) and may run elsewhere; afterwards it may run where it might
 * before. A busy machine's scheduler can take longer to see that two threads
 * share a CPU than their work lasts. */
void thread_leave_cpu(int cpu);

#endif
