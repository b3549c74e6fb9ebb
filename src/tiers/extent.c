/* SPDX-License-Identifier: MIT */
/*
 * Free extents in two treaps over the same nodes: by offset, to find the
 * neighbours to merge with, and by length, for best fit. A treap because
 * insertion and removal are a few lines without recursion or rotations; the
 * priority is a hash of the offset, so shapes are reproducible.
 */
#include "tiers/extent.h"

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/hash.h"

enum { BY_OFF, BY_LEN };

static bool extent_before(int t, const struct extent *a, const struct extent *b)
{
	if (t == BY_LEN && a->len != b->len)
		return a->len < b->len;
	return a->off < b->off;
}

static void extent_link(struct extent **slot, int t, struct extent *e)
{
	struct extent **l = &e->left[t], **r = &e->right[t], *n;

	while (*slot && (*slot)->prio >= e->prio)
		slot = extent_before(t, e, *slot) ? &(*slot)->left[t] : &(*slot)->right[t];
	/* e takes this place; what was below is split around it */
	n = *slot;
	*slot = e;
	while (n) {
		if (extent_before(t, n, e)) {
			*l = n;
			l = &n->right[t];
			n = *l;
		} else {
			*r = n;
			r = &n->left[t];
			n = *r;
		}
	}
	*l = *r = NULL;
}

static void extent_unlink(struct extent **slot, int t, const struct extent *e)
{
	struct extent *a = e->left[t], *b = e->right[t];

	while (*slot != e) {
		assert(*slot);
		slot = extent_before(t, e, *slot) ? &(*slot)->left[t] : &(*slot)->right[t];
	}
	while (a && b) {
		if (a->prio > b->prio) {
			*slot = a;
			slot = &a->right[t];
			a = *slot;
		} else {
			*slot = b;
			slot = &b->left[t];
			b = *slot;
		}
	}
	*slot = a ? a : b;
}

struct extent *extent_set_best(const struct extent_set *s, uint64_t len)
{
	struct extent *best = NULL, *n = s->root[BY_LEN];

	while (n) {
		if (n->len >= len) {
			best = n;
			n = n->left[BY_LEN];
		} else {
			n = n->right[BY_LEN];
		}
	}
	return best;
}

struct extent *extent_set_first(const struct extent_set *s)
{
	struct extent *n = s->root[BY_OFF];

	while (n && n->left[BY_OFF])
		n = n->left[BY_OFF];
	return n;
}

/* The last extent that starts before @off, and the first that does not. */
static void extent_around(const struct extent_set *s, uint64_t off, struct extent **ret_prev,
			  struct extent **ret_next)
{
	struct extent *n = s->root[BY_OFF];

	*ret_prev = *ret_next = NULL;
	while (n) {
		if (n->off < off) {
			*ret_prev = n;
			n = n->right[BY_OFF];
		} else {
			*ret_next = n;
			n = n->left[BY_OFF];
		}
	}
}

void extent_set_add(struct extent_set *s, struct extent *e, struct extent **spare)
{
	struct extent *prev, *next;

	assert(e->len);
	extent_around(s, e->off, &prev, &next);
	assert(!prev || prev->off + prev->len <= e->off);
	assert(!next || e->off + e->len <= next->off);
	if (prev && prev->off + prev->len == e->off) {
		extent_set_remove(s, prev);
		e->off = prev->off;
		e->len += prev->len;
		extent_spare_push(spare, prev);
	}
	if (next && e->off + e->len == next->off) {
		extent_set_remove(s, next);
		e->len += next->len;
		extent_spare_push(spare, next);
	}
	e->prio = hash_u64(e->off + 1);
	extent_link(&s->root[BY_OFF], BY_OFF, e);
	extent_link(&s->root[BY_LEN], BY_LEN, e);
	s->count++;
	s->bytes += e->len;
}

void extent_set_remove(struct extent_set *s, struct extent *e)
{
	extent_unlink(&s->root[BY_OFF], BY_OFF, e);
	extent_unlink(&s->root[BY_LEN], BY_LEN, e);
	s->count--;
	s->bytes -= e->len;
}

void extent_spare_push(struct extent **spare, struct extent *e)
{
	e->left[0] = *spare;
	*spare = e;
}

struct extent *extent_spare_pop(struct extent **spare)
{
	struct extent *e = *spare;

	if (e)
		*spare = e->left[0];
	return e;
}
