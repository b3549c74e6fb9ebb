// SPDX-License-Identifier: MIT
/*
 * How the ladder's encoder groups channels: those of like spread share a class,
 * that is a code width and, in ladder-huf, a Huffman table. Neighbouring classes
 * are joined as long as that costs less than a table. Also the centroids.
 */
#include <string.h>

#include "codecs/ladder.h"

#define HIST_BLOCKS 64u /* about so many blocks are looked at at least */
#define HIST_PART 8u    /* or one of so many */
#define TABLE_BITS 800u /* what one more class costs: a frame, its Huffman table */
#define ESCAPE_BITS 16u

/* Of a spread class: how far from the middle of their cells values with k != 0
 * lie, outwards. */
struct centroid {
	int64_t sum;
	int64_t n;
};

/* k and how far out of its cell's middle t lies, of a line's lanes; summed by lane. */
static void line_add(const int16_t t[64], const struct ladder_level *v, uint8_t at[64],
		     int16_t sum[64], uint16_t n[64])
{
	int16_t half = (int16_t)(1 << v->shift >> 1);

	for (unsigned l = 0; l < LADDER_LANES; l++) {
		int16_t k = (int16_t)((int16_t)(t[l] + half) >> v->shift);
		int16_t d = (int16_t)(t[l] - (int16_t)((uint16_t)k << v->shift));
		int16_t below = (int16_t)-(k < 0), above = (int16_t)-(k > 0);

		sum[l] = (int16_t)(sum[l] + (d & above) - (d & below));
		n[l] = (uint16_t)(n[l] - above - below);
		k = k < -128 ? -128 : k > 127 ? 127 : k;
		at[l] = (uint8_t)(k + 128);
	}
}

/* Lanes in skip are 0, so that only the counts by k must leave them out. */
static void hist_add(struct ladder_scratch *s, const struct ladder_walk *w,
		     const struct ladder_level *v, struct centroid centre[])
{
	const struct ladder_block *b = &s->block;
	uint8_t at[64], spread[64] = { 0 };
	int16_t sum[64] = { 0 };
	uint16_t n[64] = { 0 };

	for (unsigned l = 0; l < w->d->lanes; l++)
		spread[l] = s->stats->spread[w->first_channel + (w->own_channels ? l : 0)];
	for (unsigned j = 0; j < LADDER_LINES; j++) {
		line_add(b->t[j], v, at, sum, n);
		for (unsigned l = 0; !b->skip[j] && l < LADDER_LANES; l++)
			s->stats->hist[spread[l]][at[l]]++;
		for (uint64_t m = b->skip[j] ? ~b->skip[j] : 0; m; m &= m - 1)
			s->stats->hist[spread[__builtin_ctzll(m)]][at[__builtin_ctzll(m)]]++;
	}
	for (unsigned l = 0; l < LADDER_LANES; l++) {
		centre[spread[l]].sum += sum[l];
		centre[spread[l]].n += n[l];
	}
}

/* Half the way to the centroid: all of it is best for the squared error, but makes
 * keys and values small; half of it was best for what the model says. */
static uint8_t draw_of(const struct centroid *c)
{
	int64_t by = c->n ? -c->sum / (2 * c->n) : 0;

	return (uint8_t)(by < 0 ? 0 : by > 127 ? 127 : by);
}

/* Least bits that hold k without an escape. */
static unsigned width_for(int k)
{
	unsigned a = (unsigned)(k < 0 ? -k : k);

	return a ? 33u - (unsigned)__builtin_clz(a) : 1;
}

/* Bits that codes of the best width take, escapes included. */
static uint64_t fix_cost(const uint32_t hist[256], uint8_t *ret_width)
{
	uint64_t by[10] = { 0 }, n = 0, in = 0, best = UINT64_MAX;

	for (int v = 0; v < 256; v++) {
		by[width_for(v - 128)] += hist[v];
		n += hist[v];
	}
	for (unsigned w = 1; w <= 8; w++) {
		uint64_t bits;

		in += by[w];
		bits = w * n + ESCAPE_BITS * (n - in);
		if (bits < best) {
			best = bits;
			*ret_width = (uint8_t)w;
		}
	}
	return best;
}

static uint64_t cost(const uint32_t hist[256])
{
	uint64_t n = 0;
	uint8_t width;

	for (unsigned v = 0; v < 256; v++)
		n += hist[v];
	return fix_cost(hist, &width) + planes_entropy(hist) * n / 256;
}

static uint64_t cost_joined(const uint32_t a[256], const uint32_t b[256])
{
	uint32_t sum[256];

	for (unsigned v = 0; v < 256; v++)
		sum[v] = a[v] + b[v];
	return cost(sum);
}

/* Classes while they are joined. */
struct joining {
	unsigned n;
	uint64_t cost[LADDER_SPREADS], both[LADDER_SPREADS]; /* of i; of i and i + 1 joined */
	struct centroid *centre;
	uint8_t map[LADDER_SPREADS]; /* from spreads */
};

static void both_set(struct joining *g, const struct ladder_scratch *s, unsigned i)
{
	if (i + 1 < g->n)
		g->both[i] = cost_joined(s->stats->hist[i], s->stats->hist[i + 1]);
}

/* Joins class i + 1 to class i. */
static void join(struct ladder_scratch *s, struct joining *g, unsigned i)
{
	size_t behind = g->n - i - 2;

	g->centre[i].sum += g->centre[i + 1].sum;
	g->centre[i].n += g->centre[i + 1].n;
	for (unsigned v = 0; v < 256; v++)
		s->stats->hist[i][v] += s->stats->hist[i + 1][v];
	g->cost[i] = g->both[i];
	memmove(&g->centre[i + 1], &g->centre[i + 2], behind * sizeof(g->centre[0]));
	memmove(&s->stats->hist[i + 1], &s->stats->hist[i + 2], behind * sizeof(s->stats->hist[0]));
	memmove(&g->cost[i + 1], &g->cost[i + 2], behind * sizeof(g->cost[0]));
	memmove(&g->both[i + 1], &g->both[i + 2], behind * sizeof(g->both[0]));
	for (unsigned f = 0; f < LADDER_SPREADS; f++)
		if (g->map[f] > i)
			g->map[f]--;
	g->n--;
	both_set(g, s, i);
	if (i)
		both_set(g, s, i - 1);
}

/* What joining i and i + 1 costs in all. */
static uint64_t joining_costs(const struct joining *g, unsigned i, unsigned part)
{
	uint64_t apart = g->cost[i] + g->cost[i + 1];

	return g->both[i] > apart ? (g->both[i] - apart) * part : 0;
}

/* Spread classes to classes of the format; sets widths. @part: one element of so
 * many was counted. */
static void classes_join(struct ladder_scratch *s, struct ladder_head *h,
			 struct centroid centre[], unsigned part)
{
	struct joining g = { .n = LADDER_SPREADS, .centre = centre };

	for (unsigned f = 0; f < LADDER_SPREADS; f++) {
		g.map[f] = (uint8_t)f;
		g.cost[f] = cost(s->stats->hist[f]);
		both_set(&g, s, f);
	}
	while (g.n > 1) {
		unsigned at = 0;

		for (unsigned i = 1; i + 1 < g.n; i++)
			if (joining_costs(&g, i, part) < joining_costs(&g, at, part))
				at = i;
		if (joining_costs(&g, at, part) > TABLE_BITS && g.n <= LADDER_CLASSES_MAX)
			break;
		join(s, &g, at);
	}
	h->n_classes = (uint8_t)g.n;
	for (unsigned i = 0; i < g.n; i++) {
		(void)fix_cost(s->stats->hist[i], &h->width[i]);
		h->draw[i] = draw_of(&centre[i]);
	}
	for (uint32_t c = 0; c < h->channels; c++)
		s->class[c] = g.map[s->stats->spread[c]];
}

void ladder_classes(const struct ladder_kern *k, struct ladder_scratch *s, const uint8_t *src,
		    struct ladder_head *h)
{
	struct centroid centre[LADDER_SPREADS] = { 0 };
	struct ladder_level v = ladder_level_of(h, 0), coarse = ladder_level_of(h, h->n_bits);
	unsigned part = h->coded_rows * h->cols / (512 * HIST_BLOCKS);
	struct ladder_walk w;
	size_t i = 0;

	part = part < 1 ? 1 : part > HIST_PART ? HIST_PART : part;
	memset(s->stats->hist, 0, sizeof(s->stats->hist));
	ladder_walk_init(&w, k, h, s, false);
	while (ladder_walk_next(&w)) {
		i++;
		if (h->turn ? (w.coded - 1) / 8 % part : (i + i / 61) % part)
			continue; /* whole groups, or not the same strips always */
		ladder_block_load(&w, src, &s->block);
		k->cells(&v, &s->block);
		ladder_walk_means(k, &w, &s->block);
		ladder_block_centre(&s->block);
		hist_add(s, &w, &coarse, centre);
	}
	classes_join(s, h, centre, part);
}
