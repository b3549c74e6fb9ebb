// SPDX-License-Identifier: MIT
/*
 * Readers take the recorded reads in order, each at its time: open, read to the end, close. A
 * context that was removed counts what computing it anew takes (counted, not spent) and is
 * written again by the same reader.
 */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/lock.h"
#include "base/mem.h"
#include "base/thread.h"
#include "replay.h"

#define CALL (1u << 20)

struct request {
	float delay_s, wait_s;
	bool gone;
};

struct load {
	struct rig *g;
	const struct replay_load *l;
	struct request *req; /* owned, [n] */
	uint64_t start_ns;
	struct lock lock;
	uint64_t next GUARDED;
	int err GUARDED;
};

struct reader {
	struct load *ld;
	char *buf; /* owned, buf_bytes */
	size_t buf_bytes;
	pthread_t thread;
	bool started;
};

static void path_of(const struct replay_load *l, uint32_t i, char path[RIG_PATH])
{
	snprintf(path, RIG_PATH, "%.4000s/%u.bin", l->mnt, i);
}

int replay_write(const struct replay_load *l, uint32_t i, bool settle)
{
	const struct cost_item *it = &l->s->it[i];
	char path[RIG_PATH], floor[32];
	int r;

	path_of(l, i, path);
	r = copy_in(replay_source(l->contents, i), path);
	snprintf(floor, sizeof(floor), "%.9g", (double)it->floor);
	if (r == 0 && it->floor < 1 && !(it->flags & COST_VETO))
		r = rig_set(path, "quality", floor);
	if (r == 0 && settle)
		r = rig_set(path, "seal", "1");
	if (r == -E2BIG || r == -EBUSY)
		r = 0; /* stays plain, or is being sealed */
	if (r == 0 && settle)
		r = rig_set(path, "move", "ssd");
	return r < 0 ? rig_fail(r, "writing %s: %s", path, err_text(r)) : 0;
}

/* ---- one request ------------------------------------------------------------------ */

static int read_one(struct reader *rd, uint32_t ctx, struct request *q)
{
	const struct replay_load *l = rd->ld->l;
	char path[RIG_PATH];
	uint64_t t0;
	ssize_t got;

	path_of(l, ctx, path);
	t0 = clock_mono_ns();
	got = rig_slurp(path, rd->buf, rd->buf_bytes);
	q->delay_s = (float)((double)(clock_mono_ns() - t0) * 1e-9);
	if (got == -ENOENT || got == -ESTALE) {
		q->gone = true;
		q->delay_s = (float)(l->recompute_s_per_byte * (double)l->contents->bytes[ctx]);
		return replay_write(l, ctx, false);
	}
	return got < 0 ? rig_fail((int)got, "reading %s: %s", path, err_text((int)got)) : 0;
}

/* ---- readers ---------------------------------------------------------------------- */

static void stop(struct load *ld, int r)
{
	lock_acquire(&ld->lock);
	if (ld->err == 0)
		ld->err = r;
	lock_release(&ld->lock);
}

static void *reader_main(void *arg)
{
	struct reader *rd = arg;
	struct load *ld = rd->ld;
	const struct trace_set *s = ld->l->s;
	double speed = ld->l->o->speed;

	for (;;) {
		uint64_t k, due, now;
		int r;

		lock_acquire(&ld->lock);
		k = ld->err ? ld->l->n : ld->next++;
		lock_release(&ld->lock);
		if (k >= ld->l->n)
			return NULL;
		now = clock_mono_ns();
		due = now;
		if (speed > 0)
			due = ld->start_ns +
			      (uint64_t)fmin((double)(s->a[k].t_ns - s->a[0].t_ns) / speed, 1e18);
		if (due > now)
			load_sleep_until(due);
		ld->req[k].wait_s = (float)((double)(clock_mono_ns() - due) * 1e-9);
		r = read_one(rd, s->a[k].ctx, &ld->req[k]);
		if (r < 0)
			stop(ld, r);
	}
}

/* Signals are held back in all threads: somebody has to look. */
static void watch(struct load *ld)
{
	for (;;) {
		uint64_t at;

		lock_acquire(&ld->lock);
		at = ld->err ? ld->l->n : ld->next;
		lock_release(&ld->lock);
		if (at >= ld->l->n)
			return;
		if (rig_interrupted(ld->g))
			stop(ld, -EINTR);
		rig_say("read %llu of %llu", (unsigned long long)at, (unsigned long long)ld->l->n);
		usleep(100000);
	}
}

static int reader_start(struct reader *rd, struct load *ld)
{
	int r;

	rd->ld = ld;
	rd->buf_bytes = ld->l->contents->max + CALL;
	rd->buf = load_buffer(rd->buf_bytes);
	r = rd->buf ? thread_start("reader", reader_main, rd, &rd->thread) : -ENOMEM;
	rd->started = r == 0;
	return r;
}

/* ---- the result --------------------------------------------------------------------- */

static int summarise(const struct load *ld, struct replay_result *ret)
{
	uint64_t from = ld->l->warm, n = ld->l->n - from;
	float *v = mem_calloc(n, sizeof(*v));
	struct replay_result r = { .reads = n };

	if (!v)
		return -ENOMEM;
	for (uint64_t k = 0; k < n; k++) {
		const struct request *q = &ld->req[from + k];

		v[k] = q->delay_s;
		r.delay_mean_s += (double)q->delay_s / (double)n;
		r.wait_mean_s += (double)q->wait_s / (double)n;
		r.gone_share += (double)q->gone / (double)n;
	}
	load_sort(v, n);
	r.delay_p50_s = load_percentile(v, n, 0.5);
	r.delay_p99_s = load_percentile(v, n, 0.99);
	mem_free(v);
	*ret = r;
	return 0;
}

int replay_load_run(struct rig *g, const struct replay_load *l, struct replay_result *ret)
{
	struct reader rd[REPLAY_READERS_MAX];
	struct load ld = { .g = g, .l = l, .start_ns = clock_mono_ns() };
	int r = 0;

	memset(rd, 0, sizeof(rd));
	lock_init(&ld.lock);
	ld.req = mem_calloc(l->n, sizeof(*ld.req));
	if (!ld.req)
		r = -ENOMEM;
	for (unsigned i = 0; i < l->o->readers && r == 0; i++)
		r = reader_start(&rd[i], &ld);
	if (r < 0)
		stop(&ld, r);
	else
		watch(&ld);
	for (unsigned i = 0; i < l->o->readers; i++) {
		if (rd[i].started)
			pthread_join(rd[i].thread, NULL);
		if (rd[i].buf)
			munmap(rd[i].buf, rd[i].buf_bytes);
	}
	lock_acquire(&ld.lock);
	r = ld.err;
	lock_release(&ld.lock);
	lock_fini(&ld.lock);
	if (r == 0)
		r = summarise(&ld, ret);
	mem_free(ld.req);
	return r;
}
