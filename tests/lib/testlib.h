/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_TESTS_TESTLIB_H
#define KVCACHEFS_TESTS_TESTLIB_H
/*
 * Helpers of unit, conformance and stress tests. CHECK is for plain mains:
 * it prints the place and exits 1, from any thread. Criterion tests use cr_*.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/fault.h"

#define TEST_SKIP 77

/* TEST_SANITIZED: memory and times are not those of the program alone. */
#if defined(__SANITIZE_ADDRESS__)
#define TEST_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TEST_ASAN 1
#endif
#if __has_feature(thread_sanitizer)
#define TEST_SANITIZED 1
#endif
#endif
#if defined(TEST_ASAN) || defined(__SANITIZE_THREAD__)
#undef TEST_SANITIZED
#define TEST_SANITIZED 1
#endif

/* How many of @n random rounds a test makes: a third, a sixth under a sanitizer, all
 * of them with TEST_FULL in the environment. */
unsigned test_rounds(unsigned n);

#define CHECK(cond)                                           \
	do {                                                  \
		if (!(cond))                                  \
			test_fail(__FILE__, __LINE__, #cond); \
	} while (0)
/* Compares integers and prints both. */
#define CHECK_EQ(a, b)                                                                      \
	do {                                                                                \
		long long check_a_ = (long long)(a), check_b_ = (long long)(b);             \
		if (check_a_ != check_b_)                                                   \
			test_fail_eq(__FILE__, __LINE__, #a " == " #b, check_a_, check_b_); \
	} while (0)

_Noreturn void test_fail(const char *file, int line, const char *what);
_Noreturn void test_fail_eq(const char *file, int line, const char *what, long long a, long long b);

/* A fresh directory under $TMPDIR or /tmp; the path is freed by
 * test_tmpdir_remove, which removes everything below it. */
char *test_tmpdir_create(void);
void test_tmpdir_remove(char *path);

/* Deterministic random numbers (splitmix64); @state is the seed. */
uint64_t test_rand(uint64_t *state);
void test_fill(void *p, size_t len, uint64_t seed);

/*
 * Runs @op with the n-th call of @k failing, n = 1, 2, ..., until a run gets
 * through without meeting the fault; that run must return 0. A run in which the
 * fault hit may return an error or cope and return 0; @op undoes its work
 * itself either way. Returns the number of runs that met the fault; exits
 * through test_fail on a wrong result; -1 in builds without fault injection.
 * Under ASan every run is followed by a leak check.
 */
int test_fault_loop(enum fault_kind k, int (*op)(void *arg), void *arg);

#endif
