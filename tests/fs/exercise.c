/* SPDX-License-Identifier: MIT */
/*
 * Random operations on files of a mount against a model in memory, after the
 * manner of fsx: every read, mapping and size is compared, and between them
 * the file is sealed, unsealed, moved between tiers, opened in other ways.
 *
 *   exercise DIR [--seed N] [--ops N] [--files N] [--plain] [--verbose]
 *
 * --plain leaves out what only kvcachefs understands (to check this program on
 * another filesystem). The last operations are printed when something differs.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "testlib.h"

#define SIZE_MAX_BYTES (6u << 20)
#define FILES_MAX 16
#define HISTORY 40

struct file {
	char path[512];
	uint8_t *want; /* SIZE_MAX_BYTES, zero behind len */
	size_t len;
	int fd;        /* -1 closed */
	int flags;
	void *map;     /* a mapping that may outlive fd; NULL none */
	size_t map_len;
};

struct run {
	struct file f[FILES_MAX];
	unsigned n_files;
	bool plain, verbose;
	uint64_t rnd;
	uint8_t *buf; /* page-aligned, SIZE_MAX_BYTES */
	char history[HISTORY][160];
	unsigned n_history;
	unsigned n_ops, refused; /* seals of what is in use */
};

static void say(struct run *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void say(struct run *r, const char *fmt, ...)
{
	char *line = r->history[r->n_history++ % HISTORY];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(r->history[0]), fmt, ap);
	va_end(ap);
	if (r->verbose)
		fprintf(stderr, "%s\n", line);
}

static void die(struct run *r, const char *what)
{
	unsigned from = r->n_history > HISTORY ? r->n_history - HISTORY : 0;

	for (unsigned i = from; i < r->n_history; i++)
		fprintf(stderr, "%6u %s\n", i, r->history[i % HISTORY]);
	fprintf(stderr, "exercise: %s (errno %s)\n", what, strerror(errno));
	exit(1);
}

#define MUST(r, cond) ((cond) ? (void)0 : die((r), #cond))

static size_t pick(struct run *r, size_t max)
{
	return max ? test_rand(&r->rnd) % max : 0;
}

/* Often at the start, at the end, at block edges; lengths of every size. */
static size_t pick_off(struct run *r, size_t len)
{
	switch (pick(r, 5)) {
	case 0:
		return 0;
	case 1:
		return pick(r, len + 1) & ~(size_t)4095;
	case 2:
		return len > 5000 ? len - pick(r, 5000) : 0;
	default:
		return pick(r, len + 1);
	}
}

static size_t pick_len(struct run *r)
{
	switch (pick(r, 4)) {
	case 0:
		return 1 + pick(r, 100);
	case 1:
		return 1 + pick(r, 10000);
	case 2:
		return 4096 * (1 + pick(r, 64));
	default:
		return 1 + pick(r, 2u << 20);
	}
}

static void compare(struct run *r, const struct file *f, const uint8_t *got, size_t off,
		    size_t len, const char *how)
{
	for (size_t i = 0; i < len; i++) {
		if (got[i] == f->want[off + i])
			continue;
		fprintf(stderr, "%s: %s at %zu: found %02x, written %02x (range %zu+%zu of %zu)\n",
			f->path, how, off + i, got[i], f->want[off + i], off, len, f->len);
		die(r, "content differs");
	}
}

static void open_file(struct run *r, struct file *f)
{
	static const int ways[] = { O_RDONLY, O_RDONLY, O_RDWR, O_RDWR, O_RDONLY | O_DIRECT,
				    O_RDWR | O_DIRECT, O_RDWR | O_DSYNC };

	if (f->fd >= 0)
		return;
	f->flags = ways[pick(r, sizeof(ways) / sizeof(ways[0]))];
	if (r->plain)
		f->flags &= ~O_DIRECT; /* alignment rules of others */
	f->fd = open(f->path, f->flags);
	say(r, "open %s %x = %d", f->path, f->flags, f->fd);
	MUST(r, f->fd >= 0);
}

static void open_writable(struct run *r, struct file *f)
{
	if (f->fd >= 0 && (f->flags & O_ACCMODE) == O_RDWR)
		return;
	if (f->fd >= 0)
		close(f->fd);
	f->flags = O_RDWR;
	f->fd = open(f->path, O_RDWR);
	say(r, "open %s rw = %d", f->path, f->fd);
	MUST(r, f->fd >= 0);
}

static void op_read(struct run *r, struct file *f)
{
	size_t off = pick_off(r, f->len), len = pick_len(r), want;
	ssize_t got;

	open_file(r, f);
	want = off >= f->len ? 0 : f->len - off < len ? f->len - off : len;
	memset(r->buf, 0xee, len);
	got = pread(f->fd, r->buf, len, (off_t)off);
	say(r, "read %s %zu+%zu = %zd", f->path, off, len, got);
	if (got < 0 && errno == EINVAL && (f->flags & O_DIRECT))
		return; /* the kernel's own alignment rule on a passthrough file */
	MUST(r, got == (ssize_t)want);
	compare(r, f, r->buf, off, want, "read");
}

static void op_read_all(struct run *r, struct file *f)
{
	size_t at = 0;
	int fd = open(f->path, O_RDONLY);

	say(r, "read all of %s", f->path);
	MUST(r, fd >= 0);
	for (;;) {
		ssize_t n = read(fd, r->buf + at, 1u << 20);

		MUST(r, n >= 0);
		at += (size_t)n;
		if (n == 0)
			break;
	}
	MUST(r, at == f->len);
	compare(r, f, r->buf, 0, f->len, "whole read");
	close(fd);
}

/* Numbers that seal well, so that sealing really happens. */
static void fresh(struct run *r, uint8_t *p, size_t off, size_t len)
{
	uint64_t seed = test_rand(&r->rnd);

	for (size_t i = 0; i < len; i++) {
		uint64_t s = ((off + i) / 2 + 1) * 0x9e3779b97f4a7c15ull ^ seed;

		s ^= s >> 31;
		s *= 0xbf58476d1ce4e5b9ull;
		p[i] = (off + i) % 2 ? (uint8_t)(0x3b + (s >> 60) % 5) : (uint8_t)(s >> 40);
	}
}

static void op_write(struct run *r, struct file *f)
{
	size_t off = pick_off(r, f->len), len = pick_len(r);
	ssize_t n;

	if (pick(r, 10) == 0)
		off += pick(r, 300000); /* leaves a hole */
	if (off >= SIZE_MAX_BYTES)
		return;
	if (len > SIZE_MAX_BYTES - off)
		len = SIZE_MAX_BYTES - off;
	open_writable(r, f);
	if (f->flags & O_DIRECT) {
		close(f->fd);
		f->fd = -1;
		open_writable(r, f);
	}
	fresh(r, f->want + off, off, len);
	n = pwrite(f->fd, f->want + off, len, (off_t)off);
	say(r, "write %s %zu+%zu = %zd", f->path, off, len, n);
	MUST(r, n == (ssize_t)len);
	if (off + len > f->len)
		f->len = off + len;
}

static void op_truncate(struct run *r, struct file *f)
{
	size_t to = pick(r, 6) == 0 ? pick(r, 100000) : pick(r, SIZE_MAX_BYTES);
	int e;

	if (f->fd >= 0 && (f->flags & O_ACCMODE) == O_RDWR && pick(r, 2))
		e = ftruncate(f->fd, (off_t)to);
	else
		e = truncate(f->path, (off_t)to);
	say(r, "truncate %s %zu = %d", f->path, to, e);
	MUST(r, e == 0);
	if (to < f->len)
		memset(f->want + to, 0, f->len - to);
	f->len = to;
}

static void unmap(struct file *f)
{
	if (f->map)
		munmap(f->map, f->map_len);
	f->map = NULL;
}

static void op_map_read(struct run *r, struct file *f)
{
	int flags = pick(r, 2) ? MAP_SHARED : MAP_PRIVATE;

	if (f->len == 0)
		return;
	open_file(r, f);
	unmap(f);
	f->map_len = f->len;
	f->map = mmap(NULL, f->len, PROT_READ, flags, f->fd, 0);
	say(r, "map %s %s %zu = %p", f->path, flags == MAP_SHARED ? "shared" : "private", f->len,
	    f->map);
	if (f->map == MAP_FAILED)
		f->map = NULL;
	MUST(r, f->map);
	compare(r, f, f->map, 0, f->len, "mapping");
	if (pick(r, 2) == 0)
		unmap(f);
}

static void op_map_write(struct run *r, struct file *f)
{
	size_t off, len;
	uint8_t *p;

	if (f->len < 2)
		return;
	open_writable(r, f);
	p = mmap(NULL, f->len, PROT_READ | PROT_WRITE, MAP_SHARED, f->fd, 0);
	MUST(r, p != MAP_FAILED);
	off = pick(r, f->len);
	len = 1 + pick(r, f->len - off < 200000 ? f->len - off : 200000);
	say(r, "map write %s %zu+%zu", f->path, off, len);
	compare(r, f, p, 0, f->len, "mapping for writing");
	fresh(r, f->want + off, off, len);
	memcpy(p + off, f->want + off, len);
	if (pick(r, 2))
		MUST(r, msync(p, f->len, MS_SYNC) == 0);
	munmap(p, f->len);
}

static void op_close(struct run *r, struct file *f)
{
	if (f->fd >= 0) {
		say(r, "close %s", f->path);
		MUST(r, close(f->fd) == 0);
	}
	f->fd = -1;
	if (pick(r, 2))
		unmap(f);
}

static void op_sync(struct run *r, struct file *f)
{
	open_writable(r, f);
	say(r, "fsync %s", f->path);
	MUST(r, fsync(f->fd) == 0);
}

static void op_punch(struct run *r, struct file *f)
{
	size_t off = pick(r, f->len + 1), len = pick_len(r);
	int e;

	if (off + len > f->len)
		return;
	open_writable(r, f);
	e = fallocate(f->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)off, (off_t)len);
	say(r, "punch %s %zu+%zu = %d", f->path, off, len, e);
	if (e < 0 && errno == EOPNOTSUPP)
		return;
	MUST(r, e == 0);
	memset(f->want + off, 0, len);
}

static void op_stat(struct run *r, struct file *f)
{
	struct stat sb;

	MUST(r, stat(f->path, &sb) == 0);
	say(r, "stat %s size %zu blocks %lld", f->path, (size_t)sb.st_size,
	    (long long)sb.st_blocks);
	MUST(r, (size_t)sb.st_size == f->len);
	if (f->fd >= 0) {
		MUST(r, fstat(f->fd, &sb) == 0);
		MUST(r, (size_t)sb.st_size == f->len);
	}
}

/* Data may be reported where there is none, holes only where all is zero. */
static void op_seek(struct run *r, struct file *f)
{
	off_t hole, data;

	if (f->len == 0)
		return;
	open_file(r, f);
	hole = lseek(f->fd, (off_t)pick(r, f->len), SEEK_HOLE);
	say(r, "seek hole %s = %lld", f->path, (long long)hole);
	MUST(r, hole >= 0 && (size_t)hole <= f->len);
	if ((size_t)hole == f->len)
		return;
	data = lseek(f->fd, hole, SEEK_DATA);
	if (data < 0)
		data = (off_t)f->len;
	for (off_t i = hole; i < data; i++)
		if (f->want[i])
			die(r, "a hole where there is data");
}

/* State changes: done when allowed (nobody has it open or mapped), else refused. */
static void op_state(struct run *r, struct file *f)
{
	static const char *const what[][2] = {
		{ "user.kvcache.seal", "1" },	 { "user.kvcache.seal", "1" },
		{ "user.kvcache.unseal", "1" },	 { "user.kvcache.move", "dram" },
		{ "user.kvcache.move", "copy" }, { "user.kvcache.move", "ssd" },
		{ "user.kvcache.prefetch", "1" },
	};
	size_t i = pick(r, sizeof(what) / sizeof(what[0]));
	int e;

	if (r->plain)
		return;
	if (pick(r, 3))
		op_close(r, f);
	if (pick(r, 3))
		unmap(f);
	/* sealing waits for two seconds before it is refused: not often */
	if (i < 2 && (f->map || f->fd >= 0) && r->refused++ > r->n_ops / 400) {
		op_close(r, f);
		unmap(f);
	}
	e = setxattr(f->path, what[i][0], what[i][1], strlen(what[i][1]), 0);
	say(r, "%s %s %s = %d (%s)", what[i][0] + 13, what[i][1], f->path, e,
	    e ? strerror(errno) : "ok");
	if (e < 0 && errno != EBUSY && errno != EINVAL && errno != E2BIG && errno != ENOMEM &&
	    errno != ECANCELED && errno != EOPNOTSUPP && errno != EAGAIN)
		die(r, "state change failed");
}

static void op_rename(struct run *r, struct file *f)
{
	char other[520];

	snprintf(other, sizeof(other), "%s.r", f->path);
	say(r, "rename %s away and back", f->path);
	MUST(r, rename(f->path, other) == 0);
	MUST(r, rename(other, f->path) == 0);
}

static void op_rewrite(struct run *r, struct file *f)
{
	size_t len = pick(r, 5) ? pick(r, SIZE_MAX_BYTES) : pick(r, 70000);
	int fd = open(f->path, O_WRONLY | O_TRUNC);

	say(r, "rewrite %s with %zu", f->path, len);
	MUST(r, fd >= 0);
	memset(f->want, 0, f->len);
	fresh(r, f->want, 0, len);
	for (size_t at = 0; at < len;) {
		size_t step = len - at < 300000 ? len - at : 300000;

		MUST(r, write(fd, f->want + at, step) == (ssize_t)step);
		at += step;
	}
	f->len = len;
	MUST(r, close(fd) == 0);
}

struct op {
	unsigned weight;
	void (*run)(struct run *r, struct file *f);
};
static const struct op ops[] = {
	{ 20, op_read }, { 6, op_read_all }, { 10, op_write }, { 4, op_truncate },
	{ 6, op_map_read }, { 4, op_map_write }, { 12, op_close }, { 2, op_sync },
	{ 2, op_punch }, { 6, op_stat }, { 3, op_seek }, { 16, op_state }, { 2, op_rename },
	{ 3, op_rewrite },
};

static void step(struct run *r)
{
	struct file *f = &r->f[pick(r, r->n_files)];
	unsigned total = 0, at;

	for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++)
		total += ops[i].weight;
	at = (unsigned)pick(r, total);
	for (size_t i = 0;; i++) {
		if (at < ops[i].weight) {
			ops[i].run(r, f);
			return;
		}
		at -= ops[i].weight;
	}
}

static void begin(struct run *r, const char *dir)
{
	r->buf = mmap(NULL, SIZE_MAX_BYTES * 2, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	MUST(r, r->buf != MAP_FAILED);
	for (unsigned i = 0; i < r->n_files; i++) {
		struct file *f = &r->f[i];
		int fd;

		snprintf(f->path, sizeof(f->path), "%s/x%u", dir, i);
		f->want = calloc(1, SIZE_MAX_BYTES * 2);
		f->fd = -1;
		fd = open(f->path, O_CREAT | O_TRUNC | O_WRONLY, 0644);
		MUST(r, f->want && fd >= 0);
		close(fd);
		op_rewrite(r, f);
	}
}

int main(int argc, char **argv)
{
	static const struct option opt[] = {
		{ "seed", 1, NULL, 's' }, { "ops", 1, NULL, 'o' }, { "files", 1, NULL, 'f' },
		{ "plain", 0, NULL, 'p' }, { "verbose", 0, NULL, 'v' }, { 0 },
	};
	static struct run r = { .n_files = 3, .rnd = 1 };
	unsigned n = 2000;
	int c;

	while ((c = getopt_long(argc, argv, "", opt, NULL)) >= 0) {
		if (c == 's')
			r.rnd = strtoull(optarg, NULL, 0);
		else if (c == 'o')
			n = (unsigned)strtoul(optarg, NULL, 0);
		else if (c == 'f')
			r.n_files = (unsigned)strtoul(optarg, NULL, 0);
		else if (c == 'p')
			r.plain = true;
		else if (c == 'v')
			r.verbose = true;
		else
			return 2;
	}
	if (optind + 1 != argc || r.n_files < 1 || r.n_files > FILES_MAX) {
		fprintf(stderr, "usage: exercise [--seed N] [--ops N] [--files N] [--plain] DIR\n");
		return 2;
	}
	r.n_ops = n;
	begin(&r, argv[optind]);
	for (unsigned i = 0; i < n; i++)
		step(&r);
	for (unsigned i = 0; i < r.n_files; i++)
		op_read_all(&r, &r.f[i]);
	printf("%u operations on %u files: all as written\n", n, r.n_files);
	return 0;
}
