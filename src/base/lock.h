/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_BASE_LOCK_H
#define KVCACHEFS_BASE_LOCK_H
/*
 * The only way to a mutex or a condition here, so that clang's thread-safety
 * analysis (-Wthread-safety) sees every acquisition. gcc ignores the marks.
 * GUARDED on a member says "only under the lock named in the comment".
 */
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#if defined(__clang__)
#define KVFS_TSA(x) __attribute__((x))
#else
#define KVFS_TSA(x)
#endif
#define CAPABILITY KVFS_TSA(capability("mutex"))
#define GUARDED KVFS_TSA(guarded_var)
#define REQUIRES(...) KVFS_TSA(requires_capability(__VA_ARGS__))
#define ACQUIRES(...) KVFS_TSA(acquire_capability(__VA_ARGS__))
#define RELEASES(...) KVFS_TSA(release_capability(__VA_ARGS__))
#define TRY_ACQUIRES(...) KVFS_TSA(try_acquire_capability(__VA_ARGS__))
#define EXCLUDES(...) KVFS_TSA(locks_excluded(__VA_ARGS__))
#define NO_TSA KVFS_TSA(no_thread_safety_analysis)

struct CAPABILITY lock {
	pthread_mutex_t m;
};
struct cond {
	pthread_cond_t c; /* CLOCK_MONOTONIC */
};

#define LOCK_INIT { PTHREAD_MUTEX_INITIALIZER }

void lock_init(struct lock *l);
void lock_fini(struct lock *l);
void lock_acquire(struct lock *l) ACQUIRES(l);
bool lock_try(struct lock *l) TRY_ACQUIRES(true, l);
void lock_release(struct lock *l) RELEASES(l);

void cond_init(struct cond *c);
void cond_fini(struct cond *c);
void cond_wait(struct cond *c, struct lock *l) REQUIRES(l);
/* Waits until signalled or until clock_mono_ns() >= @deadline_ns.
 * Returns false when the deadline passed. Spurious wake-ups return true. */
bool cond_wait_until(struct cond *c, struct lock *l, uint64_t deadline_ns) REQUIRES(l);
void cond_signal(struct cond *c);
void cond_broadcast(struct cond *c);

#endif
