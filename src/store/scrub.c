/* SPDX-License-Identifier: MIT */
/*
 * Scrubbing: every chunk of every object is read from the device and verified, on a
 * thread of its own, between what readers want. A file that changes meanwhile has
 * no more to verify: what it is made of now was just written.
 */
#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "base/mem.h"
#include "base/thread.h"
#include "store/level.h"

/* 1 when chunk @i of @o is part of the content, 0 when the content ends before it,
 * -KVFS_ECANCELED when there is no more to verify. */
static int counts(struct ctx *c, const struct object *o, uint32_t i)
{
	int r;

	gate_enter(&c->gate, false);
	r = c->obj == o ? o->chunks[i].off_bytes < c->rec.valid_bytes : -KVFS_ECANCELED;
	gate_leave(&c->gate, false);
	return atomic_load(&c->st->stopping) ? -KVFS_ECANCELED : r;
}

static int scrub_object(struct ctx *c, const struct object *o, unsigned n_layers)
{
	struct store *st = c->st;
	size_t most = object_chunk_max(o);
	uint8_t *buf;
	int r = 0;

	budget_force(&st->dram, BUDGET_BUFFER, most);
	buf = mem_alloc_pages(most);
	if (!buf)
		r = -ENOMEM;
	for (uint32_t i = 0; i < o->n_chunks && r == 0; i++) {
		r = counts(c, o, i);
		if (r <= 0)
			break;
		workers_yield(st->workers);
		r = reader_verify(st->reader, o, i, n_layers, buf);
		lock_acquire(&st->scrub_lock);
		st->scrub.bytes_done += o->chunks[i].len_bytes;
		lock_release(&st->scrub_lock);
	}
	mem_free_pages(buf, most);
	budget_give(&st->dram, BUDGET_BUFFER, most);
	return r;
}

static int scrub_file(struct store *st, struct node *n)
{
	struct object *o = NULL;
	unsigned n_layers = 0;
	struct ctx *c;
	int r = ctx_get(st, node_ino(n), true, &c);

	if (r < 0)
		return r;
	ctx_work_begin(c);
	gate_enter(&c->gate, true);
	r = ctx_load_locked(c, n);
	if (r == 0)
		r = ctx_object_locked(c);
	if (r == 0 && c->obj) {
		o = object_get(c->obj);
		n_layers = level_stored(c);
	}
	gate_leave(&c->gate, true);
	if (o)
		r = scrub_object(c, o, n_layers);
	object_put(o);
	if (r == 0) {
		lock_acquire(&c->lock);
		c->damaged = false; /* restored */
		lock_release(&c->lock);
	} else if (r == -KVFS_ECANCELED) {
		r = 0;
	} else {
		err_ignore(damage_note(c, r)); /* counted and logged there */
		index_heat(c);
		if (damage_is(r))
			damage_hide(c, n);
	}
	ctx_work_end(c);
	if (c->cut_due)
		level_settle(c, n);
	ctx_put(c);
	return r;
}

static void *scrub_thread(void *arg)
{
	struct store *st = arg;
	uint64_t *ino;
	size_t n_ino = info_inodes(st, &ino);

	lock_acquire(&st->scrub_lock);
	st->scrub.files_total = n_ino;
	lock_release(&st->scrub_lock);
	for (size_t i = 0; i < n_ino && !atomic_load(&st->stopping); i++) {
		struct node *n = index_find(st, ino[i]);
		int r = 0;

		if (n) {
			r = scrub_file(st, n);
			node_forget(st->nodes, n, 1);
		}
		lock_acquire(&st->scrub_lock);
		st->scrub.files_done++;
		st->scrub.damaged += r < 0;
		lock_release(&st->scrub_lock);
	}
	mem_free(ino);
	lock_acquire(&st->scrub_lock);
	st->scrub.running = false;
	lock_release(&st->scrub_lock);
	return NULL;
}

int store_scrub_start(struct store *st)
{
	int r = 0;

	lock_acquire(&st->scrub_lock);
	if (st->scrub.running) {
		r = -EALREADY;
	} else {
		if (st->scrub_started)
			pthread_join(st->scrub_tid, NULL);
		memset(&st->scrub, 0, sizeof(st->scrub));
		st->scrub.running = true;
		r = thread_start("kvfs-scrub", scrub_thread, st, &st->scrub_tid);
		st->scrub_started = r == 0;
		if (r < 0)
			st->scrub.running = false;
	}
	lock_release(&st->scrub_lock);
	return r;
}

void scrub_stop(struct store *st)
{
	if (st->scrub_started)
		pthread_join(st->scrub_tid, NULL);
	st->scrub_started = false;
}

void store_scrub_status(struct store *st, struct scrub_status *ret)
{
	lock_acquire(&st->scrub_lock);
	*ret = st->scrub;
	lock_release(&st->scrub_lock);
}
