/* SPDX-License-Identifier: MIT */
#include "store/rates.h"

#include <math.h>
#include <string.h>

#include "codecs/codec.h"

/* A sample counts one in so many. */
#define SAMPLES 16u
/* Too short to time. */
#define MIN_BYTES 65536u
/* Threads hinder each other. */
#define PARALLEL 0.7

/* Before anything is seen: what a common machine of today does. */
#define GUESS_SSD_BPS 2e9
#define GUESS_SSD_LATENCY_S 1e-4
#define GUESS_OPEN_S 5e-5
#define GUESS_COPY_BPS 1e10
#define GUESS_RECODE_BPS 2e9
static const double guess_decode[COST_CLASSES][COST_PACKINGS] = {
	[COST_CLASS_OPAQUE] = { 2e9, 3e9 },
	[COST_CLASS_PLANES] = { 2.5e9, 8e9 },
	[COST_CLASS_LADDER] = { 2.5e9, 5e9 },
};
static const double guess_grows[COST_CLASSES] = { 1, 1.1, 1.4 };

void rates_init(struct rates *r, unsigned threads)
{
	memset(r, 0, sizeof(*r));
	lock_init(&r->lock);
	r->threads = threads ? threads : 1;
}

void rates_fini(struct rates *r)
{
	lock_fini(&r->lock);
}

enum cost_class rates_class(unsigned codec, enum cost_packing *ret_packing)
{
	*ret_packing = codec == CODEC_PLANES_HUF || codec == CODEC_LADDER_HUF ? COST_PACK_SSD
									      : COST_PACK_DRAM;
	switch (codec) {
	case CODEC_PLANES_HUF:
	case CODEC_PLANES_FIX:
		return COST_CLASS_PLANES;
	case CODEC_LADDER_HUF:
	case CODEC_LADDER_FIX:
		return COST_CLASS_LADDER;
	default:
		return COST_CLASS_OPAQUE;
	}
}

/* Of what comes after the first samples: who waits for others says less about the machine
 * than who does not. */
#define SLOWER 4u

static void add(struct rates_mean *m, double now, bool slower)
{
	m->n += m->n < SAMPLES;
	m->v += (now - m->v) / (slower && m->n == SAMPLES ? SLOWER * SAMPLES : m->n);
}

static void average(struct rates_mean *m, double now)
{
	add(m, now, now < m->v);
}

static void average_s(struct rates_mean *m, double now)
{
	add(m, now, now > m->v);
}

static double per_s(uint64_t bytes, uint64_t ns)
{
	return (double)bytes * 1e9 / (double)(ns ? ns : 1);
}

/* Opaque codecs are the same in both packings. */
static void note(struct rates *r, unsigned codec, enum cost_path path, unsigned n_layers,
		 double Bps, bool at_least)
{
	enum cost_packing pack;
	enum cost_class class = rates_class(codec, &pack);
	unsigned level = n_layers ? n_layers - 1 : 0;
	struct rates_mean *to;

	if (codec == CODEC_HOLE)
		return;
	level = level < COST_LEVELS_MAX ? level : COST_LEVELS_MAX - 1;
	lock_acquire(&r->lock);
	to = &r->decode_Bps[class][path][pack][level];
	if (!at_least || (to->n > 0 && Bps > to->v))
		average(to, Bps);
	if (class == COST_CLASS_OPAQUE)
		r->decode_Bps[class][path][COST_PACK_SSD][level] = *to;
	lock_release(&r->lock);
}

void rates_decoded(struct rates *r, unsigned codec, unsigned n_layers, uint64_t bytes, uint64_t ns)
{
	if (bytes >= MIN_BYTES)
		note(r, codec, COST_PATH_STREAM, n_layers, per_s(bytes, ns), false);
}

void rates_decoded_open(struct rates *r, unsigned codec, unsigned n_layers, uint64_t bytes,
			uint64_t ns, bool from_memory)
{
	if (bytes >= MIN_BYTES)
		note(r, codec, COST_PATH_OPEN, n_layers, per_s(bytes, ns), !from_memory);
}

void rates_recoded(struct rates *r, uint64_t bytes, uint64_t ns)
{
	lock_acquire(&r->lock);
	if (bytes >= MIN_BYTES)
		average(&r->recode_Bps, per_s(bytes, ns));
	lock_release(&r->lock);
}

void rates_copied(struct rates *r, uint64_t bytes, uint64_t ns)
{
	lock_acquire(&r->lock);
	if (bytes >= MIN_BYTES)
		average(&r->copy_Bps, per_s(bytes, ns));
	lock_release(&r->lock);
}

void rates_opened(struct rates *r, enum rates_open how, uint64_t ns)
{
	lock_acquire(&r->lock);
	average_s(&r->open_s[how], (double)ns / 1e9);
	lock_release(&r->lock);
}

void rates_grown(struct rates *r, enum cost_class class, uint64_t ssd_bytes, uint64_t dram_bytes)
{
	lock_acquire(&r->lock);
	if (ssd_bytes > 0 && dram_bytes > 0)
		average(&r->grows[class], (double)dram_bytes / (double)ssd_bytes);
	lock_release(&r->lock);
}

double rates_growth(struct rates *r, enum cost_class class)
{
	double g;

	lock_acquire(&r->lock);
	g = r->grows[class].v;
	lock_release(&r->lock);
	return g > 0 ? g : guess_grows[class];
}

/* Of one class, path and packing: the level itself, else the nearest one. */
static double nearest(const struct rates_mean *Bps, unsigned level)
{
	for (unsigned d = 0; d < COST_LEVELS_MAX; d++) {
		if (level >= d && Bps[level - d].n)
			return Bps[level - d].v;
		if (level + d < COST_LEVELS_MAX && Bps[level + d].n)
			return Bps[level + d].v;
	}
	return 0;
}

static double decode_rate(struct rates *r, unsigned class, unsigned path, unsigned pack,
			  unsigned level) REQUIRES(r->lock)
{
	unsigned other = pack == COST_PACK_SSD ? COST_PACK_DRAM : COST_PACK_SSD;
	double Bps = nearest(r->decode_Bps[class][path][pack], level);

	if (Bps > 0)
		return Bps;
	/* a packing that was never chosen is never seen: by how it does beside the other one */
	Bps = nearest(r->decode_Bps[class][path][other], level);
	if (Bps > 0)
		return Bps * guess_decode[class][pack] / guess_decode[class][other];
	if (path == COST_PATH_OPEN)
		return decode_rate(r, class, COST_PATH_STREAM, pack, level) *
		       (r->threads > 1 ? r->threads * PARALLEL : 1);
	return guess_decode[class][pack];
}

static double seen(const struct rates_mean *m, double guess)
{
	return m->v > 0 ? m->v : guess;
}

/* What was measured is noise to some degree, and a plan that follows it moves things about
 * for nothing: fixed-length codes are never slower to decode than entropy codes, nor are
 * fewer layers slower than more, as far as those were measured. */
static void consistent(const struct rates *r, struct cost_rates *ret) REQUIRES(r->lock)
{
	for (unsigned c = 0; c < COST_CLASSES; c++)
		for (unsigned p = 0; p < COST_PATHS; p++)
			for (unsigned l = COST_LEVELS_MAX; l-- > 0;) {
				const struct rates_mean *ssd = r->decode_Bps[c][p][COST_PACK_SSD];
				const struct rates_mean *dram = r->decode_Bps[c][p][COST_PACK_DRAM];
				double *s = ret->decode_Bps[c][p][COST_PACK_SSD];
				double *d = ret->decode_Bps[c][p][COST_PACK_DRAM];

				if (l + 1 < COST_LEVELS_MAX && ssd[l + 1].n)
					s[l] = fmax(s[l], s[l + 1]);
				if (l + 1 < COST_LEVELS_MAX && dram[l + 1].n)
					d[l] = fmax(d[l], d[l + 1]);
				if (ssd[l].n)
					d[l] = fmax(d[l], s[l]);
			}
}

void rates_get(struct rates *r, double ssd_Bps, double ssd_latency_ns, struct cost_rates *ret)
{
	lock_acquire(&r->lock);
	ret->ssd_Bps = ssd_Bps > 0 ? ssd_Bps : GUESS_SSD_BPS;
	ret->ssd_latency_s = ssd_latency_ns > 0 ? ssd_latency_ns / 1e9 : GUESS_SSD_LATENCY_S;
	ret->dram_latency_s = seen(&r->open_s[RATES_OPEN_DRAM], GUESS_OPEN_S);
	ret->copy_latency_s = seen(&r->open_s[RATES_OPEN_COPY], GUESS_OPEN_S);
	/* opening takes its time wherever the content is */
	ret->ssd_latency_s += ret->dram_latency_s;
	ret->copy_Bps = seen(&r->copy_Bps, GUESS_COPY_BPS);
	ret->recode_Bps = seen(&r->recode_Bps, GUESS_RECODE_BPS);
	for (unsigned c = 0; c < COST_CLASSES; c++)
		for (unsigned p = 0; p < COST_PATHS; p++)
			for (unsigned k = 0; k < COST_PACKINGS; k++)
				for (unsigned l = 0; l < COST_LEVELS_MAX; l++)
					ret->decode_Bps[c][p][k][l] = decode_rate(r, c, p, k, l);
	consistent(r, ret);
	lock_release(&r->lock);
}
