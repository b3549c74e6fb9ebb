/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEBENCH_REPLAY_H
#define KVCACHEBENCH_REPLAY_H
/*
 * kvcachebench replay: the reads of a trace again, for each of some policies and budgets: on a
 * mount, with contents of the recorded sizes, and in the simulator.
 */
#include "recorded.h"
#include "rig.h"

#define REPLAY_READERS_MAX 64u
#define REPLAY_SIZES_MAX 8u

struct replay_options {
	struct rig_options rig;
	const char *trace;
	struct recorded_budgets dram, ssd;
	struct recorded_policies policies;
	const char *options; /* more of the mount's; NULL */
	double alpha_s;      /* < 0: as recorded */
	double speed;        /* 0: as fast as possible */
	double scale;        /* of sizes and budgets */
	double warm;         /* share of the reads that do not count */
	uint64_t reads;      /* at most so many */
	unsigned readers;
	uint64_t throttle_Bps; /* of the mount's reads of the device; 0: not throttled */
	bool simulate;       /* nothing else */
};

/* What clients saw, of the reads that count. */
struct replay_result {
	uint64_t reads;
	double delay_mean_s, delay_p50_s, delay_p99_s, wait_mean_s;
	double hit_share, gone_share; /* hits as the daemon recorded them */
};

/* One row. */
struct replay_row {
	struct recorded_case c;
	struct replay_result mount;
	struct trace_summary daemon; /* the same as the daemon recorded it */
	struct recorded_outcome o;   /* simulated: what the daemon recorded, at the rates it measured;
				      * without a mount, the trace itself */
};

/* Contents: which of some files each context is a copy of. */
struct replay_contents {
	struct rig_corpus size[REPLAY_SIZES_MAX];
	unsigned n_sizes;
	uint8_t *of;     /* owned, [n] */
	uint64_t *bytes; /* owned, [n]: what it has then */
	uint64_t all;    /* sum of bytes */
	uint64_t max;
};
/* @ret: zeros; to be given to replay_contents_fini in any case. */
WUR int replay_contents_make(struct rig *g, const struct replay_options *o,
			     const struct trace_set *s, struct replay_contents *ret);
void replay_contents_fini(struct replay_contents *c);
/* The file that context @i is a copy of. */
const char *replay_source(const struct replay_contents *c, uint32_t i);

/* replay_load.c: the reads, of files MNT/N.bin. */
struct replay_load {
	const struct replay_options *o;
	const struct trace_set *s;
	const struct replay_contents *contents;
	const char *mnt;
	double recompute_s_per_byte;
	uint64_t n, warm;
};
WUR int replay_load_run(struct rig *g, const struct replay_load *l, struct replay_result *ret);
/* Writes context @i; @settle: and waits until it is sealed and on storage only. */
WUR int replay_write(const struct replay_load *l, uint32_t i, bool settle);

/* replay_run.c: one row on a mount. */
WUR int replay_run(struct rig *g, const struct replay_options *o, const struct trace_set *s,
		   const struct replay_contents *contents, struct replay_row *row);

#endif
