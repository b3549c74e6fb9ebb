/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_CODECS_SIMD_KERNELS_H
#define KVCACHEFS_CODECS_SIMD_KERNELS_H
/*
 * The inner loops of the planes codecs, one table of functions per instruction
 * set. All tables give identical bytes. Nothing here reads or writes a byte
 * outside the lengths named, whatever the data; pointers have any alignment
 * unless said otherwise; no function fails except unpack.
 *
 * An element of eb bytes (1, 2 or 4, little-endian) is taken apart into its top
 * plane, one byte per element, and eb-1 low planes, low[0] the least
 * significant. The element is first rotated left by one bit, which gathers the
 * exponent in the top byte and puts the sign at the bottom:
 *   bf16  eeeeeeee | mmmmmmms      f16   eeeeemmm | mmmmmmms
 *   f32   eeeeeeee | mmmmmmmm | mmmmmmmm | mmmmmmms
 *   e5m2  eeeeemms                 e4m3  eeeemmms
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PLANES_LOWS_MAX 3   /* low planes of the widest element */
#define FIX_BLOCK 512u      /* elements that pack and unpack work in */
#define FIX_WIDTH_MIN 3u
#define FIX_WIDTH_MAX 7u
#define FIX_PARTS 3u        /* code planes of 4, 2 and 1 bits */
#define FIX_DICT_MAX 128u

/* Dictionary of one chunk: codes of @width bits, the last one is the escape. */
struct fix_dict {
	unsigned width;               /* FIX_WIDTH_MIN..FIX_WIDTH_MAX */
	uint8_t value[FIX_DICT_MAX];  /* by code; [escape] is unused */
	uint8_t code[256];            /* by value; the escape code when absent (encoder only) */
};

/* The code planes at the block in hand. Width w is cut into parts of 4, 2 and 1
 * bits, lowest code bits first: 3 = 2+1, 4 = 4, 5 = 4+1, 6 = 4+2, 7 = 4+2+1. In
 * a part of b bits, 64 bytes hold 64*8/b elements: element 64k+i is in bits
 * [b*k, b*k+b) of byte i. A block has b*64 bytes of each part. */
struct fix_planes {
	const uint8_t *part[FIX_PARTS]; /* [0] 4 bits, [1] 2 bits, [2] 1 bit; unused: NULL */
	const uint8_t *esc, *esc_end;   /* values of escaped elements, in element order */
};

struct planes_kern {
	const char *name;
	/* Takes n elements apart. low[p] NULL: that plane is not wanted. */
	void (*split)(unsigned eb, const uint8_t *src, size_t n, uint8_t *top,
		      uint8_t *const low[PLANES_LOWS_MAX]);
	/* The inverse; off (may be NULL) is added to the top plane, mod 256.
	 * @stream: non-temporal stores where dst allows them. */
	void (*merge)(unsigned eb, const uint8_t *top, const uint8_t *off,
		      const uint8_t *const low[PLANES_LOWS_MAX], size_t n, uint8_t *dst,
		      bool stream);
	/* top[i] -= off[i]. */
	void (*sub)(uint8_t *top, const uint8_t *off, size_t n);
	/* sum[i] += top[i]; count[i] += top[i] != 0. */
	void (*colsum)(const uint8_t *top, size_t n, uint32_t *sum, uint32_t *count);
	/* Codes n_blocks blocks of top values. out[] are the code planes, written
	 * in full; escaped values go to esc, which has n_blocks * FIX_BLOCK + 64
	 * bytes of room. Returns how many. */
	size_t (*pack)(const struct fix_dict *d, const uint8_t *top, size_t n_blocks,
		       uint8_t *const out[FIX_PARTS], uint8_t *esc);
	/* The inverse: top has n_blocks * FIX_BLOCK bytes of room. Advances all
	 * of @in. False when the escapes do not suffice. */
	bool (*unpack)(const struct fix_dict *d, struct fix_planes *in, size_t n_blocks,
		       uint8_t *top);
};

extern const struct planes_kern planes_kern_portable;
#ifdef KVFS_SIMD
extern const struct planes_kern planes_kern_avx2;
extern const struct planes_kern planes_kern_avx512;
#endif

/* The portable functions, also for the ends of runs in the others. */
void planes_split_portable(unsigned eb, const uint8_t *src, size_t n, uint8_t *top,
			   uint8_t *const low[PLANES_LOWS_MAX]);
void planes_merge_portable(unsigned eb, const uint8_t *top, const uint8_t *off,
			   const uint8_t *const low[PLANES_LOWS_MAX], size_t n,
			   uint8_t *dst, bool stream);
void planes_sub_portable(uint8_t *top, const uint8_t *off, size_t n);
void planes_colsum_portable(const uint8_t *top, size_t n, uint32_t *sum, uint32_t *count);

/* Bits of a part, by index: 4, 2, 1. */
static inline unsigned fix_part_bits(unsigned part)
{
	return 4u >> part;
}
/* Which parts make up a code of @width bits. */
static inline bool fix_part_used(unsigned width, unsigned part)
{
	return (width >> (2 - part)) & 1;
}

#endif
