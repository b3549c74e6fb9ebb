/* SPDX-License-Identifier: MIT */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "base/sbuf.h"
#include "testlib.h"

static void expect_bytes(unsigned long long n, const char *want)
{
	struct sbuf b = SBUF_INIT;

	sbuf_add_bytes(&b, n);
	cr_assert_str_eq(b.s, want);
	sbuf_fini(&b);
}

static void expect_json(const char *in, const char *want)
{
	struct sbuf b = SBUF_INIT;

	sbuf_add_json_str(&b, in);
	cr_assert_str_eq(b.s, want);
	sbuf_fini(&b);
}

Test(sbuf, grows_and_stays_terminated)
{
	struct sbuf b = SBUF_INIT;

	sbuf_add(&b, "x", 0);
	cr_assert_null(b.s);
	for (int i = 0; i < 1000; i++) {
		sbuf_addf(&b, "%d,", i);
		cr_assert_eq(strlen(b.s), b.len);
	}
	sbuf_add(&b, "a\0b", 3);
	cr_assert_eq(b.s[b.len], '\0');
	cr_assert_eq(b.s[b.len - 1], 'b');
	/* exactly the capacity */
	while (b.len + 1 < b.cap)
		sbuf_adds(&b, "y");
	sbuf_adds(&b, "z");
	cr_assert_eq(b.s[b.len - 1], 'z');
	cr_assert_not(b.failed);
	sbuf_fini(&b);
}

Test(sbuf, sizes_for_people)
{
	expect_bytes(0, "0 B");
	expect_bytes(1023, "1023 B");
	expect_bytes(1024, "1.00 KiB");
	expect_bytes(1610612736, "1.50 GiB");
	expect_bytes(1048575, "1.00 MiB");
	expect_bytes(~0ull, "16.00 EiB");
}

Test(sbuf, json_strings_are_valid_for_any_bytes)
{
	expect_json("a\"b\\c\n\t\x01", "\"a\\\"b\\\\c\\n\\t\\u0001\"");
	expect_json("gr\xc3\xbc\xc3\x9f", "\"gr\xc3\xbc\xc3\x9f\"");
	expect_json("\xf0\x9f\x98\x80", "\"\xf0\x9f\x98\x80\"");
	expect_json("\xff", "\"\\u00ff\"");
	expect_json("\xc3", "\"\\u00c3\"");
	expect_json("\xc0\xaf", "\"\\u00c0\\u00af\"");            /* overlong */
	expect_json("\xed\xa0\x80", "\"\\u00ed\\u00a0\\u0080\""); /* surrogate */
	expect_json("\xf4\x90\x80\x80", "\"\\u00f4\\u0090\\u0080\\u0080\"");
	expect_json("", "\"\"");
}

Test(sbuf, take_gives_an_owned_string)
{
	struct sbuf b = SBUF_INIT;
	char *s = sbuf_take(&b);

	cr_assert_str_eq(s, "");
	mem_free(s);
	sbuf_adds(&b, "text");
	s = sbuf_take(&b);
	cr_assert_str_eq(s, "text");
	cr_assert_null(b.s);
	mem_free(s);
}

static int print_much(void *arg)
{
	struct sbuf b = SBUF_INIT;
	int rc;

	for (int i = 0; i < 200; i++) {
		size_t len = b.len;
		bool failed = b.failed;

		sbuf_addf(&b, "line %d\n", i);
		/* nothing follows a gap */
		cr_assert(!failed || b.len == len);
		cr_assert(!b.s || strlen(b.s) == b.len);
	}
	rc = b.failed ? -ENOMEM : 0;
	sbuf_fini(&b);
	return rc;
}

Test(sbuf, out_of_memory_at_every_step)
{
	int n = test_fault_loop(FAULT_ALLOC, print_much, NULL);

	if (n < 0)
		cr_skip_test("no fault injection in this build");
	cr_assert_gt(n, 3);
}
