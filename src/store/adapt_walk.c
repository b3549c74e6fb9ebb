/* SPDX-License-Identifier: MIT */
/*
 * What the policy has to be told of contexts that nobody opens: all of them once after the
 * mount, some at a time, and those whose settings changed.
 */
#include "base/mem.h"
#include "store/adapt_types.h"
#include "store/level.h"

#define WALK_STEP 16u

static void look(struct ctx *c, struct node *n)
{
	if (!gate_try(&c->gate, true))
		return; /* in use: known since its open */
	if (ctx_load_locked(c, n) == 0 && ctx_object_locked(c) == 0)
		adapt_seen(c, n);
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
		look(c, n);
		ctx_idle_try(c);
		ctx_put(c);
	}
	node_forget(st->nodes, n, 1);
}

void adapt_walk_step(struct adapt *ad)
{
	bool begin;

	if (ad->n_ino == 0) {
		lock_acquire(&ad->q_lock);
		begin = ad->walk;
		ad->walk = false;
		lock_release(&ad->q_lock);
		mem_free(ad->ino);
		ad->ino = NULL;
		if (begin)
			ad->n_ino = info_inodes(ad->st, &ad->ino);
	}
	for (unsigned i = 0; i < WALK_STEP && ad->n_ino > 0; i++) {
		look_at(ad->st, ad->ino[--ad->n_ino]);
		ad->changed = true;
	}
}

static bool settings_of(struct store *st, struct node *n)
{
	struct ctx *c;

	if (!S_ISREG(node_type(n)))
		return false;
	if (node_content(n) == NODE_PLAIN || ctx_get(st, node_ino(n), true, &c) < 0)
		return true;
	if (ctx_enter(c) == 0) {
		if (ctx_load_locked(c, n) == 0 && ctx_object_locked(c) == 0)
			adapt_seen(c, n);
		gate_leave(&c->gate, true);
	}
	ctx_idle(c);
	ctx_put(c);
	return true;
}

void adapt_settings(struct store *st, struct node *n)
{
	struct adapt *ad = st->adapt;

	if (!ad || settings_of(st, n))
		return;
	lock_acquire(&ad->q_lock); /* a directory's: all below it may be meant */
	ad->walk = true;
	cond_signal(&ad->wake);
	lock_release(&ad->q_lock);
}
