/* SPDX-License-Identifier: MIT */
/* From a context to what the policy knows of it. */
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/units.h"
#include "store/adapt_types.h"
#include "store/grant.h"
#include "store/level.h"
#include "store/level_quality.h"

#define RECOMPUTE "user.kvcache.recompute"

/* By the first chunk that says so. */
enum cost_packing adapt_packing(const struct replica *r)
{
	const struct object *o = replica_object(r);
	enum cost_packing pack = COST_PACK_DRAM;
	struct replica_form form;

	for (uint32_t i = 0; i < o->n_chunks; i++) {
		if (!replica_find(r, i, &form) || form.codec == CODEC_HOLE)
			continue;
		if (rates_class(form.codec, &pack) != COST_CLASS_OPAQUE)
			break;
	}
	return pack;
}

void adapt_place_locked(struct ctx *c, struct cost_place *ret)
{
	unsigned levels = c->rec.levels ? c->rec.levels : 1;

	ret->stored = (uint8_t)levels;
	ret->dram = 0;
	ret->packing = COST_PACK_DRAM;
	ret->copy = c->copy != NULL;
	if (c->rep && replica_complete(c->rep)) {
		unsigned n = replica_layers(c->rep);

		ret->dram = (uint8_t)(n < levels ? n : levels);
		ret->packing = adapt_packing(c->rep);
	}
	ret->level = ret->stored - 1;
}

void adapt_place(struct ctx *c, struct cost_place *ret)
{
	lock_acquire(&c->lock);
	adapt_place_locked(c, ret);
	lock_release(&c->lock);
}

/* Of most bytes. */
static enum cost_class class_of(const struct object *o)
{
	uint64_t bytes[COST_CLASSES] = { 0 };
	enum cost_class best = COST_CLASS_OPAQUE;
	enum cost_packing pack;

	for (uint32_t i = 0; i < o->n_chunks; i++)
		bytes[rates_class(o->layers[o->chunks[i].first_layer].codec, &pack)] +=
			o->chunks[i].len_bytes;
	for (unsigned i = 0; i < COST_CLASSES; i++)
		if (bytes[i] > bytes[best])
			best = (enum cost_class)i;
	return best;
}

uint32_t adapt_replica_pages_locked(struct ctx *c)
{
	bool packed = c->rep && replica_complete(c->rep) && adapt_packing(c->rep) == COST_PACK_DRAM;

	return packed ? cost_pages(replica_bytes(c->rep)) : 0;
}

uint32_t adapt_base_pages(const struct cost_item *it, unsigned layers, uint32_t replica_pages)
{
	uint32_t rest = 0;

	for (unsigned l = 1; l < layers && l < it->levels; l++)
		rest += it->layer_pages[l];
	return layers > 0 && replica_pages > rest ? replica_pages - rest : 0;
}

/* Layer 0 as packed for memory: as it is there, else by how others grew. */
static uint32_t base_pages(struct ctx *c, const struct cost_item *it)
{
	uint32_t held;

	lock_acquire(&c->lock);
	held = adapt_base_pages(it, it->now.dram, adapt_replica_pages_locked(c));
	lock_release(&c->lock);
	if (held)
		return held;
	return cost_pages((uint64_t)((double)c->obj->level_bytes[0] *
				     rates_growth(&c->st->rates, (enum cost_class)it->class)));
}

/* What may be lost of it, and what that would be. */
static void put_quality(struct ctx *c, struct node *n, struct cost_item *it)
{
	double q[POLICY_LEVELS_MAX];

	it->floor = (float)grant_floor(c->st, n);
	if (grant_check(c->st, n, c->obj->layout) < 0 || c->state != CTX_SEALED) {
		it->flags |= COST_VETO;
		it->floor = 1;
		return;
	}
	level_qualities(c->st, n, c->obj, q);
	for (unsigned i = 0; i < it->levels; i++)
		it->quality[i] = (float)q[i];
}

/* An owner's word counts so many times what the mount says, because in the end it is a pin. */
#define OWNERS_WORD 100
#define OWNERS_LEAST_S_PER_MB 0.001

static float recompute_of(struct ctx *c, struct node *n)
{
	const struct store_config *cfg = &c->st->cfg;
	double s, least = (double)c->size / 1e6 * OWNERS_LEAST_S_PER_MB;
	double mount = (double)c->size / 1e6 * cfg->recompute_s_per_mb;
	bool by_token = cfg->recompute_s_per_token > 0 && c->obj->layout->tokens > 0;
	uid_t uid, of;
	char v[32];

	if (cfg->full != FULL_EVICT)
		return -1;
	if (by_token)
		mount = cfg->recompute_s_per_token * c->obj->layout->tokens;
	if (grant_owner(c->st, n, &uid) &&
	    grant_nearest(c->st, n, uid, RECOMPUTE, v, sizeof(v), NULL, &of) &&
	    units_parse_double(v, 0, 1e9, &s) == 0)
		return (float)(of == 0 ? s : fmin(s, OWNERS_WORD * fmax(mount, least)));
	return by_token ? (float)mount : -1; /* by size */
}

static void put_use(struct ctx *c, struct cost_item *it)
{
	uint64_t now = clock_real_ns();

	lock_acquire(&c->lock);
	it->heat = c->heat;
	it->heat_ns = index_when(c->st, c->heat_ns, now); /* the clock may have gone back */
	if (c->opens > 0)
		it->flags |= COST_BUSY;
	if (c->pinned)
		it->flags |= COST_PINNED;
	if (c->damaged || c->unlinked)
		it->flags |= COST_KEPT;
	lock_release(&c->lock);
	if (c->state != CTX_SEALED || c->cut_due)
		it->flags |= COST_KEPT;
}

bool adapt_item(struct ctx *c, struct node *n, struct cost_item *it)
{
	const struct object *o = c->obj;
	struct store *st = c->st;
	uint64_t below = 0;

	if (!o || c->rec.state == KVFS_RECORD_PLAIN)
		return false;
	*it = (struct cost_item){ .id = c->ino, .levels = (uint8_t)o->n_layers_max };
	for (unsigned i = 0; i < it->levels; i++) {
		it->layer_pages[i] = cost_pages(o->level_bytes[i] - below);
		below = o->level_bytes[i];
	}
	it->class = (uint8_t)class_of(o);
	it->path = st->copies && (st->paths & PATH_PASSTHROUGH_READ) && c->size >= COPY_MIN_BYTES
			   ? COST_PATH_OPEN
			   : COST_PATH_STREAM;
	it->decoded_pages = cost_pages(c->size);
	it->copy_pages = cost_pages(copy_held(c->size));
	adapt_place(c, &it->now);
	it->now.stored = (uint8_t)level_stored(c);
	if (it->now.dram > it->now.stored)
		it->now.dram = it->now.stored;
	it->now.level = (uint8_t)(level_serving(c) - 1);
	it->base_pages = base_pages(c, it);
	it->recompute_s = recompute_of(c, n);
	put_use(c, it);
	put_quality(c, n, it);
	return cost_item_check(it);
}

unsigned adapt_layers(struct ctx *c, struct node *n)
{
	struct adapt *ad = c->st->adapt;
	unsigned stored = level_stored(c), level;
	struct cost_item it;

	if (!ad || stored < 2 || !adapt_item(c, n, &it))
		return stored;
	it.flags &= (uint8_t)~COST_BUSY;
	lock_acquire(&ad->q_lock);
	level = cost_best_level(&ad->model, &it, &it.now);
	lock_release(&ad->q_lock);
	return level + 1;
}
