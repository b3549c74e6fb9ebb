/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_POLICY_POLICY_H
#define KVCACHEFS_POLICY_POLICY_H
/*
 * What a context is worth. Pure functions: no I/O, no clock of their own, no
 * state; times are given. The store keeps what has the highest value and
 * takes away what has the lowest, in DRAM (copies, replicas) and on SSD
 * (full=evict). A policy that plans decides through adaptive.h; its value and admit
 * are for what has to be decided without its table.
 */
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

/* Half-life of heat (heat.h). */
#define POLICY_HALF_NS (3600ull * 1000000000)

struct policy_item {
	uint64_t now_ns;  /* CLOCK_REALTIME */
	uint64_t last_ns; /* last open */
	double heat;      /* hits, decayed, at heat_ns */
	uint64_t heat_ns;
	uint64_t stored_bytes; /* on SSD */
	uint64_t logical_bytes;
};

/* How a context that is in DRAM no longer is to be brought back. */
struct policy_read {
	bool whole; /* it was read from start to end */
	uint64_t logical_bytes;
	uint64_t dram_bytes; /* what its replica would take */
	uint64_t dram_limit;
};

#define POLICY_LEVELS_MAX 8

/* What an open of a file with layers may get. */
struct policy_levels {
	unsigned n;            /* layers that are there, at least 2 */
	const double *quality; /* of level 0 .. n - 1; 0 where it is not known */
	double floor;          /* quality that is granted, below 1 */
};

struct policy_ops {
	const char *name;
	const char *help;
	unsigned level;        /* of fixed:LEVEL */
	bool plans;            /* moves come from adaptive.h */
	/* Larger is worth more; only compared between items of one call. */
	double (*value)(const struct policy_item *i);
	/* Should a file just read from SSD get a replica in DRAM? */
	bool (*admit)(const struct policy_read *r);
	/* Layers that the open gets, 1 .. n. NULL: all. */
	unsigned (*layers)(const struct policy_ops *p, const struct policy_levels *l);
};

/* "level:quality,...", such as "0:0.93,1:0.995": sets @q of the levels named, numbers
 * from 0 to POLICY_LEVELS_MAX - 1. -EINVAL, and then @q may be partly set. */
WUR int policy_profile_parse(const char *s, double q[POLICY_LEVELS_MAX]);

/* What is said of the levels of a file, below 0 where nothing is: a profile takes the place
 * of estimates, feedback counts where it is less. Where there is none, what is lost by either of the
 * first two counts @worse times (reprofile.h); 1 and less: as it is said. */
struct policy_said {
	double estimate[POLICY_LEVELS_MAX], profile[POLICY_LEVELS_MAX], feedback[POLICY_LEVELS_MAX];
	double worse[POLICY_LEVELS_MAX];
};
/* Nothing. */
void policy_said_init(struct policy_said *s);
/* The quality of each level, 0 where it is not known. None has more than one above it, which
 * has all of its information and some beside. */
void policy_qualities(const struct policy_said *s, double ret[POLICY_LEVELS_MAX]);

/* NULL when unknown. */
const struct policy_ops *policy_by_name(const char *name);
/* The table, ends with NULL. */
const struct policy_ops *const *policy_table(void);

#endif
