// SPDX-License-Identifier: MIT
/*
 * kvcachebench write: new files, from open to close, beside the same on ext4
 * (buffered, as ours), and sealing under a steady stream of input (write_seal.c).
 *
 * Files are removed right after they were measured, so that neither filesystem
 * writes back what the other waits for. Small files are written a number of
 * times in a round, to last long enough for the clock and the scheduler.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "base/mem.h"
#include "write_seal.h"

#define SMALL (32u << 20)
#define SMALL_TIMES 8
#define SETTLE_US 100000 /* a daemon gives the pages back after unlink returned */

struct bench {
	struct rig *g;
	struct rig_corpus c;
	struct rig_mount m;
	char ext4[RIG_PATH];
	char *buf; /* a real cache */
	size_t buf_bytes;
	struct report rep;
};

static int set_up(struct bench *b)
{
	char options[64];
	uint64_t large = b->g->o->bytes * 2;
	int fd, r = rig_corpus(b->g, 1, &b->c);

	if (r < 0)
		return r;
	b->buf_bytes = b->c.bytes[0] & ~(size_t)((1u << 20) - 1);
	b->buf = mem_alloc_pages(b->c.bytes[0]);
	fd = open(b->c.path[0], O_RDONLY | O_CLOEXEC);
	if (!b->buf || fd < 0)
		return rig_fail(-ENOMEM, "cannot hold %s", b->c.path[0]);
	r = io_pread_all(fd, b->buf, b->c.bytes[0], 0);
	io_close(&fd);
	if (r == 0)
		r = rig_base(b->g, large * 4 + (8ull << 30), 0);
	if (r == 0)
		r = rig_mkdir(b->g->base, "plain", b->ext4);
	snprintf(options, sizeof(options), "dram=6G,settle=1h");
	return r ? r : rig_mount_start(b->g, &b->m, "kvcachefs", options);
}

static int check_written(const struct bench *b, const char *path, uint64_t len)
{
	char *back = mem_alloc_pages(1u << 20);
	int fd = open(path, O_RDONLY | O_CLOEXEC), r = fd < 0 || !back ? -EIO : 0;

	for (uint64_t at = 0; at < len && r == 0; at += 1u << 20) {
		r = io_pread_all(fd, back, 1u << 20, at);
		if (r == 0 && memcmp(back, b->buf + at % b->buf_bytes, 1u << 20) != 0)
			r = -KVFS_EVERIFY;
	}
	io_close(&fd);
	mem_free_pages(back, 1u << 20);
	return r < 0 ? rig_fail(r, "%s: %s", path, err_text(r)) : 0;
}

static int save_once(struct bench *b, const char *dir, uint64_t len, size_t call, bool check,
		     struct bench_times *t)
{
	unsigned times = len <= SMALL ? SMALL_TIMES : 1;
	char path[RIG_PATH];
	double sum = 0;
	int r = 0;

	for (unsigned i = 0; i < times && r == 0; i++) {
		double s;

		snprintf(path, sizeof(path), "%.4000s/new-%u.bin", dir, i);
		s = save_file(path, b->buf, b->buf_bytes, len, call);
		if (s < 0)
			return rig_fail((int)s, "writing %s: %s", path, err_text((int)s));
		sum += s;
		if (check && i == 0)
			r = check_written(b, path, len);
	}
	for (unsigned i = 0; i < times; i++) {
		snprintf(path, sizeof(path), "%.4000s/new-%u.bin", dir, i);
		if (unlink(path) < 0 && r == 0)
			r = rig_fail(-errno, "removing %s: %s", path, strerror(errno));
	}
	usleep(SETTLE_US);
	bench_add(t, sum);
	return r == 0 && rig_interrupted(b->g) ? -EINTR : r;
}

static int row(struct bench *b, const char *name, const char *what, uint64_t len, size_t call)
{
	double work = (double)len * (len <= SMALL ? SMALL_TIMES : 1);
	struct row *row = report_row(&b->rep, b->g, name, what, "ext4 buffered", 0.9, work);
	struct bench_times drop = { .n = 0 };
	int r = 0;

	if (!row)
		return 0;
	r = save_once(b, b->m.mnt, len, call, true, &drop); /* not measured: first use */
	if (r == 0)
		r = save_once(b, b->ext4, len, call, false, &drop);
	for (unsigned k = 0; k < b->g->o->rounds && r == 0; k++) {
		bool first = k % 2 == 0;

		rig_say("%s: round %u of %u", what, k + 1, b->g->o->rounds);
		r = save_once(b, first ? b->m.mnt : b->ext4, len, call, false,
			      first ? &row->ours : &row->theirs);
		if (r == 0)
			r = save_once(b, first ? b->ext4 : b->m.mnt, len, call, false,
				      first ? &row->theirs : &row->ours);
	}
	return r;
}

static int run(struct bench *b)
{
	uint64_t large = b->g->o->bytes * 2;
	int r = set_up(b);

	if (r == 0)
		r = row(b, "small.1M", "32 MiB files, calls of 1 MiB", SMALL, 1u << 20);
	if (r == 0)
		r = row(b, "small.4K", "32 MiB files, calls of 4 KiB", SMALL, 4096);
	if (r == 0)
		r = row(b, "large.1M", "1 GiB file, calls of 1 MiB", large, 1u << 20);
	if (r == 0)
		r = row(b, "large.4K", "1 GiB file, calls of 4 KiB", large, 4096);
	if (r == 0)
		r = seal_rows(b->g, &b->m, &b->c, b->buf, &b->rep);
	if (large != 1u << 30)
		sbuf_addf(&b->rep.notes, "Large files are of %llu MiB.\n",
			  (unsigned long long)(large >> 20));
	return r;
}

static const char usage[] =
	"Usage: kvcachebench write [OPTION...]\n\n"
	"Saves new files in large and small calls, beside ext4; lets files arrive at\n"
	"0.4 GB/s and looks whether sealing keeps up and what a reader feels. Needs root.\n\n"
	"  --bytes=BYTES  half the size of a large file (default 512M)";

int bench_write(int argc, char **argv)
{
	struct bench b = { .rep = { .bench = "write" } };
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
	mem_free_pages(b.buf, b.c.bytes[0]);
	report_fini(&b.rep);
	rig_destroy(b.g);
	return r < 0 || (o.check && !met) ? 1 : 0;
}
