/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_BASE_FAULT_H
#define KVCACHEFS_BASE_FAULT_H
/*
 * Fault injection. Two kinds:
 *  - counted: fault_arm(FAULT_ALLOC, n) makes the n-th further call of
 *    fault_hit(FAULT_ALLOC) return true once (or from then on, with repeat).
 *  - named points: FAULT_POINT("seal.switched") marks a step. With the
 *    environment KVCACHEFS_FAULT=NAME[:N][=kill|stop|eio|enospc] the N-th time
 *    that the point is passed the process kills itself (default), stops
 *    (SIGSTOP), or the point yields -EIO / -ENOSPC. KVCACHEFS_FAULT_LIST=FILE
 *    appends each point's name to FILE when it is first passed.
 * Without -Dfaults=true all of it compiles to nothing.
 */
#include <stdbool.h>

enum fault_kind { FAULT_ALLOC, FAULT_READ, FAULT_WRITE, FAULT_SYNC, FAULT_KINDS_ };

#ifdef KVFS_FAULTS
void fault_arm(enum fault_kind k, unsigned nth, bool repeat); /* nth 0: disarm */
bool fault_hit(enum fault_kind k);
unsigned fault_count(enum fault_kind k); /* hits asked for since fault_arm */
int fault_point(const char *name);       /* 0 or -errno to inject */
#define FAULT_POINT(name) fault_point(name)
#else
static inline void fault_arm(enum fault_kind k, unsigned nth, bool repeat)
{
	(void)k, (void)nth, (void)repeat;
}
static inline bool fault_hit(enum fault_kind k)
{
	(void)k;
	return false;
}
static inline unsigned fault_count(enum fault_kind k)
{
	(void)k;
	return 0;
}
#define FAULT_POINT(name) 0
#endif

#endif
