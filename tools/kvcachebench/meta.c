// SPDX-License-Identifier: MIT
/*
 * kvcachebench meta: one client and many small things, beside libfuse's own
 * passthrough_ll with the same caching and timeouts on a directory of the same
 * filesystem, and beside ext4 itself for walking a directory when everything was
 * forgotten (the daemon restarted, caches dropped).
 *
 * The kernel's names are forgotten before stat and open are measured, or it
 * would answer by itself. passthrough_ll is compiled here from libfuse's
 * examples. It finds inodes in one list, so its lookups take longer the more
 * files there are: --files=1000 compares without that.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "meta_ops.h"
#include "rig_report.h"

/* What passthrough_ll's list of open descriptors leaves for inodes. */
#define SPARE_FILES 500

struct bench {
	struct rig *g;
	struct rig_mount ours, theirs;
	char plain[RIG_PATH];         /* on ext4, for walking */
	char dir[2][RIG_PATH];        /* of the moment: ours, passthrough_ll's */
	char exe[RIG_PATH];           /* passthrough_ll */
	char source[RIG_PATH];        /* what it shows */
	unsigned sources, dirs;
	unsigned batches, each;       /* files in turn: passthrough_ll holds each open */
	bool have_ll;
	struct report rep;
};

/* ---- setting up -------------------------------------------------------------- */

static int compile_ll(struct rig *g, char exe[RIG_PATH])
{
	static const char script[] =
		"src=/usr/share/doc/libfuse3-dev/examples/passthrough_ll.c; "
		"test -e $src || { echo 'no libfuse examples: install libfuse3-dev'; exit 1; }; "
		"gcc -O2 -w -o \"$1\" $src $(pkg-config --cflags --libs fuse3)";
	const char *argv[] = { "sh", "-c", script, "sh", exe, NULL };

	snprintf(exe, RIG_PATH, "%.4000s/passthrough_ll", g->scratch);
	return rig_run(g, argv);
}

static int new_source(struct bench *b)
{
	char leaf[32];

	snprintf(leaf, sizeof(leaf), "source.%u", b->sources++);
	return rig_mkdir(b->g->base, leaf, b->source);
}

static int start_ll(struct bench *b)
{
	char opt[RIG_PATH + 80];
	const char *argv[] = { b->exe, "-f", "-o", opt, b->theirs.mnt, NULL };
	int r = rig_mkdir(b->g->base, "passthrough_ll", b->theirs.mnt);

	snprintf(opt, sizeof(opt), "source=%s,xattr,cache=auto,timeout=86400", b->source);
	return r ? r : rig_fuse_start(b->g, &b->theirs, argv);
}

static void plan_batches(struct bench *b)
{
	unsigned n = b->g->o->files, most = n;
	struct rlimit lim;

	if (getrlimit(RLIMIT_NOFILE, &lim) == 0 && lim.rlim_max < n + SPARE_FILES)
		most = (unsigned)lim.rlim_max - SPARE_FILES;
	b->batches = (n + most - 1) / most;
	b->each = n / b->batches;
	if (b->batches > 1)
		sbuf_addf(&b->rep.notes, "In %u batches: passthrough_ll keeps every file open, and "
			  "%llu may be.\n", b->batches, (unsigned long long)lim.rlim_max);
}

static int set_up(struct bench *b)
{
	unsigned all = (b->g->o->rounds * 2 + 4) * b->g->o->files;
	int r = rig_base(b->g, (uint64_t)all * 1024 + (2ull << 30), all);

	plan_batches(b);
	if (r == 0)
		r = rig_mkdir(b->g->base, "plain", b->plain);
	if (r == 0)
		r = rig_mount_start(b->g, &b->ours, "kvcachefs", "dram=1G,settle=1h");
	if (r == 0) {
		r = compile_ll(b->g, b->exe);
		b->have_ll = r == 0;
		if (r == -ECHILD) {
			sbuf_adds(&b->rep.notes, "No passthrough_ll: nothing compared with it.\n");
			r = 0;
		}
	}
	return r;
}

/* ---- rows --------------------------------------------------------------------- */

typedef double (*meta_op)(const char *dir, unsigned n);

/* Adds the seconds to *sum. */
static int once(struct bench *b, meta_op op, const char *dir, unsigned n, double *sum)
{
	double s = op(dir, n);

	if (s < 0)
		return rig_fail((int)s, "%s: %s", dir, err_text((int)s));
	if (sum)
		*sum += s;
	return rig_interrupted(b->g) ? -EINTR : 0;
}

/* Nothing is removed between rounds: ext4 looks long for inode numbers when
 * many have just become free. */
static int create_batch(struct bench *b, bool ours_first, double sum[2])
{
	char leaf[32];
	int r;

	snprintf(leaf, sizeof(leaf), "many.%u", b->dirs++);
	r = rig_mkdir(b->ours.mnt, leaf, b->dir[0]);
	if (r == 0)
		r = new_source(b);
	if (r == 0)
		r = start_ll(b);
	if (r == 0)
		r = rig_mkdir(b->theirs.mnt, leaf, b->dir[1]);
	for (unsigned i = 0; i < 2 && r == 0; i++) {
		unsigned who = (i == 0) == ours_first ? 0 : 1;

		r = once(b, meta_create, b->dir[who], b->each, &sum[who]);
	}
	return r ? r : rig_mount_stop(b->g, &b->theirs);
}

static int row_create(struct bench *b, struct row *row)
{
	int r = 0;

	for (unsigned k = 0; row && k < b->g->o->rounds && r == 0; k++) {
		double sum[2] = { 0, 0 };

		for (unsigned j = 0; j < b->batches && r == 0; j++) {
			rig_say("create+close: round %u of %u", k + 1, b->g->o->rounds);
			r = create_batch(b, k % 2 == 0, sum);
		}
		bench_add(&row->ours, sum[0]);
		bench_add(&row->theirs, sum[1]);
	}
	return r;
}

#define OPS 3
static const struct {
	const char *name, *what;
	meta_op op;
} ops[OPS] = {
	{ "stat", "stat", meta_stat }, /* finds names that the kernel does not know */
	{ "open", "open+close", meta_open },
	{ "getxattr", "getxattr", meta_getxattr },
};

/* The directories that stat, open and getxattr work on, with an xattr each;
 * theirs is made behind passthrough_ll's back. */
static int make_sets(struct bench *b)
{
	int r = new_source(b);

	for (unsigned j = 0; j < b->batches && r == 0; j++) {
		const char *parent[2] = { b->ours.mnt, b->source };
		char leaf[32];

		snprintf(leaf, sizeof(leaf), "set.%u", j);
		for (unsigned who = 0; who < 2 && r == 0; who++) {
			rig_say("making %u files twice", b->each);
			r = rig_mkdir(parent[who], leaf, b->dir[who]);
			r = r ? r : once(b, meta_create, b->dir[who], b->each, NULL);
			r = r ? r : once(b, meta_setxattr, b->dir[who], b->each, NULL);
		}
	}
	return r ? r : start_ll(b);
}

static int ops_batch(struct bench *b, unsigned j, unsigned who, double sum[OPS][2])
{
	int r = 0;

	snprintf(b->dir[who], RIG_PATH, "%.4000s/set.%u", who ? b->theirs.mnt : b->ours.mnt, j);
	rig_drop_names();
	usleep(200000); /* the forgetting goes on in the servers */
	for (unsigned i = 0; i < OPS && r == 0; i++)
		r = once(b, ops[i].op, b->dir[who], b->each, &sum[i][who]);
	return r;
}

static int rows_ops(struct bench *b, struct row *const row[OPS])
{
	int r = make_sets(b);

	for (unsigned k = 0; k < b->g->o->rounds && r == 0; k++) {
		double sum[OPS][2] = { { 0, 0 } };

		for (unsigned j = 0; j < b->batches && r == 0; j++) {
			rig_say("stat, open, getxattr: round %u of %u", k + 1, b->g->o->rounds);
			r = ops_batch(b, j, k % 2, sum);
			r = r ? r : ops_batch(b, j, 1 - k % 2, sum);
		}
		for (unsigned i = 0; i < OPS && r == 0; i++)
			if (row[i]) {
				bench_add(&row[i]->ours, sum[i][0]);
				bench_add(&row[i]->theirs, sum[i][1]);
			}
	}
	return r ? r : rig_mount_stop(b->g, &b->theirs);
}

static int rows_ll(struct bench *b)
{
	double n = (double)b->each * b->batches;
	const char *ref = "passthrough_ll";
	struct row *create, *row[OPS];
	bool any = false;
	int r;

	if (!b->have_ll)
		return 0;
	create = report_row(&b->rep, b->g, "create", "create+close", ref, 1.0, n);
	for (unsigned i = 0; i < OPS; i++) {
		row[i] = report_row(&b->rep, b->g, ops[i].name, ops[i].what, ref, 1.0, n);
		any = any || row[i];
	}
	for (unsigned i = 0; i < b->rep.n; i++)
		b->rep.rows[i].ops = true;
	r = row_create(b, create);
	return r || !any ? r : rows_ops(b, row);
}

/* ---- walking ------------------------------------------------------------------- */

static int walk_once(struct bench *b, bool ours, struct row *row)
{
	double sum = 0;
	int r = 0;

	if (ours)
		r = rig_mount_stop(b->g, &b->ours);
	rig_drop_caches();
	if (ours && r == 0)
		r = rig_mount_start(b->g, &b->ours, "kvcachefs", "dram=1G,settle=1h");
	if (r == 0)
		r = once(b, meta_walk, ours ? b->dir[0] : b->plain, b->g->o->files, &sum);
	bench_add(ours ? &row->ours : &row->theirs, sum);
	return r;
}

static int row_walk(struct bench *b)
{
	struct row *row = report_row(&b->rep, b->g, "walk", "readdir+stat of all, restarted, cold",
				     "ext4, cold", 1 / 1.5, b->g->o->files);
	int r;

	if (!row)
		return 0;
	row->ops = true;
	rig_say("making %u files twice", b->g->o->files);
	r = once(b, meta_create, b->plain, b->g->o->files, NULL);
	r = r ? r : rig_mkdir(b->ours.mnt, "all", b->dir[0]);
	r = r ? r : once(b, meta_create, b->dir[0], b->g->o->files, NULL);
	for (unsigned k = 0; k < b->g->o->rounds && r == 0; k++) {
		rig_say("readdir+stat: round %u of %u", k + 1, b->g->o->rounds);
		r = walk_once(b, k % 2 == 0, row);
		r = r ? r : walk_once(b, k % 2 != 0, row);
	}
	return r;
}

static int run(struct bench *b)
{
	int r = set_up(b);

	if (r == 0)
		r = rows_ll(b);
	return r ? r : row_walk(b);
}

static const char usage[] =
	"Usage: kvcachebench meta [OPTION...]\n\n"
	"create+close, stat, open+close and getxattr on many files beside libfuse's\n"
	"passthrough_ll, and a cold walk beside ext4. Needs root, gcc, libfuse3-dev.\n\n"
	"  --files=N      files (default 100000)";

int bench_meta(int argc, char **argv)
{
	struct bench b = { .rep = { .bench = "meta" } };
	struct rig_options o;
	bool met = true;
	int r = rig_options(argc, argv, usage, &o);

	if (r != 0)
		return r < 0 ? 2 : 0;
	r = rig_create(&o, &b.g);
	if (r < 0)
		return 1;
	r = run(&b);
	if (r == 0)
		met = report_print(&b.rep, b.g);
	report_fini(&b.rep);
	rig_destroy(b.g);
	return r < 0 || (o.check && !met) ? 1 : 0;
}
