/* SPDX-License-Identifier: MIT */
/*
 * Eviction beside clients that rename, link, open, truncate and unseal: no name of a
 * file in use goes, no operation fails because of it, nothing reads damaged, and
 * nobody waits for ever.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "store/store.h"
#include "testlib.h"

#define LEN (128u << 10)
#define RUN_NS (2 * NSEC_PER_SEC)
#define HANG_S 60

struct run {
	struct store *st;
	_Atomic bool stop;
	_Atomic unsigned evicted, renamed, opened, linked;
};

static struct store *open_store(const char *path, uint64_t ssd)
{
	struct store_config cfg = { .path = path, .dram_bytes = 64u << 20, .ssd_bytes = ssd,
				    .settle_ns = 3600 * NSEC_PER_SEC, .quality = 1, .policy = "lru",
				    .threads = 2, .full = FULL_EVICT };
	struct sbuf why = SBUF_INIT;
	struct store *st;

	if (store_open(&cfg, &st, &why) < 0) {
		fprintf(stderr, "store_open: %s\n", why.s ? why.s : "");
		exit(1);
	}
	sbuf_fini(&why);
	CHECK_EQ(store_start(st, NULL, NULL, 0), 0);
	return st;
}

static void fill(uint8_t *p, unsigned seed)
{
	/* narrow bf16, so that sealing gains */
	for (unsigned i = 0; i < LEN; i += 2) {
		p[i] = (uint8_t)(seed * 31 + i * 7 + (i >> 9));
		p[i + 1] = 0x3f;
	}
}

/* A new file with @seed in it, left open. */
static struct file *create(struct store *st, const char *name, unsigned seed, struct node **ret)
{
	struct caller who = { 0 };
	struct open_reply o;
	uint8_t *p = malloc(LEN);
	struct stat sb;
	int r;

	CHECK(p);
	fill(p, seed);
	do /* as the kernel does */
		r = store_create(st, &who, store_root(st), name, 0644, O_RDWR, ret, &sb, &o);
	while (r == -ESTALE);
	CHECK_EQ(r, 0);
	do /* a store full of what is in use */
		r = store_write(o.file, p, LEN, 0);
	while (r == -KVFS_EFULL && usleep(1000) == 0);
	CHECK_EQ(r, 0);
	free(p);
	return o.file;
}

/* What reads there is what one seed wrote; -code. */
static int check_file(struct file *f)
{
	static _Thread_local uint8_t scratch[LEN] __attribute__((aligned(4096)));
	struct read_reply rr = { .scratch = scratch, .scratch_len = sizeof(scratch) };
	int r = store_read(f, 0, LEN, &rr);

	if (r < 0)
		return r;
	CHECK_EQ(rr.len, LEN);
	CHECK(((uint8_t *)rr.iov[1].iov_base)[1] == 0x3f);
	store_read_done(&rr);
	return 0;
}

static bool is_there(struct store *st, const char *name, uint64_t ino)
{
	struct node *n;
	struct stat sb;
	int r = store_lookup(st, store_root(st), name, &n, &sb);

	if (r < 0) {
		fprintf(stderr, "%s: %s\n", name, err_text(r));
		return false;
	}
	store_forget(st, n, 1);
	if (sb.st_ino != ino)
		fprintf(stderr, "%s: inode %llu, not %llu\n", name, (unsigned long long)sb.st_ino,
			(unsigned long long)ino);
	return sb.st_ino == ino;
}

static void *evictor(void *arg)
{
	static const char *const names[] = { "p", "q", "s" };
	struct run *run = arg;

	for (unsigned i = 0; !atomic_load(&run->stop); i++) {
		struct node *n;
		struct stat sb;
		int r;

		if (store_lookup(run->st, store_root(run->st), names[i % 3], &n, &sb) < 0)
			continue;
		r = store_evict(run->st, n, &(struct caller){ 0 });
		CHECK(r == 0 || r == -EBUSY || r == -ENOENT || r == -ESTALE);
		run->evicted += r == 0;
		store_forget(run->st, n, 1);
	}
	return NULL;
}

/* Renames an open file over p: while it is open, p is it. */
static void *renamer(void *arg)
{
	struct run *run = arg;
	struct store *st = run->st;

	for (unsigned i = 0; !atomic_load(&run->stop); i++) {
		struct node *n;
		struct file *f = create(st, "tmp", i, &n);
		struct stat sb;
		int r;

		CHECK_EQ(store_getattr(st, n, f, &sb), 0);
		if (i % 4 == 3) { /* the next one goes over a sealed file */
			store_release(f);
			r = store_seal(st, n);
			/* closed, it may have gone, or is being sealed to make room */
			CHECK(r == 0 || r == -KVFS_EFULL || r == -EBUSY || r == -ENOENT ||
			      r == -ESTALE);
			f = NULL;
		}
		r = store_rename(st, store_root(st), "tmp", store_root(st), "p", 0);
		CHECK_EQ(!f && r == -ENOENT ? 0 : r, 0); /* closed, it may have gone */
		if (f) {
			CHECK(is_there(st, "p", sb.st_ino));
			CHECK_EQ(store_fsync(f, false), 0);
			CHECK(is_there(st, "p", sb.st_ino));
			store_release(f);
		}
		store_forget(st, n, 1);
		run->renamed++;
	}
	return NULL;
}

/* What could be opened stays where it is until it is closed. */
static void *opener(void *arg)
{
	struct run *run = arg;
	struct store *st = run->st;
	struct caller who = { 0 };

	for (unsigned i = 0; !atomic_load(&run->stop); i++) {
		struct open_reply o;
		struct node *n;
		struct stat sb;
		int r = store_lookup(st, store_root(st), "q", &n, &sb);

		if (r == -ENOENT) {
			struct file *f = create(st, "q", i, &n);

			store_release(f);
			if (i % 2)
				r = store_seal(st, n);
			store_forget(st, n, 1);
			continue;
		}
		CHECK_EQ(r, 0);
		r = store_openat(st, n, O_RDWR, &who, &o);
		CHECK_EQ(r == -ESTALE ? 0 : r, 0);
		if (r == 0) {
			CHECK_EQ(check_file(o.file), 0);
			CHECK(is_there(st, "q", sb.st_ino));
			store_release(o.file);
			run->opened++;
		}
		store_forget(st, n, 1);
	}
	return NULL;
}

/* A second name keeps the content whatever happens to the first. */
static void *linker(void *arg)
{
	struct run *run = arg;
	struct store *st = run->st;
	struct caller who = { 0 };

	for (unsigned i = 0; !atomic_load(&run->stop); i++) {
		struct open_reply o;
		struct node *n, *again;
		struct stat sb;
		struct file *f = create(st, "s", i, &n);
		int r;

		store_release(f);
		if (store_seal(st, n) == 0 &&
		    store_link(st, n, store_root(st), "s2", &sb) == 0) {
			store_forget(st, n, 1);
			CHECK_EQ(store_lookup(st, store_root(st), "s2", &again, &sb), 0);
			CHECK_EQ(store_openat(st, again, O_RDONLY, &who, &o), 0);
			CHECK_EQ(check_file(o.file), 0);
			store_release(o.file);
			store_forget(st, again, 1);
			CHECK_EQ(store_unlink(st, store_root(st), "s2"), 0);
			run->linked++;
		}
		store_forget(st, n, 1);
		r = store_unlink(st, store_root(st), "s");
		CHECK(r == 0 || r == -ENOENT);
	}
	return NULL;
}

/* Needs room with a gate held, for ever on a full store. */
static void *changer(void *arg)
{
	struct run *run = arg;
	struct store *st = run->st;

	for (unsigned i = 0; !atomic_load(&run->stop); i++) {
		struct node *n;
		struct stat sb;
		char name[16];
		int r;

		snprintf(name, sizeof(name), "c%u", i % 5);
		if (store_lookup(st, store_root(st), name, &n, &sb) < 0) {
			struct file *f = create(st, name, i, &n);

			store_release(f);
		}
		r = store_seal(st, n);
		if (r == 0)
			r = store_unseal(st, n);
		sb.st_size = LEN / 2;
		if (r == 0)
			r = store_setattr(st, n, NULL, &sb, SET_SIZE, &sb);
		store_forget(st, n, 1);
	}
	return NULL;
}

static void run_all(struct run *run, void *(*const *body)(void *), unsigned n)
{
	pthread_t t[8];

	alarm(HANG_S); /* a deadlock ends the test */
	for (unsigned i = 0; i < n; i++)
		CHECK_EQ(pthread_create(&t[i], NULL, body[i], run), 0);
	usleep(RUN_NS / 1000);
	atomic_store(&run->stop, true);
	for (unsigned i = 0; i < n; i++)
		pthread_join(t[i], NULL);
	alarm(0);
}

static void names_are_ordered(const char *path)
{
	static void *(*const body[])(void *) = { evictor, evictor, renamer, opener, linker };
	struct run run = { .st = open_store(path, 256u << 20) };

	run_all(&run, body, 5);
	printf("evicted %u, renamed %u, opened %u, linked %u\n", run.evicted, run.renamed,
	       run.opened, run.linked);
	store_close(run.st, false);
}

/* Every write needs another file to go. */
static void full_store_goes_on(const char *path)
{
	static void *(*const body[])(void *) = { changer, changer, renamer, opener, evictor };
	struct run run = { .st = open_store(path, 1800u << 10) };
	struct store_status s;

	run_all(&run, body, 5);
	store_status(run.st, &s);
	printf("full: evicted %u, renamed %u, opened %u\n", run.evicted, run.renamed, run.opened);
	store_close(run.st, false);
}

int main(void)
{
	char *dir = test_tmpdir_create(), path[512];

	snprintf(path, sizeof(path), "%s/store", dir);
	names_are_ordered(path);
	snprintf(path, sizeof(path), "%s/full", dir);
	full_store_goes_on(path);
	test_tmpdir_remove(dir);
	return 0;
}
