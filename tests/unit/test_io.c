/* SPDX-License-Identifier: MIT */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/io.h"
#include "base/mem.h"
#include "testlib.h"

static char *dir;
static int dirfd_;

static void setup(void)
{
	dir = test_tmpdir_create();
	dirfd_ = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cr_assert_geq(dirfd_, 0);
}

static void teardown(void)
{
	close(dirfd_);
	test_tmpdir_remove(dir);
}

TestSuite(io, .init = setup, .fini = teardown);

static int put(const char *name, const char *text)
{
	int fd = io_open_regular(dirfd_, name, O_RDWR | O_CREAT | O_TRUNC, 0600);

	cr_assert_geq(fd, 0);
	cr_assert_eq(io_pwrite_all(fd, text, strlen(text), 0), 0);
	return fd;
}

Test(io, reads_up_to_end_of_file)
{
	int fd = put("f", "0123456789");
	char b[20];

	cr_assert_eq(io_pread(fd, b, sizeof(b), 4), 6);
	cr_assert_eq(memcmp(b, "456789", 6), 0);
	cr_assert_eq(io_pread(fd, b, sizeof(b), 10), 0);
	cr_assert_eq(io_pread_all(fd, b, 10, 0), 0);
	cr_assert_eq(io_pread_all(fd, b, 11, 0), -KVFS_ETRUNCATED);
	cr_assert_eq(io_pread(fd, b, 1, UINT64_MAX), -EINVAL);
	cr_assert_eq(io_pread(fd, b, SIZE_MAX, 0), -EINVAL);
	cr_assert_eq(io_pwrite_all(fd, b, 1, UINT64_MAX), -EFBIG);
	cr_assert_eq(io_pwrite_all(fd, b, 2, INT64_MAX - 1), -EFBIG);
	cr_assert_eq(io_fsync(fd), 0);
	cr_assert_eq(io_fdatasync(fd), 0);
	io_close(&fd);
	cr_assert_eq(fd, -1);
	io_close(&fd);
	cr_assert_eq(io_pread(-1, b, 1, 0), -EBADF);
	cr_assert_eq(io_fsync(-1), -EBADF);
	cr_assert_eq(io_fdatasync(-1), -EBADF);
	cr_assert_eq(io_pwrite_all(-1, b, 1, 0), -EBADF);
}

Test(io, short_write_at_a_limit_is_an_error)
{
	/* The kernel writes 5 of 10 bytes and refuses the rest. */
	int fd = put("f", "");
	struct rlimit lim = { 5, 5 };
	struct stat st;

	signal(SIGXFSZ, SIG_IGN);
	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &lim), 0);
	cr_assert_eq(io_pwrite_all(fd, "0123456789", 10, 0), -EFBIG);
	cr_assert_eq(fstat(fd, &st), 0);
	cr_assert_eq(st.st_size, 5);
	io_close(&fd);
}

Test(io, planted_files_are_refused_without_hanging, .timeout = 10)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd = put("real", "x"), s = socket(AF_UNIX, SOCK_STREAM, 0);

	io_close(&fd);
	cr_assert_eq(mkfifoat(dirfd_, "fifo", 0600), 0);
	cr_assert_eq(symlinkat("real", dirfd_, "link"), 0);
	cr_assert_eq(mkdirat(dirfd_, "dir", 0700), 0);
	snprintf(un.sun_path, sizeof(un.sun_path), "%s/sock", dir);
	cr_assert_eq(bind(s, (struct sockaddr *)&un, sizeof(un)), 0);
	close(s);

	for (int w = 0; w < 2; w++) {
		int flags = w ? O_WRONLY : O_RDONLY;

		cr_assert_eq(io_open_regular(dirfd_, "fifo", flags, 0), -KVFS_EFORMAT);
		cr_assert_eq(io_open_regular(dirfd_, "link", flags, 0), -KVFS_EFORMAT);
		cr_assert_eq(io_open_regular(dirfd_, "dir", flags, 0), -KVFS_EFORMAT);
		cr_assert_eq(io_open_regular(dirfd_, "sock", flags, 0), -KVFS_EFORMAT);
	}
	cr_assert_eq(io_open_regular(dirfd_, "fifo", O_RDWR, 0), -KVFS_EFORMAT);
	cr_assert_eq(io_open_regular(dirfd_, "none", O_RDONLY, 0), -ENOENT);
	fd = io_open_regular(dirfd_, "real", O_RDONLY, 0);
	cr_assert_geq(fd, 0);
	cr_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	io_close(&fd);
}

Test(io, paths_stay_beneath_and_follow_no_links)
{
	int fd;

	cr_assert_eq(mkdirat(dirfd_, "a", 0700), 0);
	cr_assert_eq(mkdirat(dirfd_, "a/b", 0700), 0);
	fd = openat(dirfd_, "a/b/c", O_CREAT | O_WRONLY, 0600);
	cr_assert_geq(fd, 0);
	io_close(&fd);
	cr_assert_eq(symlinkat("a", dirfd_, "l"), 0);
	cr_assert_eq(symlinkat("b/c", dirfd_, "a/l"), 0);
	fd = io_open_beneath(dirfd_, "a/b/c", O_RDONLY);
	cr_assert_geq(fd, 0);
	io_close(&fd);
	fd = io_open_beneath(dirfd_, ".", O_RDONLY | O_DIRECTORY);
	cr_assert_geq(fd, 0);
	io_close(&fd);
	cr_assert_eq(io_open_beneath(dirfd_, "a/b/d", O_RDONLY), -ENOENT);
	cr_assert_eq(io_open_beneath(dirfd_, "l/b/c", O_RDONLY), -ENOTDIR);
	cr_assert_eq(io_open_beneath(dirfd_, "a/l", O_RDONLY), -ELOOP);
	cr_assert_eq(io_open_beneath(dirfd_, "a/../a/b/c", O_RDONLY), -EINVAL);
	cr_assert_eq(io_open_beneath(dirfd_, "/etc/passwd", O_RDONLY), -EINVAL);
	cr_assert_eq(io_open_beneath(dirfd_, "", O_RDONLY), -EINVAL);
	cr_assert_eq(unlinkat(dirfd_, "a/b/c", 0), 0);
	cr_assert_eq(unlinkat(dirfd_, "a/b", AT_REMOVEDIR), 0);
}

Test(io, whole_files_up_to_a_bound)
{
	int fd = put("f", "hello");
	size_t len = 0;
	char *s = NULL;

	io_close(&fd);
	cr_assert_eq(io_read_file(dirfd_, "f", 5, &s, &len), 0);
	cr_assert_str_eq(s, "hello");
	cr_assert_eq(len, 5);
	mem_free(s);
	s = NULL;
	cr_assert_eq(io_read_file(dirfd_, "f", 4, &s, NULL), -EFBIG);
	cr_assert_null(s);
	cr_assert_eq(io_read_file(dirfd_, "none", 4, &s, NULL), -ENOENT);
	/* /proc files claim size 0 but have content: bounded as well */
	cr_assert_eq(io_read_file(AT_FDCWD, "/proc/self/status", 0, &s, NULL), -EFBIG);
	fd = put("empty", "");
	io_close(&fd);
	cr_assert_eq(io_read_file(dirfd_, "empty", 0, &s, &len), 0);
	cr_assert_str_eq(s, "");
	mem_free(s);
}

static int round_trip(void *arg)
{
	int fd = io_open_regular(dirfd_, "t", O_RDWR | O_CREAT | O_TRUNC, 0600), rc;
	char *s = NULL;

	cr_assert_geq(fd, 0);
	rc = io_pwrite_all(fd, "abc", 3, 0);
	if (!rc)
		rc = io_fsync(fd);
	if (!rc)
		rc = io_fdatasync(fd);
	if (!rc)
		rc = io_read_file(dirfd_, "t", 3, &s, NULL);
	mem_free(s);
	io_close(&fd);
	return rc;
}

Test(io, faults_at_every_call)
{
	int n = test_fault_loop(FAULT_READ, round_trip, NULL);

	if (n < 0) {
		teardown(); /* which skipping skips as well */
		cr_skip_test("no fault injection in this build");
	}
	cr_assert_eq(n, 1);
	cr_assert_eq(test_fault_loop(FAULT_WRITE, round_trip, NULL), 1);
	cr_assert_eq(test_fault_loop(FAULT_SYNC, round_trip, NULL), 2);
	cr_assert_eq(test_fault_loop(FAULT_ALLOC, round_trip, NULL), 1);
}
