/* SPDX-License-Identifier: MIT */
/*
 * Requests: cut into chunks, each chunk found or started in the window, slices
 * handed out pinned.
 *
 * Happy path of reader_read: note whether the reader is sequential -> start what
 * must come from the device or from a slow codec, for this request and, for a
 * sequential reader, ahead of it -> for each piece: zeros, or the slot of its
 * chunk once READY. Small pieces are copied into the caller's scratch instead
 * of being pinned.
 *
 * A reader never waits for a buffer while it holds pins (it moves its pieces
 * into scratch first), and buffers of loads always come back by themselves, so
 * readers cannot wait for each other in a circle however small the window is.
 *
 * Failure modes: damage cuts the reply short before it, and is the result when
 * nothing is in front of it. Damage in the replica makes the reader take the
 * chunk from the object.
 */
#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#include "base/fault.h"
#include "base/mem.h"
#include "base/units.h"
#include "store/fetch.h"
#include "store/read.h"
#include "store/read_types.h"

#define PIN_FROM (16u << 10)        /* smaller pieces are copied */
#define START_MAX 32                /* chunks started at once */
#define NEAR_FROM (512u << 10)      /* requests of a large O_DIRECT read ... */
#define NEAR_BYTES (4ull << 20)     /* ... arrive this far out of order */
#define AHEAD_REPLICA 4             /* depth for slow codecs in DRAM */

/* ---- life ----------------------------------------------------------------- */

int reader_create(const struct reader_config *cfg, struct reader **ret)
{
	struct reader *r = mem_zalloc(sizeof(*r));
	int err;

	if (!r)
		return -ENOMEM;
	r->cfg = *cfg;
	r->zeros = mmap(NULL, READER_ZEROS, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (r->zeros == MAP_FAILED) {
		err = -errno; /* UNTESTED: no address space for 1 MiB */
		goto err_free;
	}
	err = codec_pool_init(&r->codecs, cfg->budget, workers_threads(cfg->workers) + 4);
	if (err)
		goto err_unmap;
	err = window_init(&r->w, r, cfg->budget, cfg->window_bytes, cfg->buffer_bytes);
	if (err)
		goto err_codecs;
	*ret = r;
	return 0;
err_codecs:
	codec_pool_fini(&r->codecs);
err_unmap:
	(void)munmap(r->zeros, READER_ZEROS); /* fails only for a wrong range */
err_free:
	mem_free(r);
	return err;
}

void reader_destroy(struct reader *r)
{
	if (!r)
		return;
	lock_acquire(&r->w.lock);
	while (r->w.n_loading) {
		lock_release(&r->w.lock);
		if (workers_run_one(r->cfg.workers, false)) {
			lock_acquire(&r->w.lock);
			continue;
		}
		lock_acquire(&r->w.lock);
		if (r->w.n_loading)
			window_wait_locked(&r->w);
	}
	lock_release(&r->w.lock);
	window_fini(&r->w);
	codec_pool_fini(&r->codecs);
	(void)munmap(r->zeros, READER_ZEROS); /* as above */
	mem_free(r);
}

/* ---- chunks --------------------------------------------------------------- */

static bool is_hole(const struct object *o, uint32_t chunk)
{
	return o->layers[o->chunks[chunk].first_layer].codec == CODEC_HOLE;
}

/* Decoding again costs no more than keeping: no reason to fetch it ahead. */
static bool cheap_codec(unsigned codec)
{
	return codec == CODEC_RAW || codec == CODEC_PLANES_FIX || codec == CODEC_LADDER_FIX;
}

/* Starts loading chunks [first, end) that are not in the window, as far as
 * buffers are there for it. Those from @ahead on are nobody's yet. */
static void start_chunks(struct reader *r, const struct read_source *src, uint32_t first,
			 uint32_t end, uint32_t ahead)
{
	struct slot *started[START_MAX];
	unsigned in_memory[START_MAX];
	unsigned n = 0, codec = 0;

	lock_acquire(&r->w.lock);
	for (uint32_t c = first; c < end && n < START_MAX; c++) {
		struct slot_want q = { .obj = src->obj, .chunk = c, .demand = c < ahead,
				       .n_layers = fetch_layers(src->obj, c, src->n_layers) };
		int err = -EAGAIN;

		if (is_hole(src->obj, c))
			continue;
		in_memory[n] = fetch_in_memory(src->rep, src->obj, c, q.n_layers, &codec);
		if (in_memory[n] == q.n_layers && cheap_codec(codec))
			continue;
		q.fetch_bytes = in_memory[n] == q.n_layers ? 0 :
				fetch_bytes(src->obj, c, in_memory[n], q.n_layers);
		while (err == -EAGAIN && !window_find_locked(&r->w, &q))
			err = window_new_locked(&r->w, &q, &started[n]);
		if (err == -EBUSY || err == -ENOMEM)
			break;
		if (err)
			continue; /* somebody has it */
		started[n++]->ahead = c >= ahead;
	}
	lock_release(&r->w.lock);
	for (unsigned i = 0; i < n; i++) {
		if (started[i]->chunk >= ahead)
			atomic_fetch_add_explicit(&r->ahead, 1, memory_order_relaxed);
		load_start(r, started[i], src->obj, src->rep, in_memory[i], false);
	}
}

/* Copies what is pinned into scratch and lets go of it: one slice remains. */
static void spill(struct reader *r, struct read_reply *ret)
{
	size_t at = 0;

	for (unsigned i = 1; i <= ret->n; i++) {
		uint8_t *to = (uint8_t *)ret->scratch + at;

		if (ret->iov[i].iov_base != to)
			memcpy(to, ret->iov[i].iov_base, ret->iov[i].iov_len);
		at += ret->iov[i].iov_len;
	}
	reader_done(r, ret);
	if (at) {
		ret->iov[1] = (struct iovec) { .iov_base = ret->scratch, .iov_len = at };
		ret->n = 1;
	}
}

/* The chunk's slot, READY and pinned. @held (may be NULL): a reply whose pins
 * are given up before waiting for a buffer. *@ret_of_rep: it was a replica that
 * failed, perhaps in a load that somebody else had begun. */
static int pin_chunk(struct reader *r, const struct read_source *src, struct replica *rep,
		     uint32_t chunk, struct read_reply *held, bool *ret_of_rep, struct slot **ret)
{
	struct slot_want q = { .obj = src->obj, .chunk = chunk, .demand = true,
			       .n_layers = fetch_layers(src->obj, chunk, src->n_layers) };
	unsigned codec = 0;
	unsigned in_memory = fetch_in_memory(rep, src->obj, chunk, q.n_layers, &codec);
	struct window *w = &r->w;
	struct slot *s = NULL;
	bool mine = false;
	int err;

	*ret_of_rep = false;
	if (in_memory < q.n_layers)
		q.fetch_bytes = fetch_bytes(src->obj, chunk, in_memory, q.n_layers);
	lock_acquire(&w->lock);
	while (!s) {
		s = window_find_locked(w, &q);
		if (s)
			break;
		err = window_new_locked(w, &q, &s);
		if (!err) {
			mine = true;
			s->cheap = in_memory == q.n_layers && cheap_codec(codec);
		} else if (err != -EAGAIN && held && held->n_pins) {
			lock_release(&w->lock);
			spill(r, held);
			lock_acquire(&w->lock);
		} else if (err == -ENOMEM) {
			lock_release(&w->lock);
			return err;
		} else if (err != -EAGAIN) {
			window_wait_locked(w);
		}
	}
	window_pin_locked(w, s);
	s->ahead = false;
	s->consumed = false;
	if (!mine && s->state == SLOT_READY)
		w->hits++;
	else if (!mine)
		w->joined++;
	err = s->state == SLOT_READY ? 0 : -EAGAIN;
	lock_release(&w->lock);
	if (mine)
		load_start(r, s, src->obj, rep, in_memory, true);
	if (err)
		err = load_wait(r, s, ret_of_rep);
	if (!err)
		*ret = s;
	return err;
}

static int get_chunk(struct reader *r, const struct read_source *src, uint32_t chunk,
		     struct read_reply *held, struct slot **ret)
{
	bool of_rep = false;
	int err = FAULT_POINT("read.chunk");

	if (!err)
		err = pin_chunk(r, src, src->rep, chunk, held, &of_rep, ret);
	/* Ends: only who looked before a replica's chunk was known as bad still loads it. */
	while (err && of_rep)
		err = pin_chunk(r, src, NULL, chunk, held, &of_rep, ret);
	return err;
}

static void put_chunk(struct reader *r, struct slot *s, bool consumed)
{
	lock_acquire(&r->w.lock);
	s->consumed = consumed;
	window_unpin_locked(&r->w, s);
	lock_release(&r->w.lock);
}

/* ---- prediction ----------------------------------------------------------- */

/* File offset up to which the object's bytes count. */
static uint64_t data_end(const struct read_source *src, uint64_t size)
{
	uint64_t end = src->obj->logical_bytes;

	end = src->valid_bytes < end ? src->valid_bytes : end;
	return size < end ? size : end;
}

/* Requests in a row after this one; 0: not sequential. */
static uint32_t note_request(struct read_state *rs, uint64_t off, size_t len)
{
	uint64_t next = atomic_load_explicit(&rs->next_off, memory_order_relaxed);
	uint32_t streak = atomic_load_explicit(&rs->streak, memory_order_relaxed);
	bool near = off == next ||
		(len >= NEAR_FROM && off + NEAR_BYTES >= next && off <= next + NEAR_BYTES);

	if (near && atomic_load_explicit(&rs->total, memory_order_relaxed))
		streak += streak < 1u << 20;
	else
		streak = 0;
	if (!near)
		atomic_store_explicit(&rs->ahead_to, 0, memory_order_relaxed);
	if (!near || off + len > next)
		atomic_store_explicit(&rs->next_off, off + len, memory_order_relaxed);
	atomic_store_explicit(&rs->streak, streak, memory_order_relaxed);
	return streak;
}

/* Starts the request's chunks when there is something to overlap, and those
 * behind it that a sequential reader will want. */
static void start_range(struct reader *r, const struct read_source *src, struct read_state *rs,
			uint64_t off, uint64_t end, uint32_t streak)
{
	uint32_t first, last, stop, depth = 0, from;
	uint64_t limit = (uint64_t)r->cfg.ahead_chunks << 20;
	unsigned codec, want;

	if (off >= end)
		return;
	first = object_chunk_at(src->obj, off);
	last = end - 1 < src->obj->chunks[first].off_bytes + src->obj->chunks[first].len_bytes ?
		first : object_chunk_at(src->obj, end - 1);
	if (streak) {
		depth = streak < 5 ? 2u << streak : r->cfg.ahead_chunks;
		depth = depth < r->cfg.ahead_chunks ? depth : r->cfg.ahead_chunks;
		want = fetch_layers(src->obj, last, src->n_layers);
		if (fetch_in_memory(src->rep, src->obj, last, want, &codec) == want)
			depth = cheap_codec(codec) ? 0 : depth < AHEAD_REPLICA ? depth : AHEAD_REPLICA;
	}
	stop = last + 1;
	while (stop < src->obj->n_chunks && stop - last <= depth &&
	       src->obj->chunks[stop].off_bytes < src->valid_bytes &&
	       src->obj->chunks[stop].off_bytes - end < limit)
		stop++;
	if (stop == first + 1)
		return; /* one chunk: the reader itself does it */
	from = atomic_load_explicit(&rs->ahead_to, memory_order_relaxed);
	if (from >= stop && from <= last + 2 * r->cfg.ahead_chunks)
		return; /* all started before */
	start_chunks(r, src, first, stop, last + 1);
	if (streak)
		atomic_store_explicit(&rs->ahead_to, stop, memory_order_relaxed);
}

/* ---- replies -------------------------------------------------------------- */

/* Room for one more slice. */
static void make_room(struct reader *r, struct read_reply *ret)
{
	if (ret->n == READ_SLICES_MAX || ret->n_pins == READ_SLICES_MAX)
		spill(r, ret);
}

static void add_slice(struct read_reply *ret, const void *p, size_t len)
{
	struct iovec *last = &ret->iov[ret->n];

	if (ret->n && (const uint8_t *)last->iov_base + last->iov_len == p) {
		last->iov_len += len;
	} else {
		ret->n++;
		ret->iov[ret->n] = (struct iovec) { .iov_base = (void *)p, .iov_len = len };
	}
	ret->len += len;
}

static void add_zeros(struct reader *r, struct read_reply *ret, uint64_t len)
{
	while (len) {
		size_t n = len < READER_ZEROS ? (size_t)len : READER_ZEROS;

		make_room(r, ret);
		add_slice(ret, r->zeros, n);
		len -= n;
	}
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Adds the bytes from @off to the end of its chunk or to @end (the request's). */
static int add_piece(struct reader *r, const struct read_source *src, uint64_t off, uint64_t end,
		     uint64_t data, struct read_reply *ret)
{
	const struct object_chunk *c;
	uint64_t chunk_end, stop;
	uint32_t chunk;
	struct slot *s;
	const uint8_t *p;
	bool consumed;
	int err;

	if (off >= data) {
		add_zeros(r, ret, end - off);
		return 0;
	}
	chunk = object_chunk_at(src->obj, off);
	c = &src->obj->chunks[chunk];
	chunk_end = c->off_bytes + c->len_bytes;
	stop = min_u64(min_u64(chunk_end, end), data);
	if (is_hole(src->obj, chunk)) {
		add_zeros(r, ret, stop - off);
		return 0;
	}
	make_room(r, ret);
	err = get_chunk(r, src, chunk, ret, &s);
	if (err)
		return err;
	p = s->buf->p + (off - c->off_bytes);
	consumed = stop == chunk_end;
	if (stop - off < PIN_FROM) {
		uint8_t *to = (uint8_t *)ret->scratch + ret->len;

		memcpy(to, p, (size_t)(stop - off));
		put_chunk(r, s, consumed);
		p = to;
	} else {
		/* bit 0: slots are aligned */
		ret->pins[ret->n_pins++] = (void *)((uintptr_t)s | consumed);
	}
	add_slice(ret, p, (size_t)(stop - off));
	return 0;
}

int reader_read(struct reader *r, const struct read_source *src, struct read_state *rs,
		uint64_t off, size_t len, uint64_t size, struct read_reply *ret)
{
	uint64_t data = data_end(src, size), end;
	uint32_t streak;
	int err = 0;

	ret->n = ret->n_pins = 0;
	ret->len = 0;
	if (off >= size)
		return 0;
	len = (size_t)min_u64(len, size - off);
	assert(len <= ret->scratch_len);
	end = off + len;
	streak = note_request(rs, off, len);
	start_range(r, src, rs, off, min_u64(end, data), streak);
	while (off + ret->len < end && !err)
		err = add_piece(r, src, off + ret->len, end, data, ret);
	if (err && !ret->len)
		return err;
	atomic_fetch_add_explicit(&rs->total, ret->len, memory_order_relaxed);
	return 0;
}

void reader_done(struct reader *r, struct read_reply *ret)
{
	if (!ret->n_pins)
		return;
	lock_acquire(&r->w.lock);
	for (unsigned i = 0; i < ret->n_pins; i++) {
		uintptr_t v = (uintptr_t)ret->pins[i];
		struct slot *s = (struct slot *)(v & ~(uintptr_t)1);

		if (v & 1)
			s->consumed = true;
		window_unpin_locked(&r->w, s);
	}
	lock_release(&r->w.lock);
	ret->n_pins = 0;
}

/* The range is known: what follows @chunk in it is wanted for sure. */
static void start_copy(struct reader *r, const struct read_source *src, uint32_t chunk,
		       uint64_t end)
{
	uint32_t stop = chunk + 1;

	while (stop < src->obj->n_chunks && stop - chunk <= r->cfg.ahead_chunks &&
	       src->obj->chunks[stop].off_bytes < end)
		stop++;
	if (stop > chunk + 1)
		start_chunks(r, src, chunk, stop, chunk + 1);
}

int reader_copy(struct reader *r, const struct read_source *src, uint64_t off, void *buf,
		size_t len)
{
	uint64_t end = off + len, data = data_end(src, end);
	uint8_t *to = buf;

	while (off < end) {
		const struct object_chunk *c;
		struct slot *s;
		uint32_t chunk;
		uint64_t stop;
		int err;

		if (off >= data) {
			memset(to, 0, (size_t)(end - off));
			return 0;
		}
		chunk = object_chunk_at(src->obj, off);
		start_copy(r, src, chunk, data);
		c = &src->obj->chunks[chunk];
		stop = min_u64(c->off_bytes + c->len_bytes, data);
		if (is_hole(src->obj, chunk)) {
			memset(to, 0, (size_t)(stop - off));
		} else {
			err = get_chunk(r, src, chunk, NULL, &s);
			if (err)
				return err;
			memcpy(to, s->buf->p + (off - c->off_bytes), (size_t)(stop - off));
			put_chunk(r, s, stop == c->off_bytes + c->len_bytes);
		}
		to += stop - off;
		off = stop;
	}
	return 0;
}

/* ---- the rest ------------------------------------------------------------- */

void reader_forget(struct reader *r, const struct object *obj)
{
	window_forget(&r->w, &obj->id);
}

void reader_shrink(struct reader *r, uint64_t bytes)
{
	window_shrink(&r->w, r->cfg.budget, bytes);
}

void reader_stats(struct reader *r, struct reader_stats *ret)
{
	*ret = (struct reader_stats) {
		.decodes = atomic_load(&r->decodes),
		.decoded_bytes = atomic_load(&r->decoded_bytes),
		.fetches = atomic_load(&r->fetches),
		.fetched_bytes = atomic_load(&r->fetched_bytes),
		.ahead = atomic_load(&r->ahead),
		.checksum_errors = atomic_load(&r->checksum_errors),
		.decode_Bps = atomic_load(&r->decode_Bps),
	};
	lock_acquire(&r->w.lock);
	ret->window_hits = r->w.hits;
	ret->joined = r->w.joined;
	ret->ahead_unused = r->w.ahead_unused;
	lock_release(&r->w.lock);
}
