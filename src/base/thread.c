/* SPDX-License-Identifier: MIT */
/* Threads that leave asynchronous signals to the main thread. */
#include "base/thread.h"

#include <sched.h>
#include <signal.h>
#include <stdio.h>

int thread_start(const char *name, void *(*fn)(void *), void *arg, pthread_t *ret)
{
	/* Raised by the thread's own instructions: blocking them would turn a
	 * diagnosable crash into a silent kill. */
	static const int own[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS };
	sigset_t all, old;
	pthread_t t;
	int rc;

	sigfillset(&all);
	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
		sigdelset(&all, own[i]);
	rc = pthread_sigmask(SIG_SETMASK, &all, &old);
	if (rc)
		return -rc;
	rc = pthread_create(&t, NULL, fn, arg); /* inherits the mask */
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc)
		return -rc;
	if (name) {
		char cut[16];

		snprintf(cut, sizeof(cut), "%.15s", name);
		(void)pthread_setname_np(t, cut); /* cosmetic */
	}
	*ret = t;
	return 0;
}

void thread_leave_cpu(int cpu)
{
	cpu_set_t mine, others;

	if (cpu < 0 || cpu >= CPU_SETSIZE || sched_getcpu() != cpu ||
	    sched_getaffinity(0, sizeof(mine), &mine) < 0)
		return;
	others = mine;
	CPU_CLR(cpu, &others);
	if (CPU_COUNT(&others) == 0 || sched_setaffinity(0, sizeof(others), &others) < 0)
		return;
	(void)sched_setaffinity(0, sizeof(mine), &mine); /* stays there unless it gets busy */
}
