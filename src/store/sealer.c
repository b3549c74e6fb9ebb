/* SPDX-License-Identifier: MIT */
/*
 * When files are sealed: a queue ordered by the time of the last close, a thread
 * that waits for each to be quiet for settle_ns, and background work on the
 * pool. A queued context holds a reference on itself and on its node.
 * A file that turns out busy (mapped) is tried again later; an opened one
 * comes back by its next close.
 */
#include <errno.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/thread.h"
#include "store/grant.h"
#include "store/level.h"
#include "store/seal.h"

#define RETRY_BUSY_NS (2 * NSEC_PER_SEC)
/* Files that are sealed later than this after their time get no replica: making
 * it is a third of the work, and keeping up comes first. Nor do those of an
 * earlier mount, or at the end of this one: nobody is about to read them. */
#define LATE_NS (NSEC_PER_SEC / 2)

struct seal_job {
	struct work work;
	struct after after;
	struct store *st;
	struct ctx *c;     /* one reference */
	struct node *node; /* one reference */
	bool replica;      /* wanted */
};

static void job_end(struct seal_job *j, bool sealed)
{
	struct sealer *s = &j->st->seal;

	node_forget(j->st->nodes, j->node, 1);
	ctx_put(j->c);
	lock_acquire(&s->lock);
	s->running--;
	s->ended++;
	s->sealed += sealed;
	cond_broadcast(&s->wake);
	lock_release(&s->lock);
	mem_free(j);
}

/* Jobs that wait for a gate, whose holder may be waiting for room by sealing. */
static void job_stuck(struct seal_job *j, bool begins)
{
	struct sealer *s = &j->st->seal;

	lock_acquire(&s->lock);
	s->stuck += begins ? 1u : -1u;
	cond_broadcast(&s->wake);
	lock_release(&s->lock);
}

static void job_finish(struct work *w)
{
	struct seal_job *j = container_of(w, struct seal_job, work);
	bool stuck = !gate_try(&j->c->gate, true);

	if (stuck)
		job_stuck(j, true);
	else
		gate_leave(&j->c->gate, true);
	seal_finish(j->c, j->node);
	if (stuck)
		job_stuck(j, false);
	job_end(j, true);
}

/* On the committer's thread, which must not wait for a gate: whoever holds that
 * may be waiting for a commit. */
static void job_committed(struct store *st, struct after *a, int result)
{
	struct seal_job *j = container_of(a, struct seal_job, after);

	if (result == 0) {
		j->work.run = job_finish;
		list_init(&j->work.link);
		workers_submit(st->workers, WORK_BACKGROUND, &j->work);
		return;
	}
	ctx_touch(j->c, false); /* sealed, punched at the next mount */
	job_end(j, false);
}

/* Busy: again later. Else the next close queues it again if need be. */
static void job_retry(struct seal_job *j)
{
	lock_acquire(&j->c->lock);
	j->c->retry_ns = clock_mono_ns() + RETRY_BUSY_NS;
	lock_release(&j->c->lock);
	seal_queue(j->c);
}

/* Worth another try? For want of room at the end of the mount only when another seal
 * has made some meanwhile. */
static bool job_again(const struct seal_job *j, int r, uint64_t sealed)
{
	struct sealer *s = &j->st->seal;
	bool hopeless;

	if ((r != -EBUSY && r != -KVFS_EFULL) || atomic_load(&j->st->stopping_seals))
		return false;
	lock_acquire(&s->lock);
	hopeless = r == -KVFS_EFULL && s->drain && s->sealed == sealed;
	lock_release(&s->lock);
	return !hopeless;
}

static uint64_t sealed_so_far(struct sealer *s)
{
	uint64_t n;

	lock_acquire(&s->lock);
	n = s->sealed;
	lock_release(&s->lock);
	return n;
}

static void job_run(struct work *w)
{
	struct seal_job *j = container_of(w, struct seal_job, work);
	uint64_t sealed = sealed_so_far(&j->st->seal);
	int r = seal_run(j->c, j->node, j->replica);

	if (r == 0) {
		j->after.run = job_committed;
		commit_after(j->st, &j->after);
		return;
	}
	ctx_idle_try(j->c);
	if (job_again(j, r, sealed))
		job_retry(j);
	job_end(j, false);
}

static bool on_time(struct sealer *s, uint64_t due_ns)
{
	bool draining;

	lock_acquire(&s->lock);
	draining = s->drain;
	lock_release(&s->lock);
	return !draining && clock_mono_ns() < due_ns + LATE_NS;
}

static void start_job(struct store *st, struct ctx *c, uint64_t due_ns)
{
	struct seal_job *j = mem_zalloc(sizeof(*j));
	struct node *n = j ? index_find(st, c->ino) : NULL;

	if (!n) {
		mem_free(j);
		ctx_put(c); /* gone, or no memory: the next close or mount tries again */
		lock_acquire(&st->seal.lock);
		st->seal.ended++;
		cond_broadcast(&st->seal.wake);
		lock_release(&st->seal.lock);
		return;
	}
	j->st = st;
	j->c = c;
	j->node = n;
	j->replica = on_time(&st->seal, due_ns);
	j->work.run = job_run;
	list_init(&j->work.link);
	lock_acquire(&st->seal.lock);
	st->seal.running++;
	lock_release(&st->seal.lock);
	workers_submit(st->workers, WORK_BACKGROUND, &j->work);
}

/* The queue's first context when it is due, and since when; else when it will be.
 * Lock held. */
static struct ctx *due(struct sealer *s, uint64_t now, uint64_t *ret_when) REQUIRES(&s->lock)
{
	struct ctx *c;
	uint64_t when;

	*ret_when = now + NSEC_PER_SEC;
	if (list_empty(&s->queue) || s->running >= s->limit)
		return NULL;
	c = container_of(s->queue.next, struct ctx, seal_link);
	when = c->due_ns;
	/* a retry keeps its time whatever the pressure */
	if (s->drain || s->pressed)
		when = c->retry_ns;
	if (when > now) {
		*ret_when = when;
		return NULL;
	}
	*ret_when = c->due_ns;
	list_del(&c->seal_link);
	s->n_queue--;
	return c;
}

bool seal_behind(struct store *st)
{
	struct sealer *s = &st->seal;
	bool yes;

	lock_acquire(&s->lock);
	yes = !list_empty(&s->queue) &&
	      clock_mono_ns() >
		      container_of(s->queue.next, struct ctx, seal_link)->due_ns + LATE_NS;
	lock_release(&s->lock);
	return yes;
}

/* ---- what an earlier mount left plain -------------------------------------- */

#define FEED_BATCH 64u

void seal_feed(struct store *st, uint64_t *ino, size_t n)
{
	lock_acquire(&st->seal.lock);
	st->seal.feed = ino;
	st->seal.n_feed = n;
	cond_broadcast(&st->seal.wake);
	lock_release(&st->seal.lock);
}

static void feed_one(struct store *st, uint64_t ino)
{
	struct meta_rec rec;
	struct ctx *c;

	if (meta_get(st->meta, ino, &rec) < 0 || ctx_get(st, ino, true, &c) < 0)
		return;
	lock_acquire(&c->lock);
	c->dirty = true;
	if (!c->loaded && c->opens == 0)
		c->accounted = rec.stored_bytes;
	lock_release(&c->lock);
	seal_queue(c);
	ctx_put(c);
}

/* A context in the queue is in memory: not all at once. */
static void feed(struct store *st)
{
	struct sealer *s = &st->seal;
	uint64_t batch[FEED_BATCH];
	unsigned n = 0;

	lock_acquire(&s->lock);
	while (s->n_queue < FEED_BATCH && s->n_feed > 0 && n < FEED_BATCH)
		batch[n++] = s->feed[--s->n_feed];
	lock_release(&s->lock);
	for (unsigned i = 0; i < n; i++)
		feed_one(st, batch[i]);
}

static void *sealer_thread(void *arg)
{
	struct store *st = arg;
	struct sealer *s = &st->seal;

	lock_acquire(&s->lock);
	while (!s->stop) {
		uint64_t when;
		struct ctx *c;

		if (s->n_feed > 0 && s->n_queue < FEED_BATCH) {
			lock_release(&s->lock);
			feed(st);
			lock_acquire(&s->lock);
			continue; /* it may have been told to stop meanwhile */
		}
		c = due(s, clock_mono_ns(), &when);

		if (!c) {
			cond_wait_until(&s->wake, &s->lock, when);
			continue;
		}
		lock_release(&s->lock);
		lock_acquire(&c->lock);
		c->queued = false;
		lock_release(&c->lock);
		start_job(st, c, when);
		lock_acquire(&s->lock);
	}
	lock_release(&s->lock);
	return NULL;
}

void seal_enter(struct store *st)
{
	struct sealer *s = &st->seal;

	lock_acquire(&s->lock);
	while (s->active >= s->limit)
		cond_wait(&s->left, &s->lock);
	s->active++;
	lock_release(&s->lock);
}

void seal_leave(struct store *st)
{
	struct sealer *s = &st->seal;

	lock_acquire(&s->lock);
	s->active--;
	cond_signal(&s->left);
	lock_release(&s->lock);
}

/* Some 8 MiB each, of whose sum no more than an eighth of the budget is meant. */
#define SEAL_SHARE_BYTES (64ull << 20)

int seal_start(struct store *st)
{
	uint64_t most = budget_limit(&st->dram) / SEAL_SHARE_BYTES;
	int r;

	if (st->read_only)
		return 0;
	st->seal.limit = workers_threads(st->workers);
	if (st->seal.limit > most)
		st->seal.limit = (unsigned)most;
	if (st->seal.limit < 2)
		st->seal.limit = 2;
	r = thread_start("kvfs-sealer", sealer_thread, st, &st->seal.thread);
	st->seal.started = r == 0;
	return r;
}

/* Keeps the queue in order of due times; nearly always at the end. */
static void insert_locked(struct sealer *s, struct ctx *c) REQUIRES(&s->lock)
{
	struct list *at = &s->queue;

	while (at->prev != &s->queue &&
	       container_of(at->prev, struct ctx, seal_link)->due_ns > c->due_ns)
		at = at->prev;
	list_add_tail(at, &c->seal_link);
	s->n_queue++;
}

void seal_queue(struct ctx *c)
{
	struct store *st = c->st;
	bool want;

	if (st->read_only)
		return;
	lock_acquire(&c->lock);
	want = c->dirty && !c->copy_shared && !c->queued && c->opens == 0 && !c->unlinked && !c->lost &&
	       c->rec.state == KVFS_RECORD_PLAIN && c->accounted >= SEAL_MIN_BYTES;
	if (want) {
		c->queued = true;
		c->due_ns = c->closed_ns + st->cfg.settle_ns;
		if (c->due_ns < c->retry_ns)
			c->due_ns = c->retry_ns;
	}
	lock_release(&c->lock);
	if (!want)
		return;
	ctx_ref(c);
	lock_acquire(&st->seal.lock);
	insert_locked(&st->seal, c);
	cond_broadcast(&st->seal.wake);
	lock_release(&st->seal.lock);
}

/* Is there something in the queue that is not waiting for its retry? */
static bool ready(struct sealer *s) REQUIRES(&s->lock)
{
	return !list_empty(&s->queue) &&
	       container_of(s->queue.next, struct ctx, seal_link)->retry_ns <= clock_mono_ns();
}

/* Will one end without our doing? */
static bool moves(struct sealer *s) REQUIRES(&s->lock)
{
	return s->running > s->stuck || (ready(s) && s->running < s->limit);
}

#define PRESS_NS (10 * NSEC_PER_SEC)

bool seal_press(struct store *st)
{
	struct sealer *s = &st->seal;
	uint64_t until = clock_mono_ns() + PRESS_NS, before, sealed;
	bool progress;

	lock_acquire(&s->lock);
	before = s->ended;
	sealed = s->sealed;
	if (s->started && !s->stop && moves(s)) {
		s->pressed++;
		cond_broadcast(&s->wake);
		while (s->ended == before && moves(s))
			if (!cond_wait_until(&s->wake, &s->lock, until))
				break;
		s->pressed--;
	}
	progress = s->sealed != sealed;
	lock_release(&s->lock);
	return progress;
}

void seal_unqueue(struct ctx *c)
{
	struct sealer *s = &c->st->seal;
	bool was;

	lock_acquire(&s->lock);
	was = !list_empty(&c->seal_link);
	if (was) {
		list_del(&c->seal_link);
		s->n_queue--;
	}
	lock_release(&s->lock);
	if (was)
		ctx_put(c);
}

static void drop_queue(struct store *st)
{
	struct sealer *s = &st->seal;

	for (;;) {
		struct ctx *c = NULL;

		lock_acquire(&s->lock);
		if (!list_empty(&s->queue)) {
			c = container_of(s->queue.next, struct ctx, seal_link);
			list_del(&c->seal_link);
			s->n_queue--;
		}
		lock_release(&s->lock);
		if (!c)
			return;
		ctx_put(c); /* plain and marked pending in the index */
	}
}

/* Seals for this long at most when unmounting; the rest stays plain until the
 * next mount. */
#define DRAIN_NS (10 * NSEC_PER_SEC)

void seal_stop(struct store *st, bool drain)
{
	struct sealer *s = &st->seal;
	uint64_t until = clock_mono_ns() + DRAIN_NS;

	if (!s->started)
		return;
	lock_acquire(&s->lock);
	s->drain = drain;
	cond_broadcast(&s->wake);
	while (drain && (s->n_queue > 0 || s->n_feed > 0 || s->running > 0) &&
	       clock_mono_ns() < until)
		cond_wait_until(&s->wake, &s->lock, clock_mono_ns() + 50 * NSEC_PER_MSEC);
	s->stop = true;
	cond_broadcast(&s->wake);
	lock_release(&s->lock);
	pthread_join(s->thread, NULL);
	atomic_store(&st->stopping_seals, true);
	lock_acquire(&s->lock);
	while (s->running > 0)
		cond_wait_until(&s->wake, &s->lock, clock_mono_ns() + 50 * NSEC_PER_MSEC);
	lock_release(&s->lock);
	drop_queue(st);
	s->started = false;
}

/* Readers may have what is sealed open. */
static int is_sealed(struct ctx *c, struct node *n)
{
	int r = ctx_enter(c);

	if (r < 0)
		return r;
	r = ctx_load_locked(c, n);
	if (r == 0)
		r = c->rec.state != KVFS_RECORD_PLAIN;
	gate_leave(&c->gate, true);
	return r;
}

static int seal_plain(struct ctx *c, struct node *n)
{
	int r = -EBUSY;

	for (int tries = 0; tries < 100; tries++) {
		struct timespec ts = { 0, 20 * 1000 * 1000 };

		r = seal_run(c, n, true);
		if (r != -EBUSY && r != -KVFS_ECANCELED)
			break;
		nanosleep(&ts, NULL); /* a release may be on its way */
	}
	if (r == 0)
		r = commit_barrier(c->st);
	if (r == 0)
		seal_finish(c, n);
	return r;
}

/* It is sealed already; a grant that came since wants it in layers. No grant, or nothing
 * that could be layered, is no failure: it was to be sealed, and it is. */
static int seal_layers(struct ctx *c, struct node *n)
{
	int r;

	if (grant_floor(c->st, n) >= 1)
		return 0;
	r = relayer_run(c, n);
	if (r == -KVFS_ECHANGED) { /* as good as plain */
		r = store_unseal(c->st, n);
		return r < 0 ? r : seal_plain(c, n);
	}
	if (r == 0)
		return commit_barrier(c->st);
	return r == -EALREADY || r == -KVFS_EVETO || r == -KVFS_ENOLAYERS ? 0 : r;
}

int store_seal(struct store *st, struct node *n)
{
	struct ctx *c;
	int r;

	if (st->read_only)
		return -EROFS;
	if (!S_ISREG(node_type(n)))
		return -EINVAL;
	r = ctx_get(st, node_ino(n), true, &c);
	if (r < 0)
		return r;
	r = is_sealed(c, n);
	if (r == 0)
		r = seal_plain(c, n);
	if (r > 0 || r == -EALREADY)
		r = seal_layers(c, n);
	ctx_idle(c);
	ctx_put(c);
	return r;
}

int store_unseal(struct store *st, struct node *n)
{
	struct stat sb;
	struct ctx *c;
	int r;

	if (st->read_only)
		return -EROFS;
	r = ctx_get(st, node_ino(n), true, &c);
	if (r < 0)
		return r;
	r = ctx_enter(c);
	if (r < 0) {
		ctx_put(c);
		return r;
	}
	r = ctx_load_locked(c, n);
	if (r == 0)
		r = ctx_object_locked(c);
	if (r == 0)
		r = unseal_locked(c, &sb);
	if (r == 0)
		node_set_content(n, NODE_PLAIN);
	gate_leave(&c->gate, true);
	r = damage_found(c, n, r);
	if (r == 0)
		r = attr_node(st, n, &sb);
	if (r == 0)
		index_put(st, n, c, &sb, false);
	ctx_idle(c);
	ctx_put(c);
	if (st->k)
		st->k->inval_inode(st->karg, n, false);
	return r;
}
