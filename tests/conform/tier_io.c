/* SPDX-License-Identifier: MIT */
/*
 * What every tier_io promises, run over the real SSD tier and its in-memory
 * twin: each submitted read is finished exactly once, never inside submit, with
 * the right bytes or the right error, in whatever order, also when reads fail,
 * are too many, go on in done, or are still in flight when the tier goes.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/lock.h"
#include "base/mem.h"
#include "base/units.h"
#include "testlib.h"
#include "tiers/meter.h"
#include "tiers/tier.h"

#define FILE_BYTES (4u << 20)
#define ODD_BYTES 10007 /* a file that ends in the middle of a block */

/* One implementation under test. */
struct rig {
	const char *name;
	struct tier_io *t;
	int fd, odd_fd; /* FILE_BYTES and ODD_BYTES long */
	bool direct;    /* fds have O_DIRECT */
	bool mem;
};

static unsigned char *content; /* of both files */
static char *tmpdir;
static bool small_tmpfs; /* the temp dir refuses O_DIRECT */

struct read {
	struct tier_read r;
	pthread_t submitter;
	_Atomic int dones;
	ssize_t res;
};

static _Atomic unsigned done_total;
static _Thread_local bool inside_submit;

static void on_done(struct tier_read *r, ssize_t res)
{
	struct read *x = container_of(r, struct read, r);

	CHECK(!inside_submit);
	x->res = res;
	x->dones++;
	done_total++;
}

static int submit(struct rig *g, struct tier_read *r)
{
	int rc;

	inside_submit = true;
	rc = tier_submit(g->t, r);
	inside_submit = false;
	return rc;
}

static void read_init(struct read *x, int fd, uint64_t off, size_t len)
{
	memset(x, 0, sizeof(*x));
	x->r = (struct tier_read){ .fd = fd, .off_bytes = off, .len = len, .done = on_done };
	x->r.buf = mem_alloc_pages(len);
	CHECK(x->r.buf);
	memset(x->r.buf, 0xee, len);
}

static void read_fini(struct read *x)
{
	mem_free_pages(x->r.buf, x->r.len);
}

/* Waits without touching the read: for all of them. */
static void wait_total(unsigned n)
{
	uint64_t end = clock_mono_ns() + 30 * NSEC_PER_SEC;

	while (done_total < n) {
		CHECK(clock_mono_ns() < end);
		usleep(50);
	}
}

static ssize_t read_once(struct rig *g, int fd, uint64_t off, size_t len, bool compare)
{
	struct read x;
	ssize_t res;

	done_total = 0;
	read_init(&x, fd, off, len);
	CHECK_EQ(submit(g, &x.r), 0);
	wait_total(1);
	CHECK_EQ(x.dones, 1);
	res = x.res;
	if (compare && res > 0) {
		CHECK(memcmp(x.r.buf, content + off, (size_t)res) == 0);
		/* nothing is written behind what was read (O_DIRECT may pad) */
		for (size_t i = (size_t)round_up_u64((uint64_t)res, 4096); !g->direct && i < len;
		     i++)
			CHECK(((unsigned char *)x.r.buf)[i] == 0xee);
	}
	read_fini(&x);
	return res;
}

static void test_reads_bytes_and_ends(struct rig *g)
{
	CHECK_EQ(read_once(g, g->fd, 0, FILE_BYTES, true), FILE_BYTES);
	CHECK_EQ(read_once(g, g->fd, 8192, 4096, true), 4096);
	CHECK_EQ(read_once(g, g->fd, FILE_BYTES - 4096, 4 * 4096, true), 4096);
	CHECK_EQ(read_once(g, g->fd, FILE_BYTES, 4096, true), 0);
	CHECK_EQ(read_once(g, g->fd, 1ull << 40, 4096, true), 0);
	CHECK_EQ(read_once(g, g->odd_fd, 0, 16384, true), ODD_BYTES);
	CHECK_EQ(read_once(g, g->odd_fd, 8192, 8192, true), ODD_BYTES - 8192);
	CHECK_EQ(read_once(g, g->odd_fd, 12288, 4096, true), 0);
	if (!g->direct) {
		CHECK_EQ(read_once(g, g->odd_fd, 3, 50, true), 50);
		CHECK_EQ(read_once(g, g->odd_fd, ODD_BYTES - 1, 7, true), 1);
	}
}

static void test_errors_come_through_done(struct rig *g)
{
	struct read x;

	CHECK_EQ(read_once(g, -1, 0, 4096, false), -EBADF);
	CHECK_EQ(read_once(g, 999999, 0, 4096, false), -EBADF);
	if (g->direct) /* misaligned: the device says no, or reads it right */
		CHECK(read_once(g, g->fd, 1, 4096, true) != 0);
	read_init(&x, g->fd, UINT64_MAX - 100, 4096);
	CHECK_EQ(submit(g, &x.r), -EINVAL);
	x.r.off_bytes = INT64_MAX - 4095;
	CHECK_EQ(submit(g, &x.r), -EINVAL);
	usleep(10000);
	CHECK_EQ(x.dones, 0);
	read_fini(&x);
}

#define MANY 700

/* Far more than the depth, good and bad mixed: reap n, finish n. */
static void test_many_at_once_all_finish(struct rig *g)
{
	static struct read x[MANY];
	struct tier_stats before, s;
	uint64_t seed = 42, bytes = 0;

	g->t->ops->stats(g->t, &before);
	done_total = 0;
	for (int i = 0; i < MANY; i++) {
		uint64_t off = test_rand(&seed) % (FILE_BYTES / 4096) * 4096;
		size_t len = (test_rand(&seed) % 40 + 1) * 4096;

		read_init(&x[i], i % 5 == 3 ? -1 : g->fd, off, len);
		CHECK_EQ(submit(g, &x[i].r), 0);
	}
	wait_total(MANY);
	for (int i = 0; i < MANY; i++) {
		size_t left = FILE_BYTES - x[i].r.off_bytes;
		size_t want = x[i].r.len < left ? x[i].r.len : left;

		CHECK_EQ(x[i].dones, 1);
		if (i % 5 == 3) {
			CHECK_EQ(x[i].res, -EBADF);
		} else {
			CHECK_EQ(x[i].res, want);
			CHECK(memcmp(x[i].r.buf, content + x[i].r.off_bytes, want) == 0);
			bytes += want;
		}
		read_fini(&x[i]);
	}
	g->t->ops->stats(g->t, &s);
	CHECK_EQ(s.reads - before.reads, MANY);
	CHECK_EQ(s.errors - before.errors, MANY / 5);
	CHECK_EQ(s.read_bytes - before.read_bytes, bytes);
	CHECK_EQ(s.in_flight, 0);
	CHECK(s.depth_max >= 1 && s.latency_ns > 0 && s.busy_ns > before.busy_ns);
}

/* Reads that submit the next one from done, and free themselves at the end. */
struct chain {
	struct tier_read r;
	struct rig *g;
	unsigned left;
};

static void chain_done(struct tier_read *r, ssize_t res)
{
	struct chain *c = container_of(r, struct chain, r);

	CHECK_EQ(res, 4096);
	CHECK(memcmp(r->buf, content + r->off_bytes, 4096) == 0);
	if (c->left--) {
		r->off_bytes += 4096;
		CHECK_EQ(tier_submit(c->g->t, r), 0);
		return;
	}
	mem_free_pages(r->buf, 4096);
	free(c);
	done_total++; /* the last: the test may end here */
}

static void start_chains(struct rig *g, unsigned n)
{
	done_total = 0;
	for (unsigned i = 0; i < n; i++) {
		struct chain *c = calloc(1, sizeof(*c));

		CHECK(c);
		c->r = (struct tier_read){
			.fd = g->fd, .off_bytes = i * 4096ull, .len = 4096, .done = chain_done
		};
		c->r.buf = mem_alloc_pages(4096);
		CHECK(c->r.buf);
		c->g = g;
		c->left = 50;
		CHECK_EQ(tier_submit(g->t, &c->r), 0);
	}
}

static void test_done_may_submit_and_free(struct rig *g)
{
	start_chains(g, 200);
	wait_total(200);
}

static void *submit_many(void *arg)
{
	struct rig *g = arg;

	for (int round = 0; round < 20; round++) {
		struct read x[16];
		uint64_t seed = (uintptr_t)&x + (unsigned)round;

		for (int i = 0; i < 16; i++) {
			read_init(&x[i], g->fd, test_rand(&seed) % 1000 * 4096, 4096);
			CHECK_EQ(submit(g, &x[i].r), 0);
		}
		for (int i = 0; i < 16; i++) {
			while (!x[i].dones)
				usleep(20);
			CHECK_EQ(x[i].res, 4096);
			CHECK(memcmp(x[i].r.buf, content + x[i].r.off_bytes, 4096) == 0);
			read_fini(&x[i]);
		}
	}
	return NULL;
}

static void test_many_threads(struct rig *g)
{
	pthread_t t[6];

	for (int i = 0; i < 6; i++)
		CHECK_EQ(pthread_create(&t[i], NULL, submit_many, g), 0);
	for (int i = 0; i < 6; i++)
		CHECK_EQ(pthread_join(t[i], NULL), 0);
}

#define FAULTY 40

static void test_fault_at_nth_read(struct rig *g)
{
#ifdef KVFS_FAULTS
	for (unsigned n = 1; n <= FAULTY; n += 13) {
		struct read x[FAULTY];
		unsigned failed = 0;

		done_total = 0;
		fault_arm(FAULT_READ, n, false);
		for (int i = 0; i < FAULTY; i++) {
			read_init(&x[i], g->fd, (uint64_t)i * 4096, 4096);
			CHECK_EQ(submit(g, &x[i].r), 0);
		}
		wait_total(FAULTY);
		CHECK_EQ(fault_count(FAULT_READ), FAULTY);
		fault_arm(FAULT_READ, 0, false);
		for (int i = 0; i < FAULTY; i++) {
			CHECK_EQ(x[i].dones, 1);
			CHECK(x[i].res == 4096 || x[i].res == -EIO);
			failed += x[i].res < 0;
			read_fini(&x[i]);
		}
		CHECK_EQ(failed, 1);
	}
#endif
}

/* Leaves the rig without a tier. */
static void test_destroy_with_reads_in_flight(struct rig *g)
{
	start_chains(g, 300);
	tier_destroy(g->t);
	g->t = NULL;
	CHECK_EQ(done_total, 300);
}

static void run_suite(struct rig *g)
{
	fprintf(stderr, "tier_io: %s\n", g->name);
	test_reads_bytes_and_ends(g);
	test_errors_come_through_done(g);
	test_many_at_once_all_finish(g);
	test_done_may_submit_and_free(g);
	test_many_threads(g);
	test_fault_at_nth_read(g);
	test_destroy_with_reads_in_flight(g);
}

static int file_with(const char *name, size_t len, bool direct)
{
	char *path;
	int fd;

	CHECK(asprintf(&path, "%s/%s", tmpdir, name) > 0);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	CHECK(fd >= 0);
	CHECK_EQ(io_pwrite_all(fd, content, len, 0), 0);
	CHECK_EQ(io_fsync(fd), 0);
	close(fd);
	fd = open(path, O_RDONLY | O_CLOEXEC | (direct ? O_DIRECT : 0));
	if (fd < 0 && errno == EINVAL) {
		small_tmpfs = true;
		fd = open(path, O_RDONLY | O_CLOEXEC);
	}
	CHECK(fd >= 0);
	free(path);
	return fd;
}

static void suite_ssd(unsigned depth, bool direct)
{
	struct rig g = { .name = direct ? "ssd, O_DIRECT" : "ssd, buffered" };

	g.fd = file_with("f", FILE_BYTES, direct);
	g.odd_fd = file_with("odd", ODD_BYTES, direct);
	g.direct = direct && !small_tmpfs;
	CHECK_EQ(tier_ssd_create(depth, &g.t), 0);
	run_suite(&g);
	close(g.fd);
	close(g.odd_fd);
}

static void suite_mem(void)
{
	struct rig g = { .name = "mem", .mem = true };

	CHECK_EQ(tier_mem_create(false, &g.t), 0);
	g.fd = tier_mem_add(g.t, content, FILE_BYTES);
	g.odd_fd = tier_mem_add(g.t, content, ODD_BYTES);
	CHECK(g.fd >= 1 << 20 && g.odd_fd > g.fd);
	run_suite(&g);
}

/* The twin's manual mode: a test decides the order of completions. */
static void test_manual_out_of_order(void)
{
	struct tier_io *t;
	struct read x[4];
	int fd;

	CHECK_EQ(tier_mem_create(true, &t), 0);
	fd = tier_mem_add(t, content, FILE_BYTES);
	done_total = 0;
	for (int i = 0; i < 4; i++) {
		read_init(&x[i], fd, (uint64_t)i * 4096, 4096);
		CHECK_EQ(tier_submit(t, &x[i].r), 0);
	}
	usleep(1000);
	CHECK_EQ(done_total, 0);
	CHECK(tier_mem_step(t, true));
	CHECK(x[3].dones == 1 && done_total == 1);
	CHECK(tier_mem_step(t, false));
	CHECK(x[0].dones == 1 && done_total == 2);
	tier_destroy(t); /* finishes the other two */
	CHECK_EQ(done_total, 4);
	for (int i = 0; i < 4; i++) {
		CHECK_EQ(x[i].res, 4096);
		CHECK(memcmp(x[i].r.buf, content + (size_t)i * 4096, 4096) == 0);
		read_fini(&x[i]);
	}
}

/* Files without asynchronous reads are read on the reaper. */
static void test_ssd_falls_back_to_pread(void)
{
	struct tier_io *t;
	struct read x;
	int fd = open("/proc/self/mem", O_RDONLY | O_CLOEXEC),
	    dir = open("/", O_RDONLY | O_CLOEXEC);

	CHECK(fd >= 0 && dir >= 0);
	CHECK_EQ(tier_ssd_create(2, &t), 0);
	done_total = 0;
	read_init(&x, fd, (uintptr_t)content, 4096);
	CHECK_EQ(tier_submit(t, &x.r), 0);
	wait_total(1);
	CHECK_EQ(x.res, 4096);
	CHECK(memcmp(x.r.buf, content, 4096) == 0);
	x.r.fd = dir;
	x.r.off_bytes = 0;
	CHECK_EQ(tier_submit(t, &x.r), 0);
	wait_total(2);
	CHECK_EQ(x.res, -EISDIR);
	read_fini(&x);
	tier_destroy(t);
	close(fd);
	close(dir);
}

/* The kernel moves at most 2 GiB - 4 KiB at once: the rest must be asked for. A
 * hole is read into memory that is the same 2 MiB over and over. */
static void test_ssd_continues_after_a_short_count(void)
{
	const size_t piece = 2u << 20, len = (2ul << 30) + 2 * piece;
	int src = memfd_create("src", MFD_CLOEXEC), dst = memfd_create("dst", MFD_CLOEXEC);
	struct tier_io *t;
	struct read x = { .r = { .fd = src, .len = len, .done = on_done } };
	char *p = mmap(NULL, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	CHECK(src >= 0 && dst >= 0 && p != MAP_FAILED);
	CHECK_EQ(ftruncate(src, (off_t)len - 5), 0);
	CHECK_EQ(ftruncate(dst, (off_t)piece), 0);
	for (size_t at = 0; at < len; at += piece)
		CHECK(mmap(p + at, piece, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, dst, 0) !=
		      MAP_FAILED);
	CHECK_EQ(tier_ssd_create(2, &t), 0);
	done_total = 0;
	x.r.buf = p;
	CHECK_EQ(tier_submit(t, &x.r), 0);
	wait_total(1);
	CHECK_EQ(x.res, len - 5);
	tier_destroy(t);
	munmap(p, len);
	close(src);
	close(dst);
}

static unsigned open_fds(void)
{
	unsigned n = 0;

	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static int create_ssd(void *arg)
{
	struct tier_io *t = NULL;
	int rc = tier_ssd_create(4, &t);

	CHECK((rc == 0) == (t != NULL));
	tier_destroy(t);
	return rc;
}

static int create_mem(void *arg)
{
	struct tier_io *t = NULL;
	int rc = tier_mem_create(false, &t);

	if (!rc) {
		int fd = tier_mem_add(t, "x", 1);

		rc = fd < 0 ? fd : 0;
	}
	tier_destroy(t);
	return rc;
}

static void test_create_fails_clean(void)
{
	struct tier_io *t = NULL;
	struct rlimit lim, low;
	unsigned fds = open_fds();
	unsigned long max = 0;
	FILE *f;

	CHECK_EQ(tier_ssd_create(0, &t), -EINVAL);
	f = fopen("/proc/sys/fs/aio-max-nr", "re");
	if (f && fscanf(f, "%lu", &max) == 1 && max < INT32_MAX - 1)
		CHECK_EQ(tier_ssd_create((unsigned)max + 1, &t), -EAGAIN);
	if (f)
		fclose(f);
	CHECK_EQ(getrlimit(RLIMIT_NOFILE, &lim), 0);
	low = lim;
	low.rlim_cur = 0;
	CHECK_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
	CHECK_EQ(tier_ssd_create(4, &t), -EMFILE);
	CHECK_EQ(setrlimit(RLIMIT_NOFILE, &lim), 0);
	(void)test_fault_loop(FAULT_ALLOC, create_ssd, NULL);
	(void)test_fault_loop(FAULT_ALLOC, create_mem, NULL);
	CHECK(!t);
	CHECK_EQ(open_fds(), fds);
	tier_destroy(NULL);
}

#define SMALL 65536u

/* What a device can move shows in many small reads as in a large one, and in a lone small
 * read does not. */
static void test_bandwidth_of_small_reads(void)
{
	struct tier_read r[2 * (4u << 20) / SMALL] = { { .len = SMALL } };
	struct tier_meter m = { .in_flight_bytes = 0 };
	struct tier_stats s;

	for (size_t i = 0; i < sizeof(r) / sizeof(r[0]); i++) {
		r[i].len = SMALL;
		tier_meter_start(&m, &r[i]);
		tier_meter_finish(&m, &r[i], SMALL);
	}
	usleep(25000);
	tier_meter_get(&m, &s);
	CHECK(s.bandwidth_Bps == 0);
	for (size_t i = 0; i < sizeof(r) / sizeof(r[0]); i++)
		tier_meter_start(&m, &r[i]);
	usleep(25000);
	for (size_t i = 0; i < sizeof(r) / sizeof(r[0]); i++)
		tier_meter_finish(&m, &r[i], SMALL);
	tier_meter_get(&m, &s);
	CHECK(s.bandwidth_Bps > 1e6 && s.bandwidth_Bps < 8e6 / 0.025);
	CHECK_EQ(m.in_flight_bytes, 0);
	CHECK(!m.large.sampling && !m.deep.sampling);
}

/* Movers read piece by piece: that is not what a reader of a whole file gets. */
static void test_bandwidth_is_that_of_many_reads(void)
{
	struct tier_read r[32] = { { .len = 0 } };
	struct tier_meter m = { .in_flight_bytes = 0 };
	struct tier_stats s;
	double slow;

	for (size_t i = 0; i < 32; i++) {
		r[i].len = 256u << 10;
		tier_meter_start(&m, &r[i]);
		usleep(2000);
		tier_meter_finish(&m, &r[i], (ssize_t)r[i].len);
	}
	tier_meter_get(&m, &s);
	slow = s.bandwidth_Bps;
	CHECK(slow > 0 && slow < 131072e3);
	for (size_t i = 0; i < 32; i++)
		tier_meter_start(&m, &r[i]);
	usleep(21000);
	for (size_t i = 0; i < 32; i++)
		tier_meter_finish(&m, &r[i], (ssize_t)r[i].len);
	tier_meter_get(&m, &s);
	CHECK(s.bandwidth_Bps > slow);
}

int main(void)
{
	content = mem_alloc_pages(FILE_BYTES);
	CHECK(content);
	test_fill(content, FILE_BYTES, 7);
	tmpdir = test_tmpdir_create();
	suite_mem();
	suite_ssd(32, true);
	suite_ssd(1, true);
	suite_ssd(32, false);
	test_manual_out_of_order();
	test_ssd_falls_back_to_pread();
	test_ssd_continues_after_a_short_count();
	test_create_fails_clean();
	test_bandwidth_of_small_reads();
	test_bandwidth_is_that_of_many_reads();
	test_tmpdir_remove(tmpdir);
	mem_free_pages(content, FILE_BYTES);
	return 0;
}
