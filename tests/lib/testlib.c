/* SPDX-License-Identifier: MIT */
/* Test helpers; whatever fails here ends the test. */
#include "testlib.h"

#include <errno.h>
#include <ftw.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"

#ifdef TEST_ASAN
#include <sanitizer/lsan_interface.h>
#endif

#define TEST_FAULTS_MAX 100000

void test_fail(const char *file, int line, const char *what)
{
	fprintf(stderr, "%s:%d: failed: %s\n", file, line, what);
	fflush(NULL);
	_exit(1);
}

void test_fail_eq(const char *file, int line, const char *what, long long a, long long b)
{
	fprintf(stderr, "%s:%d: failed: %s (%lld and %lld; %s, %s)\n", file, line, what, a, b,
		err_name((int)a), err_name((int)b));
	fflush(NULL);
	_exit(1);
}

char *test_tmpdir_create(void)
{
	const char *base = getenv("TMPDIR");
	char *path = NULL;

	CHECK(asprintf(&path, "%s/kvcachefs-test-XXXXXX", base && *base ? base : "/tmp") > 0);
	CHECK(mkdtemp(path));
	return path;
}

static int test_remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

void test_tmpdir_remove(char *path)
{
	CHECK(path && strstr(path, "kvcachefs-test-"));
	(void)nftw(path, test_remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
	free(path);
}

uint64_t test_rand(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

void test_fill(void *p, size_t len, uint64_t seed)
{
	unsigned char *c = p;

	while (len) {
		uint64_t v = test_rand(&seed);
		size_t n = len < sizeof(v) ? len : sizeof(v);

		memcpy(c, &v, n);
		c += n;
		len -= n;
	}
}

int test_fault_loop(enum fault_kind k, int (*op)(void *arg), void *arg)
{
#ifndef KVFS_FAULTS
	(void)k, (void)op, (void)arg;
	return -1;
#else
	for (unsigned n = 1; n < TEST_FAULTS_MAX; n++) {
		bool hit;
		int rc;

		fault_arm(k, n, false);
		rc = op(arg);
		hit = fault_count(k) >= n;
		fault_arm(k, 0, false);
#ifdef TEST_ASAN
		if (__lsan_do_recoverable_leak_check())
			test_fail(__FILE__, __LINE__, "leak after an injected fault");
#endif
		if (hit)
			continue;
		CHECK_EQ(rc, 0);
		return (int)n - 1;
	}
	test_fail(__FILE__, __LINE__, "faults never ran out");
#endif
}

unsigned test_rounds(unsigned n)
{
#ifdef TEST_SANITIZED
	const unsigned part = 6;
#else
	const unsigned part = 3;
#endif
	return getenv("TEST_FULL") || n < part ? n : n / part;
}
