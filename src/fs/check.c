/* SPDX-License-Identifier: MIT */
#include "fs/check.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mountinfo.h"

#include "base/mem.h"

static int take_path(char **field, char *resolved)
{
	char *copy;

	if (!resolved)
		return -errno;
	copy = mem_strdup(resolved); /* realpath's buffer is libc's */
	free(resolved);
	if (!copy)
		return -ENOMEM;
	mem_free(*field);
	*field = copy;
	return 0;
}

/* STORE that does not exist: its directory must. */
static int resolve_new(char **field)
{
	char *slash, *parent, *path = NULL;
	const char *base;
	size_t len = strlen(*field);
	int r = -ENOENT;

	while (len > 1 && (*field)[len - 1] == '/')
		(*field)[--len] = '\0';
	slash = strrchr(*field, '/');
	base = slash ? slash + 1 : *field;
	if (slash)
		*slash = '\0';
	parent = realpath(!slash ? "." : slash == *field ? "/" : *field, NULL);
	if (slash)
		*slash = '/';
	if (parent && strcmp(base, "..") != 0 && strcmp(base, ".") != 0 &&
	    asprintf(&path, "%s/%s", strcmp(parent, "/") ? parent : "", base) >= 0)
		r = take_path(field, path);
	free(parent);
	return r;
}

static int check_store(struct options *o, struct sbuf *why)
{
	struct stat st;
	int r;

	if (stat(o->store, &st) < 0) {
		r = -errno;
		if (r == -ENOENT && !o->read_only) {
			r = resolve_new(&o->store);
			if (r == 0)
				return 0;
		}
		sbuf_addf(why, "store %s: %s%s", o->store, strerror(-r),
			  r == -ENOENT ? "; the directory that is to hold it must exist" : "");
		return r;
	}
	if (!S_ISDIR(st.st_mode)) {
		sbuf_addf(why, "store %s is not a directory", o->store);
		return -ENOTDIR;
	}
	r = take_path(&o->store, realpath(o->store, NULL));
	if (r < 0)
		sbuf_addf(why, "store %s: %s", o->store, strerror(-r));
	return r;
}

struct taken {
	const char *path;
	char *source;
	size_t len;
};

static bool is_taken(const struct mountinfo *m, void *arg)
{
	struct taken *t = arg;

	if (strcmp(m->type, "fuse.kvcachefs") != 0 || strcmp(m->where, t->path) != 0)
		return false;
	snprintf(t->source, t->len, "%s", m->source);
	return true;
}

/* A kvcachefs is mounted there already: its source in @source. */
static bool mounted_already(const char *path, char *source, size_t len)
{
	struct taken t = { path, source, len };

	return mountinfo_each(is_taken, &t);
}

static int check_mountpoint(struct options *o, struct sbuf *why)
{
	char source[PATH_MAX];
	struct stat st;
	int r;

	if (stat(o->mountpoint, &st) < 0) {
		r = -errno;
		sbuf_addf(why, "mountpoint %s: %s%s", o->mountpoint, strerror(-r),
			  r == -ENOENT     ? "; create it with mkdir"
			  : r == -ENOTCONN ? "; a dead mount is in the way, remove it with "
					     "fusermount3 -u (or umount)"
					   : "");
		return r;
	}
	if (!S_ISDIR(st.st_mode)) {
		sbuf_addf(why, "mountpoint %s is not a directory", o->mountpoint);
		return -ENOTDIR;
	}
	r = take_path(&o->mountpoint, realpath(o->mountpoint, NULL));
	if (r < 0) {
		sbuf_addf(why, "mountpoint %s: %s", o->mountpoint, strerror(-r));
		return r;
	}
	if (mounted_already(o->mountpoint, source, sizeof(source))) {
		sbuf_addf(why,
			  "mountpoint %s is in use: %s is mounted there; unmount it with "
			  "fusermount3 -u %s",
			  o->mountpoint, source, o->mountpoint);
		return -EBUSY;
	}
	return 0;
}

static bool path_within(const char *path, const char *dir)
{
	size_t len = strlen(dir);

	if (strcmp(dir, "/") == 0)
		return true;
	return strncmp(path, dir, len) == 0 && (path[len] == '/' || !path[len]);
}

int check_paths(struct options *o, struct sbuf *why)
{
	int r = check_store(o, why);

	if (r == 0)
		r = check_mountpoint(o, why);
	if (r < 0)
		return r;
	if (path_within(o->store, o->mountpoint) || path_within(o->mountpoint, o->store)) {
		sbuf_addf(why,
			  "store %s and mountpoint %s must not be the same or lie within each "
			  "other; choose a mountpoint outside the store",
			  o->store, o->mountpoint);
		return -EINVAL;
	}
	return 0;
}
