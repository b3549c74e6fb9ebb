/* SPDX-License-Identifier: MIT */
/*
 * Who is alone, and on which CPU. A client counts as alone when for
 * ALONE_MIN_NS no other one sent anything, longer when that was wrong lately;
 * its CPU is read from /proc/PID/stat every FOLLOW_LOOK_NS. Clients of other pid namespaces show as
 * pid 0 and are not followed. A client whose requests are found waiting keeps
 * several in flight and is served better by all CPUs.
 */
#include "fs/follow.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

#define ALONE_MIN_NS (5 * NSEC_PER_MSEC)
#define ALONE_MAX_NS (640 * NSEC_PER_MSEC)
#define FOLLOW_LOOK_NS (2 * NSEC_PER_MSEC)
#define FOLLOW_BUSY_NS (100 * NSEC_PER_MSEC)
#define BACKLOG_MAX 16
#define BACKLOG_FREE 8 /* from here on the client counts as asynchronous */

void follow_init(struct follow *f, bool on)
{
	memset(f, 0, sizeof(*f));
	lock_init(&f->lock);
	f->cpu = -1;
	lock_acquire(&f->lock);
	f->alone_ns = ALONE_MIN_NS;
	lock_release(&f->lock);
	f->on = on && sched_getaffinity(0, sizeof(f->all), &f->all) == 0 && CPU_COUNT(&f->all) > 1;
}

void follow_fini(struct follow *f)
{
	lock_fini(&f->lock);
}

/* Field 39 of /proc/PID/stat; the name in field 2 may hold anything but ends
 * at the last ')'. */
static int client_cpu(uint32_t pid)
{
	char path[32], buf[1024], *p;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%u/stat", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	n = read(fd, buf, sizeof(buf) - 1);
	close(fd);
	if (n <= 0)
		return -1;
	buf[n] = '\0';
	p = strrchr(buf, ')');
	for (int field = 2; p && field < 39; field++)
		p = strchr(p + 1, ' ');
	return p ? atoi(p + 1) : -1;
}

static bool follow_set(struct follow *f, int cpu)
{
	return atomic_exchange(&f->cpu, cpu) != cpu;
}

/* Following ends. If it did not last, the next one has to be earned longer. */
static bool follow_free(struct follow *f, uint64_t now) REQUIRES(f->lock)
{
	if (!follow_set(f, -1))
		return false;
	if (now - f->begun_ns > NSEC_PER_SEC)
		f->alone_ns = ALONE_MIN_NS;
	else if (f->alone_ns < ALONE_MAX_NS)
		f->alone_ns *= 2;
	return true;
}

static bool follow_look(struct follow *f, uint32_t pid, uint64_t now) REQUIRES(f->lock)
{
	int cpu;

	f->look_ns = now + FOLLOW_LOOK_NS;
	cpu = client_cpu(pid);
	if (cpu < 0 || cpu >= CPU_SETSIZE || !CPU_ISSET(cpu, &f->all))
		cpu = -1;
	if (f->cpu < 0)
		f->begun_ns = now;
	return follow_set(f, cpu);
}

bool follow_note(struct follow *f, uint32_t pid, bool waiting)
{
	uint64_t now;
	bool changed = false;
	int backlog;

	if (!f->on || !pid)
		return false;
	now = clock_mono_ns();
	if (f->pid == pid && !waiting && now < f->look_ns && f->backlog == 0)
		return false;
	if (!lock_try(&f->lock))
		return false;
	backlog = f->backlog + (waiting ? 2 : -1);
	f->backlog = backlog < 0 ? 0 : backlog > BACKLOG_MAX ? BACKLOG_MAX : backlog;
	if (f->pid != pid) {
		f->pid = pid;
		f->since_ns = now;
		changed = follow_free(f, now);
	} else if (f->backlog >= BACKLOG_FREE) {
		f->since_ns = now + FOLLOW_BUSY_NS;
		changed = follow_free(f, now);
	} else if (now >= f->look_ns && now >= f->since_ns + f->alone_ns) {
		changed = follow_look(f, pid, now);
	}
	lock_release(&f->lock);
	return changed;
}

void follow_apply(const struct follow *f, pid_t tid)
{
	int cpu = f->cpu;
	cpu_set_t one;

	if (!f->on)
		return;
	CPU_ZERO(&one);
	if (cpu >= 0)
		CPU_SET(cpu, &one);
	(void)sched_setaffinity(tid, sizeof(one), cpu >= 0 ? &one : &f->all); /* only speed */
}
