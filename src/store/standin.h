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
#include "kvcachefs/format.h"

/*
 * Makes holes of blocks that are allocated and were never written, as a power cut
 * in the middle of a write leaves them: SEEK_DATA calls such a block data as soon
 * as somebody's readahead has put it, as zeros, into the page cache. To be called
 * before the first look at data and holes; without @writable the page cache is
 * emptied, which is as good as it can be. Writes dirty pages out if there are
 * such blocks. 0 or -errno.
 */
WUR int standin_settle(int fd, bool writable);

enum standin {
	STANDIN_EMPTY,   /* no data: all is in the object */
	STANDIN_OVERLAY, /* data override the object */
	STANDIN_FOREIGN, /* data that nobody wrote: a copy without its holes. To be ignored */
	STANDIN_UNKNOWN, /* a copy whose data are not where they were: damage */
};
/* What the data of a settled stand-in with record @rec (sealed) are; -errno. */
WUR int standin_examine(int fd, const struct stat *sb, const struct kvfs_record *rec);
/* The values of the record's flag EXTENTS. */
WUR int standin_inode(int fd, uint64_t *ret);
WUR int standin_map(int fd, uint64_t size_bytes, uint64_t *ret);

#endif
