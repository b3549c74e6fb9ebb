/* SPDX-License-Identifier: MIT */
/*
 * SGLang HiCacheFile: one flat directory of raw pages, written to a temporary
 * name and renamed, or (older) in place; read by one readinto of the whole file.
 * NIXL: the same pages, opened O_RDWR|O_CREAT|O_DIRECT even to read.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "replay.h"

#define PAGE (8 * MIB) /* 64 tokens of an 8B model */
#define PAGES 4

static struct path page_path(const struct replay *r, int i)
{
	return path_of(r, "%016x%016x%016x%016x_m-8b_0_1.bin", i * 3, i * 5, i * 7, i * 11);
}

static void page_read(const struct replay *r, const char *path, uint64_t seed)
{
	char *buf = buffer(r, PAGE);
	int fd = open_must(r, path, O_RDONLY);
	struct stat st;

	MUST(r, fstat(fd, &st) == 0 && st.st_size == PAGE);
	read_once(r, fd, buf, PAGE);
	close_must(r, fd);
	content_check(r, buf, PAGE, seed, 0);
	free(buf);
}

/* numpy.tofile is one fwrite of everything, which goes out in one write. */
static void page_write(const struct replay *r, const char *path, uint64_t seed)
{
	char *buf = buffer(r, PAGE);
	FILE *f = fopen(path, "wb");

	MUST(r, f != NULL);
	content_fill(buf, PAGE, seed, 0);
	MUST(r, fwrite(buf, 1, PAGE, f) == PAGE);
	MUST(r, fclose(f) == 0);
	free(buf);
}

static void hicache_write(struct replay *r)
{
	struct statvfs vfs;

	MUST(r, statvfs(r->dir, &vfs) == 0 && vfs.f_bavail > 0 && vfs.f_blocks >= vfs.f_bavail);
	for (int i = 0; i < PAGES; i++) {
		struct path to = page_path(r, i), tmp;

		MUST(r, access(to.s, F_OK) < 0 && errno == ENOENT);
		snprintf(tmp.s, sizeof(tmp.s), "%.*s.tmp.1.2.%x", PATH_MAX - 20, to.s, i);
		page_write(r, tmp.s, (uint64_t)i);
		MUST(r, rename(tmp.s, to.s) == 0);
	}
}

/* Also the startup scan: names, sizes, modification times. */
static void hicache_verify(struct replay *r)
{
	DIR *d = opendir(r->dir);
	struct dirent *e;
	struct stat st;
	int n = 0;

	MUST(r, d != NULL);
	while ((e = readdir(d))) {
		if (e->d_name[0] == '.')
			continue;
		MUST(r,
		     strlen(e->d_name) > 68 && !strcmp(e->d_name + strlen(e->d_name) - 4, ".bin"));
		MUST(r, stat(path_of(r, "%s", e->d_name).s, &st) == 0 && st.st_size == PAGE);
		n++;
	}
	closedir(d);
	MUST(r, n == PAGES);
	for (int i = 0; i < PAGES; i++)
		page_read(r, page_path(r, i).s, (uint64_t)i);
}

/* Older versions: straight to the final name, and again over an older page. */
static void inplace_write(struct replay *r)
{
	for (int i = 0; i < PAGES; i++) {
		page_write(r, page_path(r, i).s, 1000u + (uint64_t)i);
		page_write(r, page_path(r, i).s, (uint64_t)i);
	}
}

static void inplace_verify(struct replay *r)
{
	for (int i = 0; i < PAGES; i++)
		page_read(r, page_path(r, i).s, (uint64_t)i);
}

static int nixl_open(const struct replay *r, int i)
{
	int fd = open_direct(r, path_of(r, "bucket/key%d", i).s, O_RDWR | O_CREAT);

	MUST(r, fd >= 0);
	return fd;
}

static void nixl_write(struct replay *r)
{
	char *buf = buffer(r, PAGE);

	mkdirs(r, path_of(r, "bucket/x").s);
	for (int i = 0; i < PAGES; i++) {
		int fd = nixl_open(r, i);

		content_fill(buf, PAGE, (uint64_t)i, 0);
		/* a plugin may split it */
		MUST(r, pwrite(fd, buf + PAGE / 2, PAGE / 2, PAGE / 2) == PAGE / 2);
		MUST(r, pwrite(fd, buf, PAGE / 2, 0) == PAGE / 2);
		close_must(r, fd);
	}
	free(buf);
}

static void nixl_verify(struct replay *r)
{
	char *buf = buffer(r, PAGE);

	for (int i = 0; i < PAGES; i++) {
		int fd = nixl_open(r, i); /* to read */

		MUST(r, pread(fd, buf, PAGE, 0) == (ssize_t)PAGE);
		close_must(r, fd);
		content_check(r, buf, PAGE, (uint64_t)i, 0);
	}
	free(buf);
}

const struct client_case hicache_cases[] = {
	{ "hicache", "HiCacheFile: temporary file, replace, one readinto", hicache_write,
	  hicache_verify },
	{ "hicache-in-place", "older HiCacheFile: truncate and write the final name", inplace_write,
	  inplace_verify },
	{ "nixl", "NIXL: O_RDWR|O_CREAT|O_DIRECT to write and to read", nixl_write, nixl_verify },
	{ 0 },
};
