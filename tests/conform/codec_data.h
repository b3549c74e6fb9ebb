/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_TESTS_CODEC_DATA_H
#define KVCACHEFS_TESTS_CODEC_DATA_H
/*
 * Data for the codec tests, the same on every machine and run. Only DATA_REAL
 * stands for real caches: ratios seen on the others say nothing about KV.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum codec_data {
	DATA_GAUSSIAN,   /* normal values, one log-normal scale per channel */
	DATA_TRANSPOSED, /* the same with a channel per row */
	DATA_CONSTANT,
	DATA_ZEROS,
	DATA_SPECIAL,    /* infinities, NaNs with payloads, extremes among the normal */
	DATA_DENORMAL,
	DATA_RANDOM,     /* incompressible */
	DATA_HALF_ZERO,  /* gaussian rows, then unused ones */
	DATA_TEXT,       /* repetitive bytes */
	DATA_SPREAD,     /* 6, 14, 28, 56 or 110 exponents, by seed % 5, equally often */
	DATA_ROWS,       /* gaussian rows, 40 different ones in random order */
	DATA_TURNING,    /* gaussian; the mean of one pair in 16 turns with the row */
	DATA_ODD,        /* gaussian; a few NaN, infinities, huge and tiny values, a NaN row */
	DATA_REAL,       /* from the cache file $KVCACHEFS_TEST_CACHE, if that is set */
	DATA_KINDS_
};

struct rng {
	uint64_t s;
};
uint64_t rng_next(struct rng *r);
/* False for DATA_REAL without a file. */
bool codec_data_available(enum codec_data kind);
/* Fills buf with elements of @elem (enum elem_type), @cols per row; the partial
 * element at the end, if any, with bytes. */
void codec_data_fill(enum codec_data kind, unsigned elem, uint32_t cols, uint64_t seed,
		     void *buf, size_t len);
const char *codec_data_name(enum codec_data kind);

#endif
