/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_STORE_STANDIN_H
#define KVCACHEFS_STORE_STANDIN_H
/*
 * The inode that a sealed file leaves in tree/: holes where the object counts,
 * data where a client wrote since. So what is a hole and what is data is content.
 */
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "base/err.h"

/*
 * Makes holes of blocks that are allocated and were never written, as a power cut
 * in the middle of a write leaves them: SEEK_DATA calls such a block data as soon
 * as somebody's readahead has put it, as zeros, into the page cache. To be called
 * before the first look at data and holes; without @writable the page cache is
 * emptied, which is as good as it can be. Writes dirty pages out if there are
 * such blocks. 0 or -errno.
 */
WUR int standin_settle(int fd, bool writable);
/* Has it any data? */
bool standin_has_data(int fd, const struct stat *sb);

#endif
