/* SPDX-License-Identifier: MIT */
/* pin, prefetch, move, seal, evict, quality, limit, scrub: steering. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/units.h"
#include "ctl.h"

struct setting {
	const char *name;  /* without prefix */
	const char *value; /* NULL: remove */
};

/* What an errno of our mount means, in the words of the thing attempted. */
static const char *explain(const char *name, int err)
{
	switch (err) {
	case EBUSY:
		return "it is open, mapped or pinned";
	case E2BIG:
		return strcmp(name, "seal") == 0 ? "stays plain: encoding would not make it smaller"
						 : strerror(err);
	case EPERM:
	case EACCES:
		if (strcmp(name, "level") == 0)
			return "not the owner, or not granted (the mount's log says why)";
		return strcmp(name, "dram") == 0 || strcmp(name, "ssd") == 0 ||
				       strcmp(name, "scrub") == 0
			       ? "only root and who mounted it may do that"
			       : "only the owner or root may do that";
	case EDQUOT:
		return "your share of pins is used up";
	case EINVAL:
		return "the value is not allowed (the mount's log says why)";
	case EOPNOTSUPP:
		return "not possible here (not in a mounted kvcachefs, or the mount's log says "
		       "why)";
	default:
		return strerror(err);
	}
}

static int set_one(const char *path, off_t size, void *arg)
{
	const struct setting *s = arg;
	char full[128] = KVCACHEFS_XATTR_PREFIX;
	int r;

	(void)size;
	strncat(full, s->name, sizeof(full) - strlen(full) - 1);
	r = s->value ? setxattr(path, full, s->value, strlen(s->value), 0)
		     : removexattr(path, full);
	if (r < 0 && errno == ENODATA && !s->value)
		return 0; /* was not set */
	return r < 0 ? ctl_error("%s: %s: %s", path, s->name, explain(s->name, errno)) : 0;
}

static int set_paths(const char *cmd, struct setting *s, int argc, char **argv, bool trees)
{
	bool recursive = false;
	int failed = 0, i = 0;

	for (; i < argc && argv[i][0] == '-' && argv[i][1]; i++) {
		if (strcmp(argv[i], "--") == 0) {
			i++;
			break;
		}
		if (strcmp(argv[i], "-r") != 0 || trees)
			return ctl_usage(cmd);
		recursive = true;
	}
	if (i == argc)
		return ctl_usage(cmd);
	for (; i < argc; i++)
		failed |= trees ? set_one(argv[i], 0, s)
				: walk_files(argv[i], recursive, set_one, s);
	return failed;
}

int cmd_steer(int argc, char **argv)
{
	struct setting s = { argv[0], "1" };

	if (strcmp(argv[0], "unpin") == 0)
		s = (struct setting){ "pin", "0" };
	return set_paths(argv[0], &s, argc - 1, argv + 1, false);
}

/* move and level: a value, then files */
int cmd_move(int argc, char **argv)
{
	struct setting s = { argv[0], argc > 1 ? argv[1] : NULL };

	if (argc < 3)
		return ctl_usage(argv[0]);
	return set_paths(argv[0], &s, argc - 2, argv + 2, false);
}

/* quality and layout: of files and of directories, which hand them down. */
int cmd_set(int argc, char **argv)
{
	struct setting s = { argv[0], argc > 1 ? argv[1] : NULL };

	if (argc < 3)
		return ctl_usage(argv[0]);
	if (strcmp(s.value, "unset") == 0)
		s.value = NULL;
	return set_paths(argv[0], &s, argc - 2, argv + 2, true);
}

int cmd_limit(int argc, char **argv)
{
	struct setting s;
	uint64_t bytes;
	char *mount;
	int r;

	if (argc < 3 || argc > 4 || (strcmp(argv[1], "dram") && strcmp(argv[1], "ssd")))
		return ctl_usage(argv[0]);
	if (units_parse_bytes(argv[2], &bytes) < 0)
		return ctl_error("'%s' is not a size such as 8G", argv[2]);
	mount = argc == 4 ? mount_of(argv[3]) : mount_only();
	if (!mount)
		return 1;
	s = (struct setting){ argv[1], argv[2] };
	r = set_one(mount, 0, &s);
	mem_free(mount);
	return r;
}

static int scrub_wait(const char *mount)
{
	unsigned long long done, total, bytes, damaged;
	bool tty = isatty(STDERR_FILENO);
	char value[256], state[16];

	for (;;) {
		if (value_of(mount, "scrub", value, sizeof(value)) < 0 ||
		    sscanf(value, "%15s files=%llu/%llu bytes=%llu damaged=%llu", state, &done,
			   &total, &bytes, &damaged) != 5)
			return ctl_error("%s: cannot tell how far it is", mount);
		if (tty)
			fprintf(stderr, "\rscrub: %llu of %llu files, %.2f GB, %llu damaged   ",
				done, total, (double)bytes / 1e9, damaged);
		if (strcmp(state, "running") != 0)
			break;
		usleep(200000);
	}
	if (tty)
		fputc('\n', stderr);
	printf("%llu files verified, %llu damaged\n", done, damaged);
	return damaged ? 1 : 0;
}

int cmd_scrub(int argc, char **argv)
{
	struct setting s = { "scrub", "1" };
	bool wait = argc > 1 && strcmp(argv[1], "-w") == 0;
	int r, i = wait ? 2 : 1;
	char *mount;

	if (argc > i + 1 || (argc > i && argv[i][0] == '-'))
		return ctl_usage(argv[0]);
	mount = argc > i ? mount_of(argv[i]) : mount_only();
	if (!mount)
		return 1;
	r = set_one(mount, 0, &s);
	if (r == 0 && wait)
		r = scrub_wait(mount);
	mem_free(mount);
	return r;
}
