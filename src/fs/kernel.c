/* SPDX-License-Identifier: MIT */
/* What the store asks of the kernel: store_kernel_ops over a FUSE session. */
#include <errno.h>
#include <poll.h>
#include <string.h>

#include "fs/fs_types.h"
#include "fs/notify.h"
#include "fs/privs.h"

/* The session's descriptor is closed by the unmount, while the store still
 * works: its number may be another file's by then. */
static bool device_use(struct fs *fs)
{
	atomic_fetch_add(&fs->device_users, 1);
	if (!atomic_load(&fs->device_gone))
		return true;
	atomic_fetch_sub(&fs->device_users, 1);
	return false;
}

static void device_used(struct fs *fs)
{
	atomic_fetch_sub(&fs->device_users, 1);
}

void kernel_device_gone(struct fs *fs)
{
	atomic_store(&fs->device_gone, true);
	while (atomic_load(&fs->device_users))
		poll(NULL, 0, 1); /* none of these calls waits for anything */
}

static void kernel_inval_inode(void *arg, struct node *n, bool data)
{
	struct fs *fs = arg;

	if (data) {
		notifier_inval_pages(fs->notify, fs_ino(fs, n));
	} else if (device_use(fs)) {
		/* attributes only: the kernel waits for nothing, so do it here */
		(void)fuse_lowlevel_notify_inval_inode(fs->se, fs_ino(fs, n), -1, 0);
		device_used(fs);
	}
}

static void kernel_inval_entry(void *arg, struct node *dir, const char *name)
{
	struct fs *fs = arg;

	notifier_inval_entry(fs->notify, fs_ino(fs, dir), name);
}

static bool kernel_prune_entry(void *arg, struct node *dir, const char *name)
{
	struct fs *fs = arg;

	return notifier_prune_entry(fs->notify, fs_ino(fs, dir), name);
}

static int kernel_backing_open(void *arg, int fd)
{
	struct fs *fs = arg;
	struct kf_backing_map map = { .fd = fd };
	struct privs_saved saved;
	int id;

	if (!device_use(fs))
		return -ENODEV;
	/* The kernel does passthrough I/O with the credentials that this call
	 * has: without CAP_FSETID a write clears setuid bits as it should. */
	privs_reduce(&saved);
	id = ioctl(fuse_session_fd(fs->se), KF_IOC_BACKING_OPEN, &map);
	if (id <= 0)
		id = id < 0 ? -errno : -EIO;
	privs_restore(&saved);
	device_used(fs);
	return id;
}

static void kernel_backing_close(void *arg, int id)
{
	struct fs *fs = arg;
	uint32_t v = (uint32_t)id;

	if (!device_use(fs))
		return; /* it went with the connection */
	if (ioctl(fuse_session_fd(fs->se), KF_IOC_BACKING_CLOSE, &v) < 0)
		log_debug(fs->log, "closing backing %d: %s", id, strerror(errno));
	device_used(fs);
}

const struct store_kernel_ops fs_kernel_ops = {
	.inval_inode = kernel_inval_inode,
	.inval_entry = kernel_inval_entry,
	.prune_entry = kernel_prune_entry,
	.backing_open = kernel_backing_open,
	.backing_close = kernel_backing_close,
};
