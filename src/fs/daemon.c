/* SPDX-License-Identifier: MIT */
#include "fs/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io.h"

static _Noreturn void parent_wait(int fd, pid_t child)
{
	char ready;
	ssize_t n;
	int status;

	do
		n = read(fd, &ready, 1);
	while (n < 0 && errno == EINTR);
	if (n == 1)
		_exit(0);
	/* The child has said why on standard error. */
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			_exit(1);
	_exit(WIFEXITED(status) && WEXITSTATUS(status) ? WEXITSTATUS(status) : 1);
}

int daemon_fork(struct daemon *d)
{
	int fds[2];
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	pid = fork();
	if (pid < 0) {
		int r = -errno;

		io_close(&fds[0]);
		io_close(&fds[1]);
		return r;
	}
	if (pid > 0) {
		close(fds[1]);
		parent_wait(fds[0], pid);
	}
	io_close(&fds[0]);
	d->report_fd = fds[1];
	(void)setsid(); /* a fresh child is never a group leader */
	return 0;
}

void daemon_ready(struct daemon *d)
{
	int null;

	if (d->report_fd < 0)
		return;
	if (chdir("/") < 0)
		return; /* UNTESTED: the root is always there */
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null >= 0) {
		(void)dup2(null, STDIN_FILENO);
		(void)dup2(null, STDOUT_FILENO);
		(void)dup2(null, STDERR_FILENO);
		if (null > STDERR_FILENO)
			close(null);
	}
	if (write(d->report_fd, "", 1) < 0) {
		/* nobody waits any more */
	}
	io_close(&d->report_fd);
}
