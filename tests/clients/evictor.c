/* SPDX-License-Identifier: MIT */
/*
 * pvc-evictor of llm-d: crawls the hex tree with scandir and stat, asks statvfs,
 * unlinks in batches, removes directories that are empty and old.
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

#define TOP 8
#define PER_DIR 6
#define LEN (1 * MIB)

static struct path file_path(const struct replay *r, int d, int i)
{
	return path_of(r, "m_0123456789ab_r0/%03x/%02x_g0/%016x.bin", d * 100, d, i);
}

/* Every second directory is emptied, elsewhere files 0 and 1 go. */
static bool evicted(int d, int i)
{
	return d % 2 || i < 2;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int no_dots(const struct dirent *e)
{
	return e->d_name[0] != '.';
}

/* Files below @path; checks d_type against stat. */
static int crawl(const struct replay *r, const char *path, uint64_t *bytes)
{
	struct dirent **list;
	struct path below;
	struct stat st;
	int files = 0, n = scandir(path, &list, no_dots, by_name);

	MUST(r, n >= 0);
	for (int i = 0; i < n; i++) {
		MUST(r, snprintf(below.s, sizeof(below.s), "%s/%s", path, list[i]->d_name) <
				(int)sizeof(below.s));
		MUST(r, stat(below.s, &st) == 0);
		if (S_ISDIR(st.st_mode)) {
			MUST(r, list[i]->d_type == DT_DIR || list[i]->d_type == DT_UNKNOWN);
			files += crawl(r, below.s, bytes);
		} else {
			MUST(r, list[i]->d_type == DT_REG || list[i]->d_type == DT_UNKNOWN);
			*bytes += (uint64_t)st.st_size;
			files++;
		}
		free(list[i]);
	}
	free(list);
	return files;
}

static void evictor_write(struct replay *r)
{
	char *buf = buffer(r, LEN);
	struct statvfs vfs;
	uint64_t bytes = 0;

	for (int d = 0; d < TOP; d++) {
		for (int i = 0; i < PER_DIR; i++) {
			struct path p = file_path(r, d, i);
			int fd;

			mkdirs(r, p.s);
			fd = open_must(r, p.s, O_WRONLY | O_CREAT | O_EXCL);
			content_fill(buf, LEN, (uint64_t)(d * 100 + i), 0);
			write_once(r, fd, buf, LEN);
			close_must(r, fd);
		}
	}
	free(buf);
	MUST(r,
	     crawl(r, r->dir, &bytes) == TOP * PER_DIR && bytes == (uint64_t)TOP * PER_DIR * LEN);
	MUST(r, statvfs(r->dir, &vfs) == 0 && vfs.f_blocks > 0 && vfs.f_bfree <= vfs.f_blocks);
	for (int d = 0; d < TOP; d++) {
		struct path dir = path_of(r, "m_0123456789ab_r0/%03x/%02x_g0", d * 100, d);
		struct path top = path_of(r, "m_0123456789ab_r0/%03x", d * 100);

		for (int i = 0; i < PER_DIR; i++)
			if (evicted(d, i))
				MUST(r, unlink(file_path(r, d, i).s) == 0);
		if (d % 2)
			MUST(r, rmdir(dir.s) == 0 && rmdir(top.s) == 0);
		else
			MUST(r, rmdir(dir.s) < 0 && errno == ENOTEMPTY);
	}
}

static void evictor_verify(struct replay *r)
{
	char *buf = buffer(r, LEN);
	uint64_t bytes = 0;
	int n = 0;

	for (int d = 0; d < TOP; d++) {
		for (int i = 0; i < PER_DIR; i++) {
			int fd;

			if (evicted(d, i)) {
				MUST(r, access(file_path(r, d, i).s, F_OK) < 0 && errno == ENOENT);
				continue;
			}
			fd = open_must(r, file_path(r, d, i).s, O_RDONLY);
			read_once(r, fd, buf, LEN);
			close_must(r, fd);
			content_check(r, buf, LEN, (uint64_t)(d * 100 + i), 0);
			n++;
		}
	}
	MUST(r, crawl(r, r->dir, &bytes) == n && bytes == (uint64_t)n * LEN);
	free(buf);
}

const struct client_case evictor_cases[] = {
	{ "pvc-evictor", "scandir, stat, statvfs, unlink, rmdir", evictor_write, evictor_verify },
	{ 0 },
};
