// SPDX-License-Identifier: MIT
/* Daemons: started, waited for, steered by extended attributes, stopped. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/mem.h"
#include "rig.h"

#define PATIENCE_S 60

static bool is_mounted(const char *path)
{
	char up[RIG_PATH + 4];
	struct stat a, b;

	snprintf(up, sizeof(up), "%s/..", path);
	return stat(path, &a) == 0 && stat(up, &b) == 0 && a.st_dev != b.st_dev;
}

int rig_fuse_start(struct rig *g, struct rig_mount *m, const char *const argv[])
{
	uint64_t until = clock_mono_ns() + PATIENCE_S * NSEC_PER_SEC;
	int r = rig_spawn(g, argv, &m->pid);

	while (r == 0 && !is_mounted(m->mnt)) {
		int status;

		if (waitpid(m->pid, &status, WNOHANG) == m->pid) {
			rig_undo_drop(g, UNDO_CHILD, m->pid, NULL);
			m->pid = 0;
			return rig_fail(-ECHILD, "%s did not mount; see %s", argv[0], g->log);
		}
		if (rig_interrupted(g))
			return -EINTR;
		if (clock_mono_ns() > until)
			return rig_fail(-ETIMEDOUT, "%s does not mount", argv[0]);
		usleep(5000);
	}
	return r == 0 ? rig_undo_add(g, UNDO_UNMOUNT, 0, m->mnt) : r;
}

int rig_mount_start(struct rig *g, struct rig_mount *m, const char *name, const char *options)
{
	return rig_mount_at(g, m, g->base, name, options);
}

int rig_mount_at(struct rig *g, struct rig_mount *m, const char *dir, const char *name,
		 const char *options)
{
	char exe[RIG_PATH], leaf[128];
	const char *argv[] = { exe, m->store, m->mnt, "-o", options, "-f", NULL };
	int r = rig_find(g->o->daemon, "../../src/kvcachefs", "kvcachefs", exe);

	snprintf(leaf, sizeof(leaf), "%s.store", name);
	if (r == 0)
		r = rig_mkdir(dir, leaf, m->store);
	if (r == 0)
		r = rig_mkdir(dir, name, m->mnt);
	return r == 0 ? rig_fuse_start(g, m, argv) : r;
}

int rig_mount_stop(struct rig *g, struct rig_mount *m)
{
	if (!m->pid)
		return 0;
	for (int i = 0; umount2(m->mnt, 0) < 0; i++) {
		if (errno != EBUSY || i == 100)
			return rig_fail(-errno, "unmounting %s: %s", m->mnt, strerror(errno));
		usleep(50000);
	}
	rig_undo_drop(g, UNDO_UNMOUNT, 0, m->mnt);
	rig_reap(g, m->pid, PATIENCE_S);
	m->pid = 0;
	return 0;
}

int rig_set(const char *file, const char *what, const char *value)
{
	char name[64];

	snprintf(name, sizeof(name), "user.kvcache.%s", what);
	return setxattr(file, name, value, strlen(value), 0) < 0 ? -errno : 0;
}

int rig_steer(const char *file, const char *what, const char *value)
{
	int r = rig_set(file, what, value);

	if (r < 0)
		return rig_fail(r, "user.kvcache.%s=%s on %s: %s", what, value, file, strerror(-r));
	return 0;
}

void rig_ask(const char *file, const char *what, char *buf, size_t len)
{
	char name[64];
	ssize_t n;

	snprintf(name, sizeof(name), "user.kvcache.%s", what);
	n = getxattr(file, name, buf, len - 1);
	buf[n < 0 ? 0 : n] = 0;
}

/* A reader's end may begin a promotion; it is done when its replica is there or
 * when nothing has happened for a while. */
#define QUIET_NS (700 * NSEC_PER_MSEC)

int rig_only_ssd(struct rig *g, const char *file)
{
	uint64_t quiet = clock_mono_ns();
	char tier[32];

	for (;;) {
		rig_ask(file, "tier", tier, sizeof(tier));
		if (strcmp(tier, "ssd") != 0) {
			int r = rig_steer(file, "move", "ssd");

			if (r < 0)
				return r;
			quiet = clock_mono_ns();
		} else if (clock_mono_ns() - quiet > QUIET_NS) {
			return 0;
		}
		if (rig_interrupted(g))
			return -EINTR;
		usleep(20000);
	}
}

#define METRICS_MAX (1u << 20)

double rig_metric(const char *mnt, const char *name)
{
	char path[RIG_PATH + 64], line[128];
	char *p = mem_alloc(METRICS_MAX + 1), *at;
	ssize_t n = -1;
	double v = -1;
	int fd;

	/* control files have no size: read to the end */
	snprintf(path, sizeof(path), "%s/.kvcachefs/metrics", mnt);
	fd = p ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	if (fd >= 0) {
		n = io_pread(fd, p, METRICS_MAX, 0);
		close(fd);
	}
	if (n >= 0) {
		p[n] = 0;
		snprintf(line, sizeof(line), "\nkvcachefs_%s ", name);
		at = strstr(p, line);
		v = at ? strtod(at + strlen(line), NULL) : -1;
	}
	mem_free(p);
	return v;
}
