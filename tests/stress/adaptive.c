/* SPDX-License-Identifier: MIT */
/*
 * The adaptive policy pressed from all sides at once: writers, readers, budgets that change, files
 * that go while they are moved, damage that is found by moving, a storage budget that is full
 * while layers are given up. Nothing exact is read otherwise, nothing is lost but what may be, what
 * is pinned is always there, memory stays within its limit, and nobody waits for ever.
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
#include "store/level.h"
#include "store/store_types.h"
#include "stress_store.h"
#include "testlib.h"

#define ROW 512u /* bytes of a token: 4 heads of 64 in bf16 */
#define LEN (1u << 20)
#define SEEDS 6u
#define SLOTS 10u
#define CALL (128u << 10)
#define RUN_S 4 /* at least; longer until all kinds of pressure showed, which a slow machine needs */
#ifdef TEST_SANITIZED
#define SANITIZED true
#define SHOWN_S 120
#define HANG_S 300
#else
#define SANITIZED false
#define SHOWN_S 30
#define HANG_S 90
#endif
/* What decodes and what seals (11 MB each) takes buffers whatever the limit says, or nothing would go on. */
#define DRAM_SLACK (24u << 20)

/* exact: no layers, but files, when storage is full; lossy: layers as well; kept: pinned and not
 * written again, so nothing at all; bad: gets damaged */
enum dir { EXACT, LOSSY, KEPT, BAD, DIRS };
static const char *const dir_name[DIRS] = { "exact", "lossy", "kept", "bad" };
#define KEPT_SLOTS 3u
static uint8_t *content[SEEDS];

struct run {
	struct store *st;
	struct node *dir[DIRS];
	_Atomic bool stop;
	_Atomic unsigned written, read, lost, damaged, damage_seen, removed, full;
};

/* Channels of different spread, values in a normal manner: what goes into layers. */
static void make_content(void)
{
	for (unsigned s = 0; s < SEEDS; s++) {
		uint16_t *p = malloc(LEN);
		uint64_t x = 77 + s;

		CHECK(p);
		for (unsigned i = 0; i < LEN / 2; i++) {
			uint64_t r = test_rand(&x);
			float v = (float)((int)(r & 0xffff) + (int)(r >> 16 & 0xffff) +
					  (int)(r >> 32 & 0xffff) - 98304) / 65536.0f;
			uint32_t u;

			v *= (float)(1 + i % (ROW / 2) % 7);
			memcpy(&u, &v, sizeof(u));
			p[i] = (uint16_t)(u >> 16);
		}
		content[s] = (uint8_t *)p;
	}
}

static void put_xattr(struct store *st, struct node *n, const char *name, const char *value)
{
	CHECK_EQ(store_setxattr(st, n, name, value, strlen(value), 0), 0);
	store_settings_changed(st, n);
}

static struct store *open_store(const char *path)
{
	struct store_config cfg = { .path = path, .dram_bytes = 48u << 20, .ssd_bytes = 64u << 20,
				    .settle_ns = 3600 * NSEC_PER_SEC, .quality = 0, .alpha_s = 0.1,
				    .policy = "adaptive", .threads = 2, .full = FULL_EVICT,
				    .recompute_s_per_mb = 1 };
	struct store *st = stress_store(&cfg);

	put_xattr(st, store_root(st), "user.kvcache.layout",
		  "dtype=bf16 order=2LTHD layers=2 heads=4 dim=64");
	return st;
}

static void make_dirs(struct run *run)
{
	struct caller who = { 0 };
	struct stat sb;

	for (unsigned d = 0; d < DIRS; d++)
		CHECK_EQ(store_mkdir(run->st, &who, store_root(run->st), dir_name[d], 0755,
				     &run->dir[d], &sb), 0);
	put_xattr(run->st, run->dir[EXACT], "user.kvcache.quality", "1");
	put_xattr(run->st, run->dir[KEPT], "user.kvcache.quality", "1");
}

/* Whose files come and go. */
static enum dir changing(uint64_t x)
{
	static const enum dir d[] = { EXACT, LOSSY, BAD };

	return d[x % 3];
}

/* For clients it is EIO. */
static bool is_damage(int r)
{
	return r == -EIO || damage_is(r);
}

/* ---- one file ------------------------------------------------------------------ */

static int write_all(struct file *f, const uint8_t *p)
{
	int r = 0;

	for (size_t at = 0; at < LEN && r >= 0; at += CALL)
		r = store_write(f, p + at, CALL, at);
	return r;
}

/* Written beside and renamed over, as engines do. Full: given up. */
static void put_file(struct run *run, enum dir d, unsigned slot, unsigned seed, unsigned who_am_i)
{
	struct caller who = { 0 };
	struct open_reply o;
	char name[16], tmp[16];
	struct node *n;
	struct stat sb;
	int r;

	snprintf(tmp, sizeof(tmp), "tmp%u", who_am_i);
	snprintf(name, sizeof(name), "f%u", slot);
	r = store_create(run->st, &who, run->dir[d], tmp, 0644, O_RDWR | O_TRUNC, &n, &sb, &o);
	if (r == -KVFS_EFULL || r == -ESTALE)
		return;
	CHECK_EQ(r, 0);
	r = write_all(o.file, content[seed]);
	CHECK(r >= 0 || r == -KVFS_EFULL);
	store_release(o.file);
	if (r < 0) {
		run->full++;
	} else {
		/* before others find it, who would end that by opening it */
		r = store_seal(run->st, n);
		CHECK(r == 0 || r == -KVFS_EFULL || r == -EBUSY || r == -ENOENT || r == -ESTALE ||
		      r == -KVFS_ENOGAIN || r == -KVFS_ECANCELED);
		r = store_rename(run->st, run->dir[d], tmp, run->dir[d], name, 0);
		CHECK(r == 0 || r == -ENOENT || r == -KVFS_EFULL); /* closed, it may have gone */
		run->written++;
	}
	store_forget(run->st, n, 1);
}

/* Exact content is one of those written; of what may lose layers, the first token is exact. */
static void check_bytes(enum dir d, const uint8_t *p, size_t at, size_t len, unsigned *seed)
{
	for (; at == 0 && *seed < SEEDS; ++*seed)
		if (memcmp(p, content[*seed], ROW) == 0)
			break;
	CHECK(*seed < SEEDS);
	if (d == EXACT || d == KEPT)
		CHECK(memcmp(p, content[*seed] + at, len) == 0);
}

static int read_all(struct run *run, enum dir d, struct file *f)
{
	static _Thread_local uint8_t scratch[CALL] __attribute__((aligned(4096)));
	static _Thread_local uint8_t got[CALL];
	unsigned seed = 0;

	for (size_t at = 0; at < LEN; at += CALL) {
		struct read_reply rr = { .scratch = scratch, .scratch_len = sizeof(scratch) };
		int r = store_read(f, at, CALL, &rr);
		size_t n = 0;

		if (r < 0)
			return r;
		CHECK_EQ(rr.len, CALL);
		for (unsigned i = 1; i <= rr.n; n += rr.iov[i++].iov_len)
			memcpy(got + n, rr.iov[i].iov_base, rr.iov[i].iov_len);
		store_read_done(&rr);
		check_bytes(d, got, at, CALL, &seed);
	}
	run->read++;
	return 0;
}

static struct node *find(struct run *run, enum dir d, unsigned slot)
{
	struct node *n;
	struct stat sb;
	char name[16];
	int r;

	snprintf(name, sizeof(name), "f%u", slot);
	r = store_lookup(run->st, run->dir[d], name, &n, &sb);
	CHECK(r == 0 || (r == -ENOENT && d != KEPT) || (d == BAD && is_damage(r)));
	return r == 0 ? n : NULL;
}

static void make_kept(struct run *run)
{
	for (unsigned i = 0; i < KEPT_SLOTS; i++) {
		struct node *n;

		put_file(run, KEPT, i, i, 99);
		n = find(run, KEPT, i);
		CHECK_EQ(store_pin(run->st, n, 0, true), 0);
		store_forget(run->st, n, 1);
	}
}

/* All that may be there is there when it begins: on a slow machine writers would never fill storage. */
static void fill(struct run *run)
{
	for (unsigned i = 0; i < DIRS * SLOTS; i++)
		if (i % DIRS != KEPT)
			put_file(run, (enum dir)(i % DIRS), i / DIRS, i % SEEDS, 99);
}

/* ---- all at once ----------------------------------------------------------------- */

struct worker {
	struct run *run;
	unsigned id;
	uint64_t x;
};

static void *writer(void *arg)
{
	struct worker *w = arg;

	while (!atomic_load(&w->run->stop)) {
		uint64_t r = test_rand(&w->x);

		put_file(w->run, changing(r), (unsigned)(r >> 8) % SLOTS,
			 (unsigned)(r >> 16) % SEEDS, w->id);
		usleep(2000);
	}
	return NULL;
}

static void *reader(void *arg)
{
	struct worker *w = arg;
	struct run *run = w->run;
	struct caller who = { 0 };

	while (!atomic_load(&run->stop)) {
		uint64_t x = test_rand(&w->x);
		enum dir d = (enum dir)(x % DIRS);
		unsigned slot = (unsigned)((x >> 8) % SLOTS * ((x >> 16) % SLOTS) / SLOTS);
		struct node *n = find(run, d, d == KEPT ? slot % KEPT_SLOTS : slot);
		struct open_reply o;
		int r;

		if (!n) {
			run->lost++;
			usleep(1000);
			continue;
		}
		r = store_openat(run->st, n, O_RDONLY, &who, &o);
		CHECK(r == 0 || r == -ESTALE || (d == BAD && is_damage(r)));
		if (r == 0) {
			r = read_all(run, d, o.file);
			CHECK(r == 0 || (d == BAD && is_damage(r)));
			store_release(o.file);
		}
		run->damage_seen += is_damage(r);
		store_forget(run->st, n, 1);
	}
	return NULL;
}

static void *remover(void *arg)
{
	struct worker *w = arg;

	while (!atomic_load(&w->run->stop)) {
		uint64_t x = test_rand(&w->x);
		char name[16];
		int r;

		snprintf(name, sizeof(name), "f%u", (unsigned)(x >> 8) % SLOTS);
		r = store_unlink(w->run->st, w->run->dir[changing(x)], name);
		CHECK(r == 0 || r == -ENOENT);
		w->run->removed += r == 0;
		usleep(20000);
	}
	return NULL;
}

/* In the middle of what is on storage; in memory it may still be right. */
static void *damager(void *arg)
{
	struct worker *w = arg;
	struct run *run = w->run;
	static const char junk[4096] = "junk";

	while (!atomic_load(&run->stop)) {
		struct node *n = find(run, BAD, (unsigned)test_rand(&w->x) % SLOTS);
		char name[OBJECT_NAME_MAX] = "";
		struct ctx *c;
		int fd;

		if (n && ctx_get(run->st, node_ino(n), false, &c) == 0) {
			gate_enter(&c->gate, false);
			if (c->obj)
				object_name(&c->obj->id, name);
			gate_leave(&c->gate, false);
			ctx_put(c);
		}
		fd = name[0] ? openat(run->st->objects_fd, name, O_WRONLY) : -1;
		if (fd >= 0) {
			run->damaged += pwrite(fd, junk, sizeof(junk), 64 << 10) == sizeof(junk);
			close(fd);
			usleep(50000);
		}
		if (n)
			store_forget(run->st, n, 1);
		usleep(3000);
	}
	return NULL;
}

static void say_uses(struct store *st, uint64_t limit)
{
	fprintf(stderr, "memory %llu of %llu:", (unsigned long long)budget_used(&st->dram),
		(unsigned long long)limit);
	for (unsigned u = 0; u < BUDGET_USES_; u++)
		fprintf(stderr, " %s %llu", budget_use_name((enum budget_use)u),
			(unsigned long long)atomic_load(&st->dram.use_bytes[u]));
	fprintf(stderr, "\n");
}

/* Memory within its limit, a while after that was set; storage too small for all layers. */
static void *limits(void *arg)
{
	static const unsigned dram_mib[] = { 64, 48, 80, 56 }, ssd_mib[] = { 64, 12, 9, 24 };
	struct run *run = ((struct worker *)arg)->run;
	uint64_t limit;

	for (unsigned i = 0; !atomic_load(&run->stop); i++) {
		limit = (uint64_t)dram_mib[i % 4] << 20;
		CHECK_EQ(store_set_limit(run->st, true, limit), 0);
		CHECK_EQ(store_set_limit(run->st, false, (uint64_t)ssd_mib[i / 2 % 4] << 20), 0);
		usleep(200000);
		for (unsigned k = 0; k < 40; k++) {
			if (budget_used(&run->st->dram) > limit + DRAM_SLACK)
				say_uses(run->st, limit);
			CHECK(budget_used(&run->st->dram) <= limit + DRAM_SLACK);
			usleep(5000);
		}
	}
	return NULL;
}

static uint64_t count(struct run *run, enum store_counter which)
{
	return atomic_load(&run->st->counters[which]);
}

/* Layers and files were given up for want of storage, replicas made and given up for want of
 * memory. Under a sanitizer decoding takes so long that memory gains nothing: none need be made. */
static bool pressure_shown(struct run *run, bool say)
{
	static const struct kind {
		enum store_counter which;
		const char *what;
		bool may_be_none;
	} kind[] = {
		{ CNT_LEVELS_DROPPED, "layers given up", false },
		{ CNT_EVICTED, "files given up", false },
		{ CNT_DRAM_EVICTED, "replicas given up", false },
		{ CNT_REPLICAS, "replicas made", SANITIZED },
	};
	bool shown = run->written > 0 && run->read > 0;

	for (unsigned i = 0; i < sizeof(kind) / sizeof(*kind); i++) {
		shown &= kind[i].may_be_none || count(run, kind[i].which) > 0;
		if (say)
			printf("%s%s %llu", i > 0 ? ", " : "", kind[i].what,
			       (unsigned long long)count(run, kind[i].which));
	}
	return shown;
}

static void press(struct run *run)
{
	static void *(*const body[])(void *) = { writer, writer, reader, reader, reader,
						 remover, damager, limits };
	struct worker w[8];
	pthread_t t[8];
	unsigned s;
	bool shown;

	alarm(HANG_S); /* a deadlock ends the test */
	for (unsigned i = 0; i < 8; i++) {
		w[i] = (struct worker){ .run = run, .id = i, .x = 1000 + i };
		CHECK_EQ(pthread_create(&t[i], NULL, body[i], &w[i]), 0);
	}
	for (s = 0; s < RUN_S || (s < SHOWN_S && !pressure_shown(run, false)); s++)
		sleep(1);
	atomic_store(&run->stop, true);
	for (unsigned i = 0; i < 8; i++)
		pthread_join(t[i], NULL);
	alarm(0);
	printf("%u s: written %u, read %u, not there %u, removed %u, damaged %u, seen %u, full %u, ",
	       s, run->written, run->read, run->lost, run->removed, run->damaged,
	       run->damage_seen, run->full);
	shown = pressure_shown(run, true);
	printf("\n");
	CHECK(shown);
}

/* What is there when all is quiet is there after a restart, and exact where it must be. */
static void all_is_well(struct run *run)
{
	struct caller who = { 0 };

	for (unsigned d = 0; d < BAD; d++)
		for (unsigned slot = 0; slot < (d == KEPT ? KEPT_SLOTS : SLOTS); slot++) {
			struct node *n = find(run, (enum dir)d, slot);
			struct open_reply o;

			if (!n)
				continue;
			CHECK_EQ(store_openat(run->st, n, O_RDONLY, &who, &o), 0);
			CHECK_EQ(read_all(run, (enum dir)d, o.file), 0);
			store_release(o.file);
			store_forget(run->st, n, 1);
		}
}

static void close_store(struct run *run)
{
	for (unsigned d = 0; d < DIRS; d++)
		store_forget(run->st, run->dir[d], 1);
	store_close(run->st, false);
}

int main(void)
{
	char *dir = test_tmpdir_create(), path[512];
	struct run run = { .stop = false };
	struct stat sb;

	snprintf(path, sizeof(path), "%s/store", dir);
	make_content();
	run.st = open_store(path);
	make_dirs(&run);
	make_kept(&run);
	fill(&run);
	press(&run);
	all_is_well(&run);
	close_store(&run);
	run.st = open_store(path);
	for (unsigned d = 0; d < DIRS; d++)
		CHECK_EQ(store_lookup(run.st, store_root(run.st), dir_name[d], &run.dir[d], &sb), 0);
	all_is_well(&run);
	close_store(&run);
	for (unsigned s = 0; s < SEEDS; s++)
		free(content[s]);
	test_tmpdir_remove(dir);
	return 0;
}
