/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEBENCH_PLACEMENT_KIVI_H
#define KVCACHEBENCH_PLACEMENT_KIVI_H
/*
 * What a client that quantises by itself stores: KIVI's codes, really packed. K has
 * a range (minimum and step, f16 both) per channel and 32 tokens, V per token and 32
 * channels, codes of 2, 4 or 8 bits, as kvlm's "kivi:B"; everything else of the file is
 * kept as it is. Unpacked, a file has the bytes that "kvlm quant --method kivi:B"
 * writes.
 */
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* Room that packing @len bytes can need. */
size_t kivi_bound(size_t len);
/* A cache file of llama's format with bf16 rows of a multiple of 32 * 8 / @bits elements.
 * -EBADMSG, -EOPNOTSUPP (others), -ENOMEM. */
WUR int kivi_pack(const void *file, size_t len, unsigned bits, void *out, size_t *ret_len);
/* The length unpacked; -EBADMSG: not such a file. */
WUR int kivi_length(const void *packed, size_t len, size_t *ret_len);
/* @out has room for kivi_length. Checks every length. */
WUR int kivi_unpack(const void *packed, size_t len, void *out, size_t cap);

/* The same while it is being read: a thread of its own unpacks what has arrived, and who reads
 * helps when all is there. */
struct kivi_reading;
/* @packed: where it will arrive. -ENOMEM; else it is to be ended. */
WUR int kivi_begin(const void *packed, void *out, size_t cap, struct kivi_reading **ret);
/* So much of it is there. */
void kivi_arrived(struct kivi_reading *k, size_t len);
/* That is all: unpacked when it returns, to *ret_len bytes; frees. */
WUR int kivi_end(struct kivi_reading *k, size_t len, size_t *ret_len);

#endif
