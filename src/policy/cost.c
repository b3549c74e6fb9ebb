/* SPDX-License-Identifier: MIT */
/*
 * The cost model. The functions on one place are what it means; cost_options computes
 * the same for all places of a context at once, in one pass, because a plan of 100,000
 * contexts must take milliseconds. tests/unit compares the two.
 */
#include "policy/cost.h"

#include <math.h>
#include <stddef.h>

static float inverse(double Bps)
{
	return isfinite(Bps) && Bps > 0 ? (float)(COST_PAGE_BYTES / Bps) : 0;
}

static float seconds(double s)
{
	return isfinite(s) && s > 0 ? (float)s : 0;
}

void cost_model_init(struct cost_model *m, const struct cost_rates *r, const struct cost_params *p)
{
	m->params = *p;
	if (!isfinite(p->alpha_s) || p->alpha_s < 0)
		m->params.alpha_s = 0;
	m->params.margin = seconds(p->margin);
	m->params.recompute_s_per_page = seconds(p->recompute_s_per_page);
	m->ssd_latency_s = seconds(r->ssd_latency_s);
	m->dram_latency_s = seconds(r->dram_latency_s);
	m->copy_latency_s = seconds(r->copy_latency_s);
	m->ssd_s = inverse(r->ssd_Bps);
	m->copy_s = inverse(r->copy_Bps);
	m->recode_s = inverse(r->recode_Bps);
	for (unsigned c = 0; c < COST_CLASSES; c++)
		for (unsigned t = 0; t < COST_PATHS; t++)
			for (unsigned k = 0; k < COST_PACKINGS; k++)
				for (unsigned l = 0; l < COST_LEVELS_MAX; l++)
					m->decode_s[c][t][k][l] =
						inverse(r->decode_Bps[c][t][k][l]);
}

uint32_t cost_pages(uint64_t bytes)
{
	uint64_t n = bytes / COST_PAGE_BYTES + (bytes % COST_PAGE_BYTES != 0);

	return n < COST_PAGES_MAX ? (uint32_t)n : COST_PAGES_MAX;
}

static float clamp01(float v, float bad)
{
	if (!(v >= 0)) /* also NaN */
		return v < 0 ? 0 : bad;
	return v < 1 ? v : 1;
}

bool cost_item_check(struct cost_item *it)
{
	struct cost_place *now = &it->now;
	uint32_t left = COST_PAGES_MAX;

	if (it->levels == 0 || it->levels > COST_LEVELS_MAX || now->stored == 0)
		return false;
	if (!isfinite(it->heat) || it->heat < 0)
		it->heat = 0;
	for (unsigned l = 0; l < it->levels; l++) {
		if (it->layer_pages[l] > left)
			it->layer_pages[l] = left;
		left -= it->layer_pages[l];
		it->quality[l] = clamp01(it->quality[l], 0);
	}
	it->quality[it->levels - 1] = 1;
	if (it->base_pages > COST_PAGES_MAX)
		it->base_pages = COST_PAGES_MAX;
	if (it->decoded_pages > COST_PAGES_MAX)
		it->decoded_pages = COST_PAGES_MAX;
	if (it->copy_pages > COST_PAGES_MAX)
		it->copy_pages = COST_PAGES_MAX;
	it->floor = clamp01(it->floor, 1);
	if (!isfinite(it->recompute_s))
		it->recompute_s = -1;
	if (it->class >= COST_CLASSES)
		it->class = COST_CLASS_OPAQUE;
	if (it->path >= COST_PATHS)
		it->path = COST_PATH_STREAM;
	if (now->stored > it->levels)
		now->stored = it->levels;
	if (now->dram > now->stored)
		now->dram = now->stored;
	if (now->level >= now->stored)
		now->level = now->stored - 1;
	now->packing = now->packing ? COST_PACK_DRAM : COST_PACK_SSD;
	now->copy = now->copy != 0;
	return true;
}

unsigned cost_floor(const struct cost_item *it, bool *ret_kept)
{
	unsigned top = it->levels - 1u, k = 0, last = it->now.stored ? it->now.stored - 1u : 0;

	if ((it->flags & COST_VETO) || it->floor >= 1)
		k = top;
	while (k < top && it->quality[k] < it->floor)
		k++;
	if (ret_kept)
		*ret_kept = k < it->now.stored;
	return k < it->now.stored ? k : last;
}

/* Must what is on SSD stay? */
static bool ssd_fixed(const struct cost_item *it)
{
	return (it->flags & (COST_PINNED | COST_KEPT | COST_BUSY)) != 0;
}

bool cost_allowed(const struct cost_model *m, const struct cost_item *it,
		  const struct cost_place *p)
{
	if (p->stored == 0)
		return m->params.may_remove && !ssd_fixed(it);
	if (p->stored > it->now.stored || (ssd_fixed(it) && p->stored < it->now.stored))
		return false;
	if (p->dram > p->stored || p->level >= p->stored || p->packing >= COST_PACKINGS)
		return false;
	if (it->flags & COST_BUSY)
		return p->level == it->now.level && p->copy == it->now.copy &&
		       p->dram <= it->now.dram &&
		       (p->dram == 0 || p->packing == it->now.packing);
	return p->level >= cost_floor(it, NULL);
}

/* Layers [from, to) as on SSD. */
static uint32_t layers(const struct cost_item *it, unsigned from, unsigned to)
{
	uint32_t n = 0;

	for (unsigned l = from; l < to; l++)
		n += it->layer_pages[l];
	return n;
}

uint32_t cost_ssd_pages(const struct cost_item *it, const struct cost_place *p)
{
	return layers(it, 0, p->stored);
}

uint32_t cost_copy_pages(const struct cost_item *it)
{
	return it->copy_pages > it->decoded_pages ? it->copy_pages : it->decoded_pages;
}

uint32_t cost_dram_pages(const struct cost_item *it, const struct cost_place *p)
{
	uint32_t n = 0;

	if (p->stored == 0)
		return 0;
	if (p->dram > 0)
		n = (p->packing == COST_PACK_DRAM ? it->base_pages : it->layer_pages[0]) +
		    layers(it, 1, p->dram);
	return n + (p->copy ? cost_copy_pages(it) : 0);
}

static float recompute(const struct cost_model *m, const struct cost_item *it)
{
	if (it->recompute_s >= 0)
		return it->recompute_s;
	return (float)(m->params.recompute_s_per_page * it->decoded_pages);
}

static float overlapped(float io, float dec)
{
	return sqrtf(io * io + dec * dec);
}

/* @pack: of what layer 0 is decoded from. */
static float pipelined(const struct cost_model *m, const struct cost_item *it, unsigned pack,
		       unsigned level, uint32_t ssd_pages)
{
	float io = (float)ssd_pages * m->ssd_s, decoded = (float)it->decoded_pages;
	float dec = decoded * m->decode_s[it->class][it->path][pack][level];

	return (ssd_pages ? m->ssd_latency_s : m->dram_latency_s) + overlapped(io, dec) +
	       (it->path == COST_PATH_OPEN ? decoded * m->copy_s : 0);
}

static float copied(const struct cost_model *m, const struct cost_item *it)
{
	return m->copy_latency_s + (float)it->decoded_pages * m->copy_s;
}

double cost_delay(const struct cost_model *m, const struct cost_item *it,
		  const struct cost_place *p)
{
	if (p->stored == 0)
		return recompute(m, it);
	if (p->copy)
		return copied(m, it);
	return pipelined(m, it, p->dram ? p->packing : COST_PACK_SSD, p->level,
			 p->dram <= p->level ? layers(it, p->dram, p->level + 1u) : 0);
}

double cost_quality(const struct cost_item *it, const struct cost_place *p)
{
	return p->stored == 0 ? 1 : it->quality[p->level];
}

double cost_value(const struct cost_model *m, const struct cost_item *it,
		  const struct cost_place *p)
{
	return m->params.alpha_s * cost_quality(it, p) - cost_delay(m, it, p);
}

bool cost_is_dram_hit(const struct cost_place *p)
{
	return p->stored > 0 && (p->copy || p->dram > p->level);
}

unsigned cost_best_level(const struct cost_model *m, const struct cost_item *it,
			 const struct cost_place *p)
{
	struct cost_place at = *p;
	unsigned best, low;
	double value;

	if (p->stored == 0)
		return 0;
	if ((it->flags & COST_BUSY) && it->now.level < p->stored)
		return it->now.level;
	low = cost_floor(it, NULL);
	/* a copy is of one level */
	if (p->copy && it->now.copy && it->now.level >= low && it->now.level < p->stored)
		return it->now.level;
	at.level = (uint8_t)(p->stored - 1);
	best = at.level;
	value = cost_value(m, it, &at);
	while (at.level-- > low) {
		double v = cost_value(m, it, &at);

		if (v > value) {
			value = v;
			best = at.level;
		}
	}
	return best;
}

bool cost_same(const struct cost_place *a, const struct cost_place *b)
{
	if (a->stored == 0 || b->stored == 0)
		return a->stored == b->stored;
	return a->stored == b->stored && a->dram == b->dram && a->copy == b->copy &&
	       a->level == b->level && (a->dram == 0 || a->packing == b->packing);
}

uint32_t cost_pack_place(const struct cost_place *p)
{
	return (uint32_t)p->stored | (uint32_t)p->dram << 4 | (uint32_t)p->level << 8 |
	       (uint32_t)p->packing << 12 | (uint32_t)p->copy << 13;
}

struct cost_place cost_unpack_place(uint32_t v)
{
	return (struct cost_place){ .stored = v & 15,
				    .dram = v >> 4 & 15,
				    .level = v >> 8 & 15,
				    .packing = v >> 12 & 1,
				    .copy = v >> 13 & 1 };
}

/* ---- moves ---------------------------------------------------------------- */

struct taken {
	float s;
	uint32_t pages;
};

/* What is coded from and to memory takes processor time and nothing of the device. */
#define CODED_SHARE 8u

/* One that gets more layers keeps those it has; one in another form is made anew, from what is on
 * the device. */
static struct taken replica_taken(const struct cost_model *m, const struct cost_item *it,
				  unsigned dram, unsigned packing)
{
	unsigned have = it->now.dram, pack = have ? it->now.packing : COST_PACK_SSD;
	unsigned from = packing == pack ? have : 0;
	struct taken t = { 0, 0 };

	if (dram == 0 || dram <= from)
		return t;
	t.pages = layers(it, from, dram);
	t.s = (float)t.pages * m->ssd_s + m->ssd_latency_s;
	if (packing == COST_PACK_DRAM && from == 0) {
		t.pages += it->decoded_pages / CODED_SHARE;
		t.s += (float)it->decoded_pages * m->recode_s;
	}
	return t;
}

static struct taken copy_taken(const struct cost_model *m, const struct cost_item *it,
			       unsigned level)
{
	const struct cost_place *now = &it->now;
	unsigned pack = now->dram ? now->packing : COST_PACK_SSD;
	struct taken t = { 0, 0 };
	uint32_t n;
	float io, dec;

	if (now->copy && now->level == level)
		return t;
	n = now->dram <= level ? layers(it, now->dram, level + 1) : 0;
	io = (float)n * m->ssd_s;
	dec = (float)it->decoded_pages * m->decode_s[it->class][COST_PATH_OPEN][pack][level];
	t.s = (n ? m->ssd_latency_s : 0) + overlapped(io, dec);
	t.pages = n + it->decoded_pages / CODED_SHARE;
	return t;
}

double cost_move(const struct cost_model *m, const struct cost_item *it,
		 const struct cost_place *to, uint32_t *ret_pages)
{
	struct taken r = { 0, 0 }, c = { 0, 0 };

	if (to->stored > 0) {
		r = replica_taken(m, it, to->dram, to->packing);
		if (to->copy)
			c = copy_taken(m, it, to->level);
	}
	if (ret_pages)
		*ret_pages = r.pages + c.pages;
	return (double)r.s + (double)c.s;
}

/* ---- all options ----------------------------------------------------------- */

struct making {
	const struct cost_model *m;
	const struct cost_item *it;
	float heat, alpha, margin; /* margin: 0 when moves are free */
	struct cost_option *out;
	unsigned n;
	uint32_t upto[COST_LEVELS_MAX + 1];              /* pages of layers [0, i) as on SSD */
	struct cost_option row[2 * COST_LEVELS_MAX + 2]; /* of one level, by pages in memory */
	unsigned n_row;
};

static void row_add(struct making *k, float delay, float move_s, uint32_t ssd, uint32_t dram,
		    const struct cost_place *p)
{
	float lost = k->alpha * (1 - k->it->quality[p->level]);
	struct cost_option o = { .value = -k->heat * (lost + delay) - k->margin * move_s,
				 .ssd = ssd,
				 .dram = dram,
				 .place = cost_pack_place(p) };
	unsigned i = k->n_row++;

	while (i > 0 && k->row[i - 1].dram > dram) {
		k->row[i] = k->row[i - 1];
		i--;
	}
	k->row[i] = o;
}

/* All ways at @level, with @stored layers on SSD. */
static void row_make(struct making *k, unsigned stored, unsigned level)
{
	const struct cost_model *m = k->m;
	const struct cost_item *it = k->it;
	struct cost_place p = { .stored = (uint8_t)stored, .level = (uint8_t)level };
	bool busy = (it->flags & COST_BUSY) != 0, copy_stays = busy && it->now.copy;
	unsigned most = it->flags & COST_HAND ? 0 : level + 1;
	uint32_t ssd = k->upto[stored], all = k->upto[level + 1];

	if (busy && most > it->now.dram)
		most = it->now.dram;
	k->n_row = 0;
	for (unsigned pack = 0; pack < COST_PACKINGS && !copy_stays; pack++) {
		uint32_t base = pack == COST_PACK_DRAM ? it->base_pages : it->layer_pages[0];

		p.packing = (uint8_t)pack;
		for (unsigned d = pack == COST_PACK_SSD ? 0 : 1; d <= most; d++) {
			uint32_t dram = d ? base + k->upto[d] - it->layer_pages[0] : 0;
			float move;

			if (busy && d > 0 && pack != it->now.packing)
				break;
			move = k->margin > 0 ? replica_taken(m, it, d, pack).s : 0;

			p.dram = (uint8_t)d;
			row_add(k, pipelined(m, it, pack, level, all - k->upto[d]), move, ssd, dram,
				&p);
		}
	}
	if ((busy || (it->flags & COST_HAND)) && !copy_stays)
		return;
	p = (struct cost_place){ .stored = (uint8_t)stored, .level = (uint8_t)level, .copy = 1 };
	row_add(k, copied(m, it), k->margin > 0 ? copy_taken(m, it, level).s : 0, ssd,
		cost_copy_pages(it), &p);
}

/* Is b under the line from a to c, or on it? */
static bool inside(const struct cost_option *a, const struct cost_option *b,
		   const struct cost_option *c)
{
	return (b->value - a->value) * (float)(c->dram - a->dram) <=
	       (c->value - a->value) * (float)(b->dram - a->dram);
}

static void row_hull(struct making *k)
{
	unsigned first = k->n;

	for (unsigned i = 0; i < k->n_row; i++) {
		const struct cost_option *o = &k->row[i];

		if (k->n > first && o->value <= k->out[k->n - 1].value)
			continue;
		while (k->n > first && k->out[k->n - 1].dram == o->dram)
			k->n--;
		while (k->n > first + 1 && inside(&k->out[k->n - 2], &k->out[k->n - 1], o))
			k->n--;
		k->out[k->n++] = *o;
	}
}

static void row_all(struct making *k)
{
	for (unsigned i = 0; i < k->n_row; i++)
		k->out[k->n++] = k->row[i];
}

static void add_now(struct making *k)
{
	struct cost_place p = k->it->now;

	p.level = (uint8_t)cost_best_level(k->m, k->it, &p);
	if (p.copy && p.level != k->it->now.level)
		return; /* the copy is of a level that may not be read any more */
	k->out[k->n++] = (struct cost_option){
		.value = -k->heat * (k->alpha * (1 - k->it->quality[p.level]) +
				     (float)cost_delay(k->m, k->it, &p)),
		.ssd = cost_ssd_pages(k->it, &p),
		.dram = cost_dram_pages(k->it, &p),
		.place = cost_pack_place(&p),
	};
}

unsigned cost_options(const struct cost_model *m, const struct cost_item *it, double heat,
		      unsigned opts, struct cost_option out[COST_OPTIONS_MAX])
{
	bool fixed = ssd_fixed(it) || (opts & COST_OPT_KEEP_SSD);
	struct making k = { .m = m,
			    .it = it,
			    .heat = (float)heat,
			    .out = out,
			    .alpha = (float)m->params.alpha_s,
			    .margin = opts & COST_OPT_FREE ? 0 : (float)m->params.margin };
	unsigned low = cost_floor(it, NULL), high;

	if (it->now.stored == 0) { /* nothing brings it back */
		out[0] = (struct cost_option){ .value = -k.heat * recompute(m, it) };
		return 1;
	}
	high = it->now.stored - 1u;
	if (it->flags & COST_BUSY)
		low = high = it->now.level;
	for (unsigned l = 0; l < it->now.stored; l++)
		k.upto[l + 1] = k.upto[l] + it->layer_pages[l];
	if (!(opts & COST_OPT_FREE))
		add_now(&k);
	if (m->params.may_remove && !fixed)
		k.out[k.n++] = (struct cost_option){ .value = -k.heat * recompute(m, it) };
	for (unsigned level = low; level <= high; level++) {
		/* more layers on SSD than are read would be room for nothing */
		row_make(&k, fixed ? it->now.stored : level + 1, level);
		if (opts & COST_OPT_ALL)
			row_all(&k);
		else
			row_hull(&k);
	}
	return k.n;
}
