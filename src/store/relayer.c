/* SPDX-License-Identifier: MIT */
/*
 * Re-layering: a file that was sealed in one layer gets a grant later. Its content, read
 * from the old object, goes into a new one, in layers, with the next generation:
 *   1 intents durable: the new object, and that the old one may go
 *   2 encode chunk by chunk, each decoded and compared
 *   3 the new object and its directory durable
 *   4 the switch: the record names the new generation
 *   5 once that is durable the old object goes
 * Both read the same, so readers may have the file open all the while. A crash
 * before 4 leaves the old object, after it the new one; recovery removes the other.
 * A write, a truncation or a removal meanwhile is seen by 4, which then gives up.
 */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "base/fault.h"
#include "base/mem.h"
#include "store/adapt.h"
#include "store/grant.h"
#include "store/level.h"
#include "store/seal.h"
#include "store/seal_enc.h"
#include "store/record.h"

struct relayer {
	struct ctx *c;
	struct store *st;
	struct node *node;
	struct object *old, *fresh; /* one reference each */
	struct object_id id, old_id;
	struct layout_chunk *chunks;
	uint32_t n_chunks;
	struct seal_enc enc;
	uint64_t stored, reserved;
};

/* ---- 0: may it be, and is it worth it --------------------------------------- */

static int claimable(struct ctx *c, struct node *n)
{
	int r = ctx_load_locked(c, n);

	if (r == 0)
		r = ctx_object_locked(c);
	if (r == 0 && c->rec.state == KVFS_RECORD_SWITCHED)
		r = seal_punch_locked(c);
	if (r < 0)
		return r;
	if (c->rec.state == KVFS_RECORD_PLAIN)
		return -EINVAL;
	if (c->obj->n_layers_max > 1)
		return -EALREADY;
	if (!c->fd_writable)
		return -EACCES;
	if (c->state != CTX_SEALED || c->size != c->obj->logical_bytes ||
	    c->rec.valid_bytes < c->size)
		return -KVFS_ECHANGED;
	return c->st->cfg.raw ? -KVFS_ENOLAYERS : grant_check(c->st, n, c->obj->layout);
}

static int claim(struct relayer *s)
{
	struct ctx *c = s->c;
	int r;

	/* whoever holds it may be waiting for room, and for us to make some */
	if (!gate_try(&c->gate, true))
		return -EBUSY;
	lock_acquire(&c->lock);
	r = c->sealing || c->unlinked || c->lost || c->copy_shared || c->writers ? -EBUSY : 0;
	lock_release(&c->lock);
	if (r == 0)
		r = claimable(c, s->node);
	if (r == 0) {
		s->old = object_get(c->obj);
		s->old_id = s->id = c->obj->id;
		s->id.generation++;
		lock_acquire(&c->lock);
		c->sealing = true;
		lock_release(&c->lock);
	}
	gate_leave(&c->gate, true);
	return r;
}

static void unclaim(struct relayer *s)
{
	lock_acquire(&s->c->lock);
	s->c->sealing = false;
	lock_release(&s->c->lock);
}

/* ---- 1 to 3 ------------------------------------------------------------------ */

static int intents(struct relayer *s)
{
	int r;

	gate_enter(&s->c->gate, false);
	r = s->c->fd < 0 ? -KVFS_ECANCELED : trash_intent(s->c, INTENT_SEAL, &s->id);
	if (r == 0)
		r = trash_intent(s->c, INTENT_UNSEAL, &s->old_id);
	gate_leave(&s->c->gate, false);
	return r < 0 ? r : FAULT_POINT("relayer.intent");
}

static int read_chunk(struct relayer *s, const struct layout_chunk *ch)
{
	struct ctx *c = s->c;
	struct read_source src;
	int r;

	gate_enter(&c->gate, false);
	if (c->obj != s->old) {
		r = -KVFS_ECANCELED;
	} else {
		read_source_of(c, &src);
		r = reader_copy(s->st->reader, &src, ch->off_bytes, s->enc.src, ch->len_bytes);
		replica_put(src.rep);
	}
	gate_leave(&c->gate, false);
	return r;
}

static int encode(struct relayer *s)
{
	int r = 0;

	for (uint32_t i = 0; i < s->n_chunks && r == 0; i++) {
		if (atomic_load(&s->st->stopping) || atomic_load(&s->st->stopping_seals))
			return -KVFS_ECANCELED;
		workers_yield(s->st->workers);
		r = seal_enc_room(&s->enc, s->c->ino, &s->reserved);
		if (r == 0)
			r = read_chunk(s, &s->chunks[i]);
		if (r == 0)
			r = seal_enc_chunk(&s->enc, i, &s->chunks[i]);
		if (r == 0)
			r = FAULT_POINT("relayer.chunk");
	}
	return r;
}

static int make_object(struct relayer *s)
{
	struct object_plan plan = {
		.id = s->id, .logical_bytes = s->old->logical_bytes, .tree_ino = s->c->ino,
		.layout = s->old->layout, .chunks = s->chunks, .n_chunks = s->n_chunks,
		.n_layers = s->enc.layers,
	};
	int r;

	seal_enc_count(&s->enc, s->n_chunks * (sizeof(*s->chunks) +
					       s->enc.layers * OBJECT_WRITER_CHUNK_BYTES));
	r = object_writer_create(s->st->objects_fd, &plan, &s->enc.w);
	if (r == 0)
		r = encode(s);
	if (r < 0)
		return r;
	r = seal_enc_finish(&s->enc, &s->stored);
	if (r == 0)
		r = FAULT_POINT("relayer.object");
	if (r == 0)
		r = ctx_object_open(s->c, &s->id, &s->fresh);
	return r == 0 && s->fresh->n_layers_max == 1 ? -KVFS_ENOLAYERS : r;
}

/* ---- 4, 5 ---------------------------------------------------------------------- */

/* What is in memory goes with the object that it is of. */
static void take_over(struct relayer *s)
{
	struct ctx *c = s->c;
	struct replica *old;
	struct stat sb;

	reader_forget(s->st->reader, s->old);
	object_put(c->obj);
	c->obj = s->fresh;
	s->fresh = NULL;
	level_sealed(c); /* whoever reads it goes on reading it exactly */
	lock_acquire(&c->lock);
	c->sealing = false;
	old = c->rep;
	c->rep = s->enc.rep;
	s->enc.rep = NULL;
	lock_release(&c->lock);
	replica_put(old);
	if (fstat(c->fd, &sb) == 0)
		ctx_account(c, &sb);
	index_follow(c, s->node);
	adapt_seen(c, s->node);
}

static int switch_over(struct relayer *s)
{
	struct ctx *c = s->c;
	struct kvfs_record rec;
	int r = 0;

	gate_enter(&c->gate, true);
	rec = c->rec;
	if (c->obj != s->old || c->state != CTX_SEALED || rec.state != KVFS_RECORD_SEALED ||
	    rec.valid_bytes < s->old->logical_bytes || c->fd < 0)
		r = -KVFS_ECANCELED;
	if (r == 0)
		r = FAULT_POINT("relayer.before_switch");
	rec.generation = s->id.generation;
	if (r == 0) {
		rec.levels = (uint8_t)s->fresh->n_layers_max;
		rec.stored_blocks = (uint32_t)((s->stored + STORE_BLOCK - 1) / STORE_BLOCK);
		r = record_set(c->fd, s->st->xattr, &rec);
	}
	if (r == 0) {
		ctx_set_record(c, &rec);
		take_over(s);
		err_ignore(FAULT_POINT("relayer.switched")); /* done is done: only kills count */
	}
	gate_leave(&c->gate, true);
	return r;
}

static void failed(struct relayer *s, int r)
{
	unclaim(s);
	if (object_remove(s->st->objects_fd, &s->id) == 0)
		meta_intent_del(s->st->meta, &s->id);
	meta_intent_del(s->st->meta, &s->old_id);
	if (r == -KVFS_ECANCELED || r == -KVFS_EFULL)
		return;
	ctx_reason(s->c, err_text(r));
	if (r != -KVFS_ENOLAYERS)
		log_warn(s->st->log, "inode %llu stays in one layer: %s",
			 (unsigned long long)s->c->ino, err_text(r));
}

static void fini(struct relayer *s)
{
	space_release(s->st, s->reserved);
	seal_enc_fini(&s->enc);
	object_put(s->old);
	object_put(s->fresh);
	mem_free(s->chunks);
}

static int run(struct relayer *s)
{
	int r = layout_cut(s->old->layout, SEAL_CHUNK_TARGET, SEAL_CHUNK_MAX, &s->chunks,
			   &s->n_chunks);

	if (r == 0)
		r = seal_enc_init(&s->enc, s->st, s->c, true);
	if (r == 0)
		r = seal_enc_sample(&s->enc, s->old->layout, s->chunks, s->n_chunks);
	if (r == 0)
		r = intents(s);
	if (r == 0) {
		s->enc.rep_layers = level_wanted(s->st, s->node, NULL, s->enc.layers);
		seal_replica_begin(s->c, &s->enc.rep, &s->id, s->chunks, s->n_chunks);
		seal_enc_prefix(&s->enc, s->old->logical_bytes);
		r = make_object(s);
	}
	return r < 0 ? r : switch_over(s);
}

static int run_once(struct ctx *c, struct node *n)
{
	struct relayer s = { .c = c, .st = c->st, .node = n };
	int r;

	seal_enter(c->st);
	ctx_work_begin(c); /* keeps the descriptor and the object */
	r = claim(&s);
	if (r == 0) {
		r = run(&s);
		if (r < 0)
			failed(&s, r);
	}
	if (r == 0) {
		store_count(c->st, CNT_RELAYERED, 1);
		ctx_reason(c, "layered");
		trash_object_later(c->st, &s.old_id);
		meta_intent_del(c->st->meta, &s.id); /* when the switch is durable */
		ctx_touch(c, false);
	}
	fini(&s);
	ctx_work_end(c);
	seal_leave(c->st);
	return r;
}

#define TRIES 50
#define TRY_NS 20000000

int relayer_run(struct ctx *c, struct node *n)
{
	const struct timespec ts = { 0, TRY_NS };
	int r = run_once(c, n);

	/* some request may just have its gate, or it is being sealed */
	for (int i = 1; r == -EBUSY && i < TRIES && !atomic_load(&c->st->stopping); i++) {
		nanosleep(&ts, NULL);
		r = run_once(c, n);
	}
	return r;
}

/* ---- in the background ---------------------------------------------------------- */

struct later {
	struct work work;
	struct ctx *c;     /* one reference */
	struct node *node; /* one reference */
};

static void later_run(struct work *w)
{
	struct later *l = container_of(w, struct later, work);
	struct store *st = l->c->st;
	int r = relayer_run(l->c, l->node);

	lock_acquire(&l->c->lock);
	l->c->relayer_tried = r != -EBUSY && r != -KVFS_ECANCELED && r != -KVFS_EFULL;
	lock_release(&l->c->lock);
	node_forget(st->nodes, l->node, 1);
	ctx_put(l->c);
	mem_free(l);
	atomic_fetch_sub(&st->moves, 1);
}

void relayer_later(struct ctx *c, struct node *n)
{
	struct store *st = c->st;
	struct later *l;
	bool go;

	if (st->read_only || atomic_load(&st->stopping))
		return;
	lock_acquire(&c->lock);
	go = c->relayer_due;
	c->relayer_tried |= go;
	c->relayer_due = false;
	lock_release(&c->lock);
	if (!go)
		return;
	l = mem_zalloc(sizeof(*l));
	if (!l)
		return;
	l->c = c;
	l->node = n;
	l->work.run = later_run;
	list_init(&l->work.link);
	ctx_ref(c);
	node_ref(st->nodes, n);
	atomic_fetch_add(&st->moves, 1);
	workers_submit(st->workers, WORK_BACKGROUND, &l->work);
}
