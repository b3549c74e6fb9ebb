/* SPDX-License-Identifier: MIT */
/*
 * Room for what others bring: the policy gives up what is worth least, in the caller's
 * thread.
 */
#include "store/adapt.h"

#include <errno.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"
#include "store/adapt_types.h"

/* Whoever needs memory asks again for so long while the table is being planned. */
#define ROOM_TRIES 50
#define ROOM_PAUSE_NS 100000

/* What is in memory goes anyway, and its user does not wait; for storage, files would go instead. */
static bool table_take(struct adapt *ad, enum adaptive_tier tier) TRY_ACQUIRES(true, ad->lock)
{
	const struct timespec pause = { 0, ROOM_PAUSE_NS };

	if (tier == ADAPTIVE_SSD) {
		lock_acquire(&ad->lock);
		return true;
	}
	for (int i = 0; i < ROOM_TRIES; i++) {
		if (lock_try(&ad->lock))
			return true;
		nanosleep(&pause, NULL);
	}
	return false;
}

/* Steps of least loss until @bytes would be free, carried out here. False: none. */
static bool give_up(struct adapt *ad, enum adaptive_tier tier, uint64_t bytes, uint64_t keep)
{
	struct adaptive_moves m = { .max = ADAPT_MOVES_MAX };

	m.v = mem_alloc(m.max * sizeof(*m.v));
	if (!m.v)
		return false;
	if (table_take(ad, tier)) {
		(void)adaptive_room(ad->a, tier, bytes, keep, clock_real_ns(), &m);
		lock_release(&ad->lock);
	}
	for (unsigned i = 0; i < m.n; i++)
		adapt_carry_out(ad, &m.v[i]);
	mem_free(m.v);
	return m.n > 0;
}

#define ROUNDS 8

/* For a decoded @copy the pages that another one leaves do as well. */
static bool enough(struct store *st, uint64_t bytes, bool copy)
{
	return budget_free(&st->dram) >= bytes || (copy && copy_pool_ready(st->copies, bytes));
}

/* What was given up may be kept for its next use by the pool or the arena. */
static bool room_dram(struct store *st, uint64_t bytes, const struct ctx *keep, bool copy)
{
	struct adapt *ad = st->adapt;

	for (int i = 0; ad && i < ROUNDS && !enough(st, bytes, copy); i++) {
		if (!give_up(ad, ADAPTIVE_DRAM, budget_short(&st->dram, bytes), keep ? keep->ino : 0))
			break;
		if (!copy && st->copies)
			copy_pool_shrink(st->copies, bytes, false);
		if (!enough(st, bytes, copy))
			(void)arena_trim(st->arena);
	}
	return enough(st, bytes, copy);
}

bool adapt_room_dram(struct store *st, uint64_t bytes, const struct ctx *keep)
{
	return room_dram(st, bytes, keep, false);
}

bool adapt_room_copy(struct store *st, uint64_t bytes, const struct ctx *keep)
{
	return room_dram(st, bytes, keep, true);
}

#define KNOWN_LOOK_NS (100 * NSEC_PER_MSEC) /* is the end near? */

bool adapt_knows(struct store *st, bool wait)
{
	struct adapt *ad = st->adapt;
	bool known;

	if (!ad)
		return true;
	lock_acquire(&ad->q_lock);
	while (wait && !ad->known && !atomic_load(&st->stopping) &&
	       clock_mono_ns() < ad->known_by_ns)
		(void)cond_wait_until(&ad->all_known, &ad->q_lock,
				      clock_mono_ns() + KNOWN_LOOK_NS);
	known = ad->known || clock_mono_ns() >= ad->known_by_ns;
	lock_release(&ad->q_lock);
	return known;
}

/* Could that be made free at all, as far as is known before it is tried? */
static bool room_ssd_exists(struct store *st, uint64_t bytes, uint64_t keep_ino)
{
	struct adapt *ad = st->adapt;
	uint64_t spare;

	lock_acquire(&ad->lock);
	adaptive_retry(ad->a);
	spare = adaptive_spare(ad->a, keep_ino);
	lock_release(&ad->lock);
	return space_short(st, bytes) <= spare;
}

bool adapt_room_ssd(struct store *st, uint64_t bytes, uint64_t keep_ino, bool all_or_none)
{
	struct adapt *ad = st->adapt;

	if (!ad || (!room_ssd_exists(st, bytes, keep_ino) && all_or_none))
		return false;
	for (int i = 0; i < ROUNDS && space_short(st, bytes) > 0; i++)
		if (!give_up(ad, ADAPTIVE_SSD, space_short(st, bytes), keep_ino))
			break;
	return space_free(st) >= bytes;
}
