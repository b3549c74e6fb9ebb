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
#include <unistd.h>

#include "base/mem.h"
#include "meta_ops.h"
#include "rig_report.h"

struct bench {
	struct rig *g;
	struct rig_mount ours, theirs;
	char plain[RIG_PATH];                       /* on ext4, for walking */
	char dir[2][RIG_PATH];                      /* ours, passthrough_ll's */
	char exe[RIG_PATH];                         /* passthrough_ll */
	unsigned sources;
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

/* On a directory of its own each time: nothing is left of earlier rounds. */
static int start_ll(struct bench *b)
{
	char source[RIG_PATH], leaf[32], opt[RIG_PATH + 80];
	const char *argv[] = { b->exe, "-f", "-o", opt, b->theirs.mnt, NULL };
	int r;

	snprintf(leaf, sizeof(leaf), "source.%u", b->sources++);
	r = rig_mkdir(b->g->base, leaf, source);
	snprintf(opt, sizeof(opt), "source=%s,xattr,cache=auto,timeout=86400", source);
	if (r == 0)
		r = rig_mkdir(b->g->base, "passthrough_ll", b->theirs.mnt);
	if (r == 0)
		r = rig_fuse_start(b->g, &b->theirs, argv);
	return r ? r : rig_mkdir(b->theirs.mnt, "many", b->dir[1]);
}

static int set_up(struct bench *b)
{
	int r = rig_base(b->g, 4ull << 30);

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
	if (r == 0)
		r = rig_mkdir(b->ours.mnt, "many", b->dir[0]);
	return r;
}

/* ---- rows --------------------------------------------------------------------- */

typedef double (*meta_op)(const char *dir, unsigned n);

static int once(struct bench *b, meta_op op, const char *dir, struct bench_times *t)
{
	double s = op(dir, b->g->o->files);

	if (s < 0)
		return rig_fail((int)s, "%s: %s", dir, err_text((int)s));
	if (t)
		bench_add(t, s);
	return rig_interrupted(b->g) ? -EINTR : 0;
}

/* Ours and theirs once each. */
static int pair(struct bench *b, struct row *row, meta_op op, bool ours_first, bool forget)
{
	int r = 0;

	for (unsigned i = 0; i < 2 && r == 0; i++) {
		bool ours = (i == 0) == ours_first;

		if (forget)
			rig_drop_names();
		r = once(b, op, b->dir[ours ? 0 : 1], ours ? &row->ours : &row->theirs);
	}
	return r;
}

struct op_row {
	const char *name, *what;
	meta_op op;
	bool forget;
};

static const struct op_row op_rows[] = {
	{ "stat", "stat", meta_stat, true },
	{ "open", "open+close", meta_open, false },
	{ "getxattr", "getxattr", meta_getxattr, false },
};

static int each_dir(struct bench *b, meta_op op)
{
	int r = once(b, op, b->dir[0], NULL);

	return r ? r : once(b, op, b->dir[1], NULL);
}

static int row_create(struct bench *b, struct row *row)
{
	int r = 0;

	for (unsigned k = 0; row && k < b->g->o->rounds && r == 0; k++) {
		rig_say("create+close: round %u of %u", k + 1, b->g->o->rounds);
		r = start_ll(b);
		if (r == 0)
			r = pair(b, row, meta_create, k % 2 == 0, false);
		if (r == 0)
			r = once(b, meta_remove, b->dir[0], NULL);
		if (r == 0)
			r = rig_mount_stop(b->g, &b->theirs);
	}
	return r;
}

static int rows_ll(struct bench *b)
{
	double n = b->g->o->files;
	const char *ref = "passthrough_ll";
	struct row *create, *row[3];
	bool any = false;
	int r;

	if (!b->have_ll)
		return 0;
	create = report_row(&b->rep, b->g, "create", "create+close", ref, 1.0, n);
	for (unsigned i = 0; i < 3; i++) {
		row[i] = report_row(&b->rep, b->g, op_rows[i].name, op_rows[i].what, ref, 1.0, n);
		any = any || row[i];
	}
	r = row_create(b, create);
	if (r == 0 && any) {
		rig_say("making %u files twice", b->g->o->files);
		r = start_ll(b);
		r = r ? r : each_dir(b, meta_create);
		r = r ? r : each_dir(b, meta_setxattr);
	}
	for (unsigned k = 0; any && k < b->g->o->rounds && r == 0; k++)
		for (unsigned i = 0; i < 3 && r == 0; i++) {
			rig_say("%s: round %u of %u", op_rows[i].what, k + 1, b->g->o->rounds);
			if (row[i])
				r = pair(b, row[i], op_rows[i].op, k % 2 == 0, op_rows[i].forget);
		}
	for (unsigned i = 0; i < b->rep.n; i++)
		b->rep.rows[i].ops = true;
	return r;
}

/* ---- walking ------------------------------------------------------------------- */

static int walk_once(struct bench *b, bool ours, struct row *row)
{
	int r = 0;

	if (ours)
		r = rig_mount_stop(b->g, &b->ours);
	rig_drop_caches();
	if (ours && r == 0)
		r = rig_mount_start(b->g, &b->ours, "kvcachefs", "dram=1G,settle=1h");
	return r ? r : once(b, meta_walk, ours ? b->dir[0] : b->plain,
			    ours ? &row->ours : &row->theirs);
}

static int row_walk(struct bench *b)
{
	struct row *row = report_row(&b->rep, b->g, "walk", "readdir+stat of all, restarted, cold",
				     "ext4, cold", 1 / 1.5, b->g->o->files);
	int r = 0;

	if (!row)
		return 0;
	row->ops = true;
	rig_say("making %u files on ext4", b->g->o->files);
	r = once(b, meta_create, b->plain, NULL);
	if (r == 0 && access(b->dir[0], F_OK) == 0) {
		char one[RIG_PATH + 32];

		snprintf(one, sizeof(one), "%s/context-0000000.bin", b->dir[0]);
		if (access(one, F_OK) < 0)
			r = once(b, meta_create, b->dir[0], NULL);
	}
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
	if (r == 0)
		r = rig_mount_stop(b->g, &b->theirs);
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
