/* SPDX-License-Identifier: MIT */
/*
 * Mooncake Store: buckets (one pwritev each, read by preadv and by O_DIRECT with
 * io_uring), its offset allocator (one preallocated file of records), and one file
 * per key.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "replay.h"

#define BUCKET_KEYS 24
#define VALUE (640 * KIB)
#define OFFSET_LEN (32 * MIB)

static void bucket_put(const struct replay *r, int id)
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
	fd = open_must(r, path_of(r, "%d.bucket", id).s, O_WRONLY | O_CREAT | O_TRUNC);
	MUST(r, pwritev(fd, iov, BUCKET_KEYS, 0) == (ssize_t)BUCKET_KEYS * VALUE);
	MUST(r, fdatasync(fd) == 0);
	close_must(r, fd);
	fd = open_must(r, path_of(r, "%d.meta", id).s, O_WRONLY | O_CREAT | O_TRUNC);
	write_once(r, fd, meta, (size_t)n);
	close_must(r, fd);
	for (int i = 0; i < BUCKET_KEYS; i++)
		free(iov[i].iov_base);
}

/* Bucket 18 is evicted: its meta, then its data once no reader is left; 19 has lost
 * its meta in a crash and goes when the store is opened. */
static void bucket_write(struct replay *r)
{
	int fd;

	bucket_put(r, 17);
	bucket_put(r, 18);
	MUST(r, unlink(path_of(r, "18.meta").s) == 0 && unlink(path_of(r, "18.bucket").s) == 0);
	fd = open_must(r, path_of(r, "19.bucket").s, O_WRONLY | O_CREAT | O_TRUNC);
	MUST(r, pwrite(fd, "half", 4, 0) == 4);
	close_must(r, fd);
	MUST(r, unlink(path_of(r, "19.bucket").s) == 0);
}

/* Keys in any order by preadv, and the sum of st_blocks that bounds the store. */
static void bucket_preadv(const struct replay *r)
{
	int fd = open_must(r, path_of(r, "17.bucket").s, O_RDONLY);
	char *a = buffer(r, VALUE / 2), *b = buffer(r, VALUE / 2);
	struct iovec iov[2] = { { a, VALUE / 2 }, { b, VALUE / 2 } };
	struct stat st;

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

static void bucket_verify(struct replay *r)
{
	int fd = open_direct(r, path_of(r, "17.bucket").s, O_RDONLY);
	char *all = buffer(r, BUCKET_KEYS * VALUE);

	MUST(r, fd >= 0 && scan_dir(r, r->dir, ".bucket", BUCKET_KEYS * VALUE) == 1);
	bucket_preadv(r);
	/* O_DIRECT, many in flight, in parts that end in the middle of values */
	ring_read(r, fd, all, BUCKET_KEYS * VALUE, 260 * KIB);
	for (int i = 0; i < BUCKET_KEYS; i++)
		content_check(r, all + (size_t)i * VALUE, VALUE, (uint64_t)i, 0);
	close_must(r, fd);
	free(all);
}

/* The allocator's state, replaced whole each time. */
static void offset_meta(const struct replay *r, uint64_t version)
{
	uint64_t meta[64] = { version, 32, OFFSET_LEN };
	int fd = open_must(r, path_of(r, "kv_cache.meta.tmp").s, O_WRONLY | O_CREAT | O_TRUNC);

	write_once(r, fd, meta, sizeof(meta));
	MUST(r, fsync(fd) == 0);
	close_must(r, fd);
	MUST(r, rename(path_of(r, "kv_cache.meta.tmp").s, path_of(r, "kv_cache.meta").s) == 0);
	sync_dir(r, r->dir);
}

/* Offset allocator: a preallocated file of records whose values lie at 4 KiB. */
static void offset_write(struct replay *r)
{
	int fd = open_must(r, path_of(r, "kv_cache.data").s, O_RDWR | O_CREAT);
	char *buf = buffer(r, 4096 + VALUE);
	uint32_t head[6];

	preallocate(r, fd, OFFSET_LEN, false);
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
	offset_meta(r, 1);
	offset_meta(r, 2);
	free(buf);
}

static void offset_verify(struct replay *r)
{
	int mfd = open_must(r, path_of(r, "kv_cache.meta").s, O_RDONLY);
	uint64_t meta[64];
	int fd = open_must(r, path_of(r, "kv_cache.data").s, O_RDWR | O_CREAT);
	char *buf = buffer(r, 4096 + VALUE);
	uint32_t head[6];

	read_once(r, mfd, meta, sizeof(meta));
	MUST(r, meta[0] == 2 && meta[2] == OFFSET_LEN);
	close_must(r, mfd);
	for (uint32_t at = 0; at < OFFSET_LEN; at += MIB) {
		MUST(r, pread(fd, buf, 4096 + VALUE, at) == 4096 + VALUE);
		memcpy(head, buf, sizeof(head));
		MUST(r, head[0] == 4 && head[1] == VALUE && head[2] * 5 % 32 == at / MIB);
		MUST(r, head[5] == crc32c(buf + 4096, VALUE));
		content_check(r, buf + 4096, VALUE, head[2], 0);
	}
	close_must(r, fd);
	free(buf);
}

/* ---- one file per key ---- */

#define KEYS 24
#define KEY_LEN (192 * KIB)
#define KEY_PIECE (50 * KIB)

static struct path key_path(const struct replay *r, int i)
{
	return path_of(r, "%02x/%02x/key-%d", i * 37 % 7, i * 53 % 5, i);
}

/* Written in a loop; the oldest are removed, first in, first out. */
static void keys_write(struct replay *r)
{
	char *buf = buffer(r, KEY_LEN);

	for (int i = 0; i < KEYS; i++) {
		struct path p = key_path(r, i);
		int fd;

		mkdirs(r, p.s);
		fd = open_must(r, p.s, O_WRONLY | O_CREAT | O_TRUNC);
		content_fill(buf, KEY_LEN, (uint64_t)i, 0);
		for (size_t at = 0; at < KEY_LEN;) {
			size_t n = KEY_LEN - at < KEY_PIECE ? KEY_LEN - at : KEY_PIECE;

			write_once(r, fd, buf + at, n);
			at += n;
		}
		close_must(r, fd);
		if (i >= KEYS / 2)
			MUST(r, unlink(key_path(r, i - KEYS / 2).s) == 0);
	}
	free(buf);
}

static void keys_verify(struct replay *r)
{
	char *buf = buffer(r, KEY_LEN);

	for (int i = 0; i < KEYS; i++) {
		int fd = open(key_path(r, i).s, O_RDONLY | O_CLOEXEC);

		MUST(r, i < KEYS / 2 ? fd < 0 && errno == ENOENT : fd >= 0);
		if (fd < 0)
			continue;
		read_once(r, fd, buf, KEY_LEN);
		close_must(r, fd);
		content_check(r, buf, KEY_LEN, (uint64_t)i, 0);
	}
	free(buf);
}

const struct client_case mooncake_cases[] = {
	{ "mooncake-bucket", "one pwritev, fdatasync; preadv, io_uring, st_blocks", bucket_write,
	  bucket_verify },
	{ "mooncake-offset", "preallocated file of records with CRC-32C, meta replaced",
	  offset_write, offset_verify },
	{ "mooncake-keys", "a file per key in two levels of directories, first out", keys_write,
	  keys_verify },
	{ 0 },
};
