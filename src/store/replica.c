/* SPDX-License-Identifier: MIT */
/*
 * Encoded copies in DRAM. A chunk goes EMPTY -> CLAIMED -> PRESENT; only the
 * thread that claimed it touches its fields, and PRESENT is published with
 * release, so that finding needs no lock: a reader that misses a chunk being
 * added only takes the longer way. One found damaged becomes BAD, is found no more
 * and counts as there, so that nobody tries to add it. Chunks never go away before
 * the last reference. Holes are PRESENT from the start and own nothing.
 *
 * Chunks lie one after another in runs: extents of huge pages, because clearing small
 * pages one fault at a time costs about as much as encoding what goes into them.
 * What is left of a file below a run's least size gets an extent for each chunk.
 *
 * A chunk is its stored bytes. One with several layers begins with a
 * table of their lengths and sums, and each layer begins at a multiple of
 * LAYER_ALIGN. The table has no sum: lengths that do not fit the chunk are
 * damage, and wrong sums are found out by what they are for.
 */
#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "base/lock.h"
#include "base/mem.h"
#include "base/units.h"
#include "codecs/codec.h"
#include "store/object_format.h"
#include "store/replica.h"

enum { CHUNK_EMPTY, CHUNK_CLAIMED, CHUNK_PRESENT, CHUNK_BAD };

#define RUN_MIN_BYTES (2ull << 20)
#define RUN_MAX_BYTES (32ull << 20)
#define RUN_SHARE 32 /* a run is at most this part of the budget */

/* Head of a run. */
struct run {
	struct run *next;
	uint64_t bytes; /* of the run, with the head */
	uint64_t used;
	uint8_t pad[OBJECT_EXTENT_ALIGN - 24];
};
static_assert(sizeof(struct run) == OBJECT_EXTENT_ALIGN, "chunks are aligned");

#define LAYER_ALIGN OBJECT_EXTENT_ALIGN

struct replica_chunk {
	void *p;       /* in a run, or an extent of its own when it starts at a page */
	uint64_t sum;  /* of the only layer */
	uint32_t len_bytes;
	uint16_t codec;
	uint8_t n_layers;
	_Atomic uint8_t state;
};
static_assert(sizeof(struct replica_chunk) == 24, "there are many");

/* In front of several layers. */
struct layer_head {
	uint64_t sum;
	uint64_t len_bytes;
};

struct replica {
	_Atomic unsigned refs;
	struct arena *arena;  /* borrowed */
	struct object *obj;   /* one reference: tables and identity */
	_Atomic uint32_t n_present;
	_Atomic uint64_t bytes;
	size_t table_bytes;   /* counted */
	uint64_t expected_bytes; /* of all chunks: the DRAM forms make about 3/4 of them */
	struct lock lock;     /* leaf */
	struct run *runs GUARDED; /* lock; the newest first */
	uint64_t reserved GUARDED; /* lock: bytes of all runs */
	unsigned n_layers;    /* before it is shared */
	struct replica_chunk chunks[];
};

int replica_create(struct arena *a, const struct object *o, struct replica **ret)
{
	size_t bytes = sizeof(struct replica) + o->n_chunks * sizeof(struct replica_chunk);
	struct replica *r;
	uint64_t expected = 0;
	uint32_t holes = 0;

	if (o->budget) {
		int err = budget_take(o->budget, BUDGET_TABLE, bytes);

		if (err)
			return err;
	}
	r = mem_zalloc(bytes);
	if (!r) {
		if (o->budget)
			budget_give(o->budget, BUDGET_TABLE, bytes);
		return -ENOMEM;
	}
	atomic_init(&r->refs, 1);
	lock_init(&r->lock);
	r->arena = a;
	r->obj = object_get((struct object *)o);
	r->table_bytes = bytes;
	r->n_layers = CODEC_LAYERS_MAX;
	for (uint32_t i = 0; i < o->n_chunks; i++) {
		if (o->layers[o->chunks[i].first_layer].codec != CODEC_HOLE) {
			expected += o->chunks[i].len_bytes / 4 * 3;
			continue;
		}
		r->chunks[i].codec = CODEC_HOLE;
		r->chunks[i].n_layers = 1;
		atomic_init(&r->chunks[i].state, CHUNK_PRESENT);
		holes++;
	}
	atomic_init(&r->n_present, holes);
	r->expected_bytes = expected;
	*ret = r;
	return 0;
}

struct replica *replica_get(struct replica *r)
{
	unsigned before = atomic_fetch_add_explicit(&r->refs, 1, memory_order_relaxed);

	assert(before > 0);
	(void)before;
	return r;
}

static bool is_extent(const void *p)
{
	return (uintptr_t)p % KVFS_PAGE == 0;
}

/* No reference is left. */
static void free_runs(struct replica *r) NO_TSA
{
	while (r->runs) {
		struct run *run = r->runs;

		r->runs = run->next;
		arena_free(r->arena, run, run->bytes);
	}
}

void replica_put(struct replica *r)
{
	struct budget *b;
	size_t table_bytes;

	if (!r || atomic_fetch_sub_explicit(&r->refs, 1, memory_order_acq_rel) != 1)
		return;
	for (uint32_t i = 0; i < r->obj->n_chunks; i++)
		if (r->chunks[i].p && is_extent(r->chunks[i].p))
			arena_free(r->arena, r->chunks[i].p, r->chunks[i].len_bytes);
	free_runs(r);
	lock_fini(&r->lock);
	b = r->obj->budget;
	table_bytes = r->table_bytes;
	object_put(r->obj);
	mem_free(r);
	if (b)
		budget_give(b, BUDGET_TABLE, table_bytes);
}

static uint64_t layer_sum(const struct replica *r, uint32_t chunk, unsigned layer, unsigned codec,
			  const struct codec_in *in)
{
	const struct object_chunk *c = &r->obj->chunks[chunk];

	return object_sum(&r->obj->id, OBJECT_SUM_REPLICA, chunk, layer, codec, c->off_bytes,
			  c->len_bytes, in->buf, in->len);
}

static void *run_take(struct replica *r, size_t len)
{
	struct run *run;
	void *p = NULL;
	uint64_t at;

	lock_acquire(&r->lock);
	run = r->runs;
	if (run) {
		at = round_up_u64(run->used, OBJECT_EXTENT_ALIGN);
		if (at % KVFS_PAGE == 0)
			at += OBJECT_EXTENT_ALIGN; /* a page's start says: an extent */
		if (at <= run->bytes && len <= run->bytes - at) {
			p = (char *)run + at;
			run->used = at + len;
		}
	}
	lock_release(&r->lock);
	return p;
}

/* Bytes of the next run, 0 when the rest of the file is too small for one. */
static uint64_t run_bytes(struct replica *r)
{
	uint64_t most = RUN_MAX_BYTES, want = r->expected_bytes;

	if (r->obj->budget && budget_limit(r->obj->budget) / RUN_SHARE < most)
		most = budget_limit(r->obj->budget) / RUN_SHARE;
	lock_acquire(&r->lock);
	want = want > r->reserved ? want - r->reserved : 0;
	lock_release(&r->lock);
	return (want < most ? want : most) / RUN_MIN_BYTES * RUN_MIN_BYTES;
}

static int run_make(struct replica *r, uint64_t bytes)
{
	struct run *run;
	void *p;
	int err = arena_alloc(r->arena, bytes, &p);

	if (err)
		return err;
	run = p;
	*run = (struct run){ .bytes = bytes, .used = sizeof(*run) };
	lock_acquire(&r->lock);
	run->next = r->runs;
	r->runs = run;
	r->reserved += bytes;
	lock_release(&r->lock);
	atomic_fetch_add(&r->bytes, bytes);
	return 0;
}

/* Room for a chunk's stored form. */
static int chunk_alloc(struct replica *r, size_t len, void **ret)
{
	uint64_t bytes;
	int err;

	*ret = run_take(r, len);
	if (*ret)
		return 0;
	bytes = run_bytes(r);
	if (bytes >= sizeof(struct run) + len && run_make(r, bytes) == 0)
		*ret = run_take(r, len); /* NULL: others have filled it meanwhile */
	if (*ret)
		return 0;
	err = arena_alloc(r->arena, len, ret);
	if (err)
		*ret = NULL;
	else
		atomic_fetch_add(&r->bytes, round_up_u64(len, KVFS_PAGE));
	return err;
}

uint64_t replica_wants(struct replica *r, size_t len)
{
	uint64_t run = run_bytes(r);

	return run > len ? run : len;
}

/* Bytes of the table, and so the first layer's place. */
static uint64_t table_len(unsigned n)
{
	return round_up_u64(n * sizeof(struct layer_head), LAYER_ALIGN);
}

static uint64_t extent_len(const struct codec_in in[], unsigned n)
{
	uint64_t len = table_len(n);

	if (n == 1)
		return in[0].len;
	for (unsigned i = 0; i < n; i++)
		len += round_up_u64(in[i].len, LAYER_ALIGN);
	return len;
}

/* The sums are of the source, so that a bad copy is found as well. */
static void put_layers(struct replica *r, uint32_t chunk, const struct codec_in in[], unsigned n)
{
	struct replica_chunk *c = &r->chunks[chunk];
	struct layer_head *table = c->p;
	uint64_t at = table_len(n);

	if (n == 1) {
		memcpy(c->p, in[0].buf, in[0].len);
		c->sum = layer_sum(r, chunk, 0, c->codec, &in[0]);
		return;
	}
	for (unsigned i = 0; i < n; i++) {
		memcpy((uint8_t *)c->p + at, in[i].buf, in[i].len);
		table[i] = (struct layer_head) { .sum = layer_sum(r, chunk, i, c->codec, &in[i]),
						 .len_bytes = in[i].len };
		at += round_up_u64(in[i].len, LAYER_ALIGN);
	}
}

int replica_add_layers(struct replica *r, uint32_t chunk, unsigned codec,
		       const struct codec_in in[], unsigned n)
{
	struct replica_chunk *c = &r->chunks[chunk];
	uint64_t len = extent_len(in, n);
	uint8_t empty = CHUNK_EMPTY;
	int err;

	assert(chunk < r->obj->n_chunks && n >= 1 && n <= CODEC_LAYERS_MAX);
	if (len == 0 || len > UINT32_MAX)
		return -EINVAL;
	if (!atomic_compare_exchange_strong(&c->state, &empty, CHUNK_CLAIMED))
		return -EEXIST;
	err = chunk_alloc(r, len, &c->p);
	if (err) {
		atomic_store_explicit(&c->state, CHUNK_EMPTY, memory_order_release);
		return err;
	}
	c->len_bytes = (uint32_t)len;
	c->codec = (uint16_t)codec;
	c->n_layers = (uint8_t)n;
	put_layers(r, chunk, in, n);
	atomic_store_explicit(&c->state, CHUNK_PRESENT, memory_order_release);
	atomic_fetch_add(&r->n_present, 1);
	return 0;
}

int replica_add(struct replica *r, uint32_t chunk, unsigned codec, const void *p, size_t len)
{
	const struct codec_in in = { p, len };

	return replica_add_layers(r, chunk, codec, &in, 1);
}

/* Where the layers lie; those that would not lie within the extent have no bytes. */
static void find_layers(const struct replica_chunk *c, struct replica_form *ret)
{
	const struct layer_head *table = c->p;
	uint64_t at = table_len(c->n_layers);

	for (unsigned i = 0; i < c->n_layers; i++) {
		uint64_t len = table[i].len_bytes;

		if (len > c->len_bytes - at)
			len = 0;
		ret->in[i] = (struct codec_in) { (const uint8_t *)c->p + at, (size_t)len };
		at += round_up_u64(len, LAYER_ALIGN);
		at = at < c->len_bytes ? at : c->len_bytes;
	}
}

bool replica_find(const struct replica *r, uint32_t chunk, struct replica_form *ret)
{
	const struct replica_chunk *c = &r->chunks[chunk];

	if (atomic_load_explicit(&c->state, memory_order_acquire) != CHUNK_PRESENT)
		return false;
	ret->codec = c->codec;
	ret->n = c->n_layers;
	if (c->n_layers > 1)
		find_layers(c, ret);
	else
		ret->in[0] = (struct codec_in) { c->p, c->len_bytes };
	return true;
}

int replica_check(const struct replica *r, uint32_t chunk, const struct replica_form *f,
		  unsigned n)
{
	const struct replica_chunk *c = &r->chunks[chunk];
	const struct layer_head *table = c->p;

	if (c->codec == CODEC_HOLE)
		return f->in[0].len == 0 ? 0 : -KVFS_ECHECKSUM;
	for (unsigned i = 0; i < n; i++) {
		uint64_t sum = c->n_layers > 1 ? table[i].sum : c->sum;

		if (layer_sum(r, chunk, i, c->codec, &f->in[i]) != sum)
			return -KVFS_ECHECKSUM;
	}
	return 0;
}

void replica_bad(struct replica *r, uint32_t chunk)
{
	uint8_t present = CHUNK_PRESENT;

	/* failing: somebody else found out first */
	(void)atomic_compare_exchange_strong(&r->chunks[chunk].state, &present, CHUNK_BAD);
}

bool replica_complete(const struct replica *r)
{
	return atomic_load(&r->n_present) == r->obj->n_chunks;
}

unsigned replica_layers(const struct replica *r)
{
	return r->n_layers;
}

void replica_set_layers(struct replica *r, unsigned n, uint64_t expected_bytes)
{
	r->n_layers = n;
	r->expected_bytes = expected_bytes;
}

uint64_t replica_bytes(const struct replica *r)
{
	return atomic_load(&r->bytes);
}

const struct object *replica_object(const struct replica *r)
{
	return r->obj;
}

static int trim_chunk(struct replica *from, struct replica *to, uint32_t chunk, unsigned n)
{
	struct replica_form form;
	int r;

	if (!replica_find(from, chunk, &form))
		return -EAGAIN;
	if (form.codec == CODEC_HOLE)
		return 0; /* the new one has it too */
	n = form.n < n ? form.n : n;
	r = replica_check(from, chunk, &form, n) < 0 ? -EAGAIN : 0;
	return r < 0 ? r : replica_add_layers(to, chunk, form.codec, form.in, n);
}

int replica_trim(struct replica *r, unsigned n, struct replica **ret)
{
	uint64_t bytes = 0;
	struct replica *less;
	int err = replica_create(r->arena, r->obj, &less);

	if (err < 0)
		return err;
	for (uint32_t i = 0; i < r->obj->n_chunks; i++) {
		struct replica_form form;

		if (!replica_find(r, i, &form) || form.codec == CODEC_HOLE)
			continue;
		bytes += extent_len(form.in, form.n < n ? form.n : n);
	}
	replica_set_layers(less, n, bytes);
	for (uint32_t i = 0; i < r->obj->n_chunks && err == 0; i++)
		err = trim_chunk(r, less, i, n);
	if (err < 0)
		replica_put(less);
	else
		*ret = less;
	return err;
}
