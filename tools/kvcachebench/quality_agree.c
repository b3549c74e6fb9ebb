// SPDX-License-Identifier: MIT
#include "quality_agree.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io.h"

extern char **environ;

/* What a program prints, at most cap - 1 bytes; its errors go where ours go. */
static int output_of(const char *const argv[], char *buf, size_t cap)
{
	posix_spawn_file_actions_t act;
	int pipes[2], status = 0, r;
	size_t at = 0;
	ssize_t n;
	pid_t pid;

	if (pipe2(pipes, O_CLOEXEC) < 0)
		return -errno;
	r = -posix_spawn_file_actions_init(&act);
	if (r == 0)
		r = -posix_spawn_file_actions_adddup2(&act, pipes[1], 1);
	if (r == 0)
		r = -posix_spawnp(&pid, argv[0], &act, NULL, (char *const *)argv, environ);
	(void)posix_spawn_file_actions_destroy(&act);
	close(pipes[1]);
	while (r == 0 && at + 1 < cap && (n = read(pipes[0], buf + at, cap - 1 - at)) > 0)
		at += (size_t)n;
	buf[at] = 0;
	close(pipes[0]);
	if (r == 0 && waitpid(pid, &status, 0) < 0)
		r = -errno;
	return r == 0 && status != 0 ? -EIO : r;
}

static double number(const char *text, const char *key)
{
	const char *p = strstr(text, key);

	return p ? strtod(p + strlen(key), NULL) : -1;
}

int agree_measure(const struct quality_options *o, const char *exact, const uint8_t *lossy,
		  size_t len, double *ret_share, double *ret_n)
{
	char path[4096], text[65536];
	const char *argv[] = { o->kvlm, "compare", o->model, "--exact", exact, "--lossy", path,
			       "--json", NULL };
	int fd, r;

	snprintf(path, sizeof(path), "%s/kvcachebench-XXXXXX", o->dir);
	fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0) {
		r = -errno;
		fprintf(stderr, "kvcachebench: %s: %s\n", path, strerror(errno));
		return r;
	}
	r = io_pwrite_all(fd, lossy, len, 0);
	close(fd);
	if (r == 0)
		r = output_of(argv, text, sizeof(text));
	(void)unlink(path);
	*ret_share = number(text, "\"agreement\": ");
	*ret_n = number(text, "\"positions\": ");
	if (r == 0 && (*ret_share < 0 || *ret_n < 0))
		r = -EBADMSG;
	if (r < 0)
		fprintf(stderr, "kvcachebench: %s compare: %s\n", o->kvlm, err_text(r));
	return r;
}
