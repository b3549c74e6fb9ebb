/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_POLICY_QUALITY_H
#define KVCACHEFS_POLICY_QUALITY_H
/*
 * What a level costs the reader, estimated from the data alone: first the error of
 * attention's output when keys stand in for the queries that nobody has yet, then, by a
 * curve that was fitted with a model, the share of greedy next tokens that stay what
 * they are with the exact cache.
 *
 * The sample. Work per file is bounded, whatever its size:
 * - of the layers that have K and V of equal shape, QUALITY_LAYERS (quality_spread);
 * - of the i-th of them one head: number i modulo the heads. Where the file does not
 *   say how long heads are: QUALITY_DIM elements, if rows divide into such, else all;
 *   of longer heads the first QUALITY_DIM_MAX;
 * - of its tokens QUALITY_RUNS runs of QUALITY_RUN consecutive ones, or all when there
 *   are not more: of the chunks of the region QUALITY_RUNS (quality_spread), of each its
 *   first tokens; of chunks that are shorter than a run, all.
 * So at most QUALITY_LAYERS x QUALITY_RUNS chunks of K and as many of V are decoded at
 * each level.
 *
 * Of these tokens QUALITY_QUERIES are queries, over the last three quarters; each looks
 * at the tokens up to itself. The query is the exact key; what it looks at is exact, or
 * as decoded. Logits are scaled so that their standard deviation is 1, because models
 * differ in how long their keys are. Error: |difference of outputs| / |output less the
 * mean of V|, root mean square over queries, mean over heads: what all tokens' values
 * share says nothing to the reader. (At least a tenth of |output| is divided by.)
 * Tokens that hold NaN or Inf are left out.
 *
 * What it can tell, on caches of kvlm: levels apart, nearly always; files at one level
 * hardly, as nothing computed from K and V alone did (rank correlation up to 0.3).
 *
 * Pure functions; struct quality_work is the caller's scratch.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define QUALITY_LAYERS 4u
#define QUALITY_RUNS 4u
#define QUALITY_RUN 128u
#define QUALITY_TOKENS (QUALITY_RUNS * QUALITY_RUN)
#define QUALITY_QUERIES 64u
#define QUALITY_DIM 64u
#define QUALITY_DIM_MAX 128u

/* Up to @max of 0 .. n - 1, evenly spread, the first and the last among them where @max
 * is more than 1; ascending. How many. */
unsigned quality_spread(uint64_t n, unsigned max, uint64_t ret[]);

/* One head: [tokens][dim], at most QUALITY_TOKENS and QUALITY_DIM_MAX. */
struct quality_head {
	uint32_t tokens, dim;
	const float *k, *v; /* borrowed */
};

struct quality_work {
	struct quality_head exact; /* as given; its rows must live until it is replaced */
	uint32_t n_queries, query[QUALITY_QUERIES];
	uint32_t n_left_out;
	float scale;
	float out[QUALITY_QUERIES][QUALITY_DIM_MAX], mean[QUALITY_DIM_MAX];
	float logits[QUALITY_TOKENS];
	uint8_t left_out[QUALITY_TOKENS];
};

/* The exact head; levels of it follow. */
void quality_exact(struct quality_work *w, const struct quality_head *exact);
/* Error of the same head as decoded: 0 when it is the same, HUGE_VAL when it has NaN
 * or Inf where the exact one has none. Heads of no token or all zeros: 0. */
double quality_error(struct quality_work *w, const struct quality_head *decoded);

/* ---- error to quality ---------------------------------------------------- */

#define QUALITY_POINTS_MAX 8

/* Straight lines from (0, 1) through the points; beyond the last, what is lost grows in
 * proportion to the error. */
struct quality_curve {
	unsigned n;
	struct quality_point {
		double error, quality;
	} at[QUALITY_POINTS_MAX]; /* errors ascend, qualities do not */
};

/*
 * The built-in curve: kvlm calibrate with tools/kvlm/model/kvlm.gguf (dfd70c8fe1f808dd, 8
 * layers, 5 M parameters), levels 0 to 2 of ladder-huf, bf16, on 24 contexts of training
 * text (tools/kvlm/train/make_calibration.py, train 601): 25,920 tokens at each level.
 * The ladder's means of K turned with positions. There: rank correlation of error and
 * quality over contexts and levels, the exact one among them, 0.94 (0.91 of the lossy
 * levels alone), mean absolute error 0.0055. On 24 held-out contexts (held 602): 0.93
 * (0.90) and 0.0058.
 */
extern const struct quality_curve quality_builtin;

/* In [0, 1]; @error not finite: 0. */
double quality_of(const struct quality_curve *c, double error);

/* "error:quality,..." with 1 .. QUALITY_POINTS_MAX points. -EINVAL: anything else. */
WUR int quality_curve_parse(const char *s, struct quality_curve *ret);
/* The same text; at most @cap bytes with the end. */
void quality_curve_print(const struct quality_curve *c, char *buf, size_t cap);

/* A measured file and level: @weight is the number of tokens compared. */
struct quality_pair {
	double error, quality, weight;
};
/*
 * Fits a curve: sorts @p, cuts it into groups of equal number, joins neighbours until
 * qualities fall (pool adjacent violators); a group is a point. Pairs without error count
 * for nothing. -EINVAL: fewer than 2 pairs with error and weight, or numbers out of range.
 */
WUR int quality_fit(struct quality_pair *p, size_t n, struct quality_curve *ret);

#endif
