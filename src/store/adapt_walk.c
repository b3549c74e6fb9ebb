/* SPDX-License-Identifier: MIT */
/*
 * What the policy has to be told of contexts that nobody opens: all of them once after the
 * mount, some at a time, and those whose settings changed. After something that it was told
 * was lost it is asked, too, whether what it knows is still there.
 */
#include <errno.h>

#include "base/clock.h"
#include "base/mem.h"
#include "store/adapt_types.h"
#include "store/level.h"

#define WALK_STEP 16u

/* What settings no longer allow to be read is no use in memory, decoded. Gate exclusive. */
static void drop_forbidden(struct ctx *c, struct node *n)
{
	bool idle;

	lock_acquire(&c->lock);
	idle = c->opens == 0 && c->copy;
	lock_release(&c->lock);
	if (idle && c->obj && !c->cut_due && level_serving(c) < adapt_layers(c, n))
		space_drop_dram(c, false, true);
}

/* Gate held exclusive, and left. */
static void tell_locked(struct ctx *c, struct node *n)
{
	if (ctx_load_locked(c, n) == 0 && ctx_object_locked(c) == 0) {
		drop_forbidden(c, n);
		adapt_seen(c, n);
	}
	gate_leave(&c->gate, true);
}

static void look_at(struct store *st, uint64_t ino)
{
	struct meta_rec rec;
	struct node *n;
	struct ctx *c;

	if (meta_get(st->meta, ino, &rec) < 0 || !(rec.flags & META_SEALED))
		return;
	n = index_find(st, ino);
	if (!n)
		return;
	if (ctx_get(st, ino, true, &c) == 0) {
		if (gate_try(&c->gate, true)) /* else in use: known since its open */
			tell_locked(c, n);
		ctx_idle_try(c);
		ctx_put(c);
	}
	node_forget(st->nodes, n, 1);
}

/* What was sealed a moment ago the index may not know yet. */
static bool is_there(struct store *st, uint64_t ino)
{
	struct meta_rec rec;
	int r = meta_get(st->meta, ino, &rec);
	struct ctx *c;
	bool yes;

	if (r == 0 ? (rec.flags & META_SEALED) != 0 : r != -ENOENT)
		return true;
	if (ctx_get(st, ino, false, &c) < 0)
		return false;
	lock_acquire(&c->lock);
	yes = !c->unlinked && c->state != CTX_PLAIN;
	lock_release(&c->lock);
	ctx_put(c);
	return yes;
}

/* From the last one on, because what goes leaves its place to one that was asked. */
static void check_step(struct adapt *ad)
{
	uint64_t id[WALK_STEP];
	unsigned n = 0;

	lock_acquire(&ad->lock);
	while (n < WALK_STEP && ad->n_check > 0)
		id[n++] = adaptive_nth(ad->a, --ad->n_check);
	lock_release(&ad->lock);
	for (unsigned i = 0; i < n; i++) {
		if (id[i] == 0 || is_there(ad->st, id[i]))
			continue;
		lock_acquire(&ad->lock);
		adaptive_gone(ad->a, id[i]);
		lock_release(&ad->lock);
		ad->changed = true;
	}
}

static void walk_begin(struct adapt *ad)
{
	ad->walk_begun_ns = clock_mono_ns();
	if (ad->walk_begun_ns < ad->walk_ns)
		return;
	lock_acquire(&ad->q_lock);
	ad->walking = ad->walk && ad->whole;
	if (ad->walking) {
		ad->check = ad->lost;
		ad->walk = ad->lost = false;
	}
	lock_release(&ad->q_lock);
	if (ad->walking)
		ad->n_ino = info_inodes(ad->st, &ad->ino);
}

static void walk_end(struct adapt *ad)
{
	struct adaptive_stats s;

	mem_free(ad->ino);
	ad->ino = NULL;
	ad->walking = false;
	ad->walked = true;
	/* whoever sets something on a directory again and again has half of the thread at most */
	ad->walk_ns = 2 * clock_mono_ns() - ad->walk_begun_ns;
	if (!ad->check)
		return;
	/* from the next step on: what was queued before this one's end is applied then */
	lock_acquire(&ad->lock);
	adaptive_stats(ad->a, &s);
	lock_release(&ad->lock);
	ad->n_check = s.contexts;
}

bool adapt_walking(const struct adapt *ad)
{
	return ad->walking || ad->n_check > 0;
}

void adapt_walk_step(struct adapt *ad)
{
	if (ad->n_check > 0)
		check_step(ad);
	else if (!ad->walking)
		walk_begin(ad);
	for (unsigned i = 0; i < WALK_STEP && ad->n_ino > 0; i++) {
		look_at(ad->st, ad->ino[--ad->n_ino]);
		ad->changed = true;
	}
	if (ad->walking && ad->n_ino == 0)
		walk_end(ad);
}

static bool settings_of(struct store *st, struct node *n)
{
	struct ctx *c;

	if (!S_ISREG(node_type(n)))
		return false;
	if (node_content(n) == NODE_PLAIN || ctx_get(st, node_ino(n), true, &c) < 0)
		return true;
	if (ctx_enter(c) == 0)
		tell_locked(c, n);
	ctx_idle(c);
	ctx_put(c);
	return true;
}

void adapt_walk_wanted(struct adapt *ad, bool whole)
{
	lock_acquire(&ad->q_lock);
	ad->walk = true;
	if (whole) {
		ad->whole = true;
		ad->known_by_ns = clock_mono_ns() + ADAPT_KNOWN_NS;
	}
	cond_signal(&ad->wake);
	lock_release(&ad->q_lock);
}

void adapt_index_whole(struct store *st)
{
	if (st->adapt)
		adapt_walk_wanted(st->adapt, true);
}

void adapt_settings(struct store *st, struct node *n)
{
	if (st->adapt && !settings_of(st, n))
		adapt_walk_wanted(st->adapt, false); /* a directory's: all below it may be meant */
}
