/* SPDX-License-Identifier: MIT */
/* The table at the head of window.c, as assertions; test builds only. */
#include <assert.h>
#include <string.h>

#include "store/window.h"

#ifdef KVFS_FAULTS
static unsigned length(const struct list *head)
{
	unsigned n = 0;

	list_for_each(l, head)
		n++;
	return n;
}

static bool linked(const struct slot *s)
{
	return s->link.next != &s->link;
}

static void check_slot(const struct slot *s)
{
	switch (s->state) {
	case SLOT_FREE:
		assert(!s->pins && !s->hashed && !s->buf && linked(s));
		break;
	case SLOT_LOADING:
		assert(s->buf && !linked(s));
		break;
	case SLOT_READY:
		assert(s->buf && !s->fb && !s->obj && !s->rep);
		assert(s->pins ? !linked(s) : linked(s) && s->hashed);
		break;
	case SLOT_FAILED:
		assert(s->pins && !s->hashed && !s->buf && !linked(s));
		break;
	}
}

static bool same_key(const struct slot *a, const struct slot *b)
{
	return a->chunk == b->chunk && a->n_layers == b->n_layers &&
	       a->id.generation == b->id.generation &&
	       memcmp(a->id.id, b->id.id, sizeof(a->id.id)) == 0;
}

void window_check_locked(struct window *w)
{
	unsigned count[SLOT_FAILED + 1] = { 0 }, hashed = 0, chained = 0, idle = 0;

	for (unsigned i = 0; i < w->n_slots; i++) {
		const struct slot *s = &w->slots[i];

		assert((unsigned)s->state <= SLOT_FAILED);
		check_slot(s);
		count[s->state]++;
		hashed += s->hashed;
		idle += s->state == SLOT_READY && !s->pins;
	}
	for (unsigned i = 0; i < w->n_hash; i++)
		for (const struct slot *s = w->hash[i]; s; s = s->hash_next, chained++) {
			assert(s->hashed);
			for (const struct slot *t = s->hash_next; t; t = t->hash_next)
				assert(!same_key(s, t));
		}
	assert(hashed == chained);
	assert(count[SLOT_LOADING] == w->n_loading);
	assert(count[SLOT_FREE] == length(&w->free));
	assert(idle == length(&w->lru) + length(&w->reuse));
}
#else
void window_check_locked(struct window *w)
{
	(void)w;
}
#endif
