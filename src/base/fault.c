/* SPDX-License-Identifier: MIT */
/*
 * Fault injection of test builds; the only mutable globals of the program. One
 * mutex guards all of it: speed does not matter here, exact counts do.
 */
#include "base/fault.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/lock.h"

#define FAULT_NAMES_MAX 512

static struct lock fault_lock = LOCK_INIT;
/* all under fault_lock */
static struct {
	unsigned nth, count;
	bool repeat;
} fault_armed[FAULT_KINDS_];
static struct {
	bool ready;
	char name[64];
	unsigned nth, passed;
	int err;    /* -errno to yield, or 0 */
	int signal; /* or SIGKILL, SIGSTOP */
	const char *list_path;
	const char *seen[FAULT_NAMES_MAX];
	unsigned seen_n;
} fault_env;

void fault_arm(enum fault_kind k, unsigned nth, bool repeat)
{
	lock_acquire(&fault_lock);
	fault_armed[k].nth = nth;
	fault_armed[k].count = 0;
	fault_armed[k].repeat = repeat;
	lock_release(&fault_lock);
}

bool fault_hit(enum fault_kind k)
{
	bool hit;

	lock_acquire(&fault_lock);
	fault_armed[k].count++;
	hit = fault_armed[k].nth &&
	      (fault_armed[k].repeat ? fault_armed[k].count >= fault_armed[k].nth
				     : fault_armed[k].count == fault_armed[k].nth);
	lock_release(&fault_lock);
	return hit;
}

unsigned fault_count(enum fault_kind k)
{
	unsigned n;

	lock_acquire(&fault_lock);
	n = fault_armed[k].count;
	lock_release(&fault_lock);
	return n;
}

/* NAME[:N][=kill|stop|eio|enospc]; what does not parse aborts: a test that
 * injects nothing by mistake would pass. */
static void fault_parse(const char *s) REQUIRES(&fault_lock)
{
	size_t len = strcspn(s, ":=");
	const char *action;

	if (!len || len >= sizeof(fault_env.name))
		abort();
	memcpy(fault_env.name, s, len);
	fault_env.nth = 1;
	s += len;
	if (*s == ':') {
		char *end;

		fault_env.nth = (unsigned)strtoul(s + 1, &end, 10);
		s = end;
	}
	action = *s == '=' ? s + 1 : "kill";
	if (!fault_env.nth || (*s && *s != '='))
		abort();
	if (!strcmp(action, "kill"))
		fault_env.signal = SIGKILL;
	else if (!strcmp(action, "stop"))
		fault_env.signal = SIGSTOP;
	else if (!strcmp(action, "eio"))
		fault_env.err = -EIO;
	else if (!strcmp(action, "enospc"))
		fault_env.err = -ENOSPC;
	else
		abort();
}

static void fault_list(const char *name) REQUIRES(&fault_lock)
{
	int fd;

	for (unsigned i = 0; i < fault_env.seen_n; i++)
		if (!strcmp(fault_env.seen[i], name))
			return;
	if (fault_env.seen_n == FAULT_NAMES_MAX)
		abort(); /* raise the constant */
	fault_env.seen[fault_env.seen_n++] = name;
	fd = open(fault_env.list_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, name, strlen(name)) < 0 || write(fd, "\n", 1) < 0)
		abort();
	close(fd);
}

int fault_point(const char *name)
{
	int sig = 0, rc = 0;

	lock_acquire(&fault_lock);
	if (!fault_env.ready) {
		const char *s = getenv("KVCACHEFS_FAULT");

		fault_env.ready = true;
		fault_env.list_path = getenv("KVCACHEFS_FAULT_LIST");
		if (s && *s)
			fault_parse(s);
	}
	if (fault_env.list_path)
		fault_list(name);
	if (fault_env.nth && !strcmp(name, fault_env.name) && ++fault_env.passed == fault_env.nth) {
		sig = fault_env.signal;
		rc = fault_env.err;
	}
	lock_release(&fault_lock);
	if (sig)
		kill(getpid(), sig);
	return rc;
}
