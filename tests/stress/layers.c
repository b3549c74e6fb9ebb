/* SPDX-License-Identifier: MIT */
/*
 * What the daemon may take of files by itself, beside clients who say what must stay: pins
 * of files that are not in memory, settings that come while layers go.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "store/adapt_types.h"
#include "store/evict.h"
#include "store/level.h"
#include "store/store_types.h"
#include "stress_store.h"
#include "testlib.h"

#define LEN (256u << 10)
#define HANG_S 90

static struct store *open_store(const char *path, const char *policy)
{
	struct store_config cfg = { .path = path, .dram_bytes = 48u << 20, .ssd_bytes = 64u << 20,
				    .settle_ns = 3600 * NSEC_PER_SEC, .quality = 0, .alpha_s = 0.1,
				    .policy = policy, .threads = 2, .full = FULL_ENOSPC };
	static const char layout[] = "dtype=bf16 order=2LTHD layers=2 heads=4 dim=64";
	struct store *st = stress_store(&cfg);

	CHECK_EQ(store_setxattr(st, store_root(st), "user.kvcache.layout", layout,
				sizeof(layout) - 1, 0), 0);
	return st;
}

/* A new file in layers. */
static struct node *make(struct store *st, const char *name)
{
	struct caller who = { 0 };
	uint16_t *p = malloc(LEN);
	struct open_reply o;
	uint64_t x = 77;
	struct node *n;
	struct stat sb;

	CHECK(p);
	for (unsigned i = 0; i < LEN / 2; i++) {
		float v = (float)((int)(test_rand(&x) & 0x1ffff) - 65536) / 65536.0f;
		uint32_t u;

		memcpy(&u, &v, sizeof(u));
		p[i] = (uint16_t)(u >> 16);
	}
	CHECK_EQ(store_create(st, &who, store_root(st), name, 0644, O_RDWR | O_TRUNC, &n, &sb, &o),
		 0);
	CHECK_EQ(store_write(o.file, p, LEN, 0), 0);
	store_release(o.file);
	CHECK_EQ(store_seal(st, n), 0);
	free(p);
	return n;
}

static int shed_to(struct store *st, struct node *n, unsigned layers)
{
	struct ctx *c;
	int r;

	CHECK_EQ(ctx_get(st, node_ino(n), true, &c), 0);
	r = level_shed(c, n, layers);
	ctx_idle(c);
	ctx_put(c);
	return r;
}

static unsigned layers_of(struct store *st, struct node *n, unsigned *ret_max)
{
	struct ctx_info info;

	CHECK_EQ(store_info(st, n, &info), 0);
	if (ret_max)
		*ret_max = info.levels_max;
	return info.levels;
}

static void pins_hold_of_what_is_not_in_memory(const char *path)
{
	struct store *st = open_store(path, "lru");
	struct node *n = make(st, "pinned");
	struct stat sb;

	CHECK_EQ(store_pin(st, n, 0, true), 0);
	store_forget(st, n, 1);
	store_close(st, false);
	st = open_store(path, "lru");
	CHECK_EQ(store_lookup(st, store_root(st), "pinned", &n, &sb), 0);
	CHECK_EQ(shed_to(st, n, 1), -EBUSY);
	CHECK(layers_of(st, n, NULL) > 1);
	CHECK_EQ(store_pin(st, n, 0, false), 0);
	CHECK_EQ(shed_to(st, n, 1), 0);
	CHECK_EQ(layers_of(st, n, NULL), 1);
	store_forget(st, n, 1);
	store_close(st, false);
}

struct race {
	struct store *st;
	struct node *n;
	pthread_barrier_t start;
	unsigned wait_ns;
};

static void *shedder(void *arg)
{
	struct race *r = arg;
	uint64_t from;
	int e;

	pthread_barrier_wait(&r->start);
	from = clock_mono_ns();
	while (clock_mono_ns() - from < r->wait_ns)
		;
	do
		e = shed_to(r->st, r->n, 1);
	while (e == -EBUSY);
	CHECK(e == 0 || e == -KVFS_EEXACT || e == -KVFS_EFLOOR);
	return NULL;
}

/* Whoever is told that it is exact from now on has all of it. */
static void exact_is_exact(const char *path)
{
	struct store *st = open_store(path, "lru");
	unsigned kept = 0, rounds = 40;

	for (unsigned i = 0; i < rounds; i++) {
		struct race r = { .st = st, .wait_ns = i * 1000 };
		unsigned layers, max;
		char name[16];
		pthread_t t;
		int e;

		snprintf(name, sizeof(name), "f%u", i);
		r.n = make(st, name);
		CHECK_EQ(pthread_barrier_init(&r.start, NULL, 2), 0);
		CHECK_EQ(pthread_create(&t, NULL, shedder, &r), 0);
		pthread_barrier_wait(&r.start);
		e = store_setxattr(st, r.n, "user.kvcache.quality", "1", 1, 0);
		pthread_join(t, NULL);
		pthread_barrier_destroy(&r.start);
		CHECK(e == 0 || e == -KVFS_EGONE);
		layers = layers_of(st, r.n, &max);
		CHECK_EQ(layers == max, e == 0);
		kept += e == 0;
		CHECK_EQ(store_unlink(st, store_root(st), name), 0);
		store_forget(st, r.n, 1);
	}
	printf("exact: %u of %u were in time\n", kept, rounds);
	store_close(st, false);
}

static bool is_planned(struct store *st, uint64_t ino)
{
	struct ctx_info info = { .planned = false };

	adapt_info(st, ino, false, &info);
	return info.planned;
}

/* Twenty seconds at most. */
static bool becomes_planned(struct store *st, uint64_t ino, bool yes)
{
	for (unsigned i = 0; i < 4000 && is_planned(st, ino) != yes; i++)
		usleep(5000);
	return is_planned(st, ino) == yes;
}

static struct file *open_it(struct store *st, struct node *n)
{
	struct caller who = { 0 };
	struct open_reply o;

	CHECK_EQ(store_openat(st, n, O_RDONLY, &who, &o), 0);
	return o.file;
}

/* What has no name is no more of the policy's, whoever opens it through /proc or sets
 * something on a descriptor. */
static void without_a_name_it_is_not_planned(const char *path)
{
	struct store *st = open_store(path, "adaptive");
	struct node *n = make(st, "ghost"), *other;
	uint64_t ino = node_ino(n);
	struct file *f, *again;

	CHECK(becomes_planned(st, ino, true));
	f = open_it(st, n);
	CHECK_EQ(store_unlink(st, store_root(st), "ghost"), 0);
	CHECK(becomes_planned(st, ino, false));
	again = open_it(st, n);
	store_settings_changed(st, n);
	other = make(st, "other"); /* the queue keeps the order */
	CHECK(becomes_planned(st, node_ino(other), true));
	CHECK(!is_planned(st, ino));
	store_release(again);
	store_release(f);
	store_forget(st, n, 1);
	store_forget(st, other, 1);
	store_close(st, false);
}

/* As when the queue is full: the thread empties it a second later at the latest. */
static void what_was_lost_is_found(const char *path)
{
	struct store *st = open_store(path, "adaptive");
	struct node *n = make(st, "lost");
	uint64_t ino = node_ino(n);

	CHECK(becomes_planned(st, ino, true));
	lock_acquire(&st->adapt->q_lock);
	st->adapt->n_queue = 1u << 30;
	lock_release(&st->adapt->q_lock);
	CHECK_EQ(store_unlink(st, store_root(st), "lost"), 0);
	store_forget(st, n, 1);
	CHECK(becomes_planned(st, ino, false));
	n = make(st, "other");
	CHECK(becomes_planned(st, node_ino(n), true));
	store_forget(st, n, 1);
	CHECK_EQ(store_unlink(st, store_root(st), "other"), 0);
	store_close(st, false);
}

static uint64_t fetched(struct store *st)
{
	struct reader_stats rs;

	reader_stats(st->reader, &rs);
	return rs.fetched_bytes;
}

/* Of its replica's stored bytes, after it was found to have @layers sound ones. */
static uint64_t sum_of_replica(struct ctx *c, unsigned layers)
{
	struct replica_form form;
	struct replica *rep;
	uint64_t sum = 0;

	lock_acquire(&c->lock);
	rep = replica_get(c->rep);
	lock_release(&c->lock);
	CHECK(replica_complete(rep));
	CHECK_EQ(replica_layers(rep), layers);
	for (uint32_t i = 0; i < replica_object(rep)->n_chunks; i++) {
		CHECK(replica_find(rep, i, &form));
		CHECK_EQ(replica_check(rep, i, &form, form.n), 0);
		for (unsigned l = 0; l < form.n; l++)
			for (size_t b = 0; b < form.in[l].len; b++)
				sum = sum * 31 + ((const uint8_t *)form.in[l].buf)[b] + 1;
	}
	replica_put(rep);
	return sum;
}

/* In either packing; and the whole is as if it had been made at once. */
static void more_layers_keep_those_there(const char *path)
{
	struct store *st = open_store(path, "lru");
	struct node *n = make(st, "more");
	unsigned all = layers_of(st, n, NULL);
	struct ctx *c;

	CHECK(all > 2);
	CHECK_EQ(ctx_get(st, node_ino(n), true, &c), 0);
	CHECK_EQ(ctx_enter(c), 0);
	CHECK_EQ(ctx_load_locked(c, n), 0);
	CHECK_EQ(ctx_object_locked(c), 0);
	gate_leave(&c->gate, true);
	for (unsigned pack = 0; pack < COST_PACKINGS; pack++) {
		uint64_t at[4], sum;

		space_drop_dram(c, true, true);
		at[0] = fetched(st);
		CHECK_EQ(move_replica_as(c, 1, (enum cost_packing)pack), 0);
		at[1] = fetched(st);
		CHECK_EQ(move_replica_as(c, all, (enum cost_packing)pack), 0);
		at[2] = fetched(st);
		sum = sum_of_replica(c, all);
		space_drop_dram(c, true, true);
		CHECK_EQ(move_replica_as(c, all, (enum cost_packing)pack), 0);
		at[3] = fetched(st);
		CHECK_EQ(sum_of_replica(c, all), sum);
		CHECK(at[1] > at[0]);
		CHECK_EQ(at[2] - at[0], at[3] - at[2]);
	}
	ctx_idle(c);
	ctx_put(c);
	CHECK_EQ(store_unlink(st, store_root(st), "more"), 0);
	store_forget(st, n, 1);
	store_close(st, false);
}

/* What was used when the clock was years ahead is not the newest for years. */
static void times_to_come_count_as_the_mount(const char *path)
{
	struct store *st = open_store(path, "lru");
	struct node *old = make(st, "old"), *fresh;
	uint64_t ino = node_ino(old);
	struct meta_rec rec;
	struct ctx_info info;
	struct ctx *c;
	struct stat sb;

	CHECK_EQ(meta_get(st->meta, ino, &rec), 0);
	rec.last_ns = rec.heat_ns = clock_real_ns() + (1ull << 58);
	rec.heat = 1;
	CHECK_EQ(meta_put(st->meta, ino, &rec), 0);
	store_forget(st, old, 1);
	store_close(st, false);
	st = open_store(path, "lru");
	CHECK_EQ(store_lookup(st, store_root(st), "old", &old, &sb), 0);
	CHECK_EQ(ctx_get(st, ino, true, &c), 0);
	CHECK_EQ(store_info(st, old, &info), 0);
	lock_acquire(&c->lock);
	CHECK(c->heat == 1 && c->heat_ns <= clock_real_ns());
	lock_release(&c->lock);
	ctx_put(c);
	fresh = make(st, "fresh");
	lock_acquire(&st->evict_lock);
	CHECK(evict_for(st, space_free(st) + 1, 0, false, false));
	lock_release(&st->evict_lock);
	store_forget(st, old, 1);
	store_forget(st, fresh, 1);
	CHECK_EQ(store_lookup(st, store_root(st), "old", &old, &sb), -ENOENT);
	CHECK_EQ(store_lookup(st, store_root(st), "fresh", &fresh, &sb), 0);
	store_forget(st, fresh, 1);
	store_close(st, false);
}

int main(void)
{
	char *dir = test_tmpdir_create(), path[512];

	alarm(HANG_S);
	snprintf(path, sizeof(path), "%s/store", dir);
	pins_hold_of_what_is_not_in_memory(path);
	exact_is_exact(path);
	without_a_name_it_is_not_planned(path);
	what_was_lost_is_found(path);
	more_layers_keep_those_there(path);
	snprintf(path, sizeof(path), "%s/times", dir);
	times_to_come_count_as_the_mount(path);
	test_tmpdir_remove(dir);
	return 0;
}
