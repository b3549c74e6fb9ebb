/* SPDX-License-Identifier: MIT */
/*
 * A mount's life. fs_mount leaves the kernel's INIT answered, so that what is
 * possible is known before the store starts; from then on requests queue up in
 * the kernel until fs_start. The end comes from outside (unmounted: the
 * serving threads read ENODEV) or from fs_stop. What clients still had open by
 * then is closed here: the kernel tells them ENOTCONN.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "fs/fs_types.h"
#include "fs/handle.h"
#include "fs/init.h"
#include "fs/notify.h"
#include "fs/ops.h"
#include "fs/serve.h"
#include "fs/steer.h"

int fs_create(const struct options *opt, struct store *st, struct log *log, struct fs **ret)
{
	struct fs *fs = mem_zalloc(sizeof(*fs));

	if (!fs)
		return -ENOMEM;
	fs->opt = opt;
	fs->st = st;
	fs->log = log;
	fs->root = store_root(st);
	fs->started_ns = clock_real_ns();
	lock_init(&fs->lock);
	lock_acquire(&fs->lock);
	list_init(&fs->handles);
	lock_release(&fs->lock);
	follow_init(&fs->follow, opt->follow == FOLLOW_AUTO);
	*ret = fs;
	return 0;
}

void fs_destroy(struct fs *fs)
{
	if (!fs)
		return;
	fs_stop(fs);
	notifier_destroy(fs->notify);
	if (fs->se)
		fuse_session_destroy(fs->se);
	follow_fini(&fs->follow);
	scratch_fini(fs);
	lock_fini(&fs->lock);
	mem_free(fs);
}

/* @s with the commas and backslashes escaped that separate mount options. */
static void add_escaped(struct sbuf *b, const char *s)
{
	for (; *s; s++) {
		if (*s == ',' || *s == '\\')
			sbuf_add(b, "\\", 1);
		sbuf_add(b, s, 1);
	}
}

static int session_new(struct fs *fs)
{
	const struct options *o = fs->opt;
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	struct sbuf opts = SBUF_INIT;
	int r = -ENOMEM;

	sbuf_adds(&opts, "-odefault_permissions,nosuid,nodev,subtype=kvcachefs,fsname=");
	add_escaped(&opts, o->fsname ? o->fsname : o->store);
	if (o->allow_other)
		sbuf_adds(&opts, ",allow_other");
	if (o->read_only)
		sbuf_adds(&opts, ",ro");
	if (o->kernel_opts.s)
		sbuf_adds(&opts, o->kernel_opts.s);
	if (!opts.failed && fuse_opt_add_arg(&args, "kvcachefs") == 0 &&
	    fuse_opt_add_arg(&args, opts.s) == 0)
		fs->se = fuse_session_new(&args, &ops_table, sizeof(ops_table), fs);
	if (fs->se)
		r = 0;
	fuse_opt_free_args(&args);
	sbuf_fini(&opts);
	return r;
}

/* The first request must be INIT; nothing else can come before its answer. */
static int handshake(struct fs *fs)
{
	struct fuse_buf buf = { .mem = NULL };
	int r = 0;

	while (!fs->feat.done && r == 0)
		r = serve_one(fs, &buf);
	free(buf.mem); /* libfuse's malloc */
	return r > 0 ? -ENOTCONN : r;
}

int fs_mount(struct fs *fs, struct sbuf *why)
{
	int r = session_new(fs);

	if (r == 0)
		r = notifier_create(fs->se, fs->log, &fs->notify);
	if (r < 0) {
		sbuf_adds(why, "cannot create a FUSE session");
		return r;
	}
	if (fuse_session_mount(fs->se, fs->opt->mountpoint) < 0) {
		sbuf_addf(why, "cannot mount on %s (see the message above%s)", fs->opt->mountpoint,
			  geteuid() ? "; as an ordinary user fusermount3 must be installed, and "
				      "allow_other needs user_allow_other in /etc/fuse.conf"
				    : "");
		return -EPERM;
	}
	fs->mounted = true;
	r = init_take_over(fs);
	if (r == 0)
		r = handshake(fs);
	if (r < 0) {
		sbuf_addf(why, "the kernel did not accept the mount: %s", err_text(r));
		fuse_session_unmount(fs->se);
		fs->mounted = false;
		return r;
	}
	init_probe(fs);
	return 0;
}

unsigned fs_paths(const struct fs *fs)
{
	unsigned paths = PATH_CACHED;

	if (fs->feat.passthrough)
		paths |= PATH_PASSTHROUGH_READ | PATH_PASSTHROUGH_WRITE;
	/* Without ALLOW_MMAP a shared mapping of a streamed file is refused. */
	if ((fs->feat.want & KF_DIRECT_IO_ALLOW_MMAP) || fs->opt->paths == PATHS_STREAM)
		paths |= PATH_STREAM;
	return paths;
}

static unsigned serve_threads(const struct fs *fs)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	if (fs->opt->serve_threads)
		return fs->opt->serve_threads;
	return cpus < 2 ? 2 : cpus > 8 ? 8 : (unsigned)cpus;
}

int fs_start(struct fs *fs)
{
	int r = notifier_start(fs->notify);

	if (r == 0)
		r = steer_create(&fs->steer);
	if (r == 0)
		r = serve_start(fs, serve_threads(fs));
	if (r < 0)
		fs_stop(fs);
	return r;
}

int fs_wait(struct fs *fs, int signal_fd)
{
	struct pollfd p[2] = {
		{ .fd = serve_ended_fd(fs), .events = POLLIN },
		{ .fd = signal_fd, .events = POLLIN },
	};

	while (poll(p, 2, -1) < 0)
		if (errno != EINTR)
			break;
	return (p[0].revents & POLLIN) ? 0 : 1;
}

/* Mapped pages that clients dirtied come as writes while we still serve. */
static void flush_mapped(struct fs *fs)
{
	int fd;

	if (!fs->servers || fuse_session_exited(fs->se))
		return;
	fd = open(fs->opt->mountpoint, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return;
	if (syncfs(fd) < 0)
		log_warn(fs->log, "writing back mapped pages: %s", strerror(errno));
	close(fd);
}

void fs_stop(struct fs *fs)
{
	steer_stop(fs->steer);
	flush_mapped(fs);
	notifier_stop(fs->notify);
	serve_stop(fs);
	if (fs->se)
		fuse_session_exit(fs->se);
	steer_destroy(fs->steer);
	fs->steer = NULL;
	kernel_device_gone(fs);
	if (fs->mounted)
		fuse_session_unmount(fs->se);
	fs->mounted = false;
	handles_close_all(fs);
}

static void feature(struct sbuf *out, const char *name, bool on, const char *why_not)
{
	sbuf_addf(out, "%-22s %s\n", name, on ? "on" : why_not);
}

void fs_dump_features(const struct fs *fs, struct sbuf *out)
{
	const struct fs_features *f = &fs->feat;
	bool ext = f->offered & KF_INIT_EXT;
	char why[160];

	snprintf(why, sizeof(why), "off (%s)",
		 f->passthrough_err == EPERM ? "needs root"
		 : f->passthrough_err == EOPNOTSUPP
			 ? "needs kernel 6.9 or later with FUSE passthrough"
			 : strerror(f->passthrough_err));
	feature(out, "passthrough", f->passthrough, why);
	feature(out, "streaming with mmap", f->want & KF_DIRECT_IO_ALLOW_MMAP,
		ext ? "off (needs kernel 6.6 or later)" : "off (kernel too old)");
	feature(out, "parallel directories", f->want & KF_PARALLEL_DIROPS, "off (kernel too old)");
	feature(out, "fast writes (killpriv)", f->want & KF_HANDLE_KILLPRIV_V2,
		"off (needs kernel 5.12 or later)");
	feature(out, "follow", fs->follow.on,
		fs->opt->follow == FOLLOW_OFF ? "off (as told)" : "off (one CPU)");
	if (f->readahead_kb)
		sbuf_addf(out, "%-22s %u KiB\n", "read-ahead", f->readahead_kb);
	else
		sbuf_addf(out, "%-22s as the kernel has it (raising needs root)\n", "read-ahead");
	sbuf_addf(out, "%-22s 7.%u, requests up to %u KiB\n", "protocol", f->minor,
		  f->max_write / 1024);
}
