/* SPDX-License-Identifier: MIT */
/* Contents: reads, writes, mappings, holes, locks. */
#include "posix.h"

#include <sys/file.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>

#define MIB (1024 * 1024)

static void fill(unsigned char *p, size_t len, unsigned seed)
{
	for (size_t i = 0; i < len; i++)
		p[i] = (unsigned char)((i * 2654435761u + seed) >> 13);
}

static int open_rw(const char *name, int flags)
{
	int fd = open(name, O_RDWR | O_CREAT | flags, 0644);

	OK(fd);
	return fd;
}

/* No read is short before the end of the file, at any offset and size. */
static void read_at_any_offset(void)
{
	const size_t len = 3 * MIB + 12345;
	unsigned char *want = malloc(len), *got = malloc(len);
	int fd = open_rw("f", 0);

	TRUE(want && got);
	fill(want, len, 1);
	TRUE(write(fd, want, len) == (ssize_t)len);
	OK(close(fd));
	fd = open("f", O_RDONLY);
	OK(fd);
	TRUE(read(fd, got, len) == (ssize_t)len && memcmp(want, got, len) == 0);
	for (size_t off = 0; off < len; off += 131071) {
		size_t n = 1 + (off * 7919) % (2 * MIB), rest = len - off;

		if (n > rest)
			n = rest;
		TRUE(pread(fd, got, n, (off_t)off) == (ssize_t)n);
		TRUE(memcmp(want + off, got, n) == 0);
	}
	TRUE(pread(fd, got, 100, (off_t)len - 10) == 10);
	TRUE(pread(fd, got, 100, (off_t)len) == 0);
	TRUE(pread(fd, got, 100, (off_t)len + 1000000) == 0);
	free(want);
	free(got);
}

static void write_in_pieces(void)
{
	enum { LEN = 2 * MIB + 77 };
	unsigned char *want = malloc(LEN), *got = malloc(LEN);
	int fd = open_rw("f", 0);

	TRUE(want && got);
	fill(want, LEN, 2);
	for (size_t off = 0, n = 1; off < LEN; off += n, n = n * 3 % 65537 + 1) {
		if (n > LEN - off)
			n = LEN - off;
		TRUE(pwrite(fd, want + off, n, (off_t)off) == (ssize_t)n);
	}
	fill(want + 4095, 5000, 3); /* over pages that are there */
	TRUE(pwrite(fd, want + 4095, 5000, 4095) == 5000);
	TRUE(pread(fd, got, LEN, 0) == LEN && memcmp(want, got, LEN) == 0);
	OK(fsync(fd));
	OK(fdatasync(fd));
	OK(close(fd));
	fd = open("f", O_RDONLY);
	OK(fd);
	TRUE(pread(fd, got, LEN, 0) == LEN && memcmp(want, got, LEN) == 0);
	free(want);
	free(got);
}

static void vectored(void)
{
	char a[10], b[20], hello[] = "hello ", world[] = "world";
	struct iovec w[2] = { { hello, 6 }, { world, 5 } }, r[2] = { { a, 4 }, { b, 20 } };
	int fd = open_rw("f", 0);

	TRUE(writev(fd, w, 2) == 11);
	TRUE(preadv(fd, r, 2, 0) == 11);
	TRUE(memcmp(a, "hell", 4) == 0 && memcmp(b, "o world", 7) == 0);
	TRUE(pwritev(fd, w, 2, 3) == 11);
}

static void append(void)
{
	int a = open_rw("f", O_APPEND), b = open("f", O_WRONLY | O_APPEND);

	OK(b);
	for (int i = 0; i < 100; i++) {
		TRUE(write(a, "a", 1) == 1);
		TRUE(write(b, "bb", 2) == 2);
	}
	TRUE(stat_of("f").st_size == 300);
	TRUE(lseek(a, 0, SEEK_CUR) == 299 || lseek(a, 0, SEEK_END) == 300);
	OK(ftruncate(a, 1));
	TRUE(write(b, "c", 1) == 1);
	expect_text("f", "ac");
}

/* Several processes append: nothing is lost or torn. */
static void append_concurrently(void)
{
	enum { PROCS = 4, LINES = 200 };
	char line[64], *all;
	int fd, seen[PROCS] = { 0 };

	for (int p = 0; p < PROCS; p++) {
		if (fork() == 0) {
			fd = open_rw("f", O_APPEND);
			memset(line, 'a' + p, sizeof(line));
			for (int i = 0; i < LINES; i++)
				TRUE(write(fd, line, sizeof(line)) == sizeof(line));
			exit(0);
		}
	}
	for (int p = 0; p < PROCS; p++) {
		int status;

		OK(wait(&status));
		TRUE(status == 0);
	}
	TRUE(stat_of("f").st_size == PROCS * LINES * 64);
	all = malloc(PROCS * LINES * 64);
	fd = open("f", O_RDONLY);
	TRUE(all && read(fd, all, PROCS * LINES * 64) == PROCS * LINES * 64);
	for (int i = 0; i < PROCS * LINES; i++) {
		for (int k = 1; k < 64; k++)
			TRUE(all[i * 64 + k] == all[i * 64]);
		seen[all[i * 64] - 'a']++;
	}
	for (int p = 0; p < PROCS; p++)
		TRUE(seen[p] == LINES);
	free(all);
}

static void truncation(void)
{
	char buf[8192];
	int fd = open_rw("f", 0);

	memset(buf, 'x', sizeof(buf));
	TRUE(write(fd, buf, 8192) == 8192);
	OK(ftruncate(fd, 5000));
	TRUE(stat_of("f").st_size == 5000);
	OK(ftruncate(fd, 8192)); /* what comes back is zeros */
	TRUE(pread(fd, buf, 8192, 0) == 8192);
	for (int i = 0; i < 8192; i++)
		TRUE(buf[i] == (i < 5000 ? 'x' : 0));
	OK(truncate("f", 0));
	TRUE(pread(fd, buf, 1, 0) == 0);
	ERR(truncate("f", -1), EINVAL);
	TRUE(pwrite(fd, "end", 3, 10000) == 3);
	OK(close(fd));
	fd = open("f", O_WRONLY | O_TRUNC);
	OK(fd);
	TRUE(stat_of("f").st_size == 0);
	ERR((int)read(fd, buf, 1), EBADF);
}

static void sparse(void)
{
	struct stat st;
	char c = 1;
	int fd = open_rw("f", 0);

	OK(ftruncate(fd, 1ll << 40));
	TRUE(pwrite(fd, "x", 1, (1ll << 40) - 1) == 1);
	TRUE(pread(fd, &c, 1, 12345678901ll) == 1 && c == 0);
	TRUE(pread(fd, &c, 1, (1ll << 40) - 1) == 1 && c == 'x');
	OK(fstat(fd, &st));
	TRUE(st.st_size == 1ll << 40 && st.st_blocks < 1000);
	TRUE(lseek(fd, 0, SEEK_HOLE) == 0);
	TRUE(lseek(fd, 0, SEEK_DATA) > (1ll << 39));
	ERR((int)lseek(fd, 1ll << 41, SEEK_DATA), ENXIO);
	TRUE(lseek(fd, -1, SEEK_END) == (1ll << 40) - 1);
	ERR((int)lseek(fd, -5, SEEK_SET), EINVAL);
}

static void fallocate_modes(void)
{
	char buf[100];
	int fd = open_rw("f", 0);

	if (fallocate(fd, 0, 0, 100000) < 0) {
		TRUE(errno == EOPNOTSUPP);
		return;
	}
	TRUE(stat_of("f").st_size == 100000);
	OK(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 200000));
	TRUE(stat_of("f").st_size == 100000);
	memset(buf, 'y', sizeof(buf));
	TRUE(pwrite(fd, buf, 100, 4096) == 100);
	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 4096) == 0)
		TRUE(pread(fd, buf, 1, 4096) == 1 && buf[0] == 0);
	else
		TRUE(errno == EOPNOTSUPP);
}

static void mmap_shared(void)
{
	const size_t len = 3 * MIB;
	unsigned char *want = malloc(len), *m;
	char c;
	int fd = open_rw("f", 0);

	TRUE(want != NULL);
	fill(want, len, 5);
	OK(ftruncate(fd, (off_t)len));
	m = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	TRUE(m != MAP_FAILED);
	for (size_t i = 0; i < len; i += 4096)
		TRUE(m[i] == 0);
	memcpy(m, want, len);
	TRUE(pread(fd, &c, 1, 777) == 1 && (unsigned char)c == want[777]);
	OK(msync(m, len, MS_SYNC));
	TRUE(pwrite(fd, "Q", 1, 4097) == 1);
	TRUE(m[4097] == 'Q');
	want[4097] = 'Q';
	OK(munmap(m, len));
	OK(close(fd));
	fd = open("f", O_RDONLY);
	OK(fd);
	m = mmap(NULL, len, PROT_READ, MAP_SHARED, fd, 0);
	TRUE(m != MAP_FAILED);
	OK(close(fd)); /* the mapping outlives the descriptor */
	TRUE(memcmp(m, want, len) == 0);
	OK(unlink("f"));
	TRUE(m[len - 1] == want[len - 1]);
	OK(munmap(m, len));
	free(want);
}

static void mmap_private(void)
{
	char *m;
	int fd = open_rw("f", 0);

	TRUE(write(fd, "abcdef", 6) == 6);
	m = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_POPULATE, fd, 0);
	TRUE(m != MAP_FAILED && memcmp(m, "abcdef", 6) == 0 && m[6] == 0);
	m[0] = 'Z';
	OK(munmap(m, 4096));
	expect_text("f", "abcdef");
}

static void direct_io(void)
{
	enum { LEN = 4 * MIB };
	unsigned char *a, *b;
	int fd;

	TRUE(posix_memalign((void **)&a, 4096, LEN) == 0);
	TRUE(posix_memalign((void **)&b, 4096, LEN) == 0);
	fill(a, LEN, 9);
	fd = open("f", O_RDWR | O_CREAT | O_EXCL | O_DIRECT, 0644);
	OK(fd);
	TRUE(write(fd, a, LEN) == LEN);
	TRUE(pread(fd, b, LEN, 0) == LEN && memcmp(a, b, LEN) == 0);
	OK(close(fd));
	fd = open("f", O_RDONLY);
	OK(fd);
	TRUE(pread(fd, b, LEN, 0) == LEN && memcmp(a, b, LEN) == 0);
	OK(fcntl(fd, F_SETFL, O_DIRECT)); /* as vLLM and others switch it on later */
	TRUE(pread(fd, b, 4096, 8192) == 4096 && memcmp(a + 8192, b, 4096) == 0);
	free(a);
	free(b);
}

static void sync_flags(void)
{
	int fd = open_rw("f", O_SYNC);

	TRUE(write(fd, "durable", 7) == 7);
	OK(close(fd));
	fd = open("f", O_WRONLY | O_DSYNC);
	OK(fd);
	TRUE(pwrite(fd, "D", 1, 0) == 1);
	OK(close(fd));
	expect_text("f", "Durable");
	fd = open("f", O_RDONLY | O_NOATIME);
	OK(fd);
	OK(syncfs(fd));
	fd = open(".", O_RDONLY | O_DIRECTORY);
	OK(fd);
	OK(fsync(fd));
}

/* What one descriptor writes the other reads at once, in both directions. */
static void coherent_descriptors(void)
{
	char buf[16];
	int w = open_rw("f", 0), r = open("f", O_RDONLY);

	OK(r);
	for (int i = 0; i < 50; i++) {
		int n = snprintf(buf, sizeof(buf), "%08d", i);
		char got[16] = "";

		TRUE(pwrite(w, buf, (size_t)n, i * 4096) == n);
		TRUE(pread(r, got, (size_t)n, i * 4096) == n && strcmp(buf, got) == 0);
		TRUE(stat_of("f").st_size == i * 4096 + n);
	}
	OK(ftruncate(w, 3));
	TRUE(pread(r, buf, 16, 0) == 3);
}

static void copy_range(void)
{
	char buf[32] = "";
	int a = open_rw("a", 0), b = open_rw("b", 0);
	off_t from = 2, to = 1;
	ssize_t n;

	TRUE(write(a, "0123456789", 10) == 10);
	n = copy_file_range(a, &from, b, &to, 5, 0);
	TRUE(n == 5 || (n == -1 && (errno == EXDEV || errno == EOPNOTSUPP)));
	if (n == 5)
		TRUE(pread(b, buf, 16, 0) == 6 && memcmp(buf,
							 "\0"
							 "23456",
							 6) == 0);
}

static void flock_and_fcntl(void)
{
	struct flock lk = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = 10 };
	int a = open_rw("f", 0), b = open("f", O_RDWR), status;

	OK(b);
	OK(flock(a, LOCK_EX));
	ERR(flock(b, LOCK_EX | LOCK_NB), EWOULDBLOCK);
	OK(flock(a, LOCK_UN));
	OK(flock(b, LOCK_SH | LOCK_NB));
	OK(flock(b, LOCK_UN));
	OK(fcntl(a, F_SETLK, &lk));
	if (fork() == 0) {
		struct flock other = {
			.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 15, .l_len = 1
		};

		OK(fcntl(b, F_GETLK, &other));
		TRUE(other.l_type == F_WRLCK && other.l_start == 10);
		other.l_type = F_RDLCK;
		other.l_start = 15;
		other.l_len = 1;
		ERR(fcntl(b, F_SETLK, &other), EAGAIN);
		other.l_start = 30;
		OK(fcntl(b, F_SETLK, &other));
		exit(0);
	}
	OK(wait(&status));
	TRUE(status == 0);
	lk.l_start = 100;
	OK(fcntl(a, F_OFD_SETLK, &(struct flock){ .l_type = F_WRLCK, .l_start = 50, .l_len = 1 }));
	ERR(fcntl(b, F_OFD_SETLK, &(struct flock){ .l_type = F_WRLCK, .l_start = 50, .l_len = 1 }),
	    EAGAIN);
}

static void ioctl_none(void)
{
	int fd = open_rw("f", 0);

	TRUE(isatty(fd) == 0);
	TRUE(errno == 0 || errno == ENOTTY);
}

const struct posix_case cases_data[] = {
	{ "read_at_any_offset", read_at_any_offset },
	{ "write_in_pieces", write_in_pieces },
	{ "vectored", vectored },
	{ "append", append },
	{ "append_concurrently", append_concurrently },
	{ "truncation", truncation },
	{ "sparse", sparse },
	{ "fallocate_modes", fallocate_modes },
	{ "mmap_shared", mmap_shared },
	{ "mmap_private", mmap_private },
	{ "direct_io", direct_io },
	{ "sync_flags", sync_flags },
	{ "coherent_descriptors", coherent_descriptors },
	{ "copy_range", copy_range },
	{ "flock_and_fcntl", flock_and_fcntl },
	{ "ioctl_none", ioctl_none },
	{ NULL, NULL },
};
