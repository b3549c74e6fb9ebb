/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_POLICY_ADAPTIVE_H
#define KVCACHEFS_POLICY_ADAPTIVE_H
/*
 * The adaptive policy: which context is where, and which is to move. It keeps a table
 * of contexts as they are, hears of arrivals, hits and pressure, and answers with moves,
 * each with its reason. AdaptCache (arXiv 2509.00105) decides on arrival, by utility
 * lost per byte freed; EVICPRESS (2512.14946) again when qualities or speeds change. Here:
 *
 *  - at an arrival, a hit or under pressure, by what the cheapest steps down of others
 *    lose: microseconds, because the order of those losses does not change with time
 *    (heat.h) and is kept in a heap per kind of room;
 *  - now and then all at once (solve.h), near the optimum.
 *
 * Moves do not swing: each is charged a share of the time that it takes, is made only if
 * it gains more than what makes way for it loses, and layers on SSD, which cannot come
 * back, go only when room is needed. So under a steady load every move raises the total,
 * and they end. Bytes moved per second are capped.
 *
 * The table is as the moves leave it: whoever carries them out says with adaptive_placed()
 * where that was not so. At every prefix of the moves, in order, both budgets are kept (as
 * far as pins and uses allow).
 *
 * No I/O, no clock, no threads: times come in (CLOCK_REALTIME, ns), one caller at a time. Memory by
 * mem_*: 250 bytes per context (adaptive_stats.table_bytes, exactly), and while adaptive_replan() runs
 * some ADAPTIVE_PLAN_BYTES more.
 */
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "policy/cost.h"

struct adaptive; /* owned by whoever created it */
struct sbuf;

struct adaptive_config {
	struct cost_params cost;
	uint64_t half_ns;               /* of heat */
	uint64_t dram_bytes, ssd_bytes; /* for contexts alone, not windows, buffers, plain files */
	uint64_t moves_Bps;             /* 0: no cap */
};

/* What daemons run with, and what predicts them: cost_params.margin, and moves_Bps as a part
 * of what the device gives. */
#define ADAPTIVE_MARGIN 1.0
#define ADAPTIVE_MOVES_PART 2

#define ADAPTIVE_PLAN_BYTES 300u /* per context */

/* X(id, name, sentence: why) */
#define ADAPTIVE_REASONS(X)                                                                \
	X(NONE, "found", "it is as it was found")                                          \
	X(ROOM, "room", "there was free memory for it")                                    \
	X(EARNS, "earns", "it earns more there than what made way for it")                 \
	X(MADE_WAY, "made-way", "something else earns more in its room")                   \
	X(DRAM_FULL, "memory-full", "memory was needed and it lost the least per byte")    \
	X(SSD_FULL, "storage-full", "storage was needed and it lost the least per byte")   \
	X(REMOVED, "removed", "storage was needed and computing it again loses the least") \
	X(LEVEL, "level", "quality is worth another level of reading now")                 \
	X(UNUSED, "unused", "what was in memory was of no use to readers")                \
	X(FAILED, "failed", "it was planned, but could not be carried out then")

enum adaptive_reason {
#define X(id, name, why) ADAPTIVE_##id,
	ADAPTIVE_REASONS(X)
#undef X
		ADAPTIVE_REASONS_
};

/* What a move was decided by; utilities are in seconds over the horizon of heat.h. */
struct adaptive_move {
	uint64_t id;
	struct cost_place from, to; /* to.stored == 0: the file is to be removed */
	enum adaptive_reason reason;
	float heat; /* then */
	float delay_from_s, delay_to_s;
	float quality_from, quality_to;
	float gain;                    /* in utility, less what moving is charged; < 0: it lost */
	float price;                   /* utility per page that room went for */
	uint32_t work_pages;           /* to be read or coded anew */
};

/* The caller's array. n is set to 0 by each call below; when it is full the rest
 * waits for the next call. */
struct adaptive_moves {
	struct adaptive_move *v;
	unsigned n, max;
};

enum adaptive_tier { ADAPTIVE_DRAM, ADAPTIVE_SSD, ADAPTIVE_TIERS };

WUR int adaptive_create(const struct adaptive_config *cfg, const struct cost_rates *rates,
			struct adaptive **ret); /* -ENOMEM */
void adaptive_destroy(struct adaptive *a);      /* NULL ok */
/* Budgets, alpha and so on as from now; what they change shows at the next calls. */
void adaptive_configure(struct adaptive *a, const struct adaptive_config *cfg);
/* Ignored (false) while all rates are within a quarter of those in force: what readers and moves
 * beside each other make of a measured rate is no change of the machine, and moves nothing. */
bool adaptive_set_rates(struct adaptive *a, const struct cost_rates *rates);

/* A context as it was found or as it changed (floor, pins, profile, sizes, place), with no
 * decision. A known id is replaced, with the given heat. -EINVAL (no layers); -ENOMEM. */
WUR int adaptive_put(struct adaptive *a, const struct cost_item *it);
/* The same of one that was just sealed: it counts as one hit unless it has heat
 * already, and gets what memory it earns. */
WUR int adaptive_arrive(struct adaptive *a, const struct cost_item *it, uint64_t now_ns,
			struct adaptive_moves *m);
/* It was opened for reading. False: unknown. */
bool adaptive_hit(struct adaptive *a, uint64_t id, uint64_t now_ns, struct adaptive_moves *m);
/* In use or not any more. */
void adaptive_busy(struct adaptive *a, uint64_t id, bool busy);
/* Where it is really, when a move was not carried out or something else moved it. */
void adaptive_placed(struct adaptive *a, uint64_t id, const struct cost_place *p);
/* What was last decided for it could not be carried out. @ssd: nothing of it on SSD can go just
 * now, and it is passed over until something of it changes, or until adaptive_retry(), which is
 * for whoever begins to make room. */
void adaptive_failed(struct adaptive *a, uint64_t id, bool ssd);
void adaptive_retry(struct adaptive *a);
/* Layer 0 as packed for memory turned out to take so many pages. */
void adaptive_packed(struct adaptive *a, uint64_t id, uint32_t base_pages);
/* It is being put somewhere by hand: it gets no more of memory than that until it is used, and may
 * lose it to others. */
void adaptive_by_hand(struct adaptive *a, uint64_t id);
/* It is no more. */
void adaptive_gone(struct adaptive *a, uint64_t id);

/* Makes @bytes free, beside what is free by the table, at the least loss; never @keep_id. Layers
 * on SSD go only as floors, pins and uses allow, files only with may_remove. Returns the bytes
 * made free, which may be fewer. */
uint64_t adaptive_room(struct adaptive *a, enum adaptive_tier tier, uint64_t bytes,
		       uint64_t keep_id, uint64_t now_ns, struct adaptive_moves *m);
/* Bytes on SSD that adaptive_room could make free at most, of any but @keep_id: for those who want
 * all that they need or give up nothing. */
uint64_t adaptive_spare(const struct adaptive *a, uint64_t keep_id);
/* All at once. -ENOMEM. */
WUR int adaptive_replan(struct adaptive *a, uint64_t now_ns, struct adaptive_moves *m);

/* A copy of what is known of @id, its heat at @now_ns. False: unknown. */
bool adaptive_get(const struct adaptive *a, uint64_t id, uint64_t now_ns, struct cost_item *ret);
/* The id of the @i-th of adaptive_stats().contexts, in no order; 0: there are not so many. What
 * goes leaves its place to the last one. */
uint64_t adaptive_nth(const struct adaptive *a, uint32_t i);
const struct cost_model *adaptive_model(const struct adaptive *a); /* borrowed */

struct adaptive_stats {
	uint32_t contexts;
	uint64_t dram_bytes, ssd_bytes; /* held */
	uint64_t table_bytes;           /* allocated for the table itself */
	double dram_price, ssd_price;   /* utility per MiB, at the last plan */
	double plan_value, plan_bound;  /* of the last plan, relative to exact without delay */
	bool plan_waits;                /* for moves_Bps: it has moves left that would pay */
	bool plan_fits;                 /* else floors, pins and uses need more than a budget */
	uint64_t plans;
};
void adaptive_stats(const struct adaptive *a, struct adaptive_stats *ret);

/* What was last decided for it; reason NONE: nothing yet. Of pages nothing is known. False: unknown. */
bool adaptive_last(const struct adaptive *a, uint64_t id, struct adaptive_move *ret);
/* "made-way" */
const char *adaptive_reason_name(enum adaptive_reason r);
/* One sentence, with the numbers; of a context of @levels layers. */
void adaptive_why(const struct adaptive_move *m, unsigned levels, struct sbuf *out);
/* Sentences on where it is, what that gives its readers, and why it has no more of memory than
 * it has; nothing about an unknown id, and false. */
bool adaptive_explain(const struct adaptive *a, uint64_t id, uint64_t now_ns, struct sbuf *out);

#endif
