/* SPDX-License-Identifier: MIT */
/*
 * A growing string. Doubles; after a failed growth it keeps what it has, sets
 * failed and drops all further text, so a cut in the middle never looks whole.
 */
#include "base/sbuf.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

void sbuf_fini(struct sbuf *b)
{
	mem_free(b->s);
	*b = (struct sbuf)SBUF_INIT;
}

/* Room for @more characters and the NUL. */
static bool sbuf_room(struct sbuf *b, size_t more)
{
	size_t cap = b->cap ? b->cap : 64;
	char *s;

	if (b->failed)
		return false;
	if (more < b->cap - b->len) /* also false for an empty buffer: 0 - 0 */
		return true;
	if (more > SIZE_MAX / 4 - b->len)
		goto err;
	while (cap - b->len <= more)
		cap *= 2;
	s = mem_realloc(b->s, cap);
	if (!s)
		goto err;
	b->s = s;
	b->cap = cap;
	b->s[b->len] = '\0';
	return true;
err:
	b->failed = true;
	return false;
}

void sbuf_add(struct sbuf *b, const void *p, size_t len)
{
	if (!len || !sbuf_room(b, len))
		return;
	memcpy(b->s + b->len, p, len);
	b->len += len;
	b->s[b->len] = '\0';
}

void sbuf_adds(struct sbuf *b, const char *s)
{
	sbuf_add(b, s, strlen(s));
}

void sbuf_addf(struct sbuf *b, const char *fmt, ...)
{
	va_list ap, ap2;
	int n;

	va_start(ap, fmt);
	va_copy(ap2, ap);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n > 0 && sbuf_room(b, (size_t)n)) {
		vsnprintf(b->s + b->len, (size_t)n + 1, fmt, ap2);
		b->len += (size_t)n;
	}
	va_end(ap2);
}

void sbuf_add_bytes(struct sbuf *b, unsigned long long bytes)
{
	static const char *const unit[] = { "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	double v = (double)bytes / 1024;
	size_t u = 0;

	if (bytes < 1024) {
		sbuf_addf(b, "%llu B", bytes);
		return;
	}
	/* 1023.995 would print as 1024.00 */
	while (v >= 1023.995 && u + 1 < sizeof(unit) / sizeof(unit[0])) {
		v /= 1024;
		u++;
	}
	sbuf_addf(b, "%.2f %s", v, unit[u]);
}

/* Length of the valid UTF-8 sequence at @s (NUL-terminated), 0 when invalid. */
static size_t sbuf_utf8_len(const unsigned char *s)
{
	uint32_t c;
	size_t n;

	if (s[0] < 0x80)
		return 1;
	if (s[0] >= 0xc2 && s[0] <= 0xdf)
		n = 2, c = s[0] & 0x1f;
	else if ((s[0] & 0xf0) == 0xe0)
		n = 3, c = s[0] & 0x0f;
	else if (s[0] >= 0xf0 && s[0] <= 0xf4)
		n = 4, c = s[0] & 0x07;
	else
		return 0;
	for (size_t i = 1; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (s[i] & 0x3f);
	}
	if ((n == 3 && c < 0x800) || (n == 4 && c < 0x10000) || c > 0x10ffff ||
	    (c >= 0xd800 && c <= 0xdfff))
		return 0;
	return n;
}

/* File names are any bytes but JSON is UTF-8: a byte that is not is written as
 * the character of the same number. */
void sbuf_add_json_str(struct sbuf *b, const char *s)
{
	const unsigned char *p = (const unsigned char *)s;

	sbuf_add(b, "\"", 1);
	while (*p) {
		size_t n = sbuf_utf8_len(p);

		if (*p == '"' || *p == '\\')
			sbuf_addf(b, "\\%c", *p);
		else if (*p == '\n')
			sbuf_adds(b, "\\n");
		else if (*p == '\t')
			sbuf_adds(b, "\\t");
		else if (*p < 0x20 || *p == 0x7f || n == 0)
			sbuf_addf(b, "\\u%04x", *p);
		else
			sbuf_add(b, p, n);
		p += n ? n : 1;
	}
	sbuf_add(b, "\"", 1);
}

char *sbuf_take(struct sbuf *b)
{
	char *s = b->s ? b->s : mem_strdup("");

	*b = (struct sbuf)SBUF_INIT;
	return s;
}
