/* SPDX-License-Identifier: MIT */
/*
 * Objects in memory: open, look up, count references.
 *
 * Happy path: one aligned read of the file's first 64 KiB brings header, layout
 * and (up to about 900 chunks) the index; a second one brings the rest of a
 * longer index. Sums are checked before anything is parsed, sizes before
 * anything is allocated, so time and memory are bounded by what the file really
 * holds.
 *
 * Failure modes: the file is absent, foreign, newer, cut, of another object or
 * damaged: each has its own code and leaves nothing behind. I/O errors are
 * passed on. Damage in chunk bytes is not looked for here, but on reading.
 *
 * The last put closes the descriptor and gives the tables' bytes back.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/units.h"
#include "codecs/codec.h"
#include "store/object.h"
#include "store/object_format.h"

#define OBJECT_FIRST_READ (64u << 10)

/* ---- names ---------------------------------------------------------------- */

void object_name(const struct object_id *id, char *buf)
{
	static const char hex[] = "0123456789abcdef";
	char *p = buf;

	*p++ = hex[id->id[0] >> 4];
	*p++ = hex[id->id[0] & 15];
	*p++ = '/';
	for (unsigned i = 0; i < sizeof(id->id); i++) {
		*p++ = hex[id->id[i] >> 4];
		*p++ = hex[id->id[i] & 15];
	}
	snprintf(p, OBJECT_NAME_MAX - (size_t)(p - buf), ".%u", id->generation);
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

int object_name_parse(const char *name, struct object_id *ret)
{
	struct object_id id;
	uint64_t gen = 0;
	const char *p = name;

	for (unsigned i = 0; i < sizeof(id.id); i++, p += 2) {
		int hi = hex_digit(p[0]);
		int lo = hi < 0 ? -1 : hex_digit(p[1]);

		if (lo < 0)
			return -EINVAL;
		id.id[i] = (uint8_t)(hi << 4 | lo);
	}
	if (*p++ != '.' || *p < '0' || *p > '9' || (p[0] == '0' && p[1]))
		return -EINVAL;
	for (; *p; p++) {
		if (*p < '0' || *p > '9')
			return -EINVAL;
		gen = gen * 10 + (unsigned)(*p - '0');
		if (gen > UINT32_MAX)
			return -EINVAL;
	}
	id.generation = (uint32_t)gen;
	*ret = id;
	return 0;
}

size_t object_chunk_max(const struct object *o)
{
	size_t most = 1;

	for (uint32_t i = 0; i < o->n_chunks; i++)
		if (most < o->chunks[i].len_bytes)
			most = o->chunks[i].len_bytes;
	return most;
}

uint32_t object_mark(const struct object_id *id)
{
	return (uint32_t)hash64(id, sizeof(*id), 0);
}

int object_id_random(uint32_t generation, struct object_id *ret)
{
	struct object_id id = { .generation = generation };
	ssize_t n = getrandom(id.id, sizeof(id.id), 0);

	if (n < 0)
		return -errno; /* UNTESTED: getrandom of 16 bytes does not fail after boot */
	if (n != (ssize_t)sizeof(id.id))
		return -EIO; /* UNTESTED: as above */
	*ret = id;
	return 0;
}

/* ---- opening -------------------------------------------------------------- */

static int open_fd(int objects_fd, const struct object_id *id, bool *ret_direct)
{
	char name[OBJECT_NAME_MAX];
	int fd;

	object_name(id, name);
	*ret_direct = true;
	fd = io_open_regular(objects_fd, name, O_RDONLY | O_DIRECT, 0);
	if (fd == -EINVAL) {
		*ret_direct = false; /* UNTESTED: needs a filesystem without O_DIRECT */
		fd = io_open_regular(objects_fd, name, O_RDONLY, 0);
	}
	return fd;
}

/* The front of the file as read: page-aligned, counted while it lives. */
struct front {
	uint8_t *buf;      /* owned */
	size_t cap;
	uint64_t file_bytes;
	struct budget *budget;
};

static void front_fini(struct front *f)
{
	mem_free_pages(f->buf, f->cap);
	if (f->budget && f->buf)
		budget_give(f->budget, BUDGET_TABLE, f->cap);
	f->buf = NULL;
}

/* Makes buf hold the file's first @need bytes (all of it when shorter). */
static int front_read(struct front *f, int fd, size_t need)
{
	size_t cap = (size_t)round_up_u64(need, KVFS_PAGE);
	size_t want = f->file_bytes < cap ? (size_t)f->file_bytes : cap;
	ssize_t n;
	int err;

	front_fini(f);
	if (f->budget) {
		err = budget_take(f->budget, BUDGET_TABLE, cap);
		if (err)
			return err;
	}
	f->cap = cap;
	f->buf = mem_alloc_pages(cap);
	if (!f->buf) {
		if (f->budget)
			budget_give(f->budget, BUDGET_TABLE, cap);
		return -ENOMEM;
	}
	n = io_pread(fd, f->buf, (size_t)round_up_u64(want, KVFS_PAGE), 0);
	if (n < 0)
		return (int)n;
	return (size_t)n >= want ? 0 : -KVFS_ETRUNCATED;
}

static int read_front(struct front *f, int fd, const struct object_id *id,
		      struct kvfs_object_header *ret)
{
	struct stat st;
	uint64_t need;
	int err;

	if (fstat(fd, &st) < 0)
		return -errno; /* UNTESTED: fstat of an open descriptor */
	f->file_bytes = (uint64_t)st.st_size;
	if (f->file_bytes < sizeof(*ret))
		return -KVFS_ETRUNCATED;
	need = f->file_bytes < OBJECT_FIRST_READ ? f->file_bytes : OBJECT_FIRST_READ;
	err = front_read(f, fd, (size_t)need);
	if (err)
		return err;
	err = object_header_parse((const void *)f->buf, id, f->file_bytes, ret);
	if (err)
		return err;
	need = ret->index_off + ret->index_len; /* <= OBJECT_FRONT_MAX, <= file_bytes */
	if (need > f->cap) {
		struct kvfs_object_header again;

		err = front_read(f, fd, (size_t)need);
		if (err)
			return err;
		/* A file that changes under us is not ours to interpret. */
		object_header_swap(ret);
		memcpy(&again, f->buf, sizeof(again));
		if (memcmp(&again, ret, sizeof(again)) != 0)
			return -KVFS_ECHECKSUM; /* UNTESTED: needs a racing writer */
		object_header_swap(ret);
	}
	return 0;
}

static void fill_levels(struct object *o, const struct kvfs_object_header *h)
{
	/* no overflow: the header was checked to lie within stored_bytes, a multiple */
	for (unsigned i = 0; i + 1 < h->n_layers; i++)
		o->level_bytes[i] = round_up_u64(h->layers[i].off + h->layers[i].len,
						 KVFS_OBJECT_ALIGN);
	o->level_bytes[h->n_layers - 1] = h->stored_bytes;
	memcpy(o->errors, h->errors, sizeof(o->errors));
	o->n_samples = o->n_layers_max > 1 && o->errors[0] > 0;
}

static int take_tables(struct object *o, uint64_t n_layers)
{
	size_t bytes = sizeof(*o) + o->n_chunks * sizeof(*o->chunks) +
		(size_t)n_layers * sizeof(*o->layers) + sizeof(*o->layout) +
		o->layout->n_regions * sizeof(*o->layout->regions);
	int err;

	if (o->budget) {
		err = budget_take(o->budget, BUDGET_TABLE, bytes);
		if (err)
			return err;
	}
	o->table_bytes = bytes;
	o->chunks = mem_calloc(o->n_chunks, sizeof(*o->chunks));
	o->layers = mem_calloc((size_t)n_layers, sizeof(*o->layers));
	return o->chunks && o->layers ? 0 : -ENOMEM;
}

static int parse_front(struct object *o, const struct front *f,
		       const struct kvfs_object_header *h)
{
	const uint8_t *layout = f->buf + h->layout_off, *index = f->buf + h->index_off;
	uint64_t n_layers;
	int err;

	if (object_part_sum(&o->id, OBJECT_SUM_LAYOUT, layout, (size_t)h->layout_len) !=
		    h->layout_sum ||
	    object_part_sum(&o->id, OBJECT_SUM_INDEX, index, (size_t)h->index_len) !=
		    h->index_sum)
		return -KVFS_ECHECKSUM;
	err = object_index_layers(h, &n_layers);
	if (err)
		return err;
	err = layout_unpack(layout, (size_t)h->layout_len, &o->layout);
	if (err)
		return err;
	if (o->layout->size_bytes != h->logical_bytes)
		return -KVFS_EFORMAT;
	err = take_tables(o, n_layers);
	if (err)
		return err;
	return object_index_parse(h, index, o->chunks, o->layers);
}

int object_open_fd(int fd, bool direct, const struct object_id *id, struct budget *budget,
		   struct object **ret)
{
	struct kvfs_object_header h;
	struct front f = { .budget = budget };
	struct object *o;
	int err;

	o = mem_zalloc(sizeof(*o));
	if (!o) {
		io_close(&fd);
		return -ENOMEM;
	}
	atomic_init(&o->refs, 1);
	o->budget = budget;
	o->fd = fd;
	o->direct = direct;
	err = read_front(&f, o->fd, id, &h);
	if (err)
		goto err_put;
	memcpy(o->id.id, h.id, sizeof(h.id));
	o->id.generation = h.generation;
	o->logical_bytes = h.logical_bytes;
	o->stored_bytes = h.stored_bytes;
	o->tree_ino = h.tree_ino;
	o->n_chunks = h.n_chunks;
	o->n_layers_max = h.n_layers;
	o->n_layers_present = object_layers_present(&h, f.file_bytes);
	fill_levels(o, &h);
	err = parse_front(o, &f, &h);
	if (err)
		goto err_put;
	front_fini(&f);
	*ret = o;
	return 0;
err_put:
	front_fini(&f);
	object_put(o);
	return err;
}

int object_open(int objects_fd, const struct object_id *id, struct budget *budget,
		struct object **ret)
{
	bool direct;
	int fd = open_fd(objects_fd, id, &direct);

	return fd < 0 ? fd : object_open_fd(fd, direct, id, budget, ret);
}

struct object *object_get(struct object *o)
{
	unsigned before = atomic_fetch_add_explicit(&o->refs, 1, memory_order_relaxed);

	assert(before > 0);
	(void)before;
	return o;
}

void object_put(struct object *o)
{
	if (!o || atomic_fetch_sub_explicit(&o->refs, 1, memory_order_acq_rel) != 1)
		return;
	io_close(&o->fd);
	layout_destroy(o->layout);
	mem_free(o->chunks);
	mem_free(o->layers);
	if (o->budget)
		budget_give(o->budget, BUDGET_TABLE, o->table_bytes);
	mem_free(o);
}

/* ---- looking -------------------------------------------------------------- */

uint32_t object_chunk_at(const struct object *o, uint64_t off)
{
	uint32_t lo = 0, hi = o->n_chunks;

	assert(off < o->logical_bytes);
	while (hi - lo > 1) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (o->chunks[mid].off_bytes <= off)
			lo = mid;
		else
			hi = mid;
	}
	return lo;
}

int object_check(const struct object *o, uint32_t chunk, unsigned layer, const void *p, size_t len)
{
	const struct object_chunk *c = &o->chunks[chunk];
	const struct object_layer *l = &o->layers[c->first_layer + layer];

	if (l->codec == CODEC_HOLE)
		return len == 0 ? 0 : -KVFS_ECHECKSUM;
	if (len != l->len_bytes ||
	    object_sum(&o->id, OBJECT_SUM_CHUNK, chunk, layer, l->codec, c->off_bytes,
		       c->len_bytes, p, len) != l->sum)
		return -KVFS_ECHECKSUM;
	return 0;
}
