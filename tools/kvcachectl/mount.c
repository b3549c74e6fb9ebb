/* SPDX-License-Identifier: MIT */
/* Which mount a path belongs to, and its control files. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "base/mem.h"
#include "ctl.h"

#define CONTROL_MAX (64u << 20)

/* Mountinfo writes space, tab, newline and backslash as \ooo. */
static void unescape(char *s)
{
	char *out = s;

	for (; *s; s++) {
		if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] && s[3]) {
			*out++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
			s += 3;
		} else {
			*out++ = *s;
		}
	}
	*out = '\0';
}

static bool within(const char *path, const char *dir)
{
	size_t len = strlen(dir);

	return strncmp(path, dir, len) == 0 &&
	       (path[len] == '/' || !path[len] || (len == 1 && dir[0] == '/'));
}

/* Calls @cb with every mountpoint of this type; stops when it returns true. */
static bool each_mount(bool (*cb)(const char *where, void *arg), void *arg)
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	char line[8192], where[4096];
	bool found = false;

	if (!f)
		return false;
	while (!found && fgets(line, sizeof(line), f)) {
		if (!strstr(line, " - fuse.kvcachefs "))
			continue;
		if (sscanf(line, "%*d %*d %*s %*s %4095s", where) != 1)
			continue;
		unescape(where);
		found = cb(where, arg);
	}
	fclose(f);
	return found;
}

struct best {
	const char *path;
	char *mount; /* the longest that contains path */
	unsigned count;
};

static bool consider(const char *where, void *arg)
{
	struct best *b = arg;

	b->count++;
	if (b->path && !within(b->path, where))
		return false;
	if (b->mount && strlen(b->mount) >= strlen(where))
		return false;
	mem_free(b->mount);
	b->mount = mem_strdup(where);
	return false;
}

char *mount_of(const char *path)
{
	char *real = realpath(path, NULL);
	struct best b = { .path = real };

	if (!real) {
		ctl_error("%s: %s", path, strerror(errno));
		return NULL;
	}
	(void)each_mount(consider, &b); /* always goes through all */
	free(real);
	if (!b.mount)
		ctl_error("%s does not lie in a mounted kvcachefs", path);
	return b.mount;
}

char *mount_only(void)
{
	struct best b = { .path = NULL };

	(void)each_mount(consider, &b); /* always goes through all */
	if (b.count == 1)
		return b.mount;
	mem_free(b.mount);
	if (b.count)
		ctl_error("%u kvcachefs are mounted; say which (the mountpoint)", b.count);
	else
		ctl_error("no kvcachefs is mounted");
	return NULL;
}

int control_read(const char *mount, const char *name, struct sbuf *out)
{
	char path[4200], buf[65536];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "%s/.kvcachefs/%s", mount, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	while ((n = read(fd, buf, sizeof(buf))) > 0 && out->len < CONTROL_MAX)
		sbuf_add(out, buf, (size_t)n);
	n = n < 0 ? -errno : 0;
	io_close(&fd);
	return n < 0 ? (int)n : out->failed ? -ENOMEM : 0;
}
