/* SPDX-License-Identifier: MIT */
/*
 * Extents of stand-ins. lseek(2) tells data from holes for a file that is written
 * by this daemon only; FIEMAP knows besides what was allocated and never written.
 */
#include "store/standin.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define EXTENTS 32u

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

bool standin_has_data(int fd, const struct stat *sb)
{
	return sb->st_size > 0 && lseek(fd, 0, SEEK_DATA) >= 0;
}
