/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_LAYOUTS_JSON_H
#define KVCACHEFS_LAYOUTS_JSON_H
/*
 * A strict pull reader of JSON (RFC 8259) for hostile headers. It allocates
 * nothing: strings are decoded in place, so a buffer is read once. Depth and
 * number of values are bounded. All functions return 0 (or 1 where said) or
 * -KVFS_EFORMAT; after a failure the reader is of no further use.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define JSON_DEPTH_MAX 16

struct json {
	char *p, *end; /* borrowed, overwritten */
	uint32_t left; /* values still allowed */
	unsigned depth;
	bool first; /* nothing read yet of the innermost object or array */
};

void json_init(struct json *j, char *buf, size_t len, uint32_t values_max);
/* Enters an object. Then json_key until it returns 0. */
WUR int json_object(struct json *j);
/* 1: key decoded, its value follows and must be read or skipped; 0: the object
 * is closed. Keys may repeat: finding that out is up to the caller. */
WUR int json_key(struct json *j, char **ret_key);
/* Enters an array. Then json_item until it returns 0. */
WUR int json_array(struct json *j);
/* 1: a value follows; 0: the array is closed. */
WUR int json_item(struct json *j);
/* NUL-terminated valid UTF-8 without NUL inside, in the buffer. */
WUR int json_string(struct json *j, char **ret);
/* An integer without sign, fraction or exponent. */
WUR int json_u64(struct json *j, uint64_t *ret);
/* Any value. */
WUR int json_skip(struct json *j);
/* Is the next value a string? */
bool json_at_string(struct json *j);
/* Nothing but white space is left. */
WUR int json_end(struct json *j);

#endif
