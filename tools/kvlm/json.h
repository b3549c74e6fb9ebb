/* SPDX-License-Identifier: MIT */
#ifndef KVLM_JSON_H
#define KVLM_JSON_H
/*
 * JSON one step at a time: just enough to read safetensors headers and task
 * files without building a tree, and to print results. No recursion deeper
 * than JSON_DEPTH. After a failure the reader stays failed.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define JSON_DEPTH 32

struct json {
	const char *p, *end;
	bool failed;
};

/* What comes next: one of { } [ ] : , " 0 (a number) a (a word) or 0 at the end. */
char kjson_peek(struct json *j);
/* Consumes the character, or fails. */
bool kjson_expect(struct json *j, char c);
/*
 * In an object or array whose opening was consumed: true when another member
 * follows (a comma is consumed where one must be), false after the closing
 * @close was consumed. @first is true for the first call and cleared.
 */
bool kjson_next(struct json *j, char close, bool *first);
/* A member's name and its colon. Result as kjson_string. */
bool kjson_key(struct json *j, char *out, size_t cap, size_t *ret_len);
/* A string, decoded to UTF-8 and NUL-terminated, cut to @cap - 1 bytes;
 * *ret_len (may be NULL) is its whole length. */
bool kjson_string(struct json *j, char *out, size_t cap, size_t *ret_len);
/* A string's raw bytes, without unescaping; fails if it contains an escape. */
bool kjson_raw_string(struct json *j, const char **ret, size_t *ret_len);
bool kjson_u64(struct json *j, uint64_t *ret);
bool kjson_double(struct json *j, double *ret);
bool kjson_skip(struct json *j);

/* Prints a string as JSON; bytes that are not UTF-8 as \u00xx. */
void kjson_print_str(FILE *f, const char *s, size_t len);

#endif
