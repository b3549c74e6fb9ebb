/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_BASE_IO_H
#define KVCACHEFS_BASE_IO_H
/*
 * System calls that always do the whole thing: loops over short counts and
 * EINTR. All may block. With -Dfaults=true they honour FAULT_READ/WRITE/SYNC.
 */
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

/* Reads until @len or end of file. Returns bytes read (less than @len only at
 * end of file) or -errno. */
WUR ssize_t io_pread(int fd, void *buf, size_t len, uint64_t off);
/* 0 when all of @len was read, -KVFS_ETRUNCATED at end of file, -errno. */
WUR int io_pread_all(int fd, void *buf, size_t len, uint64_t off);
/* 0 when all was written, -errno (some may have been written). */
WUR int io_pwrite_all(int fd, const void *buf, size_t len, uint64_t off);
WUR int io_fsync(int fd);
WUR int io_fdatasync(int fd);
/* Opens @name relative to @dirfd with O_CLOEXEC|O_NOFOLLOW|O_NONBLOCK added and
 * refuses (-KVFS_EFORMAT) what is not a regular file, so that a fifo or a
 * symlink planted in the store can neither hang nor redirect the daemon.
 * Returns the descriptor. -EAGAIN: somebody holds a conflicting lease. */
WUR int io_open_regular(int dirfd, const char *name, int flags, unsigned mode);
/* Opens a path of plain names ("a/b/c") relative to @dirfd, following no symbolic link
 * anywhere and never leading out of it: -ELOOP, -ENOTDIR, -EINVAL. O_CLOEXEC and
 * O_NOFOLLOW are added. Returns the descriptor. */
WUR int io_open_beneath(int dirfd, const char *path, int flags);
/* Whole small file into a NUL-terminated string, the caller's to mem_free();
 * -EFBIG over @max bytes. @ret_len may be NULL. */
WUR int io_read_file(int dirfd, const char *name, size_t max, char **ret, size_t *ret_len);
/* Closes *fd if >= 0 and sets it to -1. */
void io_close(int *fd);

#endif
