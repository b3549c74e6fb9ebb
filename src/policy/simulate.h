/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_POLICY_SIMULATE_H
#define KVCACHEFS_POLICY_SIMULATE_H
/*
 * A recorded list of reads against a policy and budgets, in the cost model's time: the same policy
 * code as the daemon's, with moves that take as long as the model says and one device that serves
 * reads before moves. For tuning on one's own load and for fleets larger than the machine at
 * hand. Pure but for memory.
 *
 * Left out: processors as a scarce thing, partial reads, writes. A context that was
 * removed is computed anew by its next read (for its recompute time) and stored again, as a new file
 * without history.
 */
#include "policy/predict.h"

struct simulate_config {
	const struct policy_ops *policy;
	struct adaptive_config cfg; /* budgets, costs and half-life count for every policy */
	struct cost_rates rates;
	uint64_t replan_ns; /* between full plans; 0: only events */
	bool queue;         /* reads of the device wait for each other */
	uint64_t warm;      /* so many accesses at first are not counted */
};

struct simulate_result {
	uint64_t reads;                           /* counted */
	double hit_share, part_share, gone_share; /* as struct predict */
	double delay_mean_s, delay_p50_s, delay_p99_s, delay_max_s;
	double quality;       /* mean */
	uint64_t moved_bytes; /* read or coded anew by moves, counted reads or not */
	uint64_t moves;
	double device_share;                    /* of time, busy with reads and moves */
	uint64_t dram_bytes_max, ssd_bytes_max; /* held at once */
};

/* @it is as at the start (heat, place); it is not changed. Accesses are in order of time;
 * those of contexts >= n are left out. 0; -ENOMEM; -EINVAL (a context that cannot be held). */
WUR int simulate_run(const struct simulate_config *c, const struct cost_item *it, uint32_t n,
		     const struct predict_access *a, uint64_t n_a, struct simulate_result *ret);

#endif
