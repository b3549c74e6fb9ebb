/* SPDX-License-Identifier: MIT */
/*
 * The only file that knows that the checksum comes from libxxhash. A library for
 * all x86-64 is built for SSE2; with its dispatching entry points (same results) it
 * uses what the CPU has, which is several times faster.
 */
#include "base/hash.h"

#if KVFS_XXH_DISPATCH
#include <xxh_x86dispatch.h>
#else
#include <xxhash.h>
#endif

uint64_t hash64(const void *p, size_t len, uint64_t seed)
{
	return XXH3_64bits_withSeed(len ? p : "", len, seed);
}
