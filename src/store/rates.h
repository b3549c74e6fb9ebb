/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_STORE_RATES_H
#define KVCACHEFS_STORE_RATES_H
/*
 * How fast this machine reads and decodes, measured while it does: what the adaptive
 * policy counts with. Moving averages; what was not seen yet is taken from what is
 * nearest to it, else from a first guess, so that no rate is ever unknown.
 */
#include <stdint.h>

#include "base/lock.h"
#include "policy/cost.h"

enum rates_open { RATES_OPEN_DRAM, RATES_OPEN_COPY, RATES_OPENS };

/* The mean of the first samples, then a moving average: one stall among the first is
 * forgotten as soon as one later. */
struct rates_mean {
	double v;   /* 0: not seen yet */
	unsigned n; /* samples, no further than they matter */
};

struct rates {
	struct lock lock; /* leaf */
	/* lock, all of them */
	struct rates_mean decode_Bps[COST_CLASSES][COST_PATHS][COST_PACKINGS]
				    [COST_LEVELS_MAX] GUARDED;
	struct rates_mean recode_Bps GUARDED, copy_Bps GUARDED;
	struct rates_mean open_s[RATES_OPENS] GUARDED;
	/* layer 0 packed for memory, by bytes of the same packed for SSD */
	struct rates_mean grows[COST_CLASSES] GUARDED;
	unsigned threads; /* that decode when a file is decoded at open */
};

void rates_init(struct rates *r, unsigned threads);
void rates_fini(struct rates *r);

/* The family of a codec (enum codec_id), and how it packs. */
enum cost_class rates_class(unsigned codec, enum cost_packing *ret_packing);
/* One thread decoded @bytes from the first @n_layers of a chunk in @ns. */
void rates_decoded(struct rates *r, unsigned codec, unsigned n_layers, uint64_t bytes,
		   uint64_t ns);
/* A whole file was decoded at open, all threads together. @from_memory: nothing of it
 * came from the device; else it can be decoded at least so fast. */
void rates_decoded_open(struct rates *r, unsigned codec, unsigned n_layers, uint64_t bytes,
			uint64_t ns, bool from_memory);
void rates_recoded(struct rates *r, uint64_t bytes, uint64_t ns);
void rates_copied(struct rates *r, uint64_t bytes, uint64_t ns);
void rates_opened(struct rates *r, enum rates_open how, uint64_t ns);
void rates_grown(struct rates *r, enum cost_class class, uint64_t ssd_bytes,
		 uint64_t dram_bytes);

/* @ssd_Bps, @ssd_latency_ns: of the device's own meter, 0 when not seen. */
void rates_get(struct rates *r, double ssd_Bps, double ssd_latency_ns, struct cost_rates *ret);
double rates_growth(struct rates *r, enum cost_class class);

#endif
