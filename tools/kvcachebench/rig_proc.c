// SPDX-License-Identifier: MIT
/* Other programs: run to the end, or kept running. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "rig.h"

static void child(const struct rig *g, const char *const argv[])
{
	struct rlimit files = { 1 << 20, 1 << 20 };
	int fd = open(g->log, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW, 0644);
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	(void)setpgid(0, 0); /* ctrl-C is ours to hand on */
	(void)setrlimit(RLIMIT_NOFILE, &files); /* passthrough_ll holds one per inode */
	(void)prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (fd >= 0) {
		dup2(fd, STDOUT_FILENO);
		dup2(fd, STDERR_FILENO);
	}
	execvp(argv[0], (char *const *)argv);
	fprintf(stderr, "%s: %s\n", argv[0], strerror(errno));
	_exit(127);
}

int rig_spawn(struct rig *g, const char *const argv[], pid_t *ret)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid < 0)
		return rig_fail(-errno, "cannot start %s: %s", argv[0], strerror(errno));
	if (pid == 0)
		child(g, argv);
	*ret = pid;
	return rig_undo_add(g, UNDO_CHILD, pid, NULL);
}

static bool ended(pid_t pid, int *status)
{
	pid_t r = waitpid(pid, status, WNOHANG);

	return r == pid || (r < 0 && errno == ECHILD);
}

void rig_reap(struct rig *g, pid_t pid, unsigned seconds)
{
	uint64_t until = clock_mono_ns() + seconds * NSEC_PER_SEC;
	int status = 0;

	rig_undo_drop(g, UNDO_CHILD, pid, NULL);
	kill(pid, SIGTERM);
	while (!ended(pid, &status)) {
		if (clock_mono_ns() > until)
			kill(pid, SIGKILL);
		usleep(20000);
	}
}

/* The last lines of the log, which tell more than a status. */
static void show_log(const struct rig *g)
{
	char buf[800];
	FILE *f = fopen(g->log, "re");
	size_t n;

	if (!f)
		return;
	(void)fseek(f, -(long)sizeof(buf), SEEK_END); /* a short log: from its start */
	n = fread(buf, 1, sizeof(buf), f);
	fclose(f);
	fprintf(stderr, "%.*s\n", (int)n, buf);
}

int rig_run(struct rig *g, const char *const argv[])
{
	int status = 0, r;
	pid_t pid = 0;

	r = rig_spawn(g, argv, &pid);
	if (r < 0)
		return r;
	while (!ended(pid, &status)) {
		if (rig_interrupted(g)) {
			rig_reap(g, pid, 5);
			return -EINTR;
		}
		usleep(10000);
	}
	rig_undo_drop(g, UNDO_CHILD, pid, NULL);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	rig_fail(0, "%s failed:", argv[0]);
	show_log(g);
	return -ECHILD;
}

int rig_find(const char *given, const char *built, const char *name, char path[RIG_PATH])
{
	char self[PATH_MAX];
	ssize_t n;

	if (given) {
		snprintf(path, RIG_PATH, "%s", given);
		return access(path, R_OK) == 0 ? 0 : rig_fail(-ENOENT, "%s: %s", given,
							      strerror(errno));
	}
	n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	if (n > 0) {
		self[n] = 0;
		*strrchr(self, '/') = 0;
		snprintf(path, RIG_PATH, "%s/%s", self, built);
		if (access(path, R_OK) == 0)
			return 0;
		snprintf(path, RIG_PATH, "%s/%s", self, name);
		if (access(path, R_OK) == 0)
			return 0;
	}
	return rig_fail(-ENOENT, "cannot find %s beside this program; name it by an option", name);
}
