/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEBENCH_QUALITY_H
#define KVCACHEBENCH_QUALITY_H
/*
 * Rate and quality of every level of the ladder and of plain quantisers on the
 * caches of "kvcachebench codec": one row per way of storing them. One thread.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/sbuf.h"
#include "codec_input.h"
#include "layouts/layout.h"

#define QUALITY_ROWS_MAX 32

struct quality_options {
	const char *kvlm, *model; /* model NULL: no agreement is measured */
	const char *plot;         /* SVG to write by gnuplot; NULL none */
	const char *dir;          /* for scratch files */
};

enum quality_family { QUALITY_LADDER, QUALITY_PLANES, QUALITY_KIVI, QUALITY_AXIS, QUALITY_PREFIX };

/* Sums over files; a row's figures are means weighted by values. */
struct quality_row {
	enum quality_family family;
	unsigned param;      /* level; bits; bits of mantissa kept */
	char name[24];
	double values;       /* K and V elements */
	double ssd_bits, dram_bits; /* of them, all side data and index entries counted */
	double error, weight;  /* attention output, relative: sums of squares */
	double agree, agree_n; /* greedy tokens that stay; 0: not measured */
};

struct quality {
	struct quality_row rows[QUALITY_ROWS_MAX];
	unsigned n_rows;
	unsigned head_dim; /* assumed where the files do not say; 0 none */
};

/* Measures all files of @in that have K and V; prints why not. -ENODATA: there is none. */
WUR int quality_measure(const struct input *in, const struct quality_options *o,
			struct quality *ret);
void quality_print(const struct quality *q);
/* A JSON array. */
void quality_json(const struct quality *q, struct sbuf *b);
/* Writes the picture: bits against error, and against agreement if measured. */
WUR int quality_plot(const struct quality *q, const struct quality_options *o);

/* ---- quality_tensor.c: values in and out of a file's bytes ---------------- */

/* One region as floats, [tokens][cols]. */
struct tensor {
	const struct layout_region *r;
	uint32_t tokens, cols, dim; /* dim divides cols */
	float *x;                   /* owned */
};
WUR int tensor_load(const struct layout_region *r, uint32_t dim, const uint8_t *file,
		    struct tensor *ret);
/* Rounds to the region's type; NaN where it cannot be held stays NaN. */
void tensor_store(const struct tensor *t, uint8_t *file);
void tensor_fini(struct tensor *t);
/* Sums of squares of what attention's output differs by, and of that output: keys
 * stand in for queries, each looking at the positions before its own. */
void attention_error(const struct tensor *k, const struct tensor *v, const struct tensor *k2,
		     const struct tensor *v2, double *ret_error, double *ret_weight);

/* ---- quality_rivals.c ------------------------------------------------------ */

/* @t in place as the plain quantiser of @row would give it back; bits it takes. */
double rival_apply(const struct quality_row *row, struct tensor *t);

#endif
