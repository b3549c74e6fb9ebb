/* SPDX-License-Identifier: MIT */
/*
 * Real pool threads: nothing is lost or run twice, background work keeps to its
 * bound and to its nice value, cancel and drain are exact, and conditions time
 * out. Also a budget that many threads fight over.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/budget.h"
#include "base/clock.h"
#include "base/lock.h"
#include "base/workers.h"
#include "testlib.h"

#define ITEMS 20000
#define BG_MAX 2

static _Atomic unsigned ran, bg_now, bg_peak, bg_nice_bad, read_nice_bad;

struct item {
	struct work work;
	struct workers *pool;
	_Atomic unsigned runs;
	unsigned children; /* how many generations it still submits */
	enum work_class cls;
};

static void spin(unsigned n)
{
	for (volatile unsigned i = 0; i < n; i++)
		;
}

static void run_read(struct work *w)
{
	struct item *i = container_of(w, struct item, work);

	if (getpriority(PRIO_PROCESS, (id_t)gettid()) != getpriority(PRIO_PROCESS, (id_t)getpid()))
		read_nice_bad++; /* as the main thread, which may have been niced */
	i->runs++;
	ran++;
	if (i->children) {
		i->children--;
		workers_submit(i->pool, i->cls, &i->work);
	}
}

static void run_bg(struct work *w)
{
	struct item *i = container_of(w, struct item, work);
	unsigned now = ++bg_now, peak = bg_peak;

	while (peak < now && !atomic_compare_exchange_weak(&bg_peak, &peak, now))
		;
	if (getpriority(PRIO_PROCESS, (id_t)gettid()) != WORKERS_BG_NICE)
		bg_nice_bad++;
	spin(200);
	i->runs++;
	ran++;
	bg_now--;
}

static struct item items[ITEMS];

static void *submit_half(void *arg)
{
	struct workers *p = arg;

	for (unsigned i = 1; i < ITEMS; i += 2)
		workers_submit(p, items[i].cls, &items[i].work);
	return NULL;
}

static void test_all_run_once(bool drain)
{
	struct workers *p;
	pthread_t t;

	ran = bg_peak = 0;
	CHECK_EQ(workers_create("stress", 4, BG_MAX, &p), 0);
	CHECK_EQ(workers_threads(p), 4);
	for (unsigned i = 0; i < ITEMS; i++) {
		bool bg = i % 3 == 0;

		items[i] = (struct item){ .work = { .run = bg ? run_bg : run_read },
					  .pool = p,
					  .children = bg ? 0 : i % 4,
					  .cls = bg ? WORK_BACKGROUND : WORK_READ };
	}
	CHECK_EQ(pthread_create(&t, NULL, submit_half, p), 0);
	for (unsigned i = 0; i < ITEMS; i += 2)
		workers_submit(p, items[i].cls, &items[i].work);
	CHECK_EQ(pthread_join(t, NULL), 0);
	if (drain) {
		workers_drain(p);
		CHECK_EQ(workers_readers(p), 0);
	}
	workers_destroy(p);
	for (unsigned i = 0; i < ITEMS; i++)
		CHECK_EQ(items[i].runs, i % 3 == 0 ? 1 : i % 4 + 1);
	CHECK(bg_peak <= BG_MAX);
	CHECK_EQ(bg_now, 0);
	CHECK_EQ(bg_nice_bad, 0);
	CHECK_EQ(read_nice_bad, 0);
}

/* A reader that blocks the only read thread until told. */
static _Atomic bool gate_open, gate_entered, bg_ran;

static void run_gate(struct work *w)
{
	gate_entered = true;
	while (!gate_open)
		usleep(100);
}

static void run_flag(struct work *w)
{
	bg_ran = true;
}

static void test_waiting_readers_hold_background_back(void)
{
	struct workers *p;
	struct work gate = { .run = run_gate }, bg = { .run = run_flag };
	struct item r = { .work = { .run = run_read } };

	CHECK_EQ(workers_create("stress", 1, 1, &p), 0);
	workers_submit(p, WORK_READ, &gate);
	while (!gate_entered)
		usleep(100);
	workers_submit(p, WORK_READ, &r.work); /* waits behind the gate */
	workers_submit(p, WORK_BACKGROUND, &bg);
	CHECK_EQ(workers_readers(p), 2);
	usleep(50000);
	CHECK(!bg_ran);
	CHECK(workers_cancel(p, &r.work)); /* nobody waits any more */
	while (!bg_ran)
		usleep(100);
	CHECK(!workers_cancel(p, &gate)); /* it runs */
	gate_open = true;
	workers_drain(p);
	workers_destroy(p);
}

static void test_helper_thread_runs_items(void)
{
	struct workers *p;
	struct work gate = { .run = run_gate };
	struct item r = { .work = { .run = run_read } };

	gate_open = gate_entered = false;
	CHECK_EQ(workers_create("stress", 1, 1, &p), 0);
	workers_submit(p, WORK_READ, &gate);
	while (!gate_entered)
		usleep(100);
	workers_submit(p, WORK_READ, &r.work);
	CHECK(workers_run_one(p, false));
	CHECK_EQ(r.runs, 1);
	CHECK(!workers_run_one(p, true));
	gate_open = true;
	workers_destroy(p);
}

/* Tries a lock it holds: NO_TSA because the analysis is right about that. */
static void test_conditions_time_out(void) NO_TSA
{
	struct lock l;
	struct cond c;
	uint64_t t0 = clock_mono_ns();

	lock_init(&l);
	cond_init(&c);
	lock_acquire(&l);
	CHECK(!lock_try(&l));
	while (cond_wait_until(&c, &l, t0 + 20 * NSEC_PER_MSEC))
		;
	CHECK(clock_mono_ns() - t0 >= 20 * NSEC_PER_MSEC);
	CHECK(!cond_wait_until(&c, &l, 0));
	lock_release(&l);
	CHECK(lock_try(&l));
	lock_release(&l);
	cond_fini(&c);
	lock_fini(&l);
}

static struct budget shared;

static void *fight(void *arg)
{
	uint64_t seed = (uintptr_t)arg, held = 0;

	for (int i = 0; i < 50000; i++) {
		uint64_t n = test_rand(&seed) % 40;

		if (budget_take(&shared, BUDGET_WINDOW, n) == 0)
			held += n;
		CHECK(budget_used(&shared) <= 100);
		if (held > 30 || i % 7 == 0) {
			budget_give(&shared, BUDGET_WINDOW, held);
			held = 0;
		}
	}
	budget_give(&shared, BUDGET_WINDOW, held);
	return NULL;
}

static void test_budget_is_exact_under_threads(void)
{
	pthread_t t[4];

	budget_init(&shared, 100);
	for (uintptr_t i = 0; i < 4; i++)
		CHECK_EQ(pthread_create(&t[i], NULL, fight, (void *)(i + 1)), 0);
	for (int i = 0; i < 4; i++)
		CHECK_EQ(pthread_join(t[i], NULL), 0);
	CHECK_EQ(budget_used(&shared), 0);
	CHECK_EQ(shared.use_bytes[BUDGET_WINDOW], 0);
	CHECK(shared.peak_bytes <= 100);
}

int main(void)
{
	test_all_run_once(true);
	test_all_run_once(false);
	test_waiting_readers_hold_background_back();
	test_helper_thread_runs_items();
	test_conditions_time_out();
	test_budget_is_exact_under_threads();
	return 0;
}
