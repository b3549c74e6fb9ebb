// SPDX-License-Identifier: MIT
/*
 * A load: some requests to warm up, as fast as they are served, after which what they make a
 * system move is awaited; then requests arrive by a Poisson process. Each is for a context by
 * Zipf's law, and a few readers take them in order. A request is loaded as an engine does: open,
 * read to the end, unpack if the client packs; that is its delay. A context that is not there
 * counts what computing it anew takes (the time is counted, not spent) and is written again by
 * the same reader.
 *
 * No request is preceded by a question: it would wait for what is being done to the file and
 * load its tables, untimed. How many were found in memory is what the mount has counted.
 * What came is hashed after the delay, and must be one of the forms of that context. Anything
 * else ends the load with -KVFS_EVERIFY.
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
#include "base/hash.h"
#include "base/lock.h"
#include "base/mem.h"
#include "base/thread.h"
#include "placement.h"
#include "placement_kivi.h"

#define CALL (1u << 20)

struct request {
	uint64_t due_ns; /* from the start */
	unsigned ctx;
	float delay_s, wait_s;
	uint8_t form;
	bool gone;
};

struct load {
	struct rig *g;
	const struct place_load *l;
	struct request *req; /* owned */
	unsigned n;
	uint64_t start_ns;
	double hits; /* of the last phase; and what the daemon read in it by seconds */
	float second_MB[PLACE_SECONDS_MAX];
	unsigned seconds;
	struct lock lock;
	unsigned next GUARDED;
	int err GUARDED;
};

struct reader {
	struct load *ld;
	struct place_writer w;
	char *buf, *out; /* owned, of buf_bytes; out: unpacked */
	size_t buf_bytes;
	pthread_t thread;
	bool started;
};

/* ---- arrivals ------------------------------------------------------------------- */

/* splitmix64 */
static uint64_t next_random(uint64_t *s)
{
	*s += 0x9e3779b97f4a7c15ull;
	return hash_u64(*s);
}

static double uniform(uint64_t *s)
{
	return ((double)(next_random(s) >> 11) + 0.5) * 0x1p-53;
}

static int draw(struct load *ld)
{
	const struct place_load *l = ld->l;
	unsigned n = l->set->n;
	double *sum = mem_calloc(n, sizeof(*sum)), t = 0;
	uint64_t rng = l->seed;

	ld->n = l->o->warmup + l->o->requests;
	ld->req = mem_calloc(ld->n, sizeof(*ld->req));
	if (!sum || !ld->req) {
		mem_free(sum);
		return -ENOMEM;
	}
	for (unsigned i = 0; i < n; i++)
		sum[i] = (i ? sum[i - 1] : 0) + pow(i + 1, -l->zipf);
	for (unsigned k = 0; k < ld->n; k++) {
		double u = uniform(&rng) * sum[n - 1];
		unsigned lo = 0, hi = n - 1;

		while (lo < hi) {
			unsigned mid = (lo + hi) / 2;

			if (sum[mid] < u)
				lo = mid + 1;
			else
				hi = mid;
		}
		ld->req[k].ctx = l->rank[lo];
		if (k < l->o->warmup)
			continue;
		t -= log(uniform(&rng)) / l->o->rate;
		ld->req[k].due_ns = (uint64_t)(t * 1e9);
	}
	mem_free(sum);
	return 0;
}

/* ---- one request ------------------------------------------------------------------ */

/* The form that these bytes are; PLACE_FORMS_MAX: none. */
static unsigned form_of(const struct load *ld, unsigned ctx, const void *p, size_t len)
{
	const struct place_set *s = ld->l->set;
	uint64_t sum = hash64(p, len, 0);
	bool any = strcmp(ld->l->sys->form, "*") == 0;

	for (unsigned i = 0; i < s->n_forms; i++)
		if (s->c[ctx].view[i].sum == sum && s->form[i].known &&
		    (i == 0 || any || strcmp(s->form[i].label, ld->l->sys->form) == 0))
			return i;
	return PLACE_FORMS_MAX;
}

static void arrived(void *arg, size_t len)
{
	kivi_arrived(arg, len);
}

/* Reads what the client has packed; unpacks what has come while more comes, as the mount decodes. */
static ssize_t load_kivi(struct reader *rd, const char *path, size_t *ret_len)
{
	struct kivi_reading *k;
	ssize_t got;
	int r = kivi_begin(rd->buf, rd->out, rd->buf_bytes, &k);

	if (r < 0)
		return r;
	got = rig_slurp_seen(path, rd->buf, rd->buf_bytes, arrived, k);
	r = kivi_end(k, got < 0 ? 0 : (size_t)got, ret_len);
	return got < 0 ? got : r < 0 ? r : got;
}

static int load_one(struct reader *rd, struct request *q)
{
	const struct place_load *l = rd->ld->l;
	const struct place_context *c = &l->set->c[q->ctx];
	bool kivi = l->sys->how == PLACE_KIVI;
	char path[RIG_PATH + 64];
	size_t len = 0;
	uint64_t t0;
	ssize_t got;
	int r;

	snprintf(path, sizeof(path), "%s/%s", l->mnt, c->name);
	t0 = clock_mono_ns();
	got = kivi ? load_kivi(rd, path, &len) : rig_slurp(path, rd->buf, rd->buf_bytes);
	q->delay_s = (float)((double)(clock_mono_ns() - t0) * 1e-9);
	if (got == -ENOENT) {
		q->gone = true;
		q->delay_s = (float)(l->o->recompute_s_per_mb * (double)c->bytes * 1e-6);
		r = place_write(&rd->w, q->ctx, false);
		return r == -ENOSPC || r == -EDQUOT ? 0 : r;
	}
	if (got < 0)
		return rig_fail((int)got, "reading %s: %s", path, err_text((int)got));
	q->form = (uint8_t)form_of(rd->ld, q->ctx, kivi ? rd->out : rd->buf, kivi ? len : (size_t)got);
	if (q->form == PLACE_FORMS_MAX)
		return rig_fail(-KVFS_EVERIFY, "%s, read as %s: bytes that are none of its forms in "
				"%s/scores; another daemon's? remove it", path, l->sys->name, l->set->dir);
	return 0;
}

/* ---- readers ---------------------------------------------------------------------- */

static void *reader_main(void *arg)
{
	struct reader *rd = arg;
	struct load *ld = rd->ld;

	for (;;) {
		struct request *q = NULL;
		uint64_t due, now;
		int r;

		lock_acquire(&ld->lock);
		if (ld->next < ld->n && ld->err == 0)
			q = &ld->req[ld->next++];
		lock_release(&ld->lock);
		if (!q)
			return NULL;
		due = ld->start_ns + q->due_ns;
		load_sleep_until(due);
		now = clock_mono_ns();
		q->wait_s = (float)((double)(now - due) * 1e-9);
		r = ld->l->sys->how == PLACE_NONE ? 0 : load_one(rd, q);
		lock_acquire(&ld->lock);
		if (r < 0 && ld->err == 0)
			ld->err = r;
		lock_release(&ld->lock);
	}
}

static int reader_start(struct reader *rd, struct load *ld, unsigned id)
{
	const struct place_load *l = ld->l;
	int r = place_writer_init(&rd->w, l->set, l->sys, l->mnt, id);

	rd->ld = ld;
	rd->buf_bytes = kivi_bound(l->set->max_bytes) + CALL;
	if (r == 0) {
		rd->buf = load_buffer(rd->buf_bytes);
		rd->out = l->sys->how == PLACE_KIVI ? load_buffer(rd->buf_bytes) : NULL;
		if (!rd->buf || (l->sys->how == PLACE_KIVI && !rd->out))
			r = -ENOMEM;
	}
	if (r == 0)
		r = thread_start("reader", reader_main, rd, &rd->thread);
	rd->started = r == 0;
	return r;
}

static void reader_end(struct reader *rd)
{
	if (rd->started)
		pthread_join(rd->thread, NULL);
	if (rd->buf)
		munmap(rd->buf, rd->buf_bytes);
	if (rd->out)
		munmap(rd->out, rd->buf_bytes);
	place_writer_fini(&rd->w);
}

static void stop(struct load *ld, int r)
{
	lock_acquire(&ld->lock);
	if (ld->err == 0)
		ld->err = r;
	lock_release(&ld->lock);
}

static void count_second(struct load *ld, uint64_t *last)
{
	uint64_t now = rig_throttle_bytes(ld->g);

	ld->second_MB[ld->seconds++] = (float)((double)(now - *last) * 1e-6);
	*last = now;
}

/* Signals are held back in all threads: somebody has to look. */
static void watch(struct load *ld)
{
	uint64_t bytes = rig_throttle_bytes(ld->g);

	ld->seconds = 0;
	for (;;) {
		unsigned at;

		lock_acquire(&ld->lock);
		at = ld->err ? ld->n : ld->next;
		lock_release(&ld->lock);
		if (at >= ld->n)
			return;
		if (rig_interrupted(ld->g))
			stop(ld, -EINTR);
		rig_say("%s: request %u of %u", ld->l->sys->name, at, ld->n);
		if (ld->g->throttle.on && ld->seconds < PLACE_SECONDS_MAX &&
		    clock_mono_ns() - ld->start_ns >= (ld->seconds + 1) * NSEC_PER_SEC)
			count_second(ld, &bytes);
		usleep(100000);
	}
}

/* ---- the result --------------------------------------------------------------------- */

/* Scores beside those of the exact cache, suite by suite: of a single context the
 * exact score may be nothing. */
struct worth {
	double score, exact, agree, n;
};

static void worth_add(struct worth *w, const struct place_context *c, unsigned form)
{
	w->score += c->view[form].score;
	w->exact += c->view[0].score;
	w->agree += c->view[form].agree;
	w->n++;
}

static void summarise_worth(const struct worth w[PLACE_SUITES], struct place_result *ret)
{
	double n = 0;

	for (unsigned k = 0; k < PLACE_SUITES; k++) {
		ret->quality += w[k].exact > 0 ? w[k].n * w[k].score / w[k].exact : 0;
		ret->agree += w[k].agree;
		n += w[k].n;
	}
	ret->quality /= n;
	ret->agree /= n;
}

static int summarise(const struct load *ld, struct place_result *ret)
{
	unsigned first = ld->l->o->warmup, n = ld->n - first;
	float *v = mem_calloc(n, sizeof(*v));
	struct worth w[PLACE_SUITES] = { { 0 } };

	if (!v)
		return -ENOMEM;
	for (unsigned i = 0; i < n; i++) {
		const struct request *q = &ld->req[first + i];
		const struct place_context *c = &ld->l->set->c[q->ctx];

		v[i] = ld->l->sys->how == PLACE_NONE
			       ? (float)(ld->l->o->recompute_s_per_mb * (double)c->bytes * 1e-6)
			       : q->delay_s;
		ret->mean_s += v[i] / n;
		ret->wait_s += q->wait_s / n;
		ret->gone += (double)q->gone / n;
		worth_add(&w[c->suite], c, q->form);
	}
	ret->hit = ld->hits / n;
	memcpy(ret->second_MB, ld->second_MB, sizeof(ret->second_MB));
	ret->seconds = ld->seconds;
	load_sort(v, n);
	ret->p50_s = load_percentile(v, n, 0.5);
	ret->p99_s = load_percentile(v, n, 0.99);
	summarise_worth(w, ret);
	mem_free(v);
	return 0;
}

/* Opens so far of what was in memory. */
static int found(const struct load *ld, double *ret)
{
	*ret = ld->l->st ? rig_metric(ld->l->mnt, "opens_dram_total") : 0;
	return *ret < 0 ? rig_fail(-EIO, "%s: no metrics of opens", ld->l->mnt) : 0;
}

/* Requests up to @to. */
static int phase(struct load *ld, unsigned to)
{
	struct reader rd[PLACE_READERS_MAX];
	unsigned n = ld->l->sys->how == PLACE_NONE ? 0 : ld->l->o->readers; /* or nothing is read */
	double before, after;
	int r = found(ld, &before);

	memset(rd, 0, sizeof(rd));
	ld->n = to;
	ld->start_ns = clock_mono_ns();
	for (unsigned i = 0; i < n && r == 0; i++)
		r = reader_start(&rd[i], ld, i);
	if (r < 0)
		stop(ld, r);
	else if (n)
		watch(ld);
	for (unsigned i = 0; i < n; i++)
		reader_end(&rd[i]);
	lock_acquire(&ld->lock);
	r = ld->err;
	lock_release(&ld->lock);
	if (r == 0)
		r = found(ld, &after);
	if (r == 0)
		ld->hits = after - before;
	return r;
}

int place_load_run(struct rig *g, const struct place_load *l, struct place_result *ret)
{
	struct load ld = { .g = g, .l = l };
	struct place_result result = { .valid = true };
	int r = draw(&ld);

	lock_init(&ld.lock);
	if (r == 0 && l->o->warmup)
		r = phase(&ld, l->o->warmup);
	if (r == 0 && l->st)
		r = place_store_settle(l->st);
	if (r == 0)
		r = phase(&ld, l->o->warmup + l->o->requests);
	lock_fini(&ld.lock);
	if (r == 0)
		r = summarise(&ld, &result);
	if (r == 0)
		*ret = result;
	mem_free(ld.req);
	return r;
}
