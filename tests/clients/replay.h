/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_TESTS_REPLAY_H
#define KVCACHEFS_TESTS_REPLAY_H
/*
 * The call sequences of programs that keep KV caches as files, replayed system
 * call by system call with checks of every result and every byte. A case has
 * two halves: write makes its files below its directory, as the client
 * does; verify reads them back as the client does, any number of times later
 * (sealed, after a restart). Whatever differs ends the program with status 1.
 */
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define KIB 1024u
#define MIB 1048576u

struct replay {
	const char *name; /* of the case */
	char dir[PATH_MAX / 2];
};

struct client_case {
	const char *name;
	const char *help;
	void (*write)(struct replay *r);
	void (*verify)(struct replay *r);
};
/* One table per file; each ends with an entry without a name. */
extern const struct client_case vllm_cases[], llmd_cases[], hicache_cases[], lmcache_cases[],
	pool_cases[], mooncake_cases[], stdio_cases[], tensor_cases[], evictor_cases[];

/* Ends the program unless @cond, with errno when it is set. */
#define MUST(r, cond) replay_must((r), (cond), #cond, __FILE__, __LINE__)
void replay_must(const struct replay *r, bool cond, const char *what, const char *file, int line);

struct path {
	char s[PATH_MAX];
};
/* A path below the case's directory. */
struct path path_of(const struct replay *r, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* Page-aligned buffers, ended with free(). */
void *buffer(const struct replay *r, size_t len);

/*
 * Content: bf16 values distributed as keys and values are, a function of seed
 * and position alone, so that any range can be checked at any time. @off and @len even.
 */
void content_fill(void *buf, size_t len, uint64_t seed, uint64_t off);
void content_check(const struct replay *r, const void *buf, size_t len, uint64_t seed,
		   uint64_t off);

/* System calls as the clients make them: one call, which must do the whole. */
int open_must(const struct replay *r, const char *path, int flags);
void write_once(const struct replay *r, int fd, const void *buf, size_t len);
void read_once(const struct replay *r, int fd, void *buf, size_t len);
void close_must(const struct replay *r, int fd);
void mkdirs(const struct replay *r, const char *path); /* the parents of a file */
/* Opens with O_DIRECT, or without where the filesystem refuses it (EINVAL). */
int open_direct(const struct replay *r, const char *path, int flags);
void sync_dir(const struct replay *r, const char *path);
uint32_t crc32c(const void *p, size_t len);
/* Regular files directly in @dir whose names end with @suffix, each by stat @size long. */
int scan_dir(const struct replay *r, const char *dir, const char *suffix, off_t size);
/* fallocate of @len, or what clients do instead: ftruncate, or zeros written. */
void preallocate(const struct replay *r, int fd, off_t len, bool zero_fill);
/* Reads all of @fd in parts, many in flight (io_uring), each of which must be whole. */
void ring_read(const struct replay *r, int fd, char *buf, size_t len, size_t part);
void vllm_config(const struct replay *r); /* the config.json of a tree of blocks */

#endif
