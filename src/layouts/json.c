/* SPDX-License-Identifier: MIT */
/*
 * The reader is a pointer that moves forward; nothing is looked at twice. A
 * decoded string is never longer than its escaped form, so it is written over
 * it, and its NUL over the closing quote at the latest.
 */
#include "layouts/json.h"

#include <string.h>

void json_init(struct json *j, char *buf, size_t len, uint32_t values_max)
{
	*j = (struct json){ .p = buf, .end = buf + len, .left = values_max, .first = true };
}

static void space(struct json *j)
{
	while (j->p < j->end && (*j->p == ' ' || *j->p == '\t' || *j->p == '\n' || *j->p == '\r'))
		j->p++;
}

/* Steps over @c if it is next. */
static bool eat(struct json *j, char c)
{
	space(j);
	if (j->p == j->end || *j->p != c)
		return false;
	j->p++;
	return true;
}

/* Counts a value; called once for each. */
static bool spend(struct json *j)
{
	if (!j->left)
		return false;
	j->left--;
	return true;
}

static int enter(struct json *j, char c)
{
	if (!spend(j) || j->depth == JSON_DEPTH_MAX || !eat(j, c))
		return -KVFS_EFORMAT;
	j->depth++;
	j->first = true;
	return 0;
}

/* 1: another element follows; 0: closed. */
static int next(struct json *j, char close)
{
	bool first = j->first;

	j->first = false;
	if (eat(j, close)) {
		j->depth--;
		return 0;
	}
	if (!first && !eat(j, ','))
		return -KVFS_EFORMAT;
	return 1;
}

int json_object(struct json *j)
{
	return enter(j, '{');
}

int json_array(struct json *j)
{
	return enter(j, '[');
}

int json_item(struct json *j)
{
	return next(j, ']');
}

/* ---- strings ---- */

static int hex4(struct json *j, uint32_t *ret)
{
	uint32_t v = 0;

	if (j->end - j->p < 4)
		return -KVFS_EFORMAT;
	for (int i = 0; i < 4; i++, j->p++) {
		static const char digits[] = "0123456789abcdef0123456789ABCDEF";
		const char *d = *j->p ? strchr(digits, *j->p) : NULL;

		if (!d)
			return -KVFS_EFORMAT;
		v = v << 4 | ((uint32_t)(d - digits) & 15);
	}
	*ret = v;
	return 0;
}

static char *put_utf8(char *w, uint32_t c)
{
	if (c < 0x80) {
		*w++ = (char)c;
	} else if (c < 0x800) {
		*w++ = (char)(0xc0 | c >> 6);
		*w++ = (char)(0x80 | (c & 63));
	} else if (c < 0x10000) {
		*w++ = (char)(0xe0 | c >> 12);
		*w++ = (char)(0x80 | (c >> 6 & 63));
		*w++ = (char)(0x80 | (c & 63));
	} else {
		*w++ = (char)(0xf0 | c >> 18);
		*w++ = (char)(0x80 | (c >> 12 & 63));
		*w++ = (char)(0x80 | (c >> 6 & 63));
		*w++ = (char)(0x80 | (c & 63));
	}
	return w;
}

/* Behind "\u": one character, two escapes when it is a surrogate pair. */
static int unicode(struct json *j, char **w)
{
	uint32_t c, low;

	if (hex4(j, &c) || !c || (c >= 0xdc00 && c < 0xe000))
		return -KVFS_EFORMAT;
	if (c >= 0xd800 && c < 0xdc00) {
		if (j->end - j->p < 2 || j->p[0] != '\\' || j->p[1] != 'u')
			return -KVFS_EFORMAT;
		j->p += 2;
		if (hex4(j, &low) || low < 0xdc00 || low >= 0xe000)
			return -KVFS_EFORMAT;
		c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
	}
	*w = put_utf8(*w, c);
	return 0;
}

static int escape(struct json *j, char **w)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	const char *f;

	if (j->p == j->end)
		return -KVFS_EFORMAT;
	if (*j->p == 'u') {
		j->p++;
		return unicode(j, w);
	}
	f = *j->p ? strchr(from, *j->p) : NULL;
	if (!f)
		return -KVFS_EFORMAT;
	j->p++;
	*(*w)++ = to[f - from];
	return 0;
}

/* One character of two to four bytes, checked: shortest form, no surrogates. */
static int multibyte(struct json *j, char **w)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	uint8_t lead = (uint8_t)*j->p;
	int n = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
	uint32_t c = lead & (0x7fu >> n);

	if (lead < 0xc2 || lead > 0xf4 || j->end - j->p < n)
		return -KVFS_EFORMAT;
	for (int i = 1; i < n; i++) {
		uint8_t b = (uint8_t)j->p[i];

		if ((b & 0xc0) != 0x80)
			return -KVFS_EFORMAT;
		c = c << 6 | (b & 63);
	}
	if (c < least[n] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
		return -KVFS_EFORMAT;
	memmove(*w, j->p, (size_t)n);
	*w += n;
	j->p += n;
	return 0;
}

/* From the opening quote to behind the closing one. */
static int string(struct json *j, char **ret)
{
	char *w;
	int err = 0;

	if (!eat(j, '"'))
		return -KVFS_EFORMAT;
	*ret = w = j->p;
	while (!err && j->p < j->end) {
		uint8_t c = (uint8_t)*j->p;

		if (c == '"') {
			j->p++;
			*w = '\0';
			return 0;
		}
		if (c < 0x20)
			break;
		if (c == '\\') {
			j->p++;
			err = escape(j, &w);
		} else if (c >= 0x80) {
			err = multibyte(j, &w);
		} else {
			*w++ = *j->p++;
		}
	}
	return -KVFS_EFORMAT;
}

int json_string(struct json *j, char **ret)
{
	return spend(j) ? string(j, ret) : -KVFS_EFORMAT;
}

int json_key(struct json *j, char **ret_key)
{
	int more = next(j, '}');

	if (more != 1)
		return more;
	if (string(j, ret_key) || !eat(j, ':'))
		return -KVFS_EFORMAT;
	return 1;
}

bool json_at_string(struct json *j)
{
	space(j);
	return j->p < j->end && *j->p == '"';
}

/* ---- numbers ---- */

static bool digit(const struct json *j)
{
	return j->p < j->end && *j->p >= '0' && *j->p <= '9';
}

int json_u64(struct json *j, uint64_t *ret)
{
	uint64_t v = 0;
	bool zero;

	space(j);
	if (!spend(j) || !digit(j))
		return -KVFS_EFORMAT;
	zero = *j->p == '0';
	for (unsigned n = 0; digit(j); n++, j->p++) {
		if ((zero && n) || __builtin_mul_overflow(v, 10, &v) ||
		    __builtin_add_overflow(v, (uint64_t)(*j->p - '0'), &v))
			return -KVFS_EFORMAT;
	}
	if (j->p < j->end && (*j->p == '.' || *j->p == 'e' || *j->p == 'E'))
		return -KVFS_EFORMAT;
	*ret = v;
	return 0;
}

static int digits(struct json *j)
{
	if (!digit(j))
		return -KVFS_EFORMAT;
	while (digit(j))
		j->p++;
	return 0;
}

static int skip_number(struct json *j)
{
	int err = 0;

	if (*j->p == '-')
		j->p++;
	if (j->p < j->end && *j->p == '0')
		j->p++;
	else
		err = digits(j);
	if (!err && j->p < j->end && *j->p == '.') {
		j->p++;
		err = digits(j);
	}
	if (!err && j->p < j->end && (*j->p == 'e' || *j->p == 'E')) {
		j->p++;
		if (j->p < j->end && (*j->p == '+' || *j->p == '-'))
			j->p++;
		err = digits(j);
	}
	return err;
}

/* ---- any value ---- */

static int skip_word(struct json *j, const char *word)
{
	size_t len = strlen(word);

	if ((size_t)(j->end - j->p) < len || memcmp(j->p, word, len))
		return -KVFS_EFORMAT;
	j->p += len;
	return 0;
}

static int skip_scalar(struct json *j)
{
	char *s;

	if (!spend(j))
		return -KVFS_EFORMAT;
	switch (*j->p) {
	case '"':
		return string(j, &s);
	case 't':
		return skip_word(j, "true");
	case 'f':
		return skip_word(j, "false");
	case 'n':
		return skip_word(j, "null");
	default:
		return skip_number(j);
	}
}

/* Steps to the next value inside the containers opened since depth @base; 0
 * when all of them are closed. Bit d of @objects: level d is an object. */
static int skip_close(struct json *j, unsigned base, uint32_t objects)
{
	char *key;
	int more;

	while (j->depth > base) {
		more = objects >> j->depth & 1 ? json_key(j, &key) : json_item(j);
		if (more)
			return more;
	}
	return 0;
}

int json_skip(struct json *j)
{
	unsigned base = j->depth;
	uint32_t objects = 0;
	int err;

	do {
		space(j);
		if (j->p == j->end)
			return -KVFS_EFORMAT;
		if (*j->p == '{' || *j->p == '[') {
			bool object = *j->p == '{';

			err = enter(j, *j->p);
			objects &= ~(1u << j->depth);
			objects |= (uint32_t)object << j->depth;
		} else {
			err = skip_scalar(j);
		}
		if (!err)
			err = skip_close(j, base, objects);
	} while (err == 1);
	return err;
}

int json_end(struct json *j)
{
	space(j);
	return j->p == j->end && !j->depth ? 0 : -KVFS_EFORMAT;
}
