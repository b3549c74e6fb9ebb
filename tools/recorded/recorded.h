/* SPDX-License-Identifier: MIT */
#ifndef RECORDED_H
#define RECORDED_H
/*
 * What kvcachectl plan and kvcachebench replay share: a recorded load from its files, and what
 * the policies make of it under other budgets.
 */
#include <stdint.h>

#include "base/err.h"
#include "base/sbuf.h"
#include "policy/simulate.h"
#include "policy/trace_set.h"

/* @path and, if it is there, the older @path.1. Says in @why what is wrong. -errno. */
WUR int recorded_load(const char *path, struct trace_set *ret, struct sbuf *why);

#define RECORDED_LIST_MAX 16u
struct recorded_budgets {
	uint64_t v[RECORDED_LIST_MAX];
	unsigned n;
};
struct recorded_policies {
	const struct policy_ops *v[RECORDED_LIST_MAX];
	unsigned n;
};
/* "4G,8G"; "lru,adaptive". -EINVAL. */
WUR int recorded_budgets_parse(const char *s, struct recorded_budgets *ret);
/* The same without 0, which for storage means another thing to a mount than to a simulator. */
WUR int recorded_storage_parse(const char *s, struct recorded_budgets *ret);
WUR int recorded_policies_parse(const char *s, struct recorded_policies *ret);

struct recorded_case {
	const struct policy_ops *policy;
	uint64_t dram_bytes, ssd_bytes; /* limits, as a mount gets them */
	double alpha_s;
	uint64_t warm; /* reads at first that do not count */
	uint64_t learn; /* reads at first whose delays say how fast this machine is; 0: all */
};
struct recorded_outcome {
	struct simulate_result sim; /* the reads one by one */
	struct predict best;        /* by popularity alone, which adaptive then knows */
};
/* Of a limit, what contexts get, as it was when recorded. */
uint64_t recorded_room(const struct trace_set *s, uint64_t dram_bytes);
WUR int recorded_run(const struct trace_set *s, const struct recorded_case *c,
		     struct recorded_outcome *ret); /* -ENOMEM, -EINVAL */
void recorded_add_json(struct sbuf *b, const struct recorded_case *c,
		       const struct recorded_outcome *o);

#endif
