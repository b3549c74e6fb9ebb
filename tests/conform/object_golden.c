/* SPDX-License-Identifier: MIT */
/*
 * Golden object files: of version 1, to be readable for ever with the same
 * content, and bad ones with the error that each must give.
 *
 * object_golden DIR           checks DIR/good (NAME.obj beside NAME.want) and
 *                             DIR/bad (NAME.ERROR.obj)
 * object_golden --write DIR   makes those that do not exist yet; never changes one
 *
 * A .want file is one line: bytes, chunks, layers and XXH3 of the content (of the
 * stored bytes, for those in several layers, which no codec decodes).
 */
#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/io.h"
#include "codecs/codec.h"
#include "objects.h"
#include "store/object_format.h"
#include "testlib.h"

static const struct tobj_part opaque[] = {
	{ .len = 777, .chunk_bytes = 4096, .codec = CODEC_RAW },
	{ .len = 5000, .chunk_bytes = 2000, .codec = CODEC_LZ4 },
	{ .len = 5000, .chunk_bytes = 2000, .codec = CODEC_ZSTD },
	{ .len = 100000, .chunk_bytes = 1 << 30, .codec = CODEC_HOLE },
	{ .len = 1, .chunk_bytes = 1, .codec = CODEC_RAW },
};
static const struct tobj_part planes[] = {
	{ .len = 9, .chunk_bytes = 9, .codec = CODEC_RAW },
	{ .len = 6000, .chunk_bytes = 3000, .codec = CODEC_PLANES_HUF, .elem = ELEM_BF16 },
	{ .len = 6000, .chunk_bytes = 3000, .codec = CODEC_PLANES_FIX, .elem = ELEM_BF16 },
};

static const struct {
	const char *name;
	const struct tobj_part *parts;
	unsigned n_parts, n_layers;
} specs[] = {
	{ "empty", opaque, 0, 1 },
	{ "opaque", opaque, 5, 1 },
	{ "planes", planes, 3, 1 },
	{ "layers", planes, 3, 3 },
};

/* ---- content -------------------------------------------------------------- */

static void content(uint8_t *p, const struct tobj_part *parts, unsigned n)
{
	for (unsigned i = 0; i < n; p += parts[i++].len) {
		tobj_fill_bf16(p, parts[i].len, i + 1);
		if (parts[i].codec == CODEC_HOLE)
			memset(p, 0, parts[i].len);
		else if (!parts[i].elem) /* what opaque codecs can shorten */
			for (uint64_t k = 0; k < parts[i].len; k++)
				p[k] = (uint8_t)(p[k] & 7);
	}
}

static void read_chunk(struct codec_ctx *cc, const struct object *o, uint32_t chunk, uint8_t *dst)
{
	const struct object_chunk *c = &o->chunks[chunk];
	struct codec_in in[CODEC_LAYERS_MAX] = { { 0 } };
	uint8_t *buf = malloc(OBJECT_STORED_MAX(c->len_bytes));
	size_t at = 0;

	CHECK(buf);
	memset(dst, 0, c->len_bytes);
	for (unsigned i = 0; i < c->n_layers; i++) {
		const struct object_layer *l = &o->layers[c->first_layer + i];

		in[i] = (struct codec_in) { .buf = buf + at, .len = l->len_bytes };
		CHECK_EQ(io_pread_all(o->fd, buf + at, l->len_bytes, l->off_bytes), 0);
		CHECK_EQ(object_check(o, chunk, i, buf + at, l->len_bytes), 0);
		at += l->len_bytes;
	}
	if (o->n_layers_max > 1)
		memcpy(dst, buf, at < c->len_bytes ? at : c->len_bytes);
	else
		CHECK_EQ(codec_decode(cc, o->layers[c->first_layer].codec, &c->shape, in, 1, dst,
				      c->len_bytes, 0), 0);
	free(buf);
}

static void describe(struct codec_ctx *cc, const struct object *o, char *line, size_t len)
{
	uint8_t *p = malloc(o->logical_bytes + 1);

	CHECK(p);
	for (uint32_t i = 0; i < o->n_chunks; i++)
		read_chunk(cc, o, i, p + o->chunks[i].off_bytes);
	snprintf(line, len, "%llu %u %u %016llx\n", (unsigned long long)o->logical_bytes,
		 o->n_chunks, o->n_layers_max,
		 (unsigned long long)hash64(p, o->logical_bytes, 0));
	free(p);
}

/* ---- making --------------------------------------------------------------- */

static void write_new(int dir, const char *name, const void *p, size_t len)
{
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL, 0644);

	if (fd < 0 && errno == EEXIST)
		return;
	CHECK(fd >= 0 && io_pwrite_all(fd, p, len, 0) == 0);
	close(fd);
	printf("made %s\n", name);
}

static uint8_t *seal(const struct tobj_part *parts, unsigned n, unsigned n_layers, size_t *len)
{
	struct object_id id = tobj_id(0);
	char path[64], name[OBJECT_NAME_MAX];
	uint8_t *data = malloc(1 << 20), *file;
	int dir = tobj_dir(path), fd;
	struct stat st;

	CHECK(data);
	content(data, parts, n);
	CHECK_EQ(tobj_seal(dir, &id, data, parts, n, n_layers), 0);
	object_name(&id, name);
	fd = openat(dir, name, O_RDONLY);
	CHECK(fd >= 0 && fstat(fd, &st) == 0);
	*len = (size_t)st.st_size;
	file = malloc(*len);
	CHECK(file && io_pread_all(fd, file, *len, 0) == 0);
	close(fd);
	tobj_dir_remove(path, dir);
	free(data);
	return file;
}

static void make_good(int dir, struct codec_ctx *cc)
{
	for (unsigned i = 0; i < sizeof(specs) / sizeof(specs[0]); i++) {
		char name[64], line[128];
		struct object *o;
		uint8_t *p;
		size_t len;

		p = seal(specs[i].parts, specs[i].n_parts, specs[i].n_layers, &len);
		snprintf(name, sizeof(name), "v1-%s.obj", specs[i].name);
		write_new(dir, name, p, len);
		CHECK_EQ(object_open_fd(openat(dir, name, O_RDONLY), false, NULL, NULL, &o), 0);
		describe(cc, o, line, sizeof(line));
		object_put(o);
		snprintf(name, sizeof(name), "v1-%s.want", specs[i].name);
		write_new(dir, name, line, strlen(line));
		free(p);
	}
}

static void put_header(uint8_t *file, struct kvfs_object_header *h)
{
	h->header_sum = htole64(object_header_sum(h));
	memcpy(file, h, sizeof(*h));
}

static void make_bad(int dir)
{
	const struct tobj_part part = { .len = 3000, .chunk_bytes = 1000, .codec = CODEC_RAW };
	struct object_id id = tobj_id(0);
	struct kvfs_object_header h, good;
	size_t len, index;
	uint8_t *p = seal(&part, 1, 1, &len);

	memcpy(&good, p, sizeof(good));
	index = (size_t)le64toh(good.index_off);
	write_new(dir, "short.KVFS_ETRUNCATED.obj", p, 300);
	write_new(dir, "cut.KVFS_ETRUNCATED.obj", p, 4096);
	p[3] ^= 1;
	write_new(dir, "magic.KVFS_EMAGIC.obj", p, len);
	p[3] ^= 1;
	p[200] ^= 1;
	write_new(dir, "header-flip.KVFS_ECHECKSUM.obj", p, len);
	p[200] ^= 1;
	p[index + 70] ^= 1;
	write_new(dir, "index-flip.KVFS_ECHECKSUM.obj", p, len);
	p[index + 70] ^= 1;
	p[520] ^= 1;
	write_new(dir, "layout-flip.KVFS_ECHECKSUM.obj", p, len);
	p[520] ^= 1;
	h = good;
	h.version = htole32(2);
	put_header(p, &h);
	write_new(dir, "newer.KVFS_EVERSION.obj", p, len);
	h = good;
	h.generation = htole32(8);
	put_header(p, &h);
	write_new(dir, "other-generation.KVFS_EIDENTITY.obj", p, len);
	h = good;
	h.layers[0].len = htole64(UINT64_MAX - 4096);
	put_header(p, &h);
	write_new(dir, "layer-overflow.KVFS_EFORMAT.obj", p, len);
	h = good;
	p[index + 64] ^= 1; /* the second chunk begins one byte later */
	h.index_sum = htole64(object_part_sum(&id, OBJECT_SUM_INDEX, p + index,
					      (size_t)le64toh(h.index_len)));
	put_header(p, &h);
	write_new(dir, "gap.KVFS_EFORMAT.obj", p, len);
	free(p);
}

/* ---- checking ------------------------------------------------------------- */

static void check_good(int dir, const char *name, struct codec_ctx *cc)
{
	char want[256], line[128], *text;
	struct object_id id = tobj_id(0);
	struct object *o;

	CHECK_EQ(object_open_fd(openat(dir, name, O_RDONLY), false, &id, NULL, &o), 0);
	describe(cc, o, line, sizeof(line));
	object_put(o);
	snprintf(want, sizeof(want), "%.*s.want", (int)strlen(name) - 4, name);
	CHECK_EQ(io_read_file(dir, want, 200, &text, NULL), 0);
	if (strcmp(text, line)) {
		fprintf(stderr, "%s: want %shave %s", name, text, line);
		exit(1);
	}
	free(text);
}

static void check_bad(int dir, const char *name, struct codec_ctx *cc)
{
	struct object_id id = tobj_id(0);
	const char *want = strchr(name, '.') + 1;
	struct object *o;
	int err = object_open_fd(openat(dir, name, O_RDONLY), false, &id, NULL, &o);

	(void)cc;
	CHECK(err < 0);
	if (strncmp(want, err_name(err), strlen(err_name(err)))) {
		fprintf(stderr, "%s: got %s\n", name, err_name(err));
		exit(1);
	}
}

static unsigned each(const char *base, const char *sub,
		     void (*check)(int dir, const char *name, struct codec_ctx *cc),
		     struct codec_ctx *cc)
{
	char path[4096];
	struct dirent *e;
	unsigned n = 0;
	DIR *d;

	snprintf(path, sizeof(path), "%s/%s", base, sub);
	CHECK((d = opendir(path)) != NULL);
	while ((e = readdir(d)) != NULL) {
		size_t len = strlen(e->d_name);

		if (len < 5 || strcmp(e->d_name + len - 4, ".obj"))
			continue;
		check(dirfd(d), e->d_name, cc);
		n++;
	}
	closedir(d);
	return n;
}

int main(int argc, char **argv)
{
	bool make = argc == 3 && !strcmp(argv[1], "--write");
	struct codec_ctx *cc;

	CHECK(argc == (make ? 3 : 2));
	CHECK_EQ(codec_ctx_create(CODEC_SIMD_BEST, &cc), 0);
	if (make) {
		char path[4096];
		int fd;

		snprintf(path, sizeof(path), "%s/good", argv[2]);
		CHECK((fd = open(path, O_RDONLY | O_DIRECTORY)) >= 0);
		make_good(fd, cc);
		close(fd);
		snprintf(path, sizeof(path), "%s/bad", argv[2]);
		CHECK((fd = open(path, O_RDONLY | O_DIRECTORY)) >= 0);
		make_bad(fd);
		close(fd);
	}
	CHECK(each(argv[argc - 1], "good", check_good, cc) >= 4);
	CHECK(each(argv[argc - 1], "bad", check_bad, cc) >= 10);
	codec_ctx_destroy(cc);
	return 0;
}
