/* SPDX-License-Identifier: MIT */
/*
 * llm-d's fs backend, in the tree that vLLM's fs tier has too: it renames before it
 * closes and reads tails; the GDS variant writes and reads a file in slices, one per
 * layer.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "replay.h"

#define LLMD_FULL (8 * MIB) /* 256 tokens */
#define LLMD_FILES 3

/* Partial files hold the tail of a full one. */
static size_t llmd_len(int i)
{
	return i ? LLMD_FULL : LLMD_FULL / 4 * 3;
}

static struct path llmd_path(const struct replay *r, int i)
{
	return path_of(r, "m_0123456789ab_r0/abc/%02x_g0/%016x.bin", i, i * 31337);
}

static void llmd_read(const struct replay *r, int i, size_t want)
{
	char *buf = buffer(r, want);
	int fd = open_must(r, llmd_path(r, i).s, O_RDONLY);
	off_t size = lseek(fd, 0, SEEK_END);

	MUST(r, size == (off_t)llmd_len(i));
	MUST(r, lseek(fd, size - (off_t)want, SEEK_SET) == size - (off_t)want);
	for (size_t done = 0; done < want;) { /* an ifstream with a 1 MB buffer */
		size_t n = want - done < 1000000 ? want - done : 1000000;

		read_once(r, fd, buf + done, n);
		done += n;
	}
	close_must(r, fd);
	content_check(r, buf, want, (uint64_t)i, LLMD_FULL - want);
	free(buf);
}

static void llmd_write(struct replay *r)
{
	const struct timespec touch[2] = { { .tv_nsec = UTIME_NOW }, { .tv_nsec = UTIME_OMIT } };
	struct stat a, b;
	time_t before;

	vllm_config(r);
	for (int i = 0; i < LLMD_FILES; i++) {
		struct path dest = llmd_path(r, i), tmp;
		size_t len = llmd_len(i);
		char *buf = buffer(r, len);
		int fd;

		mkdirs(r, dest.s);
		snprintf(tmp.s, sizeof(tmp.s), "%.*s_77.tmp", PATH_MAX - 20, dest.s);
		fd = open_must(r, tmp.s, O_WRONLY | O_CREAT | O_TRUNC);
		content_fill(buf, len, (uint64_t)i, LLMD_FULL - len);
		write_once(r, fd, buf, len);
		MUST(r, rename(tmp.s, dest.s) == 0);
		llmd_read(r, i, 1 * MIB); /* another process sees it before the close */
		close_must(r, fd);
		MUST(r, stat(dest.s, &a) == 0);
		before = time(NULL);
		MUST(r, utimensat(AT_FDCWD, dest.s, touch, 0) == 0); /* stored again */
		MUST(r, stat(dest.s, &b) == 0 && b.st_atim.tv_sec >= before - 1);
		MUST(r, a.st_mtim.tv_sec == b.st_mtim.tv_sec &&
				a.st_mtim.tv_nsec == b.st_mtim.tv_nsec);
		MUST(r, b.st_size == (off_t)len);
		free(buf);
	}
}

static void llmd_verify(struct replay *r)
{
	for (int i = 0; i < LLMD_FILES; i++) {
		llmd_read(r, i, llmd_len(i));
		llmd_read(r, i, llmd_len(i) / 2);
		llmd_read(r, i, 128 * KIB);
	}
}

/* ---- GDS: O_RDWR|O_CREAT|O_DIRECT, a slice per layer in any order ---- */

#define SLICES 32u
#define SLICE (256 * KIB)

static struct path gds_path(const struct replay *r)
{
	return path_of(r, "m_0123456789ab_r0/def/00_g0/0123456789abcdef.bin");
}

static void gds_write(struct replay *r)
{
	struct path dest = gds_path(r), tmp = path_of(r, "m_0123456789ab_r0/def/00_g0/x_99.tmp");
	char *buf = buffer(r, SLICE);
	int fd;

	mkdirs(r, dest.s);
	fd = open_direct(r, tmp.s, O_RDWR | O_CREAT);
	MUST(r, fd >= 0);
	for (uint32_t i = 0; i < SLICES; i++) {
		uint32_t slice = i * 5 % SLICES;

		content_fill(buf, SLICE, slice, 0);
		MUST(r, pwrite(fd, buf, SLICE, (off_t)slice * SLICE) == SLICE);
	}
	MUST(r, rename(tmp.s, dest.s) == 0);
	close_must(r, fd);
	free(buf);
}

static void gds_verify(struct replay *r)
{
	char *buf = buffer(r, SLICE);
	int fd = open_direct(r, gds_path(r).s, O_RDONLY);

	MUST(r, fd >= 0);
	for (uint32_t i = 0; i < SLICES; i++) {
		uint32_t slice = i * 11 % SLICES;

		MUST(r, pread(fd, buf, SLICE, (off_t)slice * SLICE) == SLICE);
		content_check(r, buf, SLICE, slice, 0);
	}
	close_must(r, fd);
	free(buf);
}

const struct client_case llmd_cases[] = {
	{ "llm-d", "rename before close, tail reads, atime touched", llmd_write, llmd_verify },
	{ "llm-d-gds", "O_DIRECT slices in any order, rename before close", gds_write, gds_verify },
	{ 0 },
};
