/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_TESTS_STRESS_STORE_H
#define KVCACHEFS_TESTS_STRESS_STORE_H
/* A store without a kernel beside it; where there can be none the test is skipped. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/sbuf.h"
#include "store/store.h"
#include "testlib.h"

static inline struct store *stress_store(const struct store_config *cfg)
{
	struct sbuf why = SBUF_INIT;
	struct store *st;
	int r = store_open(cfg, &st, &why);

	if (r == -EOPNOTSUPP) {
		fprintf(stderr, "SKIP: %s\n", why.s ? why.s : "");
		exit(TEST_SKIP);
	}
	CHECK_EQ(r, 0);
	sbuf_fini(&why);
	CHECK_EQ(store_start(st, NULL, NULL, 0), 0);
	return st;
}

#endif
