// SPDX-License-Identifier: MIT
/*
 * kvcachebench read: whole files into pre-faulted buffers of their size, from
 * every place where kvcachefs may hold them, beside the same files on ext4
 * and on btrfs with zstd:1. Ours and the reference take turns within a round, in
 * changing order; contents are compared after every load, outside the time.
 *
 * Before a row's load its state is made: a decoded copy, only a replica in DRAM,
 * or only the object on SSD with nothing going on in the background; ext4 is
 * read once to be warm, or read by O_DIRECT; btrfs is read with dropped caches.
 * Rows that decode begin with some loads that do not count, as after some time
 * of use (get_used).
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "base/hash.h"
#include "rig_report.h"

#define N 4
#define THROTTLE 1000000000ull
#define GET_USED 4 /* loads before a row is timed */

enum state { HELD_COPY, HELD_DRAM, HELD_SSD };

struct bench {
	struct rig *g;
	struct rig_corpus c;
	struct rig_mount m;
	char btrfs[RIG_PATH];
	char ours[N][RIG_PATH], ext4[N][RIG_PATH], zstd[RIG_PATH];
	char *buf[N];
	size_t buf_bytes;
	double stored_ratio; /* logical by stored bytes of the first file */
	struct report rep;
};

/* ---- setting up ------------------------------------------------------------ */

static int place_files(struct bench *b)
{
	char dir[RIG_PATH];
	int r = rig_mkdir(b->g->base, "plain", dir);

	for (unsigned i = 0; i < N && r == 0; i++) {
		rig_say("placing and sealing file %u of %d", i + 1, N);
		snprintf(b->ours[i], RIG_PATH, "%.4000s/%u.bin", b->m.mnt, i);
		snprintf(b->ext4[i], RIG_PATH, "%.4000s/%u.bin", dir, i);
		r = copy_in(b->c.path[i], b->ours[i]);
		if (r == 0)
			r = copy_in(b->c.path[i], b->ext4[i]);
		if (r == 0)
			r = rig_steer(b->ours[i], "seal", "1");
		if (r == 0 && rig_interrupted(b->g))
			r = -EINTR;
	}
	if (r == 0 && b->btrfs[0]) {
		snprintf(b->zstd, RIG_PATH, "%.4000s/0.bin", b->btrfs);
		r = copy_in(b->c.path[0], b->zstd);
	}
	return r;
}

static int set_up(struct bench *b)
{
	uint64_t all;
	char options[128], ratio[32];
	int r = rig_corpus(b->g, N, &b->c);

	if (r < 0)
		return r;
	all = b->c.max_bytes * N;
	b->buf_bytes = (b->c.max_bytes + (1u << 20)) & ~(size_t)((1u << 20) - 1);
	for (unsigned i = 0; i < N; i++) {
		b->buf[i] = load_buffer(b->buf_bytes);
		if (!b->buf[i])
			return rig_fail(-ENOMEM, "no memory for the destination buffers");
	}
	r = rig_base(b->g, all * 3, 0);
	if (r < 0)
		return r;
	rig_throttle_init(b->g);
	if (rig_row_wanted(b->g, "cold.btrfs") && rig_btrfs(b->g, b->c.max_bytes, b->btrfs) < 0) {
		b->btrfs[0] = 0;
		sbuf_adds(&b->rep.notes, "No btrfs here: nothing compared with it.\n");
	}
	/* copies and replicas of all files, and as much again */
	snprintf(options, sizeof(options), "dram=%lluM,settle=1h",
		 (unsigned long long)(all >> 20) * 4 + 512);
	r = rig_mount_start(b->g, &b->m, "kvcachefs", options);
	if (r == 0)
		r = place_files(b);
	if (r == 0) {
		rig_ask(b->ours[0], "ratio", ratio, sizeof(ratio));
		if (sscanf(ratio, "%lf", &b->stored_ratio) != 1)
			b->stored_ratio = 0;
	}
	return r;
}

/* ---- one load --------------------------------------------------------------- */

static int hold(struct bench *b, unsigned i, enum state s)
{
	int r = rig_only_ssd(b->g, b->ours[i]);

	if (r == 0 && s == HELD_DRAM)
		r = rig_steer(b->ours[i], "move", "dram");
	if (r == 0 && s == HELD_COPY)
		r = rig_steer(b->ours[i], "move", "copy");
	return r;
}

static int take(struct bench *b, const char *path, enum load_how how, struct bench_times *t)
{
	double s = load_file(path, how, b->buf[0], b->c.bytes[0]);

	if (s < 0)
		return rig_fail((int)s, "reading %s: %s", path, err_text((int)s));
	bench_add(t, s);
	if (hash64(b->buf[0], b->c.bytes[0], 0) != b->c.sum[0])
		return rig_fail(-KVFS_EVERIFY, "%s: other bytes than were written", path);
	memset(b->buf[0], 1, b->c.bytes[0]);
	return rig_interrupted(b->g) ? -EINTR : 0;
}

static int warm(struct bench *b, const char *path)
{
	double s = load_file(path, LOAD_READ, b->buf[0], b->c.bytes[0]);

	return s < 0 ? rig_fail((int)s, "reading %s: %s", path, err_text((int)s)) : 0;
}

struct single {
	enum state state;
	enum load_how ours, theirs;
	const char *ref;   /* path */
	bool warm_ref, drop_ref;
};

static int ours_once(struct bench *b, const struct single *s, struct bench_times *t)
{
	int r = s->state == HELD_COPY ? 0 : hold(b, 0, s->state);

	r = r ? r : take(b, b->ours[0], s->ours, t);
	/* what it moves after the load is not to disturb the other */
	return r || s->state != HELD_SSD ? r : hold(b, 0, HELD_SSD);
}

/* The daemon learns how files are read here, as after some time of use: it keeps
 * pages for copies ready, and tries which way from SSD is faster. */
static int get_used(struct bench *b, const struct single *s)
{
	struct bench_times drop = { .n = 0 };
	int r = 0;

	for (unsigned k = 0; s->state != HELD_COPY && k < GET_USED && r == 0; k++)
		r = ours_once(b, s, &drop);
	return r;
}

static int theirs_once(struct bench *b, const struct single *s, struct row *row)
{
	int r = 0;

	if (s->drop_ref)
		rig_drop_caches();
	if (s->warm_ref)
		r = warm(b, s->ref);
	return r ? r : take(b, s->ref, s->theirs, &row->theirs);
}

static int row_single(struct bench *b, const struct single *s, struct row *row)
{
	int r = 0;

	if (!row)
		return 0;
	r = s->state == HELD_COPY ? hold(b, 0, HELD_COPY) : get_used(b, s);
	for (unsigned k = 0; k < b->g->o->rounds && r == 0; k++) {
		rig_say("%s: round %u of %u", row->what, k + 1, b->g->o->rounds);
		if (k % 2) {
			r = theirs_once(b, s, row);
			r = r ? r : ours_once(b, s, &row->ours);
		} else {
			r = ours_once(b, s, &row->ours);
			r = r ? r : theirs_once(b, s, row);
		}
	}
	return r;
}

/* ---- four readers ------------------------------------------------------------ */

static int take_many(struct bench *b, bool ours, struct bench_times *t)
{
	struct load_many m = { .n = N };
	double s;

	for (unsigned i = 0; i < N; i++) {
		m.path[i] = ours ? b->ours[i] : b->ext4[i];
		m.buf[i] = b->buf[i];
		m.len[i] = b->c.bytes[i];
	}
	s = load_many(&m, LOAD_READ);
	if (s < 0)
		return rig_fail((int)s, "reading four files: %s", err_text((int)s));
	bench_add(t, s);
	for (unsigned i = 0; i < N; i++) {
		if (hash64(b->buf[i], b->c.bytes[i], 0) != b->c.sum[i])
			return rig_fail(-KVFS_EVERIFY, "%s: other bytes than were written",
					m.path[i]);
		memset(b->buf[i], 1, b->c.bytes[i]);
	}
	return rig_interrupted(b->g) ? -EINTR : 0;
}

static int many_once(struct bench *b, bool ours, bool again, enum state state, struct row *row)
{
	struct bench_times drop = { .n = 0 };
	int r = 0;

	for (unsigned i = 0; ours && !again && i < N && r == 0; i++)
		r = hold(b, i, state);
	if (!ours && r == 0)
		r = take_many(b, false, &drop); /* warm */
	return r ? r : take_many(b, ours, ours ? &row->ours : &row->theirs);
}

static int row_many(struct bench *b, enum state state, struct row *row)
{
	struct row used = { .what = "" };
	int r = 0;

	for (unsigned k = 0; row && state == HELD_DRAM && k < GET_USED && r == 0; k++)
		r = many_once(b, true, false, state, &used);
	for (unsigned k = 0; row && k < b->g->o->rounds && r == 0; k++) {
		bool again = state == HELD_COPY && k > 0;

		rig_say("%s: round %u of %u", row->what, k + 1, b->g->o->rounds);
		r = many_once(b, k % 2 == 0, again, state, row);
		r = r ? r : many_once(b, k % 2 != 0, again, state, row);
	}
	return r;
}

/* ---- the rows ------------------------------------------------------------------ */

static int rows_memory(struct bench *b)
{
	struct single hot = { HELD_COPY, LOAD_READ, LOAD_READ, b->ext4[0], true, false };
	struct single map = { HELD_COPY, LOAD_MMAP, LOAD_MMAP, b->ext4[0], true, false };
	struct single dram = { HELD_DRAM, LOAD_READ, LOAD_READ, b->ext4[0], true, false };
	struct single first = { HELD_DRAM, LOAD_MMAP, LOAD_MMAP, b->ext4[0], true, false };
	const char *cache = "ext4 page cache, warm", *mapped = "ext4 mapped, warm";
	double one = (double)b->c.bytes[0], four = 0;
	int r;

	for (unsigned i = 0; i < N; i++)
		four += (double)b->c.bytes[i];
	r = row_single(b, &hot, report_row(&b->rep, b->g, "hot.read", "hot again (decoded copy), read()",
					   cache, 0.95, one));
	if (r == 0)
		r = row_single(b, &map, report_row(&b->rep, b->g, "hot.mmap",
						   "hot again (decoded copy), mmap", mapped, 0.95, one));
	if (r == 0)
		r = row_single(b, &dram, report_row(&b->rep, b->g, "dram.read",
						    "exact replica in DRAM, first read()", cache, 0.60,
						    one));
	if (r == 0)
		r = row_single(b, &first, report_row(&b->rep, b->g, "dram.mmap",
						     "exact replica in DRAM, first mmap", mapped, 0,
						     one));
	if (r == 0)
		r = row_many(b, HELD_DRAM, report_row(&b->rep, b->g, "four.dram",
						      "four readers, replicas in DRAM", cache, 0.60,
						      four));
	if (r == 0)
		r = row_many(b, HELD_COPY, report_row(&b->rep, b->g, "four.hot",
						      "four readers, hot again", cache, 0.60, four));
	return r;
}

static int rows_cold(struct bench *b)
{
	struct single ext4 = { HELD_SSD, LOAD_READ, LOAD_DIRECT, b->ext4[0], false, false };
	struct single btrfs = { HELD_SSD, LOAD_READ, LOAD_READ, b->zstd, false, true };
	double one = (double)b->c.bytes[0];
	int r;

	r = row_single(b, &ext4, report_row(&b->rep, b->g, "cold.ext4", "exact from SSD, caches cold",
					    "ext4 O_DIRECT", 1.2, one));
	if (r == 0 && b->btrfs[0])
		r = row_single(b, &btrfs, report_row(&b->rep, b->g, "cold.btrfs",
						     "exact from SSD, caches cold",
						     "btrfs zstd:1 on loop, cold", 3.5, one));
	return r;
}

static int rows_throttled(struct bench *b)
{
	struct single ext4 = { HELD_SSD, LOAD_READ, LOAD_DIRECT, b->ext4[0], false, false };
	int r;

	if (!rig_row_wanted(b->g, "slow.ext4"))
		return 0;
	if (!rig_throttle_set(b->g, THROTTLE)) {
		sbuf_addf(&b->rep.notes, "Not throttled to 1 GB/s: %s.\n", b->g->throttle.why_not);
		return 0;
	}
	r = row_single(b, &ext4, report_row(&b->rep, b->g, "slow.ext4",
					    "exact from SSD throttled to 1 GB/s",
					    "ext4 O_DIRECT, the same", 0.92 * b->stored_ratio,
					    (double)b->c.bytes[0]));
	(void)rig_throttle_set(b->g, 0);
	return r;
}

static int run(struct bench *b)
{
	int r = set_up(b);

	if (r == 0)
		r = rows_memory(b);
	if (r == 0)
		r = rows_cold(b);
	if (r == 0)
		r = rows_throttled(b);
	sbuf_addf(&b->rep.notes, "Real bf16 caches of %llu MiB, stored ratio %.3f%s.\n",
		  (unsigned long long)(b->c.max_bytes >> 20), b->stored_ratio,
		  b->g->base_on_loop ? "; store and ext4 on a loop device" : "");
	return r;
}

static const char usage[] =
	"Usage: kvcachebench read [OPTION...]\n\n"
	"Loads whole files from decoded copies, replicas in DRAM and SSD, one and four\n"
	"at a time, beside ext4 (page cache, O_DIRECT) and btrfs zstd:1. Needs root.\n\n"
	"  --bytes=BYTES  size of a file (default 512M)";

int bench_read(int argc, char **argv)
{
	struct bench b = { .rep = { .bench = "read" } };
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
	for (unsigned i = 0; i < N; i++)
		if (b.buf[i])
			munmap(b.buf[i], b.buf_bytes);
	report_fini(&b.rep);
	rig_destroy(b.g);
	return r < 0 || (o.check && !met) ? 1 : 0;
}
