/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_BASE_LE_H
#define KVCACHEFS_BASE_LE_H
/* Unaligned little-endian loads and stores. */
#include <endian.h>
#include <stdint.h>
#include <string.h>

#define KVFS_LE(bits)                                                   \
	static inline uint##bits##_t le##bits##_get(const void *p)      \
	{                                                               \
		uint##bits##_t v;                                       \
		memcpy(&v, p, sizeof(v));                               \
		return le##bits##toh(v);                                \
	}                                                               \
	static inline void le##bits##_put(void *p, uint##bits##_t v)    \
	{                                                               \
		v = htole##bits(v);                                     \
		memcpy(p, &v, sizeof(v));                               \
	}
KVFS_LE(16)
KVFS_LE(32)
KVFS_LE(64)
#undef KVFS_LE

#endif
