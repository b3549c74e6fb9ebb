// SPDX-License-Identifier: MIT
/*
 * What a client does: whole files into a full-size buffer that is there already,
 * from open to close, and new files from open to close. Errors come back as
 * negative seconds, so that a caller cannot take them for a fast run.
 */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/mem.h"
#include "rig.h"

#define CALL (1u << 20)

static int load_read(int fd, char *buf, size_t len, bool direct)
{
	size_t at = 0;

	while (at < len) {
		size_t want = len - at < CALL ? len - at : CALL;
		ssize_t n;

		/* the buffer is longer: O_DIRECT may ask beyond the end */
		if (direct)
			want = CALL;
		n = read(fd, buf + at, want);
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		at += (size_t)n;
	}
	return 0;
}

ssize_t rig_slurp(const char *path, char *buf, size_t cap)
{
	return rig_slurp_seen(path, buf, cap, NULL, NULL);
}

ssize_t rig_slurp_seen(const char *path, char *buf, size_t cap, void (*seen)(void *arg, size_t len),
		       void *arg)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t at = 0;
	ssize_t n = 1;

	if (fd < 0)
		return -errno;
	while (n > 0 && at < cap) {
		n = read(fd, buf + at, cap - at < CALL ? cap - at : CALL);
		if (n < 0) {
			int e = errno;

			close(fd);
			return -e;
		}
		at += (size_t)n;
		if (seen && n > 0)
			seen(arg, at);
	}
	close(fd);
	return (ssize_t)at;
}

static int load_mmap(int fd, char *buf, size_t len)
{
	void *p = mmap(NULL, len, PROT_READ, MAP_SHARED, fd, 0);

	if (p == MAP_FAILED)
		return -errno;
	memcpy(buf, p, len);
	munmap(p, len);
	return 0;
}

double load_file(const char *path, enum load_how how, void *buf, size_t len)
{
	uint64_t t0 = clock_mono_ns();
	int fd = open(path, O_RDONLY | O_CLOEXEC | (how == LOAD_DIRECT ? O_DIRECT : 0));
	int r = fd < 0 ? -errno : 0;

	if (r == 0)
		r = how == LOAD_MMAP ? load_mmap(fd, buf, len)
				     : load_read(fd, buf, len, how == LOAD_DIRECT);
	if (fd >= 0)
		close(fd);
	return r < 0 ? r : (double)(clock_mono_ns() - t0) / 1e9;
}

void *load_buffer(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	memset(p, 1, len);
	return p;
}

struct loader {
	const char *path;
	void *buf;
	size_t len;
	enum load_how how;
	pthread_barrier_t *start;
	double seconds;
};

static void *loader_main(void *arg)
{
	struct loader *l = arg;

	pthread_barrier_wait(l->start);
	l->seconds = load_file(l->path, l->how, l->buf, l->len);
	return NULL;
}

double load_many(const struct load_many *m, enum load_how how)
{
	struct loader l[RIG_FILES_MAX];
	pthread_t t[RIG_FILES_MAX];
	pthread_barrier_t start;
	double worst = 0, bad = 0;
	uint64_t t0;

	pthread_barrier_init(&start, NULL, m->n + 1);
	for (unsigned i = 0; i < m->n; i++) {
		l[i] = (struct loader){ m->path[i], m->buf[i], m->len[i], how, &start, 0 };
		if (pthread_create(&t[i], NULL, loader_main, &l[i]) != 0)
			return -EAGAIN; /* the others wait for ever: the run ends */
	}
	pthread_barrier_wait(&start);
	t0 = clock_mono_ns();
	for (unsigned i = 0; i < m->n; i++) {
		pthread_join(t[i], NULL);
		if (l[i].seconds < 0)
			bad = l[i].seconds;
	}
	worst = (double)(clock_mono_ns() - t0) / 1e9;
	pthread_barrier_destroy(&start);
	return bad < 0 ? bad : worst;
}

double save_file(const char *path, const void *buf, size_t have, uint64_t len, size_t call)
{
	uint64_t t0 = clock_mono_ns(), at = 0;
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	int r = fd < 0 ? -errno : 0;

	have -= have % call;
	while (r == 0 && at < len) {
		ssize_t n = write(fd, (const char *)buf + at % have, call);

		if (n != (ssize_t)call)
			r = n < 0 ? -errno : -EIO;
		at += call;
	}
	if (fd >= 0 && close(fd) < 0 && r == 0)
		r = -errno;
	return r < 0 ? r : (double)(clock_mono_ns() - t0) / 1e9;
}

void load_sleep_until(uint64_t ns)
{
	struct timespec ts = { (time_t)(ns / NSEC_PER_SEC), (long)(ns % NSEC_PER_SEC) };

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
		;
}

static int by_value(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;

	return (x > y) - (x < y);
}

void load_sort(float *v, size_t n)
{
	qsort(v, n, sizeof(*v), by_value);
}

float load_percentile(const float *sorted, size_t n, double p)
{
	size_t at = (size_t)ceil(p * (double)n);

	return sorted[at > 0 ? at - 1 : 0];
}

int copy_in(const char *from, const char *to)
{
	char *buf = mem_alloc_pages(CALL);
	int in = open(from, O_RDONLY | O_CLOEXEC);
	int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	int r = in < 0 || out < 0 || !buf ? -errno : 0;
	uint64_t at = 0;
	ssize_t n = 0;

	while (r == 0 && (n = io_pread(in, buf, CALL, at)) > 0) {
		r = io_pwrite_all(out, buf, (size_t)n, at);
		at += (uint64_t)n;
	}
	if (r == 0)
		r = n < 0 ? (int)n : io_fsync(out);
	io_close(&in);
	io_close(&out);
	mem_free_pages(buf, CALL);
	return r < 0 ? rig_fail(r, "copying %s to %s: %s", from, to, err_text(r)) : 0;
}
