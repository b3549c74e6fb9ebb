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
#include "base/mountinfo.h"
#include "ctl.h"

#define CONTROL_MAX (64u << 20)

static bool within(const char *path, const char *dir)
{
	size_t len = strlen(dir);

	return strncmp(path, dir, len) == 0 &&
	       (path[len] == '/' || !path[len] || (len == 1 && dir[0] == '/'));
}

struct best {
	const char *path;
	char *mount; /* the longest that contains path */
	unsigned count;
};

static bool consider(const struct mountinfo *m, void *arg)
{
	const char *where = m->where;
	struct best *b = arg;

	if (strcmp(m->type, "fuse.kvcachefs") != 0)
		return false;
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
	(void)mountinfo_each(consider, &b); /* always goes through all */
	free(real);
	if (!b.mount)
		ctl_error("%s does not lie in a mounted kvcachefs", path);
	return b.mount;
}

char *mount_only(void)
{
	struct best b = { .path = NULL };

	(void)mountinfo_each(consider, &b); /* always goes through all */
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
