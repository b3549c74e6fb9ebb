/* SPDX-License-Identifier: MIT */
/*
 * Going down is a switch and a cut: no byte is encoded anew.
 *   1 intent durable
 *   2 the switch: the record says how many layers count
 *   3 durable; from the next open on, readers get no more than these
 *   4 after the last use of the old level: the object's file is cut behind them, and
 *     the record says how many blocks it occupies
 * A crash before 2 leaves all as it was; after it, recovery cuts (trash.c), or whoever
 * loads the object next. Until 4 the bytes stay counted.
 *
 * Going up is impossible once the layers are gone. While they are there a policy may
 * still let readers have less of them (fixed:LEVEL); nothing is dropped then.
 */
#include "store/level.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/units.h"
#include "store/adapt.h"
#include "store/grant.h"
#include "store/level_quality.h"
#include "store/record.h"
#include "store/thin.h"

/* ---- how many -------------------------------------------------------------- */

unsigned level_stored(const struct ctx *c)
{
	unsigned n = c->rec.levels, max = c->obj->n_layers_max;

	return n < 1 || n > max ? max : n;
}

unsigned level_serving(const struct ctx *c)
{
	return c->serve_layers ? c->serve_layers : level_stored(c);
}

bool level_in_memory(const struct ctx *c, unsigned layers)
{
	return c->copy ||
	       (c->rep && replica_complete(c->rep) && replica_layers(c->rep) >= layers);
}

/* By a client: open or mapped. */
static bool in_use(struct ctx *c)
{
	bool yes;

	lock_acquire(&c->lock);
	yes = c->opens > 0 || c->copy_shared || (c->copy && copy_in_use(c->copy));
	lock_release(&c->lock);
	return yes;
}

/* By us: a mover or a scrub reads layers that are to be cut. */
static bool at_work(struct ctx *c)
{
	bool yes;

	lock_acquire(&c->lock);
	yes = c->working > 0;
	lock_release(&c->lock);
	return yes;
}

unsigned level_best(const struct ctx *c)
{
	unsigned n = level_stored(c);

	return c->cut_due && c->serve_layers > n ? c->serve_layers : n;
}

bool level_lossy(const struct ctx *c)
{
	return c->obj && level_stored(c) < c->obj->n_layers_max;
}

unsigned level_wanted(struct store *st, struct node *n, const struct object *o, unsigned layers)
{
	double quality[POLICY_LEVELS_MAX];
	struct policy_levels l = { .n = layers, .quality = quality };

	if (!st->policy->layers || layers < 2)
		return layers;
	l.floor = grant_floor(st, n);
	if (l.floor >= 1)
		return layers;
	level_qualities(st, n, o, quality);
	return st->policy->layers(st->policy, &l);
}

/* ---- the pin --------------------------------------------------------------- */

/* Sealed exactly, before there was a policy or a grant for less: layers are needed. */
static void note_relayer(struct ctx *c, struct node *n)
{
	bool tried;

	if ((!c->st->policy->layers && !c->st->adapt) || c->obj->n_layers_max > 1)
		return;
	lock_acquire(&c->lock);
	tried = c->relayer_tried;
	lock_release(&c->lock);
	if (tried || grant_check(c->st, n, c->obj->layout) < 0)
		return;
	lock_acquire(&c->lock);
	c->relayer_due = true;
	lock_release(&c->lock);
}

/* What the kernel may have cached is noted until the next open asks. */
static void level_set(struct ctx *c, unsigned layers)
{
	if (c->serve_layers == layers || (c->serve_layers && in_use(c)))
		return;
	c->serve_layers = layers;
	c->pages_stale |= c->obj->n_layers_max > 1;
	space_drop_dram(c, false, true); /* a copy of another level */
}

void level_pin_locked(struct ctx *c, struct node *n, bool writes)
{
	bool plans = c->st->adapt;
	unsigned now;

	if (!c->obj || c->rec.state == KVFS_RECORD_PLAIN)
		return;
	now = level_stored(c);
	note_relayer(c, n);
	/* who may write gets what is there: what he leaves alone shall stay as it is */
	if (!writes && now > 1 && (plans || c->st->policy->layers) &&
	    grant_check(c->st, n, c->obj->layout) == 0)
		now = plans ? adapt_layers(c, n) : level_wanted(c->st, n, c->obj, now);
	level_set(c, now);
}

void level_choose_locked(struct ctx *c, unsigned layers)
{
	unsigned stored = level_stored(c);

	level_set(c, layers < stored ? layers : stored);
}

void level_sealed(struct ctx *c)
{
	c->serve_layers = c->obj->n_layers_max;
	c->cut_due = false;
}

void level_forget(struct ctx *c)
{
	c->serve_layers = 0;
	c->cut_due = false;
}

/* ---- the cut --------------------------------------------------------------- */

void level_gone(struct ctx *c)
{
	struct object_id id;

	if (!c->cut_due)
		return;
	record_object(&c->rec, &id);
	meta_intent_del(c->st->meta, &id);
	c->cut_due = false;
}

/* The switch is durable and nobody uses what is dropped. Gate exclusive. */
static int cut(struct ctx *c)
{
	struct kvfs_record rec = c->rec;
	unsigned n = level_stored(c);
	struct object_id id;
	struct stat sb;
	int r = object_cut(c->st->objects_fd, c->obj, n);

	if (r == 0)
		r = FAULT_POINT("level.cut");
	if (r < 0)
		return r;
	rec.stored_blocks = (uint32_t)(c->obj->level_bytes[n - 1] / STORE_BLOCK);
	r = record_set(c->fd, c->st->xattr, &rec);
	if (r < 0)
		return r;
	ctx_set_record(c, &rec);
	if (fstat(c->fd, &sb) == 0)
		ctx_account(c, &sb);
	record_object(&c->rec, &id);
	meta_intent_del(c->st->meta, &id);
	reader_forget(c->st->reader, c->obj);
	object_put(c->obj); /* it knows how long its file was */
	c->obj = NULL;
	level_forget(c);
	space_drop_dram(c, true, true); /* has what is gone */
	return FAULT_POINT("level.done");
}

/* What it occupies now, for the index. */
static void note_space(struct ctx *c)
{
	uint64_t bytes;

	lock_acquire(&c->lock);
	bytes = c->accounted;
	lock_release(&c->lock);
	index_occupies(c->st, c->ino, bytes);
}

void level_settle(struct ctx *c, struct node *n)
{
	bool done = false;
	int r = 0;

	gate_enter(&c->gate, true);
	if (c->cut_due && !in_use(c) && !at_work(c)) {
		r = ctx_load_locked(c, n);
		if (r == 0)
			r = ctx_object_locked(c);
		if (r == 0 && c->cut_due)
			r = cut(c);
		done = r == 0;
	}
	gate_leave(&c->gate, true);
	if (r < 0)
		log_warn(c->st->log, "dropped layers of inode %llu stay until the next mount: %s",
			 (unsigned long long)c->ino, err_text(r));
	if (!done)
		return;
	note_space(c);
	if (c->st->k) {
		c->st->k->inval_inode(c->st->karg, n, true);
		c->st->k->inval_inode(c->st->karg, n, false);
	}
}

void level_settle_late(struct ctx *c)
{
	if (c->cut_due || c->st->read_only || !c->fd_writable || at_work(c) ||
	    c->obj->n_layers_present <= level_stored(c))
		return;
	if (commit_barrier(c->st) == 0 && cut(c) == 0)
		note_space(c);
}

/* ---- by command ------------------------------------------------------------ */

/* "exact", or the number of a level, as a number of layers; 0: exact. */
static int parse(const char *s, unsigned *ret)
{
	uint64_t v;

	if (strcmp(s, "exact") == 0) {
		*ret = 0;
		return 0;
	}
	if (units_parse_u64(s, 0, POLICY_LEVELS_MAX - 1, &v) < 0)
		return -EINVAL;
	*ret = (unsigned)v + 1;
	return 0;
}

static int granted(struct ctx *c, struct node *n)
{
	int r = grant_check(c->st, n, c->obj->layout);
	const char *why = r == -KVFS_EVETO ? grant_veto(c->st, n, c->obj->layout) : NULL;

	if (why)
		ctx_reason(c, why);
	return r;
}

/* May the file go down to @want layers, of those that it has? */
static int may_drop(struct ctx *c, struct node *n, unsigned want)
{
	double quality[POLICY_LEVELS_MAX];
	int r = granted(c, n);

	if (r < 0)
		return r;
	level_qualities(c->st, n, c->obj, quality);
	return quality[want - 1] >= grant_floor(c->st, n) ? 0 : -KVFS_EFLOOR;
}

static int drop(struct ctx *c, unsigned want)
{
	struct kvfs_record rec = c->rec;
	struct object_id id;
	int r = 0;

	record_object(&c->rec, &id);
	if (rec.state == KVFS_RECORD_SWITCHED)
		r = seal_punch_locked(c);
	if (r == 0)
		r = trash_intent(c, INTENT_CUT, &id);
	if (r == 0)
		r = FAULT_POINT("level.intent");
	if (r < 0)
		return r;
	rec = c->rec;
	rec.levels = (uint8_t)want;
	r = record_set(c->fd, c->st->xattr, &rec);
	if (r < 0)
		return r;
	if (!c->serve_layers) /* whoever may be using it saw all there was */
		c->serve_layers = level_stored(c);
	ctx_set_record(c, &rec);
	adapt_dropped(c->st, c->ino, want);
	err_ignore(FAULT_POINT("level.switched")); /* done is done: only kills count */
	r = commit_barrier(c->st);
	/* nothing is cut that a power cut could bring back into use; later then */
	c->cut_due = r == 0;
	if (r == 0)
		store_count(c->st, CNT_LEVELS_DROPPED, 1);
	return r;
}

/* Goes to @want layers (0: all) if that needs no other form of the object: -EAGAIN. */
static int go(struct ctx *c, struct node *n, unsigned want)
{
	int r = ctx_load_locked(c, n);
	unsigned have;

	if (r == 0 && !c->fd_writable)
		r = -EACCES;
	if (r == 0 && c->rec.state == KVFS_RECORD_PLAIN)
		return want ? -EAGAIN : 0;
	if (r == 0)
		r = ctx_object_locked(c);
	if (r == 0 && !want && thin_is(c))
		r = -KVFS_EGONE;
	if (r < 0)
		return r;
	if (c->obj->n_layers_max == 1) {
		r = want ? granted(c, n) : 0;
		return want && r == 0 ? -EAGAIN : r;
	}
	if (want > c->obj->n_layers_max)
		return -EINVAL;
	have = level_stored(c);
	want = want ? want : c->obj->n_layers_max;
	if (want >= have)
		return want == have ? 0 : -KVFS_EGONE;
	r = may_drop(c, n, want);
	return r < 0 ? r : drop(c, want);
}

static int go_entered(struct ctx *c, struct node *n, unsigned want)
{
	int r = ctx_enter(c);

	if (r < 0)
		return r;
	r = go(c, n, want);
	gate_leave(&c->gate, true);
	return r;
}

static int set_level(struct ctx *c, struct node *n, unsigned want)
{
	struct store *st = c->st;
	int r = go_entered(c, n, want);

	if (r != -EAGAIN)
		return r;
	if (grant_floor(st, n) >= 1)
		return -KVFS_EEXACT;
	r = store_seal(st, n); /* in layers, whatever it was */
	if (r == 0)
		r = go_entered(c, n, want);
	return r == -EAGAIN ? -KVFS_ENOLAYERS : r;
}

static bool stays(struct ctx *c)
{
	bool yes;

	lock_acquire(&c->lock);
	yes = c->pinned || c->unlinked || c->sealing || c->damaged;
	lock_release(&c->lock);
	return yes;
}

/* Gate exclusive. */
static int shed(struct ctx *c, struct node *n, unsigned want)
{
	int r;

	if (stays(c) || in_use(c) || at_work(c))
		return -EBUSY;
	r = ctx_load_locked(c, n);
	/* pins and damage are known since it is loaded only */
	if (r == 0 && (stays(c) || c->state != CTX_SEALED || !c->fd_writable))
		r = -EBUSY;
	if (r == 0)
		r = ctx_object_locked(c);
	if (r == 0 && (want < 1 || want >= level_stored(c)))
		r = -EINVAL;
	if (r == 0)
		r = may_drop(c, n, want);
	if (r == 0)
		r = drop(c, want);
	return r < 0 ? r : cut(c);
}

int level_shed(struct ctx *c, struct node *n, unsigned want)
{
	int r;

	if (!gate_try(&c->gate, true))
		return -EBUSY;
	r = shed(c, n, want);
	gate_leave(&c->gate, true);
	if (r < 0)
		return r;
	note_space(c);
	if (c->st->k)
		c->st->k->inval_inode(c->st->karg, n, false);
	return 0;
}

int store_level(struct store *st, struct node *n, const char *level)
{
	struct drop_params p;
	struct ctx *c;
	unsigned want = 0;
	bool drop;
	int r;

	if (st->read_only)
		return -EROFS;
	if (!S_ISREG(node_type(n)))
		return -EINVAL;
	drop = thin_parse(level, &p) == 0;
	r = drop ? 0 : parse(level, &want);
	if (r == 0)
		r = ctx_get(st, node_ino(n), true, &c);
	if (r < 0)
		return r;
	r = drop ? thin_run(c, n, &p) : set_level(c, n, want);
	r = damage_found(c, n, r);
	if (r == 0)
		level_settle(c, n);
	ctx_idle(c);
	ctx_put(c);
	return r;
}
