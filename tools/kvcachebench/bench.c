// SPDX-License-Identifier: MIT
/* Times, quiet scheduling, progress. */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

void bench_add(struct bench_times *t, double seconds)
{
	if (t->n < BENCH_ROUNDS_MAX)
		t->s[t->n++] = seconds;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double bench_median(const struct bench_times *t)
{
	struct bench_times sorted = *t;

	if (t->n == 0)
		return 0;
	qsort(sorted.s, sorted.n, sizeof(sorted.s[0]), by_value);
	return t->n % 2 ? sorted.s[t->n / 2]
			: (sorted.s[t->n / 2 - 1] + sorted.s[t->n / 2]) / 2;
}

double bench_best(const struct bench_times *t)
{
	double best = t->n ? t->s[0] : 0;

	for (unsigned i = 1; i < t->n; i++)
		if (t->s[i] < best)
			best = t->s[i];
	return best;
}

static void raise_priority(void)
{
	int fd = open("/proc/self/autogroup", O_WRONLY | O_CLOEXEC);

	if (fd >= 0) {
		/* Refused without privilege: then it stays as it is. */
		if (write(fd, "-20", 3) < 0)
			(void)fd;
		close(fd);
	}
	(void)setpriority(PRIO_PROCESS, 0, -20);
}

/* Hands on what should end us, and ends as the child did. */
static _Noreturn void stand_by(pid_t pid, const sigset_t *set)
{
	int status = 0, sig;

	while (waitpid(pid, &status, WNOHANG) == 0) {
		sig = sigwaitinfo(set, NULL);
		if (sig > 0 && sig != SIGCHLD)
			kill(pid, SIGTERM);
	}
	_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

void bench_quiet(void)
{
	sigset_t set, old;
	pid_t pid;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, &old);
	fflush(NULL);
	pid = fork();
	if (pid > 0)
		stand_by(pid, &set);
	sigprocmask(SIG_SETMASK, &old, NULL);
	if (pid < 0)
		return;
	(void)prctl(PR_SET_PDEATHSIG, SIGTERM);
	(void)setsid();
	raise_priority();
}

void bench_progress(const char *text)
{
	if (isatty(STDERR_FILENO))
		fprintf(stderr, "\r\033[K%s", text ? text : "");
}

int bench_options(int argc, char **argv, const struct option *longs, int (*one)(int c, void *o),
		  void *o)
{
	int c, i = 0;

	while ((c = getopt_long(argc, argv, "h", longs, &i)) != -1) {
		if (c == 'h')
			return 1;
		if (c == '?')
			return -EINVAL;
		if (one(c, o) < 0) {
			fprintf(stderr, "kvcachebench: bad value '%s' for --%s\n", optarg,
				longs[i].name);
			return -EINVAL;
		}
	}
	return 0;
}
