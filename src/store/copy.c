/* SPDX-License-Identifier: MIT */
/*
 * Decoded copies on a private tmpfs.
 *
 * Happy path: copy_create takes the idle file whose pages fit best, or a new
 * one, cuts it to the length asked for and makes all its pages present; the
 * caller decodes into it and serves it; the last put returns it to the idle
 * list, its pages still there.
 *
 *  list   counted in the budget   state
 *  -      yes                     referenced
 *  idle   yes                     no reference, no mapping: may be recycled
 *  busy   yes                     no reference, but the lease probe says that a
 *                                 mapping or another open file lives: looked at
 *                                 again on every create, put and shrink
 *
 * A length change goes through a cut, for which the kernel zeroes the last
 * page's tail, so nothing of an earlier context shows behind the end.
 *
 * Pages are counted in units of 2 MiB, because that is what huge=always takes.
 */
#include "store/copy.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <unistd.h>

#include "base/io.h"
#include "base/list.h"
#include "base/lock.h"
#include "base/mem.h"
#include "base/units.h"

#define COPY_UNIT (2ull << 20)

struct copy {
	struct list link;       /* pool.lock: idle or busy */
	struct copy_pool *pool; /* borrowed */
	_Atomic unsigned refs;
	int fd;                 /* owned */
	uint64_t size_bytes;
	uint64_t held_bytes;    /* counted in the budget */
};

struct copy_pool {
	struct budget *budget;  /* borrowed */
	int mount_fd;           /* owned: the detached tmpfs */
	struct lock lock;
	struct list idle GUARDED; /* lock; newest first */
	struct list busy GUARDED; /* lock */
	_Atomic uint64_t bytes;   /* of all files */
	_Atomic uint64_t reserve; /* idle bytes that stay */
};

/* ---- the private tmpfs ---------------------------------------------------- */

/* As large as memory: what it may hold is for the budget to say, which may be raised. */
static int make_mount(void)
{
	int fs, fd, err;

	fs = fsopen("tmpfs", FSOPEN_CLOEXEC);
	if (fs < 0)
		return -errno;
	if (fsconfig(fs, FSCONFIG_SET_STRING, "size", "100%", 0) < 0 ||
	    fsconfig(fs, FSCONFIG_SET_STRING, "mode", "0700", 0) < 0)
		goto err_fs;
	/* Kernels without huge pages refuse it: then 4 KiB pages, at two thirds of the speed. */
	(void)fsconfig(fs, FSCONFIG_SET_STRING, "huge", "always", 0);
	if (fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		goto err_fs;
	fd = fsmount(fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
	if (fd < 0)
		goto err_fs;
	close(fs);
	return fd;
err_fs:
	err = -errno;
	close(fs);
	return err;
}

int copy_pool_create(struct budget *b, struct copy_pool **ret) NO_TSA
{
	struct copy_pool *p = mem_zalloc(sizeof(*p));

	if (!p)
		return -ENOMEM;
	p->budget = b;
	p->mount_fd = make_mount();
	if (p->mount_fd < 0) {
		int err = p->mount_fd;

		mem_free(p);
		return err;
	}
	lock_init(&p->lock);
	list_init(&p->idle);
	list_init(&p->busy);
	*ret = p;
	return 0;
}

/* ---- files ---------------------------------------------------------------- */

/* The caller has taken it off its list. */
static void destroy(struct copy_pool *p, struct copy *c)
{
	io_close(&c->fd);
	budget_give(p->budget, BUDGET_COPY, c->held_bytes);
	atomic_fetch_sub(&p->bytes, c->held_bytes);
	mem_free(c);
}

void copy_pool_destroy(struct copy_pool *p) NO_TSA
{
	if (!p)
		return;
	list_for_each_safe(l, tmp, &p->idle)
		destroy(p, container_of(l, struct copy, link));
	list_for_each_safe(l, tmp, &p->busy)
		destroy(p, container_of(l, struct copy, link));
	assert(atomic_load(&p->bytes) == 0);
	io_close(&p->mount_fd);
	lock_fini(&p->lock);
	mem_free(p);
}

bool copy_in_use(const struct copy *c)
{
	if (fcntl(c->fd, F_SETLEASE, F_WRLCK) < 0)
		return true; /* EAGAIN; whatever else it is, do not reuse it */
	(void)fcntl(c->fd, F_SETLEASE, F_UNLCK); /* gives back what was just got */
	return false;
}

/* Moves those of the busy list whose mappings are gone to the idle list. */
static void reap_locked(struct copy_pool *p) REQUIRES(p->lock)
{
	list_for_each_safe(l, tmp, &p->busy) {
		struct copy *c = container_of(l, struct copy, link);

		if (copy_in_use(c))
			continue;
		list_del(l);
		list_add_head(&p->idle, l);
	}
}

static uint64_t distance(uint64_t a, uint64_t b)
{
	return a < b ? b - a : a - b;
}

/* The idle file whose pages fit best; NULL when none is worth it. */
static struct copy *take_idle_locked(struct copy_pool *p, uint64_t need) REQUIRES(p->lock)
{
	struct copy *best = NULL;

	list_for_each(l, &p->idle) {
		struct copy *c = container_of(l, struct copy, link);

		if (!best || distance(c->held_bytes, need) < distance(best->held_bytes, need))
			best = c;
	}
	if (best)
		list_del(&best->link);
	return best;
}

static struct copy *make(struct copy_pool *p, int *ret_err)
{
	struct copy *c = mem_zalloc(sizeof(*c));

	*ret_err = -ENOMEM;
	if (!c)
		return NULL;
	c->pool = p;
	list_init(&c->link);
	c->fd = openat(p->mount_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (c->fd < 0) {
		*ret_err = -errno;
		mem_free(c);
		return NULL;
	}
	return c;
}

static int set_held(struct copy_pool *p, struct copy *c, uint64_t need)
{
	if (need > c->held_bytes) {
		int err = budget_take(p->budget, BUDGET_COPY, need - c->held_bytes);

		if (err)
			return err;
		atomic_fetch_add(&p->bytes, need - c->held_bytes);
	} else {
		budget_give(p->budget, BUDGET_COPY, c->held_bytes - need);
		atomic_fetch_sub(&p->bytes, c->held_bytes - need);
	}
	c->held_bytes = need;
	return 0;
}

/* Exactly @size bytes, every page present. Shrinking before the budget is given
 * back, growing after it was taken. */
static int resize(struct copy_pool *p, struct copy *c, uint64_t size)
{
	uint64_t need = round_up_u64(size, COPY_UNIT);
	uint64_t pages = round_up_u64(size, KVFS_PAGE);
	int err;

	if (need > c->held_bytes) {
		err = set_held(p, c, need);
		if (err)
			return err;
	}
	/* Grow to whole pages, then cut: the tail of the last page becomes zero. */
	if (ftruncate(c->fd, (off_t)pages) < 0 || ftruncate(c->fd, (off_t)size) < 0)
		return -errno; /* UNTESTED: tmpfs does not fail to set a length */
	if (size && fallocate(c->fd, 0, 0, (off_t)size) < 0)
		return -errno;
	c->size_bytes = size;
	return set_held(p, c, need);
}

int copy_resize(struct copy *c, uint64_t size)
{
	struct copy_pool *p = c->pool;
	uint64_t need = round_up_u64(size, COPY_UNIT);

	if (need > c->held_bytes) {
		budget_force(p->budget, BUDGET_COPY, need - c->held_bytes);
		atomic_fetch_add(&p->bytes, need - c->held_bytes);
		c->held_bytes = need;
	}
	if (ftruncate(c->fd, (off_t)size) < 0)
		return -errno;
	c->size_bytes = size;
	return 0;
}

int copy_create(struct copy_pool *p, uint64_t size, struct copy **ret)
{
	uint64_t need = round_up_u64(size, COPY_UNIT);
	struct copy *c;
	int err = 0;

	if (need < size || need > budget_limit(p->budget))
		return -ENOSPC;
	lock_acquire(&p->lock);
	reap_locked(p);
	c = take_idle_locked(p, need);
	lock_release(&p->lock);
	if (!c)
		c = make(p, &err);
	if (!c)
		return err;
	err = resize(p, c, size);
	if (err) {
		destroy(p, c);
		return err;
	}
	atomic_store(&c->refs, 1);
	*ret = c;
	return 0;
}

struct copy *copy_get(struct copy *c)
{
	unsigned before = atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);

	assert(before > 0);
	(void)before;
	return c;
}

/* Idle pages beyond half of the budget do not wait for a use. */
static void trim(struct copy_pool *p)
{
	uint64_t sum = 0;
	struct list out;

	list_init(&out);
	lock_acquire(&p->lock);
	reap_locked(p);
	list_for_each_safe(l, tmp, &p->idle) {
		sum += container_of(l, struct copy, link)->held_bytes;
		if (sum > budget_limit(p->budget) / 2) {
			list_del(l);
			list_add_tail(&out, l);
		}
	}
	lock_release(&p->lock);
	list_for_each_safe(l, tmp, &out) {
		list_del(l);
		destroy(p, container_of(l, struct copy, link));
	}
}

bool copy_pool_ready(struct copy_pool *p, uint64_t size)
{
	uint64_t need = round_up_u64(size, COPY_UNIT);
	bool yes = false;

	lock_acquire(&p->lock);
	reap_locked(p);
	list_for_each(l, &p->idle)
		yes |= container_of(l, struct copy, link)->held_bytes >= need - need / 8;
	lock_release(&p->lock);
	return yes;
}

/* fallocate takes pages, but they are cleared when first touched. False: @go_on
 * said so. */
static bool touch(struct copy *c, bool (*go_on)(void *arg), void *arg)
{
	bool going = true;
	void *map;

	if (copy_map(c, &map) < 0)
		return true; /* they are cleared at decoding */
#ifdef MADV_POPULATE_WRITE
	for (uint64_t at = 0; at < c->size_bytes && going; at += COPY_UNIT) {
		uint64_t len = c->size_bytes - at < COPY_UNIT ? c->size_bytes - at : COPY_UNIT;

		if (madvise((char *)map + at, (size_t)len, MADV_POPULATE_WRITE) < 0)
			break; /* old kernel: as above */
		going = go_on(arg);
	}
#endif
	copy_unmap(c, map);
	return going;
}

int copy_pool_prepare(struct copy_pool *p, uint64_t size, bool (*go_on)(void *arg), void *arg)
{
	struct copy *c;
	int err;

	if (size > budget_limit(p->budget) / 4)
		return -ENOSPC;
	c = make(p, &err);
	if (!c)
		return err;
	err = resize(p, c, size);
	if (!err && !touch(c, go_on, arg))
		err = -KVFS_ECANCELED;
	if (err) {
		destroy(p, c);
		return err;
	}
	lock_acquire(&p->lock);
	list_add_tail(&p->idle, &c->link);
	lock_release(&p->lock);
	trim(p);
	return 0;
}

void copy_put(struct copy *c)
{
	struct copy_pool *p;

	if (!c || atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) != 1)
		return;
	p = c->pool;
	lock_acquire(&p->lock);
	if (copy_in_use(c))
		list_add_head(&p->busy, &c->link);
	else
		list_add_head(&p->idle, &c->link);
	lock_release(&p->lock);
	trim(p);
}

int copy_fd(const struct copy *c)
{
	return c->fd;
}

int copy_map(struct copy *c, void **ret)
{
	void *p;

	if (!c->size_bytes)
		return -EINVAL;
	p = mmap(NULL, (size_t)c->size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, c->fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	(void)madvise(p, (size_t)c->size_bytes, MADV_DONTDUMP); /* smaller dumps, no more */
	*ret = p;
	return 0;
}

void copy_unmap(struct copy *c, void *p)
{
	(void)munmap(p, (size_t)c->size_bytes); /* fails only for a wrong range */
}

uint64_t copy_held(uint64_t size)
{
	return round_up_u64(size, COPY_UNIT);
}

uint64_t copy_size(const struct copy *c)
{
	return c->size_bytes;
}

void copy_pool_reserve(struct copy_pool *p, uint64_t bytes)
{
	atomic_store(&p->reserve, bytes);
}

uint64_t copy_pool_reserved(const struct copy_pool *p)
{
	return atomic_load(&p->reserve);
}

static uint64_t idle_locked(const struct copy_pool *p) REQUIRES(p->lock)
{
	uint64_t sum = 0;

	list_for_each(l, &p->idle)
		sum += container_of(l, struct copy, link)->held_bytes;
	return sum;
}

uint64_t copy_pool_idle(struct copy_pool *p)
{
	uint64_t sum;

	lock_acquire(&p->lock);
	sum = idle_locked(p);
	lock_release(&p->lock);
	return sum;
}

/* The one idle for longest, if @reserve stays without it. */
static struct copy *take_spare_locked(struct copy_pool *p, uint64_t reserve) REQUIRES(p->lock)
{
	struct copy *c;

	if (list_empty(&p->idle))
		return NULL;
	c = container_of(p->idle.prev, struct copy, link);
	if (idle_locked(p) - c->held_bytes < reserve)
		return NULL;
	list_del(&c->link);
	return c;
}

void copy_pool_shrink(struct copy_pool *p, uint64_t bytes, bool all)
{
	for (;;) {
		struct copy *c;

		if (budget_free(p->budget) >= bytes)
			return;
		lock_acquire(&p->lock);
		reap_locked(p);
		c = take_spare_locked(p, all ? 0 : atomic_load(&p->reserve));
		lock_release(&p->lock);
		if (!c)
			return;
		destroy(p, c);
	}
}

uint64_t copy_pool_bytes(const struct copy_pool *p)
{
	return atomic_load(&p->bytes);
}
