// SPDX-License-Identifier: MIT
/*
 * Golden files: encodings of format version 1 that must decode for ever, to the
 * same bytes, in every version; and damaged ones that must be refused.
 *
 * codec_golden DIR           checks DIR/good and DIR/bad
 * codec_golden --write DIR   makes those that do not exist yet; never changes one
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "base/hash.h"
#include "codec_data.h"
#include "codec_golden.h"
#include "codec_kit.h"

#define ROOM (1u << 20)

struct spec {
	const char *name;
	unsigned codec, elem;
	enum codec_data kind;
	uint32_t row_bytes, len;
	bool transposed;
	uint64_t seed;
	unsigned layers; /* the first so many of several; 0: the only one */
};

static const struct spec specs[] = {
	{ "raw", CODEC_RAW, ELEM_BYTES, DATA_RANDOM, 0, 300, false, 42, 0 },
	{ "lz4", CODEC_LZ4, ELEM_BYTES, DATA_TEXT, 0, 9000, false, 42, 0 },
	{ "zstd", CODEC_ZSTD, ELEM_BYTES, DATA_TEXT, 0, 9000, false, 42, 0 },
	{ "huf-bf16", CODEC_PLANES_HUF, ELEM_BF16, DATA_GAUSSIAN, 64, 8193, false, 42, 0 },
	{ "huf-bf16-transposed", CODEC_PLANES_HUF, ELEM_BF16, DATA_TRANSPOSED, 512, 8192, true, 42, 0 },
	{ "huf-bf16-unlevelled", CODEC_PLANES_HUF, ELEM_BF16, DATA_GAUSSIAN, 0, 8192, false, 42, 0 },
	{ "huf-bf16-special", CODEC_PLANES_HUF, ELEM_BF16, DATA_SPECIAL, 0, 8192, false, 42, 0 },
	{ "huf-bf16-half-zero", CODEC_PLANES_HUF, ELEM_BF16, DATA_HALF_ZERO, 64, 8192, false, 42, 0 },
	{ "huf-bf16-constant", CODEC_PLANES_HUF, ELEM_BF16, DATA_CONSTANT, 0, 300000, false, 42, 0 },
	{ "huf-f16", CODEC_PLANES_HUF, ELEM_F16, DATA_GAUSSIAN, 64, 8193, false, 42, 0 },
	{ "huf-f32", CODEC_PLANES_HUF, ELEM_F32, DATA_GAUSSIAN, 128, 16387, false, 42, 0 },
	{ "huf-e5m2", CODEC_PLANES_HUF, ELEM_F8E5M2, DATA_GAUSSIAN, 64, 4099, false, 42, 0 },
	{ "huf-e4m3", CODEC_PLANES_HUF, ELEM_F8E4M3, DATA_GAUSSIAN, 64, 4096, false, 42, 0 },
	{ "huf-e5m2-segments", CODEC_PLANES_HUF, ELEM_F8E5M2, DATA_DENORMAL, 64, 70000, false, 42, 0 },
	{ "fix-bf16", CODEC_PLANES_FIX, ELEM_BF16, DATA_GAUSSIAN, 64, 8193, false, 42, 0 },
	{ "fix-bf16-transposed", CODEC_PLANES_FIX, ELEM_BF16, DATA_TRANSPOSED, 512, 8192, true, 42, 0 },
	{ "fix-bf16-unlevelled", CODEC_PLANES_FIX, ELEM_BF16, DATA_GAUSSIAN, 0, 8192, false, 42, 0 },
	{ "fix-bf16-special", CODEC_PLANES_FIX, ELEM_BF16, DATA_SPECIAL, 0, 8192, false, 42, 0 },
	{ "fix-bf16-constant", CODEC_PLANES_FIX, ELEM_BF16, DATA_CONSTANT, 0, 8191, false, 42, 0 },
	{ "fix-bf16-width3", CODEC_PLANES_FIX, ELEM_BF16, DATA_SPREAD, 0, 4096, false, 0, 0 },
	{ "fix-bf16-width4", CODEC_PLANES_FIX, ELEM_BF16, DATA_SPREAD, 0, 4096, false, 1, 0 },
	{ "fix-bf16-width5", CODEC_PLANES_FIX, ELEM_BF16, DATA_SPREAD, 0, 4096, false, 2, 0 },
	{ "fix-bf16-width6", CODEC_PLANES_FIX, ELEM_BF16, DATA_SPREAD, 0, 4096, false, 3, 0 },
	{ "fix-bf16-width7", CODEC_PLANES_FIX, ELEM_BF16, DATA_SPREAD, 0, 4096, false, 4, 0 },
	{ "fix-f16", CODEC_PLANES_FIX, ELEM_F16, DATA_GAUSSIAN, 64, 8193, false, 42, 0 },
	{ "fix-f16-denormal", CODEC_PLANES_FIX, ELEM_F16, DATA_DENORMAL, 0, 8192, false, 42, 0 },
	{ "fix-f32", CODEC_PLANES_FIX, ELEM_F32, DATA_GAUSSIAN, 128, 16387, false, 42, 0 },
	{ "fix-e5m2", CODEC_PLANES_FIX, ELEM_F8E5M2, DATA_GAUSSIAN, 64, 4099, false, 42, 0 },
	{ "fix-e4m3", CODEC_PLANES_FIX, ELEM_F8E4M3, DATA_GAUSSIAN, 64, 4096, false, 42, 0 },
	{ "ladder-huf-bf16-1", CODEC_LADDER_HUF, ELEM_BF16, DATA_GAUSSIAN, 256, 20003, false, 42, 1 },
	{ "ladder-huf-bf16-2", CODEC_LADDER_HUF, ELEM_BF16, DATA_GAUSSIAN, 256, 20003, false, 42, 2 },
	{ "ladder-huf-bf16-3", CODEC_LADDER_HUF, ELEM_BF16, DATA_GAUSSIAN, 256, 20003, false, 42, 3 },
	{ "ladder-huf-bf16-4", CODEC_LADDER_HUF, ELEM_BF16, DATA_GAUSSIAN, 256, 20003, false, 42, 4 },
	{ "ladder-fix-bf16-1", CODEC_LADDER_FIX, ELEM_BF16, DATA_GAUSSIAN, 256, 20003, false, 42, 1 },
	{ "ladder-fix-bf16-2", CODEC_LADDER_FIX, ELEM_BF16, DATA_GAUSSIAN, 256, 20003, false, 42, 2 },
	{ "ladder-fix-bf16-3", CODEC_LADDER_FIX, ELEM_BF16, DATA_GAUSSIAN, 256, 20003, false, 42, 3 },
	{ "ladder-fix-bf16-4", CODEC_LADDER_FIX, ELEM_BF16, DATA_GAUSSIAN, 256, 20003, false, 42, 4 },
	{ "ladder-huf-f16-1", CODEC_LADDER_HUF, ELEM_F16, DATA_GAUSSIAN, 200, 20000, false, 42, 1 },
	{ "ladder-huf-f16-4", CODEC_LADDER_HUF, ELEM_F16, DATA_GAUSSIAN, 200, 20000, false, 42, 4 },
	{ "ladder-fix-f16-4", CODEC_LADDER_FIX, ELEM_F16, DATA_GAUSSIAN, 200, 20000, false, 42, 4 },
	{ "ladder-fix-f32-2", CODEC_LADDER_FIX, ELEM_F32, DATA_GAUSSIAN, 512, 40962, false, 42, 2 },
	{ "ladder-fix-f32-4", CODEC_LADDER_FIX, ELEM_F32, DATA_GAUSSIAN, 512, 40962, false, 42, 4 },
	{ "ladder-huf-rows-1", CODEC_LADDER_HUF, ELEM_BF16, DATA_TRANSPOSED, 1300, 26000, true, 42, 1 },
	{ "ladder-huf-rows-4", CODEC_LADDER_HUF, ELEM_BF16, DATA_TRANSPOSED, 1300, 26000, true, 42, 4 },
	{ "ladder-fix-rows-4", CODEC_LADDER_FIX, ELEM_BF16, DATA_TRANSPOSED, 1300, 26000, true, 42, 4 },
	{ "ladder-fix-half-1", CODEC_LADDER_FIX, ELEM_BF16, DATA_HALF_ZERO, 256, 20000, false, 42, 1 },
	{ "ladder-huf-turning-1", CODEC_LADDER_HUF, ELEM_BF16, DATA_TURNING, 256, 20480, false, 42, 1 },
	{ "ladder-fix-turning-2", CODEC_LADDER_FIX, ELEM_BF16, DATA_TURNING, 256, 20480, false, 42, 2 },
	{ "ladder-fix-turning-4", CODEC_LADDER_FIX, ELEM_BF16, DATA_TURNING, 256, 20480, false, 42, 4 },
	{ "ladder-fix-special-2", CODEC_LADDER_FIX, ELEM_BF16, DATA_ODD, 256, 20480, false, 42, 2 },
	{ "ladder-fix-special-4", CODEC_LADDER_FIX, ELEM_BF16, DATA_ODD, 256, 20480, false, 42, 4 },
	{ "ladder-fix-half-4", CODEC_LADDER_FIX, ELEM_BF16, DATA_HALF_ZERO, 256, 20000, false, 42, 4 },
};

/* One change that makes a good file bad. Offsets are into the encoded bytes;
 * off < 0 counts from the end. bytes 0: cut |off| bytes off or (off > 0) add. */
struct harm {
	const char *name, *of;
	int off, bytes;
	uint32_t value;
};

static const struct harm harms[] = {
	{ "raw-short", "raw", -1, 0, 0 },
	{ "raw-long", "raw", 1, 0, 0 },
	{ "lz4-short", "lz4", -3, 0, 0 },
	{ "lz4-long", "lz4", 1, 0, 0 },
	{ "zstd-short", "zstd", -1, 0, 0 },
	{ "zstd-long", "zstd", 1, 0, 0 },
	{ "zstd-magic", "zstd", 0, 1, 0x29 },
	{ "zstd-skippable", "zstd", 0, 4, 0x184d2a50 },
	{ "head-eb-0", "fix-bf16", 0, 1, 0 },
	{ "head-eb-3", "huf-bf16", 0, 1, 3 },
	{ "head-flags-both", "fix-bf16", 1, 1, 3 },
	{ "head-flags-unknown", "huf-bf16", 1, 1, 4 },
	{ "head-cols-0", "huf-bf16", 4, 4, 0 },
	{ "head-cols-huge", "fix-bf16", 4, 4, 0xffffffff },
	{ "head-cols-without-flag", "fix-bf16-unlevelled", 4, 4, 32 },
	{ "head-offsets-beyond-end", "fix-bf16", 4, 4, 32768 },
	{ "head-reserved", "huf-f16", 12, 4, 1 },
	{ "fix-width-2", "fix-f16", 2, 1, 2 },
	{ "fix-width-8", "fix-f16", 2, 1, 8 },
	{ "fix-width-other", "fix-bf16", 2, 1, 7 },
	{ "fix-const-plane-missing", "fix-bf16", 3, 1, 2 },
	{ "fix-const-plane-changes-lengths", "fix-bf16", 3, 1, 1 },
	{ "fix-more-escapes", "fix-bf16-special", 8, 4, 5000 },
	{ "fix-short", "fix-bf16-special", -1, 0, 0 },
	{ "fix-long", "fix-bf16-special", 1, 0, 0 },
	{ "fix-padding", "fix-bf16-unlevelled", 60, 1, 1 },
	{ "huf-segments-small", "huf-bf16", 2, 1, 11 },
	{ "huf-segments-large", "huf-bf16", 2, 1, 18 },
	{ "huf-const-mask", "huf-bf16", 3, 1, 1 },
	{ "huf-escapes", "huf-bf16", 8, 4, 1 },
	{ "huf-short", "huf-bf16", -1, 0, 0 },
	{ "huf-long", "huf-bf16", 1, 0, 0 },
	{ "huf-plane-empty", "huf-bf16-unlevelled", 16, 4, 0 },
	{ "huf-plane-too-long", "huf-bf16-unlevelled", 16, 4, 4097 },
	{ "huf-plane-beyond-end", "huf-bf16-unlevelled", 20, 4, 4096 },
	{ "huf-frame-cut", "huf-bf16-unlevelled", 20, 4, 500 },
	{ "huf-frame-magic", "huf-bf16-unlevelled", 24 + 4096, 1, 0 },
	{ "ladder-elem", "ladder-fix-bf16-1", 4, 1, 4 },
	{ "ladder-flags", "ladder-fix-bf16-1", 5, 1, 2 },
	{ "ladder-step", "ladder-fix-bf16-1", 6, 1, 101 },
	{ "ladder-classes-0", "ladder-fix-bf16-1", 7, 1, 0 },
	{ "ladder-classes-17", "ladder-fix-bf16-1", 7, 1, 17 },
	{ "ladder-refinements-0", "ladder-fix-bf16-1", 8, 1, 0 },
	{ "ladder-refinements-7", "ladder-fix-bf16-1", 8, 1, 7 },
	{ "ladder-bits-3", "ladder-fix-bf16-1", 9, 1, 3 },
	{ "ladder-bits-behind", "ladder-fix-bf16-1", 11, 1, 1 },
	{ "ladder-turn-3", "ladder-fix-bf16-1", 15, 1, 3 },
	{ "ladder-turn-without-head", "ladder-fix-bf16-1", 15, 1, 1 },
	{ "ladder-cols-0", "ladder-fix-bf16-1", 16, 4, 0 },
	{ "ladder-cols-huge", "ladder-fix-bf16-1", 16, 4, 0x10000000 },
	{ "ladder-overlay-of-columns", "ladder-fix-bf16-1", 22, 1, 1 },
	{ "ladder-ranges", "ladder-fix-bf16-1", 20, 1, 0 },
	{ "ladder-patches", "ladder-fix-bf16-1", 28, 4, 0xffff },
	{ "ladder-escapes", "ladder-fix-bf16-1", 32, 4, 1 },
	{ "ladder-short", "ladder-fix-bf16-1", -1, 0, 0 },
	{ "ladder-huf-stream", "ladder-huf-bf16-1", -1, 0, 0 },
	{ "ladder-refinement-short", "ladder-fix-bf16-2", -1, 0, 0 },
	{ "ladder-exact-short", "ladder-fix-bf16-4", -1, 0, 0 },
	{ "ladder-exact-long", "ladder-fix-bf16-4", 12, 4, 0 },
	{ "ladder-lower-halves-short", "ladder-fix-f32-4", -2, 0, 0 },
};

static void write_file(const char *dir, const char *sub, const char *name, const uint8_t *p,
		       size_t len)
{
	char path[PATH_MAX];
	int fd;

	snprintf(path, sizeof(path), "%s/%s/%s.kvc", dir, sub, name);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0 && errno == EEXIST)
		return;
	CHECK(fd >= 0 && write(fd, p, len) == (ssize_t)len && close(fd) == 0);
	printf("wrote %s\n", path);
}

static size_t read_file(const char *path, uint8_t *p)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, p, ROOM);

	CHECK_MSG(n >= (ssize_t)GOLDEN_HEAD, "%s", path);
	close(fd);
	return (size_t)n;
}

static void make_good(struct codec_ctx *c, const char *dir, const struct spec *s, uint8_t *file)
{
	struct chunk_shape shape = { .elem = (uint8_t)s->elem, .row_bytes = s->row_bytes,
				     .transposed = s->transposed,
				     .kind = s->kind == DATA_TURNING ? REGION_K : REGION_OPAQUE,
				     .head_bytes = s->kind == DATA_TURNING ? 64 : 0 };
	const struct codec_ops *ops = codec_by_id(s->codec);
	struct golden g = { .codec = (uint8_t)s->codec, .elem = (uint8_t)s->elem, .len = s->len,
			    .layers = (uint8_t)s->layers };
	struct codec_out out[CODEC_LAYERS_MAX];
	struct codec_in in[CODEC_LAYERS_MAX];
	uint8_t *src = malloc(s->len), *at = file + GOLDEN_HEAD + 4 * s->layers;
	uint32_t cols = s->row_bytes ? s->row_bytes / elem_bytes(s->elem) : 32;

	CHECK(src);
	codec_data_fill(s->kind, s->elem, cols, s->seed, src, s->len);
	for (unsigned i = 0; i < ops->layers; i++)
		out[i] = (struct codec_out){ malloc(s->len), s->len, 0 };
	CHECK_MSG(ops->encode(c, &shape, src, s->len, out) == 0, "%s", s->name);
	for (unsigned i = 0; i < ops->layers; i++) {
		if (i < (s->layers ? s->layers : 1)) {
			if (s->layers)
				le32_put(file + GOLDEN_HEAD + 4 * i, (uint32_t)out[i].len);
			memcpy(at, out[i].buf, out[i].len);
			at += out[i].len;
		}
		in[i] = (struct codec_in){ out[i].buf, out[i].len };
	}
	if (s->layers && s->layers < ops->layers)
		CHECK(ops->decode(c, &shape, in, s->layers, src, s->len, 0) == 0);
	g.hash = hash64(src, s->len, 0);
	golden_put(file, &g);
	write_file(dir, "good", s->name, file, (size_t)(at - file));
	for (unsigned i = 0; i < ops->layers; i++)
		free(out[i].buf);
	free(src);
}

static void make_bad(const char *dir, const struct harm *h, uint8_t *file)
{
	char path[PATH_MAX], name[NAME_MAX];
	uint8_t *at;
	size_t len;

	snprintf(path, sizeof(path), "%s/good/%s.kvc", dir, h->of);
	len = read_file(path, file);
	at = file + (h->off < 0 ? (ssize_t)len : (ssize_t)GOLDEN_HEAD) + h->off;
	le64_put(file + 8, 0);
	if (h->bytes == 0 && h->off > 0)
		file[len++] = 0;
	else if (h->bytes == 0)
		len -= (size_t)-h->off;
	else if (h->bytes == 1)
		*at = (uint8_t)h->value;
	else
		le32_put(at, h->value);
	snprintf(name, sizeof(name), "KVFS_ECODEC-%s", h->name);
	write_file(dir, "bad", name, file, len);
}

static int make(const char *dir)
{
	uint8_t *file = malloc(ROOM + GOLDEN_HEAD);
	struct codec_ctx *c;

	CHECK(file && codec_ctx_create(CODEC_SIMD_PORTABLE, &c) == 0);
	for (size_t i = 0; i < sizeof(specs) / sizeof(specs[0]); i++)
		make_good(c, dir, &specs[i], file);
	for (size_t i = 0; i < sizeof(harms) / sizeof(harms[0]); i++)
		make_bad(dir, &harms[i], file);
	codec_ctx_destroy(c);
	free(file);
	return 0;
}

static void check_file(const struct codec_kit *k, const char *path, const char *name, bool good)
{
	static const struct chunk_shape shape; /* decoding does not need it */
	uint8_t *file = malloc(ROOM), *dst_end = guarded_end(ROOM);
	size_t len = read_file(path, file);
	struct golden g;

	golden_get(file, &g);
	for (unsigned v = 0; v < k->n; v++) {
		struct codec_in in[CODEC_LAYERS_MAX];
		unsigned n = golden_layers(file, len, in);
		int r = codec_decode(k->ctx[v], g.codec, &shape, in, n, dst_end - g.len, g.len, 0);

		if (good)
			CHECK_MSG(r == 0 && hash64(dst_end - g.len, g.len, 0) == g.hash,
				  "%s: version %u: %d", path, v, r);
		else
			CHECK_MSG(r < 0 && strncmp(name, err_name(r), strlen(err_name(r))) == 0,
				  "%s: version %u: %d", path, v, r);
	}
	free(file);
}

static void check_dir(const struct codec_kit *k, const char *dir, const char *sub, bool good)
{
	char path[PATH_MAX];
	struct dirent *e;
	unsigned n = 0;
	DIR *d;

	snprintf(path, sizeof(path), "%s/%s", dir, sub);
	d = opendir(path);
	CHECK_MSG(d, "%s", path);
	while ((e = readdir(d))) {
		size_t len = strlen(e->d_name);

		if (len < 5 || strcmp(e->d_name + len - 4, ".kvc") != 0)
			continue;
		snprintf(path, sizeof(path), "%s/%s/%s", dir, sub, e->d_name);
		check_file(k, path, e->d_name, good);
		n++;
	}
	closedir(d);
	printf("%s: %u files\n", sub, n);
	CHECK(n >= 20);
}

int main(int argc, char **argv)
{
	struct codec_kit k;

	if (argc == 3 && strcmp(argv[1], "--write") == 0)
		return make(argv[2]);
	CHECK_MSG(argc == 2, "usage: codec_golden DIR");
	codec_kit_init(&k);
	check_dir(&k, argv[1], "good", true);
	check_dir(&k, argv[1], "bad", false);
	codec_kit_fini(&k);
	return 0;
}
