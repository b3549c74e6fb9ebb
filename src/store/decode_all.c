/* SPDX-License-Identifier: MIT */
/*
 * A whole object into memory, on every core.
 *
 * Each chunk is decided once, at the start: zeros or replica (the memory cursor
 * hands them out, from the end to the beginning, where the reader will start and
 * find the last ones decoded still in the cache), or device (the fetch cursor
 * keeps up to DEPTH reads in flight). The calling thread works until everything is done; workers help, one
 * chunk per work item, so that other readers' chunks get their turn between.
 *
 * One lock (job.lock) guards the cursors. A chunk that sticks out behind
 * valid_bytes or @size, and one whose replica is damaged, goes through the window
 * as an ordinary read would, but last: the window may wait for a buffer, and nobody
 * does that while holding one.
 *
 * Failure or cancelling: no new chunk is begun, what is in flight is awaited, the
 * first error is the result; @dst then holds anything.
 */
#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/thread.h"
#include "store/fetch.h"
#include "store/read.h"
#include "store/read_types.h"

#define DEPTH 32
#define DEPTH_ALONE 2
#define HELPERS_MAX 16
#define WARM_BYTES (8u << 20) /* at the beginning: decoded last, into the cache */

struct job;
struct helper {
	struct work work;
	struct job *job;
	bool queued; /* job.lock: in the workers' queue, or running */
};

struct job {
	struct reader *r;
	const struct read_source *src;
	uint8_t *dst;
	uint64_t size;                /* bytes of dst */
	uint64_t data;                /* of them, bytes that are not zeros for sure */
	struct read_pace pace;
	uint8_t *on_device;           /* bit per chunk; owned */
	uint8_t *last GUARDED;        /* likewise: to go through the window */
	struct lock lock;
	struct cond cond;             /* for the calling thread */
	uint32_t n_chunks;            /* that begin before data */
	uint32_t mem_next GUARDED;    /* chunks of memory before it are to be done */
	uint32_t dev_next GUARDED;    /* chunks on the device from it on are */
	unsigned busy GUARDED;        /* chunks being decoded */
	unsigned in_flight GUARDED;   /* fetches */
	unsigned queued GUARDED;      /* helpers in the queue or running */
	struct list idle GUARDED;     /* fbufs without a fetch */
	struct list ready GUARDED;    /* fetched, to be decoded */
	int err GUARDED;
	int cpu;                      /* of the calling thread, at the start */
	unsigned n_helpers;
	struct helper helpers[HELPERS_MAX];
};

static bool is_set(const uint8_t *bits, uint32_t i)
{
	return bits[i / 8] >> (i % 8) & 1;
}

/* ---- one chunk ------------------------------------------------------------ */

static int through_window(struct job *j, uint32_t chunk)
{
	const struct object_chunk *c = &j->src->obj->chunks[chunk];
	uint64_t n = j->data - c->off_bytes < c->len_bytes ? j->data - c->off_bytes : c->len_bytes;

	return reader_copy(j->r, j->src, c->off_bytes, j->dst + c->off_bytes, (size_t)n);
}

static bool sticks_out(const struct job *j, uint32_t chunk)
{
	const struct object_chunk *c = &j->src->obj->chunks[chunk];

	return c->off_bytes + c->len_bytes > j->data;
}

static void put_off(struct job *j, uint32_t chunk)
{
	lock_acquire(&j->lock);
	j->last[chunk / 8] |= (uint8_t)(1 << chunk % 8);
	lock_release(&j->lock);
}

static int decode_memory(struct job *j, uint32_t chunk)
{
	const struct object *o = j->src->obj;
	const struct object_chunk *c = &o->chunks[chunk];
	unsigned n;
	int err;

	if (sticks_out(j, chunk)) {
		put_off(j, chunk);
		return 0;
	}
	if (o->layers[c->first_layer].codec == CODEC_HOLE) {
		memset(j->dst + c->off_bytes, 0, c->len_bytes);
		return 0;
	}
	n = fetch_layers(o, chunk, j->src->n_layers);
	err = fetch_decode_replica(j->r, o, j->src->rep, chunk, n, n, NULL, j->dst + c->off_bytes,
				   c->off_bytes < WARM_BYTES ? 0 : CODEC_DECODE_STREAM);
	if (err)
		put_off(j, chunk);
	return 0;
}

/* What the device brought, with what the replica has of the chunk. */
static int decode_fetched(struct job *j, struct fbuf *f)
{
	const struct object *o = j->src->obj;
	unsigned n = fetch_layers(o, f->chunk, j->src->n_layers);
	uint8_t *dst = j->dst + o->chunks[f->chunk].off_bytes;

	if (!f->first)
		return fetch_decode(j->r, o, f->chunk, n, f->in, dst, CODEC_DECODE_STREAM);
	if (fetch_decode_replica(j->r, o, j->src->rep, f->chunk, f->first, n, f->in, dst,
				 CODEC_DECODE_STREAM))
		put_off(j, f->chunk);
	return 0;
}

/* ---- what to do next ------------------------------------------------------ */

static bool stopped(struct job *j) REQUIRES(j->lock)
{
	if (!j->err && j->pace.cancel &&
	    atomic_load_explicit(j->pace.cancel, memory_order_relaxed))
		j->err = -KVFS_ECANCELED;
	return j->err != 0;
}

static void note(struct job *j, int err) REQUIRES(j->lock)
{
	if (err && !j->err)
		j->err = err;
}

static bool next_on_device(const struct job *j, uint32_t *at)
{
	while (*at < j->n_chunks && !is_set(j->on_device, *at))
		++*at;
	return *at < j->n_chunks;
}

/* The chunk in front of *@at is the next one. */
static bool next_in_memory(const struct job *j, uint32_t *at)
{
	while (*at > 0 && is_set(j->on_device, *at - 1))
		--*at;
	return *at > 0;
}

static void wake_helper(struct job *j) REQUIRES(j->lock)
{
	for (unsigned i = 0; i < j->n_helpers; i++) {
		if (j->helpers[i].queued)
			continue;
		j->helpers[i].queued = true;
		j->queued++;
		/* under job.lock, which the workers never take: a leaf */
		workers_submit(j->r->cfg.workers, WORK_READ, &j->helpers[i].work);
		return;
	}
}

static void fetched(struct fbuf *f)
{
	struct job *j = f->owner;
	int err = atomic_load(&f->err);

	lock_acquire(&j->lock);
	j->in_flight--;
	note(j, err);
	list_add_tail(err ? &j->idle : &j->ready, &f->p.link);
	if (!list_empty(&j->ready) && j->ready.next != j->ready.prev)
		wake_helper(j); /* more than the calling thread can take now */
	cond_signal(&j->cond);
	lock_release(&j->lock);
}

/* Keeps the device busy; gives the lock up meanwhile. */
static void submit(struct job *j) REQUIRES(j->lock)
{
	while (!stopped(j) && !list_empty(&j->idle) && next_on_device(j, &j->dev_next)) {
		struct fbuf *f = container_of(j->idle.next, struct fbuf, p.link);
		uint32_t chunk = j->dev_next++;
		unsigned n = fetch_layers(j->src->obj, chunk, j->src->n_layers), codec, first;

		list_del(&f->p.link);
		j->in_flight++;
		lock_release(&j->lock);
		f->ready = fetched;
		f->owner = j;
		first = fetch_in_memory(j->src->rep, j->src->obj, chunk, n, &codec);
		/* found in memory only now: the buffer is there, and so is the object */
		fetch_start(j->r, f, j->src->obj, chunk, first < n ? first : 0, n);
		lock_acquire(&j->lock);
	}
}

/* Decodes one chunk if there is one. False: nothing to do now. */
static bool step(struct job *j) REQUIRES(j->lock)
{
	int err = 0;

	submit(j);
	if (stopped(j))
		return false;
	if (!list_empty(&j->ready)) {
		struct fbuf *f = container_of(j->ready.next, struct fbuf, p.link);

		list_del(&f->p.link);
		j->busy++;
		lock_release(&j->lock);
		err = decode_fetched(j, f);
		lock_acquire(&j->lock);
		list_add_head(&j->idle, &f->p.link);
	} else if (next_in_memory(j, &j->mem_next)) {
		uint32_t chunk = --j->mem_next;

		j->busy++;
		lock_release(&j->lock);
		err = decode_memory(j, chunk);
		lock_acquire(&j->lock);
	} else {
		return false;
	}
	j->busy--;
	note(j, err);
	if (!j->busy && !j->in_flight)
		cond_signal(&j->cond);
	return true;
}

static void help(struct work *work)
{
	struct helper *h = container_of(work, struct helper, work);
	struct job *j = h->job;

	thread_leave_cpu(j->cpu);
	lock_acquire(&j->lock);
	if (step(j) && (!list_empty(&j->ready) || next_in_memory(j, &j->mem_next))) {
		workers_submit(j->r->cfg.workers, WORK_READ, work); /* behind others */
	} else {
		h->queued = false;
		j->queued--;
	}
	/* With queued and busy 0 the job is gone as soon as the lock is free. */
	cond_signal(&j->cond);
	lock_release(&j->lock);
}

/* ---- beginning and end ----------------------------------------------------- */

/* Which chunks come from the device, and buffers for them. */
static int plan(struct job *j) NO_TSA
{
	const struct object *o = j->src->obj;
	size_t most = 0;
	uint32_t n = 0;

	j->on_device = mem_zalloc(o->n_chunks / 8 + 1);
	j->last = mem_zalloc(o->n_chunks / 8 + 1);
	if (!j->on_device || !j->last)
		return -ENOMEM;
	for (uint32_t c = 0; c < o->n_chunks && o->chunks[c].off_bytes < j->data; c++) {
		unsigned want = fetch_layers(o, c, j->src->n_layers), codec;
		size_t len;

		j->n_chunks = c + 1;
		if (o->layers[o->chunks[c].first_layer].codec == CODEC_HOLE || sticks_out(j, c) ||
		    fetch_in_memory(j->src->rep, o, c, want, &codec) == want)
			continue;
		j->on_device[c / 8] |= (uint8_t)(1 << c % 8);
		len = fetch_bytes(o, c, 0, want);
		most = most < len ? len : most;
		n++;
	}
	j->mem_next = j->n_chunks;
	for (unsigned i = 0; i < n && i < (j->pace.alone ? DEPTH_ALONE : DEPTH); i++) {
		struct fbuf *f = window_fbuf_get(&j->r->w, most, i == 0);

		if (!f && i == 0)
			return -ENOMEM;
		if (!f)
			break;
		list_add_tail(&j->idle, &f->p.link);
	}
	return 0;
}

static int run(struct job *j)
{
	int err;

	lock_acquire(&j->lock);
	submit(j);
	for (unsigned i = 0; i < j->n_helpers; i++)
		wake_helper(j);
	for (;;) {
		if (step(j))
			continue;
		if (!j->busy && !j->in_flight && list_empty(&j->ready))
			break;
		if (stopped(j) && !j->busy && !j->in_flight)
			break;
		cond_wait(&j->cond, &j->lock);
	}
	/* Helpers that did not get their turn are taken back, others awaited. */
	for (unsigned i = 0; i < j->n_helpers; i++) {
		if (j->helpers[i].queued &&
		    workers_cancel(j->r->cfg.workers, &j->helpers[i].work)) {
			j->helpers[i].queued = false;
			j->queued--;
		}
	}
	while (j->queued || j->busy)
		cond_wait(&j->cond, &j->lock);
	err = j->err;
	lock_release(&j->lock);
	return err;
}

/* Nothing runs any more. */
static void give_back(struct job *j) NO_TSA
{
	struct list *lists[] = { &j->idle, &j->ready };

	for (unsigned i = 0; i < 2; i++) {
		while (!list_empty(lists[i])) {
			struct fbuf *f = container_of(lists[i]->next, struct fbuf, p.link);

			list_del(&f->p.link);
			window_fbuf_put(&j->r->w, f);
		}
	}
}

static int run_last(struct job *j) NO_TSA
{
	int err = 0;

	for (uint32_t c = 0; c < j->n_chunks && !err; c++)
		if (is_set(j->last, c))
			err = through_window(j, c);
	return err;
}

static void job_fini(struct job *j) NO_TSA
{
	give_back(j);
	mem_free(j->on_device);
	mem_free(j->last);
	cond_fini(&j->cond);
	lock_fini(&j->lock);
	mem_free(j);
}

static struct job *job_create(struct reader *r, const struct read_source *src, void *dst,
			      uint64_t size, const struct read_pace *pace) NO_TSA
{
	struct job *j = mem_zalloc(sizeof(*j));
	uint64_t data = src->obj->logical_bytes;

	if (!j)
		return NULL;
	data = src->valid_bytes < data ? src->valid_bytes : data;
	j->r = r;
	j->src = src;
	j->dst = dst;
	j->size = size;
	j->data = data < size ? data : size;
	if (pace)
		j->pace = *pace;
	j->cpu = sched_getcpu();
	lock_init(&j->lock);
	cond_init(&j->cond);
	list_init(&j->idle);
	list_init(&j->ready);
	j->n_helpers = j->pace.alone ? 0 : workers_threads(r->cfg.workers);
	j->n_helpers = j->n_helpers < HELPERS_MAX ? j->n_helpers : HELPERS_MAX;
	for (unsigned i = 0; i < j->n_helpers; i++) {
		j->helpers[i].job = j;
		j->helpers[i].work.run = help;
	}
	return j;
}

/* Of the first chunk that says so; one file is mostly of one codec. */
static void note_rate(struct job *j, uint64_t ns) NO_TSA
{
	const struct object *o = j->src->obj;
	bool memory = true;
	unsigned codec = CODEC_HOLE;

	for (uint32_t c = 0; c < j->n_chunks; c++) {
		struct replica_form form;
		unsigned now = o->layers[o->chunks[c].first_layer].codec;

		memory &= !is_set(j->on_device, c);
		if (now == CODEC_HOLE || now == CODEC_RAW || codec > CODEC_ZSTD)
			continue;
		codec = j->src->rep && replica_find(j->src->rep, c, &form) ? form.codec : now;
	}
	rates_decoded_open(j->r->cfg.rates, codec, j->src->n_layers, j->data, ns, memory);
}

int reader_decode_all(struct reader *r, const struct read_source *src, void *dst, uint64_t size,
		      const struct read_pace *pace)
{
	struct job *j = job_create(r, src, dst, size, pace);
	uint64_t start = clock_mono_ns();
	int err;

	if (!j)
		return -ENOMEM;
	err = plan(j);
	if (!err)
		err = run(j);
	if (!err && r->cfg.rates && !j->pace.alone)
		note_rate(j, clock_mono_ns() - start);
	give_back(j);
	if (!err)
		err = run_last(j);
	if (!err && size > j->data)
		memset(j->dst + j->data, 0, (size_t)(size - j->data));
	job_fini(j);
	return err;
}
