/* SPDX-License-Identifier: MIT */
/*
 * The edges of the table of modes (head of src/store/open.c), one by one: who
 * has a file open or mapped, and what is done to it meanwhile.
 *
 *   modes DIR EDGE...   runs the edges named, on a mount at DIR
 *   modes DIR hold      maps a decoded copy and a plain file, says "ready", waits
 *   modes WAITING flight FILE PID   requests in flight of one large O_DIRECT read
 *   modes - resident FILE...        pages of each file in the page cache
 *
 * Exits 1 and says where when something is not as written.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "testlib.h"

#define LEN ((3u << 20) - 100) /* a last page that is not full */
#define BIG (8u << 20)
#define WAIT_MS 5000

static const char *top;
static uint8_t want[BIG], got[BIG]; /* what the file of this edge holds */
static size_t want_len;

/* ---- content -------------------------------------------------------------- */

/* Numbers that seal well; another seed, other bytes at nearly every place. */
static void fresh(size_t off, size_t len, uint64_t seed)
{
	for (size_t i = off; i < off + len; i++) {
		uint64_t s = (i / 2 + 1) * 0x9e3779b97f4a7c15ull ^ seed * 0xd6e8feb86659fd93ull;

		s ^= s >> 31;
		s *= 0xbf58476d1ce4e5b9ull;
		want[i] = i % 2 ? (uint8_t)(0x3b + (s >> 60) % 5) : (uint8_t)(s >> 40);
	}
}

static void same(const uint8_t *p, size_t len, const char *how)
{
	for (size_t i = 0; i < len; i++) {
		if (p[i] == want[i])
			continue;
		fprintf(stderr, "%s: at %zu found %02x, written %02x\n", how, i, p[i], want[i]);
		exit(1);
	}
}

static const char *path_of(const char *name)
{
	static char path[4][512];
	static unsigned turn;
	char *p = path[turn++ % 4];

	snprintf(p, sizeof(path[0]), "%s/%s", top, name);
	return p;
}

static void same_fd(int fd, const char *how)
{
	struct stat sb;

	CHECK(fstat(fd, &sb) == 0);
	CHECK_EQ(sb.st_size, want_len);
	CHECK_EQ(pread(fd, got, BIG, 0), want_len);
	same(got, want_len, how);
}

static void same_file(const char *name)
{
	int fd = open(path_of(name), O_RDONLY);

	CHECK(fd >= 0);
	same_fd(fd, "by name");
	close(fd);
}

/* ---- steering and looking ------------------------------------------------- */

static int steer(const char *name, const char *what, const char *value)
{
	char x[64];

	snprintf(x, sizeof(x), "user.kvcache.%s", what);
	return setxattr(path_of(name), x, value, strlen(value), 0) < 0 ? -errno : 0;
}

static bool is(const char *name, const char *what, const char *value)
{
	char x[64], v[128];
	ssize_t n;

	snprintf(x, sizeof(x), "user.kvcache.%s", what);
	n = getxattr(path_of(name), x, v, sizeof(v) - 1);
	CHECK(n >= 0);
	v[n] = '\0';
	return strcmp(v, value) == 0;
}

static void wait_is(const char *name, const char *what, const char *value)
{
	for (int i = 0; i < WAIT_MS / 20 && !is(name, what, value); i++)
		usleep(20000);
	CHECK(is(name, what, value));
}

static unsigned long long passed(void)
{
	unsigned long long n = 0;
	char line[256];
	FILE *f = fopen(path_of(".kvcachefs/metrics"), "r");

	CHECK(f);
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "kvcachefs_opens_passthrough_total %llu", &n) == 1)
			break;
	fclose(f);
	return n;
}

/* @by_kernel: served by the kernel alone, or not. */
static int open_as(const char *name, int flags, bool by_kernel)
{
	unsigned long long before = passed();
	int fd = open(path_of(name), flags);

	CHECK(fd >= 0);
	CHECK_EQ(passed() - before, by_kernel);
	return fd;
}

static void put(int fd, size_t off, size_t len, uint64_t seed)
{
	fresh(off, len, seed);
	CHECK_EQ(pwrite(fd, want + off, len, (off_t)off), len);
	if (off + len > want_len)
		want_len = off + len;
}

static void make_plain(const char *name, size_t len, uint64_t seed)
{
	int fd = open(path_of(name), O_CREAT | O_TRUNC | O_WRONLY, 0644);

	CHECK(fd >= 0);
	memset(want, 0, BIG);
	want_len = 0;
	put(fd, 0, len, seed);
	CHECK(close(fd) == 0);
}

/* Sealed, with a decoded copy. */
static void make_copy(const char *name, size_t len, uint64_t seed)
{
	make_plain(name, len, seed);
	CHECK_EQ(steer(name, "seal", "1"), 0);
	CHECK_EQ(steer(name, "move", "copy"), 0);
	CHECK(is(name, "tier", "copy"));
}

static uint8_t *map_fd(int fd, int prot)
{
	uint8_t *m = mmap(NULL, want_len, prot, MAP_SHARED, fd, 0);

	CHECK(m != MAP_FAILED);
	same(m, want_len, "mapping");
	return m;
}

/* The decoded copy of @name mapped, and no descriptor. */
static uint8_t *map_copy(const char *name, uint64_t seed)
{
	uint8_t *m;
	int fd;

	make_copy(name, LEN, seed);
	fd = open_as(name, O_RDONLY, true);
	m = map_fd(fd, PROT_READ);
	close(fd);
	return m;
}

/* However it is served from now on. */
static void same_every_way(const char *name)
{
	same_file(name);
	if (is(name, "state", "overlay"))
		CHECK_EQ(steer(name, "unseal", "1"), 0);
	CHECK_EQ(steer(name, "seal", "1"), 0);
	CHECK(is(name, "state", "sealed"));
	same_file(name);
	CHECK_EQ(steer(name, "move", "copy"), 0);
	same_file(name);
	CHECK_EQ(steer(name, "move", "ssd"), 0);
	same_file(name);
}

/* ---- a copy that is mapped, and no descriptor ------------------------------ */

static void mapped_truncate(void)
{
	uint8_t *m = map_copy("truncate", 1);

	CHECK(truncate(path_of("truncate"), 1 << 20) == 0);
	memset(want + (1 << 20), 0, BIG - (1 << 20));
	want_len = 1 << 20;
	same_file("truncate");
	same(m, want_len, "mapping of what was cut");
	CHECK(truncate(path_of("truncate"), 2 << 20) == 0);
	want_len = 2 << 20;
	same_file("truncate");
	same(m, want_len, "mapping of what grew again");
	CHECK(truncate(path_of("truncate"), 0) == 0);
	want_len = 0;
	same_file("truncate");
	munmap(m, LEN);
	wait_is("truncate", "copy_bytes", "0");
	same_file("truncate");
}

/* By O_TRUNC; with @sync also what a shared copy writes back. */
static void rewrite(const char *name, bool sync)
{
	uint8_t *m = map_copy(name, 2);
	int fd = open(path_of(name), O_WRONLY | O_TRUNC);

	CHECK(fd >= 0);
	memset(want, 0, BIG);
	want_len = 0;
	put(fd, 0, LEN - 1000000, 3); /* shorter: nothing of the old tail may come back */
	if (sync)
		CHECK(fsync(fd) == 0);
	same(m, want_len, "mapping of what was written anew");
	CHECK(close(fd) == 0);
	same(m, want_len, "mapping of what was written anew and closed");
	same_file(name);
	munmap(m, LEN);
	same_every_way(name);
}

static void mapped_rewrite(void)
{
	rewrite("rewrite", false);
}

static void mapped_rewrite_sync(void)
{
	rewrite("rewrite_sync", true);
}

static void mapped_unseal(void)
{
	uint8_t *m = map_copy("unseal", 4);
	int r, fd;

	CHECK_EQ(steer("unseal", "unseal", "1"), 0);
	CHECK(is("unseal", "state", "plain"));
	r = open(path_of("unseal"), O_RDONLY);
	CHECK(r >= 0);
	fd = open(path_of("unseal"), O_RDWR);
	CHECK(fd >= 0);
	put(fd, 1000000, 100000, 5);
	same_fd(r, "reader beside the writer");
	same(m, want_len, "mapping of what was unsealed");
	close(r);
	CHECK(close(fd) == 0);
	same_file("unseal");
	CHECK_EQ(steer("unseal", "seal", "1"), -EBUSY);
	munmap(m, LEN);
	same_every_way("unseal");
}

static void mapped_overlay(void)
{
	uint8_t *m = map_copy("overlay", 6);
	int fd = open(path_of("overlay"), O_RDWR);

	CHECK(fd >= 0);
	put(fd, 4000, 200, 7);
	same(m, want_len, "mapping beside a writer");
	same_fd(fd, "the writer");
	CHECK(close(fd) == 0);
	CHECK(is("overlay", "state", "overlay"));
	same_file("overlay");
	fd = open(path_of("overlay"), O_RDWR);
	CHECK(fd >= 0);
	CHECK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 8192, 65536) == 0);
	memset(want + 8192, 0, 65536);
	same(m, want_len, "mapping of what was punched");
	CHECK(close(fd) == 0);
	munmap(m, LEN);
	same_every_way("overlay");
}

static void mapped_move(void)
{
	uint8_t *m = map_copy("move", 8);

	for (int i = 0; i < 2; i++) {
		CHECK_EQ(steer("move", "move", "ssd"), 0);
		same(m, want_len, "mapping of what was moved to ssd");
		same_file("move");
		CHECK_EQ(steer("move", "move", "dram"), 0);
		CHECK_EQ(steer("move", "move", "copy"), 0);
		same(m, want_len, "mapping of what was moved to dram");
		same_file("move");
	}
	munmap(m, LEN);
	CHECK_EQ(steer("move", "move", "ssd"), 0);
	wait_is("move", "tier", "ssd");
	same_file("move");
}

/* Another file's copy never is the memory that somebody still sees. */
static void mapped_recycle(void)
{
	static uint8_t old[LEN];
	uint8_t *m = map_copy("recycle", 9), *n;
	char name[16];
	int fd;

	memcpy(old, want, LEN);
	CHECK(unlink(path_of("recycle")) == 0);
	for (unsigned i = 0; i < 3; i++) {
		snprintf(name, sizeof(name), "recycle%u", i);
		make_copy(name, LEN - 1000 * i, 10 + i);
		fd = open_as(name, O_RDONLY, true);
		same_fd(fd, "copy in recycled pages");
		n = map_fd(fd, PROT_READ);
		for (size_t k = want_len; k % 4096; k++)
			CHECK_EQ(n[k], 0); /* behind the end */
		close(fd);
		munmap(n, want_len);
		CHECK_EQ(memcmp(m, old, LEN), 0);
		if (i == 1)
			munmap(m, LEN);
		if (i == 1)
			m = old;
		CHECK_EQ(steer(name, "move", "ssd"), 0);
	}
}

/* ---- writers beside readers ----------------------------------------------- */

/* What the daemon itself reads of it. */
static void same_copied(int fd)
{
	int out = open(path_of("copied"), O_CREAT | O_TRUNC | O_RDWR, 0644);
	off_t from = 0;
	ssize_t n;

	CHECK(out >= 0);
	do {
		n = copy_file_range(fd, &from, out, NULL, want_len, 0);
		CHECK(n >= 0);
	} while (n > 0);
	same_fd(out, "copied by the daemon");
	close(out);
}

static void beside(const char *name, bool copy)
{
	uint8_t *m, *w;
	int r, fd, r2;

	if (copy)
		make_copy(name, LEN, 20);
	else
		make_plain(name, LEN, 20);
	r = open_as(name, O_RDONLY, true);
	m = map_fd(r, PROT_READ);
	fd = open_as(name, O_RDWR, !copy);
	put(fd, 100, 5000, 21);
	put(fd, LEN - 5, 10000, 22); /* longer now */
	same_fd(r, "reader beside a writer");
	same(m, LEN, "mapping beside a writer");
	w = map_fd(fd, PROT_READ | PROT_WRITE);
	fresh(2000000, 70000, 23);
	memcpy(w + 2000000, want + 2000000, 70000);
	CHECK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 1 << 20, 1 << 19) == 0);
	memset(want + (1 << 20), 0, 1 << 19);
	fresh(1200000, 300, 25); /* into the hole: data from now on, for whoever asks */
	memcpy(w + 1200000, want + 1200000, 300);
	CHECK(lseek(fd, 1 << 20, SEEK_DATA) <= 1200000);
	same_fd(r, "reader beside a mapping for writing");
	same_copied(r);
	same(m, LEN, "mapping beside a mapping for writing");
	same_fd(fd, "the writer");
	CHECK(fsync(fd) == 0);
	r2 = open(path_of(name), O_RDONLY);
	CHECK(r2 >= 0);
	same_fd(r2, "a second reader");
	close(r2);
	close(r);
	munmap(m, LEN);
	CHECK(close(fd) == 0);
	fresh(1000000, 50, 24); /* nobody but this mapping is left */
	memcpy(w + 1000000, want + 1000000, 50);
	same_file(name);
	munmap(w, want_len);
	same_every_way(name);
}

static void writer_beside_plain_reader(void)
{
	beside("beside_plain", false);
}

static void writer_beside_copy_reader(void)
{
	beside("beside_copy", true);
}

/* Whoever writes is seen, a reader or not: the store does not grow past ssd=. */
static void writer_is_seen(void)
{
	char *block = calloc(1, 1 << 20);
	off_t more = 0;
	ssize_t n;
	int r, fd;

	make_plain("seen", LEN, 30);
	r = open(path_of("seen"), O_RDONLY);
	fd = open_as("seen", O_RDWR, false);
	CHECK(r >= 0 && block);
	put(fd, 5, 50000, 31);
	same_fd(r, "reader beside a writer that is seen");
	same_fd(fd, "writer that is seen");
	while (more < 200 << 20 && (n = pwrite(fd, block, 1 << 20, BIG + more)) > 0)
		more += n;
	CHECK(n < 0 && errno == ENOSPC);
	CHECK(more > 16 << 20 && more < 64 << 20);
	CHECK(ftruncate(fd, LEN) == 0);
	same_fd(r, "reader after all");
	close(r);
	close(fd);
	same_file("seen");
	CHECK(unlink(path_of("seen")) == 0);
	free(block);
}

/* ---- a plain file that is mapped ------------------------------------------- */

static void mapped_seal(void)
{
	uint8_t *m;
	int fd;

	make_plain("seal", LEN, 40);
	fd = open_as("seal", O_RDWR, true);
	m = map_fd(fd, PROT_READ | PROT_WRITE);
	CHECK(close(fd) == 0);
	CHECK_EQ(steer("seal", "seal", "1"), -EBUSY);
	fresh(70000, 3000, 41);
	memcpy(m + 70000, want + 70000, 3000);
	same_file("seal");
	munmap(m, LEN);
	same_every_way("seal");
}

/* Stores after the close change times and blocks, which the kernel must not
 * go on showing as they were. */
static void mapped_times(void)
{
	struct stat was, sb;
	uint8_t *m;
	int fd;

	make_plain("times", 8192, 42);
	fd = open_as("times", O_RDWR, true);
	CHECK(ftruncate(fd, 1 << 20) == 0);
	m = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(m != MAP_FAILED);
	CHECK(close(fd) == 0);
	usleep(300000);
	CHECK(stat(path_of("times"), &was) == 0);
	for (int round = 0; round < 2; round++) {
		memset(m + (round + 1) * 65536, 1, 32768);
		for (int i = 0; i < WAIT_MS / 20; i++) {
			CHECK(stat(path_of("times"), &sb) == 0);
			if (sb.st_blocks > was.st_blocks && sb.st_mtim.tv_nsec != was.st_mtim.tv_nsec)
				break;
			usleep(20000);
		}
		CHECK(sb.st_blocks > was.st_blocks);
		CHECK(sb.st_mtim.tv_sec != was.st_mtim.tv_sec ||
		      sb.st_mtim.tv_nsec != was.st_mtim.tv_nsec);
		was = sb;
	}
	munmap(m, 1 << 20);
}

/* ---- others ---------------------------------------------------------------- */

static void hold(void)
{
	uint8_t *m = map_copy("hold", 50), *w;
	int fd;

	fd = open_as("hold", O_RDONLY, true);
	make_plain("hold_plain", LEN, 51);
	fd = open_as("hold_plain", O_RDWR, true);
	w = map_fd(fd, PROT_READ | PROT_WRITE);
	close(fd);
	printf("ready\n");
	fflush(stdout);
	pause();
	munmap(m, LEN);
	munmap(w, LEN);
}

#define FLIGHT (16u << 20)

static void *read_direct(void *arg)
{
	void *buf = mmap(NULL, FLIGHT, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(buf != MAP_FAILED);
	CHECK_EQ(pread(*(int *)arg, buf, FLIGHT, 0), FLIGHT);
	munmap(buf, FLIGHT);
	return NULL;
}

/* The daemon stands still while the kernel sends what it can. */
static void flight(const char *waiting, const char *file, pid_t pid)
{
	int fd = open(file, O_RDONLY | O_DIRECT), most = 0, now = 0;
	pthread_t t;

	CHECK(fd >= 0);
	CHECK(kill(pid, SIGSTOP) == 0);
	CHECK(pthread_create(&t, NULL, read_direct, &fd) == 0);
	for (int i = 0; i < 100 && most < 8; i++) {
		FILE *f = fopen(waiting, "r");

		if (f && fscanf(f, "%d", &now) == 1 && now > most)
			most = now;
		if (f)
			fclose(f);
		usleep(20000);
	}
	CHECK(kill(pid, SIGCONT) == 0);
	pthread_join(t, NULL);
	close(fd);
	printf("%d requests in flight\n", most);
	CHECK(most >= 8);
}

static void resident(const char *file)
{
	int fd = open(file, O_RDONLY);
	struct stat sb;
	size_t pages, n = 0;
	unsigned char *in;
	void *m;

	CHECK(fd >= 0 && fstat(fd, &sb) == 0 && sb.st_size > 0);
	pages = ((size_t)sb.st_size + 4095) / 4096;
	m = mmap(NULL, (size_t)sb.st_size, PROT_READ, MAP_SHARED, fd, 0);
	in = calloc(1, pages);
	CHECK(m != MAP_FAILED && in && mincore(m, (size_t)sb.st_size, in) == 0);
	for (size_t i = 0; i < pages; i++)
		n += in[i] & 1;
	printf("%zu of %zu pages\n", n, pages);
	free(in);
	munmap(m, (size_t)sb.st_size);
	close(fd);
}

static const struct {
	const char *name;
	void (*run)(void);
} edges[] = {
	{ "mapped_truncate", mapped_truncate },
	{ "mapped_rewrite", mapped_rewrite },
	{ "mapped_rewrite_sync", mapped_rewrite_sync },
	{ "mapped_unseal", mapped_unseal },
	{ "mapped_overlay", mapped_overlay },
	{ "mapped_move", mapped_move },
	{ "mapped_recycle", mapped_recycle },
	{ "mapped_seal", mapped_seal },
	{ "mapped_times", mapped_times },
	{ "writer_beside_plain_reader", writer_beside_plain_reader },
	{ "writer_beside_copy_reader", writer_beside_copy_reader },
	{ "writer_is_seen", writer_is_seen },
	{ "hold", hold },
};

static void run_edge(const char *name)
{
	for (size_t i = 0; i < sizeof(edges) / sizeof(edges[0]); i++) {
		if (strcmp(edges[i].name, name) != 0)
			continue;
		fprintf(stderr, "%s\n", name);
		edges[i].run();
		return;
	}
	fprintf(stderr, "modes: no edge %s\n", name);
	exit(2);
}

int main(int argc, char **argv)
{
	if (argc < 3)
		return 2;
	top = argv[1];
	if (strcmp(argv[2], "flight") == 0 && argc == 5) {
		flight(argv[1], argv[3], atoi(argv[4]));
	} else if (strcmp(argv[2], "resident") == 0) {
		for (int i = 3; i < argc; i++)
			resident(argv[i]);
	} else {
		for (int i = 2; i < argc; i++)
			run_edge(argv[i]);
	}
	return 0;
}
