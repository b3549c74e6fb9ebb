/* SPDX-License-Identifier: MIT */
/*
 * Replicas: room for one chunk more, those that a seal makes on its way, and filling one
 * from the object. The chunks of a replica that gets more layers keep those they have, and
 * only the others are fetched.
 */
#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "store/adapt.h"
#include "store/fetch.h"
#include "store/level.h"
#include "store/seal.h"
#include "store/seal_enc.h"

int replica_add_room(struct store *st, struct replica *r, const struct ctx *keep, uint32_t chunk,
		     unsigned codec, const struct codec_in in[], unsigned n)
{
	int e = replica_add_layers(r, chunk, codec, in, n);
	size_t len = 0;

	for (unsigned i = 0; i < n; i++)
		len += in[i].len;
	if (e == -KVFS_EBUDGET && space_dram(st, replica_wants(r, len) + (64u << 10), keep))
		e = replica_add_layers(r, chunk, codec, in, n);
	return e == -EEXIST ? 0 : e;
}

/* What a replica needs of an object: identity and, filled in by the caller, chunks.
 * It has no descriptor, of which there are fewer than replicas. */
static int object_bare(struct budget *b, const struct object_id *id, uint32_t n,
		       struct object **ret)
{
	size_t bytes = sizeof(struct object) +
		       n * (sizeof(struct object_chunk) + sizeof(struct object_layer));
	struct object *o;
	int r = budget_take(b, BUDGET_TABLE, bytes);

	if (r < 0)
		return r;
	o = mem_zalloc(sizeof(*o));
	if (!o) {
		budget_give(b, BUDGET_TABLE, bytes);
		return -ENOMEM;
	}
	o->refs = 1;
	o->fd = -1;
	o->budget = b;
	o->table_bytes = bytes;
	o->chunks = mem_calloc(n, sizeof(*o->chunks));
	o->layers = mem_calloc(n, sizeof(*o->layers));
	if (!o->chunks || !o->layers) {
		object_put(o);
		return -ENOMEM;
	}
	o->id = *id;
	o->n_chunks = n;
	for (uint32_t i = 0; i < n; i++) {
		o->chunks[i].first_layer = i;
		o->chunks[i].n_layers = 1;
		o->layers[i].codec = CODEC_RAW; /* anything but a hole */
	}
	*ret = o;
	return 0;
}

/* More than the tables of nearly every replica. */
#define TABLES_ROOM (1ull << 20)

void seal_replica_begin(struct ctx *c, struct replica **ret, const struct object_id *id,
			const struct layout_chunk *chunks, uint32_t n)
{
	struct store *st = c->st;
	struct object *o;

	*ret = NULL;
	/* others that are in memory may earn more: the policy decides when it is sealed */
	if (st->adapt && n > 0 && budget_free(&st->dram) < chunks[n - 1].off_bytes)
		return;
	if (budget_free(&st->dram) < TABLES_ROOM)
		(void)space_dram(st, TABLES_ROOM, c); /* as far as it goes */
	if (object_bare(&st->dram, id, n, &o) < 0)
		return;
	for (uint32_t i = 0; i < n; i++) {
		o->chunks[i].off_bytes = chunks[i].off_bytes;
		o->chunks[i].len_bytes = chunks[i].len_bytes;
		o->chunks[i].shape = chunks[i].shape;
	}
	if (replica_create(st->arena, o, ret) < 0)
		*ret = NULL;
	object_put(o);
}

/* ---- filling ---------------------------------------------------------------- */

struct fill {
	struct ctx *c;
	struct replica *rep;
	struct replica *less;    /* the one before, when its layers are the first of it; or NULL */
	struct codec_ctx *codec; /* not of the reader's pool, which reading may have to wait for */
	uint8_t *raw, *enc;
	size_t raw_bytes, enc_bytes;
	uint64_t counted;        /* of the memory budget, for these */
	unsigned layers;         /* that it shall have; 0: what readers get */
	enum cost_packing packing;
	bool gives_way;          /* ends when the file is opened */
};

/* What readers of one chunk decode, into f->raw and from there into f->rep. */
static int fill_decoded(struct fill *f, const struct object *o, uint32_t i)
{
	const struct object_chunk *ch = &o->chunks[i];
	const struct object_layer *layer = &o->layers[ch->first_layer];
	struct codec_out out = { f->enc, f->enc_bytes, 0 };
	uint64_t start = clock_mono_ns();
	struct codec_in in;
	unsigned n;
	uint16_t id;
	int r = codec_encode_best(f->codec, CODEC_FORM_DRAM, &ch->shape, f->raw, ch->len_bytes,
				  &out, &id, &n);

	if (r == 0) {
		enum cost_packing pack;
		enum cost_class class = rates_class(layer->codec, &pack);

		rates_recoded(&f->c->st->rates, ch->len_bytes, clock_mono_ns() - start);
		if (class != COST_CLASS_OPAQUE)
			rates_grown(&f->c->st->rates, class, layer->len_bytes, out.len);
	}
	in = (struct codec_in) { f->enc, out.len };
	return r < 0 ? r : replica_add_room(f->c->st, f->rep, f->c, i, id, &in, 1);
}

struct fill_take {
	struct fill *f;
	const struct object_chunk *ch;
	uint32_t i;
	struct replica_form have; /* layers from the replica before; n 0: none */
};

/* Layers are taken as they are: without the last one there is no original to encode. Only
 * the first has another form in DRAM, and is made into that. */
static int fill_take(void *arg, unsigned codec, const struct codec_in in[], unsigned n)
{
	const struct codec_ops *ops = codec_by_id(codec);
	struct codec_in mine[CODEC_LAYERS_MAX];
	struct fill_take *t = arg;
	struct fill *f = t->f;
	struct codec_out twin = { f->enc, f->enc_bytes, 0 };
	const struct object_chunk *ch = t->ch;
	uint64_t start = clock_mono_ns();

	memcpy(mine, t->have.in, t->have.n * sizeof(mine[0]));
	memcpy(mine + t->have.n, in + t->have.n, (n - t->have.n) * sizeof(mine[0]));
	if (t->have.n > 0) {
		codec = t->have.codec;
	} else if (f->packing == COST_PACK_DRAM && ops && ops->transcode &&
		   ops->transcode(f->codec, &ch->shape, in[0].buf, in[0].len, ch->len_bytes,
				  &twin) == 0) {
		rates_recoded(&f->c->st->rates, ch->len_bytes, clock_mono_ns() - start);
		rates_grown(&f->c->st->rates, COST_CLASS_LADDER, in[0].len, twin.len);
		mine[0] = (struct codec_in) { twin.buf, twin.len };
		codec = ops->twin;
	}
	return replica_add_room(f->c->st, f->rep, f->c, t->i, codec, mine, n);
}

/* Layers that the replica before has of it, sound; else all come from the device. */
static void fill_have(const struct fill *f, const struct object *o, struct fill_take *t)
{
	unsigned all = fetch_layers(o, t->i, replica_layers(f->rep));
	struct replica_form *have = &t->have;

	have->n = 0;
	if (f->less && replica_find(f->less, t->i, have) &&
	    (have->n >= all || codec_by_id(have->codec)->layers < 2 ||
	     replica_check(f->less, t->i, have, have->n) < 0))
		have->n = 0;
}

/* One chunk, under the gate; -KVFS_ECANCELED when the object changed. */
static int fill_chunk(struct fill *f, const struct object *o, uint32_t i)
{
	const struct object_chunk *ch = &o->chunks[i];
	struct reader *rd = f->c->st->reader;
	struct fill_take t = { .f = f, .ch = ch, .i = i };
	bool decoded = ch->n_layers == 1 && f->packing == COST_PACK_DRAM;
	struct read_source src;
	int r;

	gate_enter(&f->c->gate, false);
	if (f->c->obj != o) {
		r = -KVFS_ECANCELED;
	} else if (decoded) {
		read_source_of(f->c, &src);
		src.valid_bytes = UINT64_MAX; /* the replica is of the object, not of the file */
		r = reader_copy(rd, &src, ch->off_bytes, f->raw, ch->len_bytes);
		replica_put(src.rep);
	} else {
		fill_have(f, o, &t);
		r = reader_stored(rd, o, i, t.have.n, replica_layers(f->rep), fill_take, &t);
	}
	gate_leave(&f->c->gate, false);
	if (r == 0 && decoded)
		r = fill_decoded(f, o, i);
	return r;
}

static bool is_open(struct ctx *c)
{
	bool yes;

	lock_acquire(&c->lock);
	yes = c->opens > 0;
	lock_release(&c->lock);
	return yes;
}

static int fill_all(struct fill *f, const struct object *o)
{
	int r = 0;

	for (uint32_t i = 0; i < o->n_chunks && r == 0; i++) {
		struct replica_form form;

		if (replica_find(f->rep, i, &form))
			continue;
		if (atomic_load(&f->c->st->stopping) || (f->gives_way && is_open(f->c)))
			return -KVFS_ECANCELED;
		move_yield(f->c->st);
		r = fill_chunk(f, o, i);
	}
	return r;
}

static int replica_empty(struct store *st, const struct object *o, struct replica **ret)
{
	struct object *bare;
	int r = object_bare(&st->dram, &o->id, o->n_chunks, &bare);

	if (r < 0)
		return r;
	for (uint32_t i = 0; i < o->n_chunks; i++) {
		bare->chunks[i].off_bytes = o->chunks[i].off_bytes;
		bare->chunks[i].len_bytes = o->chunks[i].len_bytes;
		bare->chunks[i].shape = o->chunks[i].shape;
		if (o->layers[o->chunks[i].first_layer].codec == CODEC_HOLE)
			bare->layers[i].codec = CODEC_HOLE;
	}
	r = replica_create(st->arena, bare, ret);
	object_put(bare);
	return r;
}

/* Is what there is what is wanted, or a part of it? */
static bool fits(const struct fill *f, const struct ctx *c, const struct object *o, unsigned want)
	REQUIRES(c->lock)
{
	const struct replica *r = c->rep;
	unsigned have = r ? replica_layers(r) : 0;

	if (!f->layers)
		return have >= want;
	have = have < o->n_layers_max ? have : o->n_layers_max;
	return have == want && adapt_packing(r) == f->packing;
}

/* Is it the first layers of what is wanted? */
static bool is_less(const struct fill *f, const struct ctx *c, const struct object *o,
		    unsigned want) REQUIRES(c->lock)
{
	const struct replica *r = c->rep;

	return r && replica_complete(r) && o->n_layers_max > 1 && replica_layers(r) < want &&
	       adapt_packing(r) == f->packing;
}

/* The object and the replica so far (a new one when there was none). */
static int fill_begin(struct fill *f, struct object **ret_obj)
{
	struct ctx *c = f->c;
	unsigned want = 0;
	int r = 0;

	gate_enter(&c->gate, false);
	if (c->rec.state == KVFS_RECORD_PLAIN || !c->obj)
		r = -EINVAL;
	else
		*ret_obj = object_get(c->obj);
	if (r == 0)
		want = f->layers && f->layers < level_stored(c) ? f->layers :
		       f->layers			       ? level_stored(c) :
								 level_serving(c);
	/* inside the gate: behind it, the replica may be of another object */
	lock_acquire(&c->lock);
	f->rep = r == 0 && fits(f, c, *ret_obj, want) ? replica_get(c->rep) : NULL;
	if (r == 0 && !f->rep && is_less(f, c, *ret_obj, want))
		f->less = replica_get(c->rep);
	lock_release(&c->lock);
	gate_leave(&c->gate, false);
	if (r < 0)
		return r;
	if (f->rep)
		return 0;
	r = replica_empty(c->st, *ret_obj, &f->rep);
	if (r == -KVFS_EBUDGET && space_dram(c->st, TABLES_ROOM, c))
		r = replica_empty(c->st, *ret_obj, &f->rep);
	if (r < 0) {
		object_put(*ret_obj);
		replica_put(f->less);
	} else {
		replica_set_layers(f->rep, want, (*ret_obj)->n_layers_max > 1 ?
						 (*ret_obj)->level_bytes[want - 1] :
						 (*ret_obj)->logical_bytes / 4 * 3);
	}
	return r;
}

static void fill_install(struct fill *f, const struct object *o)
{
	struct ctx *c = f->c;
	struct replica *old = NULL;

	gate_enter(&c->gate, false);
	lock_acquire(&c->lock);
	if (c->obj == o && c->rep != f->rep) {
		old = c->rep;
		c->rep = replica_get(f->rep);
	}
	lock_release(&c->lock);
	gate_leave(&c->gate, false);
	replica_put(old);
	store_count(c->st, CNT_REPLICAS, 1);
	ctx_reason(c, "replica made");
	adapt_moved(c);
	move_prepare(c->st, c->size);
	ctx_touch(c, false);
}

/* Never beyond the budget: the file can be read without its replica. */
static int fill_count(struct fill *f, uint64_t bytes)
{
	struct store *st = f->c->st;
	int r = budget_take(&st->dram, BUDGET_BUFFER, bytes);

	if (r < 0 && space_dram(st, bytes, f->c))
		r = budget_take(&st->dram, BUDGET_BUFFER, bytes);
	if (r == 0)
		f->counted = bytes;
	return r;
}

static int fill_buffers(struct fill *f, const struct object *o)
{
	int r;

	f->raw_bytes = object_chunk_max(o);
	f->enc_bytes = codec_best_bound(f->raw_bytes);
	r = fill_count(f, f->raw_bytes + f->enc_bytes + codec_ctx_bytes_max());
	if (r < 0)
		return r;
	f->raw = mem_alloc_pages(f->raw_bytes);
	f->enc = mem_alloc_pages(f->enc_bytes);
	return f->raw && f->enc ? seal_codec_create(f->c->st, &f->codec) : -ENOMEM;
}

static void fill_fini(struct fill *f)
{
	codec_ctx_destroy(f->codec);
	mem_free_pages(f->raw, f->raw_bytes);
	mem_free_pages(f->enc, f->enc_bytes);
	budget_give(&f->c->st->dram, BUDGET_BUFFER, f->counted);
	replica_put(f->rep);
	replica_put(f->less);
}

static int fill_run(struct fill *given)
{
	struct fill f = *given;
	struct ctx *c = f.c;
	struct object *o;
	int r = fill_begin(&f, &o);

	if (r < 0)
		return r;
	if (replica_complete(f.rep))
		ctx_touch(c, false);
	else
		r = fill_buffers(&f, o);
	if (r == 0 && f.counted)
		r = fill_all(&f, o);
	if (r == 0 && f.counted)
		fill_install(&f, o);
	fill_fini(&f);
	object_put(o);
	return r;
}

int move_replica(struct ctx *c)
{
	return fill_run(&(struct fill){ .c = c, .packing = COST_PACK_DRAM });
}

int move_replica_as(struct ctx *c, unsigned layers, enum cost_packing packing)
{
	return fill_run(&(struct fill){
		.c = c, .layers = layers, .packing = packing, .gives_way = true });
}
