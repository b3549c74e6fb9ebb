/* SPDX-License-Identifier: MIT */
#include "json.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static bool fail(struct json *j)
{
	j->failed = true;
	j->p = j->end;
	return false;
}

char kjson_peek(struct json *j)
{
	while (j->p < j->end && strchr(" \t\r\n", *j->p) && *j->p)
		j->p++;
	if (j->p == j->end)
		return 0;
	if (strchr("{}[]:,\"", *j->p))
		return *j->p ? *j->p : '?';
	if (*j->p == '-' || isdigit((unsigned char)*j->p))
		return '0';
	return isalpha((unsigned char)*j->p) ? 'a' : '?';
}

bool kjson_expect(struct json *j, char c)
{
	if (kjson_peek(j) != c)
		return fail(j);
	j->p++;
	return true;
}

bool kjson_next(struct json *j, char close, bool *first)
{
	char c = kjson_peek(j);

	if (j->failed)
		return false;
	if (c == close) {
		j->p++;
		return false;
	}
	if (*first) {
		*first = false;
		return c ? true : fail(j);
	}
	if (!kjson_expect(j, ','))
		return false;
	c = kjson_peek(j);
	return c && c != close ? true : fail(j);
}

static bool hex4(struct json *j, unsigned *ret)
{
	*ret = 0;
	if (j->end - j->p < 4)
		return fail(j);
	for (int i = 0; i < 4; i++) {
		unsigned char c = (unsigned char)*j->p++;

		if (!isxdigit(c))
			return fail(j);
		*ret = *ret * 16 + (unsigned)(isdigit(c) ? c - '0' : (c | 32) - 'a' + 10);
	}
	return true;
}

static size_t utf8(unsigned u, char *out)
{
	if (u < 0x80) {
		out[0] = (char)u;
		return 1;
	}
	if (u < 0x800) {
		out[0] = (char)(0xc0 | u >> 6);
		out[1] = (char)(0x80 | (u & 0x3f));
		return 2;
	}
	if (u < 0x10000) {
		out[0] = (char)(0xe0 | u >> 12);
		out[1] = (char)(0x80 | (u >> 6 & 0x3f));
		out[2] = (char)(0x80 | (u & 0x3f));
		return 3;
	}
	out[0] = (char)(0xf0 | u >> 18);
	out[1] = (char)(0x80 | (u >> 12 & 0x3f));
	out[2] = (char)(0x80 | (u >> 6 & 0x3f));
	out[3] = (char)(0x80 | (u & 0x3f));
	return 4;
}

/* After a backslash: the bytes it stands for. */
static bool escape(struct json *j, char *out, size_t *ret_len)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	const char *at;
	unsigned u, low;
	char c;

	if (j->p == j->end)
		return fail(j);
	c = *j->p++;
	at = c ? strchr(from, c) : NULL;
	if (at) {
		out[0] = to[at - from];
		*ret_len = 1;
		return true;
	}
	if (c != 'u' || !hex4(j, &u))
		return fail(j);
	if (u >= 0xd800 && u < 0xdc00) {
		if (j->end - j->p < 2 || j->p[0] != '\\' || j->p[1] != 'u')
			return fail(j);
		j->p += 2;
		if (!hex4(j, &low))
			return false;
		if (low < 0xdc00 || low > 0xdfff)
			return fail(j);
		u = 0x10000 + ((u - 0xd800) << 10) + (low - 0xdc00);
	} else if (u >= 0xdc00 && u < 0xe000) {
		return fail(j);
	}
	*ret_len = utf8(u, out);
	return true;
}

bool kjson_string(struct json *j, char *out, size_t cap, size_t *ret_len)
{
	size_t len = 0;

	if (!kjson_expect(j, '"'))
		return false;
	while (j->p < j->end && *j->p != '"') {
		char bytes[4];
		size_t n = 1;

		bytes[0] = *j->p++;
		if ((unsigned char)bytes[0] < 0x20)
			return fail(j);
		if (bytes[0] == '\\' && !escape(j, bytes, &n))
			return false;
		for (size_t i = 0; i < n; i++, len++)
			if (len + 1 < cap)
				out[len] = bytes[i];
	}
	if (j->p == j->end)
		return fail(j);
	j->p++;
	if (cap)
		out[len < cap ? len : cap - 1] = 0;
	if (ret_len)
		*ret_len = len;
	return true;
}

bool kjson_raw_string(struct json *j, const char **ret, size_t *ret_len)
{
	const char *q;

	if (!kjson_expect(j, '"'))
		return false;
	q = memchr(j->p, '"', (size_t)(j->end - j->p));
	if (!q || memchr(j->p, '\\', (size_t)(q - j->p)))
		return fail(j);
	*ret = j->p;
	*ret_len = (size_t)(q - j->p);
	j->p = q + 1;
	return true;
}

bool kjson_key(struct json *j, char *out, size_t cap, size_t *ret_len)
{
	return kjson_string(j, out, cap, ret_len) && kjson_expect(j, ':');
}

bool kjson_u64(struct json *j, uint64_t *ret)
{
	uint64_t u = 0;

	if (kjson_peek(j) != '0' || *j->p == '-')
		return fail(j);
	while (j->p < j->end && isdigit((unsigned char)*j->p))
		if (__builtin_mul_overflow(u, 10, &u) ||
		    __builtin_add_overflow(u, (uint64_t)(*j->p++ - '0'), &u))
			return fail(j);
	if (j->p < j->end && strchr(".eE", *j->p) && *j->p)
		return fail(j);
	*ret = u;
	return true;
}

bool kjson_double(struct json *j, double *ret)
{
	char text[64];
	size_t n = 0;
	char *end;

	if (kjson_peek(j) != '0')
		return fail(j);
	while (j->p < j->end && n + 1 < sizeof(text) &&
	       (isalnum((unsigned char)*j->p) || strchr("+-.", *j->p)) && *j->p)
		text[n++] = *j->p++;
	text[n] = 0;
	*ret = strtod(text, &end);
	return *end ? fail(j) : true;
}

static bool skip_word(struct json *j)
{
	static const char *const words[] = { "true", "false", "null" };

	for (size_t i = 0; i < 3; i++) {
		size_t n = strlen(words[i]);

		if ((size_t)(j->end - j->p) >= n && !memcmp(j->p, words[i], n)) {
			j->p += n;
			return true;
		}
	}
	return fail(j);
}

static bool skip(struct json *j, int depth)
{
	bool first = true;
	double d;
	char c = kjson_peek(j);

	if (depth > JSON_DEPTH)
		return fail(j);
	switch (c) {
	case '"':
		return kjson_string(j, NULL, 0, NULL);
	case '0':
		return kjson_double(j, &d);
	case 'a':
		return skip_word(j);
	case '{':
	case '[':
		j->p++;
		while (kjson_next(j, c == '{' ? '}' : ']', &first)) {
			if (c == '{' && !kjson_key(j, NULL, 0, NULL))
				return false;
			if (!skip(j, depth + 1))
				return false;
		}
		return !j->failed;
	default:
		return fail(j);
	}
}

bool kjson_skip(struct json *j)
{
	return skip(j, 0);
}

/* Length of a valid UTF-8 sequence at @s, 0 if none. */
static size_t utf8_len(const char *s, size_t len)
{
	unsigned char c = (unsigned char)s[0];
	size_t n = c < 0x80                ? 1
		   : c >= 0xc2 && c < 0xe0 ? 2
		   : c >= 0xe0 && c < 0xf0 ? 3
		   : c >= 0xf0 && c < 0xf5 ? 4
					   : 0;

	if (!n || n > len)
		return 0;
	for (size_t i = 1; i < n; i++)
		if (((unsigned char)s[i] & 0xc0) != 0x80)
			return 0;
	if ((c == 0xe0 && (unsigned char)s[1] < 0xa0) ||
	    (c == 0xed && (unsigned char)s[1] > 0x9f) ||
	    (c == 0xf0 && (unsigned char)s[1] < 0x90) || (c == 0xf4 && (unsigned char)s[1] > 0x8f))
		return 0;
	return n;
}

void kjson_print_str(FILE *f, const char *s, size_t len)
{
	fputc('"', f);
	for (size_t i = 0; i < len;) {
		size_t n = utf8_len(s + i, len - i);

		if (s[i] == '"' || s[i] == '\\')
			fprintf(f, "\\%c", s[i]);
		else if (!n || (unsigned char)s[i] < 0x20)
			fprintf(f, "\\u%04x", (unsigned char)s[i]);
		else
			fwrite(s + i, 1, n, f);
		i += n ? n : 1;
	}
	fputc('"', f);
}
