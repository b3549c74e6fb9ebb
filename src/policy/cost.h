/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_POLICY_COST_H
#define KVCACHEFS_POLICY_COST_H
/*
 * What holding a context in one way or another costs its readers, and the ways there
 * are: the model under the adaptive policy. Pure functions, no allocation.
 *
 * The utility is that of AdaptCache (arXiv 2509.00105) and EVICPRESS (2512.14946),
 *
 *     utility = frequency x (alpha x quality - delay)
 *
 * with the delay measured instead of bytes over bandwidth, and pipelined: a read at
 * level k of a context that has layers 0..d-1 in memory takes
 *
 *     latency + hypot(bytes of layers d..k / bandwidth of the device,
 *                     decoded bytes / decode rate of the packing at that level)
 *
 * because the two overlap, but hinder each other where they take about as long (6 and
 * 12 ms took 12 to 14, 14 and 12 ms 17 to 20, the larger one alone would be 12 and 14),
 * and one of a decoded copy its own latency and bandwidth. A context that was removed
 * is computed anew: exact, and as late as that takes.
 *
 * Bytes are counted in pages of 4 KiB, rounded up, as they are on the device and in the
 * arena, so that sums of them never promise more room than there is.
 */
#include <stdbool.h>
#include <stdint.h>

#define COST_LEVELS_MAX 8u
#define COST_PAGE_BYTES 4096u
/* Contexts above this (4 TiB) are treated as being of this size. */
#define COST_PAGES_MAX (1u << 30)

/* How layer 0 is packed; all other layers are the same bytes in both. */
enum cost_packing {
	COST_PACK_SSD,  /* smaller: as on the device */
	COST_PACK_DRAM, /* faster to decode */
	COST_PACKINGS
};
/* How the bytes get to the reader. */
enum cost_path {
	COST_PATH_STREAM, /* decoded while it is read */
	COST_PATH_OPEN,   /* decoded into a copy at open, then read from that */
	COST_PATHS
};
/* Codec families, which decode at different speeds. */
enum cost_class {
	COST_CLASS_OPAQUE, /* lz4, zstd, raw */
	COST_CLASS_PLANES, /* one exact layer */
	COST_CLASS_LADDER, /* layers */
	COST_CLASSES
};

/* Measured by whoever does the I/O. 0 in a rate: not known, taken as unlimited. */
struct cost_rates {
	double ssd_latency_s, ssd_Bps;   /* to the first byte; of one sequential reader */
	double dram_latency_s;           /* of a read served from memory by decoding */
	double copy_latency_s, copy_Bps; /* of a decoded copy, read natively */
	double recode_Bps;               /* decoded bytes, when layer 0 changes its packing */
	/* Decoded bytes; the last index is the level read. */
	double decode_Bps[COST_CLASSES][COST_PATHS][COST_PACKINGS][COST_LEVELS_MAX];
};

struct cost_params {
	double alpha_s;              /* seconds that one unit of quality is worth; >= 0 */
	double margin;               /* a move must gain this share of the time that it takes */
	double recompute_s_per_page; /* of decoded bytes, for contexts that do not say */
	bool may_remove;             /* full=evict */
};

/* Where a context is. */
struct cost_place {
	uint8_t stored;  /* layers on SSD, from the first; 0: removed, and nothing else counts */
	uint8_t dram;    /* layers in memory, from the first, <= stored */
	uint8_t packing; /* enum cost_packing, of layer 0 in memory */
	uint8_t copy;    /* 1: a decoded copy at @level is in memory */
	uint8_t level;   /* that reads get, < stored */
};

enum {
	COST_PINNED = 1, /* stays on SSD as it is */
	COST_VETO = 2,   /* must be exact, whatever the floor says */
	COST_BUSY = 4,   /* in use: level, layers on SSD and a copy stay, nothing comes to memory */
	COST_HAND = 8,   /* put where it is by hand: gets no more and no other form of memory */
	COST_KEPT = 16,  /* for other reasons than a pin it stays on SSD as it is for now */
};

struct cost_item {
	uint64_t id;
	double heat; /* heat.h: both are persisted */
	uint64_t heat_ns;
	uint32_t layer_pages[COST_LEVELS_MAX]; /* as packed for SSD */
	uint32_t base_pages;                   /* layer 0 as packed for memory */
	uint32_t decoded_pages;
	uint32_t copy_pages;            /* that a decoded copy takes, if more than these */
	float quality[COST_LEVELS_MAX]; /* 0..1, of reading up to that layer */
	float floor;                    /* lowest granted; >= 1: exact only */
	float recompute_s;              /* < 0: not known, by size */
	uint8_t levels;                 /* layers made, 1..8; the last one is exact */
	uint8_t class;                  /* enum cost_class */
	uint8_t path;                   /* enum cost_path of its reads */
	uint8_t flags;                  /* COST_* */
	struct cost_place now;          /* now.stored < levels: the exact ones are lost */
};

/* Rates and parameters made ready; ~1 KiB, no pointers. */
struct cost_model {
	struct cost_params params;
	float ssd_latency_s, dram_latency_s, copy_latency_s;
	float ssd_s, copy_s, recode_s; /* per page */
	float decode_s[COST_CLASSES][COST_PATHS][COST_PACKINGS][COST_LEVELS_MAX];
};

void cost_model_init(struct cost_model *m, const struct cost_rates *r, const struct cost_params *p);
/* Rounded up, at most COST_PAGES_MAX. */
uint32_t cost_pages(uint64_t bytes);
/* Makes an item that came from outside consistent: numbers not finite or out of range,
 * more layers than there can be. False when it cannot be held at all (no layers). */
bool cost_item_check(struct cost_item *it);

/* Lowest level that reads may get, and whether the floor can be kept at all: once
 * exact layers are gone it may not, and then it is the best there is (0 of one that was
 * removed). */
unsigned cost_floor(const struct cost_item *it, bool *ret_kept);
/* Is @p allowed for @it as it is now (floor, pins, vetoes, use, layers that exist,
 * copy and prefix within what is stored)? Where it is now is always allowed,
 * except that the level may have to rise. */
bool cost_allowed(const struct cost_model *m, const struct cost_item *it,
		  const struct cost_place *p);

uint32_t cost_ssd_pages(const struct cost_item *it, const struct cost_place *p);
uint32_t cost_dram_pages(const struct cost_item *it, const struct cost_place *p);
uint32_t cost_copy_pages(const struct cost_item *it); /* of a decoded copy */
double cost_delay(const struct cost_model *m, const struct cost_item *it,
		  const struct cost_place *p);
double cost_quality(const struct cost_item *it, const struct cost_place *p);
/* alpha x quality - delay: utility of one read. */
double cost_value(const struct cost_model *m, const struct cost_item *it,
		  const struct cost_place *p);
/* True when a read is served from memory alone. */
bool cost_is_dram_hit(const struct cost_place *p);
/* The level that is worth most for what is stored and in memory, as allowed. */
unsigned cost_best_level(const struct cost_model *m, const struct cost_item *it,
			 const struct cost_place *p);
/* What getting from where it is to @to takes: pages that must be read, and for what is
 * coded anew an eighth of its pages decoded, as that takes nothing of the device; and the
 * seconds of device and processor. Giving things up takes none. */
double cost_move(const struct cost_model *m, const struct cost_item *it,
		 const struct cost_place *to, uint32_t *ret_pages);
bool cost_same(const struct cost_place *a, const struct cost_place *b);

/* One way to hold a context; 16 bytes, because a plan looks at millions of them. */
struct cost_option {
	float value;        /* at the given heat, less what the move takes; relative to
			     * an exact read without delay, so never above 0 */
	uint32_t ssd, dram; /* pages */
	uint32_t place;     /* cost_pack_place */
};
/* At most so many per context. */
#define COST_OPTIONS_MAX 96u

uint32_t cost_pack_place(const struct cost_place *p);
struct cost_place cost_unpack_place(uint32_t v);

enum {
	COST_OPT_ALL = 1,      /* also those inside the convex hull over DRAM pages */
	COST_OPT_KEEP_SSD = 2, /* what is on SSD stays */
	COST_OPT_FREE = 4,     /* moves cost nothing: for predictions */
};
/*
 * The allowed ways to hold @it, at @heat; returns how many, at least 1. Where it
 * is now comes first when it is allowed and moves are not free. One that was removed
 * (now.stored == 0) stays so. Without
 * COST_OPT_ALL what no pair of prices for the two kinds of room could choose is left
 * out, as far as that is cheap to see: the multiple-choice knapsack needs the convex
 * hulls only (Sinha and Zoltners 1979).
 */
unsigned cost_options(const struct cost_model *m, const struct cost_item *it, double heat,
		      unsigned opts, struct cost_option out[COST_OPTIONS_MAX]);

#endif
