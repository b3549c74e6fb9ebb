/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_TIERS_METER_H
#define KVCACHEFS_TIERS_METER_H
/*
 * struct tier_stats kept by an implementation of tier_io. Not thread-safe: the
 * implementation calls it under its own lock.
 */
#include "tiers/tier.h"

/* One average of the bandwidth, and the sample for it being taken. */
struct meter_rate {
	uint64_t since_ns, bytes, ns;
	bool sampling;
	double Bps; /* 0: no sample yet */
};

struct tier_meter {
	struct tier_stats s;
	uint64_t busy_since_ns; /* valid while s.in_flight */
	uint64_t in_flight_bytes;
	/* while TIER_LARGE_BYTES, or TIER_DEEP_BYTES, or more are in flight */
	struct meter_rate large, deep;
};

/* Sets r->submit_ns. */
void tier_meter_start(struct tier_meter *m, struct tier_read *r);
/* @res as given to done. */
void tier_meter_finish(struct tier_meter *m, const struct tier_read *r, ssize_t res);
void tier_meter_get(const struct tier_meter *m, struct tier_stats *ret);

#endif
