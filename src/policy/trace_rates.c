/* SPDX-License-Identifier: MIT */
/*
 * Rates from what readers saw. The daemon's own meters time its parts: the device, the decoders.
 * What lies between them and a reader (requests, copying, the scheduler) they do not see, and
 * for reads from memory that is most of it.
 */
#include <math.h>

#include "policy/trace_set.h"

/* So many reads of a kind say how fast it is. */
#define ENOUGH 5u

struct sum {
	double bytes, s;
	uint32_t n;
};

struct sums {
	struct sum dram[COST_CLASSES][COST_PATHS][COST_PACKINGS][COST_LEVELS_MAX];
	struct sum ssd, copy;
	struct sum ssd_decoded[COST_CLASSES][COST_PATHS][COST_LEVELS_MAX];
	/* the last read of the device, if none that began before it was still going on */
	bool alone;
	uint64_t last;
	double busy_until_s;
};

static void add(struct sum *u, double bytes, double s)
{
	if (!(s > 0))
		return;
	u->bytes += bytes;
	u->s += s;
	u->n++;
}

static bool known(const struct sum *u)
{
	return u->n >= ENOUGH && u->bytes > 0;
}

static double pages_of(const struct cost_item *it, unsigned level)
{
	double pages = 0;

	for (unsigned l = 0; l <= level; l++)
		pages += it->layer_pages[l];
	return pages * COST_PAGE_BYTES;
}

static void add_read(struct sums *u, const struct trace_set *s, uint64_t k,
		     const struct cost_rates *r)
{
	const struct trace_seen *e = &s->seen[k];
	const struct cost_item *it = &s->it[s->a[k].ctx];
	double bytes = (double)it->decoded_pages * COST_PAGE_BYTES, d = (double)e->delay_s;
	unsigned level = e->at.level;

	if (!e->whole || level >= it->levels)
		return;
	if (e->found == TRACE_COPY) {
		add(&u->copy, bytes, d - r->copy_latency_s);
	} else if (e->found == TRACE_DRAM) {
		add(&u->dram[it->class][it->path][e->at.packing][level], bytes,
		    d - r->dram_latency_s);
	} else if (e->found == TRACE_SSD) {
		add(&u->ssd, pages_of(it, level), d - r->ssd_latency_s);
		add(&u->ssd_decoded[it->class][it->path][level], bytes, d - r->ssd_latency_s);
	}
}

/* Reads of the device at the same time hinder one another: only one that was alone counts, which
 * the next one tells. */
static void next_read(struct sums *u, const struct trace_set *s, uint64_t k,
		      const struct cost_rates *r)
{
	double at = (double)(s->a[k].t_ns - s->a[0].t_ns) / 1e9;

	if (s->seen[k].found == TRACE_DRAM || s->seen[k].found == TRACE_COPY) {
		add_read(u, s, k, r);
		return;
	}
	if (u->alone && at >= u->busy_until_s)
		add_read(u, s, u->last, r);
	u->alone = at >= u->busy_until_s;
	u->last = k;
	u->busy_until_s = fmax(u->busy_until_s, at + (double)s->seen[k].delay_s);
}

/* Of requests that wait for one another the meter's latency is mostly that wait, and a whole read
 * has many of them at once. */
static void bound_latency(const struct trace_set *s, uint64_t from, uint64_t to,
			  struct cost_rates *r)
{
	for (uint64_t k = from; k < to && k < s->n_a; k++) {
		double d = (double)s->seen[k].delay_s;

		if (!s->seen[k].whole)
			continue;
		if (s->seen[k].found == TRACE_SSD)
			r->ssd_latency_s = fmin(r->ssd_latency_s, d / 4);
		else if (s->seen[k].found == TRACE_DRAM)
			r->dram_latency_s = fmin(r->dram_latency_s, d / 4);
		else if (s->seen[k].found == TRACE_COPY)
			r->copy_latency_s = fmin(r->copy_latency_s, d / 4);
	}
}

/* Seconds per byte that reads from memory take beyond decoding. */
static double beyond(const struct sums *u, const struct cost_rates *r, unsigned class,
		     unsigned path)
{
	double s = 0, bytes = 0;

	for (unsigned k = 0; k < COST_PACKINGS; k++)
		for (unsigned l = 0; l < COST_LEVELS_MAX; l++) {
			const struct sum *m = &u->dram[class][path][k][l];
			double Bps = r->decode_Bps[class][path][k][l];

			if (!known(m))
				continue;
			bytes += m->bytes;
			s += m->s - (Bps > 0 ? m->bytes / Bps : 0);
		}
	return bytes > 0 && s > 0 ? s / bytes : 0;
}

static void set_decode(const struct sums *u, struct cost_rates *r, unsigned class, unsigned path)
{
	double more = beyond(u, r, class, path);

	for (unsigned k = 0; k < COST_PACKINGS; k++)
		for (unsigned l = 0; l < COST_LEVELS_MAX; l++) {
			const struct sum *m = &u->dram[class][path][k][l];
			const struct sum *d = &u->ssd_decoded[class][path][l];
			double *Bps = &r->decode_Bps[class][path][k][l];

			if (known(m))
				*Bps = m->bytes / m->s;
			else if (*Bps > 0 && more > 0)
				*Bps = 1 / (1 / *Bps + more);
			/* a read of the device has been as fast as this, decoding included */
			if (k == COST_PACK_SSD && !known(m) && known(d) && *Bps < d->bytes / d->s)
				*Bps = d->bytes / d->s;
		}
}

void trace_set_rates(const struct trace_set *s, uint64_t from, uint64_t to, struct cost_rates *ret)
{
	struct sums u = { .copy = { 0 } };
	struct cost_rates r = s->state.rates;

	bound_latency(s, from, to, &r);
	for (uint64_t k = from; k < to && k < s->n_a; k++)
		next_read(&u, s, k, &r);
	if (u.alone)
		add_read(&u, s, u.last, &r);
	if (known(&u.ssd))
		r.ssd_Bps = u.ssd.bytes / u.ssd.s;
	if (known(&u.copy))
		r.copy_Bps = u.copy.bytes / u.copy.s;
	for (unsigned c = 0; c < COST_CLASSES; c++)
		for (unsigned p = 0; p < COST_PATHS; p++)
			set_decode(&u, &r, c, p);
	*ret = r;
}
