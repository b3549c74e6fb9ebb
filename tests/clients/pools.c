/* SPDX-License-Identifier: MIT */
/*
 * Files that are written for ever: Mooncake's buckets and offset allocator,
 * Dynamo's unlinked pool, TensorRT-LLM's blocks (V1) and unnamed pool (V2), hf3fs'
 * one file per rank. Rewrites are at 4 KiB multiples in any order; what each
 * slot holds is kept as a seed and checked throughout.
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

/* fallocate, or what the clients do instead where there is none. */
static void pool_reserve(const struct replay *r, int fd, bool zero_fill)
{
	char *zeros;

	if (fallocate(fd, 0, 0, (off_t)SLOTS * SLOT) == 0)
		return;
	MUST(r, errno == EOPNOTSUPP);
	if (!zero_fill) {
		MUST(r, ftruncate(fd, (off_t)SLOTS * SLOT) == 0);
		return;
	}
	zeros = buffer(r, 16 * MIB);
	memset(zeros, 0, 16 * MIB);
	for (size_t off = 0; off < (size_t)SLOTS * SLOT; off += 16 * MIB)
		MUST(r, pwrite(fd, zeros, 16 * MIB, (off_t)off) == 16 * MIB);
	free(zeros);
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
	pool_reserve(r, pool.fd, true);
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

/* ---- Mooncake ---- */

#define BUCKET_KEYS 24
#define VALUE (640 * KIB)

static void bucket_write(struct replay *r)
{
	struct iovec iov[BUCKET_KEYS];
	char meta[2000];
	int fd, n = 0;

	for (int i = 0; i < BUCKET_KEYS; i++) {
		iov[i] = (struct iovec){ buffer(r, VALUE), VALUE };
		content_fill(iov[i].iov_base, VALUE, (uint64_t)i, 0);
		n += snprintf(meta + n, sizeof(meta) - (size_t)n, "key%d %u %u\n", i, i * VALUE,
			      VALUE);
	}
	fd = open_must(r, path_of(r, "17.bucket").s, O_WRONLY | O_CREAT | O_TRUNC);
	MUST(r, pwritev(fd, iov, BUCKET_KEYS, 0) == (ssize_t)BUCKET_KEYS * VALUE);
	MUST(r, fdatasync(fd) == 0);
	close_must(r, fd);
	fd = open_must(r, path_of(r, "17.meta.tmp").s, O_WRONLY | O_CREAT | O_TRUNC);
	write_once(r, fd, meta, (size_t)n);
	MUST(r, fsync(fd) == 0);
	close_must(r, fd);
	MUST(r, rename(path_of(r, "17.meta.tmp").s, path_of(r, "17.meta").s) == 0);
	sync_dir(r, r->dir);
	for (int i = 0; i < BUCKET_KEYS; i++)
		free(iov[i].iov_base);
}

/* Keys in any order by preadv, and the sum of st_blocks that bounds the store. */
static void bucket_verify(struct replay *r)
{
	int fd = open_direct(r, path_of(r, "17.bucket").s, O_RDONLY);
	char *a = buffer(r, VALUE / 2), *b = buffer(r, VALUE / 2);
	struct iovec iov[2] = { { a, VALUE / 2 }, { b, VALUE / 2 } };
	struct stat st;

	MUST(r, fd >= 0);
	for (int i = 0; i < BUCKET_KEYS; i++) {
		int key = i * 7 % BUCKET_KEYS;

		MUST(r, preadv(fd, iov, 2, (off_t)key * VALUE) == (ssize_t)VALUE);
		content_check(r, a, VALUE / 2, (uint64_t)key, 0);
		content_check(r, b, VALUE / 2, (uint64_t)key, VALUE / 2);
	}
	MUST(r, fstat(fd, &st) == 0 && st.st_size == BUCKET_KEYS * VALUE);
	MUST(r, st.st_blocks > 0 && st.st_blocks * 512 < st.st_size + (off_t)MIB);
	close_must(r, fd);
	MUST(r, stat(path_of(r, "17.meta").s, &st) == 0 && st.st_size > 100);
	free(a);
	free(b);
}

/* Offset allocator: a preallocated file of records whose values lie at 4 KiB. */
static void offset_write(struct replay *r)
{
	int fd = open_must(r, path_of(r, "kv_cache.data").s, O_RDWR | O_CREAT);
	char *buf = buffer(r, 4096 + VALUE);
	uint32_t head[6];

	pool_reserve(r, fd, false);
	for (int i = 0; i < 32; i++) {
		uint32_t at = (uint32_t)(i * 5 % 32) * MIB, crc;

		content_fill(buf + 4096, VALUE, (uint64_t)i, 0);
		crc = crc32c(buf + 4096, VALUE);
		memcpy(head, (uint32_t[]){ 4, VALUE, (uint32_t)i, 0, 1, crc }, sizeof(head));
		memset(buf, 0, 4096);
		memcpy(buf, head, sizeof(head));
		MUST(r, pwrite(fd, buf, 4096 + VALUE, at) == 4096 + VALUE);
		if (i % 8 == 7)
			MUST(r, fdatasync(fd) == 0);
	}
	close_must(r, fd);
	free(buf);
}

static void offset_verify(struct replay *r)
{
	int fd = open_must(r, path_of(r, "kv_cache.data").s, O_RDWR | O_CREAT);
	char *buf = buffer(r, 4096 + VALUE);
	uint32_t head[6];

	for (uint32_t at = 0; at < 32 * MIB; at += MIB) {
		MUST(r, pread(fd, buf, 4096 + VALUE, at) == 4096 + VALUE);
		memcpy(head, buf, sizeof(head));
		MUST(r, head[0] == 4 && head[1] == VALUE && head[2] * 5 % 32 == at / MIB);
		MUST(r, head[5] == crc32c(buf + 4096, VALUE));
		content_check(r, buf + 4096, VALUE, head[2], 0);
	}
	close_must(r, fd);
	free(buf);
}

const struct client_case pool_cases[] = {
	{ "mooncake-bucket", "one pwritev, fdatasync, meta by rename; preadv, st_blocks",
	  bucket_write, bucket_verify },
	{ "mooncake-offset", "preallocated file of records with CRC-32C", offset_write,
	  offset_verify },
	{ "dynamo", "pool: O_DIRECT by fcntl, fallocate, unlinked in use", dynamo_write,
	  unlinked_verify },
	{ "trtllm-v1", "blocks rewritten in place without O_TRUNC", trtllm1_write, trtllm1_verify },
	{ "trtllm-v2", "O_TMPFILE or its fallback, resized, unlinked I/O", trtllm2_write,
	  unlinked_verify },
	{ "hf3fs", "one sparse file of slots, fsync on flush", hf3fs_write, hf3fs_verify },
	{ 0 },
};
