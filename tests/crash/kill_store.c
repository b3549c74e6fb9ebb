/* SPDX-License-Identifier: MIT */
/*
 * The daemon killed at every step. The workload of model.c runs in a child with
 * KVCACHEFS_FAULT naming one injection point and its n-th passing; the child
 * dies there. The store is opened again (recovery), every file is compared with
 * what the model allows, and nothing may be left over: no object that no record
 * refers to, nothing in trash/. Then the same with the point failing (EIO,
 * ENOSPC) instead of killing: the operation may fail, but never content. Second passings are
 * met under policy=adaptive, whose thread moves things meanwhile.
 *
 *   kill_store              all points, some passings
 *   kill_store --all        all points, all passings (minutes)
 *   kill_store POINT N kill one case, for debugging
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/sbuf.h"
#include "model.h"
#include "testlib.h"

#define POINTS_MAX 128

static struct store *open_as(const char *path, const char *policy)
{
	struct store_config cfg = { .path = path, .dram_bytes = 96u << 20, .ssd_bytes = 1u << 30,
				    .settle_ns = 3600000ull * 1000000000u, .quality = 1,
				    .policy = policy, .threads = 2 };
	struct sbuf why = SBUF_INIT;
	struct store *st;
	int r = store_open(&cfg, &st, &why);

	if (r < 0) {
		fprintf(stderr, "store_open: %s (%s)\n", why.s ? why.s : "", err_text(r));
		exit(1);
	}
	sbuf_fini(&why);
	CHECK_EQ(store_start(st, NULL, NULL, 0), 0);
	return st;
}

static struct store *open_store(const char *path)
{
	return open_as(path, "lru");
}

/* Progress of the child: bytes in a file that survives it. 2i+1: step i begun,
 * 2i+2: done with success. A failed step leaves 2i+1 and stops. */
static void note(int fd, unsigned v)
{
	CHECK(pwrite(fd, &v, sizeof(v), 0) == sizeof(v));
}

/* In a fresh process: the injection points read their environment once. */
static void child(const char *store, int progress, const char *fault)
{
	bool faulty = *fault, second = strstr(fault, ":2=");
	struct store *st = open_as(store, second ? "adaptive" : "lru");
	unsigned i;

	for (i = 0; i < model_n_steps; i++) {
		int r;

		note(progress, 2 * i + 1);
		r = model_run(st, i);
		if (r < 0 && !faulty) {
			fprintf(stderr, "step %u: %s\n", i, err_text(r));
			_exit(3);
		}
		if (r < 0)
			break;
		note(progress, 2 * i + 2);
	}
	store_close(st, false);
	_exit(0);
}

static unsigned count_objects(const char *store)
{
	char path[512];
	unsigned n = 0;

	for (unsigned x = 0; x < 256; x++) {
		struct dirent *e;
		DIR *d;

		snprintf(path, sizeof(path), "%s/objects/%02x", store, x);
		d = opendir(path);
		while (d && (e = readdir(d)))
			n += e->d_name[0] != '.';
		if (d)
			closedir(d);
	}
	return n;
}

static unsigned count_dir(const char *store, const char *sub)
{
	char path[512];
	struct dirent *e;
	unsigned n = 0;
	DIR *d;

	snprintf(path, sizeof(path), "%s/%s", store, sub);
	d = opendir(path);
	CHECK(d);
	while ((e = readdir(d)))
		n += e->d_name[0] != '.';
	closedir(d);
	return n;
}

static unsigned count_sealed(struct store *st)
{
	unsigned sealed = 0;
	uint64_t seen[MODEL_FILES] = { 0 };

	for (unsigned i = 0; i < MODEL_FILES; i++) {
		struct ctx_info info;
		struct stat sb;
		struct node *n;
		char name[16];

		snprintf(name, sizeof(name), "file%u", i);
		if (store_lookup(st, store_root(st), name, &n, &sb) < 0)
			continue;
		CHECK_EQ(store_info(st, n, &info), 0);
		CHECK(!info.damaged);
		seen[i] = sb.st_ino;
		for (unsigned j = 0; j < i; j++)
			if (seen[j] == seen[i]) /* a hard link shares its object */
				info.state = CTX_PLAIN;
		sealed += info.state == CTX_SEALED || info.state == CTX_OVERLAY;
		store_forget(st, n, 1);
	}
	return sealed;
}

static void explain(const struct model *m, unsigned name, const uint8_t *data, size_t len,
		    bool exists)
{
	const struct model_file *f = &m->f[name];
	size_t at = 0;

	while (exists && f->exists && at < len && at < f->len && data[at] == f->data[at])
		at++;
	fprintf(stderr, "  expected %s len %zu; found %s len %zu; first difference at %zu\n",
		f->exists ? "file" : "none", f->len, exists ? "file" : "none", len, at);
}

#define REFILL_BYTES 200000u
#define REFILL_SEED 99u

/* What a kill left empty can be filled, and what is in it then stays. */
static bool refill(const char *path, const bool *empty, const char *what)
{
	struct store *st = open_store(path);
	uint8_t *want = malloc(REFILL_BYTES);
	bool ok = true;

	CHECK(want);
	for (unsigned n = 0; n < MODEL_FILES; n++)
		CHECK(!empty[n] || model_rewrite(st, n, REFILL_BYTES, REFILL_SEED) == 0);
	store_close(st, false);
	st = open_store(path);
	model_fill(want, REFILL_BYTES, REFILL_SEED, 0);
	for (unsigned n = 0; n < MODEL_FILES; n++) {
		uint8_t *data = NULL;
		size_t len = 0;
		int r = empty[n] ? model_read(st, n, &data, &len) : 0;

		if (empty[n] && (r < 0 || len != REFILL_BYTES || memcmp(data, want, len) != 0)) {
			fprintf(stderr, "%s: file%u, filled after it: %s\n", what, n, err_text(r));
			ok = false;
		}
		free(data);
	}
	free(want);
	store_close(st, false);
	return ok;
}

/* Compares everything after a run that got to @progress. */
static bool compare(const char *store, unsigned progress, bool killed, const char *what)
{
	struct model before, after;
	unsigned step = progress / 2; /* steps done */
	bool half = progress % 2, ok = true, empty[MODEL_FILES] = { false }, some = false;
	struct store *st;

	model_init(&before);
	model_init(&after);
	for (unsigned i = 0; i < step; i++) {
		model_apply(&before, i);
		model_apply(&after, i);
	}
	if (half)
		model_apply(&after, step);
	st = open_store(store);
	for (unsigned n = 0; n < MODEL_FILES; n++) {
		uint8_t *data = NULL;
		size_t len = 0;
		int r = model_read(st, n, &data, &len);
		bool exists = r == 0;

		if (r < 0 && r != -ENOENT) {
			fprintf(stderr, "%s: file%u: %s\n", what, n, err_text(r));
			ok = false;
			continue;
		}
		if (!model_may_be(&before, &after, half ? step : step - 1, n, data, len, exists)) {
			fprintf(stderr, "%s: file%u is wrong at step %u%s\n", what, n, step,
				half ? " (half)" : "");
			explain(&before, n, data, len, exists);
			ok = false;
		}
		empty[n] = exists && len == 0;
		some |= empty[n];
		free(data);
	}
	/* what recovery cannot judge at once goes after a walk in the background */
	for (unsigned i = 0; i < 200 && count_objects(store) != count_sealed(st); i++)
		nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL);
	if (count_objects(store) != count_sealed(st)) {
		fprintf(stderr, "%s: step %u: %u objects, %u sealed files\n", what, step,
			count_objects(store), count_sealed(st));
		ok = false;
	}
	if (killed && count_dir(store, "trash") != 0) {
		fprintf(stderr, "%s: step %u: trash is not empty\n", what, step);
		ok = false;
	}
	store_close(st, false);
	model_free(&before);
	model_free(&after);
	return (!some || refill(store, empty, what)) && ok;
}

/* One run with @fault. 1 ok and the fault was met, 0 not met, -1 wrong. */
static int one(const char *fault, const char *list)
{
	char *dir = test_tmpdir_create(), store[512], prog[512];
	unsigned progress = 0;
	int fd, status, res;
	pid_t pid;

	snprintf(store, sizeof(store), "%s/store", dir);
	snprintf(prog, sizeof(prog), "%s/progress", dir);
	fd = open(prog, O_RDWR | O_CREAT, 0600); /* inherited by the child */
	CHECK(fd >= 0);
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		char fdbuf[16];

		snprintf(fdbuf, sizeof(fdbuf), "%d", fd);
		if (fault)
			setenv("KVCACHEFS_FAULT", fault, 1);
		if (list)
			setenv("KVCACHEFS_FAULT_LIST", list, 1);
		execl("/proc/self/exe", "kill_store", "--child", store, fdbuf, fault ? fault : "",
		      (char *)NULL);
		_exit(4);
	}
	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK(pread(fd, &progress, sizeof(progress), 0) >= 0);
	close(fd);
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) {
		res = compare(store, progress, true, fault) ? 1 : -1;
	} else if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
		res = compare(store, progress, false, fault ? fault : "clean run") ? 0 : -1;
		if (res == 0 && progress < 2 * model_n_steps)
			res = 1; /* an injected error ended it */
	} else {
		fprintf(stderr, "%s: child ended with status %x at step %u\n",
			fault ? fault : "clean run", status, progress / 2);
		res = -1;
	}
	if (res < 0 && getenv("KEEP"))
		fprintf(stderr, "kept in %s\n", dir);
	else
		test_tmpdir_remove(dir);
	return res;
}

/* Passings of one point that are tried: with --all every early one, then
 * sparser; else the first, second, fourth, eighth, ... */
static unsigned next_nth(unsigned n, bool all)
{
	if (!all)
		return n * 2;
	return n < 24 ? n + 1 : n + n / 4;
}

static unsigned walk(const char *point, const char *action, bool all, unsigned *ret_bad)
{
	unsigned runs = 0;

	for (unsigned n = 1; n < 4000; n = next_nth(n, all)) {
		char fault[128];
		int r;

		snprintf(fault, sizeof(fault), "%s:%u=%s", point, n, action);
		r = one(fault, NULL);
		if (r == 0)
			break;
		runs++;
		*ret_bad += r < 0;
	}
	return runs;
}

struct tally {
	unsigned runs, bad;
};

/* Every WALKERS-th point from the @first: their runs mostly wait, for the disk and
 * for each other's threads, so several walk at once. */
#define WALKERS 4u
static struct tally walk_some(char points[][64], unsigned n, unsigned first, bool all)
{
	struct tally t = { 0, 0 };

	for (unsigned i = first; i < n; i += WALKERS) {
		unsigned k = walk(points[i], "kill", all, &t.bad);
		unsigned e = walk(points[i], "eio", all, &t.bad);

		printf("%-24s killed %u times, failed %u times\n", points[i], k, e);
		fflush(stdout);
		t.runs += k + e;
	}
	return t;
}

static struct tally walk_all(char points[][64], unsigned n, bool all)
{
	struct tally sum = { 0, 0 };
	int pipes[WALKERS][2];
	pid_t pids[WALKERS];

	for (unsigned w = 0; w < WALKERS; w++) {
		CHECK(pipe(pipes[w]) == 0);
		pids[w] = fork();
		CHECK(pids[w] >= 0);
		if (pids[w] == 0) {
			struct tally t = walk_some(points, n, w, all);

			_exit(write(pipes[w][1], &t, sizeof(t)) != sizeof(t));
		}
	}
	for (unsigned w = 0; w < WALKERS; w++) {
		struct tally t;
		int status;

		CHECK(waitpid(pids[w], &status, 0) == pids[w] && status == 0);
		CHECK(read(pipes[w][0], &t, sizeof(t)) == sizeof(t));
		sum.runs += t.runs;
		sum.bad += t.bad;
		close(pipes[w][0]);
		close(pipes[w][1]);
	}
	return sum;
}

int main(int argc, char **argv)
{
	static char points[POINTS_MAX][64];
	char *dir = test_tmpdir_create(), list[512];
	bool all = argc == 2 && strcmp(argv[1], "--all") == 0;
	struct tally sum;
	unsigned n = 0;
	FILE *f;

	if (argc == 5 && strcmp(argv[1], "--child") == 0)
		child(argv[2], atoi(argv[3]), argv[4]);
	if (argc == 4) {
		char fault[128];

		snprintf(fault, sizeof(fault), "%s:%s=%s", argv[1], argv[2], argv[3]);
		return one(fault, NULL) < 0;
	}
#ifndef KVFS_FAULTS
	printf("built without -Dfaults=true\n");
	return TEST_SKIP;
#endif
	snprintf(list, sizeof(list), "%s/points", dir);
	if (one(NULL, list) < 0)
		return 1;
	f = fopen(list, "r");
	CHECK(f);
	while (n < POINTS_MAX && fscanf(f, "%63s", points[n]) == 1)
		n++;
	CHECK(n < POINTS_MAX);
	fclose(f);
	sum = walk_all(points, n, all);
	test_tmpdir_remove(dir);
	printf("%u runs, %u wrong\n", sum.runs, sum.bad);
	return sum.bad ? 1 : 0;
}
