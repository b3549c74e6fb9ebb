/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_LAYOUTS_COMPACT_H
#define KVCACHEFS_LAYOUTS_COMPACT_H
/*
 * The same cache with fewer cells: a file of its own format that holds the rows
 * and the positions of some of its cells and is otherwise what it was, the
 * context's whole list of tokens included. Engines that know gaps in the
 * positions load it. Two forms can say which positions they hold:
 *
 *   llama-seq    of one memory module, one stream and one sequence; the cells'
 *                own table is thinned
 *   safetensors  as kvlm writes them (metadata "format" is "kvlm"): tensors
 *                [cells, heads, dim], positions in the metadata
 *
 * Every byte of the source is accounted for before anything is written. Pure
 * apart from the callbacks; time and memory are bounded by the size and the
 * COMPACT_ limits, whatever the file claims.
 */
#include "layouts/layout.h"

#define COMPACT_CELLS_MAX (1u << 20)
#define COMPACT_TOKENS_MAX (4u << 20)
#define COMPACT_ROW_MAX (16u << 20)

struct compact;

/*
 * @l is what layout_recognise() said of @in; both are borrowed until the end.
 * 0; -EOPNOTSUPP with a reason for people in @why (the form cannot lose tokens);
 * -ENOMEM; -errno of read.
 */
WUR int compact_open(const struct layout_input *in, const struct layout *l, struct compact **ret,
		     char *why, size_t why_len);
void compact_close(struct compact *c); /* NULL ok */

uint32_t compact_cells(const struct compact *c);
/* [cells], none negative; of most files ascending. */
const int32_t *compact_positions(const struct compact *c);

/* The K rows of all cells in one layer, one after the other. */
struct compact_keys {
	uint64_t off_bytes;
	uint32_t row_bytes, head_bytes; /* head_bytes 0: unknown */
	uint8_t elem;
};
/* The i-th, from 0; false behind the last. */
bool compact_keys(const struct compact *c, uint32_t i, struct compact_keys *ret);

/* Plans the file of these @n cells (1..cells, ascending; borrowed until the end)
 * and tells its size. -EOPNOTSUPP when it would no longer be recognised: a header
 * that is too long, fewer cells than heads; -ENOMEM; -errno of read. */
WUR int compact_choose(struct compact *c, const uint32_t *kept, uint32_t n, uint64_t *ret_size);
/* Gives the planned file to @write, front to back; a failure of it ends all. */
WUR int compact_write(struct compact *c, int (*write)(void *arg, const void *buf, size_t len),
		      void *arg);

/* "0-3,128,200-255": ascending, each position once. @b->failed when out of memory. */
void compact_ranges(const int32_t *pos, uint32_t n, struct sbuf *b);

#endif
