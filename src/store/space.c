/* SPDX-License-Identifier: MIT */
/*
 * The two budgets. SSD: what all files occupy, tree and objects together;
 * reached, it is ENOSPC or the least useful closed files go (full=evict: evict.c).
 * DRAM: dropping the coldest replicas and decoded copies; they are copies, so
 * that costs time and never data.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "store/adapt.h"
#include "store/evict.h"
#include "store/seal.h"

/* ---- DRAM ----------------------------------------------------------------- */

void space_drop_dram(struct ctx *c, bool replica, bool copy)
{
	struct replica *rep = NULL;
	struct copy *cp = NULL;

	lock_acquire(&c->lock);
	if (replica) {
		rep = c->rep;
		c->rep = NULL;
	}
	/* one that is still mapped must be there for the next writer */
	if (copy && c->copy && !c->copy_shared && !(c->passthrough > 0 && c->backing_is_copy) &&
	    !copy_in_use(c->copy)) {
		cp = c->copy;
		c->copy = NULL;
	}
	lock_release(&c->lock);
	if (rep || cp)
		store_count(c->st, CNT_DRAM_EVICTED, 1);
	replica_put(rep);
	copy_put(cp);
	ctx_cooled(c);
	if (rep || cp)
		adapt_moved(c);
}

struct room {
	struct store *st;
	uint64_t want;
	const struct ctx *keep;
	bool replicas; /* second pass: copies alone did not do */
};

/* What cannot go is in use: as a use it makes way for the next coldest. */
static bool drop_cold(struct ctx *c, void *arg)
{
	struct room *r = arg;

	if (c != r->keep)
		space_drop_dram(c, r->replicas, true);
	if (r->replicas)
		ctx_touch(c, false);
	if (c == r->keep)
		return true;
	if (r->st->copies)
		copy_pool_shrink(r->st->copies, r->want, false);
	return budget_free(&r->st->dram) < r->want;
}

bool space_dram(struct store *st, uint64_t bytes, const struct ctx *keep)
{
	struct room room = { .st = st, .want = bytes, .keep = keep };

	if (bytes > budget_limit(&st->dram))
		return false;
	if (st->copies && st->adapt && budget_free(&st->dram) < bytes)
		copy_pool_shrink(st->copies, bytes, false);
	if (adapt_room_dram(st, bytes, keep))
		return true;
	for (int pass = 0; pass < 64 && budget_free(&st->dram) < bytes; pass++) {
		if (st->copies)
			copy_pool_shrink(st->copies, bytes, false);
		room.replicas = pass % 2 == 1;
		if (budget_free(&st->dram) < bytes && !ctx_coldest(st, drop_cold, &room))
			break;
	}
	if (st->copies && budget_free(&st->dram) < bytes)
		copy_pool_shrink(st->copies, bytes, true);
	if (budget_free(&st->dram) < bytes)
		reader_shrink(st->reader, bytes);
	return budget_free(&st->dram) >= bytes;
}

static bool drop_copy(struct ctx *c, void *arg)
{
	struct room *r = arg;

	if (c != r->keep)
		space_drop_dram(c, false, true);
	return !copy_pool_ready(r->st->copies, r->want);
}

bool space_copy(struct store *st, uint64_t bytes, const struct ctx *keep)
{
	struct room room = { .st = st, .want = bytes, .keep = keep };

	if (copy_pool_ready(st->copies, bytes))
		return true;
	/* adaptive has done that: adaptive_hit */
	if (st->adapt || budget_free(&st->dram) >= bytes)
		return false;
	ctx_recent(st, drop_copy, &room);
	return copy_pool_ready(st->copies, bytes);
}

/* ---- nodes ---------------------------------------------------------------- */

#define PRUNE_BATCH 512u
#define PRUNE_PAUSE_NS (10 * NSEC_PER_MSEC) /* when the kernel has enough to forget */

void space_prune_nodes(struct store *st)
{
	uint64_t used = atomic_load(&st->dram.use_bytes[BUDGET_TABLE]);
	struct node *pick[PRUNE_BATCH];
	unsigned n, pruned = 0;
	bool behind = false;

	/* at most half of the memory for names; looked at without a lock: a hint */
	if (!st->k || used < budget_limit(&st->dram) / 2 + (16u << 20))
		return;
	if (clock_mono_ns() < atomic_load(&st->prune_after_ns) ||
	    atomic_exchange(&st->pruning, true))
		return;
	n = node_pick(st->nodes, &st->prune_cursor, pick, PRUNE_BATCH);
	for (unsigned i = 0; i < n; i++) {
		char name[NAME_MAX + 1];
		struct node *dir;

		if (!behind && node_where(st->nodes, pick[i], &dir, name)) {
			behind = !st->k->prune_entry(st->karg, dir, name);
			pruned += !behind;
			node_forget(st->nodes, dir, 1);
		}
		node_forget(st->nodes, pick[i], 1);
	}
	if (behind)
		atomic_store(&st->prune_after_ns, clock_mono_ns() + PRUNE_PAUSE_NS);
	store_count(st, CNT_PRUNED, pruned);
	atomic_store(&st->pruning, false);
}

/* ---- SSD ------------------------------------------------------------------ */

/* What is in use. A sum of differences taken at different times: it may be some
 * blocks below zero for a moment, which is none. */
uint64_t space_used(struct store *st)
{
	uint64_t used = atomic_load(&st->ssd_used);

	return (int64_t)used < 0 ? 0 : used;
}

/* The limit less what the filesystem adds to files behind our back, when it writes them
 * to the device: blocks with its maps of where their data lie. */
#define MAPS_PART 1024u

static uint64_t usable(struct store *st)
{
	uint64_t limit = atomic_load(&st->ssd_limit);

	return limit - limit / MAPS_PART;
}

uint64_t space_limit(struct store *st)
{
	return usable(st);
}

uint64_t space_free(struct store *st)
{
	uint64_t used = space_used(st), limit = usable(st);

	return used < limit ? limit - used : 0;
}

uint64_t space_short(struct store *st, uint64_t bytes)
{
	uint64_t used = space_used(st), limit = usable(st);

	if (used > limit)
		return bytes + (used - limit);
	return bytes > limit - used ? bytes - (limit - used) : 0;
}

void space_release(struct store *st, uint64_t bytes)
{
	atomic_fetch_sub(&st->ssd_reserved, bytes);
	atomic_fetch_sub(&st->ssd_used, bytes);
}

/* Sealing needs room for the object before it frees the plain data: writers
 * leave it this much, unless nothing else can give way. */
uint64_t space_seal_room(uint64_t limit)
{
	return limit / 8 < (2ull << 30) ? limit / 8 : 2ull << 30;
}

static bool take(struct store *st, uint64_t bytes, uint64_t keep_free)
{
	uint64_t limit = usable(st), used = atomic_load(&st->ssd_used);

	while (bytes <= limit && keep_free <= limit - bytes &&
	       ((int64_t)used < 0 || used <= limit - bytes - keep_free))
		if (atomic_compare_exchange_weak(&st->ssd_used, &used, used + bytes)) {
			atomic_fetch_add(&st->ssd_reserved, bytes);
			return true;
		}
	return false;
}

/* @worse: of files only those that are worth less than @keep_ino. */
static bool make_room(struct store *st, uint64_t bytes, uint64_t keep_ino, bool worse)
{
	bool ok;

	if ((st->cfg.full != FULL_EVICT && !st->adapt) || bytes > usable(st))
		return false;
	(void)adapt_knows(st, true);
	lock_acquire(&st->evict_lock);
	ok = space_free(st) >= bytes || adapt_room_ssd(st, bytes, keep_ino, true) ||
	     (st->cfg.full == FULL_EVICT && evict_for(st, bytes, keep_ino, true, worse));
	lock_release(&st->evict_lock);
	return ok;
}

void space_trim(struct store *st, uint64_t bytes)
{
	if (st->cfg.full != FULL_EVICT && !st->adapt)
		return;
	(void)adapt_knows(st, true);
	lock_acquire(&st->evict_lock);
	if (space_free(st) < bytes && !adapt_room_ssd(st, bytes, 0, false) &&
	    st->cfg.full == FULL_EVICT)
		evict_for(st, bytes, 0, false, false);
	lock_release(&st->evict_lock);
}

#define RESERVE_MIN (2ull << 30)

uint64_t space_write_reserve(struct store *st)
{
	uint64_t part = atomic_load(&st->ssd_limit) / 20;

	if (st->cfg.reserve_bytes)
		return st->cfg.reserve_bytes;
	return part > RESERVE_MIN ? part : RESERVE_MIN;
}

static int reserve_last(struct store *st, uint64_t bytes, uint64_t keep_ino, bool worse)
{
	while (!take(st, bytes, 0))
		if (!make_room(st, bytes, keep_ino, worse))
			return -KVFS_EFULL;
	return 0;
}

int space_reserve(struct store *st, uint64_t bytes, uint64_t keep_ino)
{
	uint64_t room = space_seal_room(atomic_load(&st->ssd_limit));

	/* sealing what waits is the cheapest way to room: nothing is lost */
	for (int i = 0; i < 1000; i++) {
		if (take(st, bytes, room))
			return 0;
		if (!seal_press(st))
			break;
	}
	while (!take(st, bytes, room))
		if (!make_room(st, bytes + room, keep_ino, false))
			return reserve_last(st, bytes, keep_ino, false);
	return 0;
}

int space_reserve_seal(struct store *st, uint64_t bytes, uint64_t keep_ino)
{
	return reserve_last(st, bytes, keep_ino, true);
}

/* As the kernel's check for unlink, less supplementary groups. */
static int may_unlink(struct store *st, struct node *n, const struct caller *who)
{
	char name[NAME_MAX + 1];
	struct node *dir;
	struct stat sb;
	mode_t need = S_IWOTH | S_IXOTH;
	int r;

	if (who->uid == 0)
		return 0;
	if (!node_where(st->nodes, n, &dir, name))
		return -ESTALE;
	r = attr_node(st, dir, &sb);
	node_forget(st->nodes, dir, 1);
	if (r < 0)
		return r;
	if (who->uid == sb.st_uid)
		need = S_IWUSR | S_IXUSR;
	else if (who->gid == sb.st_gid)
		need = S_IWGRP | S_IXGRP;
	return (sb.st_mode & need) == need ? 0 : -EACCES;
}

int store_evict(struct store *st, struct node *n, const struct caller *who)
{
	int r;

	if (st->read_only)
		return -EROFS;
	if (!S_ISREG(node_type(n)))
		return -EINVAL;
	r = may_unlink(st, n, who);
	return r < 0 ? r : evict_one(st, node_ino(n));
}

uint64_t space_limit_of(struct store *st, uint64_t ssd_bytes)
{
	struct statvfs sv;

	if (ssd_bytes)
		return ssd_bytes;
	if (fstatvfs(st->tree_fd, &sv) < 0)
		return UINT64_MAX / 2;
	return (uint64_t)sv.f_blocks * sv.f_frsize;
}

int store_set_limit(struct store *st, bool dram, uint64_t bytes)
{
	if (dram && bytes < 16ull << 20)
		return -EINVAL;
	if (dram) {
		uint64_t over;

		atomic_store(&st->dram.limit_bytes, bytes);
		if (st->copies && copy_pool_reserved(st->copies) > bytes / 8)
			copy_pool_reserve(st->copies, 0); /* too much now; asked for anew */
		over = budget_used(&st->dram);
		if (over > bytes)
			err_ignore(space_dram(st, 1, NULL)); /* as far as it goes */
		adapt_limits(st);
		return 0;
	}
	atomic_store(&st->ssd_limit, space_limit_of(st, bytes));
	space_trim(st, 1);
	adapt_limits(st);
	return 0;
}
