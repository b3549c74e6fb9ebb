/* SPDX-License-Identifier: MIT */
#include "reading.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/mem.h"
#include "codecs/codec.h"
#include "store/object_format.h"
#include "testlib.h"

static const struct tobj_part everything[] = {
	{ .len = 1003, .chunk_bytes = 4096, .codec = CODEC_RAW },
	{ .len = 2u << 20, .chunk_bytes = 256u << 10, .codec = CODEC_PLANES_HUF, .elem = ELEM_BF16 },
	{ .len = 700u << 10, .chunk_bytes = 1u << 30, .codec = CODEC_HOLE },
	{ .len = 300001, .chunk_bytes = 100003, .codec = CODEC_LZ4 },
	{ .len = 1u << 20, .chunk_bytes = 512u << 10, .codec = CODEC_PLANES_FIX, .elem = ELEM_BF16 },
	{ .len = 9000, .chunk_bytes = 17, .codec = CODEC_RAW },
	{ .len = 1300000, .chunk_bytes = 1300000, .codec = CODEC_ZSTD },
};

static void fill(struct reading *f, const struct tobj_part *parts, unsigned n)
{
	uint64_t off = 0;

	for (unsigned i = 0; i < n; i++)
		f->size += parts[i].len;
	f->data = malloc(f->size);
	CHECK(f->data);
	for (unsigned i = 0; i < n; off += parts[i++].len) {
		if (parts[i].codec == CODEC_HOLE)
			memset(f->data + off, 0, parts[i].len);
		else
			tobj_fill_bf16(f->data + off, parts[i].len, i + 1);
	}
}

/* The object's reads go to a copy of its file in memory. */
static void move_to_memory(struct reading *f, uint64_t flip_at)
{
	struct stat st;
	char name[OBJECT_NAME_MAX];
	uint8_t *p;
	int fd;

	object_name(&f->obj->id, name);
	fd = openat(f->dir, name, O_RDONLY);
	CHECK(fd >= 0 && fstat(fd, &st) == 0);
	p = malloc((size_t)st.st_size);
	CHECK(p && io_pread_all(fd, p, (size_t)st.st_size, 0) == 0);
	close(fd);
	if (flip_at)
		p[flip_at] ^= 0x40;
	close(f->obj->fd);
	f->obj->fd = tier_mem_add(f->tier, p, (size_t)st.st_size);
	CHECK(f->obj->fd >= 0);
	free(p);
}

void reading_create(struct reading *f, const struct reading_config *c)
{
	const struct tobj_part *parts = c->parts ? c->parts : everything;
	unsigned n = c->parts ? c->n_parts : sizeof(everything) / sizeof(everything[0]);
	bool small = c->window_bytes && c->window_bytes < 32u << 20;
	struct object_id id = tobj_id(0);
	struct reader_config rc;

	memset(f, 0, sizeof(*f));
	fill(f, parts, n);
	f->dir = tobj_dir(f->path);
	CHECK_EQ(tobj_seal(f->dir, &id, f->data, parts, n, c->layered ? CODEC_LADDER_LAYERS : 1), 0);
	budget_init(&f->budget, c->budget_bytes ? c->budget_bytes : 1ull << 30);
	CHECK_EQ(object_open(f->dir, &id, &f->budget, &f->obj), 0);
	if (c->tier == RTIER_SSD)
		CHECK_EQ(tier_ssd_create(32, &f->tier), 0);
	else
		CHECK_EQ(tier_mem_create(c->tier == RTIER_MANUAL, &f->tier), 0);
	if (c->tier != RTIER_SSD)
		move_to_memory(f, c->flip_at);
	CHECK_EQ(workers_create("test", c->threads, 1, &f->workers), 0);
	CHECK_EQ(arena_create(&f->budget, 1ull << 30, &f->arena), 0);
	rc = (struct reader_config) {
		.budget = &f->budget, .workers = f->workers, .ssd = f->tier,
		.window_bytes = c->window_bytes ? c->window_bytes : 64u << 20,
		.buffer_bytes = small ? c->window_bytes : 32u << 20, .ahead_chunks = 8,
	};
	CHECK_EQ(reader_create(&rc, &f->reader), 0);
	f->src = (struct read_source) {
		.obj = f->obj, .valid_bytes = UINT64_MAX, .n_layers = f->obj->n_layers_max,
	};
}

void reading_destroy(struct reading *f)
{
	reader_destroy(f->reader);
	replica_put(f->rep);
	workers_destroy(f->workers);
	tier_destroy(f->tier);
	object_put(f->obj);
	arena_destroy(f->arena);
	CHECK_EQ(budget_used(&f->budget), 0);
	free(f->data);
	tobj_dir_remove(f->path, f->dir);
}

void reading_replica(struct reading *f, uint32_t first, uint32_t end)
{
	void *buf = malloc(codec_best_bound(CODEC_CHUNK_MAX));
	struct codec_ctx *cc;

	CHECK(buf);
	CHECK_EQ(codec_ctx_create(CODEC_SIMD_BEST, &cc), 0);
	if (!f->rep)
		CHECK_EQ(replica_create(f->arena, f->obj, &f->rep), 0);
	for (uint32_t i = first; i < end && i < f->obj->n_chunks; i++) {
		const struct object_chunk *c = &f->obj->chunks[i];
		struct codec_out out[CODEC_LAYERS_MAX] = {
			{ .buf = buf, .cap = codec_best_bound(CODEC_CHUNK_MAX) },
		};
		unsigned n_layers;
		uint16_t id;
		int err;

		if (f->obj->layers[c->first_layer].codec == CODEC_HOLE)
			continue;
		CHECK_EQ(codec_encode_best(cc, CODEC_FORM_DRAM, &c->shape, f->data + c->off_bytes,
					   c->len_bytes, out, &id, &n_layers), 0);
		err = replica_add(f->rep, i, id, buf, out[0].len);
		if (err == -KVFS_EBUDGET)
			break;
		CHECK_EQ(err, 0);
		CHECK_EQ(replica_add(f->rep, i, id, buf, out[0].len), -EEXIST);
	}
	free(buf);
	codec_ctx_destroy(cc);
	f->src.rep = f->rep;
}

uint64_t reading_stored_at(const struct reading *f, uint32_t chunk)
{
	return f->obj->layers[f->obj->chunks[chunk].first_layer].off_bytes;
}

static void compare(const struct reading *f, uint64_t off, const uint8_t *p, size_t len)
{
	uint64_t data = f->src.valid_bytes < f->size ? f->src.valid_bytes : f->size;
	size_t n = off >= data ? 0 : data - off < len ? (size_t)(data - off) : len;

	CHECK(memcmp(p, f->data + off, n) == 0);
	for (; n < len; n++)
		CHECK(p[n] == 0);
}

int reading_check(struct reading *f, struct read_state *rs, uint64_t off, size_t len, uint64_t size,
		  size_t *ret_good)
{
	uint64_t end = off + len < size ? off + len : size;
	struct read_reply ret = { .scratch_len = len };
	uint64_t at = off;
	int err = 0;

	CHECK((ret.scratch = malloc(len + 1)) != NULL);
	while (at < end) {
		uint64_t pos = at;

		err = reader_read(f->reader, &f->src, rs, at, (size_t)(end - at), size, &ret);
		if (err)
			break;
		CHECK(ret.len > 0 && ret.n >= 1 && ret.n <= READ_SLICES_MAX);
		for (unsigned i = 1; i <= ret.n; pos += ret.iov[i++].iov_len)
			compare(f, pos, ret.iov[i].iov_base, ret.iov[i].iov_len);
		CHECK_EQ(pos - at, ret.len);
		at = pos;
		reader_done(f->reader, &ret);
	}
	if (ret_good)
		*ret_good = at > off ? (size_t)(at - off) : 0;
	free(ret.scratch);
	return err;
}
