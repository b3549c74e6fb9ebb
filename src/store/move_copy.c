/* SPDX-License-Identifier: MIT */
/*
 * Decoded copies: making one, at open or for the policy, and pages for the next ones,
 * which are cleared in the background. Where memory is full, some are reserved.
 */
#include <errno.h>
#include <stdatomic.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"
#include "store/adapt.h"
#include "store/store_types.h"

static bool room_for_copy(struct store *st, uint64_t size, const struct ctx *keep)
{
	uint64_t held = copy_held(size);

	return adapt_room_copy(st, held, keep) || space_dram(st, held, keep);
}

/* Gate held. 0 also when there is one already. */
int move_copy(struct ctx *c, const struct read_pace *pace)
{
	struct store *st = c->st;
	struct read_source src;
	struct copy *copy;
	bool there;
	void *map;
	int r;

	if (!st->copies)
		return -EOPNOTSUPP;
	if (c->state != CTX_SEALED || !c->obj)
		return -EINVAL;
	lock_acquire(&c->lock);
	there = c->copy;
	lock_release(&c->lock);
	if (there)
		return 0;
	r = copy_create(st->copies, c->size, &copy);
	if (r == -KVFS_EBUDGET && room_for_copy(st, c->size, c))
		r = copy_create(st->copies, c->size, &copy);
	if (r < 0)
		return r;
	r = copy_map(copy, &map);
	if (r == 0) {
		read_source_of(c, &src);
		r = reader_decode_all(st->reader, &src, map, c->size, pace);
		replica_put(src.rep);
		copy_unmap(copy, map);
	}
	if (r < 0) {
		copy_put(copy);
		return r;
	}
	lock_acquire(&c->lock);
	if (c->copy) {
		lock_release(&c->lock);
		copy_put(copy);
		return 0;
	}
	c->copy = copy;
	lock_release(&c->lock);
	store_count(st, CNT_COPIES, 1);
	ctx_reason(c, "decoded copy made");
	adapt_moved(c);
	ctx_touch(c, false);
	return 0;
}

struct prepare {
	struct work work;
	struct store *st;
	uint64_t size;
	uint64_t decoded; /* by the reader, when last asked */
	unsigned waited;
};

#define PREPARE_WAITS 5u

/* Clearing huge pages cannot be interrupted and may take milliseconds each: not
 * while somebody reads, unless that never ends. */
static bool prepare_go_on(void *arg)
{
	struct timespec ts = { 0, 10 * 1000 * 1000 };
	struct prepare *p = arg;
	struct reader_stats rs;

	while (!atomic_load(&p->st->stopping) && p->waited < PREPARE_WAITS) {
		reader_stats(p->st->reader, &rs);
		if (rs.decoded_bytes == p->decoded)
			break;
		p->decoded = rs.decoded_bytes;
		nanosleep(&ts, NULL);
		p->waited++;
	}
	return !atomic_load(&p->st->stopping);
}

/* Of a full memory, a file's own decoding may take this share, and those reserved for
 * the next files half of it. */
#define DECODING_SHARE 8u

static uint64_t reserve_of(const struct store *st, uint64_t size)
{
	uint64_t limit = budget_limit(&st->dram), held = copy_held(size);

	if (held > limit / DECODING_SHARE)
		return 0;
	return held > limit / DECODING_SHARE / 4 ? held : 2 * held;
}

/* For the next decodings at open, and those that are being read. */
uint64_t move_copies_room(const struct store *st)
{
	return st->copies ? 2 * copy_pool_reserved(st->copies) : 0;
}

/* Is there room for a file of pages more, or may others make way for it? One that plans leaves
 * room for so many; beyond that contexts would lose, and get back, far more than streaming
 * costs. */
static bool may_prepare(struct store *st, uint64_t size)
{
	uint64_t held = copy_held(size);

	if (budget_free(&st->dram) >= held)
		return true;
	if (!copy_pool_reserved(st->copies))
		return false;
	return !st->adapt || atomic_load(&st->made_bytes) + copy_pool_idle(st->copies) + held <=
				     move_copies_room(st);
}

static void prepare_run(struct work *w)
{
	struct prepare *p = container_of(w, struct prepare, work);
	struct store *st = p->st;

	if (budget_free(&st->dram) < copy_held(p->size))
		(void)room_for_copy(st, p->size, NULL); /* as far as it goes */
	if (!atomic_load(&st->stopping) && !copy_pool_ready(st->copies, p->size))
		err_ignore(copy_pool_prepare(st->copies, p->size, prepare_go_on, p)); /* or stream */
	mem_free(p);
	atomic_store(&st->preparing, false);
	atomic_fetch_sub(&st->moves, 1);
}

#define RESERVE_STAYS_NS (60 * NSEC_PER_SEC)

/* Up at once, down when nothing of that size came for a while: what a policy that plans gives
 * contexts does not swing with the size of each file. */
static void set_reserve(struct store *st, uint64_t bytes)
{
	uint64_t now = clock_mono_ns(), is = copy_pool_reserved(st->copies);

	if (bytes < is && now < atomic_load(&st->reserve_ns) + RESERVE_STAYS_NS)
		return;
	copy_pool_reserve(st->copies, bytes);
	atomic_store(&st->reserve_ns, now);
}

void move_prepare(struct store *st, uint64_t size)
{
	uint64_t reserve = reserve_of(st, size);
	struct prepare *p;

	if (!st->copies || atomic_load(&st->stopping) || atomic_load(&st->whole_bias) <= 0 ||
	    copy_pool_ready(st->copies, size))
		return;
	if (reserve || budget_free(&st->dram) >= copy_held(size))
		set_reserve(st, reserve);
	if (!may_prepare(st, size) || atomic_exchange(&st->preparing, true))
		return;
	p = mem_zalloc(sizeof(*p));
	if (!p) {
		atomic_store(&st->preparing, false);
		return;
	}
	p->st = st;
	p->size = size;
	p->work.run = prepare_run;
	list_init(&p->work.link);
	atomic_fetch_add(&st->moves, 1);
	workers_submit(st->workers, WORK_BACKGROUND, &p->work);
}
