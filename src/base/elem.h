/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_BASE_ELEM_H
#define KVCACHEFS_BASE_ELEM_H
/*
 * Words that layouts and codecs share without seeing each other: what an
 * element of a KV tensor is, and what a run of file bytes means.
 * The values are written into object files: never renumber.
 */
#include <stdint.h>

enum elem_type {
	ELEM_BYTES = 0, /* opaque: no numeric meaning, or already quantised */
	ELEM_F32 = 1,
	ELEM_F16 = 2,
	ELEM_BF16 = 3,
	ELEM_F8E4M3 = 4,
	ELEM_F8E5M2 = 5,
	ELEM_TYPES_
};

enum region_kind {
	REGION_OPAQUE = 0, /* headers, token lists, padding, quantised rows */
	REGION_K = 1,
	REGION_V = 2,
	REGION_KV = 3, /* K and V elements whose border is not known */
	REGION_KINDS_
};

/* What a chunk's bytes are. A chunk starts at a row, so at an element, of its
 * region; its address in memory or in the file may have any alignment. */
struct chunk_shape {
	uint8_t elem;         /* enum elem_type */
	uint8_t kind;         /* enum region_kind */
	uint8_t transposed;   /* 1: rows are channels, columns are tokens */
	uint8_t page;         /* 1: its region's first rows need not be a context's. Not stored */
	uint32_t layer;       /* of the model; 0 when unknown */
	uint32_t row_bytes;   /* one row (token, or channel if transposed); 0 unknown */
	uint32_t head_bytes;  /* one head within a row; 0 unknown */
	uint32_t first_row;   /* index within the region of the chunk's first row */
	uint32_t region_rows; /* rows of the whole region; 0 unknown */
	uint32_t part_rows;   /* of each region, when alike ones share the chunk; else 0. Not stored */
};

static inline unsigned elem_bytes(unsigned elem)
{
	switch (elem) {
	case ELEM_F32:
		return 4;
	case ELEM_F16:
	case ELEM_BF16:
		return 2;
	default:
		return 1;
	}
}
/* "f32", "bf16", ... static; "?" for an unknown value. (base/elem.c) */
const char *elem_name(unsigned elem);
const char *region_kind_name(unsigned kind);
/* Parses "bf16", "f16", "fp16", "f32", "fp8_e4m3"...; -1 when unknown. */
int elem_parse(const char *s);

#endif
