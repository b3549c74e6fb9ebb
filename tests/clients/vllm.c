/* SPDX-License-Identifier: MIT */
/*
 * vLLM's fs tier (v1/kv_offload/tiering/fs): 16 threads that store and 16 that
 * load, with and without its checksum, its O_DIRECT probe; and a shared region as
 * its first tier maps one.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "replay.h"

#define BLOCK (2 * MIB) /* 16 tokens of an 8B model, a multiple of 4096 */
#define BLOCKS 16       /* one for each thread */
#define CRC_BLOCKS 6
#define CRC_XATTR "user.vllm.kv_crc32c"

static const char config[] =
	"{\"model_name\": \"m\", \"tokens_per_hash\": 16, \"dtype\": \"bfloat16\", "
	"\"tp_size\": 1, \"kv_cache_groups\": [{\"tokens_per_block\": 16}]}";

static struct path block_path(const struct replay *r, int i)
{
	return path_of(r, "m_0123456789ab_r0/%03x/%02x_g0/%016x%016x.bin", i / 4 * 37, i / 2,
		       i * 7919, i);
}

void vllm_config(const struct replay *r)
{
	struct path p = path_of(r, "m_0123456789ab/config.json");
	int fd;

	mkdirs(r, p.s);
	fd = open_must(r, p.s, O_WRONLY | O_CREAT | O_TRUNC);
	write_once(r, fd, config, strlen(config));
	close_must(r, fd);
}

/* The zero padding at a row's end is part of the file. */
static void block_fill(void *buf, uint64_t seed)
{
	content_fill(buf, BLOCK - 4096, seed, 0);
	memset((char *)buf + BLOCK - 4096, 0, 4096);
}

static void store(const struct replay *r, int i, uint64_t seed, bool crc)
{
	struct path dest = block_path(r, i), tmp;
	void *buf = buffer(r, BLOCK);
	char sum[16];
	int fd;

	mkdirs(r, dest.s);
	snprintf(tmp.s, sizeof(tmp.s), "%.*s_%08x.tmp", PATH_MAX - 20, dest.s, i * 12345);
	fd = open_direct(r, tmp.s, O_CREAT | O_EXCL | O_WRONLY | O_TRUNC);
	MUST(r, fd >= 0);
	block_fill(buf, seed);
	write_once(r, fd, buf, BLOCK);
	if (crc) {
		snprintf(sum, sizeof(sum), "%08x", crc32c(buf, BLOCK));
		MUST(r, fsetxattr(fd, CRC_XATTR, sum, 8, 0) == 0);
	}
	close_must(r, fd);
	MUST(r, rename(tmp.s, dest.s) == 0);
	free(buf);
}

static int load_open(const struct replay *r, int i)
{
	int fd = open_direct(r, block_path(r, i).s, O_RDONLY);

	MUST(r, fd >= 0);
	return fd;
}

static void load(const struct replay *r, int fd, uint64_t seed, bool crc)
{
	char *buf = buffer(r, BLOCK), *want = buffer(r, BLOCK), sum[16], got[16];
	struct iovec iov = { buf, BLOCK };

	MUST(r, readv(fd, &iov, 1) == (ssize_t)BLOCK);
	if (crc) {
		MUST(r, fgetxattr(fd, CRC_XATTR, got, sizeof(got)) == 8);
		snprintf(sum, sizeof(sum), "%08x", crc32c(buf, BLOCK));
		MUST(r, !memcmp(sum, got, 8));
	}
	close_must(r, fd);
	block_fill(want, seed);
	MUST(r, !memcmp(buf, want, BLOCK));
	free(buf);
	free(want);
}

struct block_job {
	const struct replay *r;
	int i;
};

static void *store_job(void *arg)
{
	const struct block_job *j = arg;

	MUST(j->r, access(block_path(j->r, j->i).s, F_OK) < 0 && errno == ENOENT);
	store(j->r, j->i, (uint64_t)j->i, false);
	return NULL;
}

static void *load_job(void *arg)
{
	const struct block_job *j = arg;

	MUST(j->r, access(block_path(j->r, j->i).s, F_OK) == 0);
	load(j->r, load_open(j->r, j->i), (uint64_t)j->i, false);
	return NULL;
}

static void all_blocks(const struct replay *r, void *(*job)(void *))
{
	struct block_job jobs[BLOCKS];
	pthread_t threads[BLOCKS];

	for (int i = 0; i < BLOCKS; i++) {
		jobs[i] = (struct block_job){ r, i };
		MUST(r, !pthread_create(&threads[i], NULL, job, &jobs[i]));
	}
	for (int i = 0; i < BLOCKS; i++)
		MUST(r, !pthread_join(threads[i], NULL));
}

static void vllm_write(struct replay *r)
{
	vllm_config(r);
	all_blocks(r, store_job);
}

static void vllm_verify(struct replay *r)
{
	all_blocks(r, load_job);
	MUST(r, access(block_path(r, BLOCKS).s, F_OK) < 0 && errno == ENOENT);
}

/* Block 0 is stored by two instances, the second while a third reads it. */
static void crc_write(struct replay *r)
{
	int fd;

	vllm_config(r);
	store(r, 0, 100, true);
	fd = load_open(r, 0);
	for (int i = 0; i < CRC_BLOCKS; i++)
		store(r, i, (uint64_t)i, true);
	load(r, fd, 100, true);
}

static void crc_verify(struct replay *r)
{
	for (int i = 0; i < CRC_BLOCKS; i++)
		load(r, load_open(r, i), (uint64_t)i, true);
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

static void dir_verify(struct replay *r)
{
	struct stat st;

	MUST(r, stat(r->dir, &st) == 0 && S_ISDIR(st.st_mode));
}

/* ---- a region as the CPU tier maps it in /dev/shm, here on the mount ---- */

#define REGION (16 * MIB)
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

static void region_write(struct replay *r)
{
	struct path p = path_of(r, "vllm_offload_region");
	int fd = open_must(r, p.s, O_RDWR | O_CREAT | O_EXCL);
	char *a, *b;

	MUST(r, ftruncate(fd, REGION) == 0);
	a = mmap(NULL, REGION, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	MUST(r, a != MAP_FAILED);
	close_must(r, fd);
	MUST(r, madvise(a, REGION, MADV_POPULATE_WRITE) == 0 || errno == EINVAL);
	fd = open_must(r, p.s, O_RDWR); /* another worker */
	b = mmap(NULL, REGION, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	MUST(r, b != MAP_FAILED);
	close_must(r, fd);
	for (size_t i = 0; i < REGION; i += 4096)
		MUST(r, !b[i]);
	content_fill(a, REGION, 1, 0);
	content_check(r, b, REGION, 1, 0);
	MUST(r, unlink(p.s) == 0);
	content_fill(b + 8 * MIB, 1 * MIB, 2, 0);
	content_check(r, a + 8 * MIB, 1 * MIB, 2, 0);
	content_check(r, a, 8 * MIB, 1, 0);
	MUST(r, munmap(a, REGION) == 0 && munmap(b, REGION) == 0);
}

const struct client_case vllm_cases[] = {
	{ "vllm-fs", "fs tier: threads, O_DIRECT, one write, rename; one readv", vllm_write,
	  vllm_verify },
	{ "vllm-fs-crc", "fs tier with its checksum in an xattr", crc_write, crc_verify },
	{ "vllm-probe", "fs tier's probe for O_DIRECT and xattrs", probe_write, dir_verify },
	{ "vllm-region", "shared mappings of one file, populated, unlinked in use", region_write,
	  dir_verify },
	{ 0 },
};
