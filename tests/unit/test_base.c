/* SPDX-License-Identifier: MIT */
/* err, hash, le, list, elem, clock, budget, log: the small ones. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "base/budget.h"
#include "base/clock.h"
#include "base/elem.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/le.h"
#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"
#include "testlib.h"

Test(err, private_causes_map_to_errnos)
{
	cr_assert_eq(err_errno(-KVFS_ECHECKSUM), EIO);
	cr_assert_eq(err_errno(KVFS_EFULL), ENOSPC);
	cr_assert_eq(err_errno(-KVFS_EMAGIC), EUCLEAN);
	cr_assert_eq(err_errno(-ENOENT), ENOENT);
	cr_assert_eq(err_errno(0), 0);
	cr_assert_eq(err_errno(-KVFS_ERR_END_), EIO);
	cr_assert_eq(err_errno(INT_MIN), EIO);
	cr_assert_eq(err_errno(INT_MAX), EIO);
}

Test(err, every_code_has_text_and_name)
{
	cr_assert_str_eq(err_text(-KVFS_ECHECKSUM), "checksum mismatch");
	cr_assert_str_eq(err_name(KVFS_ELOST), "KVFS_ELOST");
	cr_assert_str_eq(err_name(-ENOENT), "ENOENT");
	cr_assert_str_eq(err_text(ENOENT), "No such file or directory");
	cr_assert_str_eq(err_name(INT_MIN), "?");
	cr_assert_str_eq(err_text(9999), "unknown error");
	for (int c = KVFS_ERR_BASE; c < KVFS_ERR_END_; c++) {
		cr_assert_eq(strncmp(err_name(c), "KVFS_E", 6), 0);
		cr_assert_neq(err_errno(c), 0);
	}
}

Test(hash, is_xxh3_and_takes_null)
{
	/* Written into objects: must never change. */
	cr_assert_eq(hash64("", 0, 0), 0x2d06800538d394c2ull);
	cr_assert_eq(hash64(NULL, 0, 0), hash64("x", 0, 0));
	cr_assert_eq(hash64("kvcachefs", 9, 0), hash64("kvcachefs", 9, 0));
	cr_assert_neq(hash64("kvcachefs", 9, 0), hash64("kvcachefs", 9, 1));
}

Test(le, round_trips_unaligned)
{
	unsigned char b[16] = { 0 };

	le64_put(b + 1, 0x0102030405060708ull);
	cr_assert_eq(b[1], 8);
	cr_assert_eq(b[8], 1);
	cr_assert_eq(le64_get(b + 1), 0x0102030405060708ull);
	cr_assert_eq(le32_get(b + 1), 0x05060708u);
	cr_assert_eq(le16_get(b + 1), 0x0708u);
}

Test(list, keeps_order_and_removing_twice_is_harmless)
{
	struct list h, a, b, c;
	struct list *want[] = { &a, &b, &c };
	int n = 0;

	list_init(&h);
	list_add_tail(&h, &b);
	list_add_tail(&h, &c);
	list_add_head(&h, &a);
	list_for_each (p, &h)
		cr_assert_eq(p, want[n++]);
	cr_assert_eq(n, 3);
	list_for_each_safe (p, tmp, &h)
		list_del(p);
	cr_assert(list_empty(&h));
	list_del(&a);
}

Test(elem, names_parse_back)
{
	for (unsigned e = 0; e < ELEM_TYPES_; e++)
		cr_assert_eq(elem_parse(elem_name(e)), (int)e);
	cr_assert_eq(elem_parse("BFloat16"), ELEM_BF16);
	cr_assert_eq(elem_parse("int4"), -1);
	cr_assert_eq(elem_parse(""), -1);
	cr_assert_str_eq(elem_name(ELEM_TYPES_), "?");
	cr_assert_str_eq(region_kind_name(REGION_V), "v");
	cr_assert_str_eq(region_kind_name(99), "?");
	cr_assert_eq(elem_bytes(ELEM_F32), 4);
	cr_assert_eq(elem_bytes(ELEM_BF16), 2);
	cr_assert_eq(elem_bytes(ELEM_F8E5M2), 1);
}

Test(clock, goes_forward)
{
	uint64_t a = clock_mono_ns(), b = clock_mono_ns();

	cr_assert(b >= a);
	cr_assert(clock_real_ns() > 1600000000ull * NSEC_PER_SEC);
	cr_assert(clock_thread_cpu_ns() < 3600 * NSEC_PER_SEC);
}

Test(budget, never_passes_its_limit)
{
	struct budget b;

	budget_init(&b, 100);
	cr_assert_eq(budget_take(&b, BUDGET_COPY, 60), 0);
	cr_assert_eq(budget_take(&b, BUDGET_BUFFER, 41), -KVFS_EBUDGET);
	cr_assert_eq(budget_take(&b, BUDGET_BUFFER, UINT64_MAX), -KVFS_EBUDGET);
	cr_assert_eq(budget_take(&b, BUDGET_BUFFER, 40), 0);
	cr_assert_eq(budget_free(&b), 0);
	cr_assert_eq(budget_take(&b, BUDGET_BUFFER, 0), 0);
	cr_assert_eq(budget_take(&b, BUDGET_BUFFER, 1), -KVFS_EBUDGET);
	cr_assert_eq(b.use_bytes[BUDGET_COPY], 60);
	budget_give(&b, BUDGET_COPY, 60);
	cr_assert_eq(budget_used(&b), 40);
	cr_assert_eq(b.peak_bytes, 100);
}

Test(budget, force_goes_over_and_a_lowered_limit_refuses)
{
	struct budget b;

	budget_init(&b, 10);
	budget_force(&b, BUDGET_TABLE, 30);
	cr_assert_eq(budget_used(&b), 30);
	cr_assert_eq(budget_free(&b), 0);
	cr_assert_eq(budget_take(&b, BUDGET_TABLE, 1), -KVFS_EBUDGET);
	budget_give(&b, BUDGET_TABLE, 25);
	cr_assert_eq(budget_take(&b, BUDGET_TABLE, 5), 0);
	b.limit_bytes = 1;
	cr_assert_eq(budget_limit(&b), 1);
	cr_assert_eq(budget_take(&b, BUDGET_TABLE, 1), -KVFS_EBUDGET);
	cr_assert_str_eq(budget_use_name(BUDGET_REPLICA), "replica");
	cr_assert_str_eq(budget_use_name(BUDGET_USES_), "?");
}

/* What a log writes to stderr, with @fmt_arg as "%s". */
static void log_capture(enum log_level max, enum log_level lvl, const char *arg, char *ret,
			size_t cap)
{
	int p[2], keep = dup(STDERR_FILENO);
	struct log *l = log_create("kvcachefs", max, false);
	ssize_t n;

	cr_assert_not_null(l);
	cr_assert_eq(pipe2(p, O_NONBLOCK), 0);
	dup2(p[1], STDERR_FILENO);
	log_at(l, lvl, "name %s end", arg);
	dup2(keep, STDERR_FILENO);
	n = read(p[0], ret, cap - 1);
	ret[n > 0 ? n : 0] = '\0';
	close(p[0]);
	close(p[1]);
	close(keep);
	log_destroy(l);
}

Test(log, one_line_however_hostile_the_name)
{
	static char longer[5000], out[8192];

	log_capture(LOG_LVL_INFO, LOG_LVL_WARN, "a\nkvcachefs: error: forged\x1b[2J", out,
		    sizeof(out));
	cr_assert_str_eq(out, "kvcachefs: warning: name a?kvcachefs: error: forged?[2J end\n");
	log_capture(LOG_LVL_INFO, LOG_LVL_DEBUG, "x", out, sizeof(out));
	cr_assert_str_eq(out, "");
	memset(longer, 'x', sizeof(longer) - 1);
	log_capture(LOG_LVL_INFO, LOG_LVL_ERROR, longer, out, sizeof(out));
	cr_assert(strlen(out) < 2048 + 1);
	cr_assert_eq(out[strlen(out) - 1], '\n');
	log_at(NULL, LOG_LVL_ERROR, "dropped");
	log_destroy(NULL);
}

Test(log, limit_lets_one_through_per_period)
{
	uint64_t s = 0;

	cr_assert(log_limited(&s, 3600 * NSEC_PER_SEC));
	cr_assert_not(log_limited(&s, 3600 * NSEC_PER_SEC));
	cr_assert(log_limited(&s, 0));
}

Test(mem, zero_lengths_and_overflow)
{
	char *p = mem_alloc(0);

	cr_assert_not_null(p);
	p = mem_realloc(p, 10);
	cr_assert_not_null(p);
	mem_free(p);
	cr_assert_null(mem_calloc(SIZE_MAX / 2, 3));
	cr_assert_null(mem_alloc_pages(SIZE_MAX));
	p = mem_calloc(0, 8);
	cr_assert_not_null(p);
	mem_free(p);
	mem_free(NULL);
	mem_free_pages(NULL, 1);
}

Test(mem, pages_are_aligned_and_writable)
{
	const size_t lens[] = { 0, 1, 4096, 4097, 3u << 20 };

	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		char *p = mem_alloc_pages(lens[i]);

		cr_assert_not_null(p);
		cr_assert_eq((uintptr_t)p % KVFS_PAGE, 0);
		memset(p, 1, lens[i]);
		mem_free_pages(p, lens[i]);
	}
}
