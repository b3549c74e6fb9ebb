/* SPDX-License-Identifier: MIT */
/*
 * Reads from SSD by Linux AIO. The happy path: submit puts the iocb, which lies
 * in the caller's request, into the kernel; its completion raises an eventfd;
 * the reaper thread wakes, takes all events, finishes all of them and calls
 * done. O_DIRECT descriptors make submit asynchronous; others are read by the
 * kernel inside io_submit.
 *
 * Of the reads in flight, at most depth are in the kernel. The rest wait in
 * overflow, in order, and the reaper moves them up as slots come free. What the
 * kernel refuses (files without asynchronous reads, bad descriptors) goes to
 * refused, which the reaper serves with pread, so that its error or its bytes
 * arrive like any other's. -EAGAIN, no kernel slot, waits in overflow if there
 * is another read whose completion will look there, else it is refused as well.
 *
 * A short count before the end of file is continued from where it stopped.
 * Destroying: in_flight counts every read from submit to done; the reaper ends
 * when it is told to stop and that is zero.
 *
 * Locks: lists, counts and stats under one mutex; system calls and done
 * outside. A request is touched only by whom the lists say: after io_submit
 * took it, by nobody until its event.
 */
#include <assert.h>
#include <errno.h>
/* libaio has an unrelated inline function of the name of one in base/io.h. */
#define io_fsync libaio_fsync
#include <libaio.h>
#undef io_fsync
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/io.h"
#include "base/lock.h"
#include "base/mem.h"
#include "base/thread.h"
#include "tiers/meter.h"
#include "tiers/tier.h"

#define SSD_BATCH 64

_Static_assert(sizeof(struct iocb) <= sizeof(((struct tier_read *)0)->scratch),
	       "an iocb fits into the request");

struct ssd {
	struct tier_io io;
	io_context_t ctx;
	unsigned depth;
	int wake_fd; /* eventfd: completions, refused reads, stop */
	pthread_t reaper;
	struct lock lock;
	/* all under lock */
	struct list overflow GUARDED; /* waiting for a slot, in order */
	struct list refused GUARDED;  /* for pread on the reaper */
	unsigned in_kernel GUARDED;   /* slots taken, also by a submit under way */
	struct tier_meter meter GUARDED;
	bool stop GUARDED;
};

static struct ssd *ssd_of(struct tier_io *t)
{
	return container_of(t, struct ssd, io);
}

static struct iocb *ssd_iocb(struct tier_read *r)
{
	return (struct iocb *)(void *)r->scratch;
}

static void ssd_wake(struct ssd *s)
{
	uint64_t one = 1;
	ssize_t rc;

	do {
		rc = write(s->wake_fd, &one, sizeof(one));
	} while (rc < 0 && errno == EINTR);
	assert(rc == sizeof(one)); /* blocks only at 2^64 - 1 */
}

/* The part of the read that is still missing. */
static void ssd_prepare(struct ssd *s, struct tier_read *r)
{
	struct iocb *cb = ssd_iocb(r);

	io_prep_pread(cb, r->fd, (char *)r->buf + r->got, r->len - r->got,
		      (long long)(r->off_bytes + r->got));
	io_set_eventfd(cb, s->wake_fd);
	cb->data = r;
}

/* The kernel did not take @r, whose slot is given back. */
static void ssd_refuse(struct ssd *s, struct tier_read *r, int rc)
{
	bool wait;

	lock_acquire(&s->lock);
	s->in_kernel--;
	wait = rc == -EAGAIN && s->in_kernel;
	if (wait)
		list_add_head(&s->overflow, &r->link);
	else
		list_add_tail(&s->refused, &r->link);
	lock_release(&s->lock);
	if (!wait)
		ssd_wake(s);
}

/* Hands prepared reads with slots to the kernel. */
static void ssd_push(struct ssd *s, struct iocb **cbs, long n)
{
	long at = 0;

	while (at < n) {
		/* Behind io_submit, cbs[at] may be complete and freed. */
		int rc = io_submit(s->ctx, n - at, cbs + at);

		if (rc > 0)
			at += rc;
		else if (rc != -EINTR)
			ssd_refuse(s, cbs[at++]->data, rc ? rc : -EAGAIN);
	}
}

static int ssd_submit(struct tier_io *t, struct tier_read *r)
{
	struct ssd *s = ssd_of(t);
	struct iocb *cb = ssd_iocb(r);
	bool slot;

	if (r->len > INT64_MAX || r->off_bytes > INT64_MAX - r->len)
		return -EINVAL;
	r->got = 0;
	ssd_prepare(s, r);
	lock_acquire(&s->lock);
	tier_meter_start(&s->meter, r);
	slot = s->in_kernel < s->depth && list_empty(&s->overflow);
	if (slot)
		s->in_kernel++;
	else
		list_add_tail(&s->overflow, &r->link);
	lock_release(&s->lock);
	if (slot)
		ssd_push(s, &cb, 1);
	return 0;
}

/* Moves waiting reads into free slots. */
static void ssd_refill(struct ssd *s)
{
	struct iocb *cbs[SSD_BATCH];
	long n;

	do {
		n = 0;
		lock_acquire(&s->lock);
		while (n < SSD_BATCH && s->in_kernel < s->depth && !list_empty(&s->overflow)) {
			struct tier_read *r = container_of(s->overflow.next, struct tier_read,
							   link);

			list_del(&r->link);
			s->in_kernel++;
			cbs[n++] = ssd_iocb(r);
		}
		lock_release(&s->lock);
		ssd_push(s, cbs, n);
	} while (n == SSD_BATCH);
}

/* Ends a read that is in no list. */
static void ssd_finish(struct ssd *s, struct tier_read *r, ssize_t res)
{
	lock_acquire(&s->lock);
	tier_meter_finish(&s->meter, r, res);
	lock_release(&s->lock);
	r->done(r, res); /* may free r, may submit */
}

/* Nothing lies behind what was read so far. Asked only after a short count;
 * continuing at the odd end of a file with O_DIRECT would be EINVAL. */
static bool ssd_at_eof(const struct tier_read *r)
{
	struct stat st;

	return fstat(r->fd, &st) == 0 && S_ISREG(st.st_mode) &&
	       r->off_bytes + r->got >= (uint64_t)st.st_size;
}

/* One event, its slot given back: true when the read is over, with *ret_res;
 * else it is first in overflow again. */
static bool ssd_event(struct ssd *s, struct tier_read *r, long res, ssize_t *ret_res)
{
	if (fault_hit(FAULT_READ))
		res = -EIO;
	if (res > 0)
		r->got += (size_t)res;
	if (res > 0 && r->got < r->len && !ssd_at_eof(r)) {
		ssd_prepare(s, r);
		lock_acquire(&s->lock);
		list_add_head(&s->overflow, &r->link);
		lock_release(&s->lock);
		return false;
	}
	*ret_res = res < 0 ? res : (ssize_t)r->got;
	return true;
}

/* Takes all events there are; n reaped are n finished, whatever each one is. */
static void ssd_reap(struct ssd *s)
{
	struct io_event ev[SSD_BATCH];
	struct tier_read *over[SSD_BATCH];
	ssize_t res[SSD_BATCH];
	int n;

	do {
		struct timespec now = { 0, 0 };
		int over_n = 0;

		n = io_getevents(s->ctx, 0, SSD_BATCH, ev, &now);
		if (n <= 0)
			continue;
		/* Taking the lock also orders the submitters' writes to the
		 * requests before our reads, in terms of C and not of the kernel. */
		lock_acquire(&s->lock);
		s->in_kernel -= (unsigned)n;
		lock_release(&s->lock);
		for (int i = 0; i < n; i++) {
			struct tier_read *r = ev[i].data;

			if (ssd_event(s, r, (long)ev[i].res, &res[over_n]))
				over[over_n++] = r;
		}
		ssd_refill(s); /* before done, to keep the device busy */
		for (int i = 0; i < over_n; i++)
			ssd_finish(s, over[i], res[i]);
	} while (n == SSD_BATCH || n == -EINTR);
	assert(n >= 0);
}

static void ssd_serve_refused(struct ssd *s)
{
	for (;;) {
		struct tier_read *r = NULL;
		ssize_t n;

		lock_acquire(&s->lock);
		if (!list_empty(&s->refused)) {
			r = container_of(s->refused.next, struct tier_read, link);
			list_del(&r->link);
		}
		lock_release(&s->lock);
		if (!r)
			break;
		n = io_pread(r->fd, (char *)r->buf + r->got, r->len - r->got,
			     r->off_bytes + r->got);
		ssd_finish(s, r, n < 0 ? n : (ssize_t)r->got + n);
		/* Refused for want of a slot: nobody else may be left to do this. */
		ssd_refill(s);
	}
}

static void *ssd_reaper(void *arg)
{
	struct ssd *s = arg;
	bool over;

	do {
		uint64_t n;
		ssize_t rc = read(s->wake_fd, &n, sizeof(n));

		assert(rc == sizeof(n) || errno == EINTR);
		(void)rc;
		ssd_reap(s);
		ssd_serve_refused(s);
		lock_acquire(&s->lock);
		over = s->stop && !s->meter.s.in_flight;
		lock_release(&s->lock);
	} while (!over);
	return NULL;
}

static void ssd_stats(struct tier_io *t, struct tier_stats *ret)
{
	struct ssd *s = ssd_of(t);

	lock_acquire(&s->lock);
	tier_meter_get(&s->meter, ret);
	lock_release(&s->lock);
}

static void ssd_destroy(struct tier_io *t)
{
	struct ssd *s = ssd_of(t);

	lock_acquire(&s->lock);
	s->stop = true;
	lock_release(&s->lock);
	ssd_wake(s);
	pthread_join(s->reaper, NULL);
	io_destroy(s->ctx);
	close(s->wake_fd);
	lock_fini(&s->lock);
	mem_free(s);
}

static const struct tier_io_ops ssd_ops = {
	.name = "ssd",
	.submit = ssd_submit,
	.stats = ssd_stats,
	.destroy = ssd_destroy,
};

static void ssd_init(struct ssd *s, unsigned depth) NO_TSA
{
	s->io.ops = &ssd_ops;
	s->depth = depth;
	lock_init(&s->lock);
	list_init(&s->overflow);
	list_init(&s->refused);
}

int tier_ssd_create(unsigned depth, struct tier_io **ret)
{
	struct ssd *s;
	int rc;

	if (!depth || depth > INT32_MAX)
		return -EINVAL;
	s = mem_zalloc(sizeof(*s));
	if (!s)
		return -ENOMEM;
	ssd_init(s, depth);
	s->wake_fd = eventfd(0, EFD_CLOEXEC);
	if (s->wake_fd < 0) {
		rc = -errno;
		goto err_free;
	}
	rc = io_setup((int)depth, &s->ctx);
	if (rc)
		goto err_close;
	rc = thread_start("tier-ssd", ssd_reaper, s, &s->reaper);
	if (rc)
		goto err_io_destroy; /* UNTESTED: no threads left */
	*ret = &s->io;
	return 0;
err_io_destroy:
	io_destroy(s->ctx);
err_close:
	close(s->wake_fd);
err_free:
	lock_fini(&s->lock);
	mem_free(s);
	return rc;
}
