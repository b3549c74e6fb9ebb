/* SPDX-License-Identifier: MIT */
/*
 * vLLM's fs tier (v1/kv_offload/tiering/fs), with and without its checksum, its
 * O_DIRECT probe, the ExampleConnector, and llm-d's fs backend, which renames
 * before it closes and reads tails.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "replay.h"

#define BLOCK (2 * MIB) /* 16 tokens of an 8B model, a multiple of 4096 */
#define BLOCKS 6
#define CRC_XATTR "user.vllm.kv_crc32c"

static const char config[] =
	"{\"model_name\": \"m\", \"tokens_per_hash\": 16, \"dtype\": \"bfloat16\", "
	"\"tp_size\": 1, \"kv_cache_groups\": [{\"tokens_per_block\": 16}]}";

static struct path block_path(const struct replay *r, int i)
{
	return path_of(r, "m_0123456789ab_r0/%03x/%02x_g0/%016x%016x.bin", i * 37, i, i * 7919, i);
}

static void config_write(const struct replay *r)
{
	struct path p = path_of(r, "m_0123456789ab/config.json");
	int fd;

	mkdirs(r, p.s);
	fd = open_must(r, p.s, O_WRONLY | O_CREAT | O_TRUNC);
	write_once(r, fd, config, strlen(config));
	close_must(r, fd);
}

/* The zero padding at a row's end is part of the file. */
static void block_fill(void *buf, int i)
{
	content_fill(buf, BLOCK - 4096, (uint64_t)i, 0);
	memset((char *)buf + BLOCK - 4096, 0, 4096);
}

static void store(const struct replay *r, int i, bool crc)
{
	struct path dest = block_path(r, i), tmp;
	void *buf = buffer(r, BLOCK);
	char sum[16];
	int fd;

	if (access(dest.s, F_OK) == 0)
		MUST(r, !"not there before");
	mkdirs(r, dest.s);
	snprintf(tmp.s, sizeof(tmp.s), "%.*s_%08x.tmp", PATH_MAX - 20, dest.s, i * 12345);
	fd = open_direct(r, tmp.s, O_CREAT | O_EXCL | O_WRONLY | O_TRUNC);
	MUST(r, fd >= 0);
	block_fill(buf, i);
	write_once(r, fd, buf, BLOCK);
	if (crc) {
		snprintf(sum, sizeof(sum), "%08x", crc32c(buf, BLOCK));
		MUST(r, fsetxattr(fd, CRC_XATTR, sum, 8, 0) == 0);
	}
	close_must(r, fd);
	MUST(r, rename(tmp.s, dest.s) == 0);
	free(buf);
}

static void load(const struct replay *r, int i, bool crc)
{
	char *buf = buffer(r, BLOCK), *want = buffer(r, BLOCK), sum[16], got[16];
	int fd = open_direct(r, block_path(r, i).s, O_RDONLY);
	struct iovec iov = { buf, BLOCK };

	MUST(r, fd >= 0);
	MUST(r, readv(fd, &iov, 1) == (ssize_t)BLOCK);
	if (crc) {
		MUST(r, fgetxattr(fd, CRC_XATTR, got, sizeof(got)) == 8);
		snprintf(sum, sizeof(sum), "%08x", crc32c(buf, BLOCK));
		MUST(r, !memcmp(sum, got, 8));
	}
	close_must(r, fd);
	block_fill(want, i);
	MUST(r, !memcmp(buf, want, BLOCK));
	free(buf);
	free(want);
}

static void vllm_write(struct replay *r)
{
	config_write(r);
	for (int i = 0; i < BLOCKS; i++)
		store(r, i, false);
}

static void vllm_verify(struct replay *r)
{
	for (int i = 0; i < BLOCKS; i++) {
		MUST(r, access(block_path(r, i).s, F_OK) == 0);
		load(r, i, false);
	}
	MUST(r, access(block_path(r, BLOCKS).s, F_OK) < 0 && errno == ENOENT);
}

static void crc_write(struct replay *r)
{
	config_write(r);
	for (int i = 0; i < BLOCKS; i++)
		store(r, i, true);
}

static void crc_verify(struct replay *r)
{
	for (int i = 0; i < BLOCKS; i++)
		load(r, i, true);
}

/* One 4 KiB O_DIRECT write decides whether O_DIRECT is used at all. */
static void probe_write(struct replay *r)
{
	struct path p = path_of(r, ".o_direct_probe_1234.tmp");
	char *buf = buffer(r, 4096);
	int fd = open_direct(r, p.s, O_CREAT | O_EXCL | O_WRONLY);

	MUST(r, fd >= 0);
	write_once(r, fd, buf, 4096);
	MUST(r, fsetxattr(fd, "user.vllm.probe", "1", 1, 0) == 0);
	MUST(r, fremovexattr(fd, "user.vllm.probe") == 0);
	MUST(r, fgetxattr(fd, "user.vllm.probe", buf, 1) < 0 && errno == ENODATA);
	close_must(r, fd);
	MUST(r, unlink(p.s) == 0);
	MUST(r, access(p.s, F_OK) < 0 && errno == ENOENT);
	free(buf);
}

static void probe_verify(struct replay *r)
{
	struct stat st;

	MUST(r, stat(r->dir, &st) == 0 && S_ISDIR(st.st_mode));
}

/* ---- llm-d ---- */

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

	config_write(r);
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
		MUST(r, utimensat(AT_FDCWD, dest.s, touch, 0) == 0); /* stored again */
		MUST(r, stat(dest.s, &b) == 0);
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

const struct client_case vllm_cases[] = {
	{ "vllm-fs", "fs tier: O_DIRECT, one write, rename; one readv", vllm_write, vllm_verify },
	{ "vllm-fs-crc", "fs tier with its checksum in an xattr", crc_write, crc_verify },
	{ "vllm-probe", "fs tier's probe for O_DIRECT and xattrs", probe_write, probe_verify },
	{ "llm-d", "rename before close, tail reads, atime touched", llmd_write, llmd_verify },
	{ 0 },
};
