/* SPDX-License-Identifier: MIT */
/* What the store shows of itself: contexts, status, counters. */
#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/units.h"
#include "policy/heat.h"
#include "policy/policy.h"
#include "store/adapt.h"
#include "store/evict.h"
#include "store/grant.h"
#include "store/level.h"
#include "store/level_quality.h"
#include "store/thin.h"

static const char *const counter_names[CNT_N_] = {
#define X(id, name, help) name,
	STORE_COUNTERS(X)
#undef X
};
static const char *const counter_help[CNT_N_] = {
#define X(id, name, help) help,
	STORE_COUNTERS(X)
#undef X
};

void store_each_counter(struct store *st,
			void (*cb)(void *arg, const char *name, const char *help, uint64_t value),
			void *arg)
{
	struct reader_stats rs = { 0 };

	if (st->reader)
		reader_stats(st->reader, &rs);
	atomic_store(&st->counters[CNT_FETCHED_BYTES], rs.fetched_bytes);
	for (unsigned i = 0; i < CNT_N_; i++)
		cb(arg, counter_names[i], counter_help[i], atomic_load(&st->counters[i]));
}

/* What is in memory, and layers that were dropped under somebody who uses them. */
static bool add_held(struct ctx *c, void *arg)
{
	struct store_status *ret = arg;
	struct node *n;
	size_t at;

	lock_acquire(&c->lock);
	ret->replicas += c->rep != NULL;
	ret->copies += c->copy != NULL;
	lock_release(&c->lock);
	if (!gate_try(&c->gate, false))
		return true;
	if (c->cut_due && c->obj) {
		ret->held_files++;
		ret->held_bytes += (uint64_t)c->rec.stored_blocks * STORE_BLOCK -
				   c->obj->level_bytes[level_stored(c) - 1];
		n = node_find(c->st->nodes, c->ino);
		at = strlen(ret->held);
		if (n && at + 3 < sizeof(ret->held)) {
			if (at)
				at += (size_t)snprintf(ret->held + at, 3, ", ");
			node_path(c->st->nodes, n, ret->held + at, sizeof(ret->held) - at);
		}
		if (n)
			node_forget(c->st->nodes, n, 1);
	}
	gate_leave(&c->gate, false);
	return true;
}

void store_status(struct store *st, struct store_status *ret)
{
	struct meta_totals t;
	struct reader_stats rs;
	struct tier_stats ts;

	memset(ret, 0, sizeof(*ret));
	meta_totals(st->meta, &t);
	ret->dram_limit = budget_limit(&st->dram);
	ret->dram_used = budget_used(&st->dram);
	for (unsigned i = 0; i < BUDGET_USES_; i++)
		ret->dram_use[i] = atomic_load(&st->dram.use_bytes[i]);
	ret->ssd_limit = atomic_load(&st->ssd_limit);
	ret->ssd_used = space_used(st);
	ret->ssd_overshoot = ret->ssd_used > ret->ssd_limit ? ret->ssd_used - ret->ssd_limit : 0;
	ret->ssd_logical = t.logical_bytes;
	ret->files = t.files;
	ret->files_sealed = t.sealed;
	ret->nodes = node_count(st->nodes);
	lock_acquire(&st->seal.lock);
	ret->seal_queue = st->seal.n_queue + st->seal.n_feed;
	ret->seal_running = st->seal.running;
	lock_release(&st->seal.lock);
	ctx_each(st, add_held, ret);
	ret->paths = st->paths;
	snprintf(ret->uuid, sizeof(ret->uuid), "%s", st->uuid);
	snprintf(ret->policy, sizeof(ret->policy), "%s", st->policy->name);
	ret->read_only = st->read_only;
	if (st->reader) {
		reader_stats(st->reader, &rs);
		ret->decode_Bps = rs.decode_Bps;
	}
	st->ssd->ops->stats(st->ssd, &ts);
	ret->ssd_read_Bps = ts.bandwidth_Bps;
	ret->ssd_latency_ns = ts.latency_ns;
	adapt_status(st, ret);
}

/* The codec that made most of the stored bytes. */
static const char *main_codec(const struct object *o)
{
	uint64_t bytes[CODEC_IDS_] = { 0 };
	unsigned best = CODEC_RAW;

	for (uint32_t i = 0; i < o->n_chunks; i++) {
		const struct object_chunk *c = &o->chunks[i];

		for (unsigned l = 0; l < c->n_layers; l++)
			if (o->layers[c->first_layer + l].codec < CODEC_IDS_)
				bytes[o->layers[c->first_layer + l].codec] +=
					o->layers[c->first_layer + l].len_bytes;
	}
	for (unsigned i = 0; i < CODEC_IDS_; i++)
		if (bytes[i] > bytes[best])
			best = i;
	return codec_by_id(best) ? codec_by_id(best)->name : "raw";
}

static void info_object(struct ctx *c, struct ctx_info *ret)
{
	struct sbuf b = SBUF_INIT;

	if (!c->obj)
		return;
	layout_dump(c->obj->layout, &b);
	snprintf(ret->layout, sizeof(ret->layout), "%s", b.s ? b.s : "");
	sbuf_fini(&b);
	snprintf(ret->codec, sizeof(ret->codec), "%s", main_codec(c->obj));
	ret->levels = level_stored(c);
	ret->levels_max = c->obj->n_layers_max;
	ret->dropped = thin_is(c);
	ret->level_next = c->serve_layers ? c->serve_layers : ret->levels;
	memcpy(ret->level_bytes, c->obj->level_bytes, sizeof(ret->level_bytes));
}

/* What the settings say of its levels. Gate held. */
static void info_levels(struct ctx *c, struct node *n, struct ctx_info *ret)
{
	static_assert(INFO_LEVELS_MAX == POLICY_LEVELS_MAX && INFO_LEVELS_MAX == KVFS_OBJECT_LAYERS,
		      "one number of levels");
	if (!c->obj)
		return;
	level_qualities(c->st, n, c->obj, ret->level_quality);
	if (ret->levels > 1 && grant_check(c->st, n, c->obj->layout) == 0)
		ret->level_next = c->st->adapt ? adapt_layers(c, n)
					       : level_wanted(c->st, n, c->obj, ret->levels);
	else
		ret->level_next = ret->levels;
}

static void info_memory(struct ctx *c, struct ctx_info *ret)
{
	lock_acquire(&c->lock);
	ret->state = c->sealing ? CTX_SEALING : c->state;
	ret->damaged = c->damaged;
	ret->pinned = c->pinned;
	ret->opens = c->opens;
	ret->hits = c->hits - c->hits_saved;
	ret->frequency = heat_at(c->heat, c->heat_ns, clock_real_ns(), POLICY_HALF_NS);
	if (c->rep) {
		ret->replica_bytes = replica_bytes(c->rep);
		ret->in_dram = level_in_memory(c, ret->level_next);
	}
	if (c->copy) {
		ret->copy_bytes = copy_size(c->copy);
		ret->has_copy = true;
	}
	snprintf(ret->reason, sizeof(ret->reason), "%s", c->reason);
	lock_release(&c->lock);
}

static void info_index(struct store *st, uint64_t ino, struct ctx_info *ret)
{
	struct meta_rec rec;

	if (meta_get(st->meta, ino, &rec) < 0)
		return;
	ret->hits += rec.hits;
	if (ret->frequency == 0)
		ret->frequency = heat_at(rec.heat, rec.heat_ns, clock_real_ns(), POLICY_HALF_NS);
	ret->pinned |= (rec.flags & META_PINNED) != 0;
	ret->damaged |= (rec.flags & META_DAMAGED) != 0;
}

int store_info(struct store *st, struct node *n, struct ctx_info *ret)
{
	struct stat sb;
	struct ctx *c;
	int r;

	memset(ret, 0, sizeof(*ret));
	if (!S_ISREG(node_type(n)))
		return -EINVAL;
	r = ctx_get(st, node_ino(n), true, &c);
	if (r < 0)
		return r;
	gate_enter(&c->gate, true);
	r = ctx_load_locked(c, n);
	if (r == 0 && ctx_object_locked(c) < 0)
		ret->damaged = true;
	snprintf(ret->codec, sizeof(ret->codec), "none");
	info_object(c, ret);
	info_levels(c, n, ret);
	gate_leave(&c->gate, true);
	info_memory(c, ret);
	if (r < 0) {
		ret->damaged = true;
		r = 0;
	}
	if (attr_node(st, n, &sb) == 0) {
		ret->logical_bytes = (uint64_t)sb.st_size;
		ret->stored_bytes = (uint64_t)sb.st_blocks * 512;
	}
	ret->ino = node_ino(n);
	info_index(st, ret->ino, ret);
	ret->quality = grant_floor(st, n);
	adapt_info(st, ret->ino, true, ret);
	ctx_idle(c);
	ctx_put(c);
	return r;
}

/* What it knows of its pin, from the file and the index. */
static int pin_state(struct ctx *c, struct node *n, bool *ret_pinned)
{
	int r = ctx_enter(c);

	if (r < 0)
		return r;
	r = ctx_load_locked(c, n);
	lock_acquire(&c->lock);
	*ret_pinned = c->pinned;
	lock_release(&c->lock);
	gate_leave(&c->gate, true);
	return r;
}

static int pin(struct ctx *c, struct node *n, uid_t who, bool on)
{
	struct store *st = c->st;
	struct meta_rec rec;
	struct stat sb;
	bool was = false;
	int r = attr_node(st, n, &sb);

	if (r == 0)
		r = pin_state(c, n, &was);
	if (r < 0)
		return r;
	if (on && !was && !evict_pin_room(st, (uint64_t)sb.st_blocks * 512) && who != 0)
		return -EDQUOT;
	if (was && !on)
		evict_unpinned(st, (uint64_t)sb.st_blocks * 512);
	r = ctx_enter(c); /* not while it is being evicted */
	if (r < 0)
		return r;
	lock_acquire(&c->lock);
	c->pinned = on;
	lock_release(&c->lock);
	gate_leave(&c->gate, true);
	if (meta_get(st->meta, node_ino(n), &rec) < 0)
		index_put(st, n, c, &sb, node_content(n) == NODE_SEALED);
	index_heat(c);
	return 0;
}

int store_pin(struct store *st, struct node *n, uid_t who, bool on)
{
	struct ctx *c;
	int r;

	if (!S_ISREG(node_type(n)))
		return -EINVAL;
	r = ctx_get(st, node_ino(n), true, &c);
	if (r < 0)
		return r;
	r = pin(c, n, who, on);
	ctx_idle(c);
	ctx_put(c);
	if (r == 0)
		adapt_settings(st, n);
	return r;
}

void store_settings_changed(struct store *st, struct node *n)
{
	grant_forget(st); /* all else is looked up when it is needed */
	adapt_settings(st, n);
}

/* ---- every context -------------------------------------------------------- */

struct inodes {
	uint64_t *ino;
	size_t n, cap;
};

static bool collect(void *arg, uint64_t ino, const struct meta_rec *r)
{
	struct inodes *a = arg;

	if (r->flags & META_DIR)
		return true;
	if (a->n == a->cap) {
		size_t cap = a->cap ? a->cap * 2 : 1024;
		uint64_t *p = mem_realloc(a->ino, cap * sizeof(*p));

		if (!p)
			return false;
		a->ino = p;
		a->cap = cap;
	}
	a->ino[a->n++] = ino;
	return true;
}

size_t info_inodes(struct store *st, uint64_t **ret)
{
	struct inodes a = { 0 };

	err_ignore(meta_flush(st->meta, false)); /* shows what is written */
	err_ignore(meta_each(st->meta, collect, &a)); /* as far as it goes */
	*ret = a.ino;
	return a.n;
}

/* What is in memory of the file: nothing is opened, and nobody waited for. */
static void info_loaded(struct store *st, uint64_t ino, struct ctx_info *ret)
{
	enum ctx_state state = ret->state;
	bool loaded = false;
	struct stat sb;
	struct ctx *c;

	if (ctx_get(st, ino, false, &c) < 0)
		return;
	if (gate_try(&c->gate, false)) {
		loaded = c->loaded;
		info_object(c, ret);
		if (c->fd >= 0 && fstat(c->fd, &sb) == 0) {
			attr_apply(&c->rec, &sb);
			ret->logical_bytes = (uint64_t)sb.st_size;
			ret->stored_bytes = (uint64_t)sb.st_blocks * 512;
		}
		gate_leave(&c->gate, false);
	}
	info_memory(c, ret);
	if (!loaded)
		ret->state = state;
	ctx_put(c);
}

static bool info_listed(struct store *st, struct node *n, uint64_t ino, struct ctx_info *ret)
{
	struct meta_rec rec;

	if (meta_get(st->meta, ino, &rec) < 0)
		return false;
	memset(ret, 0, sizeof(*ret));
	ret->ino = ino;
	ret->state = rec.flags & META_SEALED ? CTX_SEALED : CTX_PLAIN;
	ret->logical_bytes = rec.logical_bytes;
	ret->stored_bytes = rec.stored_bytes;
	info_loaded(st, ino, ret);
	if (ret->state == CTX_PLAIN)
		snprintf(ret->codec, sizeof(ret->codec), "none");
	info_index(st, ino, ret);
	ret->quality = grant_floor(st, n);
	adapt_info(st, ino, false, ret);
	return true;
}

void store_each_context(struct store *st,
			bool (*cb)(void *arg, const char *path, const struct ctx_info *i), void *arg)
{
	uint64_t *ino;
	size_t n_ino = info_inodes(st, &ino);
	bool go = true;

	for (size_t i = 0; i < n_ino && go; i++) {
		struct node *n = index_find(st, ino[i]);
		struct ctx_info info;
		char path[4096];

		if (!n)
			continue;
		node_path(st->nodes, n, path, sizeof(path));
		if (info_listed(st, n, ino[i], &info))
			go = cb(arg, path, &info);
		node_forget(st->nodes, n, 1);
	}
	mem_free(ino);
}
