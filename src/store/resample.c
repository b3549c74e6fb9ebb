/* SPDX-License-Identifier: MIT */
/*
 * One file at a time, one chunk at a time: it is fetched with all its layers once and decoded
 * at each level. Nothing is held between that a reader would wait for; the object may be
 * replaced meanwhile, and then the sample is of no use.
 */
#include "store/resample.h"

#include <errno.h>
#include <float.h>
#include <math.h>

#include "base/mem.h"
#include "store/adapt.h"
#include "store/estimate.h"
#include "store/level.h"

struct resample {
	struct work work;
	struct store *st;
	uint64_t ino;
	_Atomic bool *busy; /* borrowed */

	struct object *obj; /* one reference */
	float errors[CODEC_LAYERS_MAX]; /* of the sample */
	struct layout_chunk *chunks;
	struct estimate *est;
	struct codec_ctx *codec;
	uint8_t *buf;
	uint64_t buf_bytes, counted;
	uint64_t uses; /* of the mount, when it was idle */
	uint32_t chunk; /* being sampled */
};

void resample_load(struct ctx *c)
{
	struct object *o = c->obj;
	struct meta_rec rec;

	if (o->n_layers_max < 2 || meta_get(c->st->meta, c->ino, &rec) < 0 ||
	    rec.sample.object != object_mark(&o->id) || rec.sample.n <= o->n_samples)
		return;
	for (unsigned i = 0; i + 1 < o->n_layers_max; i++)
		o->errors[i] = rec.sample.errors[i];
	o->n_samples = rec.sample.n;
}

bool resample_wanted(struct store *st, uint64_t ino)
{
	struct meta_rec rec;

	return meta_get(st->meta, ino, &rec) == 0 && (rec.flags & META_SEALED) &&
	       !(rec.flags & META_DAMAGED) && rec.sample.n < ESTIMATE_SAMPLES;
}

/* ---- the sample -------------------------------------------------------------- */

static int take_levels(void *arg, unsigned codec, const struct codec_in in[], unsigned n)
{
	struct resample *s = arg;
	const struct object_chunk *ch = &s->obj->chunks[s->chunk];
	int r = 0;

	for (unsigned l = 0; l < s->obj->n_layers_max && r == 0; l++) {
		if (l < n)
			r = codec_decode(s->codec, codec, &ch->shape, in, l + 1, s->buf,
					 ch->len_bytes, 0);
		if (r == 0)
			estimate_take(s->est, s->chunk, l, s->buf);
	}
	return r;
}

static bool used(const struct resample *s)
{
	return atomic_load(&s->st->stopping) || store_uses(s->st) != s->uses;
}

static int sample(struct resample *s)
{
	int r = 0;

	for (uint32_t i = 0; i < s->obj->n_chunks && r == 0; i++) {
		if (!estimate_wants(s->est, i))
			continue;
		if (used(s))
			return -KVFS_ECANCELED;
		s->chunk = i;
		if (s->obj->layers[s->obj->chunks[i].first_layer].codec == CODEC_HOLE)
			continue; /* zeros, as the sample begins */
		r = reader_stored(s->st->reader, s->obj, i, 0, s->obj->n_layers_max, take_levels, s);
	}
	if (r == 0)
		estimate_errors(s->est, s->errors);
	return r;
}

/* ---- memory ------------------------------------------------------------------- */

/* Nothing goes for it but what was decoded for readers who are gone. */
static int count(struct resample *s, uint64_t bytes)
{
	int r = budget_take(&s->st->dram, BUDGET_BUFFER, bytes);

	if (r < 0) {
		reader_shrink(s->st->reader, bytes);
		r = budget_take(&s->st->dram, BUDGET_BUFFER, bytes);
	}
	s->counted += r == 0 ? bytes : 0;
	return r;
}

static int prepare(struct resample *s)
{
	const struct object *o = s->obj;
	uint64_t bytes;
	int r;

	s->buf_bytes = object_chunk_max(o);
	r = count(s, s->buf_bytes + o->n_chunks * sizeof(*s->chunks) + codec_ctx_bytes_decoding());
	if (r < 0)
		return r;
	s->chunks = mem_calloc(o->n_chunks, sizeof(*s->chunks));
	s->buf = mem_alloc_pages(s->buf_bytes);
	if (!s->chunks || !s->buf)
		return -ENOMEM;
	for (uint32_t i = 0; i < o->n_chunks; i++)
		s->chunks[i] = (struct layout_chunk){ o->chunks[i].off_bytes, o->chunks[i].len_bytes,
						      o->chunks[i].shape };
	r = estimate_create(o->layout, s->chunks, o->n_chunks, o->n_layers_max, o->n_samples, &bytes,
			    &s->est);
	if (r == 0)
		r = count(s, bytes);
	return r < 0 ? r : codec_ctx_create(CODEC_SIMD_BEST, &s->codec);
}

static void fini(struct resample *s)
{
	estimate_destroy(s->est);
	codec_ctx_destroy(s->codec);
	mem_free_pages(s->buf, s->buf_bytes);
	mem_free(s->chunks);
	object_put(s->obj);
	budget_give(&s->st->dram, BUDGET_BUFFER, s->counted);
}

/* ---- from the file and back ------------------------------------------------------- */

/* For a look or a short change; never waits for whoever uses the file. */
static bool enter(struct ctx *c)
{
	bool gone;

	if (!gate_try(&c->gate, true))
		return false;
	lock_acquire(&c->lock);
	gone = c->unlinked;
	lock_release(&c->lock);
	if (gone)
		gate_leave(&c->gate, true);
	return !gone;
}

/* All its layers have to be there: what exact is, is needed. */
static int begin(struct resample *s, struct ctx *c, struct node *n)
{
	int r;

	if (!enter(c))
		return -EBUSY;
	r = ctx_load_locked(c, n);
	if (r == 0)
		r = ctx_object_locked(c);
	if (r == 0 && (c->state != CTX_SEALED || !c->obj || c->obj->n_layers_max < 2 ||
		       level_lossy(c) || c->obj->n_samples >= ESTIMATE_SAMPLES))
		r = -EINVAL;
	if (r == 0)
		s->obj = object_get(c->obj);
	gate_leave(&c->gate, true);
	return r;
}

/* Where no sample is to be had, none is tried again. */
static void end(struct resample *s, struct ctx *c, struct node *n, bool none)
{
	struct object *o = s->obj;
	struct meta_sample now = { .object = object_mark(&o->id), .n = ESTIMATE_SAMPLES };

	if (!enter(c))
		return;
	if (c->obj == o) {
		now.n = none ? ESTIMATE_SAMPLES : o->n_samples + 1;
		for (unsigned i = 0; i + 1 < o->n_layers_max; i++) {
			if (!none) /* 0 would say that it is not known */
				o->errors[i] = fmaxf((o->errors[i] * (float)o->n_samples + s->errors[i]) /
							     (float)now.n, FLT_MIN);
			now.errors[i] = o->errors[i];
		}
		o->n_samples = now.n;
		index_sampled(c, &now);
		store_count(c->st, CNT_RESAMPLED, !none);
		adapt_seen(c, n);
	}
	gate_leave(&c->gate, true);
}

static void one(struct resample *s, struct ctx *c, struct node *n)
{
	int r;

	ctx_work_begin(c); /* keeps the object */
	r = begin(s, c, n);
	if (r == 0) {
		r = prepare(s);
		if (r == 0)
			r = sample(s);
		if (r == 0 || r == -ENODATA)
			end(s, c, n, r < 0);
	}
	err_ignore(damage_found(c, n, r)); /* anything else: at another time, or not at all */
	ctx_work_end(c);
	if (c->cut_due)
		level_settle(c, n);
}

static void run(struct work *w)
{
	struct resample *s = container_of(w, struct resample, work);
	struct node *n = index_find(s->st, s->ino);
	struct ctx *c;

	if (n && !used(s) && ctx_get(s->st, s->ino, true, &c) == 0) {
		one(s, c, n);
		ctx_put(c);
	}
	if (n)
		node_forget(s->st->nodes, n, 1);
	fini(s);
	atomic_store(s->busy, false);
	atomic_fetch_sub(&s->st->moves, 1);
	mem_free(s);
}

bool resample_start(struct store *st, uint64_t ino, uint64_t uses, _Atomic bool *busy)
{
	struct resample *s = mem_zalloc(sizeof(*s));

	if (!s)
		return false;
	*s = (struct resample){ .st = st, .ino = ino, .uses = uses, .busy = busy };
	s->work.run = run;
	list_init(&s->work.link);
	atomic_store(busy, true);
	atomic_fetch_add(&st->moves, 1);
	workers_submit(st->workers, WORK_BACKGROUND, &s->work);
	return true;
}
