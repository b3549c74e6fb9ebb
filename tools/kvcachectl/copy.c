/* SPDX-License-Identifier: MIT */
/*
 * import and export: a tree into or out of the mount, with modes, owners (as
 * root), times, user xattrs, symlinks and holes. A file appears under its name
 * only when it is complete and durable (syncfs would not do: the kernel does not
 * hand it on to FUSE); one that is there already with the same size and time is
 * passed over, so an interrupted copy is continued by calling it again.
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/io.h"
#include "base/mem.h"
#include "ctl.h"

#define COPY_BUFFER (1u << 20)
#define PART ".kvcachectl-part"

/* The copy in progress: nftw's callbacks take no argument, and this program
 * has one thread. */
static struct copy {
	size_t from_len; /* length of the source's root path */
	const char *to;
	char *buf;
	struct progress progress;
	uint64_t files, skipped, bytes;
	uint64_t lossy; /* of files, read at a level below exact */
	int failed;
} cp;

static int complain(const char *path, int err)
{
	cp.failed = 1;
	return ctl_error("%s: %s", path, strerror(err));
}

static int copy_xattrs(int in, int out)
{
	char names[65536], value[65536];
	ssize_t len = flistxattr(in, names, sizeof(names));

	if (len < 0)
		return errno == EOPNOTSUPP ? 0 : -errno;
	for (char *n = names; n < names + len; n += strlen(n) + 1) {
		ssize_t v;

		if (strncmp(n, "user.", 5) != 0)
			continue;
		v = fgetxattr(in, n, value, sizeof(value));
		if (v >= 0 && fsetxattr(out, n, value, (size_t)v, 0) < 0)
			return -errno;
	}
	return 0;
}

static int copy_extent(int in, int out, uint64_t off, uint64_t end)
{
	while (off < end) {
		size_t want = end - off < COPY_BUFFER ? (size_t)(end - off) : COPY_BUFFER;
		ssize_t n = io_pread(in, cp.buf, want, off);
		int r;

		if (n <= 0)
			return n < 0 ? (int)n : 0;
		r = io_pwrite_all(out, cp.buf, (size_t)n, off);
		if (r < 0)
			return r;
		off += (uint64_t)n;
		progress_add(&cp.progress, (uint64_t)n);
	}
	return 0;
}

static int copy_data(int in, int out, uint64_t size)
{
	uint64_t off = 0;
	int r = ftruncate(out, (off_t)size) < 0 ? -errno : 0;

	while (r == 0 && off < size) {
		off_t data = lseek(in, (off_t)off, SEEK_DATA), hole;

		if (data < 0 && errno == ENXIO) {
			progress_add(&cp.progress, size - off);
			break;
		}
		if (data < 0)
			data = (off_t)off;
		hole = lseek(in, data, SEEK_HOLE);
		if (hole < 0)
			hole = (off_t)size;
		progress_add(&cp.progress, (uint64_t)data - off);
		r = copy_extent(in, out, (uint64_t)data, (uint64_t)hole);
		off = (uint64_t)hole;
	}
	return r;
}

/* Its mount reads it at a lower level: so does its copy. */
static bool is_lossy(int in)
{
	char v[16];
	ssize_t len = fgetxattr(in, KVCACHEFS_XATTR_PREFIX "level", v, sizeof(v));

	return len > 0 && (len != 5 || memcmp(v, "exact", 5) != 0);
}

static int finish_file(int in, int out, const struct stat *st)
{
	struct timespec ts[2] = { st->st_atim, st->st_mtim };
	int r = copy_xattrs(in, out);

	if (r == 0 && geteuid() == 0 && fchown(out, st->st_uid, st->st_gid) < 0)
		r = -errno;
	if (r == 0 && fchmod(out, st->st_mode & 07777) < 0)
		r = -errno;
	if (r == 0 && futimens(out, ts) < 0)
		r = -errno;
	return r;
}

static bool there_already(const char *to, const struct stat *st)
{
	struct stat have;

	return lstat(to, &have) == 0 && S_ISREG(have.st_mode) && have.st_size == st->st_size &&
	       have.st_mtim.tv_sec == st->st_mtim.tv_sec &&
	       have.st_mtim.tv_nsec == st->st_mtim.tv_nsec;
}

static int copy_file(const char *from, const char *to, const struct stat *st)
{
	char part[PATH_MAX];
	int in, out, r;
	bool lossy;

	if (there_already(to, st)) {
		cp.skipped++;
		progress_add(&cp.progress, (uint64_t)st->st_size);
		return 0;
	}
	if (snprintf(part, sizeof(part), "%s" PART, to) >= (int)sizeof(part))
		return complain(to, ENAMETOOLONG);
	in = open(from, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (in < 0)
		return complain(from, errno);
	out = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (out < 0) {
		r = complain(part, errno);
		io_close(&in);
		return r;
	}
	lossy = is_lossy(in);
	r = copy_data(in, out, (uint64_t)st->st_size);
	if (r == 0)
		r = finish_file(in, out, st);
	if (r == 0 && fsync(out) < 0)
		r = -errno;
	if (close(out) < 0 && r == 0)
		r = -errno;
	io_close(&in);
	if (r == 0 && rename(part, to) < 0)
		r = -errno;
	if (r < 0) {
		(void)unlink(part); /* the error that counts is r */
		return complain(to, -r);
	}
	cp.files++;
	cp.lossy += lossy;
	cp.bytes += (uint64_t)st->st_size;
	return 0;
}

static int copy_link(const char *from, const char *to)
{
	char target[PATH_MAX];
	ssize_t n = readlink(from, target, sizeof(target) - 1);

	if (n < 0)
		return complain(from, errno);
	target[n] = '\0';
	if (symlink(target, to) < 0 && errno != EEXIST)
		return complain(to, errno);
	return 0;
}

static int target_of(const char *from, char to[PATH_MAX])
{
	if (snprintf(to, PATH_MAX, "%s%s", cp.to, from + cp.from_len) >= PATH_MAX)
		return complain(from, ENAMETOOLONG);
	return 0;
}

static int copy_one(const char *from, const struct stat *st, int type, struct FTW *ftw)
{
	char to[PATH_MAX];

	(void)ftw;
	if (type == FTW_DNR || type == FTW_NS) {
		complain(from, EACCES);
		return 0;
	}
	if (target_of(from, to))
		return 0;
	if (S_ISDIR(st->st_mode)) {
		if (mkdir(to, (st->st_mode & 07777) | 0700) < 0 && errno != EEXIST)
			complain(to, errno);
	} else if (S_ISREG(st->st_mode)) {
		(void)copy_file(from, to, st); /* remembered in cp.failed */
	} else if (S_ISLNK(st->st_mode)) {
		(void)copy_link(from, to);
	} else {
		fprintf(stderr, "kvcachectl: %s: passed over, not a file\n", from);
	}
	return 0;
}

/* Directories get their attributes when nothing is put into them any more, and
 * their names become durable. */
static int finish_dir(const char *from, const struct stat *st, int type, struct FTW *ftw)
{
	char to[PATH_MAX];
	int in, out, r;

	(void)ftw;
	if (type != FTW_DP || target_of(from, to))
		return 0;
	in = open(from, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	out = open(to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r = in < 0 || out < 0 ? -errno : finish_file(in, out, st);
	if (r == 0 && fsync(out) < 0 && errno != EINVAL) /* not for directories there */
		r = -errno;
	if (r < 0)
		complain(to, -r);
	io_close(&in);
	io_close(&out);
	return 0;
}

static int count_one(const char *from, const struct stat *st, int type, struct FTW *ftw)
{
	(void)from;
	(void)ftw;
	if (type == FTW_F && S_ISREG(st->st_mode))
		cp.progress.total += (uint64_t)st->st_size;
	return 0;
}

/* The name of the copy itself. */
static void sync_parent(const char *dir)
{
	char path[PATH_MAX];
	int fd, r;

	snprintf(path, sizeof(path), "%s/..", dir);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r = fd < 0 || fsync(fd) < 0 ? -errno : 0;
	io_close(&fd);
	/* above the root of a mount nothing was made, and it may be closed to us */
	if (r < 0 && r != -EACCES && r != -EINVAL)
		complain(path, -r);
}

static int copy_tree(const char *from, const char *to, const char *what)
{
	uint64_t total;

	cp.from_len = strlen(from);
	while (cp.from_len > 1 && from[cp.from_len - 1] == '/')
		cp.from_len--;
	cp.to = to;
	cp.buf = mem_alloc_pages(COPY_BUFFER);
	if (!cp.buf)
		return ctl_error("out of memory");
	cp.progress.total = 0;
	if (nftw(from, count_one, 64, FTW_PHYS) < 0)
		return complain(from, errno);
	total = cp.progress.total;
	progress_begin(&cp.progress, what, total);
	if (nftw(from, copy_one, 64, FTW_PHYS) < 0 ||
	    nftw(from, finish_dir, 64, FTW_PHYS | FTW_DEPTH) < 0)
		complain(from, errno);
	progress_end(&cp.progress);
	mem_free_pages(cp.buf, COPY_BUFFER);
	sync_parent(to);
	printf("%llu files copied (%.2f GB), %llu were there already\n",
	       (unsigned long long)cp.files, (double)cp.bytes / 1e9,
	       (unsigned long long)cp.skipped);
	if (cp.lossy)
		printf("%llu of those copied are not exact: their mount reads them at a lower level\n",
		       (unsigned long long)cp.lossy);
	return cp.failed;
}

/* Refuses a copy into itself, which would have no end. */
static int check_apart(const char *from, const char *to)
{
	char *a = realpath(from, NULL), *b = realpath(to, NULL);
	size_t len = a ? strlen(a) : 0;
	int r = 0;

	if (!a || !b)
		r = ctl_error("%s: %s", a ? to : from, strerror(errno));
	else if (strncmp(a, b, len) == 0 && (b[len] == '/' || !b[len] || len == 1))
		r = ctl_error("%s lies in %s: a copy into itself", to, from);
	free(a);
	free(b);
	return r;
}

int cmd_copy(int argc, char **argv)
{
	bool made;
	bool import = strcmp(argv[0], "import") == 0;
	struct stat st;
	char *mount;

	if (argc != 3)
		return ctl_usage(argv[0]);
	if (stat(argv[1], &st) < 0)
		return ctl_error("%s: %s", argv[1], strerror(errno));
	if (!S_ISDIR(st.st_mode))
		return ctl_error("%s is not a directory", argv[1]);
	made = mkdir(argv[2], 0777) == 0;
	if (!made && errno != EEXIST)
		return ctl_error("%s: %s", argv[2], strerror(errno));
	if (check_apart(argv[1], argv[2])) {
		if (made)
			(void)rmdir(argv[2]); /* empty, unless somebody was quick */
		return 1;
	}
	mount = mount_of(import ? argv[2] : argv[1]);
	if (!mount)
		return 1;
	mem_free(mount);
	return copy_tree(argv[1], argv[2], argv[0]);
}
