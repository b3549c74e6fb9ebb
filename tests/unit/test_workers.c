/* SPDX-License-Identifier: MIT */
/* The serial twin: order and counts are exact. Threads: tests/stress/workers.c */
#include <criterion/criterion.h>
#include <errno.h>

#include "base/workers.h"
#include "testlib.h"

struct item {
	struct work work;
	char name;
	struct workers *pool;
	struct item *then; /* submitted by run */
};

static char order[32];
static size_t order_n;

static void run(struct work *w)
{
	struct item *i = container_of(w, struct item, work);

	order[order_n++] = i->name;
	if (i->then)
		workers_submit(i->pool, WORK_READ, &i->then->work);
}

Test(workers, serial_twin_runs_readers_first_in_order)
{
	struct workers *p;
	struct item a = { { .run = run }, 'a', NULL, NULL },
		    b = { { .run = run }, 'b', NULL, NULL };
	struct item r = { { .run = run }, 'r', NULL, NULL },
		    s = { { .run = run }, 's', NULL, NULL };

	cr_assert_eq(workers_create("t", 0, 1, &p), 0);
	cr_assert_eq(workers_threads(p), 0);
	workers_submit(p, WORK_BACKGROUND, &a.work);
	workers_submit(p, WORK_READ, &r.work);
	workers_submit(p, WORK_BACKGROUND, &b.work);
	workers_submit(p, WORK_READ, &s.work);
	cr_assert_eq(order_n, 0, "submit must not run anything");
	cr_assert_eq(workers_readers(p), 2);
	cr_assert(workers_run_one(p, false));
	cr_assert(workers_run_one(p, false));
	cr_assert_not(workers_run_one(p, false), "background only when asked");
	cr_assert_eq(workers_readers(p), 0);
	workers_drain(p);
	cr_assert_str_eq(order, "rsab");
	cr_assert_not(workers_run_one(p, true));
	workers_destroy(p);
}

Test(workers, cancel_takes_back_only_what_is_queued)
{
	struct workers *p;
	struct item a = { { .run = run }, 'a', NULL, NULL },
		    r = { { .run = run }, 'r', NULL, NULL };

	cr_assert_eq(workers_create("t", 0, 1, &p), 0);
	cr_assert_not(workers_cancel(p, &a.work), "never submitted");
	workers_submit(p, WORK_READ, &r.work);
	workers_submit(p, WORK_BACKGROUND, &a.work);
	cr_assert(workers_cancel(p, &r.work));
	cr_assert_eq(workers_readers(p), 0);
	cr_assert_not(workers_cancel(p, &r.work));
	workers_submit(p, WORK_READ, &r.work); /* again, after taking it back */
	cr_assert(workers_run_one(p, true));
	cr_assert_not(workers_cancel(p, &r.work), "it ran");
	workers_destroy(p);
	cr_assert_str_eq(order, "ra", "destroy runs what is queued");
}

Test(workers, destroy_runs_what_items_submit)
{
	struct workers *p;
	struct item c = { { .run = run }, 'c', NULL, NULL };
	struct item b = { { .run = run }, 'b', NULL, &c }, a = { { .run = run }, 'a', NULL, &b };

	cr_assert_eq(workers_create("t", 0, 1, &p), 0);
	a.pool = b.pool = p;
	workers_submit(p, WORK_BACKGROUND, &a.work);
	workers_destroy(p);
	cr_assert_str_eq(order, "abc");
	workers_destroy(NULL);
}

static int create_destroy(void *arg)
{
	struct workers *p;
	int rc = workers_create("t", 0, 1, &p);

	if (!rc)
		workers_destroy(p);
	return rc;
}

Test(workers, out_of_memory)
{
	if (test_fault_loop(FAULT_ALLOC, create_destroy, NULL) < 0)
		cr_skip_test("no fault injection in this build");
}
