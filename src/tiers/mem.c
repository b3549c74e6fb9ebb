/* SPDX-License-Identifier: MIT */
/*
 * The in-memory twin of ssd_aio.c: the same contract over copies of buffers,
 * with a thread that completes reads in order or, in manual mode, with a test
 * that says which one is next. Fails a read by FAULT_READ. Destroying finishes
 * what is pending, in manual mode on the calling thread.
 */
#include <errno.h>
#include <string.h>

#include "base/fault.h"
#include "base/lock.h"
#include "base/mem.h"
#include "base/thread.h"
#include "tiers/meter.h"
#include "tiers/tier.h"

#define MEM_FD_FIRST (1 << 20)

struct mem_file {
	void *data; /* owned, never changed */
	size_t len;
};

struct tier_mem {
	struct tier_io io;
	bool manual;
	pthread_t thread; /* unless manual */
	struct lock lock;
	struct cond wake;
	/* all under lock */
	struct list pending GUARDED;
	struct mem_file *files GUARDED; /* owned */
	size_t files_n GUARDED;
	struct tier_meter meter GUARDED;
	bool stop GUARDED;
};

static struct tier_mem *mem_of(struct tier_io *t)
{
	return container_of(t, struct tier_mem, io);
}

static ssize_t mem_read(struct tier_mem *m, struct tier_read *r) REQUIRES(&m->lock)
{
	const struct mem_file *f;
	size_t n = 0;

	if (fault_hit(FAULT_READ))
		return -EIO;
	if (r->fd < MEM_FD_FIRST || (size_t)(r->fd - MEM_FD_FIRST) >= m->files_n)
		return -EBADF;
	f = &m->files[r->fd - MEM_FD_FIRST];
	if (r->off_bytes < f->len) {
		n = f->len - (size_t)r->off_bytes;
		if (n > r->len)
			n = r->len;
		memcpy(r->buf, (const char *)f->data + r->off_bytes, n);
	}
	return (ssize_t)n;
}

/* Completes one pending read with the lock released around done. */
static bool mem_finish_one(struct tier_mem *m, bool newest) REQUIRES(&m->lock)
{
	struct tier_read *r;
	ssize_t res;

	if (list_empty(&m->pending))
		return false;
	r = container_of(newest ? m->pending.prev : m->pending.next, struct tier_read, link);
	list_del(&r->link);
	res = mem_read(m, r);
	tier_meter_finish(&m->meter, r, res);
	lock_release(&m->lock);
	r->done(r, res); /* may free r, may submit */
	lock_acquire(&m->lock);
	return true;
}

static void *mem_thread(void *arg)
{
	struct tier_mem *m = arg;

	lock_acquire(&m->lock);
	for (;;) {
		if (mem_finish_one(m, false))
			continue;
		if (m->stop)
			break;
		cond_wait(&m->wake, &m->lock);
	}
	lock_release(&m->lock);
	return NULL;
}

static int mem_submit(struct tier_io *t, struct tier_read *r)
{
	struct tier_mem *m = mem_of(t);

	if (r->len > INT64_MAX || r->off_bytes > INT64_MAX - r->len)
		return -EINVAL;
	lock_acquire(&m->lock);
	tier_meter_start(&m->meter, r);
	list_add_tail(&m->pending, &r->link);
	cond_signal(&m->wake);
	lock_release(&m->lock);
	return 0;
}

static void mem_stats(struct tier_io *t, struct tier_stats *ret)
{
	struct tier_mem *m = mem_of(t);

	lock_acquire(&m->lock);
	tier_meter_get(&m->meter, ret);
	lock_release(&m->lock);
}

static void mem_fini(struct tier_mem *m) NO_TSA
{
	for (size_t i = 0; i < m->files_n; i++)
		mem_free(m->files[i].data);
	mem_free(m->files);
	cond_fini(&m->wake);
	lock_fini(&m->lock);
	mem_free(m);
}

static void mem_destroy(struct tier_io *t)
{
	struct tier_mem *m = mem_of(t);

	lock_acquire(&m->lock);
	m->stop = true;
	cond_signal(&m->wake);
	if (m->manual)
		while (mem_finish_one(m, false))
			;
	lock_release(&m->lock);
	if (!m->manual)
		pthread_join(m->thread, NULL);
	mem_fini(m);
}

static const struct tier_io_ops mem_ops = {
	.name = "mem",
	.submit = mem_submit,
	.stats = mem_stats,
	.destroy = mem_destroy,
};

static void mem_init(struct tier_mem *m) NO_TSA
{
	lock_init(&m->lock);
	cond_init(&m->wake);
	list_init(&m->pending);
}

int tier_mem_create(bool manual, struct tier_io **ret)
{
	struct tier_mem *m = mem_zalloc(sizeof(*m));

	if (!m)
		return -ENOMEM;
	m->io.ops = &mem_ops;
	m->manual = manual;
	mem_init(m);
	if (!manual) {
		int rc = thread_start("tier-mem", mem_thread, m, &m->thread);

		if (rc) {
			mem_fini(m);
			return rc; /* UNTESTED: no threads left */
		}
	}
	*ret = &m->io;
	return 0;
}

int tier_mem_add(struct tier_io *t, const void *data, size_t len)
{
	struct tier_mem *m = mem_of(t);
	struct mem_file *files;
	void *copy = mem_alloc(len);
	int fd = -ENOMEM;

	if (!copy)
		return -ENOMEM;
	if (len)
		memcpy(copy, data, len);
	lock_acquire(&m->lock);
	files = mem_realloc(m->files, (m->files_n + 1) * sizeof(*files));
	if (files) {
		m->files = files;
		files[m->files_n] = (struct mem_file){ copy, len };
		fd = MEM_FD_FIRST + (int)m->files_n++;
	}
	lock_release(&m->lock);
	if (!files)
		mem_free(copy);
	return fd;
}

bool tier_mem_step(struct tier_io *t, bool newest)
{
	struct tier_mem *m = mem_of(t);
	bool did;

	lock_acquire(&m->lock);
	did = mem_finish_one(m, newest);
	lock_release(&m->lock);
	return did;
}
