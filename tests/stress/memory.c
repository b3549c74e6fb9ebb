/* SPDX-License-Identifier: MIT */
/* A whole store whose memory is full: moving, sealing and reading go on, what is
 * coldest leaves first, and nothing is done in the background for nothing. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "store/replica.h"
#include "store/store_types.h"
#include "stress_store.h"
#include "testlib.h"

#define FILE_BYTES (1u << 20)
#ifdef TEST_SANITIZED
#define HANGS_AFTER 300 /* seconds; a minute under TSan is not one */
#else
#define HANGS_AFTER 90
#endif

static struct store *open_store(const char *path, uint64_t dram)
{
	struct store_config cfg = { .path = path, .dram_bytes = dram, .ssd_bytes = 1u << 30,
				    .settle_ns = 3600 * NSEC_PER_SEC, .quality = 1,
				    .policy = "lru", .threads = 2 };

	return stress_store(&cfg);
}

/* Elements of a small range, as K and V are: two thirds of their bytes remain. */
static uint8_t *content(unsigned seed, size_t len)
{
	uint8_t *p = malloc(len);
	uint64_t x = seed + 1;

	CHECK(p);
	for (size_t i = 0; i < len; i += 2) {
		uint64_t r = test_rand(&x);

		p[i] = (uint8_t)r;
		if (i + 1 < len)
			p[i + 1] = (uint8_t)(0x3c + (r >> 8) % 4);
	}
	return p;
}

static struct node *lookup(struct store *st, unsigned i)
{
	struct stat sb;
	struct node *n;
	char name[16];

	snprintf(name, sizeof(name), "f%u", i);
	CHECK_EQ(store_lookup(st, store_root(st), name, &n, &sb), 0);
	return n;
}

static struct file *open_file(struct store *st, struct node *n, int flags)
{
	struct caller who = { 0 };
	struct open_reply o;

	CHECK_EQ(store_openat(st, n, flags, &who, &o), 0);
	return o.file;
}

static void make_file(struct store *st, unsigned i, size_t len)
{
	uint8_t *p = content(i, len);
	struct caller who = { 0 };
	struct open_reply o;
	struct stat sb;
	struct node *n;
	char name[16];

	snprintf(name, sizeof(name), "f%u", i);
	CHECK_EQ(store_create(st, &who, store_root(st), name, 0600, O_WRONLY | O_EXCL, &n, &sb, &o), 0);
	CHECK_EQ(store_write(o.file, p, len, 0), 0);
	store_release(o.file);
	CHECK_EQ(store_seal(st, n), 0);
	store_forget(st, n, 1);
	free(p);
}

static void check_range(struct file *f, const uint8_t *want, uint64_t off, size_t len)
{
	struct read_reply rr = { .scratch_len = len };

	CHECK(posix_memalign(&rr.scratch, 4096, len) == 0);
	CHECK_EQ(store_read(f, off, len, &rr), 0);
	CHECK_EQ(rr.len, len);
	for (unsigned i = 1; i <= rr.n; want += rr.iov[i++].iov_len)
		CHECK(memcmp(want, rr.iov[i].iov_base, rr.iov[i].iov_len) == 0);
	store_read_done(&rr);
	free(rr.scratch);
}

static void read_file(struct store *st, unsigned i, size_t len)
{
	uint8_t *want = content(i, len);
	struct node *n = lookup(st, i);
	struct file *f = open_file(st, n, O_RDONLY);

	for (size_t off = 0; off < len; off += 131072)
		check_range(f, want + off, off, len - off < 131072 ? len - off : 131072);
	store_release(f);
	store_forget(st, n, 1);
	free(want);
}

static bool in_dram(struct store *st, unsigned i)
{
	struct node *n = lookup(st, i);
	struct ctx *c;
	bool yes = false;

	if (ctx_get(st, node_ino(n), false, &c) == 0) {
		lock_acquire(&c->lock);
		yes = c->rep && replica_complete(c->rep);
		lock_release(&c->lock);
		ctx_put(c);
	}
	store_forget(st, n, 1);
	return yes;
}

static void wait_in_dram(struct store *st, unsigned i)
{
	for (unsigned k = 0; k < 4000 && (!in_dram(st, i) || atomic_load(&st->moves)); k++)
		nanosleep(&(struct timespec) { .tv_nsec = 5000000 }, NULL);
	CHECK(in_dram(st, i));
}

/* ---- in the background ---------------------------------------------------- */

/* The close that starts it, and people who look, do not end it. */
static void promotion_survives_closing(const char *path)
{
	struct store *st = open_store(path, 64u << 20);
	struct ctx_info info;
	struct node *n;

	make_file(st, 0, 8 * FILE_BYTES);
	n = lookup(st, 0);
	for (unsigned round = 0; round < 4; round++) {
		CHECK_EQ(store_move(st, n, PLACE_SSD), 0);
		CHECK(!in_dram(st, 0));
		if (round % 2)
			CHECK_EQ(store_prefetch(st, n, 0), 0);
		else
			read_file(st, 0, 8 * FILE_BYTES);
		for (unsigned i = 0; i < 50; i++)
			CHECK_EQ(store_info(st, n, &info), 0);
		wait_in_dram(st, 0);
	}
	store_forget(st, n, 1);
	store_close(st, false);
}

struct listed {
	unsigned n, sealed, open, in_dram;
};

static bool list_one(void *arg, const char *path, const struct ctx_info *i)
{
	struct listed *l = arg;

	CHECK(path[0] && !i->damaged);
	CHECK(i->logical_bytes >= FILE_BYTES / 4);
	CHECK(i->stored_bytes && i->stored_bytes < i->logical_bytes);
	l->n++;
	l->sealed += i->state == CTX_SEALED;
	l->open += i->opens > 0 && i->layout[0];
	l->in_dram += i->in_dram;
	return true;
}

/* The list of all files opens none, and waits for no gate. */
static void listing_opens_nothing(const char *path)
{
	struct store *st = open_store(path, 64u << 20);
	struct rlimit files, none;
	struct listed l = { 0 };
	struct node *n[2];
	struct file *f;
	struct ctx *c;

	for (unsigned i = 0; i < 5; i++)
		make_file(st, i, FILE_BYTES / 4);
	for (unsigned i = 0; i < 2; i++)
		n[i] = lookup(st, i);
	f = open_file(st, n[0], O_RDONLY);
	CHECK_EQ(store_move(st, n[1], PLACE_SSD), 0);
	CHECK_EQ(ctx_get(st, node_ino(n[1]), true, &c), 0);
	gate_enter(&c->gate, true);
	CHECK(getrlimit(RLIMIT_NOFILE, &files) == 0);
	none = (struct rlimit) { .rlim_cur = 0, .rlim_max = files.rlim_max };
	CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);
	store_each_context(st, list_one, &l);
	CHECK(setrlimit(RLIMIT_NOFILE, &files) == 0);
	gate_leave(&c->gate, true);
	ctx_put(c);
	CHECK(l.n == 5 && l.sealed == 5 && l.open == 1 && l.in_dram == 4);
	store_release(f);
	for (unsigned i = 0; i < 2; i++)
		store_forget(st, n[i], 1);
	store_close(st, false);
}

/* ---- descriptors ----------------------------------------------------------- */

#define FEW_FILES 96u
#define MANY_CONTEXTS 70u

static unsigned count_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	CHECK(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

/* More contexts in memory than a process may have files. */
static void replicas_need_no_descriptors(const char *path)
{
	struct rlimit files, few;
	struct store *st;
	unsigned before;

	CHECK(getrlimit(RLIMIT_NOFILE, &files) == 0);
	few = (struct rlimit) { .rlim_cur = FEW_FILES, .rlim_max = files.rlim_max };
	CHECK(setrlimit(RLIMIT_NOFILE, &few) == 0);
	st = open_store(path, 64u << 20);
	before = count_fds();
	for (unsigned i = 0; i < MANY_CONTEXTS; i++)
		make_file(st, i, FILE_BYTES / 16);
	for (unsigned round = 0; round < 2; round++) {
		for (unsigned i = 0; i < MANY_CONTEXTS; i++) {
			struct node *n = lookup(st, i);

			read_file(st, i, FILE_BYTES / 16);
			CHECK(in_dram(st, i));
			if (round == 0) { /* the second time of those that were moved */
				CHECK_EQ(store_move(st, n, PLACE_SSD), 0);
				CHECK_EQ(store_move(st, n, PLACE_DRAM), 0);
			}
			store_forget(st, n, 1);
		}
		CHECK(count_fds() <= before + FEW_FILES / 4 + 8);
	}
	store_close(st, false);
	CHECK(setrlimit(RLIMIT_NOFILE, &files) == 0);
}

/* ---- who goes first ------------------------------------------------------- */

#define COLD_N 400u
#define COLD_BYTES (64u << 10)
#define COLD_SLACK 40u /* the arena keeps 2 MiB of what is freed */

/* A context with a replica of one chunk; its file is not looked at. */
static struct ctx *warm_ctx(struct store *st, uint64_t ino, const uint8_t *p)
{
	struct object *o = mem_zalloc(sizeof(*o));
	struct replica *rep;
	struct ctx *c;

	CHECK(o);
	o->refs = 1;
	o->fd = -1;
	o->n_chunks = 1;
	o->chunks = mem_calloc(1, sizeof(*o->chunks));
	o->layers = mem_calloc(1, sizeof(*o->layers));
	CHECK(o->chunks && o->layers);
	o->layers[0].codec = CODEC_RAW;
	o->chunks[0].len_bytes = COLD_BYTES;
	CHECK_EQ(replica_create(st->arena, o, &rep), 0);
	object_put(o);
	CHECK_EQ(replica_add(rep, 0, CODEC_RAW, p, COLD_BYTES), 0);
	CHECK_EQ(ctx_get(st, ino, true, &c), 0);
	lock_acquire(&c->lock);
	c->rep = rep;
	lock_release(&c->lock);
	ctx_touch(c, false);
	return c;
}

static bool has_replica(struct ctx *c)
{
	bool yes;

	lock_acquire(&c->lock);
	yes = c->rep;
	lock_release(&c->lock);
	return yes;
}

/* However many there are, and whoever was looked at in vain. */
static void coldest_goes_first(const char *path)
{
	struct store *st = open_store(path, 64u << 20);
	uint8_t *p = content(0, COLD_BYTES);
	struct ctx *c[COLD_N];
	unsigned first = 0;

	for (unsigned i = 0; i < COLD_N; i++)
		c[i] = warm_ctx(st, (1u << 30) + i, p);
	ctx_touch(c[3], false);
	for (unsigned round = 0; round < 3; round++) {
		CHECK(space_dram(st, budget_free(&st->dram) + 60 * COLD_BYTES, c[7]));
		while (first < COLD_N && (first == 3 || first == 7 || !has_replica(c[first])))
			first++;
		CHECK(first >= (round + 1) * 60 && first <= (round + 1) * 60 + COLD_SLACK);
		for (unsigned i = first; i < COLD_N; i++)
			CHECK(has_replica(c[i]));
		CHECK(has_replica(c[3]) && has_replica(c[7]));
	}
	for (unsigned i = 0; i < COLD_N; i++) {
		space_drop_dram(c[i], true, true);
		ctx_put(c[i]);
	}
	CHECK_EQ(st->ctxs.count, 0);
	free(p);
	store_close(st, false);
}

/* ---- full ----------------------------------------------------------------- */

#define FULL_FILES 110u

struct full {
	struct store *st;
	unsigned moves;
	_Atomic unsigned next, made;
};

static void *mover(void *arg)
{
	struct full *f = arg;

	for (unsigned k; (k = atomic_fetch_add(&f->next, 1)) < f->moves;) {
		struct node *n = lookup(f->st, k * 7 % FULL_FILES);
		int r = store_move(f->st, n, PLACE_DRAM);

		if (r != -KVFS_EBUDGET)
			CHECK_EQ(r, 0);
		store_forget(f->st, n, 1);
	}
	return NULL;
}

static void *sealer(void *arg)
{
	struct full *f = arg;

	while (atomic_load(&f->next) < f->moves)
		make_file(f->st, atomic_fetch_add(&f->made, 1), FILE_BYTES / 4);
	return NULL;
}

static void *reader(void *arg)
{
	struct full *f = arg;

	for (unsigned k = 0; atomic_load(&f->next) < f->moves; k++)
		read_file(f->st, k * 11 % FULL_FILES, FILE_BYTES);
	return NULL;
}

/* No codec context may be waited for by who holds one. */
static void full_memory_goes_on(const char *path)
{
	static void *(*const run[])(void *) = { mover, mover, mover, sealer, sealer, reader, reader };
	struct full f = { .st = open_store(path, 64u << 20), .moves = test_rounds(6 * FULL_FILES) };
	pthread_t t[sizeof(run) / sizeof(run[0])];

	for (unsigned i = 0; i < FULL_FILES; i++)
		make_file(f.st, i, FILE_BYTES);
	atomic_store(&f.made, FULL_FILES);
	CHECK(!in_dram(f.st, 0) && in_dram(f.st, FULL_FILES - 1));
	for (unsigned i = 0; i < sizeof(run) / sizeof(run[0]); i++)
		CHECK(pthread_create(&t[i], NULL, run[i], &f) == 0);
	for (unsigned i = 0; i < sizeof(run) / sizeof(run[0]); i++)
		CHECK(pthread_join(t[i], NULL) == 0);
	/* most find no room: how many do not depends on whose turn it is */
	CHECK(atomic_load(&f.st->counters[CNT_REPLICAS]) > f.moves / 16);
	store_close(f.st, false);
}

/* ---- copying within ------------------------------------------------------- */

#define COPIERS 12u
#define COPY_BYTES (3u * FILE_BYTES)

struct copying {
	struct store *st;
	_Atomic unsigned next;
};

/* Sealed to sealed at odd places: the edges are filled from the target's object. */
static void *copier(void *arg)
{
	struct copying *a = arg;
	unsigned i = atomic_fetch_add(&a->next, 1), from = (i + 1) % COPIERS;
	struct node *n = lookup(a->st, i), *m = lookup(a->st, from);
	struct file *out = open_file(a->st, n, O_RDWR), *in = open_file(a->st, m, O_RDONLY);
	uint8_t *own = content(i, COPY_BYTES);

	/* what is read lies behind what others write */
	for (uint64_t off = 1; off + 40000 < COPY_BYTES / 2; off += 300001) {
		ssize_t r = store_copy_range(in, COPY_BYTES / 2 + off, out, off, 40000);

		CHECK_EQ(r, 40000);
		check_range(out, own + off + 40000, off + 40000, 1000);
	}
	free(own);
	own = content(from, COPY_BYTES);
	check_range(out, own + COPY_BYTES / 2 + 1, 1, 40000);
	free(own);
	store_release(in);
	store_release(out);
	store_forget(a->st, n, 1);
	store_forget(a->st, m, 1);
	return NULL;
}

/* Nobody waits for the window while he holds a part of it. */
static void copiers_do_not_wait_in_a_circle(const char *path)
{
	struct copying a = { .st = open_store(path, 24u << 20) };
	pthread_t t[COPIERS];

	for (unsigned i = 0; i < COPIERS; i++)
		make_file(a.st, i, COPY_BYTES);
	for (unsigned i = 0; i < COPIERS; i++)
		CHECK(pthread_create(&t[i], NULL, copier, &a) == 0);
	for (unsigned i = 0; i < COPIERS; i++)
		CHECK(pthread_join(t[i], NULL) == 0);
	store_close(a.st, false);
}

int main(void)
{
	char *dir = test_tmpdir_create(), path[512];

	alarm(HANGS_AFTER);
	snprintf(path, sizeof(path), "%s/full", dir);
	full_memory_goes_on(path);
	snprintf(path, sizeof(path), "%s/coldest", dir);
	coldest_goes_first(path);
	snprintf(path, sizeof(path), "%s/background", dir);
	promotion_survives_closing(path);
	snprintf(path, sizeof(path), "%s/listing", dir);
	listing_opens_nothing(path);
	snprintf(path, sizeof(path), "%s/descriptors", dir);
	replicas_need_no_descriptors(path);
	snprintf(path, sizeof(path), "%s/copying", dir);
	copiers_do_not_wait_in_a_circle(path);
	test_tmpdir_remove(dir);
	return 0;
}
