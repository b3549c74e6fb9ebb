/* SPDX-License-Identifier: MIT */
#include "objects.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "codecs/codec.h"
#include "testlib.h"

uint64_t tobj_tree_ino;

int tobj_dir(char path[64])
{
	const char *base = getenv("TMPDIR");
	int fd;

	if (!base || strlen(base) > 40)
		base = "/var/tmp";
	snprintf(path, 64, "%s/kvtest.XXXXXX", base);
	CHECK(mkdtemp(path));
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(fd >= 0);
	return fd;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	return remove(path);
}

void tobj_dir_remove(const char *path, int fd)
{
	close(fd);
	CHECK(nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) == 0);
}

void tobj_fill_bf16(void *p, size_t len, uint64_t seed)
{
	uint8_t *d = p;

	for (size_t i = 0; i < len; i += 2) {
		uint64_t r = test_rand(&seed);
		float spread = 0.25f * (float)(1 + (i / 2) % 64 % 13);
		float sum = 0, f;
		uint32_t bits;
		uint16_t h;

		/* sum of four uniforms: near enough to normal */
		for (int k = 0; k < 4; k++, r >>= 16)
			sum += (float)(r & 0xffff) / 65536.0f - 0.5f;
		f = sum * spread;
		memcpy(&bits, &f, 4);
		h = (uint16_t)(bits >> 16);
		memcpy(d + i, &h, len - i < 2 ? 1 : 2);
	}
}

struct object_id tobj_id(unsigned n)
{
	struct object_id id = { .generation = 7 + n };

	for (unsigned i = 0; i < 16; i++)
		id.id[i] = (uint8_t)(i + 1 + n);
	return id;
}

static uint32_t make_chunks(const struct tobj_part parts[], unsigned n_parts,
			    struct layout_chunk **ret, uint64_t *ret_size)
{
	struct layout_chunk *c = NULL;
	uint64_t off = 0;
	uint32_t n = 0;

	for (unsigned i = 0; i < n_parts; i++) {
		for (uint64_t left = parts[i].len; left;) {
			uint32_t len = left < parts[i].chunk_bytes ? (uint32_t)left :
								     parts[i].chunk_bytes;

			if ((n & (n - 1)) == 0) {
				c = realloc(c, (n ? n * 2 : 1) * sizeof(*c));
				CHECK(c);
			}
			c[n++] = (struct layout_chunk) {
				.off_bytes = off,
				.len_bytes = len,
				.shape = {
					.elem = parts[i].elem,
					.kind = parts[i].elem ? REGION_KV : REGION_OPAQUE,
					.row_bytes = parts[i].codec == CODEC_LADDER_HUF ? 128 : 0,
				},
			};
			off += len;
			left -= len;
		}
	}
	*ret = c;
	*ret_size = off;
	return n;
}

/* Stored form of one chunk in @buf: codec id used (or -code) and length. */
static int encode(struct codec_ctx *cc, unsigned want, const struct layout_chunk *c,
		  const uint8_t *src, uint8_t *buf, size_t cap, size_t *ret_len)
{
	const struct codec_ops *ops = codec_by_id(want);
	struct codec_out out = { .buf = buf, .cap = cap };
	int err = want != CODEC_RAW && ops ? ops->encode(cc, &c->shape, src, c->len_bytes, &out) :
					     -KVFS_ENOGAIN;

	if (!err) {
		*ret_len = out.len;
		return (int)want;
	}
	if (err != -KVFS_ENOGAIN)
		return err;
	memcpy(buf, src, c->len_bytes);
	*ret_len = c->len_bytes;
	return CODEC_RAW;
}

/* All layers of a chunk that the codec takes. */
static int add_layered(struct object_writer *w, struct codec_ctx *cc, const struct layout_chunk *c,
		       const uint8_t *src)
{
	struct object_part part[CODEC_LAYERS_MAX];
	struct codec_out out[CODEC_LADDER_LAYERS];
	size_t cap = codec_best_bound(c->len_bytes);
	uint8_t *buf = malloc(CODEC_LADDER_LAYERS * cap);
	unsigned n;
	uint16_t id;
	int err;

	CHECK(buf);
	for (unsigned i = 0; i < CODEC_LADDER_LAYERS; i++)
		out[i] = (struct codec_out) { buf + i * cap, cap, 0 };
	err = codec_encode_layers(cc, CODEC_FORM_SSD, &c->shape, src, c->len_bytes, out, &id, &n);
	for (unsigned i = 0; !err && i < n; i++)
		part[i] = (struct object_part) { id, out[i].buf, (uint32_t)out[i].len };
	if (!err)
		err = object_writer_add(w, part, n);
	free(buf);
	return err;
}

static int add_chunk(struct object_writer *w, struct codec_ctx *cc, unsigned codec,
		     const struct layout_chunk *c, const uint8_t *data, unsigned n_layers)
{
	struct object_part part[KVFS_OBJECT_LAYERS];
	size_t cap = codec_best_bound(c->len_bytes), len = 0, at = 0;
	uint8_t *buf;
	int used, err;

	if (codec == CODEC_HOLE) {
		part[0] = (struct object_part) { .codec = CODEC_HOLE };
		return object_writer_add(w, part, 1);
	}
	if (codec == CODEC_LADDER_HUF)
		return add_layered(w, cc, c, data + c->off_bytes);
	if (n_layers == CODEC_LADDER_LAYERS)
		n_layers = 1; /* beside chunks with real ones */
	buf = malloc(cap);
	CHECK(buf);
	used = encode(cc, codec, c, data + c->off_bytes, buf, cap, &len);
	if (used < 0) {
		free(buf);
		return used;
	}
	for (unsigned i = 0; i < n_layers; i++) {
		size_t n = i + 1 < n_layers ? len / n_layers : len - at;

		part[i] = (struct object_part) {
			.codec = (uint16_t)used, .buf = buf + at, .len = (uint32_t)n,
		};
		at += n;
	}
	err = object_writer_add(w, part, n_layers);
	free(buf);
	return err;
}

int tobj_seal(int objects_fd, const struct object_id *id, const void *data,
	      const struct tobj_part parts[], unsigned n_parts, unsigned n_layers)
{
	struct layout layout = { .name = "opaque" };
	struct object_plan plan = { .id = *id, .tree_ino = tobj_tree_ino ? tobj_tree_ino : 42, .n_layers = n_layers,
				    .created_ns = 1700000000ull * 1000000000ull,
				    .layout = &layout };
	struct object_writer *w;
	struct layout_chunk *chunks;
	struct codec_ctx *cc;
	uint64_t stored, end = 0;
	uint32_t i = 0;
	int err;

	plan.n_chunks = make_chunks(parts, n_parts, &chunks, &plan.logical_bytes);
	plan.chunks = chunks;
	layout.size_bytes = plan.logical_bytes;
	err = codec_ctx_create(CODEC_SIMD_BEST, &cc);
	if (err)
		goto out;
	err = object_writer_create(objects_fd, &plan, &w);
	if (err)
		goto out_ctx;
	for (unsigned p = 0; p < n_parts && !err; p++)
		for (end += parts[p].len; i < plan.n_chunks && !err && chunks[i].off_bytes < end; i++)
			err = add_chunk(w, cc, parts[p].codec, &chunks[i], data, n_layers);
	if (err)
		object_writer_abort(w);
	else
		err = object_writer_finish(w, &stored);
out_ctx:
	codec_ctx_destroy(cc);
out:
	free(chunks);
	return err;
}
