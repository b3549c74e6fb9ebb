/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_STORE_META_REC_H
#define KVCACHEFS_STORE_META_REC_H
/*
 * A record of the index as it is stored: the members before the name as they are, the name up
 * to its end, and, where there are samples, those. LMDB has no checksums of its own, so it has
 * one; the inode number is part of what is summed.
 */
#include <stddef.h>

#include "store/meta.h"

#define META_REC_BYTES_MAX sizeof(struct meta_rec)

/* The bytes that it takes. */
size_t meta_rec_pack(uint64_t ino, const struct meta_rec *r, uint8_t buf[META_REC_BYTES_MAX]);
/* False: damaged, or of another inode. */
bool meta_rec_unpack(uint64_t ino, const void *p, size_t len, struct meta_rec *ret);

#endif
