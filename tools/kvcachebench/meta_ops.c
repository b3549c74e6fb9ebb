// SPDX-License-Identifier: MIT
/* One client doing one thing to each of many files. */
#include "meta_ops.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/clock.h"
#include "rig.h"

/* 0 or -errno for the file of that name. */
typedef int (*meta_fn)(int dirfd, const char *name, const char *path);

static double each(const char *dir, unsigned n, meta_fn fn)
{
	int dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	uint64_t t0 = clock_mono_ns();
	char path[RIG_PATH + 32];
	int base = snprintf(path, sizeof(path), "%s/", dir);

	if (dirfd < 0)
		return -errno;
	for (unsigned i = 0; i < n && r == 0; i++) {
		snprintf(path + base, 32, "context-%07u.bin", i);
		r = fn(dirfd, path + base, path);
	}
	close(dirfd);
	return r < 0 ? r : (double)(clock_mono_ns() - t0) / 1e9;
}

static int do_create(int dirfd, const char *name, const char *path)
{
	int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

	(void)path;
	return fd < 0 || close(fd) < 0 ? -errno : 0;
}

static int do_stat(int dirfd, const char *name, const char *path)
{
	struct stat sb;

	(void)path;
	return fstatat(dirfd, name, &sb, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

static int do_open(int dirfd, const char *name, const char *path)
{
	int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC);

	(void)path;
	return fd < 0 || close(fd) < 0 ? -errno : 0;
}

static int do_setxattr(int dirfd, const char *name, const char *path)
{
	(void)dirfd;
	(void)name;
	return setxattr(path, "user.bench", "01234567", 8, 0) < 0 ? -errno : 0;
}

static int do_getxattr(int dirfd, const char *name, const char *path)
{
	char value[32];

	(void)dirfd;
	(void)name;
	return getxattr(path, "user.bench", value, sizeof(value)) != 8 ? -errno : 0;
}

double meta_create(const char *dir, unsigned n)
{
	return each(dir, n, do_create);
}

double meta_stat(const char *dir, unsigned n)
{
	return each(dir, n, do_stat);
}

double meta_open(const char *dir, unsigned n)
{
	return each(dir, n, do_open);
}

double meta_setxattr(const char *dir, unsigned n)
{
	return each(dir, n, do_setxattr);
}

double meta_getxattr(const char *dir, unsigned n)
{
	return each(dir, n, do_getxattr);
}

double meta_walk(const char *dir, unsigned n)
{
	uint64_t t0 = clock_mono_ns();
	DIR *d = opendir(dir);
	unsigned found = 0;
	struct dirent *e;
	struct stat sb;
	int r = d ? 0 : -errno;

	while (r == 0 && (e = readdir(d)) != NULL) {
		if (e->d_name[0] == '.')
			continue;
		if (fstatat(dirfd(d), e->d_name, &sb, AT_SYMLINK_NOFOLLOW) < 0)
			r = -errno;
		found++;
	}
	if (d)
		closedir(d);
	if (r == 0 && found != n)
		r = -ENOENT;
	return r < 0 ? r : (double)(clock_mono_ns() - t0) / 1e9;
}
