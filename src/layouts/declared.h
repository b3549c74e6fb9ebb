/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_LAYOUTS_DECLARED_H
#define KVCACHEFS_LAYOUTS_DECLARED_H
/*
 * user.kvcache.layout as set on a file or directory: KEY=VALUE words.
 *
 *   order=2LTHD   axes, outermost first (layouts/build.h), or a name that an
 *                 engine gives its order: layer_first, page_first, page_head,
 *                 kv_2ltd, kv_t2d, kv_2td, kv_mla
 *   dtype=bf16 layers=32 heads=8 dim=128 tokens=256 pages=16
 *   kind=k|v|kv   what is there when no 2 is in the order
 *   skip=N        bytes before the data
 *   pad=N         up to N-1 bytes behind it
 *
 * or "opaque" (look at nothing) or "auto" (as if nothing were declared).
 */
#include "layouts/build.h"

struct declared {
	bool opaque, automatic;
	int elem; /* -1: not said */
	uint8_t kind;
	unsigned n;                   /* axes */
	char letter[LAYOUT_AXES_MAX]; /* a permutation of letters with T before D */
	/* 0: not said */
	uint64_t layers, heads, dim, tokens, pages, skip, pad;
};

/* 0; -EINVAL with the reason in @why (may be NULL). */
WUR int declared_parse(const char *s, struct declared *ret, char *why, size_t why_len);

#endif
