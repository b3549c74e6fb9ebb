/* SPDX-License-Identifier: MIT */
/*
 * Prices by cutting planes: the region of possible prices is a polygon, and each look
 * at its centroid halves it, because the room left over or lacking there says on which
 * side the best prices are. Prices come first from a sample of the contexts,
 * then, near those, from all. Then rounding: the best pick that fits, room left
 * given out, the undecided settled (solve_core.c).
 */
#include "policy/solve.h"

#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "policy/solve_types.h"

#define SAMPLE 2048u /* contexts that the first prices are sought with */
#define LOOKS_SAMPLE 160u
#define LOOKS_ALL 10u
#define NEAR 0.2 /* the prices of all are sought this near those of the sample */
#define POLY_MAX 128u

/* The least room that a context takes in any way: paid for by nobody. Without that, high
 * prices would drown the values in rounding. */
static struct solve_base base_of(const struct cost_option *o, const struct cost_option *end)
{
	struct solve_base b = { o->ssd, o->dram };

	while (++o < end) {
		b.ssd = o->ssd < b.ssd ? o->ssd : b.ssd;
		b.dram = o->dram < b.dram ? o->dram : b.dram;
	}
	return b;
}

/* Picks at prices. @pick may be NULL. */
static void look(const struct solve_problem *p, const struct solve_base *base, uint32_t stride,
		 double ssd_price, double dram_price, uint32_t *pick, struct solve_look *ret)
{
	float ls = (float)ssd_price, ld = (float)dram_price;
	struct solve_look l = { .ssd_price = ssd_price, .dram_price = dram_price };

	for (uint32_t i = 0; i < p->n; i += stride) {
		const struct cost_option *o = &p->opt[p->first[i]], *best = o,
					 *end = &p->opt[p->first[i + 1]];
		const struct solve_base *b = &base[i];
		float most = -HUGE_VALF;

		for (; o < end; o++) {
			float v = o->value - ls * (float)(int32_t)(o->ssd - b->ssd) -
				  ld * (float)(int32_t)(o->dram - b->dram);

			if (v > most) {
				most = v;
				best = o;
			}
		}
		if (pick)
			pick[i] = (uint32_t)(best - &p->opt[p->first[i]]);
		l.reduced += most;
		l.value += best->value;
		l.ssd += best->ssd - b->ssd;
		l.dram += best->dram - b->dram;
	}
	*ret = l;
}

double solve_bound_at(const struct solve_problem *p, double ssd_price, double dram_price)
{
	double sum = ssd_price * (double)p->ssd_pages + dram_price * (double)p->dram_pages;

	for (uint32_t i = 0; i < p->n; i++) {
		double most = -HUGE_VAL;

		for (uint32_t j = p->first[i]; j < p->first[i + 1]; j++)
			most = fmax(most, (double)p->opt[j].value - ssd_price * p->opt[j].ssd -
						  dram_price * p->opt[j].dram);
		sum += most;
	}
	return sum;
}

/* ---- the region of prices -------------------------------------------------- */

struct poly {
	double x[POLY_MAX], y[POLY_MAX];
	unsigned n;
};

/* Keeps what has a x + b y <= c. */
static void poly_cut(struct poly *g, double a, double b, double c)
{
	struct poly r = { .n = 0 };

	for (unsigned i = 0; i < g->n && r.n + 2 <= POLY_MAX; i++) {
		unsigned j = (i + 1) % g->n;
		double di = a * g->x[i] + b * g->y[i] - c, dj = a * g->x[j] + b * g->y[j] - c;

		if (di <= 0) {
			r.x[r.n] = g->x[i];
			r.y[r.n++] = g->y[i];
		}
		if ((di < 0 && dj > 0) || (di > 0 && dj < 0)) {
			double t = di / (di - dj);

			r.x[r.n] = g->x[i] + t * (g->x[j] - g->x[i]);
			r.y[r.n++] = g->y[i] + t * (g->y[j] - g->y[i]);
		}
	}
	*g = r;
}

/* False when nothing to speak of is left. */
static bool poly_centre(const struct poly *g, double *cx, double *cy)
{
	double area = 0, x = 0, y = 0, x0 = g->n ? g->x[0] : 0, y0 = g->n ? g->y[0] : 0;
	double wx = 0, wy = 0;

	for (unsigned i = 0; i < g->n; i++) {
		unsigned j = (i + 1) % g->n;
		double xi = g->x[i] - x0, yi = g->y[i] - y0, xj = g->x[j] - x0, yj = g->y[j] - y0;
		double w = xi * yj - xj * yi;

		area += w;
		x += (xi + xj) * w;
		y += (yi + yj) * w;
		wx = fmax(wx, fabs(xi));
		wy = fmax(wy, fabs(yi));
	}
	if (g->n < 3 || fabs(area) < DBL_MIN * 1e10)
		return false;
	*cx = x0 + x / (3 * area);
	*cy = y0 + y / (3 * area);
	return wx > 1e-5 * *cx || wy > 1e-5 * *cy;
}

struct search {
	const struct solve_problem *p;
	const struct solve_base *base;
	uint32_t stride;
	double ssd_room, dram_room; /* of what is looked at, beyond the least */
	bool ssd_binds, dram_binds; /* else its price is 0 */
	struct solve_look low;      /* with the lowest bound */
	double bound;
	struct solve_look fit; /* that fits, with the highest value */
	bool has_fit;
};

/* Looks at these prices; returns their bound. */
static double probe(struct search *s, double ssd_price, double dram_price, struct solve_look *l)
{
	double bound;

	look(s->p, s->base, s->stride, ssd_price, dram_price, NULL, l);
	bound = l->reduced + ssd_price * s->ssd_room + dram_price * s->dram_room;
	if (bound < s->bound) {
		s->bound = bound;
		s->low = *l;
	}
	if ((double)l->ssd <= s->ssd_room && (double)l->dram <= s->dram_room &&
	    (!s->has_fit || l->value > s->fit.value)) {
		s->fit = *l;
		s->has_fit = true;
	}
	return bound;
}

static void search_plane(struct search *s, const double lo[2], const double hi[2], unsigned looks)
{
	double w = hi[0] - lo[0], h = hi[1] - lo[1], cx, cy;
	struct poly g = { .n = 4, .x = { 0, 1, 1, 0 }, .y = { 0, 0, 1, 1 } };
	struct solve_look l;

	while (looks-- > 0 && poly_centre(&g, &cx, &cy)) {
		double at = probe(s, lo[0] + cx * w, lo[1] + cy * h, &l);
		double gx = (s->ssd_room - (double)l.ssd) * w;
		double gy = (s->dram_room - (double)l.dram) * h;

		if (gx == 0 && gy == 0)
			break;
		poly_cut(&g, gx, gy, gx * cx + gy * cy + s->bound - at);
	}
}

static void search_line(struct search *s, unsigned axis, double lo, double hi, unsigned looks)
{
	struct solve_look l;

	while (looks-- > 0 && hi - lo > 1e-6 * hi) {
		double mid = (lo + hi) / 2;

		probe(s, axis == 0 ? mid : 0, axis == 1 ? mid : 0, &l);
		if (axis == 0 ? (double)l.ssd > s->ssd_room : (double)l.dram > s->dram_room)
			lo = mid;
		else
			hi = mid;
	}
}

static void search_box(struct search *s, const double lo[2], const double hi[2], unsigned looks)
{
	struct solve_look l;

	if (s->ssd_binds && s->dram_binds)
		search_plane(s, lo, hi, looks);
	else if (s->ssd_binds)
		search_line(s, 0, lo[0], hi[0], looks);
	else if (s->dram_binds)
		search_line(s, 1, lo[1], hi[1], looks);
	else
		probe(s, 0, 0, &l);
}

/* ---- rounding -------------------------------------------------------------- */

struct cand {
	float ratio;
	uint32_t ctx, opt;
};

static int by_ratio(const void *a, const void *b)
{
	const struct cand *x = a, *y = b;

	if (x->ratio != y->ratio)
		return x->ratio > y->ratio ? -1 : 1;
	return x->ctx < y->ctx ? -1 : x->ctx > y->ctx;
}

static bool takes(const struct solve_work *w, const struct cost_option *from,
		  const struct cost_option *to)
{
	return w->ssd - from->ssd + to->ssd <= w->ssd_room &&
	       w->dram - from->dram + to->dram <= w->dram_room;
}

/* The step up of one context that gains most for what it pays. */
static bool step_up(const struct solve_work *w, uint32_t i, struct cand *ret)
{
	const struct solve_problem *p = w->p;
	const struct cost_option *o = &p->opt[p->first[i]], *cur = o + w->pick[i];
	uint32_t n = p->first[i + 1] - p->first[i];
	double most = 0;

	for (uint32_t j = 0; j < n; j++) {
		double gain = (double)o[j].value - (double)cur->value, pay, ratio;

		if (gain <= 0 || !takes(w, cur, &o[j]))
			continue;
		pay = w->ssd_price * ((double)o[j].ssd - cur->ssd) +
		      w->dram_price * ((double)o[j].dram - cur->dram);
		ratio = pay > gain * 1e-6 ? gain / pay : 1e6 * (1 + gain);
		if (ratio > most) {
			most = ratio;
			*ret = (struct cand){ (float)fmin(ratio, FLT_MAX), i, j };
		}
	}
	return most > 0;
}

/* Gives out room that is left. Returns how many steps were taken. */
static uint32_t fill(struct solve_work *w, struct cand *c, float least)
{
	const struct solve_problem *p = w->p;
	uint32_t n = 0, done = 0;

	for (uint32_t i = 0; i < p->n; i++)
		if (step_up(w, i, &c[n]) && c[n].ratio >= least)
			n++;
	qsort(c, n, sizeof(*c), by_ratio);
	for (uint32_t k = 0; k < n; k++) {
		const struct cost_option *o = &p->opt[p->first[c[k].ctx]];
		const struct cost_option *from = o + w->pick[c[k].ctx], *to = o + c[k].opt;

		if (!takes(w, from, to))
			continue;
		solve_set(w, c[k].ctx, c[k].opt);
		done++;
	}
	return done;
}

/* Prices at which it fits, from those of the lowest bound up. */
static void raise_prices(struct search *s, double most)
{
	double ssd = s->low.ssd_price, dram = s->low.dram_price, f = 0.01;
	struct solve_look l = s->low;

	for (unsigned i = 0; i < 8 && !s->has_fit; i++, f *= 2) {
		if ((double)l.ssd > s->ssd_room)
			ssd = fmax(ssd * (1 + f), most * 1e-12);
		if ((double)l.dram > s->dram_room)
			dram = fmax(dram * (1 + f), most * 1e-12);
		probe(s, ssd, dram, &l);
	}
}

static void pick_least(const struct solve_problem *p, uint32_t *pick)
{
	for (uint32_t i = 0; i < p->n; i++) {
		const struct cost_option *o = &p->opt[p->first[i]];
		uint32_t n = p->first[i + 1] - p->first[i], b = 0;

		for (uint32_t j = 1; j < n; j++)
			if (o[j].ssd < o[b].ssd ||
			    (o[j].ssd == o[b].ssd &&
			     (o[j].dram < o[b].dram ||
			      (o[j].dram == o[b].dram && o[j].value > o[b].value))))
				b = j;
		pick[i] = b;
	}
}

static void solve_round(struct solve_work *w, struct search *s, struct cand *c, double most)
{
	bool small = w->p->n <= SOLVE_CORE_MAX;
	struct solve_look l;

	raise_prices(s, most);
	if (s->has_fit)
		look(w->p, s->base, 1, s->fit.ssd_price, s->fit.dram_price, w->pick, &l);
	else
		pick_least(w->p, w->pick);
	solve_sum(w);
	if (fill(w, c, small || !s->has_fit ? 0 : 0.7f) > 0 &&
	    (small || (w->dram_room - w->dram) * 500 > w->dram_room))
		for (unsigned i = 0; i < 8 && fill(w, c, 0) > 0 && (small || i < 1); i++)
			;
}

/* ---- the whole ------------------------------------------------------------- */

struct extent {
	uint64_t ssd_min, ssd_max, dram_min, dram_max;
	double most; /* that any context has to gain: no page is worth more */
};

static void extent_of(const struct solve_problem *p, struct solve_base *base, struct extent *ret)
{
	struct extent e = { 0 };

	for (uint32_t i = 0; i < p->n; i++) {
		const struct cost_option *o = &p->opt[p->first[i]], *end = &p->opt[p->first[i + 1]];
		uint32_t s = o->ssd, d = o->dram;
		float v0 = o->value, v1 = o->value;

		base[i] = base_of(o, end);
		while (++o < end) {
			s = o->ssd > s ? o->ssd : s;
			d = o->dram > d ? o->dram : d;
			v0 = o->value < v0 ? o->value : v0;
			v1 = o->value > v1 ? o->value : v1;
		}
		e.ssd_min += base[i].ssd;
		e.ssd_max += s;
		e.dram_min += base[i].dram;
		e.dram_max += d;
		e.most = fmax(e.most, (double)v1 - (double)v0);
	}
	*ret = e;
}

static void search_prices(struct search *s, const struct extent *e, uint32_t n)
{
	double lo[2] = { 0, 0 }, hi[2] = { e->most, e->most };
	double ssd = s->ssd_room, dram = s->dram_room;
	uint32_t looked;

	s->stride = n > 2 * SAMPLE ? n / SAMPLE : 1;
	looked = (n + s->stride - 1) / s->stride;
	s->ssd_room = ssd * looked / n;
	s->dram_room = dram * looked / n;
	search_box(s, lo, hi, LOOKS_SAMPLE);
	if (s->stride == 1)
		return;
	lo[0] = s->low.ssd_price * (1 - NEAR);
	lo[1] = s->low.dram_price * (1 - NEAR);
	hi[0] = s->low.ssd_price * (1 + NEAR);
	hi[1] = s->low.dram_price * (1 + NEAR);
	s->stride = 1;
	s->ssd_room = ssd;
	s->dram_room = dram;
	s->bound = HUGE_VAL;
	s->has_fit = false;
	search_box(s, lo, hi, LOOKS_ALL);
}

static int solve_with(const struct solve_problem *p, struct solve_base *base, struct cand *c,
		      uint32_t *ret_pick, struct solve_result *ret)
{
	struct search s = { .p = p, .base = base, .bound = HUGE_VAL };
	struct solve_work w = { .p = p, .pick = ret_pick };
	struct extent e;
	int r = 0;

	extent_of(p, base, &e);
	w.ssd_room = p->ssd_pages > e.ssd_min ? p->ssd_pages : e.ssd_min;
	w.dram_room = p->dram_pages > e.dram_min ? p->dram_pages : e.dram_min;
	s.ssd_room = (double)(w.ssd_room - e.ssd_min);
	s.dram_room = (double)(w.dram_room - e.dram_min);
	s.ssd_binds = e.ssd_max > w.ssd_room;
	s.dram_binds = e.dram_max > w.dram_room;
	search_prices(&s, &e, p->n);
	w.ssd_price = s.low.ssd_price;
	w.dram_price = s.low.dram_price;
	solve_round(&w, &s, c, e.most);
	if (p->n <= SOLVE_CORE_MAX && (s.ssd_binds || s.dram_binds))
		r = solve_core(&w);
	*ret = (struct solve_result){ .value = w.value,
				      .bound = s.bound,
				      .ssd_price = w.ssd_price,
				      .dram_price = w.dram_price,
				      .ssd = w.ssd,
				      .dram = w.dram,
				      .fits = p->ssd_pages >= e.ssd_min &&
					      p->dram_pages >= e.dram_min };
	return r;
}

int solve_run(const struct solve_problem *p, uint32_t *ret_pick, struct solve_result *ret)
{
	struct solve_base *base;
	struct cand *c;
	int r = -ENOMEM;

	*ret = (struct solve_result){ .fits = true };
	if (p->n == 0)
		return 0;
	base = mem_calloc(p->n, sizeof(*base));
	c = mem_calloc(p->n, sizeof(*c));
	if (base && c)
		r = solve_with(p, base, c, ret_pick, ret);
	mem_free(c);
	mem_free(base);
	return r;
}
