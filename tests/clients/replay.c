/* SPDX-License-Identifier: MIT */
/*
 * replay --list
 * replay CASE DIR            writes below DIR/CASE and reads it back
 * replay --verify CASE DIR   only reads back what an earlier run wrote
 */
#include "replay.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct client_case *const tables[] = { vllm_cases,    llmd_cases,   hicache_cases,
						    lmcache_cases, pool_cases,   mooncake_cases,
						    stdio_cases,   tensor_cases, evictor_cases };

void replay_must(const struct replay *r, bool cond, const char *what, const char *file, int line)
{
	if (cond)
		return;
	fprintf(stderr, "%s: %s:%d: not so: %s%s%s\n", r->name, file, line, what, errno ? ": " : "",
		errno ? strerror(errno) : "");
	exit(1);
}

struct path path_of(const struct replay *r, const char *fmt, ...)
{
	struct path p;
	va_list ap;
	int n = snprintf(p.s, sizeof(p.s), "%s/", r->dir);

	va_start(ap, fmt);
	n += vsnprintf(p.s + n, sizeof(p.s) - (size_t)n, fmt, ap);
	va_end(ap);
	MUST(r, n < (int)sizeof(p.s));
	return p;
}

void *buffer(const struct replay *r, size_t len)
{
	void *p = aligned_alloc(4096, (len + 4095) & ~(size_t)4095);

	MUST(r, p != NULL);
	memset(p, 0xee, len);
	return p;
}

/* ---- content ---- */

static uint64_t mix(uint64_t x)
{
	x ^= x >> 30;
	x *= 0xbf58476d1ce4e5b9ull;
	x ^= x >> 27;
	x *= 0x94d049bb133111ebull;
	return x ^ x >> 31;
}

/* Sum of four uniform numbers, as bf16: exponents like those of real caches. */
static uint16_t value(uint64_t seed, uint64_t i)
{
	uint64_t x = mix(seed * 0x9e3779b97f4a7c15ull + i);
	float f = (float)((int)(x & 0xffff) + (int)(x >> 16 & 0xffff) - (int)(x >> 32 & 0xffff) -
			  (int)(x >> 48)) /
		  20000.f;
	uint32_t u;

	memcpy(&u, &f, 4);
	return (uint16_t)(u >> 16);
}

void content_fill(void *buf, size_t len, uint64_t seed, uint64_t off)
{
	uint8_t *p = buf;

	for (size_t i = 0; i < len; i += 2) {
		uint16_t v = value(seed, (off + i) / 2);

		memcpy(p + i, &v, 2);
	}
}

void content_check(const struct replay *r, const void *buf, size_t len, uint64_t seed, uint64_t off)
{
	const uint8_t *p = buf;

	for (size_t i = 0; i < len; i += 2) {
		uint16_t v = value(seed, (off + i) / 2);

		if (!memcmp(p + i, &v, 2))
			continue;
		fprintf(stderr, "%s: content differs at %llu of seed %llu\n", r->name,
			(unsigned long long)(off + i), (unsigned long long)seed);
		exit(1);
	}
}

/* ---- system calls ---- */

int open_must(const struct replay *r, const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC, 0644);

	MUST(r, fd >= 0);
	return fd;
}

int open_direct(const struct replay *r, const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC | O_DIRECT, 0644);

	return fd >= 0 || errno != EINVAL ? fd : open_must(r, path, flags);
}

void write_once(const struct replay *r, int fd, const void *buf, size_t len)
{
	errno = 0;
	MUST(r, write(fd, buf, len) == (ssize_t)len);
}

void read_once(const struct replay *r, int fd, void *buf, size_t len)
{
	errno = 0;
	MUST(r, read(fd, buf, len) == (ssize_t)len);
}

void close_must(const struct replay *r, int fd)
{
	MUST(r, close(fd) == 0);
}

void mkdirs(const struct replay *r, const char *path)
{
	char p[PATH_MAX];
	char *slash = p;

	MUST(r, strlen(path) < sizeof(p));
	strcpy(p, path);
	while ((slash = strchr(slash + 1, '/'))) {
		*slash = '\0';
		MUST(r, mkdir(p, 0755) == 0 || errno == EEXIST);
		*slash = '/';
	}
}

void sync_dir(const struct replay *r, const char *path)
{
	int fd = open_must(r, path, O_RDONLY | O_DIRECTORY);

	MUST(r, fsync(fd) == 0);
	close_must(r, fd);
}

/* Four bits at a time. */
uint32_t crc32c(const void *p, size_t len)
{
	const uint8_t *b = p;
	uint32_t c = ~0u, t[16];

	for (uint32_t i = 0; i < 16; i++) {
		t[i] = i;
		for (int k = 0; k < 4; k++)
			t[i] = t[i] >> 1 ^ (t[i] & 1 ? 0x82f63b78u : 0);
	}
	for (size_t i = 0; i < len; i++) {
		c ^= b[i];
		c = c >> 4 ^ t[c & 15];
		c = c >> 4 ^ t[c & 15];
	}
	return ~c;
}

int scan_dir(const struct replay *r, const char *dir, const char *suffix, off_t size)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	struct stat st;
	int n = 0;

	MUST(r, d != NULL);
	while ((e = readdir(d))) {
		size_t len = strlen(e->d_name);

		if (len < strlen(suffix) || strcmp(e->d_name + len - strlen(suffix), suffix))
			continue;
		MUST(r, e->d_type == DT_REG || e->d_type == DT_UNKNOWN);
		MUST(r, fstatat(dirfd(d), e->d_name, &st, 0) == 0 && S_ISREG(st.st_mode));
		MUST(r, st.st_size == size);
		n++;
	}
	closedir(d);
	return n;
}

void preallocate(const struct replay *r, int fd, off_t len, bool zero_fill)
{
	char *zeros;

	if (fallocate(fd, 0, 0, len) == 0)
		return;
	MUST(r, errno == EOPNOTSUPP);
	if (!zero_fill) {
		MUST(r, ftruncate(fd, len) == 0);
		return;
	}
	zeros = buffer(r, 16 * MIB);
	memset(zeros, 0, 16 * MIB);
	for (off_t off = 0; off < len; off += 16 * MIB)
		MUST(r, pwrite(fd, zeros, 16 * MIB, off) == 16 * MIB);
	free(zeros);
}

/* ---- */

static const struct client_case *find(const char *name)
{
	for (size_t t = 0; t < sizeof(tables) / sizeof(tables[0]); t++)
		for (const struct client_case *c = tables[t]; c->name; c++)
			if (!strcmp(c->name, name))
				return c;
	return NULL;
}

static int list(void)
{
	for (size_t t = 0; t < sizeof(tables) / sizeof(tables[0]); t++)
		for (const struct client_case *c = tables[t]; c->name; c++)
			printf("%-18s %s\n", c->name, c->help);
	return 0;
}

int main(int argc, char **argv)
{
	bool verify = argc > 1 && !strcmp(argv[1], "--verify");
	const struct client_case *c;
	struct replay r;

	if (argc == 2 && !strcmp(argv[1], "--list"))
		return list();
	argv += verify;
	argc -= verify;
	c = argc == 3 ? find(argv[1]) : NULL;
	if (!c || snprintf(r.dir, sizeof(r.dir), "%s/%s", argv[2], c->name) >= (int)sizeof(r.dir)) {
		fprintf(stderr, "usage: replay --list | [--verify] CASE DIR\n");
		return 2;
	}
	r.name = c->name;
	umask(022);
	if (!verify) {
		MUST(&r, mkdir(r.dir, 0755) == 0);
		c->write(&r);
	}
	c->verify(&r);
	return 0;
}
