/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_CODECS_PLANES_H
#define KVCACHEFS_CODECS_PLANES_H
/*
 * What planes-fix and planes-huf have in common: taking elements apart
 * (simd/kernels.h), levelling the top plane, and the head of the encoded bytes.
 *
 * KV channels differ in scale by orders of magnitude, tokens hardly. Levelling
 * subtracts from every top byte an offset that belongs to its column (its
 * channel) or, where rows are channels, to its row, mod 256. The exponents of
 * all channels then fall on the same few values, so that one small code serves
 * the whole chunk. It costs one byte per channel and one addition per element.
 *
 * Encoded bytes, all integers little-endian. n = len / eb elements, t = len % eb.
 *   0  u8   eb: bytes per element, 1, 2 or 4
 *   1  u8   flags: 1 = column offsets, 2 = row offsets; never both; others 0
 *   2  u8   fix: code width, 3..7       huf: log2 of elements per segment, 12..17
 *   3  u8   fix: bit p set: low plane p is constant    huf: 0
 *   4  u32  cols: elements per row; 0 exactly when flags is 0; at most 32768
 *   8  u32  fix: number of escapes      huf: 0
 *  12  u32  0
 *  16  offsets: cols bytes (column), or ceil(n / cols) bytes (row), or none
 *      tail: the last t bytes of the chunk, as they are
 *      then what planes_fix.c or planes_huf.c say
 * The decoder needs nothing but these bytes and len: not the chunk's shape.
 *
 * Sources of the idea: ZipNN (arXiv 2411.05239: exponents apart, Huffman only),
 * DFloat11 (2504.11651), SplitZip (2605.01708: 4-bit exponent codes with
 * escapes). Levelling is ours.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/elem.h"
#include "base/err.h"
#include "codecs/simd/kernels.h"

#define PLANES_HEAD 16u        /* bytes before the offsets */
#define PLANES_COLS_MAX 32768u
#define PLANES_RUN 4096u       /* elements handled at a time, in L1; multiple of FIX_BLOCK */
#define PLANES_SEG_LOG_MIN 12u
#define PLANES_SEG_LOG_MAX 17u
#define PLANES_SEG_MAX (1u << PLANES_SEG_LOG_MAX)
#define PLANES_MIN_LEN 512u    /* shorter chunks are not tried */

enum planes_flags { PLANES_COL_OFFSETS = 1, PLANES_ROW_OFFSETS = 2 };

struct planes_head {
	uint8_t eb, flags, param, const_mask; /* as encoded, see above */
	uint32_t cols, n_escapes;
	uint32_t n;              /* elements */
	uint32_t tail_len;       /* len % eb */
	uint32_t n_off;          /* bytes of offsets */
	const uint8_t *off;      /* borrowed from the encoded bytes or the scratch */
	const uint8_t *tail;
};

/* 64-byte aligned; buffers of one thread. */
struct planes_scratch {
	uint8_t seg[1 + PLANES_LOWS_MAX][PLANES_SEG_MAX] __attribute__((aligned(64)));
	uint8_t top[PLANES_RUN + 64] __attribute__((aligned(64)));
	uint8_t fill[PLANES_LOWS_MAX][PLANES_RUN] __attribute__((aligned(64)));
	uint8_t esc[PLANES_RUN + 64];
	uint8_t off_run[PLANES_RUN] __attribute__((aligned(64)));
	/* Column offsets, repeated. */
	uint8_t off_wave[PLANES_COLS_MAX + PLANES_RUN] __attribute__((aligned(64)));
	uint8_t off[PLANES_COLS_MAX];                   /* the encoder's choice */
	uint32_t sum[PLANES_COLS_MAX], count[PLANES_COLS_MAX];
	uint32_t hist[256];
	struct fix_dict dict;
};

/* What a sample of the chunk showed. */
struct planes_stats {
	uint32_t sampled;        /* elements counted in hist */
	uint32_t hist[256];      /* of the (levelled) top plane */
	uint32_t low_hist[PLANES_LOWS_MAX][256];
};

/* Fills @h (offsets in s->off) and @st by looking at a sample of the chunk, with
 * the offsets when they pay. @cost gives the bits that a plane with that
 * histogram takes. Leaves param, const_mask and n_escapes 0. */
void planes_measure(const struct planes_kern *k, struct planes_scratch *s,
		    const struct chunk_shape *shape, const uint8_t *src, size_t len,
		    uint64_t (*cost)(const uint32_t hist[256]), struct planes_head *h,
		    struct planes_stats *st);

/* Encoder: writes head, offsets and tail; returns the bytes written (at most
 * PLANES_HEAD + PLANES_COLS_MAX + 3; room is the caller's duty). */
size_t planes_head_write(const struct planes_head *h, uint8_t *dst);
/* Decoder: checks and fills @ret for a chunk of @len bytes. The bytes used, or
 * -KVFS_ECODEC. Does not judge param, const_mask and n_escapes. */
WUR int64_t planes_head_read(const uint8_t *src, size_t src_len, size_t len,
			     struct planes_head *ret);
size_t planes_head_len(const struct planes_head *h);

/* Makes ready for planes_off_run (column offsets are unrolled into s). */
void planes_off_init(struct planes_scratch *s, const struct planes_head *h);
/* Offsets of elements [first, first + n), n <= PLANES_RUN; NULL when not levelled. */
const uint8_t *planes_off_run(struct planes_scratch *s, const struct planes_head *h,
			      size_t first, size_t n);

/* Takes elements [first, first + n) of @src apart and levels the top plane. */
void planes_split_run(const struct planes_kern *k, struct planes_scratch *s,
		      const struct planes_head *h, const uint8_t *src, size_t first, size_t n,
		      uint8_t *top, uint8_t *const low[PLANES_LOWS_MAX]);

/* Entropy of a histogram in 1/256 bit per symbol, rounded; integers only, so
 * that every machine chooses alike. */
uint64_t planes_entropy(const uint32_t hist[256]);

#endif
