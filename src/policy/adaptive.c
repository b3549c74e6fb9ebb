/* SPDX-License-Identifier: MIT */
/*
 * The table of contexts: entries in an array without holes, found by id through a hash
 * of slots, and for each kind of room a heap of what the next step down loses per
 * page. Events change an entry and then let adaptive_step.c decide.
 */
#include "policy/adaptive.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "policy/adaptive_types.h"
#include "policy/heat.h"

#define MAX_FIRST 256u
#define RATES_NOISE 0.25

/* ---- heaps ------------------------------------------------------------------ */

static void heap_place(struct adaptive *a, enum adaptive_tier t, uint32_t pos, uint32_t slot)
{
	a->heap[t].slot[pos] = slot;
	a->e[slot].pos[t] = pos;
}

static void heap_up(struct adaptive *a, enum adaptive_tier t, uint32_t pos)
{
	uint32_t slot = a->heap[t].slot[pos];

	while (pos > 0 && a->e[a->heap[t].slot[(pos - 1) / 2]].key[t] > a->e[slot].key[t]) {
		heap_place(a, t, pos, a->heap[t].slot[(pos - 1) / 2]);
		pos = (pos - 1) / 2;
	}
	heap_place(a, t, pos, slot);
}

static void heap_down(struct adaptive *a, enum adaptive_tier t, uint32_t pos)
{
	struct adaptive_heap *h = &a->heap[t];
	uint32_t slot = h->slot[pos];

	for (;;) {
		uint32_t c = 2 * pos + 1;

		if (c + 1 < h->n && a->e[h->slot[c + 1]].key[t] < a->e[h->slot[c]].key[t])
			c++;
		if (c >= h->n || a->e[h->slot[c]].key[t] >= a->e[slot].key[t])
			break;
		heap_place(a, t, pos, h->slot[c]);
		pos = c;
	}
	heap_place(a, t, pos, slot);
}

void adaptive_heap_set(struct adaptive *a, enum adaptive_tier t, uint32_t slot, double key)
{
	uint32_t pos = a->e[slot].pos[t];

	a->e[slot].key[t] = key;
	if (pos == ADAPTIVE_NO_POS) {
		pos = a->heap[t].n++;
		heap_place(a, t, pos, slot);
	}
	heap_up(a, t, pos);
	heap_down(a, t, a->e[slot].pos[t]);
}

void adaptive_heap_take(struct adaptive *a, enum adaptive_tier t, uint32_t slot)
{
	uint32_t pos = a->e[slot].pos[t], last;

	if (pos == ADAPTIVE_NO_POS)
		return;
	a->e[slot].pos[t] = ADAPTIVE_NO_POS;
	last = a->heap[t].slot[--a->heap[t].n];
	if (last == slot)
		return;
	heap_place(a, t, pos, last);
	heap_up(a, t, pos);
	heap_down(a, t, a->e[last].pos[t]);
}

/* ---- the map from ids ------------------------------------------------------- */

static uint32_t map_at(const struct adaptive *a, uint64_t id)
{
	/* Fibonacci hashing: ids are inode numbers, often in a row */
	return (uint32_t)((id * 0x9e3779b97f4a7c15ull) >> 32) & a->map_mask;
}

uint32_t adaptive_find(const struct adaptive *a, uint64_t id)
{
	if (!a->map)
		return ADAPTIVE_NO_POS;
	for (uint32_t i = map_at(a, id); a->map[i]; i = (i + 1) & a->map_mask)
		if (a->e[a->map[i] - 1].it.id == id)
			return a->map[i] - 1;
	return ADAPTIVE_NO_POS;
}

static void map_add(struct adaptive *a, uint64_t id, uint32_t slot)
{
	uint32_t i = map_at(a, id);

	while (a->map[i])
		i = (i + 1) & a->map_mask;
	a->map[i] = slot + 1;
}

static uint32_t map_where(const struct adaptive *a, uint32_t slot)
{
	uint32_t i = map_at(a, a->e[slot].it.id);

	while (a->map[i] != slot + 1)
		i = (i + 1) & a->map_mask;
	return i;
}

/* Those behind it that would not be found past the gap move up. */
static void map_del(struct adaptive *a, uint32_t slot)
{
	uint32_t gap = map_where(a, slot);

	for (uint32_t i = (gap + 1) & a->map_mask; a->map[i]; i = (i + 1) & a->map_mask) {
		uint32_t home = map_at(a, a->e[a->map[i] - 1].it.id);

		if (((i - home) & a->map_mask) >= ((i - gap) & a->map_mask)) {
			a->map[gap] = a->map[i];
			gap = i;
		}
	}
	a->map[gap] = 0;
}

static int table_grow(struct adaptive *a)
{
	uint32_t max = a->max ? a->max * 2 : MAX_FIRST;
	struct adaptive_entry *e;
	uint32_t *map;

	if (max > UINT32_MAX / 8)
		return -ENOMEM;
	for (int t = 0; t < ADAPTIVE_TIERS; t++) {
		uint32_t *s = mem_realloc(a->heap[t].slot, (size_t)max * sizeof(*s));

		if (!s)
			return -ENOMEM;
		a->heap[t].slot = s;
	}
	e = mem_realloc(a->e, (size_t)max * sizeof(*e));
	if (!e)
		return -ENOMEM;
	a->e = e;
	map = mem_calloc((size_t)max * 2, sizeof(*map));
	if (!map)
		return -ENOMEM;
	mem_free(a->map);
	a->map = map;
	a->map_mask = max * 2 - 1;
	a->max = max;
	for (uint32_t i = 0; i < a->n; i++)
		map_add(a, a->e[i].it.id, i);
	return 0;
}

/* ---- life ------------------------------------------------------------------- */

static void model_make(struct adaptive *a)
{
	cost_model_init(&a->model, &a->rates, &a->cfg.cost);
	a->model_changed = true;
}

int adaptive_create(const struct adaptive_config *cfg, const struct cost_rates *rates,
		    struct adaptive **ret)
{
	struct adaptive *a = mem_zalloc(sizeof(*a));

	if (!a)
		return -ENOMEM;
	a->cfg = *cfg;
	a->rates = *rates;
	a->plan_fits = true;
	model_make(a);
	*ret = a;
	return 0;
}

void adaptive_destroy(struct adaptive *a)
{
	if (!a)
		return;
	for (int t = 0; t < ADAPTIVE_TIERS; t++)
		mem_free(a->heap[t].slot);
	mem_free(a->e);
	mem_free(a->map);
	mem_free(a);
}

void adaptive_configure(struct adaptive *a, const struct adaptive_config *cfg)
{
	bool same = memcmp(&a->cfg.cost, &cfg->cost, sizeof(cfg->cost)) == 0 &&
		    a->cfg.half_ns == cfg->half_ns;

	a->cfg = *cfg;
	if (!same)
		model_make(a);
}

bool adaptive_set_rates(struct adaptive *a, const struct cost_rates *rates)
{
	/* nothing but doubles, on both sides */
	const double *x = (const double *)&a->rates, *y = (const double *)rates;

	static_assert(sizeof(*rates) % sizeof(double) == 0, "struct cost_rates is doubles");
	for (size_t i = 0; i < sizeof(*rates) / sizeof(double); i++) {
		if (fabs(x[i] - y[i]) <= RATES_NOISE * fabs(x[i]))
			continue;
		a->rates = *rates;
		model_make(a);
		return true;
	}
	return false;
}

const struct cost_model *adaptive_model(const struct adaptive *a)
{
	return &a->model;
}

/* ---- entries ---------------------------------------------------------------- */

uint64_t adaptive_budget(const struct adaptive *a, enum adaptive_tier tier)
{
	return (tier == ADAPTIVE_DRAM ? a->cfg.dram_bytes : a->cfg.ssd_bytes) / COST_PAGE_BYTES;
}

double adaptive_heat(const struct adaptive *a, const struct adaptive_entry *e, uint64_t now_ns)
{
	return heat_at(e->it.heat, e->it.heat_ns, now_ns, a->cfg.half_ns);
}

double adaptive_value(const struct adaptive *a, const struct adaptive_entry *e,
		      const struct cost_place *p, double heat)
{
	return heat * (cost_value(&a->model, &e->it, p) - a->model.params.alpha_s);
}

void adaptive_apply(struct adaptive *a, uint32_t slot, const struct cost_place *p)
{
	struct adaptive_entry *e = &a->e[slot];

	e->it.now = *p;
	a->used[ADAPTIVE_DRAM] -= e->dram;
	a->used[ADAPTIVE_SSD] -= e->ssd;
	e->dram = cost_dram_pages(&e->it, p);
	e->ssd = cost_ssd_pages(&e->it, p);
	a->used[ADAPTIVE_DRAM] += e->dram;
	a->used[ADAPTIVE_SSD] += e->ssd;
	adaptive_rekey(a, slot);
}

static void entry_del(struct adaptive *a, uint32_t slot)
{
	uint32_t last = a->n - 1;

	a->used[ADAPTIVE_DRAM] -= a->e[slot].dram;
	a->used[ADAPTIVE_SSD] -= a->e[slot].ssd;
	a->spare -= a->e[slot].spare;
	for (int t = 0; t < ADAPTIVE_TIERS; t++)
		adaptive_heap_take(a, (enum adaptive_tier)t, slot);
	map_del(a, slot);
	a->n--;
	if (slot == last)
		return;
	a->map[map_where(a, last)] = slot + 1;
	a->e[slot] = a->e[last];
	for (int t = 0; t < ADAPTIVE_TIERS; t++)
		if (a->e[slot].pos[t] != ADAPTIVE_NO_POS)
			a->heap[t].slot[a->e[slot].pos[t]] = slot;
}

int adaptive_put(struct adaptive *a, const struct cost_item *it)
{
	uint32_t slot = adaptive_find(a, it->id);
	struct cost_item i = *it;
	int r;

	if (!cost_item_check(&i))
		return -EINVAL;
	if (slot == ADAPTIVE_NO_POS) {
		if (a->n == a->max && (r = table_grow(a)) < 0)
			return r;
		slot = a->n++;
		a->e[slot] = (struct adaptive_entry){ .it.id = it->id,
						      .pos = { ADAPTIVE_NO_POS, ADAPTIVE_NO_POS } };
		map_add(a, it->id, slot);
	}
	i.flags |= a->e[slot].it.flags & COST_HAND; /* until it is used */
	a->e[slot].it = i;
	a->e[slot].failed = false;
	adaptive_apply(a, slot, &i.now);
	return 0;
}

void adaptive_by_hand(struct adaptive *a, uint64_t id)
{
	uint32_t slot = adaptive_find(a, id);

	if (slot != ADAPTIVE_NO_POS)
		a->e[slot].it.flags |= COST_HAND;
}

bool adaptive_last(const struct adaptive *a, uint64_t id, struct adaptive_move *ret)
{
	uint32_t slot = adaptive_find(a, id);
	const struct adaptive_last *l;

	if (slot == ADAPTIVE_NO_POS)
		return false;
	l = &a->e[slot].last;
	*ret = (struct adaptive_move){ .id = id,
				       .from = cost_unpack_place(l->from),
				       .to = cost_unpack_place(l->to),
				       .reason = (enum adaptive_reason)l->reason,
				       .heat = l->heat,
				       .delay_from_s = l->delay_from_s,
				       .delay_to_s = l->delay_to_s,
				       .quality_from = l->quality_from,
				       .quality_to = l->quality_to,
				       .gain = l->gain,
				       .price = l->price };
	return true;
}

void adaptive_gone(struct adaptive *a, uint64_t id)
{
	uint32_t slot = adaptive_find(a, id);

	if (slot != ADAPTIVE_NO_POS)
		entry_del(a, slot);
}

void adaptive_placed(struct adaptive *a, uint64_t id, const struct cost_place *p)
{
	uint32_t slot = adaptive_find(a, id);
	struct cost_item it;

	if (slot == ADAPTIVE_NO_POS)
		return;
	it = a->e[slot].it;
	it.now = *p;
	a->e[slot].failed = false;
	if (cost_item_check(&it))
		adaptive_apply(a, slot, &it.now);
	else
		entry_del(a, slot); /* removed */
}

void adaptive_failed(struct adaptive *a, uint64_t id, bool ssd)
{
	uint32_t slot = adaptive_find(a, id);

	if (slot == ADAPTIVE_NO_POS)
		return;
	if (a->e[slot].last.reason != ADAPTIVE_NONE)
		a->e[slot].last.reason = ADAPTIVE_FAILED;
	if (!ssd)
		return;
	if (a->n_failed == ADAPTIVE_FAILED_MAX)
		adaptive_retry(a);
	a->failed[a->n_failed++] = id;
	a->e[slot].failed = true;
	adaptive_rekey(a, slot);
}

void adaptive_retry(struct adaptive *a)
{
	while (a->n_failed > 0) {
		uint32_t slot = adaptive_find(a, a->failed[--a->n_failed]);

		if (slot == ADAPTIVE_NO_POS || !a->e[slot].failed)
			continue;
		a->e[slot].failed = false;
		adaptive_rekey(a, slot);
	}
}

void adaptive_packed(struct adaptive *a, uint64_t id, uint32_t base_pages)
{
	uint32_t slot = adaptive_find(a, id);
	struct cost_place now;

	if (slot == ADAPTIVE_NO_POS || a->e[slot].it.base_pages == base_pages)
		return;
	a->e[slot].it.base_pages = base_pages;
	now = a->e[slot].it.now;
	adaptive_apply(a, slot, &now);
}

void adaptive_busy(struct adaptive *a, uint64_t id, bool busy)
{
	uint32_t slot = adaptive_find(a, id);
	uint8_t f;

	if (slot == ADAPTIVE_NO_POS)
		return;
	f = a->e[slot].it.flags;
	a->e[slot].it.flags = busy ? f | COST_BUSY : f & (uint8_t)~COST_BUSY;
	adaptive_rekey(a, slot);
}

bool adaptive_get(const struct adaptive *a, uint64_t id, uint64_t now_ns, struct cost_item *ret)
{
	uint32_t slot = adaptive_find(a, id);

	if (slot == ADAPTIVE_NO_POS)
		return false;
	*ret = a->e[slot].it;
	ret->heat = adaptive_heat(a, &a->e[slot], now_ns);
	ret->heat_ns = now_ns > ret->heat_ns ? now_ns : ret->heat_ns;
	return true;
}

uint64_t adaptive_nth(const struct adaptive *a, uint32_t i)
{
	return i < a->n ? a->e[i].it.id : 0;
}

void adaptive_stats(const struct adaptive *a, struct adaptive_stats *ret)
{
	const double per_mib = (1u << 20) / (double)COST_PAGE_BYTES;

	*ret = (struct adaptive_stats){
		.contexts = a->n,
		.table_bytes = sizeof(*a) + (uint64_t)a->max * (sizeof(*a->e) + 2 * sizeof(*a->map) +
				    ADAPTIVE_TIERS * sizeof(*a->heap[0].slot)),
		.dram_bytes = a->used[ADAPTIVE_DRAM] * COST_PAGE_BYTES,
		.ssd_bytes = a->used[ADAPTIVE_SSD] * COST_PAGE_BYTES,
		.dram_price = a->price[ADAPTIVE_DRAM] * per_mib,
		.ssd_price = a->price[ADAPTIVE_SSD] * per_mib,
		.plan_value = a->plan_value,
		.plan_bound = a->plan_bound,
		.plan_waits = a->plan_waits,
		.plan_fits = a->plan_fits,
		.plans = a->plans,
	};
}
