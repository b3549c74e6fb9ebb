/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_BASE_UNITS_H
#define KVCACHEFS_BASE_UNITS_H
/* Parsing of numbers with units, strict: the whole string must be consumed. */
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

/* "8G", "512MiB", "1.5T", "4096": binary units K M G T P, with optional "iB"
 * or "B", any case. -EINVAL malformed or negative, -ERANGE from 2^63. */
WUR int units_parse_bytes(const char *s, uint64_t *ret_bytes);
/* "250ms", "1.5s", "2m", "1h", "7d", "10" (seconds). -EINVAL, -ERANGE. */
WUR int units_parse_ns(const char *s, uint64_t *ret_ns);
/* Decimal or 0x integer within [min, max]. -EINVAL, -ERANGE. */
WUR int units_parse_u64(const char *s, uint64_t min, uint64_t max, uint64_t *ret);
/* Finite decimal number within [min, max]. -EINVAL, -ERANGE. */
WUR int units_parse_double(const char *s, double min, double max, double *ret);
/* yes/no, on/off, true/false, 1/0. -EINVAL. */
WUR int units_parse_bool(const char *s, bool *ret);

/* Overflow-checked sums and products of file-side values: false on overflow. */
static inline bool add_u64(uint64_t a, uint64_t b, uint64_t *ret)
{
	return !__builtin_add_overflow(a, b, ret);
}
static inline bool mul_u64(uint64_t a, uint64_t b, uint64_t *ret)
{
	return !__builtin_mul_overflow(a, b, ret);
}
static inline uint64_t round_up_u64(uint64_t x, uint64_t pow2)
{
	return (x + pow2 - 1) & ~(pow2 - 1);
}
static inline uint64_t round_down_u64(uint64_t x, uint64_t pow2)
{
	return x & ~(pow2 - 1);
}

#endif
