/* SPDX-License-Identifier: MIT */
/*
 * libfuse 3.14 reads and answers INIT, but does not know passthrough, mmap on
 * direct I/O, parallel directory operations or KILLPRIV_V2. Its public
 * custom_io lets us write replies ourselves: into the one that answers INIT we
 * put what the kernel offered (seen by serve.c in the request) and we want.
 * A feature that the kernel lacks is simply not asked for.
 */
#include "fs/init.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/mountinfo.h"

#define READAHEAD_KB 4096
#define MAX_BACKGROUND 64

static void conn_want(struct fuse_conn_info *conn, unsigned cap, bool on)
{
	if (on && (conn->capable & cap))
		conn->want |= cap;
	else
		conn->want &= ~cap;
}

void init_conn(void *userdata, struct fuse_conn_info *conn)
{
	struct fs *fs = userdata;

	/* The store says when pages are stale; guessing by mtime would drop
	 * the cache after each of our own writes. */
	conn_want(conn, FUSE_CAP_EXPLICIT_INVAL_DATA, true);
	conn_want(conn, FUSE_CAP_AUTO_INVAL_DATA, !(conn->capable & FUSE_CAP_EXPLICIT_INVAL_DATA));
	conn_want(conn, FUSE_CAP_WRITEBACK_CACHE, false); /* loses data on short replies */
	conn_want(conn, FUSE_CAP_ASYNC_READ, true);
	conn_want(conn, FUSE_CAP_ASYNC_DIO, true);
	conn_want(conn, FUSE_CAP_ATOMIC_O_TRUNC, true);
	conn_want(conn, FUSE_CAP_READDIRPLUS, true);
	conn_want(conn, FUSE_CAP_READDIRPLUS_AUTO, true);
	conn_want(conn, FUSE_CAP_CACHE_SYMLINKS, true);
	conn_want(conn, FUSE_CAP_EXPORT_SUPPORT, false); /* node ids are addresses */
	if (conn->max_write > FS_REQUEST_MAX)
		conn->max_write = FS_REQUEST_MAX;
	conn->max_background = MAX_BACKGROUND;
	fs->feat.max_write = conn->max_write;
}

static void init_complete(struct fs *fs, struct kf_init_out *out)
{
	uint64_t wish = KF_PARALLEL_DIROPS | KF_HANDLE_KILLPRIV_V2 | KF_DIRECT_IO_ALLOW_MMAP |
			KF_NO_EXPORT_SUPPORT;

	if (geteuid() == 0)
		wish |= KF_PASSTHROUGH;
	fs->feat.want = wish & fs->feat.offered;
	if (!(fs->feat.offered & KF_INIT_EXT))
		fs->feat.want &= UINT32_MAX;
	out->flags |= (uint32_t)fs->feat.want;
	out->flags2 |= (uint32_t)(fs->feat.want >> 32);
	if (fs->feat.want & KF_PASSTHROUGH)
		out->max_stack_depth = 1; /* backing files on an ordinary filesystem */
}

static ssize_t io_writev(int fd, struct iovec *iov, int count, void *userdata)
{
	struct fs *fs = userdata;
	const struct kf_out_header *h = iov[0].iov_base;
	struct kf_init_out init;
	struct iovec mine[2];

	if (fs->feat.done || h->unique != fs->feat.init_unique)
		return writev(fd, iov, count);
	if (h->error || count != 2 || iov[1].iov_len > sizeof(init))
		return writev(fd, iov, count);
	memset(&init, 0, sizeof(init));
	memcpy(&init, iov[1].iov_base, iov[1].iov_len);
	if (init.major == 7 && iov[1].iov_len == sizeof(init)) {
		init_complete(fs, &init);
		fs->feat.done = true;
	}
	mine[0] = iov[0];
	mine[1] = (struct iovec){ &init, iov[1].iov_len };
	return writev(fd, mine, 2);
}

static ssize_t io_read(int fd, void *buf, size_t len, void *userdata)
{
	(void)userdata;
	return read(fd, buf, len);
}

int init_take_over(struct fs *fs)
{
	static const struct fuse_custom_io io = { .writev = io_writev, .read = io_read };
	int r = fuse_session_custom_io(fs->se, &io, fuse_session_fd(fs->se));

	return r < 0 ? r : 0;
}

/* For real: a small memory file becomes a backing and is given back. */
static void probe_passthrough(struct fs *fs)
{
	int fd, id;

	if (!(fs->feat.want & KF_PASSTHROUGH)) {
		fs->feat.passthrough_err = geteuid() ? EPERM : EOPNOTSUPP;
		return;
	}
	fd = memfd_create("kvcachefs-probe", MFD_CLOEXEC);
	if (fd < 0) {
		fs->feat.passthrough_err = errno;
		return;
	}
	id = fs_kernel_ops.backing_open(fs, fd);
	if (id > 0)
		fs_kernel_ops.backing_close(fs, id);
	fs->feat.passthrough = id > 0;
	fs->feat.passthrough_err = id > 0 ? 0 : -id;
	close(fd);
}

struct device {
	const char *mountpoint;
	char dev[32];
};

/* The last one there is ours. */
static bool device_of(const struct mountinfo *m, void *arg)
{
	struct device *d = arg;

	if (strncmp(m->type, "fuse", 4) == 0 && strcmp(m->where, d->mountpoint) == 0)
		snprintf(d->dev, sizeof(d->dev), "%s", m->device);
	return false;
}

static void raise_readahead(struct fs *fs)
{
	struct device d = { .mountpoint = fs->opt->mountpoint };
	char path[96], text[16];
	int fd, n;

	(void)mountinfo_each(device_of, &d); /* always goes through all */
	if (!d.dev[0])
		return;
	snprintf(path, sizeof(path), "/sys/class/bdi/%s/read_ahead_kb", d.dev);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	n = snprintf(text, sizeof(text), "%d", READAHEAD_KB);
	if (write(fd, text, (size_t)n) == n)
		fs->feat.readahead_kb = READAHEAD_KB;
	close(fd);
}

void init_probe(struct fs *fs)
{
	probe_passthrough(fs);
	raise_readahead(fs);
}
