/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_CODECS_SIMD_LADDER_KERN_H
#define KVCACHEFS_CODECS_SIMD_LADDER_KERN_H
/*
 * The inner loops of the ladder codecs (codecs/ladder.h has the format), one table
 * of functions per instruction set. All tables give identical bytes. They work
 * on a block, 8 lines of 64 lanes; lanes beyond those of the block hold
 * anything. Integers wrap at 16 bits. Nothing is read or written but the block
 * and what is named, whatever the data; no function fails.
 *
 * ord() of a pattern p: p ^ (p >> 15 ? 0x7fff : 0) as int16, its own inverse.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LADDER_LANES 64u
#define LADDER_LINES 8u
#define LADDER_PLANES_MAX 11u /* of the exact layer: f16's 11, bf16's 8 */
#define LADDER_SLACK 64u      /* bytes behind an input that may be read */
#define LADDER_CLASSES_MAX 16u

/* A strip: what the lanes of a block have in common with those of the next. */
struct ladder_desc {
	uint64_t plane[8];   /* bit l: lane l has codes of more than p bits */
	int16_t bias[64];    /* code of k = 0; 0 without codes */
	int16_t z[64];
	int16_t other[64];   /* z of the pair's other channel, signed (turning means) */
	int16_t draw[64];    /* how far k > 0 is drawn down, k < 0 up, in D */
	uint8_t escape[64];  /* code of an escape; 255 without codes, beyond the lanes */
	uint8_t lanes;       /* 1..64 */
	uint8_t n_streams;
	struct ladder_stream {
		uint64_t mask;       /* lanes of this class */
		uint8_t class, digit; /* 1, 2, 4, 8: bits of a digit */
	} stream[LADDER_CLASSES_MAX];
} __attribute__((aligned(64)));

/* Turning means of a block: d's z turned by (c, s), then for line j by what is @step
 * bytes times j behind (lc, ls). 64 lanes each. */
struct ladder_turning {
	const int16_t *c, *s, *lc, *ls;
	size_t step;
};

struct ladder_block {
	uint8_t code[LADDER_LINES][LADDER_LANES];
	int16_t t[LADDER_LINES][LADDER_LANES];
	uint16_t pat[LADDER_LINES][LADDER_LANES];
	uint64_t skip[LADDER_LINES]; /* encoder: lanes without a value of their own */
	uint8_t count[LADDER_LINES]; /* lanes with an element */
	uint8_t *to[LADDER_LINES];   /* where patterns of a line go: 128 bytes, low byte first */
	const int16_t *z;            /* of line 0 */
	unsigned z_step;             /* from a line's to the next one's */
	struct ladder_turning turn;  /* decoder: what gives z, when c is not NULL */
	int16_t turned[LADDER_LINES][LADDER_LANES]; /* room for that */
} __attribute__((aligned(64)));

/* From indices to values of one level. */
struct ladder_level {
	bool f16;                /* else bf16 */
	int8_t e;                /* D = 2^e */
	uint8_t shift;           /* bits of t that are missing */
	bool draw;               /* all are, so that t is k */
	int16_t add;             /* cell = (t << shift) + add + z */
	uint8_t n_planes;        /* of the exact layer */
	uint16_t limit[LADDER_PLANES_MAX]; /* plane p: 0 < |i| <= limit[p] */
};

/* What besides the codes makes t. */
struct ladder_more {
	const int16_t *escapes;  /* k of those, 512 and slack; taken ones are passed */
	unsigned n;              /* refinements */
	uint8_t bits[8];         /* of each: 1, 2, 4 */
	const uint8_t *src[8];   /* lanes * bits bytes; not advanced */
};

/* Reads bits from their low end; 8 bytes behind the last one can be read. */
struct ladder_bits {
	const uint8_t *p;
	uint64_t at; /* bits */
};
/* Writes them; up to 8 bytes behind the last one are overwritten. */
struct ladder_bits_out {
	uint8_t *p;    /* next byte */
	uint64_t acc;  /* bits not yet stored */
	unsigned n;    /* how many, 0..63 */
};

struct ladder_kern {
	/* Layer 0 to codes, and back. Bytes read or written; LADDER_SLACK more may
	 * be touched. Lanes without codes get 0. */
	size_t (*unpack_fix)(const struct ladder_desc *d, const uint8_t *src,
			     struct ladder_block *b);
	size_t (*pack_fix)(const struct ladder_desc *d, const struct ladder_block *b,
			   uint8_t *dst);
	/* The same with a stream per class; advances those in use. */
	void (*unpack_huf)(const struct ladder_desc *d,
			   const uint8_t *stream[LADDER_CLASSES_MAX], struct ladder_block *b);
	void (*pack_huf)(const struct ladder_desc *d, const struct ladder_block *b,
			 uint8_t *stream[LADDER_CLASSES_MAX]);
	/* t to codes of k = t >> low; escapes are written, how many. */
	size_t (*codes)(const struct ladder_desc *d, unsigned low, struct ladder_block *b,
			int16_t *esc);
	/* The digits at bit @low of t. */
	void (*digits)(unsigned bits, unsigned low, unsigned lanes, const struct ladder_block *b,
		       uint8_t *dst);
	/* Codes and what is more to patterns of a level; bf16 to the nearest, ties
	 * away from 0, f16 ties to even. */
	void (*values)(const struct ladder_level *v, const struct ladder_desc *d,
		       struct ladder_more *more, struct ladder_block *b);
	/* With all refinements and the exact layer. Reads at most 8 x 64 x n_planes
	 * bits, and patterns of cell 0 from @zeros, 512 and slack. How many. */
	size_t (*exact)(const struct ladder_level *v, const struct ladder_desc *d,
			struct ladder_more *more, struct ladder_bits *bits,
			const uint16_t *zeros, struct ladder_block *b);
	/* The inverse: patterns to the exact layer. Lanes in skip get 0. */
	size_t (*exact_put)(const struct ladder_level *v, const struct ladder_block *b,
			    struct ladder_bits_out *bits, uint16_t *zeros);
	/* Patterns to cells i in t; sets skip's bits (they are kept) where there is
	 * none: not finite, or |i| too large. There t is 0. */
	void (*cells)(const struct ladder_level *v, struct ladder_block *b);
	/* (c, s) turned by (dc, ds), n lanes, a multiple of 32. */
	void (*turn)(int16_t *c, int16_t *s, const int16_t *dc, const int16_t *ds, unsigned n);
	/* Turning means, 8 x 64. */
	void (*means)(const struct ladder_desc *d, const struct ladder_turning *t, int16_t *z);
	/* t = i - z - add; -add where skip says. */
	void (*centre)(const struct ladder_level *v, struct ladder_block *b);
};

extern const struct ladder_kern ladder_kern_portable;
#ifdef KVFS_SIMD
extern const struct ladder_kern ladder_kern_avx2;
extern const struct ladder_kern ladder_kern_avx512;
#endif

/* Portable ones that others use as well. */
size_t ladder_pack_fix_portable(const struct ladder_desc *d, const struct ladder_block *b,
				uint8_t *dst);
void ladder_pack_huf_portable(const struct ladder_desc *d, const struct ladder_block *b,
			      uint8_t *stream[LADDER_CLASSES_MAX]);
size_t ladder_codes_portable(const struct ladder_desc *d, unsigned low, struct ladder_block *b,
			     int16_t *esc);
void ladder_digits_portable(unsigned bits, unsigned low, unsigned lanes,
			    const struct ladder_block *b, uint8_t *dst);
size_t ladder_exact_put_portable(const struct ladder_level *v, const struct ladder_block *b,
				 struct ladder_bits_out *bits, uint16_t *zeros);
void ladder_cells_portable(const struct ladder_level *v, struct ladder_block *b);
void ladder_turn_portable(int16_t *c, int16_t *s, const int16_t *dc, const int16_t *ds, unsigned n);
void ladder_means_portable(const struct ladder_desc *d, const struct ladder_turning *t, int16_t *z);
void ladder_centre_portable(const struct ladder_level *v, struct ladder_block *b);

#define LADDER_CELL_LIMIT 16383.0f /* |x / D| from which there is no cell */

#endif
