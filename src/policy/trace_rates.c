/* SPDX-License-Identifier: MIT */
/*
 * Rates from what readers saw. The daemon's own meters time its parts: the device, the decoders.
 * What lies between them and a reader (requests, copying, the scheduler) they do not see, and
 * for reads from memory that is most of it. So the rates are set so that the cost model gives each
 * kind of read what it took on the average:
 *
 *   a copy's         all of it is copying
 *   from memory      what is left beyond copying, if it is decoded at open, is decoding
 *   from the device  what is left is hypot(device, decoding), and decoding at the rate that is
 *                    known by then; the device's one rate is the best for all kinds, and what that
 *                    leaves of each is its decoding
 */
#include <math.h>

#include "policy/trace_set.h"

/* So many reads of a kind say how fast it is. */
#define ENOUGH 5u
/* What is left for a part, of the whole: less is noise in the others. */
#define LEAST 0.1

struct sum {
	double bytes, s;
	uint32_t n;
};

struct sums {
	const struct trace_set *set;
	struct cost_rates *r;
	struct sum copy;
	struct sum dram[COST_CLASSES][COST_PATHS][COST_PACKINGS][COST_LEVELS_MAX];
	/* of the device; bytes: decoded ones, stored: those read */
	struct sum ssd[COST_CLASSES][COST_PATHS][COST_LEVELS_MAX];
	double stored[COST_CLASSES][COST_PATHS][COST_LEVELS_MAX];
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

static double stored_bytes(const struct cost_item *it, unsigned level)
{
	double pages = 0;

	for (unsigned l = 0; l <= level; l++)
		pages += it->layer_pages[l];
	return pages * COST_PAGE_BYTES;
}

/* @s less what comes before and after decoding. */
static double decoding(const struct sums *u, const struct cost_item *it, double bytes, double s,
		       double latency_s)
{
	double rest = s - latency_s;

	if (it->path == COST_PATH_OPEN && u->r->copy_Bps > 0)
		rest -= bytes / u->r->copy_Bps;
	return fmax(rest, s * LEAST);
}

static void add_copy(struct sums *u, uint64_t k)
{
	const struct trace_seen *e = &u->set->seen[k];
	const struct cost_item *it = &u->set->it[u->set->a[k].ctx];
	double bytes = (double)it->decoded_pages * COST_PAGE_BYTES;

	if (e->whole && e->found == TRACE_COPY)
		add(&u->copy, bytes, (double)e->delay_s - u->r->copy_latency_s);
}

static void add_read(struct sums *u, uint64_t k)
{
	const struct trace_seen *e = &u->set->seen[k];
	const struct cost_item *it = &u->set->it[u->set->a[k].ctx];
	double bytes = (double)it->decoded_pages * COST_PAGE_BYTES, d = (double)e->delay_s;
	unsigned level = e->at.level;

	if (!e->whole || level >= it->levels)
		return;
	if (e->found == TRACE_DRAM) {
		add(&u->dram[it->class][it->path][e->at.packing][level], bytes,
		    decoding(u, it, bytes, d, u->r->dram_latency_s));
	} else if (e->found == TRACE_SSD) {
		add(&u->ssd[it->class][it->path][level], bytes,
		    decoding(u, it, bytes, d, u->r->ssd_latency_s));
		u->stored[it->class][it->path][level] += stored_bytes(it, level);
	}
}

/* Reads of the device at the same time hinder one another: only those that were alone count, of
 * which the next one tells. */
static void add_reads(struct sums *u, uint64_t from, uint64_t to)
{
	const struct trace_set *s = u->set;
	double busy_until_s = 0;
	bool alone = false;
	uint64_t last = 0;

	for (uint64_t k = from; k < to && k < s->n_a; k++) {
		double at = (double)(s->a[k].t_ns - s->a[0].t_ns) / 1e9;

		if (s->seen[k].found == TRACE_DRAM)
			add_read(u, k);
		if (s->seen[k].found == TRACE_DRAM || s->seen[k].found == TRACE_COPY)
			continue;
		if (alone && at >= busy_until_s)
			add_read(u, last);
		alone = at >= busy_until_s;
		last = k;
		busy_until_s = fmax(busy_until_s, at + (double)s->seen[k].delay_s);
	}
	if (alone)
		add_read(u, last);
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

/* How many times longer reads from memory take than the meter says, of those seen. */
static double slower(const struct sums *u, unsigned class, unsigned path)
{
	double s = 0, metered = 0;

	for (unsigned k = 0; k < COST_PACKINGS; k++)
		for (unsigned l = 0; l < COST_LEVELS_MAX; l++) {
			const struct sum *m = &u->dram[class][path][k][l];
			double Bps = u->r->decode_Bps[class][path][k][l];

			if (!known(m) || Bps <= 0)
				continue;
			s += m->s;
			metered += m->bytes / Bps;
		}
	return metered > 0 ? s / metered : 1;
}

static void set_dram(struct sums *u, unsigned class, unsigned path)
{
	double by = slower(u, class, path);

	for (unsigned k = 0; k < COST_PACKINGS; k++)
		for (unsigned l = 0; l < COST_LEVELS_MAX; l++) {
			const struct sum *m = &u->dram[class][path][k][l];
			double *Bps = &u->r->decode_Bps[class][path][k][l];

			*Bps = known(m) ? m->bytes / m->s : *Bps / by;
		}
}

/* The part of a hypotenuse of @s that is not @other. */
static double part(double s, double other)
{
	return sqrt(fmax(s * s - other * other, s * s * LEAST));
}

static void set_device(struct sums *u)
{
	double stored = 0, io_s = 0;

	for (unsigned c = 0; c < COST_CLASSES; c++)
		for (unsigned p = 0; p < COST_PATHS; p++)
			for (unsigned l = 0; l < COST_LEVELS_MAX; l++) {
				const struct sum *m = &u->ssd[c][p][l];
				double Bps = u->r->decode_Bps[c][p][COST_PACK_SSD][l];

				if (!known(m))
					continue;
				stored += u->stored[c][p][l];
				io_s += part(m->s, Bps > 0 ? m->bytes / Bps : 0);
			}
	if (io_s > 0)
		u->r->ssd_Bps = stored / io_s;
}

/* What the device's rate leaves, unless it was seen in memory. */
static void set_ssd(struct sums *u, unsigned class, unsigned path)
{
	for (unsigned l = 0; l < COST_LEVELS_MAX; l++) {
		const struct sum *m = &u->ssd[class][path][l];

		if (!known(m) || known(&u->dram[class][path][COST_PACK_SSD][l]))
			continue;
		u->r->decode_Bps[class][path][COST_PACK_SSD][l] =
			m->bytes / part(m->s, u->stored[class][path][l] / u->r->ssd_Bps);
	}
}

void trace_set_rates(const struct trace_set *s, uint64_t from, uint64_t to, struct cost_rates *ret)
{
	struct cost_rates r = s->state.rates;
	struct sums u = { .set = s, .r = &r };

	bound_latency(s, from, to, &r);
	for (uint64_t k = from; k < to && k < s->n_a; k++)
		add_copy(&u, k);
	if (known(&u.copy))
		r.copy_Bps = u.copy.bytes / u.copy.s;
	add_reads(&u, from, to);
	for (unsigned c = 0; c < COST_CLASSES; c++)
		for (unsigned p = 0; p < COST_PATHS; p++)
			set_dram(&u, c, p);
	set_device(&u);
	for (unsigned c = 0; c < COST_CLASSES; c++)
		for (unsigned p = 0; p < COST_PATHS; p++)
			set_ssd(&u, c, p);
	*ret = r;
}
