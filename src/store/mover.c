/* SPDX-License-Identifier: MIT */
/*
 * Bringing contexts to DRAM: replicas (encoded), by command, and in the background after
 * a read that found nothing in DRAM. Decoded copies: move_copy.c.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"
#include "policy/policy.h"
#include "store/adapt.h"
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

/* ---- replicas ------------------------------------------------------------- */

struct fill {
	struct ctx *c;
	struct replica *rep;
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

	memcpy(mine, in, n * sizeof(mine[0]));
	if (f->packing == COST_PACK_DRAM && ops && ops->transcode &&
	    ops->transcode(f->codec, &ch->shape, in[0].buf, in[0].len, ch->len_bytes, &twin) == 0) {
		rates_recoded(&f->c->st->rates, ch->len_bytes, clock_mono_ns() - start);
		rates_grown(&f->c->st->rates, COST_CLASS_LADDER, in[0].len, twin.len);
		mine[0] = (struct codec_in) { twin.buf, twin.len };
		codec = ops->twin;
	}
	return replica_add_room(f->c->st, f->rep, f->c, t->i, codec, mine, n);
}

/* One chunk, under the gate; -KVFS_ECANCELED when the object changed. */
static int fill_chunk(struct fill *f, const struct object *o, uint32_t i)
{
	const struct object_chunk *ch = &o->chunks[i];
	struct reader *rd = f->c->st->reader;
	struct fill_take t = { f, ch, i };
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
		r = reader_stored(rd, o, i, replica_layers(f->rep), fill_take, &t);
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

void move_yield(struct store *st)
{
	struct timespec ts = { 0, 500000 };

	for (int w = 0; w < 40 && (workers_readers(st->workers) > 0 ||
				   clock_mono_ns() < atomic_load(&st->passing_until_ns));
	     w++)
		nanosleep(&ts, NULL);
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
	lock_release(&c->lock);
	gate_leave(&c->gate, false);
	if (r < 0)
		return r;
	if (f->rep)
		return 0;
	r = replica_empty(c->st, *ret_obj, &f->rep);
	if (r == -KVFS_EBUDGET && space_dram(c->st, TABLES_ROOM, c))
		r = replica_empty(c->st, *ret_obj, &f->rep);
	if (r < 0)
		object_put(*ret_obj);
	else
		replica_set_layers(f->rep, want, (*ret_obj)->n_layers_max > 1 ?
						 (*ret_obj)->level_bytes[want - 1] :
						 (*ret_obj)->logical_bytes / 4 * 3);
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
	size_t most = 1;
	int r;

	for (uint32_t i = 0; i < o->n_chunks; i++)
		if (most < o->chunks[i].len_bytes)
			most = o->chunks[i].len_bytes;
	f->raw_bytes = most;
	f->enc_bytes = codec_best_bound(most);
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

/* ---- by command ----------------------------------------------------------- */

static int load_sealed(struct ctx *c, struct node *n)
{
	int r = ctx_enter(c);

	if (r < 0)
		return r;
	r = ctx_load_locked(c, n);
	if (r == 0 && c->rec.state == KVFS_RECORD_PLAIN)
		r = -EINVAL;
	if (r == 0)
		r = ctx_object_locked(c);
	if (r == 0)
		level_pin_locked(c, n, false); /* what it is to hold */
	gate_leave(&c->gate, true);
	return r;
}

int store_move(struct store *st, struct node *n, enum place where)
{
	struct ctx *c;
	int r;

	if (!S_ISREG(node_type(n)))
		return -EINVAL;
	r = ctx_get(st, node_ino(n), true, &c);
	if (r < 0)
		return r;
	adapt_by_hand(st, c->ino);
	lock_acquire(&c->lock);
	c->by_hand++;
	c->hand_place = where;
	c->working++;
	lock_release(&c->lock);
	if (where == PLACE_SSD) {
		space_drop_dram(c, true, true);
	} else {
		r = load_sealed(c, n);
		if (r == 0 && where == PLACE_DRAM)
			r = move_replica(c);
		if (r == 0 && where == PLACE_DRAM)
			space_drop_dram(c, false, true);
		if (r == 0 && where == PLACE_COPY) {
			gate_enter(&c->gate, false);
			r = move_copy(c, NULL);
			gate_leave(&c->gate, false);
		}
		r = damage_found(c, n, r);
	}
	ctx_work_end(c);
	if (c->cut_due)
		level_settle(c, n);
	ctx_put(c);
	return r;
}

struct promote {
	struct work work;
	struct ctx *c; /* one reference */
	struct node *n; /* one reference */
};

static void promote_run(struct work *w)
{
	struct promote *p = container_of(w, struct promote, work);
	struct store *st = p->c->st;
	int r = load_sealed(p->c, p->n);

	if (r == 0)
		r = move_replica(p->c);
	err_ignore(damage_found(p->c, p->n, r)); /* else it stays on SSD */
	ctx_work_end(p->c);
	if (p->c->cut_due)
		level_settle(p->c, p->n);
	node_forget(st->nodes, p->n, 1);
	ctx_put(p->c);
	mem_free(p);
	atomic_fetch_sub(&st->moves, 1);
}

#define MOVES_MAX 64

void move_later(struct ctx *c, struct node *n)
{
	struct store *st = c->st;
	struct promote *p;
	bool go;

	if (atomic_load(&st->stopping) || atomic_load(&st->moves) >= MOVES_MAX)
		return;
	lock_acquire(&c->lock);
	go = !c->working && !(c->rep && replica_complete(c->rep));
	c->working += go;
	lock_release(&c->lock);
	if (!go)
		return;
	p = mem_zalloc(sizeof(*p));
	if (!p) {
		ctx_work_end(c);
		return;
	}
	p->c = c;
	p->n = n;
	p->work.run = promote_run;
	list_init(&p->work.link);
	ctx_ref(c);
	node_ref(st->nodes, n);
	atomic_fetch_add(&st->moves, 1);
	workers_submit(st->workers, WORK_BACKGROUND, &p->work);
}

void move_after_read(struct ctx *c, struct node *n, bool whole, uint64_t size)
{
	struct policy_read pr = { .whole = whole, .logical_bytes = size,
				  .dram_bytes = size - size / 4,
				  .dram_limit = budget_limit(&c->st->dram) };

	if (c->state == CTX_SEALED && !c->st->adapt && c->st->policy->admit(&pr))
		move_later(c, n);
}

int store_prefetch(struct store *st, struct node *n, uid_t who)
{
	struct ctx *c;
	int r;

	(void)who;
	if (!S_ISREG(node_type(n)))
		return -EINVAL;
	r = ctx_get(st, node_ino(n), true, &c);
	if (r < 0)
		return r;
	move_later(c, n);
	ctx_put(c);
	return 0;
}
