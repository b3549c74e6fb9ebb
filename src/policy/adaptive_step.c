/* SPDX-License-Identifier: MIT */
/*
 * One context at a time: what its next step down would lose, making room at the
 * least loss, and giving a context that arrived or was hit what it earns.
 */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "policy/adaptive_types.h"
#include "policy/heat.h"

/* What loses nothing goes first, the coldest of it before the others. */
#define KEY_FREE (-1e9)
#define KEY_LEAST (-1e15)
#define BURST_S 1.0
/* Steps that may be taken back when they turn out to lose more than is gained. */
#define VICTIMS 64u

/* ---- steps down ------------------------------------------------------------- */

static void consider(const struct adaptive *a, const struct adaptive_entry *e, double value,
		     enum adaptive_tier tier, struct cost_place *to, struct adaptive_step *best)
{
	uint32_t left, had = tier == ADAPTIVE_DRAM ? e->dram : e->ssd;
	struct adaptive_step s;

	to->level = (uint8_t)cost_best_level(&a->model, &e->it, to);
	left = tier == ADAPTIVE_DRAM ? cost_dram_pages(&e->it, to) : cost_ssd_pages(&e->it, to);
	if (left >= had)
		return;
	s = (struct adaptive_step){ .to = *to,
				    .pages = had - left,
				    .loss = value - cost_value(&a->model, &e->it, to) };
	if (best->pages == 0 || s.loss * best->pages < best->loss * s.pages ||
	    (s.loss * best->pages == best->loss * s.pages && s.pages > best->pages))
		*best = s;
}

static void steps_dram(const struct adaptive *a, const struct adaptive_entry *e, double value,
		       struct adaptive_step *best)
{
	const struct cost_place *now = &e->it.now;
	struct cost_place to;

	for (unsigned d = 0; d < now->dram; d++) {
		to = *now;
		to.dram = (uint8_t)d;
		consider(a, e, value, ADAPTIVE_DRAM, &to, best);
	}
	if (!now->copy || (e->it.flags & COST_BUSY))
		return;
	to = *now;
	to.copy = 0;
	consider(a, e, value, ADAPTIVE_DRAM, &to, best);
}

static void steps_ssd(const struct adaptive *a, const struct adaptive_entry *e, double value,
		      struct adaptive_step *best)
{
	const struct cost_place *now = &e->it.now;

	if (e->failed || (e->it.flags & (COST_PINNED | COST_KEPT | COST_BUSY)))
		return;
	for (unsigned s = cost_floor(&e->it, NULL) + 1; s < now->stored; s++) {
		struct cost_place to = *now;

		to.stored = (uint8_t)s;
		if (to.dram > s)
			to.dram = (uint8_t)s;
		if (to.copy && now->level >= s)
			to.copy = 0;
		consider(a, e, value, ADAPTIVE_SSD, &to, best);
	}
	if (a->model.params.may_remove) {
		struct cost_place to = { 0 };

		consider(a, e, value, ADAPTIVE_SSD, &to, best);
	}
}

bool adaptive_step_down(const struct adaptive *a, const struct adaptive_entry *e,
			enum adaptive_tier tier, struct adaptive_step *ret)
{
	double value = cost_value(&a->model, &e->it, &e->it.now);
	struct adaptive_step best = { .pages = 0 };

	if (tier == ADAPTIVE_DRAM)
		steps_dram(a, e, value, &best);
	else
		steps_ssd(a, e, value, &best);
	*ret = best;
	return best.pages > 0;
}

/* What of it on SSD could go, all steps together. */
static uint32_t spare_of(const struct adaptive *a, const struct adaptive_entry *e)
{
	unsigned least = cost_floor(&e->it, NULL) + 1;
	struct cost_place to = e->it.now;

	if (e->failed || (e->it.flags & (COST_PINNED | COST_KEPT | COST_BUSY)))
		return 0;
	if (a->model.params.may_remove)
		return e->ssd;
	if (least >= to.stored)
		return 0;
	to.stored = (uint8_t)least;
	return e->ssd - cost_ssd_pages(&e->it, &to);
}

void adaptive_rekey(struct adaptive *a, uint32_t slot)
{
	struct adaptive_entry *e = &a->e[slot];
	double heat = heat_log(e->it.heat, e->it.heat_ns, a->cfg.half_ns);

	a->spare -= e->spare;
	e->spare = spare_of(a, e);
	a->spare += e->spare;
	for (int t = 0; t < ADAPTIVE_TIERS; t++) {
		enum adaptive_tier tier = (enum adaptive_tier)t;
		struct adaptive_step s;
		double key;

		if (!adaptive_step_down(a, e, tier, &s)) {
			adaptive_heap_take(a, tier, slot);
			continue;
		}
		if (!isfinite(heat))
			key = KEY_LEAST;
		else if (s.loss <= 0)
			key = KEY_FREE + heat;
		else
			key = log2(s.loss / s.pages) + heat;
		adaptive_heap_set(a, tier, slot, key);
	}
}

/* ---- moves ------------------------------------------------------------------ */

void adaptive_tick(struct adaptive *a, uint64_t now_ns)
{
	double rate = (double)a->cfg.moves_Bps / COST_PAGE_BYTES;

	if (now_ns > a->tokens_ns)
		a->tokens += rate * ((double)(now_ns - a->tokens_ns) / 1e9);
	if (now_ns > a->tokens_ns || a->tokens_ns - now_ns > 1000000000ull)
		a->tokens_ns = now_ns; /* also after the clock went back */
	if (a->tokens > rate * BURST_S)
		a->tokens = rate * BURST_S;
}

bool adaptive_may_move(const struct adaptive *a, const struct adaptive_moves *m)
{
	return m->n < m->max && (a->cfg.moves_Bps == 0 || a->tokens > 0);
}

static void remember(struct adaptive_entry *e, const struct adaptive_move *v)
{
	e->last = (struct adaptive_last){ .from = cost_pack_place(&v->from),
					  .to = cost_pack_place(&v->to),
					  .heat = v->heat,
					  .delay_from_s = v->delay_from_s,
					  .delay_to_s = v->delay_to_s,
					  .quality_from = v->quality_from,
					  .quality_to = v->quality_to,
					  .gain = v->gain,
					  .price = v->price,
					  .reason = (uint8_t)v->reason };
}

void adaptive_emit(struct adaptive *a, uint32_t slot, const struct cost_place *to,
		   enum adaptive_reason why, double heat, double price, struct adaptive_moves *m)
{
	struct adaptive_entry *e = &a->e[slot];
	struct cost_item *it = &e->it;
	/* not of one that takes more: at its first move there may be no room for that yet */
	bool more = e->move < m->n && m->v[e->move].id == it->id &&
		    cost_dram_pages(it, to) <= e->dram;
	struct adaptive_move *v = &m->v[more ? e->move : m->n];
	double charged;
	uint32_t work;

	if (!more) {
		e->move = m->n++;
		*v = (struct adaptive_move){ .id = it->id,
					     .from = it->now,
					     .heat = (float)heat,
					     .delay_from_s = (float)cost_delay(&a->model, it,
									       &it->now),
					     .quality_from = (float)cost_quality(it, &it->now) };
	}
	charged = a->model.params.margin * cost_move(&a->model, it, to, &work);
	v->gain += (float)(adaptive_value(a, e, to, heat) - adaptive_value(a, e, &it->now, heat) -
			   charged);
	v->work_pages += work;
	v->to = *to;
	v->reason = to->stored == 0 ? ADAPTIVE_REMOVED : why;
	v->price = (float)price;
	v->delay_to_s = (float)cost_delay(&a->model, it, to);
	v->quality_to = (float)cost_quality(it, to);
	a->tokens -= work;
	remember(e, v);
	adaptive_apply(a, slot, to);
}

/* What the cheapest page of the tier loses now. */
static double least_loss(const struct adaptive *a, enum adaptive_tier t, uint64_t now_ns)
{
	if (a->heap[t].n == 0)
		return HUGE_VAL;
	return exp2(a->e[a->heap[t].slot[0]].key[t] -
		    (a->cfg.half_ns ? (double)now_ns / (double)a->cfg.half_ns : 0));
}

uint64_t adaptive_squeeze(struct adaptive *a, enum adaptive_tier tier, uint64_t pages,
			  uint32_t keep, uint64_t now_ns, enum adaptive_reason why,
			  struct adaptive_moves *m)
{
	uint64_t done = 0;

	if (keep != ADAPTIVE_NO_POS)
		adaptive_heap_take(a, tier, keep);
	while (done < pages && a->heap[tier].n > 0 && m->n < m->max) {
		uint32_t slot = a->heap[tier].slot[0];
		double price = least_loss(a, tier, now_ns);
		struct adaptive_step s;

		if (!adaptive_step_down(a, &a->e[slot], tier, &s)) {
			adaptive_heap_take(a, tier, slot); /* not with this model any more */
			continue;
		}
		adaptive_emit(a, slot, &s.to, why, adaptive_heat(a, &a->e[slot], now_ns), price, m);
		done += s.pages;
	}
	if (keep != ADAPTIVE_NO_POS)
		adaptive_rekey(a, keep);
	return done;
}

/* ---- one context ------------------------------------------------------------ */

struct victims {
	uint32_t slot[VICTIMS];
	struct cost_place was[VICTIMS], to[VICTIMS];
	unsigned n;
};

static void take_back(struct adaptive *a, const struct victims *v)
{
	for (unsigned i = v->n; i-- > 0;)
		adaptive_apply(a, v->slot[i], &v->was[i]);
}

/* Whose steps make @pages of memory free and lose less than @gain together. Leaves
 * everything as it was. */
static bool find_room(struct adaptive *a, uint32_t slot, int64_t pages, double gain,
		      uint64_t now_ns, struct victims *v)
{
	double loss = 0;

	v->n = 0;
	adaptive_heap_take(a, ADAPTIVE_DRAM, slot);
	while (pages > 0 && v->n < VICTIMS && a->heap[ADAPTIVE_DRAM].n > 0) {
		uint32_t s = a->heap[ADAPTIVE_DRAM].slot[0];
		struct adaptive_step step;

		if (!adaptive_step_down(a, &a->e[s], ADAPTIVE_DRAM, &step)) {
			adaptive_heap_take(a, ADAPTIVE_DRAM, s);
			continue;
		}
		loss += step.loss * adaptive_heat(a, &a->e[s], now_ns);
		if (gain <= loss * ADAPTIVE_CLEAR_GAIN)
			break;
		v->slot[v->n] = s;
		v->was[v->n] = a->e[s].it.now;
		v->to[v->n++] = step.to;
		pages -= step.pages;
		adaptive_apply(a, s, &step.to);
	}
	take_back(a, v);
	adaptive_rekey(a, slot);
	return pages <= 0;
}

/* What a page is worth that this one would give up: where memory has no room for one
 * more decoding of its size, what pages earn elsewhere by the last plan. A copy that an
 * open has made and that does not earn its room so makes way for the next open's. */
static double price_given(const struct adaptive *a, const struct adaptive_entry *e,
			  int64_t free_pages, uint64_t now_ns)
{
	if (free_pages >= (int64_t)cost_copy_pages(&e->it))
		return 0;
	return heat_at(a->price[ADAPTIVE_DRAM], a->price_ns, now_ns, a->cfg.half_ns) / ADAPTIVE_CLEAR_GAIN;
}

/* The way to hold it that gains most after paying for room that is not free, and with
 * what room given up earns elsewhere. */
static bool best_way(const struct adaptive *a, const struct adaptive_entry *e, double heat,
		     double price, double given, int64_t free_pages, struct cost_option *ret,
		     double *ret_gain)
{
	struct cost_option o[COST_OPTIONS_MAX];
	unsigned n = cost_options(&a->model, &e->it, heat, COST_OPT_ALL | COST_OPT_KEEP_SSD, o);
	double now = adaptive_value(a, e, &e->it.now, heat), most = 0;

	for (unsigned i = 0; i < n; i++) {
		int64_t more = (int64_t)o[i].dram - e->dram, lack = more - free_pages;
		double gain = o[i].value - now, net = gain;

		if (more > 0 && lack > 0)
			net -= price * (double)(lack < more ? lack : more);
		if (more < 0)
			net += given * (double)-more;
		if (net > most) {
			most = net;
			*ret = o[i];
			*ret_gain = gain;
		}
	}
	/* beyond what single precision may make of nothing */
	return most > 1e-6 * fabs(now);
}

static enum adaptive_reason reason_of(const struct adaptive_entry *e, uint32_t dram, bool at_cost)
{
	if (dram == e->dram)
		return ADAPTIVE_LEVEL;
	if (dram < e->dram)
		return ADAPTIVE_UNUSED;
	return at_cost ? ADAPTIVE_EARNS : ADAPTIVE_ROOM;
}

/* Gives one context what it earns. */
static void improve(struct adaptive *a, uint32_t slot, uint64_t now_ns, struct adaptive_moves *m)
{
	struct adaptive_entry *e = &a->e[slot];
	double heat = adaptive_heat(a, e, now_ns), price, given, gain = 0;
	int64_t lack,
		free_pages = (int64_t)(adaptive_budget(a, ADAPTIVE_DRAM) - a->used[ADAPTIVE_DRAM]);
	struct victims v = { .n = 0 };
	struct cost_option o = { 0 };
	struct cost_place to;

	if (e->it.now.stored == 0 || !adaptive_may_move(a, m))
		return;
	price = heat_at(a->price[ADAPTIVE_DRAM], a->price_ns, now_ns, a->cfg.half_ns);
	if (a->heap[ADAPTIVE_DRAM].n > 0)
		price = fmax(price, least_loss(a, ADAPTIVE_DRAM, now_ns));
	given = price_given(a, e, free_pages, now_ns);
	if (!best_way(a, e, heat, price, given, free_pages, &o, &gain))
		return;
	to = cost_unpack_place(o.place);
	lack = (int64_t)o.dram - e->dram - free_pages;
	if (o.dram > e->dram && lack > 0) {
		if (!find_room(a, slot, lack, gain, now_ns, &v) || m->max - m->n <= v.n)
			return;
		for (unsigned i = 0; i < v.n; i++)
			adaptive_emit(a, v.slot[i], &v.to[i], ADAPTIVE_MADE_WAY,
				      adaptive_heat(a, &a->e[v.slot[i]], now_ns), price, m);
	}
	adaptive_emit(a, slot, &to, reason_of(e, o.dram, lack > 0), heat, lack > 0 ? price : 0, m);
}

/* What is over a budget goes, whatever it earns. */
static void keep_budgets(struct adaptive *a, uint64_t now_ns, struct adaptive_moves *m)
{
	for (int t = ADAPTIVE_TIERS; t-- > 0;) {
		enum adaptive_tier tier = (enum adaptive_tier)t;
		uint64_t room = adaptive_budget(a, tier);

		if (a->used[t] > room)
			adaptive_squeeze(a, tier, a->used[t] - room, ADAPTIVE_NO_POS, now_ns,
					 tier == ADAPTIVE_DRAM ? ADAPTIVE_DRAM_FULL
							       : ADAPTIVE_SSD_FULL,
					 m);
	}
}

/* ---- events ----------------------------------------------------------------- */

int adaptive_arrive(struct adaptive *a, const struct cost_item *it, uint64_t now_ns,
		    struct adaptive_moves *m)
{
	struct cost_item i = *it;
	int r;

	m->n = 0;
	if (!(i.heat > 0)) {
		i.heat = 1;
		i.heat_ns = now_ns;
	}
	r = adaptive_put(a, &i);
	if (r < 0)
		return r;
	a->e[adaptive_find(a, i.id)].it.flags &= (uint8_t)~COST_HAND; /* its content is another */
	adaptive_tick(a, now_ns);
	adaptive_retry(a);
	keep_budgets(a, now_ns, m);
	improve(a, adaptive_find(a, i.id), now_ns, m);
	return 0;
}

bool adaptive_hit(struct adaptive *a, uint64_t id, uint64_t now_ns, struct adaptive_moves *m)
{
	uint32_t slot = adaptive_find(a, id);
	struct cost_item *it;

	m->n = 0;
	if (slot == ADAPTIVE_NO_POS)
		return false;
	it = &a->e[slot].it;
	it->flags &= (uint8_t)~COST_HAND;
	a->e[slot].failed = false;
	it->heat = heat_hit(it->heat, it->heat_ns, now_ns, a->cfg.half_ns);
	it->heat_ns = now_ns; /* also after the clock went back, or it would not decay */
	adaptive_rekey(a, slot);
	adaptive_tick(a, now_ns);
	improve(a, slot, now_ns, m);
	return true;
}

uint64_t adaptive_room(struct adaptive *a, enum adaptive_tier tier, uint64_t bytes,
		       uint64_t keep_id, uint64_t now_ns, struct adaptive_moves *m)
{
	m->n = 0;
	adaptive_tick(a, now_ns);
	return adaptive_squeeze(a, tier, cost_pages(bytes), adaptive_find(a, keep_id), now_ns,
				tier == ADAPTIVE_DRAM ? ADAPTIVE_DRAM_FULL : ADAPTIVE_SSD_FULL, m) *
	       COST_PAGE_BYTES;
}

uint64_t adaptive_spare(const struct adaptive *a, uint64_t keep_id)
{
	uint32_t keep = adaptive_find(a, keep_id);

	return (a->spare - (keep == ADAPTIVE_NO_POS ? 0 : a->e[keep].spare)) * COST_PAGE_BYTES;
}
