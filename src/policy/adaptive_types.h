/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_POLICY_ADAPTIVE_TYPES_H
#define KVCACHEFS_POLICY_ADAPTIVE_TYPES_H
/* Shared by the files of the adaptive policy; nobody else includes this. */
#include "policy/adaptive.h"

#define ADAPTIVE_NO_POS UINT32_MAX
/* What is gained must be so many times what those lose that make way for it. */
#define ADAPTIVE_CLEAR_GAIN 1.05

/* So many may be passed over at a time. */
#define ADAPTIVE_FAILED_MAX 64u

/* A move, without what the entry knows. */
struct adaptive_last {
	uint32_t from, to; /* cost_pack_place */
	float heat, delay_from_s, delay_to_s, quality_from, quality_to, gain, price;
	uint8_t reason; /* enum adaptive_reason; NONE: not moved yet */
};

struct adaptive_entry {
	struct cost_item it;          /* it.now: where it is */
	uint32_t dram, ssd;           /* pages there */
	uint32_t spare;               /* of those on SSD, what could go */
	uint32_t pos[ADAPTIVE_TIERS]; /* in the heaps; ADAPTIVE_NO_POS: nothing to give */
	double key[ADAPTIVE_TIERS]; /* log2 of what the next step down loses per page, at time 0 */
	uint32_t move;              /* its move of this call, if that is of this id */
	bool failed;                /* nothing of it on SSD can go just now */
	struct adaptive_last last;
};

struct adaptive_heap {
	uint32_t *slot; /* owned; least key first */
	uint32_t n;
};

struct adaptive {
	struct adaptive_config cfg;
	struct cost_rates rates;
	struct cost_model model;
	bool model_changed;       /* since the keys were made */
	struct adaptive_entry *e; /* owned */
	uint32_t n, max;
	uint32_t *map; /* owned; open addressing, slot + 1; twice max */
	uint32_t map_mask;
	struct adaptive_heap heap[ADAPTIVE_TIERS];
	uint64_t used[ADAPTIVE_TIERS]; /* pages */
	uint64_t spare;                /* pages: sum of the entries' */
	double price[ADAPTIVE_TIERS];  /* per page, at price_ns */
	uint64_t price_ns;
	double tokens; /* pages that may still be moved; below 0: debt */
	uint64_t tokens_ns;
	uint32_t options_hint; /* how many the last plan had */
	double plan_value, plan_bound;
	bool plan_fits, plan_waits;
	uint64_t failed[ADAPTIVE_FAILED_MAX]; /* ids of entries that are, perhaps */
	unsigned n_failed;
	uint64_t plans;
};

/* A step down: the cheapest per page of those that need no work. */
struct adaptive_step {
	struct cost_place to;
	uint32_t pages; /* made free, of the tier asked for */
	double loss;    /* per unit of heat; may be negative */
};
/* False: there is none. */
bool adaptive_step_down(const struct adaptive *a, const struct adaptive_entry *e,
			enum adaptive_tier tier, struct adaptive_step *ret);

uint64_t adaptive_budget(const struct adaptive *a, enum adaptive_tier tier); /* pages */
double adaptive_heat(const struct adaptive *a, const struct adaptive_entry *e, uint64_t now_ns);
/* Utility where it is or at @p, over the horizon, less alpha per hit. */
double adaptive_value(const struct adaptive *a, const struct adaptive_entry *e,
		      const struct cost_place *p, double heat);
/* ADAPTIVE_NO_POS: unknown. */
uint32_t adaptive_find(const struct adaptive *a, uint64_t id);
/* The entry is at @p from now on. */
void adaptive_apply(struct adaptive *a, uint32_t slot, const struct cost_place *p);
/* Heat or facts changed. */
void adaptive_rekey(struct adaptive *a, uint32_t slot);
/* Refills what may be moved. */
void adaptive_tick(struct adaptive *a, uint64_t now_ns);
bool adaptive_may_move(const struct adaptive *a, const struct adaptive_moves *m);
/* Notes the move and applies it. A second one of the same context in one call extends the
 * first, unless it takes memory. There must be room for it in m. */
void adaptive_emit(struct adaptive *a, uint32_t slot, const struct cost_place *to,
		   enum adaptive_reason why, double heat, double price, struct adaptive_moves *m);
/* Steps of the least loss, but of @keep (or ADAPTIVE_NO_POS), until @pages more are free;
 * returns how many are. */
uint64_t adaptive_squeeze(struct adaptive *a, enum adaptive_tier tier, uint64_t pages,
			  uint32_t keep, uint64_t now_ns, enum adaptive_reason why,
			  struct adaptive_moves *m);

void adaptive_heap_set(struct adaptive *a, enum adaptive_tier t, uint32_t slot, double key);
void adaptive_heap_take(struct adaptive *a, enum adaptive_tier t, uint32_t slot);

#endif
