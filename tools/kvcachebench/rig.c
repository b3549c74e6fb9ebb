// SPDX-License-Identifier: MIT
/*
 * A run's life: options, scratch directory, undoing. Signals that end a program
 * are blocked and looked at between steps, so that mounts, daemons, loop devices
 * and files never stay behind. What has to be undone is a stack; the newest goes
 * first.
 */
#include "rig.h"

#include <errno.h>
#include <ftw.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/units.h"
#include "bench.h"

int rig_fail(int code, const char *fmt, ...)
{
	va_list ap;

	bench_progress(NULL);
	va_start(ap, fmt);
	fprintf(stderr, "kvcachebench: ");
	vfprintf(stderr, fmt, ap);
	fprintf(stderr, "\n");
	va_end(ap);
	return code;
}

void rig_say(const char *fmt, ...)
{
	char text[200];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	bench_progress(text);
}

bool rig_row_wanted(const struct rig *g, const char *name)
{
	return !g->o->only || strncmp(name, g->o->only, strlen(g->o->only)) == 0;
}

/* ---- options -------------------------------------------------------------- */

enum { OPT_DIR = 256, OPT_BYTES, OPT_ROUNDS, OPT_FILES, OPT_ONLY, OPT_DAEMON, OPT_KVLM, OPT_MODEL,
       OPT_CHECK, OPT_NO_QUIET, OPT_JSON };

static const struct option long_options[] = {
	{ "dir", required_argument, NULL, OPT_DIR },
	{ "bytes", required_argument, NULL, OPT_BYTES },
	{ "rounds", required_argument, NULL, OPT_ROUNDS },
	{ "files", required_argument, NULL, OPT_FILES },
	{ "only", required_argument, NULL, OPT_ONLY },
	{ "daemon", required_argument, NULL, OPT_DAEMON },
	{ "kvlm", required_argument, NULL, OPT_KVLM },
	{ "model", required_argument, NULL, OPT_MODEL },
	{ "check", no_argument, NULL, OPT_CHECK },
	{ "no-quiet", no_argument, NULL, OPT_NO_QUIET },
	{ "json", no_argument, NULL, OPT_JSON },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 },
};

static void help(const char *more)
{
	printf("%s\n"
	       "  --only=NAME    rows whose name begins so\n"
	       "  --rounds=N     rounds (default 5)\n"
	       "  --dir=DIR      scratch (default /var/tmp/kvcachebench); contents made there\n"
	       "                 stay for the next run\n"
	       "  --daemon=FILE  the kvcachefs to measure (default: built with this program)\n"
	       "  --kvlm=FILE, --model=FILE  what makes the contents\n"
	       "  --check        exit 1 when a row falls short of its target\n"
	       "  --no-quiet     leave scheduling alone\n"
	       "  --json         one JSON object instead of a table\n", more);
}

static int parse_option(int c, void *arg)
{
	struct rig_options *o = arg;
	uint64_t v = 0;
	int r = 0;

	switch (c) {
	case OPT_DIR: o->dir = optarg; break;
	case OPT_ONLY: o->only = optarg; break;
	case OPT_DAEMON: o->daemon = optarg; break;
	case OPT_KVLM: o->kvlm = optarg; break;
	case OPT_MODEL: o->model = optarg; break;
	case OPT_CHECK: o->check = true; break;
	case OPT_NO_QUIET: o->quiet_sched = false; break;
	case OPT_JSON: o->json = true; break;
	case OPT_BYTES:
		r = units_parse_bytes(optarg, &o->bytes);
		if (r == 0 && (o->bytes < 16u << 20 || o->bytes > 16ull << 30))
			r = -ERANGE;
		break;
	case OPT_ROUNDS:
		r = units_parse_u64(optarg, 1, BENCH_ROUNDS_MAX, &v);
		o->rounds = (unsigned)v;
		break;
	default:
		r = units_parse_u64(optarg, 100, 10000000, &v);
		o->files = (unsigned)v;
		break;
	}
	return r;
}

int rig_options(int argc, char **argv, const char *more, struct rig_options *o)
{
	int r;

	*o = (struct rig_options){ .dir = "/var/tmp/kvcachebench", .bytes = 512u << 20,
				   .rounds = 5, .files = 100000, .quiet_sched = true };
	r = bench_options(argc, argv, long_options, parse_option, o);
	if (r == 1)
		help(more);
	if (r)
		return r;
	if (optind < argc)
		return rig_fail(-EINVAL, "unexpected argument '%s'", argv[optind]);
	if (geteuid() != 0)
		return rig_fail(-EINVAL, "needs root: it mounts, drops caches and throttles");
	return 0;
}

/* ---- interruption ---------------------------------------------------------- */

static void ending_signals(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGHUP);
}

bool rig_interrupted(struct rig *g)
{
	struct timespec now = { 0, 0 };
	sigset_t set;

	ending_signals(&set);
	if (!g->interrupted && sigtimedwait(&set, NULL, &now) > 0) {
		g->interrupted = true;
		bench_progress("ending");
	}
	return g->interrupted;
}

/* ---- undoing --------------------------------------------------------------- */

int rig_undo_add(struct rig *g, enum rig_undo_kind kind, pid_t pid, const char *path)
{
	struct rig_undo *u;

	if (g->n_undo == RIG_UNDO_MAX)
		return -ENOSPC;
	u = &g->undo[g->n_undo++];
	u->kind = kind;
	u->pid = pid;
	snprintf(u->path, sizeof(u->path), "%s", path ? path : "");
	return 0;
}

void rig_undo_drop(struct rig *g, enum rig_undo_kind kind, pid_t pid, const char *path)
{
	for (unsigned i = g->n_undo; i-- > 0;) {
		struct rig_undo *u = &g->undo[i];

		if (u->kind != kind || u->pid != pid || strcmp(u->path, path ? path : "") != 0)
			continue;
		memmove(u, u + 1, (g->n_undo - i - 1) * sizeof(*u));
		g->n_undo--;
		return;
	}
}

static int remove_one(const char *path, const struct stat *sb, int type, struct FTW *ftw)
{
	(void)sb;
	(void)ftw;
	(void)(type == FTW_DP ? rmdir(path) : unlink(path)); /* as far as it goes */
	return 0;
}

void rig_remove_tree(const char *path)
{
	(void)nftw(path, remove_one, 32, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

static void unmount(const char *path)
{
	for (int i = 0; i < 50; i++) {
		if (umount2(path, 0) == 0 || errno != EBUSY)
			return;
		usleep(100000);
	}
	(void)umount2(path, MNT_DETACH); /* the last resort */
}

static void undo_one(struct rig *g, const struct rig_undo *u)
{
	switch (u->kind) {
	case UNDO_UNMOUNT: unmount(u->path); break;
	case UNDO_CHILD: rig_reap(g, u->pid, 30); break;
	case UNDO_TREE: rig_remove_tree(u->path); break;
	case UNDO_CGROUP: rig_throttle_fini(g); break;
	}
}

void rig_destroy(struct rig *g)
{
	if (!g)
		return;
	bench_progress("cleaning up");
	while (g->n_undo > 0) {
		struct rig_undo u = g->undo[--g->n_undo];

		undo_one(g, &u);
	}
	bench_progress(NULL);
	mem_free(g);
}

/* ---- creation -------------------------------------------------------------- */

int rig_mkdir(const char *dir, const char *name, char path[RIG_PATH])
{
	if (snprintf(path, RIG_PATH, "%s/%s", dir, name) >= RIG_PATH)
		return -ENAMETOOLONG;
	if (mkdir(path, 0755) < 0 && errno != EEXIST)
		return rig_fail(-errno, "%s: %s", path, strerror(errno));
	return 0;
}

/* Nobody else may put something in the place of what we make there. */
static int scratch_parent(const char *dir)
{
	struct stat link, st;

	if (mkdir(dir, 0755) < 0 && errno != EEXIST)
		return rig_fail(-errno, "%s: %s", dir, strerror(errno));
	if (lstat(dir, &link) < 0 || stat(dir, &st) < 0)
		return rig_fail(-errno, "%s: %s", dir, strerror(errno));
	if ((link.st_uid != geteuid() && link.st_uid != 0) ||
	    (st.st_uid != geteuid() && st.st_uid != 0) ||
	    ((st.st_mode & 022) && !(st.st_mode & S_ISVTX)))
		return rig_fail(-EPERM, "%s belongs to somebody else or others may write to it; "
				"choose another with --dir=", dir);
	return 0;
}

/* A new directory of this run. */
static int scratch_make(const char *dir, char path[RIG_PATH])
{
	int r = scratch_parent(dir);

	if (r < 0)
		return r;
	if (snprintf(path, RIG_PATH, "%s/run.XXXXXX", dir) >= RIG_PATH)
		return -ENAMETOOLONG;
	if (!mkdtemp(path) || chmod(path, 0755) < 0)
		return rig_fail(-errno, "%s: %s", path, strerror(errno));
	return 0;
}

int rig_create(const struct rig_options *o, struct rig **ret)
{
	struct rig *g;
	sigset_t set;
	int r;

	ending_signals(&set);
	sigprocmask(SIG_BLOCK, &set, NULL);
	if (o->quiet_sched)
		bench_quiet();
	g = mem_zalloc(sizeof(*g));
	if (!g)
		return -ENOMEM;
	g->o = o;
	snprintf(g->dir, sizeof(g->dir), "%s", o->dir);
	r = scratch_make(o->dir, g->scratch);
	if (r == 0)
		r = rig_undo_add(g, UNDO_TREE, 0, g->scratch);
	if (r < 0) {
		mem_free(g);
		return r;
	}
	snprintf(g->log, sizeof(g->log), "%.4000s/programs.log", g->scratch);
	*ret = g;
	return 0;
}
