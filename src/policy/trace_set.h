/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_POLICY_TRACE_SET_H
#define KVCACHEFS_POLICY_TRACE_SET_H
/*
 * A recorded load, as the predictions and the simulator take it: contexts, and reads of them in
 * order of time. A context is an inode from its first record until the file was removed. Opens
 * for writing, opens without a read, and files that were never sealed are left out.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "policy/predict.h"
#include "policy/trace.h"

/* What a read was when it was recorded. */
struct trace_seen {
	float delay_s, quality;
	bool hit;   /* from memory alone */
	bool whole; /* to the end */
	enum trace_found found;
	struct cost_place at; /* as found; level: as read */
};

struct trace_set {
	struct cost_item *it; /* owned, [n]: as first described, on SSD; heat: reads */
	uint64_t *bytes;      /* owned, [n]: logical */
	uint32_t n;
	struct predict_access *a; /* owned, [n_a], by time */
	struct trace_seen *seen;  /* owned, [n_a] */
	uint64_t n_a;
	struct trace_state state; /* the last one */
	bool has_state;
	uint64_t records, damaged; /* lines */
	uint64_t left_out;         /* opens */
	/* private, while it is read */
	uint32_t *slot; /* owned, hash of inodes: index + 1 */
	uint32_t n_slots, cap, used;
	uint64_t cap_a;
};

/* Adds the records of one file, @text changed. A line that is none is counted and left out.
 * -KVFS_EFORMAT: no trace at all; -ENOMEM. */
WUR int trace_set_add(struct trace_set *s, char *text, size_t len);
/* After the last file: puts in order. -ENODATA: no read of any context; -ENOMEM. */
WUR int trace_set_finish(struct trace_set *s);
void trace_set_fini(struct trace_set *s);

/* Over the reads as recorded, from the @from-th on. */
struct trace_summary {
	double hit_share, delay_mean_s, delay_p50_s, delay_p99_s, quality;
	double span_s; /* from the first read to the last */
	uint64_t reads;
};
/* What the daemon measured, corrected by what the reads from @from on, before @to, took as a whole, where
 * there are enough of a kind. */
void trace_set_rates(const struct trace_set *s, uint64_t from, uint64_t to, struct cost_rates *ret);
WUR int trace_set_summary(const struct trace_set *s, uint64_t from, struct trace_summary *ret);

#endif
