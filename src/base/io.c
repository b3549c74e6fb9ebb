/* SPDX-License-Identifier: MIT */
/*
 * Whole-or-error system calls. Linux moves at most 2 GiB - 4 KiB per call and
 * may move less; both are hidden here. With O_DIRECT a short read in the
 * middle leaves an unaligned rest only at end of file, where the next call
 * returns 0.
 */
#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/mem.h"

ssize_t io_pread(int fd, void *buf, size_t len, uint64_t off)
{
	size_t got = 0;

	if (len > SSIZE_MAX || off > INT64_MAX || len > INT64_MAX - off)
		return -EINVAL;
	if (fault_hit(FAULT_READ))
		return -EIO;
	while (got < len) {
		ssize_t n = pread(fd, (char *)buf + got, len - got, (off_t)(off + got));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		got += (size_t)n;
	}
	return (ssize_t)got;
}

int io_pread_all(int fd, void *buf, size_t len, uint64_t off)
{
	ssize_t n = io_pread(fd, buf, len, off);

	if (n < 0)
		return (int)n;
	return (size_t)n == len ? 0 : -KVFS_ETRUNCATED;
}

int io_pwrite_all(int fd, const void *buf, size_t len, uint64_t off)
{
	size_t put = 0;

	if (off > INT64_MAX || len > INT64_MAX - off)
		return -EFBIG;
	if (fault_hit(FAULT_WRITE))
		return -EIO;
	while (put < len) {
		ssize_t n = pwrite(fd, (const char *)buf + put, len - put, (off_t)(off + put));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EIO; /* UNTESTED: a regular file never does this */
		put += (size_t)n;
	}
	return 0;
}

int io_fsync(int fd)
{
	if (fault_hit(FAULT_SYNC))
		return -EIO;
	/* Not repeated on EINTR: a second fsync may hide the first one's error. */
	return fsync(fd) < 0 ? -errno : 0;
}

int io_fdatasync(int fd)
{
	if (fault_hit(FAULT_SYNC))
		return -EIO;
	return fdatasync(fd) < 0 ? -errno : 0;
}

int io_open_regular(int dirfd, const char *name, int flags, unsigned mode)
{
	struct stat st;
	int fd, rc;

	do {
		fd = openat(dirfd, name, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY,
			    mode);
	} while (fd < 0 && errno == EINTR);
	if (fd < 0) {
		rc = -errno;
		/* symlink; directory for writing; fifo without reader, socket */
		if (rc == -ELOOP || rc == -EISDIR || rc == -ENXIO)
			rc = -KVFS_EFORMAT;
		return rc;
	}
	if (fstat(fd, &st) < 0) {
		rc = -errno; /* UNTESTED: fstat of an open descriptor */
		goto err_close;
	}
	if (!S_ISREG(st.st_mode)) {
		rc = -KVFS_EFORMAT;
		goto err_close;
	}
	return fd;
err_close:
	close(fd);
	return rc;
}

/* The next name of *path into @name; false when there is none or a bad one. */
static bool next_name(const char **path, char name[NAME_MAX + 1])
{
	size_t len = strcspn(*path, "/");

	if (len == 0 || len > NAME_MAX)
		return false;
	memcpy(name, *path, len);
	name[len] = 0;
	*path += len;
	if (**path == '/')
		(*path)++;
	return strcmp(name, "..") != 0;
}

/* Name by name and not by openat2, which seccomp filters may refuse. */
int io_open_beneath(int dirfd, const char *path, int flags)
{
	char name[NAME_MAX + 1];
	int at = dirfd, fd = -1;

	do {
		if (!next_name(&path, name))
			fd = -EINVAL;
		else
			fd = openat(at, name, (*path ? O_PATH | O_DIRECTORY : flags) |
						      O_NOFOLLOW | O_CLOEXEC);
		if (fd == -1)
			fd = -errno;
		if (at != dirfd)
			close(at);
		at = fd;
	} while (fd >= 0 && *path);
	return fd;
}

int io_read_file(int dirfd, const char *name, size_t max, char **ret, size_t *ret_len)
{
	struct stat st;
	char *s = NULL;
	ssize_t n;
	int fd, rc;

	fd = io_open_regular(dirfd, name, O_RDONLY, 0);
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0) {
		rc = -errno; /* UNTESTED: fstat of an open descriptor */
		goto out;
	}
	if ((uint64_t)st.st_size > max) {
		rc = -EFBIG;
		goto out;
	}
	/* One byte more, to see a file that grew meanwhile. */
	s = mem_alloc((size_t)st.st_size + 2);
	if (!s) {
		rc = -ENOMEM;
		goto out;
	}
	n = io_pread(fd, s, (size_t)st.st_size + 1, 0);
	if (n < 0 || (size_t)n > max) {
		rc = n < 0 ? (int)n : -EFBIG;
		goto out;
	}
	s[n] = '\0';
	*ret = s;
	s = NULL;
	if (ret_len)
		*ret_len = (size_t)n;
	rc = 0;
out:
	mem_free(s);
	close(fd);
	return rc;
}

void io_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}
