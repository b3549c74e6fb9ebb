// SPDX-License-Identifier: MIT
/* Filesystems to compare with: where the scratch lies, and on loop devices. */
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "rig.h"

static void write_to(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	if (write(fd, text, strlen(text)) < 0)
		(void)rig_fail(0, "%s: %s", path, strerror(errno));
	close(fd);
}

void rig_drop_caches(void)
{
	sync();
	write_to("/proc/sys/vm/drop_caches", "3");
}

static double free_bytes(void)
{
	return (double)sysconf(_SC_AVPHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
}

#define MUCH_BYTES 1e9
#define REST_S 25

void rig_drop_data(void)
{
	double before;

	sync();
	before = free_bytes();
	write_to("/proc/sys/vm/drop_caches", "1");
	if (free_bytes() - before > MUCH_BYTES)
		sleep(REST_S);
}

void rig_drop_names(void)
{
	write_to("/proc/sys/vm/drop_caches", "2");
}

/* A free loop device over @image; it detaches itself after the last unmount. */
static int attach(const char *image, int *ret_fd, char dev[32])
{
	struct loop_config cfg;
	int ctl = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	int fd = -1, r = -ENODEV;

	memset(&cfg, 0, sizeof(cfg));
	if (ctl < 0)
		return rig_fail(-errno, "/dev/loop-control: %s", strerror(errno));
	cfg.fd = (unsigned)open(image, O_RDWR | O_CLOEXEC);
	cfg.info.lo_flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO;
	for (int tries = 0; tries < 8; tries++) {
		int n = ioctl(ctl, LOOP_CTL_GET_FREE);

		snprintf(dev, 32, "/dev/loop%d", n);
		fd = n < 0 ? -1 : open(dev, O_RDWR | O_CLOEXEC);
		if (fd < 0)
			break;
		r = ioctl(fd, LOOP_CONFIGURE, &cfg) < 0 ? -errno : 0;
		if (r != -EBUSY)
			break;
		close(fd); /* somebody was faster */
		fd = -1;
	}
	close((int)cfg.fd);
	close(ctl);
	if (r < 0) {
		if (fd >= 0)
			close(fd);
		return rig_fail(r, "no loop device for %s: %s", image, strerror(-r));
	}
	*ret_fd = fd;
	return 0;
}

static int run_mkfs(struct rig *g, const char *const mkfs[], const char *dev)
{
	const char *argv[12];
	unsigned n = 0;

	for (; mkfs[n] && n < 10; n++)
		argv[n] = mkfs[n];
	argv[n++] = dev;
	argv[n] = NULL;
	return rig_run(g, argv);
}

int rig_loop_mount(struct rig *g, const char *name, uint64_t bytes, const char *const mkfs[],
		   const char *fstype, const char *options, char path[RIG_PATH])
{
	char image[RIG_PATH + 8], dev[32];
	int fd, loop = -1, r;

	r = rig_mkdir(g->scratch, name, path);
	if (r < 0)
		return r;
	snprintf(image, sizeof(image), "%s.img", path);
	fd = open(image, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	/* allocated: growing it would be measured otherwise */
	if (fd < 0 || fallocate(fd, 0, 0, (off_t)bytes) < 0)
		r = rig_fail(-errno, "%s: %s", image, strerror(errno));
	if (fd >= 0)
		close(fd);
	if (r == 0)
		r = attach(image, &loop, dev);
	if (r < 0)
		return r;
	r = run_mkfs(g, mkfs, dev);
	if (r == 0 && mount(dev, path, fstype, MS_NOATIME, options) < 0)
		r = rig_fail(-errno, "mounting %s: %s", fstype, strerror(errno));
	close(loop); /* the mount holds it now */
	return r < 0 ? r : rig_undo_add(g, UNDO_UNMOUNT, 0, path);
}

int rig_btrfs(struct rig *g, uint64_t bytes, char path[RIG_PATH])
{
	static const char *const mkfs[] = { "mkfs.btrfs", "-q", "-f", NULL };

	return rig_loop_mount(g, "btrfs", bytes + (1ull << 30), mkfs, "btrfs", "compress=zstd:1",
			      path);
}

/* Room for @files on a fresh filesystem. */
static int base_on_loop(struct rig *g, uint64_t bytes, unsigned files)
{
	char inodes[32];
	const char *const mkfs[] = { "mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0", "-N",
				     inodes, NULL };

	snprintf(inodes, sizeof(inodes), "%u", files + 1000);
	g->base_on_loop = true;
	return rig_loop_mount(g, "ext4", bytes + (2ull << 30), mkfs, "ext4", NULL, g->base);
}

int rig_base(struct rig *g, uint64_t bytes, unsigned files)
{
	struct statfs s;

	if (statfs(g->scratch, &s) < 0)
		return rig_fail(-errno, "%s: %s", g->scratch, strerror(errno));
	if ((uint64_t)s.f_bavail * (uint64_t)s.f_bsize < bytes + (4ull << 30))
		return rig_fail(-ENOSPC, "%s: %llu GiB of free space are needed", g->scratch,
				(unsigned long long)((bytes >> 30) + 4));
	if (files || (unsigned long)s.f_type != EXT4_SUPER_MAGIC)
		return base_on_loop(g, bytes, files ? files : 10000);
	return rig_mkdir(g->scratch, "ext4", g->base);
}
