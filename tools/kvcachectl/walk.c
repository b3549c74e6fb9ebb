/* SPDX-License-Identifier: MIT */
/* Trees of files, and the values of their steering names. */
#include <errno.h>
#include <ftw.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "ctl.h"

int value_of(const char *path, const char *name, char *buf, size_t len)
{
	char full[128] = KVCACHEFS_XATTR_PREFIX;
	ssize_t n;

	strncat(full, name, sizeof(full) - strlen(full) - 1);
	n = getxattr(path, full, buf, len - 1);
	if (n < 0)
		return -errno;
	buf[n] = '\0';
	return 0;
}

/* nftw has no argument for its callback: the walk in progress of this program,
 * which has one thread. */
static struct walk {
	walk_cb cb;
	void *arg;
	int failed;
} walk_now;

static int walk_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	if (type == FTW_DNR || type == FTW_NS)
		walk_now.failed |= ctl_error("%s: cannot be read", path);
	else if (type == FTW_F && S_ISREG(st->st_mode))
		walk_now.failed |= walk_now.cb(path, st->st_size, walk_now.arg) != 0;
	(void)ftw;
	return 0;
}

int walk_files(const char *path, bool recursive, walk_cb cb, void *arg)
{
	struct stat st;

	if (lstat(path, &st) < 0)
		return ctl_error("%s: %s", path, strerror(errno));
	if (S_ISDIR(st.st_mode) && !recursive)
		return ctl_error("%s is a directory; -r goes into it", path);
	if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode))
		return ctl_error("%s is not a regular file", path);
	walk_now = (struct walk){ cb, arg, 0 };
	if (nftw(path, walk_one, 64, FTW_PHYS | FTW_MOUNT) < 0)
		return ctl_error("%s: %s", path, strerror(errno));
	return walk_now.failed;
}
