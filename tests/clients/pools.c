/* SPDX-License-Identifier: MIT */
/*
 * Files that are written for ever: Dynamo's unlinked pool, TensorRT-LLM's blocks
 * (V1) and unnamed pool (V2), hf3fs' one file per rank, vLLM's disk tier. Rewrites
 * are at 4 KiB multiples in any order; what each slot holds is kept as a seed and
 * checked throughout.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "replay.h"

/* ---- a pool of slots ---- */

#define SLOT (256 * KIB)
#define SLOTS 128
#define ROUNDS 200

struct pool {
	int fd;
	uint32_t seed[SLOTS]; /* 0: never written, zeros */
	char *buf;
};

static uint32_t step(uint32_t *s)
{
	*s = *s * 1664525u + 1013904223u;
	return *s >> 8;
}

/* The slot's 4 KiB blocks [from, from + n), written or checked. */
static void pool_io(const struct replay *r, struct pool *p, unsigned slot, unsigned from,
		    unsigned n, bool put)
{
	size_t len = n * 4096u, off = from * 4096u;
	off_t at = (off_t)slot * SLOT + (off_t)off;

	errno = 0;
	if (put) {
		content_fill(p->buf, len, p->seed[slot], off);
		MUST(r, pwrite(p->fd, p->buf, len, at) == (ssize_t)len);
		return;
	}
	MUST(r, pread(p->fd, p->buf, len, at) == (ssize_t)len);
	if (p->seed[slot])
		content_check(r, p->buf, len, p->seed[slot], off);
	for (size_t i = 0; !p->seed[slot] && i < len; i++)
		MUST(r, !p->buf[i]);
}

static void pool_rounds(const struct replay *r, struct pool *p, uint32_t seed)
{
	for (unsigned i = 0; i < ROUNDS; i++) {
		unsigned slot = step(&seed) % SLOTS, from = step(&seed) % 32;

		if (step(&seed) & 1) {
			p->seed[slot] = step(&seed) | 1;
			pool_io(r, p, slot, 0, 64, true); /* a slot is written whole */
		} else {
			pool_io(r, p, slot, from, 1 + step(&seed) % 32, false);
		}
	}
	for (unsigned slot = 0; slot < SLOTS; slot++)
		pool_io(r, p, slot, 0, 64, false);
}

static void expect_empty(const struct replay *r)
{
	DIR *d = opendir(r->dir);
	struct dirent *e;

	MUST(r, d != NULL);
	while ((e = readdir(d)))
		MUST(r, !strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."));
	closedir(d);
}

/* Dynamo KVBM G3: O_DIRECT by fcntl after mkostemp; unlinked while in use. */
static void dynamo_write(struct replay *r)
{
	struct path p = path_of(r, "dynamo-kvbm-disk-cache-XXXXXX");
	struct pool pool = { .buf = buffer(r, SLOT) };
	struct stat st;
	int flags;

	pool.fd = mkostemp(p.s, O_CLOEXEC);
	MUST(r, pool.fd >= 0);
	flags = fcntl(pool.fd, F_GETFL);
	MUST(r, flags >= 0);
	MUST(r, fcntl(pool.fd, F_SETFL, flags | O_DIRECT) == 0 || errno == EINVAL);
	preallocate(r, pool.fd, (off_t)SLOTS * SLOT, true);
	pool_rounds(r, &pool, 1);
	MUST(r, unlink(p.s) == 0);
	expect_empty(r);
	pool_rounds(r, &pool, 2);
	MUST(r, fstat(pool.fd, &st) == 0 && st.st_nlink == 0 && st.st_size == SLOTS * SLOT);
	close_must(r, pool.fd);
	free(pool.buf);
}

static void unlinked_verify(struct replay *r)
{
	expect_empty(r);
}

/* TensorRT-LLM V2: unnamed file, or mkstemp and unlink; resized as it goes. */
static void trtllm2_write(struct replay *r)
{
	struct path p = path_of(r, "pool-XXXXXX");
	struct pool pool = { .buf = buffer(r, SLOT) };

	pool.fd = open(r->dir, O_TMPFILE | O_RDWR | O_EXCL | O_CLOEXEC, 0600);
	if (pool.fd < 0) {
		MUST(r, errno == EOPNOTSUPP || errno == EISDIR);
		pool.fd = mkstemp(p.s);
		MUST(r, pool.fd >= 0 && unlink(p.s) == 0);
	}
	expect_empty(r);
	MUST(r, ftruncate(pool.fd, 2 * MIB) == 0);
	MUST(r, ftruncate(pool.fd, (off_t)SLOTS * SLOT) == 0);
	pool_rounds(r, &pool, 3);
	MUST(r, ftruncate(pool.fd, 2 * MIB) == 0);
	for (unsigned slot = 2 * MIB / SLOT; slot < SLOTS; slot++)
		pool.seed[slot] = 0; /* cut off and zeros when it grows again */
	MUST(r, ftruncate(pool.fd, (off_t)SLOTS * SLOT) == 0);
	pool_rounds(r, &pool, 4);
	close_must(r, pool.fd);
	free(pool.buf);
}

/* TensorRT-LLM V1: a file per block, O_WRONLY|O_CREAT without O_TRUNC. */
static void trtllm1_write(struct replay *r)
{
	char *buf = buffer(r, 2 * MIB);

	for (uint64_t round = 0; round < 2; round++) {
		for (int i = 0; i < 4; i++) {
			int fd = open_must(r, path_of(r, "block_%d_pool_0.bin", i).s,
					   O_CREAT | O_WRONLY);

			content_fill(buf, 2 * MIB, round * 100 + (uint64_t)i, 0);
			write_once(r, fd, buf, 2 * MIB);
			close_must(r, fd);
		}
	}
	free(buf);
}

/* Each look is followed by a rewrite in place of one of the blocks. */
static void trtllm1_verify(struct replay *r)
{
	char *buf = buffer(r, 2 * MIB);

	for (int i = 0; i < 4; i++) {
		int fd = open_must(r, path_of(r, "block_%d_pool_0.bin", i).s, O_RDONLY);

		read_once(r, fd, buf, 2 * MIB);
		close_must(r, fd);
		content_check(r, buf, 2 * MIB, 100 + (uint64_t)i, 0);
	}
	content_fill(buf, 2 * MIB, 100 + 3, 0);
	int fd = open_must(r, path_of(r, "block_3_pool_0.bin").s, O_CREAT | O_WRONLY);

	write_once(r, fd, buf, 2 * MIB);
	close_must(r, fd);
	free(buf);
}

/* hf3fs: one file of fixed size per rank, fsync on flush; survives restarts. */
static void hf3fs_write(struct replay *r)
{
	struct pool pool = { .buf = buffer(r, SLOT) };

	pool.fd = open_must(r, path_of(r, "hicache.0.bin").s, O_RDWR | O_CREAT);
	MUST(r, ftruncate(pool.fd, (off_t)SLOTS * SLOT) == 0);
	for (unsigned slot = 0; slot < SLOTS; slot += 3) {
		pool.seed[slot] = 5000 + slot;
		pool_io(r, &pool, slot, 0, 64, true);
	}
	MUST(r, fsync(pool.fd) == 0);
	close_must(r, pool.fd);
	free(pool.buf);
}

/* Reads all, then overwrites some slots with what they hold. */
static void hf3fs_verify(struct replay *r)
{
	struct pool pool = { .buf = buffer(r, SLOT) };

	pool.fd = open_must(r, path_of(r, "hicache.0.bin").s, O_RDWR | O_CREAT);
	for (unsigned slot = 0; slot < SLOTS; slot++) {
		pool.seed[slot] = slot % 3 ? 0 : 5000 + slot;
		pool_io(r, &pool, slot, 0, 64, false);
	}
	for (unsigned slot = 0; slot < SLOTS; slot += 30)
		pool_io(r, &pool, slot, 7, 3, true);
	MUST(r, fsync(pool.fd) == 0);
	for (unsigned slot = 0; slot < SLOTS; slot += 30)
		pool_io(r, &pool, slot, 0, 64, false);
	close_must(r, pool.fd);
	free(pool.buf);
}

/* vLLM's SimpleCPUOffload on disk: preallocated per rank, O_DIRECT, K and V of a slot
 * by one pwritev or preadv; the map of slots is in memory only. */
static void vllm_disk_io(const struct replay *r, int fd, char *kv[2], uint32_t slot, bool put)
{
	struct iovec iov[2] = { { kv[0], SLOT / 2 }, { kv[1], SLOT / 2 } };
	off_t at = (off_t)slot * SLOT;

	for (size_t i = 0; put && i < 2; i++)
		content_fill(kv[i], SLOT / 2, 7000 + slot, i * SLOT / 2);
	MUST(r, (put ? pwritev(fd, iov, 2, at) : preadv(fd, iov, 2, at)) == (ssize_t)SLOT);
	for (size_t i = 0; !put && i < 2; i++)
		content_check(r, kv[i], SLOT / 2, 7000 + slot, i * SLOT / 2);
}

static void vllm_disk(struct replay *r, bool first)
{
	char *kv[2] = { buffer(r, SLOT / 2), buffer(r, SLOT / 2) };
	int fd = open_direct(r, path_of(r, "kv_offload_rank0.bin").s, O_RDWR | O_CREAT);

	MUST(r, fd >= 0);
	if (first)
		preallocate(r, fd, (off_t)SLOTS / 2 * SLOT, false);
	for (uint32_t i = 0; first && i < SLOTS / 2; i++)
		vllm_disk_io(r, fd, kv, i * 5 % (SLOTS / 2), true);
	for (uint32_t i = 0; i < SLOTS / 2; i++) {
		vllm_disk_io(r, fd, kv, i * 7 % (SLOTS / 2), false);
		if (i % 8 == 0)
			vllm_disk_io(r, fd, kv, i, true);
	}
	close_must(r, fd);
	free(kv[0]);
	free(kv[1]);
}

static void vllm_disk_write(struct replay *r)
{
	vllm_disk(r, true);
}

static void vllm_disk_verify(struct replay *r)
{
	vllm_disk(r, false);
}

const struct client_case pool_cases[] = {
	{ "vllm-disk", "preallocated slots, O_DIRECT, pwritev and preadv", vllm_disk_write,
	  vllm_disk_verify },
	{ "dynamo", "pool: O_DIRECT by fcntl, fallocate, unlinked in use", dynamo_write,
	  unlinked_verify },
	{ "trtllm-v1", "blocks rewritten in place without O_TRUNC", trtllm1_write, trtllm1_verify },
	{ "trtllm-v2", "O_TMPFILE or its fallback, resized, unlinked I/O", trtllm2_write,
	  unlinked_verify },
	{ "hf3fs", "one sparse file of slots, fsync on flush", hf3fs_write, hf3fs_verify },
	{ 0 },
};
