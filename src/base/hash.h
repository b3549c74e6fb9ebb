/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_BASE_HASH_H
#define KVCACHEFS_BASE_HASH_H
/* XXH3 (libxxhash), the one checksum of the store. Pure, thread-safe. */
#include <stddef.h>
#include <stdint.h>

/* XXH3_64bits of @len bytes with @seed; @p may be NULL when @len is 0. */
uint64_t hash64(const void *p, size_t len, uint64_t seed);
/* A cheap mix for hash tables of integers. */
static inline uint64_t hash_u64(uint64_t x)
{
	x ^= x >> 33;
	x *= 0xff51afd7ed558ccdull;
	x ^= x >> 33;
	x *= 0xc4ceb9fe1a85ec53ull;
	x ^= x >> 33;
	return x;
}

#endif
