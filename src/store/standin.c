/* SPDX-License-Identifier: MIT */
/*
 * Extents of stand-ins. lseek(2) tells data from holes for a file that is written
 * by this daemon only; FIEMAP knows besides what was allocated and never written.
 *
 * Copies: rsync and tar keep the record, but not the holes, unless told to. Then a
 * hole arrives as zeros, which must not hide the object; and rsync --sparse makes
 * holes of zeros that a client wrote, which must not let it show. Of the inode that
 * the record names every extent is right, whatever a crash did; in another inode,
 * a copy, they are right when they lie where the record notes them.
 */
#include "store/standin.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/le.h"

#define EXTENTS 32u
#define BLOCK 4096u /* that a map counts in */

struct extents {
	struct fiemap head;
	struct fiemap_extent v[EXTENTS];
};

static int punch(int fd, const struct fiemap_extent *e)
{
	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)e->fe_logical,
		      (off_t)e->fe_length) < 0)
		return -errno;
	return 0;
}

/* 1 if there are unwritten extents, after punching them when @clean. */
static int unwritten(int fd, bool clean)
{
	struct extents x;
	uint64_t pos = 0;
	int found = 0, r;

	for (;;) {
		memset(&x.head, 0, sizeof(x.head));
		x.head.fm_start = pos;
		x.head.fm_length = FIEMAP_MAX_OFFSET - pos;
		/* what is dirty becomes written: never punched */
		x.head.fm_flags = clean ? FIEMAP_FLAG_SYNC : 0;
		x.head.fm_extent_count = EXTENTS;
		if (ioctl(fd, FS_IOC_FIEMAP, &x) < 0)
			return errno == EOPNOTSUPP || errno == ENOTTY ? 0 : -errno;
		for (uint32_t i = 0; i < x.head.fm_mapped_extents; i++) {
			const struct fiemap_extent *e = &x.v[i];

			pos = e->fe_logical + e->fe_length;
			if (e->fe_flags & FIEMAP_EXTENT_UNWRITTEN) {
				found = 1;
				r = clean ? punch(fd, e) : 0;
				if (r < 0)
					return r;
			}
			if (e->fe_flags & FIEMAP_EXTENT_LAST)
				return found;
		}
		if (x.head.fm_mapped_extents == 0 || (found && !clean))
			return found;
	}
}

int standin_settle(int fd, bool writable)
{
	int r = unwritten(fd, false);

	if (r <= 0)
		return r;
	if (writable) {
		r = unwritten(fd, true);
		return r < 0 ? r : 0;
	}
	/* no pages but those asked for from here on */
	r = posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	if (r == 0)
		r = posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
	return -r;
}

int standin_inode(int fd, uint64_t *ret)
{
	uint8_t le[24] = { 0 };
	struct statx sx;

	if (statx(fd, "", AT_EMPTY_PATH, STATX_INO | STATX_BTIME, &sx) < 0)
		return -errno;
	le64_put(le, sx.stx_ino);
	if (sx.stx_mask & STATX_BTIME) {
		le64_put(le + 8, (uint64_t)sx.stx_btime.tv_sec);
		le32_put(le + 16, sx.stx_btime.tv_nsec);
	}
	*ret = hash64(le, sizeof(le), 0);
	return 0;
}

static uint64_t add_run(uint64_t map, uint64_t first, uint64_t end)
{
	uint8_t le[16];

	le64_put(le, first);
	le64_put(le + 8, end);
	return hash64(le, sizeof(le), map);
}

int standin_map(int fd, uint64_t size_bytes, uint64_t *ret)
{
	uint64_t map = 0, first = 0, end = 0, pos = 0; /* blocks; a run is [first, end) */

	while (pos < size_bytes) {
		off_t data = lseek(fd, (off_t)pos, SEEK_DATA), hole;
		uint64_t block;

		if (data < 0 && errno != ENXIO)
			return -errno;
		if (data < 0)
			break;
		hole = lseek(fd, data, SEEK_HOLE);
		if (hole < 0)
			return -errno;
		block = (uint64_t)data / BLOCK;
		if (block > end && end > 0)
			map = add_run(map, first, end);
		if (block > end || end == 0)
			first = block;
		end = ((uint64_t)hole + BLOCK - 1) / BLOCK;
		pos = (uint64_t)hole;
	}
	if (end > 0)
		map = add_run(map, first, end);
	*ret = map == KVFS_RECORD_MAP_UNKNOWN ? 1 : map;
	return 0;
}

int standin_examine(int fd, const struct stat *sb, const struct kvfs_record *rec)
{
	bool data = sb->st_size > 0 && lseek(fd, 0, SEEK_DATA) >= 0;
	uint64_t inode, map;
	int r;

	if (!(rec->flags & KVFS_RECORD_OVERLAY))
		return data ? STANDIN_FOREIGN : STANDIN_EMPTY;
	if (!(rec->flags & KVFS_RECORD_EXTENTS))
		return data ? STANDIN_OVERLAY : STANDIN_EMPTY;
	r = standin_inode(fd, &inode);
	if (r == 0 && inode != (uint64_t)rec->mtime_sec) {
		r = standin_map(fd, (uint64_t)sb->st_size, &map);
		if (r == 0 && map != (uint64_t)rec->ctime_sec)
			return STANDIN_UNKNOWN;
	}
	if (r < 0)
		return r;
	return data ? STANDIN_OVERLAY : STANDIN_EMPTY;
}
