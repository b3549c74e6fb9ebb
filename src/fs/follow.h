/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_FS_FOLLOW_H
#define KVCACHEFS_FS_FOLLOW_H
/*
 * "Follow": while one client alone sends requests, one at a time, the serving
 * threads run on its CPU, which makes a round trip several times cheaper than
 * a wake-up across CPUs. With several clients, or one that keeps several
 * requests in flight, the threads are free. Pure speed: nothing depends on it.
 */
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/lock.h"

struct follow {
	bool on;
	cpu_set_t all;             /* what the threads may use when free */
	struct lock lock;          /* taken with lock_try only, on the request path */
	_Atomic int cpu;           /* followed CPU, -1: free */
	_Atomic uint32_t pid;      /* the last client seen */
	_Atomic uint64_t since_ns; /* it has been alone since */
	_Atomic uint64_t look_ns;  /* when to look again where it runs */
	_Atomic int backlog;       /* grows with requests that were already waiting */
	uint64_t alone_ns GUARDED; /* by lock: how long alone before it is followed */
	uint64_t begun_ns GUARDED; /* by lock: when the last following began */
};

void follow_init(struct follow *f, bool on);
void follow_fini(struct follow *f);
/* A request of @pid arrived; @waiting: it had been queued before we asked.
 * Returns true when f->cpu changed and all serving threads should be moved. */
bool follow_note(struct follow *f, uint32_t pid, bool waiting);
/* Moves thread @tid as f->cpu says. Failure is harmless. */
void follow_apply(const struct follow *f, pid_t tid);

#endif
