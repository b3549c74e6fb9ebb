/* SPDX-License-Identifier: MIT */
/*
 * LMCache: the fs connector (28-byte header, rest), local_disk (raw, in place,
 * O_DIRECT without O_TRUNC), the C++ fs L2 adapter (write loop, small first
 * read) and the GDS backend's POSIX fallback (mappings).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "replay.h"

#define CHUNK (32 * MIB) /* 256 tokens of an 8B model: [2][32][256][1024] bf16 */
#define SMALL (8 * MIB)

/* ---- fs connector ---- */

static const int32_t fs_head[7] = { CHUNK, 1, 3, 2, 32, 256, 1024 };

static void fs_write(struct replay *r)
{
	struct path to = path_of(r, "m@1@0@%x.data", 0xabcdef), tmp = path_of(r, "tmp/m@1@0@x.tmp");
	char *buf = buffer(r, CHUNK);
	int fd;

	mkdirs(r, tmp.s); /* relative_tmp_dir */
	fd = open_must(r, tmp.s, O_WRONLY | O_CREAT | O_TRUNC);
	content_fill(buf, CHUNK, 1, 0);
	write_once(r, fd, fs_head, sizeof(fs_head));
	write_once(r, fd, buf, CHUNK);
	close_must(r, fd);
	MUST(r, rename(tmp.s, to.s) == 0);
	free(buf);
}

static void fs_verify(struct replay *r)
{
	struct path p = path_of(r, "m@1@0@%x.data", 0xabcdef);
	char *buf = buffer(r, CHUNK);
	int32_t head[7];
	struct stat st;
	int fd;

	MUST(r, stat(p.s, &st) == 0 && scan_dir(r, r->dir, ".data", 28 + CHUNK) == 1);
	fd = open_must(r, p.s, O_RDONLY);
	read_once(r, fd, head, sizeof(head));
	MUST(r, !memcmp(head, fs_head, sizeof(head)));
	read_once(r, fd, buf, CHUNK);
	MUST(r, read(fd, head, 1) == 0);
	close_must(r, fd);
	content_check(r, buf, CHUNK, 1, 0);
	free(buf);
}

/* ---- local_disk ---- */

static struct path disk_path(const struct replay *r, int i)
{
	return path_of(r, "vllm@m-8b@1@0@%08x.pt", i * 17);
}

/* O_DIRECT without O_TRUNC: a second store of the same key overwrites. */
static void disk_put(const struct replay *r, int i, uint64_t seed, bool direct)
{
	char *buf = buffer(r, SMALL);
	int fd;

	content_fill(buf, SMALL, seed, 0);
	fd = direct ? open_direct(r, disk_path(r, i).s, O_CREAT | O_WRONLY)
		    : open_must(r, disk_path(r, i).s, O_CREAT | O_WRONLY | O_TRUNC);
	MUST(r, fd >= 0);
	write_once(r, fd, buf, SMALL);
	close_must(r, fd);
	free(buf);
}

/* Removed in the middle of a read, which goes on. */
static void disk_evict(const struct replay *r)
{
	char *buf = buffer(r, SMALL);
	int fd;

	disk_put(r, 4, 4, true);
	fd = open_must(r, disk_path(r, 4).s, O_RDONLY);
	read_once(r, fd, buf, SMALL / 2);
	MUST(r, unlink(disk_path(r, 4).s) == 0);
	read_once(r, fd, buf + SMALL / 2, SMALL / 2);
	close_must(r, fd);
	content_check(r, buf, SMALL, 4, 0);
	free(buf);
}

static void disk_write(struct replay *r)
{
	struct statvfs vfs;

	/* O_DIRECT only where the size is a multiple of the block size */
	MUST(r, statvfs(r->dir, &vfs) == 0 && SMALL % vfs.f_bsize == 0);
	for (int i = 0; i < 4; i++) {
		disk_put(r, i, 900, i & 1);
		disk_put(r, i, (uint64_t)i, i & 1);
	}
	disk_evict(r);
}

static void disk_verify(struct replay *r)
{
	char *buf = buffer(r, SMALL);

	for (int i = 0; i < 4; i++) {
		int fd = i & 1 ? open_direct(r, disk_path(r, i).s, O_RDONLY)
			       : open_must(r, disk_path(r, i).s, O_RDONLY);

		MUST(r, fd >= 0);
		read_once(r, fd, buf, SMALL);
		close_must(r, fd);
		content_check(r, buf, SMALL, (uint64_t)i, 0);
	}
	MUST(r, access(disk_path(r, 4).s, F_OK) < 0 && errno == ENOENT);
	free(buf);
}

/* ---- fs L2 adapter ---- */

static void l2_write(struct replay *r)
{
	char *buf = buffer(r, SMALL);

	for (int i = 0; i < 3; i++) {
		struct path to = path_of(r, "m-SEP-x@0x0@0@%x.data", i), tmp = path_of(r, "t%d", i);
		int fd = open_direct(r, tmp.s, O_CREAT | O_WRONLY | O_TRUNC);
		size_t done = 0;

		MUST(r, fd >= 0);
		content_fill(buf, SMALL, (uint64_t)i, 0);
		while (done < SMALL) {
			ssize_t n = write(fd, buf + done, SMALL - done);

			MUST(r, n > 0);
			done += (size_t)n;
		}
		close_must(r, fd);
		MUST(r, rename(tmp.s, to.s) == 0);
	}
	free(buf);
}

static void l2_verify(struct replay *r)
{
	char *buf = buffer(r, SMALL);

	MUST(r, scan_dir(r, r->dir, ".data", SMALL) == 3); /* recover_on_start */
	for (int i = 0; i < 3; i++) {
		int fd = open_must(r, path_of(r, "m-SEP-x@0x0@0@%x.data", i).s, O_RDONLY);
		size_t done = 64 * KIB; /* read_ahead_size first */

		read_once(r, fd, buf, done);
		while (done < SMALL) {
			ssize_t n = read(fd, buf + done, SMALL - done);

			MUST(r, n > 0);
			done += (size_t)n;
		}
		close_must(r, fd);
		content_check(r, buf, SMALL, (uint64_t)i, 0);
	}
	free(buf);
}

/* ---- GDS, POSIX fallback ---- */

#define GDS_HEAD 4096

static void gds_head(char head[GDS_HEAD])
{
	uint64_t len = GDS_HEAD - 8;
	char json[300];
	int n = snprintf(json, sizeof(json),
			 "{\"kvcache\": {\"dtype\": \"BF16\", \"shape\": [2, 32, 256, 1024], "
			 "\"data_offsets\": [0, %u], \"fmt\": 1, "
			 "\"__metadata__\": {\"lmcache_version\": \"1\"}}}",
			 CHUNK);

	memset(head, ' ', GDS_HEAD);
	memcpy(head, &len, 8);
	memcpy(head + 8, json, (size_t)n);
}

static struct path gds_path(const struct replay *r, const char *suffix)
{
	return path_of(r, "ab/cd/vllm@m-8b@1@0@abcd0123.kvcache.safetensors%s", suffix);
}

static void gds_write(struct replay *r)
{
	struct path to = gds_path(r, ""), tmp = gds_path(r, ".TMP1"),
		    meta = gds_path(r, ".metadata"), meta_tmp = gds_path(r, ".metadata.TMP1");
	char head[GDS_HEAD], *map;
	int fd;

	gds_head(head);
	mkdirs(r, to.s);
	fd = open_must(r, tmp.s, O_WRONLY | O_CREAT | O_TRUNC);
	write_once(r, fd, head, GDS_HEAD);
	close_must(r, fd);
	fd = open_must(r, tmp.s, O_RDWR | O_CREAT);
	MUST(r, ftruncate(fd, GDS_HEAD + CHUNK) == 0);
	map = mmap(NULL, GDS_HEAD + CHUNK, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	MUST(r, map != MAP_FAILED);
	for (size_t i = 0; i < CHUNK; i += MIB / 2) /* the hole reads as zeros */
		MUST(r, !map[GDS_HEAD + i]);
	content_fill(map + GDS_HEAD, CHUNK, 5, 0);
	MUST(r, munmap(map, GDS_HEAD + CHUNK) == 0);
	close_must(r, fd);
	MUST(r, rename(tmp.s, to.s) == 0);
	fd = open_must(r, meta_tmp.s, O_WRONLY | O_CREAT | O_TRUNC);
	write_once(r, fd, head, GDS_HEAD);
	close_must(r, fd);
	MUST(r, rename(meta_tmp.s, meta.s) == 0);
}

static void gds_verify(struct replay *r)
{
	char head[GDS_HEAD], want[GDS_HEAD], *map;
	struct stat st;
	int fd;

	gds_head(want);
	MUST(r, scan_dir(r, path_of(r, "ab/cd").s, ".metadata", GDS_HEAD) == 1);
	fd = open(gds_path(r, ".metadata").s, O_RDONLY | O_NOATIME | O_CLOEXEC);
	if (fd < 0 && errno == EPERM)
		fd = open_must(r, gds_path(r, ".metadata").s, O_RDONLY);
	MUST(r, fd >= 0);
	read_once(r, fd, head, GDS_HEAD);
	MUST(r, !memcmp(head, want, GDS_HEAD));
	close_must(r, fd);
	fd = open_must(r, gds_path(r, "").s, O_RDONLY);
	MUST(r, fstat(fd, &st) == 0 && st.st_size == GDS_HEAD + CHUNK);
	map = mmap(NULL, GDS_HEAD + CHUNK, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
	MUST(r, map != MAP_FAILED);
	MUST(r, !memcmp(map, want, GDS_HEAD));
	content_check(r, map + GDS_HEAD, CHUNK, 5, 0);
	MUST(r, munmap(map, GDS_HEAD + CHUNK) == 0);
	close_must(r, fd);
}

const struct client_case lmcache_cases[] = {
	{ "lmcache-fs", "fs connector: 28 bytes and the rest, replace", fs_write, fs_verify },
	{ "lmcache-disk", "local_disk: in place, O_DIRECT without O_TRUNC", disk_write,
	  disk_verify },
	{ "lmcache-l2", "fs L2 adapter: write loop, rename, small first read", l2_write,
	  l2_verify },
	{ "lmcache-gds", "GDS fallback: ftruncate, shared mapping; populated mapping", gds_write,
	  gds_verify },
	{ 0 },
};
