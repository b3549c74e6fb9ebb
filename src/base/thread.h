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

#endif
