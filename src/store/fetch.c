/* SPDX-License-Identifier: MIT */
/*
 * Fetching, verifying, decoding, and who does it.
 *
 * Happy path of a chunk on SSD: load_start submits the reads -> the tier's thread
 * calls read_done -> when the reader already sleeps on the slot it is woken to
 * decode itself (its cache then holds what it replies with); else decoding is
 * queued to the workers, from where a reader that arrives takes it back. A
 * chunk of the replica is decoded by the reader at once, or queued; one of which the
 * replica has too few layers is fetched from there on.
 *
 * A reader that waits runs other queued reading work meanwhile, so that with
 * every thread waiting something still moves.
 *
 * Failure modes: a failed or short read, a wrong sum, bytes that do not decode:
 * the slot is FAILED and every waiter gets the code.
 */
#include "store/fetch.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/units.h"
#include "store/object_format.h"
#include "store/read_types.h"

/* ---- fetching ------------------------------------------------------------- */

unsigned fetch_layers(const struct object *o, uint32_t chunk, unsigned n_layers)
{
	unsigned have = o->chunks[chunk].n_layers;

	return have < n_layers ? have : n_layers;
}

static const struct object_layer *layer_of(const struct object *o, uint32_t chunk, unsigned layer)
{
	return &o->layers[o->chunks[chunk].first_layer + layer];
}

static uint64_t range_start(const struct object_layer *l)
{
	return round_down_u64(l->off_bytes, KVFS_PAGE);
}

static size_t range_len(const struct object_layer *l)
{
	return (size_t)(round_up_u64(l->off_bytes + l->len_bytes, KVFS_PAGE) - range_start(l));
}

/* All layers but the first have the same bytes in both forms of a layered codec. */
unsigned fetch_in_memory(const struct replica *rep, const struct object *o, uint32_t chunk,
			 unsigned n_layers, unsigned *ret_codec)
{
	struct replica_form form;

	if (!rep || !replica_find(rep, chunk, &form))
		return 0;
	if (form.n < n_layers && codec_by_id(form.codec)->layers < 2)
		return 0;
	*ret_codec = form.codec;
	return form.n < n_layers ? form.n : n_layers;
}

size_t fetch_bytes(const struct object *o, uint32_t chunk, unsigned first, unsigned n_layers)
{
	size_t sum = 0;

	for (unsigned i = first; i < n_layers; i++)
		sum += range_len(layer_of(o, chunk, i));
	return sum ? sum : KVFS_PAGE;
}

static void fbuf_error(struct fbuf *f, int err)
{
	int none = 0;

	(void)atomic_compare_exchange_strong(&f->err, &none, err); /* the first one stays */
}

static void fbuf_put(struct fbuf *f)
{
	if (atomic_fetch_sub(&f->pending, 1) == 1)
		f->ready(f);
}

static void read_done(struct tier_read *rd, ssize_t res)
{
	struct fetch_read *fr = container_of(rd, struct fetch_read, rd);

	if (res < 0)
		fbuf_error(fr->f, (int)res);
	else if ((size_t)res < fr->need)
		fbuf_error(fr->f, -KVFS_ETRUNCATED);
	fbuf_put(fr->f);
}

void fetch_start(struct reader *r, struct fbuf *f, const struct object *o, uint32_t chunk,
		 unsigned first, unsigned n_layers)
{
	size_t at = 0;

	f->chunk = chunk;
	f->first = first;
	atomic_store(&f->pending, 1);
	atomic_store(&f->err, 0);
	for (unsigned i = first; i < n_layers; i++) {
		const struct object_layer *l = layer_of(o, chunk, i);
		struct fetch_read *fr = &f->reads[i];
		size_t skip = (size_t)(l->off_bytes - range_start(l));
		int err;

		f->in[i] = (struct codec_in) { .buf = f->p.p + at + skip, .len = l->len_bytes };
		if (!l->len_bytes)
			continue;
		fr->f = f;
		fr->need = skip + l->len_bytes;
		fr->rd.fd = o->fd;
		fr->rd.off_bytes = range_start(l);
		fr->rd.buf = f->p.p + at;
		fr->rd.len = range_len(l);
		fr->rd.done = read_done;
		at += fr->rd.len;
		assert(at <= f->p.cap_bytes);
		atomic_fetch_add(&f->pending, 1);
		atomic_fetch_add_explicit(&r->fetches, 1, memory_order_relaxed);
		atomic_fetch_add_explicit(&r->fetched_bytes, fr->rd.len, memory_order_relaxed);
		err = tier_submit(r->cfg.ssd, &fr->rd);
		if (err) {
			fbuf_error(f, err);
			atomic_fetch_sub(&f->pending, 1);
			break;
		}
	}
	fbuf_put(f);
}

/* ---- decoding ------------------------------------------------------------- */

static void note_decode(struct reader *r, size_t bytes, uint64_t ns)
{
	double now = (double)bytes * (double)NSEC_PER_SEC / (double)(ns ? ns : 1);
	double old = atomic_load_explicit(&r->decode_Bps, memory_order_relaxed);

	/* a lost update of a racing thread only blunts the average */
	atomic_store_explicit(&r->decode_Bps, old > 0 ? old + (now - old) / 16 : now,
			      memory_order_relaxed);
	atomic_fetch_add_explicit(&r->decodes, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&r->decoded_bytes, bytes, memory_order_relaxed);
}

static int decode(struct reader *r, const struct object_chunk *c, unsigned codec,
		  const struct codec_in in[], unsigned n_in, void *dst, unsigned flags,
		  uint64_t start_ns)
{
	struct codec_ctx *cc = codec_pool_get(&r->codecs);
	int err = codec_decode(cc, codec, &c->shape, in, n_in, dst, c->len_bytes, flags);
	uint64_t ns;

	codec_pool_put(&r->codecs, cc);
	if (err)
		return err;
	ns = clock_mono_ns() - start_ns;
	note_decode(r, c->len_bytes, ns);
	if (r->cfg.rates)
		rates_decoded(r->cfg.rates, codec, n_in, c->len_bytes, ns);
	return 0;
}

static int bad_sum(struct reader *r, int err)
{
	atomic_fetch_add_explicit(&r->checksum_errors, 1, memory_order_relaxed);
	return err;
}

static int check_layers(struct reader *r, const struct object *o, uint32_t chunk, unsigned first,
			unsigned n_layers, const struct codec_in in[])
{
	for (unsigned i = first; i < n_layers; i++) {
		int err = object_check(o, chunk, i, in[i].buf, in[i].len);

		if (err)
			return bad_sum(r, err);
	}
	return 0;
}

int fetch_decode(struct reader *r, const struct object *o, uint32_t chunk, unsigned n_layers,
		 const struct codec_in in[], void *dst, unsigned flags)
{
	uint64_t start = clock_mono_ns();
	int err = check_layers(r, o, chunk, 0, n_layers, in);

	if (err)
		return err;
	return decode(r, &o->chunks[chunk], layer_of(o, chunk, 0)->codec, in, n_layers, dst, flags,
		      start);
}

int fetch_decode_replica(struct reader *r, const struct object *o, struct replica *rep,
			 uint32_t chunk, unsigned first, unsigned n_layers,
			 const struct codec_in in[], void *dst, unsigned flags)
{
	uint64_t start = clock_mono_ns();
	struct replica_form form;
	int err;

	if (!replica_find(rep, chunk, &form) || form.n < first)
		return -KVFS_ECHECKSUM; /* found damaged since it was looked up */
	err = check_layers(r, o, chunk, first, n_layers, in);
	if (err)
		return err; /* the object's, as the next one to try finds too */
	for (unsigned i = first; i < n_layers; i++)
		form.in[i] = in[i];
	err = replica_check(rep, chunk, &form, first);
	if (err)
		err = bad_sum(r, err);
	else
		err = decode(r, &o->chunks[chunk], form.codec, form.in, n_layers, dst, flags, start);
	if (err && err != -ENOMEM)
		replica_bad(rep, chunk);
	return err;
}

/* ---- loads ---------------------------------------------------------------- */

/* The calling thread decodes a slot in PHASE_DECODE. */
static void load_decode(struct reader *r, struct slot *s)
{
	struct object *o = s->obj;
	struct replica *rep = s->rep;
	int err;

	if (rep)
		err = fetch_decode_replica(r, o, rep, s->chunk, s->first, s->n_layers,
					   s->fb ? s->fb->in : NULL, s->buf->p, 0);
	else
		err = fetch_decode(r, o, s->chunk, s->n_layers, s->fb->in, s->buf->p, 0);
	lock_acquire(&r->w.lock);
	window_loaded_locked(&r->w, s, err);
	lock_release(&r->w.lock);
	object_put(o);
	replica_put(rep);
}

static void load_run(struct work *work)
{
	struct slot *s = container_of(work, struct slot, work);
	struct reader *r = s->reader;

	lock_acquire(&r->w.lock);
	assert(s->state == SLOT_LOADING && s->phase == PHASE_QUEUED);
	s->phase = PHASE_DECODE;
	lock_release(&r->w.lock);
	load_decode(r, s);
}

/* Submitting under the window's lock closes the gap in which a reader would
 * find the slot QUEUED and nothing to take back; the workers' lock is a leaf. */
static void queue_locked(struct reader *r, struct slot *s) REQUIRES(r->w.lock)
{
	s->phase = PHASE_QUEUED;
	s->work.run = load_run;
	workers_submit(r->cfg.workers, WORK_READ, &s->work);
}

static void load_fetched(struct fbuf *f)
{
	struct slot *s = f->owner;
	struct reader *r = s->reader;
	int err = atomic_load(&f->err);
	struct replica *rep = NULL;
	struct object *o = NULL;

	lock_acquire(&r->w.lock);
	if (err) {
		o = s->obj;
		rep = s->rep;
		window_loaded_locked(&r->w, s, err);
	} else if (s->sleepers) {
		s->phase = PHASE_CLAIMABLE;
		cond_broadcast(&s->cond);
	} else {
		queue_locked(r, s);
	}
	lock_release(&r->w.lock);
	object_put(o);
	replica_put(rep);
}

void load_start(struct reader *r, struct slot *s, const struct object *o, struct replica *rep,
		unsigned first, bool here)
{
	struct object *held = object_get((struct object *)o);

	s->of_rep = first > 0;
	s->first = first;
	if (first < s->n_layers) {
		s->obj = held;
		s->rep = first ? replica_get(rep) : NULL;
		s->fb->ready = load_fetched;
		s->fb->owner = s;
		fetch_start(r, s->fb, o, s->chunk, first, s->n_layers);
		return;
	}
	lock_acquire(&r->w.lock);
	s->obj = held;
	s->rep = replica_get(rep);
	if (here)
		s->phase = PHASE_DECODE;
	else
		queue_locked(r, s);
	lock_release(&r->w.lock);
	if (here)
		load_decode(r, s);
}

int load_wait(struct reader *r, struct slot *s, bool *ret_of_rep)
{
	struct window *w = &r->w;
	bool nothing_to_help = false;
	int err;

	lock_acquire(&w->lock);
	while (s->state == SLOT_LOADING) {
		/* QUEUED and not in the queue: another thread is about to run it. */
		if (s->phase == PHASE_CLAIMABLE ||
		    (s->phase == PHASE_QUEUED && workers_cancel(r->cfg.workers, &s->work))) {
			s->phase = PHASE_DECODE;
			lock_release(&w->lock);
			load_decode(r, s);
			lock_acquire(&w->lock);
		} else if (!nothing_to_help) {
			lock_release(&w->lock);
			nothing_to_help = !workers_run_one(r->cfg.workers, false);
			lock_acquire(&w->lock);
		} else {
			s->sleepers++;
			cond_wait(&s->cond, &w->lock);
			s->sleepers--;
			nothing_to_help = false;
		}
	}
	err = s->state == SLOT_READY ? 0 : s->err;
	*ret_of_rep = err && s->of_rep;
	if (err)
		window_unpin_locked(w, s);
	lock_release(&w->lock);
	return err;
}
