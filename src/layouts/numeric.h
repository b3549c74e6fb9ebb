/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_LAYOUTS_NUMERIC_H
#define KVCACHEFS_LAYOUTS_NUMERIC_H
/* What the bytes look like, by their statistics. */
#include "layouts/layout.h"

/*
 * Are the bytes [off, off + len) all of one float type? Looks at up to 16
 * blocks of 4 KiB. 0: *ret_elem is ELEM_BF16, ELEM_F16 or ELEM_F32 and the
 * elements lie at off + *ret_phase; -KVFS_ENOLAYOUT: no; -errno of read.
 */
WUR int numeric_sniff(const struct layout_input *in, uint64_t off, uint64_t len, uint8_t *ret_elem,
		      unsigned *ret_phase);

#endif
