/* SPDX-License-Identifier: MIT */
/*
 * Tensor files: oMLX (many small writes, rename, scan of all headers), vLLM's
 * ExampleConnector (one safetensors per layer in place, hit test by directory;
 * read through a shared mapping, as safetensors' safe_open does), NumPy's
 * memmap and shared mappings that are written.
 */
#include <dirent.h>
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

/* Header of a safetensors file of @n tensors of @len bytes each. */
static char *st_header(const struct replay *r, unsigned n, size_t len, const char *names[2],
		       const char *shape, uint64_t *ret_len)
{
	size_t cap = 200 + (size_t)n * 150, at = 8;
	char *h = buffer(r, cap);

	at += (size_t)snprintf(h + at, cap - at, "{\"__metadata__\":{\"version\":\"3\"}");
	for (unsigned i = 0; i < n; i++) {
		at += (size_t)snprintf(h + at, cap - at, ",\"");
		at += (size_t)snprintf(h + at, cap - at, names[i & 1], i / 2);
		at += (size_t)snprintf(h + at, cap - at,
				       "\":{\"dtype\":\"BF16\",\"shape\":[%s],"
				       "\"data_offsets\":[%zu,%zu]}",
				       shape, i * len, (i + 1) * len);
	}
	h[at++] = '}';
	while (at % 8)
		h[at++] = ' ';
	*ret_len = at - 8;
	memcpy(h, ret_len, 8);
	*ret_len = at;
	return h;
}

static const void *map_shared(const struct replay *r, const char *path, size_t len)
{
	int fd = open_must(r, path, O_RDONLY);
	struct stat st;
	void *p;

	MUST(r, fstat(fd, &st) == 0 && st.st_size == (off_t)len);
	p = mmap(NULL, len, PROT_READ, MAP_SHARED, fd, 0);
	MUST(r, p != MAP_FAILED);
	close_must(r, fd);
	return p;
}

/* ---- oMLX ---- */

#define OMLX_LAYERS 16u
#define OMLX_TENSOR (512 * KIB) /* [1, 8, 256, 128] bf16 */
#define OMLX_FILES 2
static const char *const omlx_names[2] = { "layer_%u_state_0", "layer_%u_state_1" };

static char *omlx_header(const struct replay *r, uint64_t *ret_len)
{
	return st_header(r, 2 * OMLX_LAYERS, OMLX_TENSOR, (const char **)omlx_names, "1,8,256,128",
			 ret_len);
}

static struct path omlx_path(const struct replay *r, int i, const char *suffix)
{
	return path_of(r, "%x/%032x%s.safetensors", i, i * 99, suffix);
}

static void omlx_write(struct replay *r)
{
	char *buf = buffer(r, OMLX_TENSOR);
	struct statvfs vfs;
	uint64_t len;
	char *h = omlx_header(r, &len);

	MUST(r, statvfs(r->dir, &vfs) == 0 && vfs.f_bavail > 0);
	for (int i = 0; i < OMLX_FILES; i++) {
		struct path tmp = omlx_path(r, i, "_tmp"), to = omlx_path(r, i, "");
		int fd;

		mkdirs(r, to.s);
		fd = open_must(r, tmp.s, O_WRONLY | O_CREAT | O_TRUNC);
		write_once(r, fd, h, 8);
		write_once(r, fd, h + 8, (size_t)len - 8);
		for (unsigned t = 0; t < 2 * OMLX_LAYERS; t++) {
			content_fill(buf, OMLX_TENSOR, (uint64_t)i * 1000 + t, 0);
			for (size_t off = 0; off < OMLX_TENSOR; off += 8 * KIB)
				write_once(r, fd, buf + off, 8 * KIB);
		}
		close_must(r, fd);
		MUST(r, rename(tmp.s, to.s) == 0);
	}
	free(h);
	free(buf);
}

/* The scan reads each header, a hit the file in pieces. */
static void omlx_verify(struct replay *r)
{
	char *buf = buffer(r, OMLX_TENSOR), *got;
	uint64_t len, n;
	char *h = omlx_header(r, &len);

	got = buffer(r, len);
	for (int i = 0; i < OMLX_FILES; i++) {
		int fd = open_must(r, omlx_path(r, i, "").s, O_RDONLY);

		read_once(r, fd, &n, 8);
		MUST(r, n == len - 8);
		read_once(r, fd, got, (size_t)n);
		MUST(r, !memcmp(got, h + 8, (size_t)n));
		for (unsigned k = 0; k < 2 * OMLX_LAYERS; k++) {
			unsigned t = k * 5 % (2 * OMLX_LAYERS);

			MUST(r, pread(fd, buf, OMLX_TENSOR, (off_t)(len + t * OMLX_TENSOR)) ==
					(ssize_t)OMLX_TENSOR);
			content_check(r, buf, OMLX_TENSOR, (uint64_t)i * 1000 + t, 0);
		}
		close_must(r, fd);
	}
	free(h);
	free(got);
	free(buf);
}

/* ---- ExampleConnector ---- */

#define EX_LAYERS 4
#define EX_TENSOR (4 * MIB)
static const char *const ex_names[2] = { "kv_cache", "kv_cache" };

static void example_write(struct replay *r)
{
	char *buf = buffer(r, EX_TENSOR);
	uint64_t len;
	char *h = st_header(r, 1, EX_TENSOR, (const char **)ex_names, "2,1024,8,128", &len);

	for (int i = 0; i < EX_LAYERS; i++) {
		struct path p =
			path_of(r, "0123abcd/model.layers.%d.self_attn.attn.safetensors", i);
		int fd;

		mkdirs(r, p.s);
		fd = open_must(r, p.s, O_WRONLY | O_CREAT | O_TRUNC);
		content_fill(buf, EX_TENSOR, (uint64_t)i, 0);
		write_once(r, fd, h, (size_t)len);
		write_once(r, fd, buf, EX_TENSOR);
		close_must(r, fd);
	}
	free(h);
	free(buf);
}

/* Mappings of all layers at once, which outlive their descriptors. */
static void example_verify(struct replay *r)
{
	const char *map[EX_LAYERS];
	uint64_t len;
	char *h = st_header(r, 1, EX_TENSOR, (const char **)ex_names, "2,1024,8,128", &len);

	MUST(r, access(path_of(r, "0123abcd").s, F_OK) == 0);
	MUST(r, access(path_of(r, "ffffffff").s, F_OK) < 0 && errno == ENOENT);
	for (int i = 0; i < EX_LAYERS; i++)
		map[i] = map_shared(
			r, path_of(r, "0123abcd/model.layers.%d.self_attn.attn.safetensors", i).s,
			len + EX_TENSOR);
	for (int i = 0; i < EX_LAYERS; i++) {
		MUST(r, !memcmp(map[i], h, (size_t)len));
		content_check(r, map[i] + len, EX_TENSOR, (uint64_t)i, 0);
		MUST(r, munmap((void *)map[i], len + EX_TENSOR) == 0);
	}
	free(h);
}

/* ---- NumPy memmap ---- */

#define NPY_HEAD 128
#define NPY_DATA (16 * MIB)

static void npy_head(char h[NPY_HEAD])
{
	memset(h, ' ', NPY_HEAD);
	memcpy(h, "\x93NUMPY\x01\x00\x76\x00", 10);
	memcpy(h + 10, "{'descr': '<u2', 'fortran_order': False, 'shape': (8388608,), }", 63);
	h[NPY_HEAD - 1] = '\n';
}

/* memmap(mode="w+"): seek and write one byte, shared mapping, flush by msync. */
static void memmap_write(struct replay *r)
{
	int fd = open_must(r, path_of(r, "kv.npy").s, O_RDWR | O_CREAT | O_TRUNC);
	char *map;

	MUST(r, pwrite(fd, "", 1, NPY_HEAD + NPY_DATA - 1) == 1);
	map = mmap(NULL, NPY_HEAD + NPY_DATA, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	MUST(r, map != MAP_FAILED);
	close_must(r, fd);
	npy_head(map);
	content_fill(map + NPY_HEAD, NPY_DATA, 1, 0);
	MUST(r, msync(map, NPY_HEAD + NPY_DATA, MS_SYNC) == 0);
	MUST(r, munmap(map, NPY_HEAD + NPY_DATA) == 0);
}

static char *memmap_rw(const struct replay *r)
{
	int fd = open_must(r, path_of(r, "kv.npy").s, O_RDWR);
	char *rw = mmap(NULL, NPY_HEAD + NPY_DATA, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	MUST(r, rw != MAP_FAILED);
	close_must(r, fd);
	return rw;
}

/* mode="r+" with a few elements rewritten to what they are, then mode="r". */
static void memmap_verify(struct replay *r)
{
	char head[NPY_HEAD], *rw = memmap_rw(r);
	const char *ro;

	npy_head(head);
	for (size_t at = 5 * MIB; at < 5 * MIB + 64 * KIB; at += 4 * KIB) {
		memset(rw + NPY_HEAD + at, 0, 512);
		content_fill(rw + NPY_HEAD + at, 512, 1, at);
	}
	errno = 0;
	MUST(r, msync(rw, NPY_HEAD + NPY_DATA, MS_SYNC) == 0);
	MUST(r, munmap(rw, NPY_HEAD + NPY_DATA) == 0);
	ro = map_shared(r, path_of(r, "kv.npy").s, NPY_HEAD + NPY_DATA);
	MUST(r, !memcmp(ro, head, NPY_HEAD));
	content_check(r, ro + NPY_HEAD, NPY_DATA, 1, 0);
	MUST(r, munmap((void *)ro, NPY_HEAD + NPY_DATA) == 0);
}

/* Both at once, as two processes have them: one page cache. */
static void memmap_both(struct replay *r)
{
	const char *ro = map_shared(r, path_of(r, "kv.npy").s, NPY_HEAD + NPY_DATA);
	char *rw;

	content_check(r, ro + NPY_HEAD, NPY_DATA, 1, 0);
	rw = memmap_rw(r);
	for (size_t at = 5 * MIB; at < 5 * MIB + 64 * KIB; at += 4 * KIB) {
		memset(rw + NPY_HEAD + at, 0, 512);
		MUST(r, ro[NPY_HEAD + at] == 0);
		content_fill(rw + NPY_HEAD + at, 512, 1, at);
	}
	errno = 0;
	MUST(r, msync(rw, NPY_HEAD + NPY_DATA, MS_SYNC) == 0);
	content_check(r, ro + NPY_HEAD, NPY_DATA, 1, 0);
	MUST(r, munmap(rw, NPY_HEAD + NPY_DATA) == 0);
	MUST(r, munmap((void *)ro, NPY_HEAD + NPY_DATA) == 0);
}

const struct client_case tensor_cases[] = {
	{ "omlx", "safetensors by many small writes, rename; headers scanned", omlx_write,
	  omlx_verify },
	{ "vllm-example", "safetensors in place, read by shared mappings", example_write,
	  example_verify },
	{ "numpy-memmap", "shared mappings written, flushed and read", memmap_write,
	  memmap_verify },
	{ "numpy-two-maps", "a shared mapping that reads beside one that writes", memmap_write,
	  memmap_both },
	{ 0 },
};
