// SPDX-License-Identifier: MIT
/*
 * A slower device by cgroup v1's blkio controller: the process joins a group of
 * its own before it starts a daemon, so that the daemon's reads count as well.
 * cgroup v2's io.max cannot be had where v1 holds the controller.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "rig.h"

static bool put(const char *dir, const char *file, const char *text)
{
	char path[RIG_PATH + 64];
	bool ok;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	ok = write(fd, text, strlen(text)) >= 0;
	close(fd);
	return ok;
}

/* Where v1's blkio hierarchy is mounted. */
static bool find_blkio(char root[RIG_PATH])
{
	FILE *f = fopen("/proc/self/mounts", "re");
	char line[8192], where[4096], type[64], opts[4096];
	bool found = false;

	while (f && !found && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%*s %4095s %63s %4095s", where, type, opts) != 3)
			continue;
		found = strcmp(type, "cgroup") == 0 && strstr(opts, "blkio");
		if (found)
			snprintf(root, RIG_PATH, "%s", where);
	}
	if (f)
		fclose(f);
	return found;
}

/* Our group now, to go back to. */
static void find_own(const char *root, char back[RIG_PATH])
{
	FILE *f = fopen("/proc/self/cgroup", "re");
	char line[PATH_MAX];

	snprintf(back, RIG_PATH, "%s", root);
	while (f && fgets(line, sizeof(line), f)) {
		char *names = strchr(line, ':'), *path = names ? strchr(names + 1, ':') : NULL;

		line[strcspn(line, "\n")] = 0;
		if (!path)
			continue;
		*path++ = 0;
		if (strstr(names, "blkio"))
			snprintf(back, RIG_PATH, "%.2000s%.2000s", root, path);
	}
	if (f)
		fclose(f);
}

/* The whole disk under base. */
static bool find_device(const struct rig *g, char dev[32])
{
	char path[128];
	struct stat sb;
	FILE *f;
	bool ok;

	if (stat(g->base, &sb) < 0 || major(sb.st_dev) == 0)
		return false;
	snprintf(dev, 32, "%u:%u", major(sb.st_dev), minor(sb.st_dev));
	snprintf(path, sizeof(path), "/sys/dev/block/%s/partition", dev);
	if (access(path, F_OK) < 0)
		return true;
	snprintf(path, sizeof(path), "/sys/dev/block/%s/../dev", dev);
	f = fopen(path, "re");
	ok = f && fscanf(f, "%31s", dev) == 1;
	if (f)
		fclose(f);
	return ok;
}

void rig_throttle_init(struct rig *g)
{
	struct rig_throttle *t = &g->throttle;
	char root[RIG_PATH], pid[32];

	t->why_not = "there is no cgroup v1 blkio controller";
	if (!find_blkio(root))
		return;
	t->why_not = "the filesystem lies on no block device";
	if (!find_device(g, t->device))
		return;
	find_own(root, t->back);
	snprintf(t->group, sizeof(t->group), "%.3000s/kvcachebench.%d", root, (int)getpid());
	t->why_not = "the cgroup v1 blkio controller does not let us";
	if (mkdir(t->group, 0755) < 0)
		return;
	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	if (!put(t->group, "cgroup.procs", pid) || rig_undo_add(g, UNDO_CGROUP, 0, NULL) < 0) {
		(void)rmdir(t->group); /* empty: nobody joined */
		return;
	}
	t->on = true;
}

bool rig_throttle_set(struct rig *g, uint64_t bytes_per_second)
{
	char text[80];

	if (!g->throttle.on)
		return false;
	snprintf(text, sizeof(text), "%s %llu", g->throttle.device,
		 (unsigned long long)bytes_per_second);
	return put(g->throttle.group, "blkio.throttle.read_bps_device", text);
}

uint64_t rig_throttle_bytes(struct rig *g)
{
	char path[RIG_PATH + 64], line[128], dev[64];
	unsigned long long v, bytes = 0;
	FILE *f;

	if (!g->throttle.on)
		return 0;
	snprintf(path, sizeof(path), "%s/blkio.throttle.io_service_bytes", g->throttle.group);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "%63s Read %llu", dev, &v) == 2 && strcmp(dev, g->throttle.device) == 0)
			bytes = v;
	if (f)
		fclose(f);
	return bytes;
}

void rig_throttle_member(struct rig *g, bool in)
{
	char pid[32];

	if (!g->throttle.on)
		return;
	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	(void)put(in ? g->throttle.group : g->throttle.back, "cgroup.procs", pid);
}

void rig_throttle_fini(struct rig *g)
{
	if (!g->throttle.on)
		return;
	(void)rig_throttle_set(g, 0);
	rig_throttle_member(g, false);
	(void)rmdir(g->throttle.group); /* stays when a child is in it */
	g->throttle.on = false;
}
