/* SPDX-License-Identifier: MIT */
/*
 * Strict parsers. Decimal numbers are read digit by digit and not by strtod,
 * because its decimal point follows the locale that ncurses programs set.
 */
#include "base/units.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

/* whole + frac / scale, scale a power of ten up to 10^18. */
struct units_decimal {
	uint64_t whole, frac, scale;
};

/* Reads DIGITS[.DIGITS] and sets *end behind it. */
static int units_decimal(const char *s, struct units_decimal *ret, const char **ret_end)
{
	struct units_decimal d = { 0, 0, 1 };

	if (!isdigit((unsigned char)*s))
		return -EINVAL;
	for (; isdigit((unsigned char)*s); s++)
		if (!mul_u64(d.whole, 10, &d.whole) ||
		    !add_u64(d.whole, (uint64_t)(*s - '0'), &d.whole))
			return -ERANGE;
	if (*s == '.') {
		if (!isdigit((unsigned char)*++s))
			return -EINVAL;
		for (; isdigit((unsigned char)*s); s++) {
			if (d.scale == 1000000000000000000ull)
				continue; /* below any resolution we have */
			d.frac = d.frac * 10 + (uint64_t)(*s - '0');
			d.scale *= 10;
		}
	}
	*ret = d;
	*ret_end = s;
	return 0;
}

/* d * unit, rounded down; -ERANGE from 2^63. */
static int units_scale(const struct units_decimal *d, uint64_t unit, uint64_t *ret)
{
	unsigned __int128 v = (unsigned __int128)d->whole * unit +
			      (unsigned __int128)d->frac * unit / d->scale;

	if (v > INT64_MAX)
		return -ERANGE;
	*ret = (uint64_t)v;
	return 0;
}

int units_parse_bytes(const char *s, uint64_t *ret_bytes)
{
	static const char letters[] = "kmgtp";
	struct units_decimal d;
	uint64_t unit = 1;
	const char *at, *end;
	int rc = units_decimal(s, &d, &end);

	if (rc)
		return rc;
	at = *end ? strchr(letters, tolower((unsigned char)*end)) : NULL;
	if (at) {
		unit <<= 10 * (unsigned)(at - letters + 1);
		end++;
		if (!strcasecmp(end, "ib"))
			end += 2;
	} else if (d.scale != 1) {
		return -EINVAL; /* half a byte */
	}
	if (!strcasecmp(end, "b"))
		end++;
	if (*end)
		return -EINVAL;
	return units_scale(&d, unit, ret_bytes);
}

int units_parse_ns(const char *s, uint64_t *ret_ns)
{
	static const struct {
		const char *name;
		uint64_t ns;
	} units[] = {
		{ "", 1000000000ull },
		{ "ns", 1 },
		{ "us", 1000 },
		{ "ms", 1000000 },
		{ "s", 1000000000ull },
		{ "m", 60 * 1000000000ull },
		{ "min", 60 * 1000000000ull },
		{ "h", 3600 * 1000000000ull },
		{ "d", 86400 * 1000000000ull },
	};
	struct units_decimal d;
	const char *end;
	int rc = units_decimal(s, &d, &end);

	if (rc)
		return rc;
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		if (!strcmp(end, units[i].name))
			return units_scale(&d, units[i].ns, ret_ns);
	return -EINVAL;
}

static int units_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)tolower((unsigned char)c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : 99;
}

int units_parse_u64(const char *s, uint64_t min, uint64_t max, uint64_t *ret)
{
	uint64_t v = 0, base = 10;
	bool over = false;

	if (s[0] == '0' && (s[1] == 'x' || s[1] == 'X')) {
		base = 16;
		s += 2;
	}
	if (!*s)
		return -EINVAL;
	for (; *s; s++) {
		int digit = units_digit(*s);

		if (digit >= (int)base)
			return -EINVAL;
		over = over || !mul_u64(v, base, &v) || !add_u64(v, (uint64_t)digit, &v);
	}
	if (over || v < min || v > max)
		return -ERANGE;
	*ret = v;
	return 0;
}

/* Reads e[+-]DIGITS, if there, into *ret_exp (clamped to +-1000). */
static int units_exponent(const char **s, int *ret_exp)
{
	bool neg;
	int e = 0;

	*ret_exp = 0;
	if (**s != 'e' && **s != 'E')
		return 0;
	++*s;
	neg = **s == '-';
	if (**s == '-' || **s == '+')
		++*s;
	if (!isdigit((unsigned char)**s))
		return -EINVAL;
	for (; isdigit((unsigned char)**s); ++*s)
		e = e < 1000 ? e * 10 + (**s - '0') : 1000;
	*ret_exp = neg ? -e : e;
	return 0;
}

int units_parse_double(const char *s, double min, double max, double *ret)
{
	struct units_decimal d;
	bool neg = *s == '-';
	const char *end;
	long double v;
	int exp, rc;

	if (*s == '-' || *s == '+')
		s++;
	rc = units_decimal(s, &d, &end);
	if (rc)
		return rc;
	rc = units_exponent(&end, &exp);
	if (rc || *end)
		return -EINVAL;
	v = (long double)d.whole + (long double)d.frac / (long double)d.scale;
	for (; exp > 0 && v < 1e400L && v > 0; exp--)
		v *= 10;
	for (; exp < 0 && v > 1e-400L; exp++)
		v /= 10;
	if (neg)
		v = -v;
	if (!isfinite((double)v) || (double)v < min || (double)v > max)
		return -ERANGE;
	*ret = (double)v;
	return 0;
}

int units_parse_bool(const char *s, bool *ret)
{
	static const char *const words[][2] = {
		{ "no", "yes" },
		{ "off", "on" },
		{ "false", "true" },
		{ "0", "1" },
	};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		for (int on = 0; on < 2; on++)
			if (!strcasecmp(s, words[i][on])) {
				*ret = on;
				return 0;
			}
	return -EINVAL;
}
