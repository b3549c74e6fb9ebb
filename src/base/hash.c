/* SPDX-License-Identifier: MIT */
/* The only file that knows that the checksum comes from libxxhash. */
#include "base/hash.h"

#include <xxhash.h>

uint64_t hash64(const void *p, size_t len, uint64_t seed)
{
	return XXH3_64bits_withSeed(len ? p : "", len, seed);
}
