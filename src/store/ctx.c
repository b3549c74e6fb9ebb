/* SPDX-License-Identifier: MIT */
/*
 * Contexts in use: the table, the gate, counts.
 *
 * A context is made by the first open, seal or move of a file and goes with its
 * last reference. A reference is held by every struct file, by the seal queue
 * while queued, and by the table's LRU while a replica or copy exists.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/io.h"
#include "base/mem.h"
#include "policy/heat.h"
#include "policy/policy.h"
#include "store/adapt.h"
#include "store/level.h"

#define CTX_HASH 4096u
/* Heat halves in this time without hits. */

/* ---- gate ----------------------------------------------------------------- */

void gate_init(struct gate *g)
{
	memset(g, 0, sizeof(*g));
	lock_init(&g->lock);
	cond_init(&g->cond);
}

void gate_fini(struct gate *g)
{
	lock_fini(&g->lock);
	cond_fini(&g->cond);
}

void gate_enter(struct gate *g, bool exclusive)
{
	lock_acquire(&g->lock);
	if (exclusive) {
		g->waiting_excl++;
		while (g->exclusive || g->shared)
			cond_wait(&g->cond, &g->lock);
		g->waiting_excl--;
		g->exclusive = true;
	} else {
		while (g->exclusive || g->waiting_excl)
			cond_wait(&g->cond, &g->lock);
		g->shared++;
	}
	lock_release(&g->lock);
}

bool gate_try(struct gate *g, bool exclusive)
{
	bool ok;

	lock_acquire(&g->lock);
	ok = !g->exclusive && (exclusive ? !g->shared : !g->waiting_excl);
	if (ok && exclusive)
		g->exclusive = true;
	else if (ok)
		g->shared++;
	lock_release(&g->lock);
	return ok;
}

void gate_leave(struct gate *g, bool exclusive)
{
	bool wake;

	lock_acquire(&g->lock);
	if (exclusive)
		g->exclusive = false;
	else
		g->shared--;
	wake = g->shared == 0;
	lock_release(&g->lock);
	if (wake)
		cond_broadcast(&g->cond);
}

/* ---- table ---------------------------------------------------------------- */

int ctx_table_init(struct ctx_table *t)
{
	lock_init(&t->lock);
	list_init(&t->lru);
	list_init(&t->kept);
	t->max_kept = ctx_kept_max();
	t->n_hash = CTX_HASH;
	t->hash = mem_calloc(t->n_hash, sizeof(*t->hash));
	if (!t->hash)
		return -ENOMEM;
	for (unsigned i = 0; i < t->n_hash; i++)
		list_init(&t->hash[i]);
	return 0;
}

static struct list *bucket(struct ctx_table *t, uint64_t ino)
{
	return &t->hash[hash_u64(ino) & (t->n_hash - 1)];
}

static struct ctx *find_locked(struct ctx_table *t, uint64_t ino) REQUIRES(&t->lock)
{
	list_for_each(l, bucket(t, ino)) {
		struct ctx *c = container_of(l, struct ctx, hash);

		if (c->ino == ino)
			return c;
	}
	return NULL;
}

static struct ctx *ctx_new(struct store *st, uint64_t ino)
{
	struct ctx *c = mem_zalloc(sizeof(*c));

	if (!c)
		return NULL;
	c->st = st;
	c->ino = ino;
	c->fd = -1;
	c->refs = 1;
	list_init(&c->hash);
	list_init(&c->lru);
	list_init(&c->kept);
	list_init(&c->seal_link);
	gate_init(&c->gate);
	lock_init(&c->lock);
	return c;
}

static void ctx_free(struct ctx *c) NO_TSA
{
	object_put(c->obj);
	replica_put(c->rep);
	copy_put(c->copy);
	io_close(&c->fd);
	gate_fini(&c->gate);
	lock_fini(&c->lock);
	mem_free(c);
}

int ctx_get(struct store *st, uint64_t ino, bool create, struct ctx **ret)
{
	struct ctx_table *t = &st->ctxs;
	struct ctx *fresh = NULL, *c;

	lock_acquire(&t->lock);
	c = find_locked(t, ino);
	if (c)
		c->refs++;
	lock_release(&t->lock);
	if (c) {
		*ret = c;
		return 0;
	}
	if (!create)
		return -ENOENT;
	fresh = ctx_new(st, ino);
	if (!fresh)
		return -ENOMEM;
	lock_acquire(&t->lock);
	c = find_locked(t, ino);
	if (c) {
		c->refs++;
	} else {
		c = fresh;
		fresh = NULL;
		list_add_tail(bucket(t, ino), &c->hash);
		t->count++;
	}
	lock_release(&t->lock);
	if (fresh)
		ctx_free(fresh);
	else
		budget_force(&st->dram, BUDGET_TABLE, sizeof(*c));
	*ret = c;
	return 0;
}

void ctx_ref(struct ctx *c)
{
	struct ctx_table *t = &c->st->ctxs;

	lock_acquire(&t->lock);
	c->refs++;
	lock_release(&t->lock);
}

void ctx_put(struct ctx *c)
{
	struct ctx_table *t = &c->st->ctxs;
	bool gone;

	lock_acquire(&t->lock);
	gone = --c->refs == 0;
	if (gone) {
		ctx_unkeep_locked(t, c);
		list_del(&c->hash);
		t->count--;
	}
	lock_release(&t->lock);
	if (!gone)
		return;
	budget_give(&c->st->dram, BUDGET_TABLE, sizeof(*c));
	ctx_free(c);
}

/* Lets go of what is in DRAM whoever uses it: a copy that is still mapped stays
 * with its pool until it is not. */
static void drop_all(struct ctx *c)
{
	struct replica *rep;
	struct copy *copy;

	lock_acquire(&c->lock);
	rep = c->rep;
	copy = c->copy;
	c->rep = NULL;
	c->copy = NULL;
	c->copy_shared = false;
	lock_release(&c->lock);
	replica_put(rep);
	copy_put(copy);
	ctx_cooled(c);
}

void ctx_lose(struct ctx *c)
{
	struct store *st = c->st;
	bool hold;

	ctx_ref(c);
	lock_acquire(&c->lock);
	/* racing for the last places, a few more than that may get one */
	hold = !c->lost_held && atomic_load(&st->n_lost) < CTX_LOST_MAX;
	c->lost = true;
	c->lost_held |= hold;
	lock_release(&c->lock);
	if (hold)
		atomic_fetch_add(&st->n_lost, 1);
	else
		ctx_put(c);
}

void ctx_lose_end(struct ctx *c)
{
	bool held;

	lock_acquire(&c->lock);
	held = c->lost_held;
	c->lost = c->lost_held = false;
	lock_release(&c->lock);
	if (!held)
		return;
	atomic_fetch_sub(&c->st->n_lost, 1);
	ctx_put(c);
}

static bool lose_end(struct ctx *c, void *arg)
{
	(void)arg;
	ctx_lose_end(c);
	return true;
}

void ctx_gone_locked(struct ctx *c)
{
	struct ctx_table *t = &c->st->ctxs;
	bool sealing;

	adapt_gone(c->st, c->ino); /* while the number is its own */
	drop_all(c);               /* nobody will open it again */
	ctx_lose_end(c);
	lock_acquire(&c->lock);
	sealing = c->sealing;
	lock_release(&c->lock);
	ctx_account_gone(c);
	level_gone(c);
	seal_unqueue(c);
	/* before the descriptor goes, which keeps the inode number */
	lock_acquire(&t->lock);
	list_del(&c->hash);
	lock_release(&t->lock);
	if (!sealing) /* that reads through fd until it notices; ctx_free closes it */
		io_close(&c->fd);
	object_put(c->obj);
	c->obj = NULL;
	watch_end(c);
}

void ctx_gone(struct ctx *c)
{
	gate_enter(&c->gate, true);
	ctx_gone_locked(c);
	gate_leave(&c->gate, true);
}

int ctx_enter(struct ctx *c)
{
	bool gone;

	gate_enter(&c->gate, true);
	lock_acquire(&c->lock);
	gone = c->unlinked && c->opens == 0;
	lock_release(&c->lock);
	if (!gone)
		return 0;
	gate_leave(&c->gate, true);
	return -ESTALE;
}

bool ctx_leave_begin(struct ctx *c)
{
	bool first;

	lock_acquire(&c->lock);
	first = !c->unlinked;
	if (first)
		c->unlinked = c->leaving = c->cancel = true;
	lock_release(&c->lock);
	return first;
}

bool ctx_leave_end(struct ctx *c, bool gone)
{
	bool idle;

	lock_acquire(&c->lock);
	c->leaving = false;
	if (!gone)
		c->unlinked = c->hidden = false;
	idle = c->opens == 0;
	lock_release(&c->lock);
	return idle;
}

void ctx_table_fini(struct store *st)
{
	struct ctx_table *t = &st->ctxs;

	if (t->hash)
		watch_stop(st);
	while (t->hash && !list_empty(&t->lru)) {
		struct ctx *c = container_of(t->lru.next, struct ctx, lru);

		ctx_ref(c); /* beside the list's, which goes with what is dropped */
		serving_stop(c);
		drop_all(c);
		ctx_put(c);
	}
	if (t->hash && atomic_load(&st->n_lost) > 0)
		ctx_each(st, lose_end, NULL);
	mem_free(t->hash);
	t->hash = NULL;
	lock_fini(&t->lock);
}

/* Snapshot of at most this many contexts per pass: the walk never holds the
 * lock while it calls out. */
#define WALK_BATCH 128u

static void walk(struct store *st, struct ctx **batch, unsigned n,
		 bool (*cb)(struct ctx *c, void *arg), void *arg)
{
	bool go = true;

	(void)st;
	for (unsigned i = 0; i < n; i++) {
		if (go)
			go = cb(batch[i], arg);
		ctx_put(batch[i]);
	}
}

bool ctx_coldest(struct store *st, bool (*cb)(struct ctx *c, void *arg), void *arg)
{
	struct ctx *batch[WALK_BATCH];
	unsigned n = 0;

	lock_acquire(&st->ctxs.lock);
	list_for_each(l, &st->ctxs.lru) {
		if (n == WALK_BATCH)
			break;
		batch[n] = container_of(l, struct ctx, lru);
		batch[n++]->refs++;
	}
	lock_release(&st->ctxs.lock);
	walk(st, batch, n, cb, arg);
	return n > 0;
}

void ctx_recent(struct store *st, bool (*cb)(struct ctx *c, void *arg), void *arg)
{
	struct ctx *batch[WALK_BATCH];
	unsigned n = WALK_BATCH;

	lock_acquire(&st->ctxs.lock);
	for (struct list *l = st->ctxs.lru.prev; l != &st->ctxs.lru && n > 0; l = l->prev) {
		batch[--n] = container_of(l, struct ctx, lru);
		batch[n]->refs++;
	}
	lock_release(&st->ctxs.lock);
	walk(st, batch + n, WALK_BATCH - n, cb, arg);
}

void ctx_each(struct store *st, bool (*cb)(struct ctx *c, void *arg), void *arg)
{
	struct ctx *batch[WALK_BATCH];

	for (unsigned b = 0; b < st->ctxs.n_hash; b++) {
		unsigned n = 0;

		lock_acquire(&st->ctxs.lock);
		list_for_each(l, &st->ctxs.hash[b]) {
			if (n == WALK_BATCH)
				break;
			batch[n] = container_of(l, struct ctx, hash);
			batch[n++]->refs++;
		}
		lock_release(&st->ctxs.lock);
		walk(st, batch, n, cb, arg);
	}
}

/* ---- use ------------------------------------------------------------------ */

void ctx_touch(struct ctx *c, bool hit)
{
	struct ctx_table *t = &c->st->ctxs;

	lock_acquire(&c->lock);
	if (hit) {
		uint64_t now = clock_real_ns();

		c->heat = heat_hit(c->heat, c->heat_ns, now, POLICY_HALF_NS);
		c->heat_ns = now;
		c->hits++;
	}
	/* under both locks, so that the list says what is there */
	lock_acquire(&t->lock);
	if (c->rep || c->copy) {
		if (list_empty(&c->lru))
			c->refs++; /* the list's */
		list_del(&c->lru);
		list_add_tail(&t->lru, &c->lru);
	}
	lock_release(&t->lock);
	lock_release(&c->lock);
}

void ctx_cooled(struct ctx *c)
{
	struct ctx_table *t = &c->st->ctxs;
	bool gone;

	lock_acquire(&c->lock);
	lock_acquire(&t->lock);
	gone = !c->rep && !c->copy && !list_empty(&c->lru);
	if (gone)
		list_del(&c->lru);
	lock_release(&t->lock);
	lock_release(&c->lock);
	if (gone)
		ctx_put(c); /* the list's reference */
}

void ctx_reason(struct ctx *c, const char *why)
{
	lock_acquire(&c->lock);
	snprintf(c->reason, sizeof(c->reason), "%s", why);
	lock_release(&c->lock);
}

/* ---- accounting ----------------------------------------------------------- */

static void account_set(struct ctx *c, uint64_t bytes)
{
	uint64_t old;

	lock_acquire(&c->lock);
	old = c->accounted;
	c->accounted = bytes;
	lock_release(&c->lock);
	atomic_fetch_add(&c->st->ssd_used, bytes - old);
}

void ctx_account(struct ctx *c, const struct stat *sb)
{
	uint64_t bytes = (uint64_t)sb->st_blocks * 512;

	lock_acquire(&c->lock);
	if (c->rec.state != KVFS_RECORD_PLAIN)
		bytes += (uint64_t)c->rec.stored_blocks * STORE_BLOCK;
	lock_release(&c->lock);
	account_set(c, bytes);
}

void ctx_account_gone(struct ctx *c)
{
	account_set(c, 0);
}

/* ---- what it is ------------------------------------------------------------ */

void ctx_set_record(struct ctx *c, const struct kvfs_record *r)
{
	lock_acquire(&c->lock);
	c->rec = *r;
	if (r->state == KVFS_RECORD_PLAIN)
		c->state = CTX_PLAIN;
	else if (c->state != CTX_OVERLAY)
		c->state = CTX_SEALED;
	lock_release(&c->lock);
}
