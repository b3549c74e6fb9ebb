/* SPDX-License-Identifier: MIT */
#include <criterion/criterion.h>
#include <errno.h>
#include <locale.h>

#include "base/units.h"

#define KIB 1024ull

static const struct {
	const char *s;
	int rc;
	uint64_t v;
} bytes[] = {
	{ "4096", 0, 4096 },
	{ "0", 0, 0 },
	{ "8G", 0, 8 * KIB *KIB *KIB },
	{ "512MiB", 0, 512 * KIB *KIB },
	{ "512mb", 0, 512 * KIB *KIB },
	{ "1.5T", 0, 1536 * KIB *KIB *KIB },
	{ "1.5k", 0, 1536 },
	{ "0.0001K", 0, 0 },
	{ "7B", 0, 7 },
	{ "0.3333333333333333333333333K", 0, 341 },
	{ "8191P", 0, 8191 * KIB *KIB *KIB *KIB *KIB },
	{ "8192P", -ERANGE, 0 },
	{ "9223372036854775807", 0, INT64_MAX },
	{ "9223372036854775808", -ERANGE, 0 },
	{ "99999999999999999999999", -ERANGE, 0 },
	{ "18446744073709551615P", -ERANGE, 0 },
	{ "", -EINVAL, 0 },
	{ "-1", -EINVAL, 0 },
	{ "+1", -EINVAL, 0 },
	{ " 1", -EINVAL, 0 },
	{ "1 ", -EINVAL, 0 },
	{ "1.5", -EINVAL, 0 },
	{ "1.", -EINVAL, 0 },
	{ ".5G", -EINVAL, 0 },
	{ "1.G", -EINVAL, 0 },
	{ "G", -EINVAL, 0 },
	{ "1E", -EINVAL, 0 },
	{ "1Gi", -EINVAL, 0 },
	{ "1iB", -EINVAL, 0 },
	{ "1GBB", -EINVAL, 0 },
	{ "0x10", -EINVAL, 0 },
	{ "1,5G", -EINVAL, 0 },
};

Test(units, bytes)
{
	for (size_t i = 0; i < sizeof(bytes) / sizeof(bytes[0]); i++) {
		uint64_t v = 77;
		int rc = units_parse_bytes(bytes[i].s, &v);

		cr_assert_eq(rc, bytes[i].rc, "\"%s\": rc %d", bytes[i].s, rc);
		cr_assert_eq(v, rc ? 77 : bytes[i].v, "\"%s\": %llu", bytes[i].s,
			     (unsigned long long)v);
	}
}

Test(units, nanoseconds)
{
	uint64_t v = 0;

	cr_assert_eq(units_parse_ns("250ms", &v), 0);
	cr_assert_eq(v, 250000000);
	cr_assert_eq(units_parse_ns("1.5s", &v), 0);
	cr_assert_eq(v, 1500000000);
	cr_assert_eq(units_parse_ns("2m", &v), 0);
	cr_assert_eq(v, 120000000000ull);
	cr_assert_eq(units_parse_ns("1h", &v), 0);
	cr_assert_eq(v, 3600000000000ull);
	cr_assert_eq(units_parse_ns("10", &v), 0);
	cr_assert_eq(v, 10000000000ull);
	cr_assert_eq(units_parse_ns("1y", &v), -EINVAL);
	cr_assert_eq(units_parse_ns("-1s", &v), -EINVAL);
	cr_assert_eq(units_parse_ns("1s ", &v), -EINVAL);
	cr_assert_eq(units_parse_ns("10000000000", &v), -ERANGE);
	cr_assert_eq(units_parse_ns("3000000h", &v), -ERANGE);
}

Test(units, integers)
{
	uint64_t v = 0;

	cr_assert_eq(units_parse_u64("18446744073709551615", 0, UINT64_MAX, &v), 0);
	cr_assert_eq(v, UINT64_MAX);
	cr_assert_eq(units_parse_u64("18446744073709551616", 0, UINT64_MAX, &v), -ERANGE);
	cr_assert_eq(units_parse_u64("0xFf", 0, 255, &v), 0);
	cr_assert_eq(v, 255);
	cr_assert_eq(units_parse_u64("256", 0, 255, &v), -ERANGE);
	cr_assert_eq(units_parse_u64("3", 4, 255, &v), -ERANGE);
	cr_assert_eq(units_parse_u64("", 0, 255, &v), -EINVAL);
	cr_assert_eq(units_parse_u64("0x", 0, 255, &v), -EINVAL);
	cr_assert_eq(units_parse_u64("-1", 0, 255, &v), -EINVAL);
	cr_assert_eq(units_parse_u64("1f", 0, 255, &v), -EINVAL);
	/* malformed wins over too large */
	cr_assert_eq(units_parse_u64("99999999999999999999x", 0, 255, &v), -EINVAL);
}

Test(units, doubles_whatever_the_locale)
{
	double v = 0;

	(void)setlocale(LC_ALL, "de_DE.UTF-8"); /* where it is installed */
	cr_assert_eq(units_parse_double("0.95", 0, 1, &v), 0);
	cr_assert_float_eq(v, 0.95, 0);
	cr_assert_eq(units_parse_double("-1.25e2", -1000, 1, &v), 0);
	cr_assert_float_eq(v, -125, 0);
	cr_assert_eq(units_parse_double("5e-1", 0, 1, &v), 0);
	cr_assert_float_eq(v, 0.5, 0);
	cr_assert_eq(units_parse_double("1.01", 0, 1, &v), -ERANGE);
	cr_assert_eq(units_parse_double("1e999999999999", 0, 1e308, &v), -ERANGE);
	cr_assert_eq(units_parse_double("0e999", 0, 1, &v), 0);
	cr_assert_eq(units_parse_double("1e-999", 0, 1, &v), 0);
	cr_assert_eq(units_parse_double("nan", 0, 1, &v), -EINVAL);
	cr_assert_eq(units_parse_double("inf", 0, 1, &v), -EINVAL);
	cr_assert_eq(units_parse_double("0,5", 0, 1, &v), -EINVAL);
	cr_assert_eq(units_parse_double("", 0, 1, &v), -EINVAL);
	cr_assert_eq(units_parse_double("1e", 0, 1, &v), -EINVAL);
	cr_assert_eq(units_parse_double("--1", -5, 1, &v), -EINVAL);
}

Test(units, bools)
{
	bool v = false;

	cr_assert_eq(units_parse_bool("YES", &v), 0);
	cr_assert(v);
	cr_assert_eq(units_parse_bool("off", &v), 0);
	cr_assert_not(v);
	cr_assert_eq(units_parse_bool("1", &v), 0);
	cr_assert(v);
	cr_assert_eq(units_parse_bool("maybe", &v), -EINVAL);
	cr_assert_eq(units_parse_bool("", &v), -EINVAL);
}

Test(units, checked_arithmetic)
{
	uint64_t v = 0;

	cr_assert(add_u64(1, 2, &v) && v == 3);
	cr_assert_not(add_u64(UINT64_MAX, 1, &v));
	cr_assert(mul_u64(3, 5, &v) && v == 15);
	cr_assert_not(mul_u64(1ull << 33, 1ull << 33, &v));
	cr_assert_eq(round_up_u64(4097, 4096), 8192);
	cr_assert_eq(round_down_u64(4097, 4096), 4096);
}
