/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEBENCH_RIG_REPORT_H
#define KVCACHEBENCH_RIG_REPORT_H
/* Rows of "read", "write" and "meta": ours beside a reference, times of the same
 * rounds. The ratio is the median over the rounds of reference by ours, so that
 * what loads the machine for a whole round cancels out. */
#include "bench.h"
#include "rig.h"

#define ROWS_MAX 32

struct row {
	const char *name;   /* for --only and JSON */
	const char *what, *ref; /* for people */
	double target;      /* the ratio asked for; 0: shown only */
	double work;        /* per round: bytes, or operations */
	bool ops;           /* work counts operations */
	bool direct;        /* ours holds the ratios themselves */
	struct bench_times ours, theirs;
};

struct report {
	const char *bench;
	struct row rows[ROWS_MAX];
	unsigned n;
	struct sbuf notes;  /* one line each */
};

/* A new row; NULL when there are too many or --only does not want it. */
struct row *report_row(struct report *rep, const struct rig *g, const char *name, const char *what,
		       const char *ref, double target, double work);
double row_ratio(const struct row *r); /* median; 0 when there is none */
/* Prints; true when every row meets its target. */
bool report_print(struct report *rep, const struct rig *g);
void report_fini(struct report *rep);

#endif
