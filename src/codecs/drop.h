/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_CODECS_DROP_H
#define KVCACHEFS_CODECS_DROP_H
/*
 * Token dropping: which cells of a cache stay, chosen from its keys alone. A
 * store knows no query, and what another query selected does not fit the next
 * one, so there is no method here that needs one.
 *
 *   window   the first tokens and the latest ones (StreamingLLM, arXiv 2309.17453)
 *   knorm    keys of the smallest norm (arXiv 2406.11430)
 *   keydiff  keys least like the mean direction of all keys (arXiv 2504.15364)
 *
 * A file has one list of cells for all layers and heads, so scores are added up
 * over them: of knorm the norm as a share of the head's mean norm, of keydiff
 * the cosine. The last token stays, since engines go on behind it; then the
 * first ones (sinks), the latest ones, and those with the best scores, of equals
 * the later.
 *
 * Pure and allocation-free. The same keys give the same choice everywhere:
 * sums are taken in one order, in double. A key with a NaN or an infinity
 * counts for nothing, and its cell is the first to go.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum drop_method { DROP_WINDOW, DROP_KNORM, DROP_KEYDIFF, DROP_METHODS_ };

#define DROP_SHARE_ONE 1000000u
#define DROP_SINKS 4u
#define DROP_RECENT 64u /* of knorm and keydiff: measured, tools/kvlm/README.md */
#define DROP_TEXT_MAX 48u

struct drop_params {
	uint32_t method;
	uint32_t share;  /* of the cells that stays, in millionths; 1 to 999,999 */
	uint32_t sinks;  /* first tokens that stay */
	uint32_t recent; /* latest tokens that stay; of window: all that are left */
};

/* "keydiff:0.25", with other numbers of sinks and latest tokens than the usual ones
 * "keydiff:0.25+8+128". There is one way to write each; -EINVAL for all else. */
WUR int drop_parse(const char *s, struct drop_params *ret);
void drop_format(const struct drop_params *p, char out[DROP_TEXT_MAX]);
/* How many of @cells stay: the share, rounded up; at least one. */
uint32_t drop_count(const struct drop_params *p, uint32_t cells);

struct drop_cell {
	double score; /* larger stays */
	int32_t pos;  /* of its token in the context */
	uint32_t cell;
};

/* Cells 0..n-1 with these positions and no scores yet. */
void drop_init(struct drop_cell *c, const int32_t *pos, uint32_t n);

/*
 * One layer's keys, seen twice in the same order: all rows by drop_measure, then
 * all by drop_score. Not needed for window.
 */
struct drop_layer {
	uint32_t method;
	uint32_t elem; /* enum elem_type: f32, f16, bf16 */
	uint32_t heads, head_elems;
	double *mean;         /* borrowed; per head the sum of the keys' directions */
	double *norms, *keys; /* borrowed; per head the sum of the norms, how many */
};

/* @row_elems is a multiple of @head_elems; 0 takes the row for one head. @work
 * holds drop_work_len() doubles. */
void drop_layer_init(struct drop_layer *l, unsigned method, unsigned elem, uint32_t row_elems,
		     uint32_t head_elems, double *work);
size_t drop_work_len(uint32_t row_elems, uint32_t head_elems);
/* @n rows one after the other, elements little-endian, at any address. */
void drop_measure(struct drop_layer *l, const void *rows, uint32_t n);
/* The same rows; @c is the cell of the first. */
void drop_score(struct drop_layer *l, const void *rows, uint32_t n, struct drop_cell *c);

/* Chooses @keep of the @n cells (1 <= keep <= n) and writes their numbers to @ret,
 * ascending. @c is left in another order. */
void drop_select(const struct drop_params *p, struct drop_cell *c, uint32_t n, uint32_t keep,
		 uint32_t *ret);

#endif
