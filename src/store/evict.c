/* SPDX-License-Identifier: MIT */
/*
 * Which files go when the store is full (full=evict): the least useful by the
 * policy's value, whole, never in use, pinned ones only beyond their share.
 *
 * The index is walked for the lowest values, a batch at a time: what turns out to
 * be in use or to have a second name is passed over, and the next batch begins
 * behind the last one, so that no number of such files ends the search early.
 * Before anything goes it is summed up whether enough can go at all.
 */
#include "store/evict.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "policy/policy.h"

struct cand {
	double value;
	uint64_t ino;
	uint64_t bytes;
};
#define CANDS_MIN 256u
#define CANDS_MAX 65536u

struct pick {
	struct store *st;
	struct cand *c; /* owned; a max-heap: the lowest ones behind the floor */
	unsigned n, max;
	struct cand floor; /* the last one tried */
	bool has_floor;
	bool pinned;       /* looks for pinned ones, else for the others */
	uint64_t keep_ino;
	bool worse;        /* than that one: only such go */
	double below;      /* what is worth this or more stays */
	uint64_t now;      /* of this walk */
	uint64_t can_go;       /* bytes of those looked for, tried or not */
	uint64_t pinned_bytes; /* of all that are pinned */
};

static int order(const void *a, const void *b)
{
	const struct cand *x = a, *y = b;

	if (x->value != y->value)
		return x->value < y->value ? -1 : 1;
	return x->ino < y->ino ? -1 : x->ino > y->ino;
}

static void heap_down(struct cand *c, unsigned n, unsigned i)
{
	for (;;) {
		unsigned big = i, l = 2 * i + 1, r = l + 1;
		struct cand t;

		if (l < n && order(&c[l], &c[big]) > 0)
			big = l;
		if (r < n && order(&c[r], &c[big]) > 0)
			big = r;
		if (big == i)
			return;
		t = c[i];
		c[i] = c[big];
		c[big] = t;
		i = big;
	}
}

static void heap_add(struct pick *p, const struct cand *c)
{
	if (p->n < p->max) {
		p->c[p->n++] = *c;
		for (unsigned i = p->n / 2; p->n == p->max && i-- > 0;)
			heap_down(p->c, p->n, i);
	} else if (order(c, &p->c[0]) < 0) {
		p->c[0] = *c;
		heap_down(p->c, p->n, 0);
	}
}

static bool in_use(struct store *st, uint64_t ino)
{
	struct ctx *c;
	bool yes;

	if (ctx_get(st, ino, false, &c) < 0)
		return false;
	lock_acquire(&c->lock);
	yes = c->opens > 0 || c->sealing || c->copy_shared || c->unlinked;
	lock_release(&c->lock);
	ctx_put(c);
	return yes;
}

static double value_of(const struct pick *p, const struct meta_rec *r)
{
	/* of a file that was being written when the index was flushed: its size comes last */
	uint64_t logical = r->logical_bytes > r->stored_bytes ? r->logical_bytes : r->stored_bytes;
	struct policy_item item = { .last_ns = index_when(p->st, r->last_ns, p->now),
				    .heat = r->heat,
				    .heat_ns = index_when(p->st, r->heat_ns, p->now),
				    .stored_bytes = r->stored_bytes,
				    .logical_bytes = logical, .now_ns = p->now };

	return p->st->policy->value(&item);
}

static bool pick_one(void *arg, uint64_t ino, const struct meta_rec *r)
{
	struct pick *p = arg;
	struct cand c = { .ino = ino, .bytes = r->stored_bytes };
	bool pinned = (r->flags & META_PINNED) != 0;

	if ((r->flags & META_DIR) || r->stored_bytes == 0)
		return true;
	p->pinned_bytes += pinned ? r->stored_bytes : 0;
	if (pinned != p->pinned || ino == p->keep_ino || in_use(p->st, ino))
		return true;
	c.value = value_of(p, r);
	if (c.value >= p->below)
		return true;
	p->can_go += r->stored_bytes;
	if (!p->has_floor || order(&c, &p->floor) > 0)
		heap_add(p, &c);
	return true;
}

/* Removes one file as unlink would; -EBUSY when it is in use or pinned. */
static int evict_ino(struct store *st, uint64_t ino, uint64_t bytes, bool pinned)
{
	char name[NAME_MAX + 1];
	struct node *n = node_find(st->nodes, ino), *dir;
	bool known = n != NULL;
	int r = -ESTALE;

	if (!n)
		n = index_node(st, ino);
	if (!n)
		return -ENOENT;
	/* again when it was renamed between the two */
	for (int i = 0; i < 8 && (r == -ESTALE || r == -ENOENT); i++) {
		if (!node_where(st->nodes, n, &dir, name))
			break;
		r = remove_idle(st, dir, name, ino, pinned);
		if (r == 0 && st->k)
			st->k->inval_entry(st->karg, dir, name);
		node_forget(st->nodes, dir, 1);
	}
	node_forget(st->nodes, n, 1);
	if (r == 0) {
		store_count(st, CNT_EVICTED, 1);
		store_count(st, CNT_EVICTED_BYTES, bytes);
	} else if (!known && (r == -ENOENT || r == -ESTALE)) {
		index_del(st, ino); /* the index is old */
	}
	return r;
}

int evict_one(struct store *st, uint64_t ino)
{
	return evict_ino(st, ino, 0, false);
}

/* One walk over the index. */
static bool gather(struct pick *p)
{
	struct meta_rec keep;

	p->n = 0;
	p->can_go = p->pinned_bytes = 0;
	/* a file that is made while this goes on is not one of a clock that was wrong */
	p->now = clock_real_ns() + NSEC_PER_SEC;
	if (p->worse && meta_get(p->st->meta, p->keep_ino, &keep) == 0)
		p->below = value_of(p, &keep);
	if (meta_each(p->st->meta, pick_one, p) < 0 || p->n == 0)
		return false;
	qsort(p->c, p->n, sizeof(p->c[0]), order);
	return true;
}

/* The rest is further away: fewer walks over a large index. */
static void widen(struct pick *p)
{
	struct cand *c;

	p->floor = p->c[p->n - 1];
	p->has_floor = true;
	if (p->max >= CANDS_MAX)
		return;
	c = mem_realloc(p->c, (size_t)p->max * 2 * sizeof(*c));
	if (!c)
		return; /* goes on with the batch it has */
	p->c = c;
	p->max *= 2;
}

/* Pinned files that nobody but their pin protects, beyond the share of all pins. */
static bool over_share(const struct pick *p, uint64_t gone)
{
	uint64_t share = evict_pin_share(p->st);

	return p->pinned_bytes > gone && p->pinned_bytes - gone > share;
}

/* @gathered: the first batch is there. */
static void sweep(struct pick *p, uint64_t bytes, bool gathered)
{
	struct store *st = p->st;
	uint64_t gone = 0;

	while (space_free(st) < bytes && (gathered || gather(p))) {
		gathered = false;
		for (unsigned i = 0; i < p->n && space_free(st) < bytes; i++) {
			if (p->pinned && !over_share(p, gone))
				return;
			if (evict_ino(st, p->c[i].ino, p->c[i].bytes, p->pinned) == 0)
				gone += p->c[i].bytes;
		}
		/* what went is in the next walk's sum only when the index is written */
		err_ignore(meta_flush(st->meta, false));
		gone = 0;
		widen(p);
	}
}

/* Is there enough that could go? */
static bool worth_it(struct pick *p, uint64_t bytes)
{
	uint64_t share = evict_pin_share(p->st), can;

	if (!gather(p) && p->pinned_bytes <= share)
		return false;
	can = space_free(p->st) + p->can_go;
	if (p->pinned_bytes > share)
		can += p->pinned_bytes - share;
	return can >= bytes;
}

uint64_t evict_pin_share(struct store *st)
{
	return atomic_load(&st->ssd_limit) / 2;
}

bool evict_for(struct store *st, uint64_t bytes, uint64_t keep_ino, bool all_or_none, bool worse)
{
	struct pick p = { .st = st, .keep_ino = keep_ino, .max = CANDS_MIN, .below = INFINITY,
			  .worse = worse };

	p.c = mem_calloc(p.max, sizeof(*p.c));
	if (!p.c)
		return false;
	err_ignore(meta_flush(st->meta, false)); /* the index as far as it goes */
	if (!all_or_none || worth_it(&p, bytes)) {
		sweep(&p, bytes, p.n > 0);
		p.has_floor = false;
		p.pinned = true;
		if (!worse)
			sweep(&p, bytes, false);
	}
	mem_free(p.c);
	return space_free(st) >= bytes;
}

/* ---- pins ----------------------------------------------------------------- */

#define PIN_SUM_NS (10 * NSEC_PER_SEC)
#define PIN_REFUSE_NS NSEC_PER_SEC

static bool add_pinned(void *arg, uint64_t ino, const struct meta_rec *r)
{
	uint64_t *sum = arg;

	(void)ino;
	*sum += (r->flags & META_PINNED) ? r->stored_bytes : 0;
	return true;
}

/* Sums the index up at most once a second, and not on every pin. */
bool evict_pin_room(struct store *st, uint64_t bytes)
{
	uint64_t share = evict_pin_share(st), now = clock_mono_ns(), age;
	bool ok;

	lock_acquire(&st->evict_lock);
	age = now - st->pins_ns;
	if (st->pins_ns == 0 || age > PIN_SUM_NS ||
	    (st->pins_bytes + bytes > share && age > PIN_REFUSE_NS)) {
		st->pins_bytes = 0;
		err_ignore(meta_flush(st->meta, false)); /* the index as far as it goes */
		err_ignore(meta_each(st->meta, add_pinned, &st->pins_bytes));
		st->pins_ns = now;
	}
	ok = bytes <= share && st->pins_bytes <= share - bytes;
	if (ok)
		st->pins_bytes += bytes;
	lock_release(&st->evict_lock);
	return ok;
}

void evict_unpinned(struct store *st, uint64_t bytes)
{
	lock_acquire(&st->evict_lock);
	st->pins_bytes -= bytes < st->pins_bytes ? bytes : st->pins_bytes;
	lock_release(&st->evict_lock);
}
