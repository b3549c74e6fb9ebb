/* SPDX-License-Identifier: MIT */
/*
 * SGLang HiCacheFile: one flat directory of raw pages, written to a temporary
 * name and renamed, or (older) in place; read by one readinto of the whole file.
 * NIXL: the same pages, opened O_RDWR|O_CREAT|O_DIRECT even to read.
 */
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
#define PAGES 3
#define SMALL (128 * KIB) /* one token to a page */
#define SMALLS 12

/* Pages of two models in one directory. */
static struct path page_path(const struct replay *r, int i)
{
	return path_of(r, "%016x%016x%016x%016x_%s_0_1.bin", i * 3, i * 5, i * 7, i * 11,
		       i < PAGES ? "m-8b" : "small-m");
}

static size_t page_len(int i)
{
	return i < PAGES ? PAGE : SMALL;
}

static void page_read(const struct replay *r, int i, uint64_t seed)
{
	size_t len = page_len(i);
	char *buf = buffer(r, len);
	int fd = open_must(r, page_path(r, i).s, O_RDONLY);
	struct stat st;

	MUST(r, fstat(fd, &st) == 0 && st.st_size == (off_t)len);
	read_once(r, fd, buf, len);
	close_must(r, fd);
	content_check(r, buf, len, seed, 0);
	free(buf);
}

/* numpy.tofile is one fwrite of everything, which goes out in one write. */
static void page_write(const struct replay *r, const char *path, size_t len, uint64_t seed)
{
	char *buf = buffer(r, len);
	FILE *f = fopen(path, "wb");

	MUST(r, f != NULL);
	content_fill(buf, len, seed, 0);
	MUST(r, fwrite(buf, 1, len, f) == len);
	MUST(r, fclose(f) == 0);
	free(buf);
}

static void page_put(const struct replay *r, int i)
{
	struct path to = page_path(r, i), tmp;
	struct stat st;

	MUST(r, stat(to.s, &st) < 0 && errno == ENOENT); /* os.path.exists */
	snprintf(tmp.s, sizeof(tmp.s), "%.*s.tmp.1.2.%x", PATH_MAX - 20, to.s, i);
	page_write(r, tmp.s, page_len(i), (uint64_t)i);
	MUST(r, rename(tmp.s, to.s) == 0);
}

/* The last page is evicted, stored again and evicted again. */
static void hicache_write(struct replay *r)
{
	struct statvfs vfs;

	MUST(r, statvfs(r->dir, &vfs) == 0 && vfs.f_bavail > 0 && vfs.f_blocks >= vfs.f_bavail);
	for (int i = 0; i < PAGES + SMALLS; i++)
		page_put(r, i);
	for (int i = 0; i < 2; i++) {
		page_put(r, PAGES + SMALLS);
		MUST(r, unlink(page_path(r, PAGES + SMALLS).s) == 0);
	}
}

/* Also the startup scan: names, sizes, modification times, which order the LRU. */
static void hicache_verify(struct replay *r)
{
	struct stat st, last = { 0 };

	MUST(r, scan_dir(r, r->dir, "_m-8b_0_1.bin", PAGE) == PAGES);
	MUST(r, scan_dir(r, r->dir, "_small-m_0_1.bin", SMALL) == SMALLS);
	for (int i = 0; i < PAGES + SMALLS; i++) {
		page_read(r, i, (uint64_t)i);
		MUST(r, stat(page_path(r, i).s, &st) == 0);
		MUST(r, st.st_mtim.tv_sec > last.st_mtim.tv_sec ||
				(st.st_mtim.tv_sec == last.st_mtim.tv_sec &&
				 st.st_mtim.tv_nsec >= last.st_mtim.tv_nsec));
		last = st;
	}
}

/* Older versions: straight to the final name, and again over an older page. */
static void inplace_write(struct replay *r)
{
	for (int i = 0; i < PAGES; i++) {
		page_write(r, page_path(r, i).s, PAGE, 1000u + (uint64_t)i);
		page_write(r, page_path(r, i).s, PAGE, (uint64_t)i);
	}
}

static void inplace_verify(struct replay *r)
{
	for (int i = 0; i < PAGES; i++)
		page_read(r, i, (uint64_t)i);
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
