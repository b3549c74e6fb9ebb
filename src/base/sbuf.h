/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_BASE_SBUF_H
#define KVCACHEFS_BASE_SBUF_H
/*
 * Growing string for printers (x_dump, status, metrics). After an allocation
 * failure the buffer stays valid, further text is dropped and failed is set,
 * so printers need no error path of their own.
 */
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

struct sbuf {
	char *s; /* owned; always NUL-terminated unless NULL (empty) */
	size_t len, cap;
	bool failed;
};
#define SBUF_INIT { NULL, 0, 0, false }

void sbuf_fini(struct sbuf *b);
void sbuf_addf(struct sbuf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void sbuf_add(struct sbuf *b, const void *p, size_t len);
void sbuf_adds(struct sbuf *b, const char *s);
/* "1.50 GiB"; exact below 1 KiB ("512 B"). */
void sbuf_add_bytes(struct sbuf *b, unsigned long long bytes);
/* Text in double quotes, escaped for JSON (also fine for logs). */
void sbuf_add_json_str(struct sbuf *b, const char *s);
/* Gives the string to the caller (mem_free()); "" never NULL unless out of memory. */
char *sbuf_take(struct sbuf *b);

#endif
