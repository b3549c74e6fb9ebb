/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_CODECS_LADDER_H
#define KVCACHEFS_CODECS_LADDER_H
/*
 * ladder: a chunk of bf16, f16 or f32 as layers. Layer 0 alone gives about two
 * bits per value, each further layer halves the step so many times, the last
 * one gives back every bit. A level is a prefix of the layers.
 *
 * Construction. One step D = 2^e for the whole chunk: every value x lies in the
 * cell i = floor(x / D + 1/2), an integer. Channels differ in mean and spread:
 * the mean z (in cells) is taken away, the spread chooses the channel's class,
 * which says how layer 0 codes it. With refinements of b[0], b[1], ... bits, B
 * their sum,
 *   t = i - z + 2^(B-1);  layer 0 holds k = t >> B, the refinements the bits below,
 * highest first: finer cells lie in coarser ones, and layer 0's are centred on z.
 * With all of them a value is i D, with some the middle of its cell, with none
 * that is drawn towards z by what its class says. The exact layer says which of
 * the cell's bit patterns it was; there are few, because D is a power of two.
 *
 * Sources: one step for all channels instead of one per channel is reverse
 * water-filling (Cover, Thomas, Elements of Information Theory, 10.3.3), with
 * the spread left to the entropy coder; per-channel statistics of keys from
 * KIVI (arXiv 2402.02750) and KVQuant (2401.18079); nesting from embedded
 * quantisation (Taubman, Marcellin, JPEG2000, 3.3); first tokens kept exact
 * after StreamingLLM (2309.17453); rotary positions, RoFormer (2104.09864). Bits taken out and put back in by PEXT and
 * PDEP, the planes of the exact layer and the blocks are ours. What was tried
 * besides, with its figures: codecs/LADDER.md.
 *
 * Two codecs, which differ in layer 0 only: ladder-fix (DRAM) has codes of fixed
 * width per channel, ladder-huf (SSD) has them Huffman-coded by libzstd, a stream
 * per class. Either is made from the other's layer 0 alone (codec_ops.twin).
 *
 * Blocks. Codes are handled in blocks of 8 lines x up to 64 lanes:
 * - tokens in rows: columns in strips of 64 lanes (the last one has what is left),
 *   rows in groups of 8. Block after block along the rows, then the next group.
 *   Line j, lane l of strip g and group k is coded row 8k + j, column 64g + l.
 * - transposed: each coded row in pieces of 512 elements of 8 lines x 64 lanes, the
 *   last one of r < 512 elements with ceil(r / 8) lanes: line j, lane l is element
 *   j * lanes + l of the piece, if there is one.
 * A block's lanes that lack an element in some lines are coded there as k = 0.
 *
 * Layer 0, integers little-endian; eb bytes per element:
 *   0  u8    element type: 1 f32, 2 f16, 3 bf16 (base/elem.h)
 *   1  u8    flags: 1 transposed, others 0
 *   2  i8    e: f16 -40..0, else -100..100
 *   3  u8    classes, 1..16
 *   4  u8    refinements, 1..6
 *   5  u8[6] b of each: 1, 2 or 4; 0 beyond; together at most 8
 *  11  u8    prediction: 0 z is a constant of its channel; z turns with the row, pairs
 *            being channels 2i, 2i + 1 (1) or i, i + d/2 (2) of each head
 *  12  u32   columns: elements per row (of a part of one, where rows are long)
 *  16  u16   row ranges that are not coded
 *  18  u16   first columns that are overlaid, transposed only
 *  20  u16   last columns that are overlaid, transposed only
 *  22  u16   d: channels of a head, even, 2..512, a divisor of columns; 0 unless z turns
 *  24  u32   patches
 *  28  u32   escapes
 *  32  per class u8: how far k > 0 is drawn down and k < 0 up, in units of D
      per class u8: w, bits of its codes, 0..8
 *      d/2 times u32: by how much each pair turns per row, in turns of 2^32
 *      per range: u32 first row, u32 rows; bit 31: all their elements are equal;
 *      ascending, without overlap
 *      per range: one element, or its rows as they are
 *      the first, then the last overlaid columns of every row, row by row
 *      per patch u32: index of the element, ascending; per patch: the element
 *      per channel 4 bits: class, the lower half first
 *      per channel i16: z
 *      what is left of the chunk behind its last whole row
 *   then the codes. A code of w bits is k + 2^(w-1) - 1; 2^w - 1 is the escape, for
 *   k that do not fit (w = 0: k = 0, no code).
 *   ladder-fix: per block, for p = 0..7: a byte per lane whose w > p, bit j of it
 *      being bit p of line j's code. Then the escapes' k, i16, in the order of
 *      blocks, lines, lanes.
 *   ladder-huf: a directory of u32: stored bytes per class, then of the escapes'
 *      low bytes and of their high bytes; then these streams, each coded as
 *      ladder_plane_put says. A class with codes of w bits has digits of d = 0, 1,
 *      2, 4 or 8 bits, the least that hold them; its stream has per block d x
 *      (lanes of the class) bytes: for s in 0..d-1 a byte per lane, line 8/d s + m
 *      in bits [dm, dm + d).
 *   Ranges, overlaid columns and patches are exact at every level; the codes
 *   under overlaid columns and patches mean nothing.
 *
 * Turning means, for keys with rotary positions: (a, b) being z as stored of a pair
 * and phi an angle, z of its channels is (a cos phi - b sin phi, a sin phi + b cos phi),
 * in products x * y of (x * y + 2^14) >> 15 with cos and sin times 32767. It is first
 * done with the angle of the group's first row in the chunk, then with that from
 * there to the line's row. cos and sin of an angle are what ladder_cos_sin gives, or
 * those of another turned on in the same products: of 2..8 rows, from those of
 * one row less by one row; of a group, from those of the last one by 8 rows if it begins
 * 8 rows behind, but in every 32nd group; of lines whose rows do not follow each
 * other always their own.
 *
 * Layer of a refinement of b bits: per block, for s in 0..b-1, a byte per lane, line
 * 8/b s + m in bits [bm, bm + b).
 *
 * Exact layer. Bit patterns (of f32: the upper half) as integers ord in the order of
 * their values, -0 being -1 and +0 being 0. lo(i) is the ord of the first pattern
 * that is not below (i - 1/2) D.
 *   0  u8    1: all lower halves (f32) are equal; else 0
 *   1  u8[3] 0
 *   4  u32   elements in cell i = 0
 *   8  u32   stored bytes of their patterns' upper bytes
 *  12  u32   bytes of the bit stream
 *  16  the patterns of those elements, rotated left by one bit: the lower bytes, then
 *      the upper ones (ladder_plane_put)
 *      the bit stream: per block and line, for p = 0, 1, ...: bit p of ord - lo(i), for
 *      each lane, from lane 0 on, with 0 < |i| <= 2^(m-p), m = 7, f16 10, unless
 *      f16's p >= e + 24. Bytes are filled from their low end.
 *      f32: the lower halves, u16, block by block, line by line; or one for all
 *
 * At lower levels f32 has 0x8000 there.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/le.h"
#include "codecs/codec.h"
#include "codecs/codec_ctx.h"
#include "codecs/simd/ladder_kern.h"

#define LADDER_HEAD 32u
#define LADDER_ELEMS_MAX (1u << 19) /* of a chunk */
#define LADDER_ELEMS_MIN 2048u
#define LADDER_COLS_MIN 8u
#define LADDER_DIGITS_MAX (LADDER_ELEMS_MAX + 4096u) /* in the planes' scratch */
#define LADDER_CHANNELS_MAX 8192u
#define LADDER_REFINEMENTS_MAX (CODEC_LAYERS_MAX - 2)
#define LADDER_BITS_MAX 8u          /* all refinements together */
#define LADDER_RANGES_MAX 1024u
#define LADDER_PATCHES_MAX (LADDER_ELEMS_MAX / 32)
#define LADDER_ESCAPES_MAX (LADDER_ELEMS_MAX / 16)
#define LADDER_ZEROS_MAX (LADDER_ELEMS_MAX / 8)
#define LADDER_INDEX_MAX 16383      /* |i| of what is not patched */
#define LADDER_MEAN_MAX 8191        /* |z| */
#define LADDER_FILL 0x80000000u     /* bit of a range's row count */
#define LADDER_SPREADS 19u          /* how finely the encoder tells channels apart */
#define LADDER_HEAD_MAX 512u        /* channels of a head whose means turn */
#define LADDER_WAVE (LADDER_HEAD_MAX + 64u)
#define LADDER_TURN_ROWS 32u        /* rows and columns that turning is looked for in */
#define LADDER_TURN_COLS 256u
#define LADDER_STRIPS_MAX (LADDER_CHANNELS_MAX / 64)

/* What encode may be told; codec_ops.encode takes ladder_defaults. */
struct ladder_opts {
	uint8_t n_bits;                       /* refinements */
	uint8_t bits[LADDER_REFINEMENTS_MAX];
	uint16_t sinks;                       /* first tokens of a region kept exact */
	uint16_t window;                      /* last tokens of a region kept exact */
	/* By enum region_kind: log2 of D 2^B over the channels' geometric mean of
	 * sigma, in 1/256. */
	int16_t step_256[REGION_KINDS_];
	int16_t turning_256; /* the same where means turn */
};
extern const struct ladder_opts ladder_defaults;

struct ladder_range {
	uint32_t first, n; /* rows */
	bool fill;
};

/* Layer 0 up to the codes, and what follows from it. */
struct ladder_head {
	uint8_t elem, eb, n_classes, n_bits;
	bool transposed;
	int8_t e;
	uint8_t bits[LADDER_REFINEMENTS_MAX];
	uint32_t len, tail_len;
	uint32_t cols, rows, coded_rows, channels;
	uint32_t n_ranges, first_cols, last_cols, n_patches, n_escapes;
	uint8_t draw[LADDER_CLASSES_MAX];
	uint8_t turn;  /* prediction */
	uint16_t head; /* d */
	uint8_t width[LADDER_CLASSES_MAX];
	/* Places within layer 0. */
	size_t at_turns, at_ranges, at_rows, at_overlay, at_patches, at_class, at_mean, at_tail, at_codes;
};

/* What the encoder alone needs, by channel. */
struct ladder_stats {
	int64_t sum[LADDER_CHANNELS_MAX];
	double mean[LADDER_CHANNELS_MAX], square[LADDER_CHANNELS_MAX];
	uint32_t count[LADDER_CHANNELS_MAX];
	uint8_t spread[LADDER_CHANNELS_MAX];
	uint32_t hist[LADDER_SPREADS][256];
	float sample[LADDER_TURN_ROWS][LADDER_TURN_COLS];
	uint32_t patches[LADDER_PATCHES_MAX + 512];
};

/* cos and sin by channel of a head, and of 64 more from its beginning. */
struct ladder_wave {
	int16_t c[LADDER_WAVE], s[LADDER_WAVE];
} __attribute__((aligned(64)));

struct ladder_turns {
	uint32_t pair[LADDER_HEAD_MAX / 2]; /* turns per row */
	struct ladder_wave base, eight;     /* of the group at hand; of 8 rows */
	struct ladder_wave line[LADDER_LINES];
	bool even;                          /* line is that of rows one after the other */
	uint32_t row, groups;               /* first row of the group; groups so far */
};

/* 64-byte aligned; buffers of one thread. Lists have room for one block more. */
struct ladder_scratch {
	struct ladder_block block;
	struct ladder_desc desc[LADDER_STRIPS_MAX];
	uint16_t zeros[LADDER_ZEROS_MAX + 1024] __attribute__((aligned(64)));
	int16_t escapes[LADDER_ESCAPES_MAX + 1024] __attribute__((aligned(64)));
	uint8_t plane[LADDER_ZEROS_MAX + 1024];
	struct ladder_turns turns;
	struct ladder_range ranges[LADDER_RANGES_MAX];
	int16_t mean[LADDER_CHANNELS_MAX];
	uint8_t class[LADDER_CHANNELS_MAX];
	uint8_t tail[CODEC_LAYERS_MAX + 1][8192] __attribute__((aligned(64)));
	struct ladder_stats *stats; /* owned; made when first needed */
};

/* -ENOMEM. */
WUR int ladder_scratch_get(struct codec_ctx *ctx, bool encode, struct ladder_scratch **ret);
void ladder_scratch_free(struct ladder_scratch *s); /* NULL ok */
size_t ladder_scratch_bytes(const struct ladder_scratch *s);

/* ---- ladder_head.c ------------------------------------------------------- */

/* Fills len, eb, rows and tail_len from elem, cols and the chunk's length. False
 * for what ladder does not take. */
WUR bool ladder_head_shape(struct ladder_head *h, size_t len);
/* Fills the places from all else; @row_bytes is what the ranges' rows take. */
void ladder_head_places(struct ladder_head *h, size_t row_bytes);
/* Bytes of the rows of all ranges as they are stored. */
size_t ladder_ranges_bytes(const struct ladder_head *h, const struct ladder_range *r);
/* Everything up to at_codes; @src is the chunk. */
void ladder_head_write(const struct ladder_head *h, const struct ladder_scratch *s,
		       const uint8_t *src, uint8_t *dst);
/* Checks and fills @h, s->ranges, mean and class. -KVFS_ECODEC. */
WUR int ladder_head_read(struct ladder_scratch *s, const uint8_t *src, size_t src_len, size_t len,
			 struct ladder_head *h);
/* Ranges, overlaid columns, patches and the tail into the decoded chunk. */
void ladder_overlay(const struct ladder_head *h, const struct ladder_scratch *s,
		       const uint8_t *src, uint8_t *dst);
unsigned ladder_digit(unsigned width); /* bits of the digit for codes of that width */
/* What the kernels need for the level that lacks @missing refinements. */
struct ladder_level ladder_level_of(const struct ladder_head *h, unsigned missing);

/* ---- ladder_walk.c ------------------------------------------------------- */

/* Goes through the blocks of a chunk. */
struct ladder_walk {
	const struct ladder_head *h;
	struct ladder_scratch *s;
	struct ladder_desc *d;  /* of the block at hand */
	uint32_t first_channel; /* of lane 0 */
	bool own_channels;      /* each lane is a channel, else all are one */
	bool full;              /* 8 lines of 64 elements */
	uint32_t at[LADDER_LINES];   /* index of lane 0's element in the chunk, by line */
	uint8_t count[LADDER_LINES]; /* lanes with an element */
	/* Private. */
	uint32_t coded, row, range; /* next coded row, its row, the range behind it */
	uint32_t strip, piece;      /* next of them */
	uint32_t group[LADDER_LINES], group_at[LADDER_LINES], n_group; /* rows, where they begin */
	uint32_t in_head, head_step; /* lane 0's channel within its head; 64 modulo a head */
	bool plain;
};
/* @plain: without descriptors; only lanes is set in them. */
void ladder_walk_init(struct ladder_walk *w, const struct ladder_kern *k,
		      const struct ladder_head *h, struct ladder_scratch *s, bool plain);
/* The next block; false at the end. */
bool ladder_walk_next(struct ladder_walk *w);
/* Bytes per class and of a layer of @bits, over all blocks; and for fix. */
struct ladder_sizes {
	size_t lanes;                      /* lanes of all blocks */
	size_t stream[LADDER_CLASSES_MAX]; /* huf: bytes of each class' digits */
	size_t fix;                        /* fix: bytes of the codes */
};
void ladder_sizes_of(const struct ladder_head *h, const struct ladder_scratch *s,
		     struct ladder_sizes *ret);

/* Sets what gives z of the walk's block: for the decoder. */
void ladder_walk_turn(const struct ladder_kern *k, const struct ladder_walk *w,
		      struct ladder_block *b);
/* Sets z of it. */
void ladder_walk_means(const struct ladder_kern *k, const struct ladder_walk *w,
		       struct ladder_block *b);

/* ---- ladder_turn.c ------------------------------------------------------- */

/* Turns of the pairs are set: before the first group. */
void ladder_turns_init(struct ladder_turns *t, const struct ladder_kern *k,
		       const struct ladder_head *h);
/* cos and sin of phase / 2^32 turns, times 32767, rounded. */
void ladder_cos_sin(uint32_t phase, int16_t *c, int16_t *s);
/* Goes to the group of n rows. */
void ladder_turns_group(struct ladder_turns *t, const struct ladder_kern *k,
			const struct ladder_head *h, const uint32_t row[], unsigned n);
/* The other channel of a pair; *ret_sign: of its sine's part in the first's z. */
uint32_t ladder_turn_partner(const struct ladder_head *h, uint32_t channel, int *ret_sign);

/* ---- ladder_io.c --------------------------------------------------------- */

/* A layer being read by blocks. What remains when it is short is copied to tail,
 * with zeros behind, so that kernels can read a block's worth at any place. */
struct ladder_in {
	const uint8_t *p, *end;
	uint8_t *tail; /* 8192 bytes */
	bool ending;
};
const uint8_t *ladder_in_end(struct ladder_in *in, size_t need); /* near the end */
/* p for @need bytes, at most 4096. */
static inline const uint8_t *ladder_in_get(struct ladder_in *in, size_t need)
{
	return (size_t)(in->end - in->p) >= need + LADDER_SLACK ? in->p : ladder_in_end(in, need);
}
/* A layer being written: @max bytes (at most 4096) may be written at the returned place. */
struct ladder_out {
	uint8_t *p, *end;
	uint8_t *tail; /* 8192 bytes */
};
uint8_t *ladder_out_get(struct ladder_out *o, size_t max);
/* Keeps @n of them. False when they do not fit. */
WUR bool ladder_out_put(struct ladder_out *o, const uint8_t *at, size_t n);

/* A plane of n bytes stored in its shortest form: n = 0: nothing; all alike: one
 * byte; else a zstd frame shorter than n, or n bytes. The bytes, -KVFS_ENOGAIN, -ENOMEM. */
WUR int64_t ladder_plane_put(struct codec_ctx *ctx, const uint8_t *plane, size_t n, uint8_t *dst,
			     size_t cap);
/* Its inverse into to[0..n): 0, -KVFS_ECODEC, -ENOMEM. */
WUR int ladder_plane_get(struct codec_ctx *ctx, const uint8_t *src, size_t src_len, uint8_t *to,
			 size_t n);

/* Patterns from little-endian bytes. */
static inline void ladder_patterns_get(uint16_t *pat, const uint8_t *from, unsigned n)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	memcpy(pat, from, 2 * (size_t)n);
#else
	for (unsigned l = 0; l < n; l++)
		pat[l] = le16_get(from + 2 * l);
#endif
}

/* Layer 0's codes, either way. */
struct ladder_codes {
	bool huf;
	uint8_t *digits; /* huf: all streams, in the planes' scratch */
	const uint8_t *stream[LADDER_CLASSES_MAX]; /* next of each */
	struct ladder_in in;     /* fix: codes */
};
/* Opens layer 0 behind its head. */
WUR int ladder_codes_open(struct codec_ctx *ctx, struct ladder_scratch *s,
			  const struct ladder_head *h, bool huf, const uint8_t *src,
			  size_t src_len, struct ladder_codes *ret);
/* The block's codes. */
void ladder_codes_get(struct codec_ctx *ctx, const struct ladder_walk *w, struct ladder_codes *c);
/* Has all been read, and nothing else? (Escapes are counted by the caller.) */
bool ladder_codes_done(const struct ladder_codes *c);

/* Layer 0 being written behind its head. */
struct ladder_codes_out {
	bool huf;
	uint8_t *digits;
	size_t size[LADDER_CLASSES_MAX];
	uint8_t *stream[LADDER_CLASSES_MAX]; /* next of each */
	struct ladder_out out;
};
/* -KVFS_ENOGAIN when the streams are too long. @dst, @cap: behind the head. */
WUR int ladder_codes_out_open(struct codec_ctx *ctx, struct ladder_scratch *s,
			      const struct ladder_head *h, bool huf, uint8_t *dst, size_t cap,
			      struct ladder_codes_out *ret);
/* Adds the codes of s->block. -KVFS_ENOGAIN. */
WUR int ladder_codes_put(struct codec_ctx *ctx, const struct ladder_scratch *s,
			 const struct ladder_desc *d, struct ladder_codes_out *c);
/* Adds n_escapes of s->escapes, and for huf all streams. @ret_end is where layer 0
 * ends. -KVFS_ENOGAIN, -ENOMEM. */
WUR int ladder_codes_out_close(struct codec_ctx *ctx, struct ladder_scratch *s,
			       const struct ladder_head *h, struct ladder_codes_out *c,
			       uint8_t **ret_end);

/* ---- ladder_measure.c ---------------------------------------------------- */

/* Decides everything in the head, reading the chunk: ranges, step, means, classes,
 * widths, centroids, patches (in s). -KVFS_ENOGAIN for what is no numbers. */
WUR int ladder_measure(struct codec_ctx *ctx, struct ladder_scratch *s,
		       const struct chunk_shape *shape, const struct ladder_opts *opts,
		       const uint8_t *src, size_t len, struct ladder_head *h);
/* Whether means turn with the rows: sets turn, head and s->turns.pair. The bits per
 * value that it saves, in 1/256; 0 when not. (ladder_turning.c) */
int ladder_turning_find(struct ladder_scratch *s, const struct chunk_shape *shape,
			const uint8_t *src, struct ladder_head *h);
/* Turning means of all channels, in cells. */
void ladder_turning_means(const struct ladder_kern *k, struct ladder_scratch *s,
			  const uint8_t *src, const struct ladder_head *h);
/* The part of it that needs step, means and spreads: classes, widths, centroids. (ladder_classes.c) */
void ladder_classes(const struct ladder_kern *k, struct ladder_scratch *s, const uint8_t *src,
		    struct ladder_head *h);
/* The walk's block: patterns, counts, and in skip the lanes that are overlaid or
 * have no element. */
void ladder_block_load(const struct ladder_walk *w, const uint8_t *src, struct ladder_block *b);
/* A mean as z. */
int16_t ladder_mean_limit(double z);
/* t -= z; 0 where there is no value. */
void ladder_block_centre(struct ladder_block *b);

/* ---- ladder_encode.c, ladder_decode.c ------------------------------------ */

WUR int ladder_encode(struct codec_ctx *ctx, bool huf, const struct chunk_shape *shape,
		      const struct ladder_opts *opts, const void *src, size_t len,
		      struct codec_out out[], unsigned *ret_layers);
/* Layer 0 in the packing that is not @huf to the one that is. */
WUR int ladder_transcode(struct codec_ctx *ctx, bool huf, const void *src, size_t src_len,
			 size_t len, struct codec_out *to);
WUR int ladder_decode(struct codec_ctx *ctx, bool huf, const struct codec_in in[], unsigned n_in,
		      void *dst, size_t len);

#endif
