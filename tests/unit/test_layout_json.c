/* SPDX-License-Identifier: MIT */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "layouts/json.h"

/* A private copy in a heap block of exactly its length, for ASan. */
static int skip(const char *text, uint32_t values)
{
	size_t len = strlen(text);
	char *buf = malloc(len ? len : 1);
	struct json j;
	int err;

	memcpy(buf, text, len);
	json_init(&j, buf, len, values);
	err = json_skip(&j);
	if (!err)
		err = json_end(&j);
	free(buf);
	return err;
}

Test(json, accepts_what_is_json)
{
	static const char *const good[] = {
		"{}",
		"[]",
		" [ ] ",
		"0",
		"-0",
		"1.5e-7",
		"true",
		"null",
		"\"\"",
		"[1,2,[3,{}],{\"a\":[]}]",
		"{\"a\":{\"b\":{\"c\":[1,false,\"x\"]}},\"d\":-12.0E+3}",
		"\"\\u00e4\\ud83d\\ude00\\n\"",
		"\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\"",
	};

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		cr_expect_eq(skip(good[i], 100), 0, "%s", good[i]);
}

Test(json, refuses_what_is_not)
{
	static const char *const bad[] = {
		"",
		" ",
		"{",
		"}",
		"[",
		"[1",
		"[1,",
		"[1,]",
		"[,1]",
		"{\"a\"}",
		"{\"a\":}",
		"{\"a\":1,}",
		"{a:1}",
		"{\"a\":1 \"b\":2}",
		"01",
		"+1",
		".5",
		"1.",
		"1e",
		"--1",
		"tru",
		"nul",
		"\"",
		"\"\\",
		"\"\\x\"",
		"\"\\u12\"",
		"\"\\u0000\"",
		"\"\\ud800\"",
		"\"\\ud800\\u0041\"",
		"\"\\udc00\"",
		"\"\n\"",
		"\"\x80\"",
		"\"\xc0\x80\"",
		"\"\xe0\x80\x80\"",
		"\"\xed\xa0\x80\"",
		"\"\xf5\x80\x80\x80\"",
		"\"\xc3\"",
		"[1]x",
		"{}{}",
		"1 2",
		"[}",
		"{]",
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_expect_neq(skip(bad[i], 100), 0, "%s", bad[i]);
}

Test(json, depth_and_number_of_values_are_bounded)
{
	char deep[4096];

	for (int n = 1; n < 2000; n += n < 40 ? 1 : 97) {
		memset(deep, '[', (size_t)n);
		memset(deep + n, ']', (size_t)n);
		deep[2 * n] = '\0';
		cr_expect_eq(skip(deep, 100000) == 0, n <= JSON_DEPTH_MAX, "%d", n);
	}
	cr_expect_eq(skip("[1,2,3]", 4), 0);
	cr_expect_neq(skip("[1,2,3]", 3), 0);
}

Test(json, strings_are_decoded_in_place)
{
	char text[] = "{\"\\u0061\\\"b\" : \"\\ud83d\\ude00\"}";
	struct json j;
	char *s;

	json_init(&j, text, strlen(text), 10);
	cr_assert_eq(json_object(&j), 0);
	cr_assert_eq(json_key(&j, &s), 1);
	cr_assert_str_eq(s, "a\"b");
	cr_assert(json_at_string(&j));
	cr_assert_eq(json_string(&j, &s), 0);
	cr_assert_str_eq(s, "\xf0\x9f\x98\x80");
	cr_assert_eq(json_key(&j, &s), 0);
	cr_assert_eq(json_end(&j), 0);
}

Test(json, integers_are_whole_and_fit)
{
	static const struct {
		const char *text;
		int ok;
		uint64_t v;
	} t[] = {
		{ "0", 1, 0 },
		{ "18446744073709551615", 1, UINT64_MAX },
		{ "18446744073709551616", 0, 0 },
		{ "-1", 0, 0 },
		{ "1.0", 0, 0 },
		{ "1e3", 0, 0 },
		{ "007", 0, 0 },
		{ "x", 0, 0 },
		{ "", 0, 0 },
	};

	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		char buf[32];
		struct json j;
		uint64_t v = 1;

		strcpy(buf, t[i].text);
		json_init(&j, buf, strlen(buf), 10);
		cr_expect_eq(json_u64(&j, &v) == 0, t[i].ok, "%s", t[i].text);
		if (t[i].ok)
			cr_expect_eq(v, t[i].v);
	}
}
