/* SPDX-License-Identifier: MIT */
/*
 * A decoded copy that is being read through the kernel while the file changes.
 *
 * Readers and mappings of a passthrough open see the copy's file and nothing
 * else, so every change made through the daemon is made in the copy too. A
 * writer may also map the copy writably; such stores are seen by nobody. So
 * from the first writer or change on the copy is *shared*: it stays, all further
 * opens go to it, and at fsync and after the last use (no descriptor, and the
 * lease says no mapping) it is compared with the content and what differs is written.
 *
 * What keeps foreign or old bytes away: a copy that is not shared shows exactly the
 * content of a sealed file. Each change either drops the copy or, when it is in
 * use in any way, shares it first; so does turning plain, because passthrough to
 * the plain file is not seen here.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/mem.h"
#include "store/store_types.h"

#define COMPARE_STEP (1u << 20)

/* The copy with a reference when changes must go to it; else it is dropped. A
 * mapping counts as much as a descriptor. */
static struct copy *followed(struct ctx *c)
{
	struct copy *copy = NULL;

	lock_acquire(&c->lock);
	if (c->copy && (c->copy_shared || (c->passthrough > 0 && c->backing_is_copy) ||
			copy_in_use(c->copy))) {
		c->copy_shared = true;
		copy = copy_get(c->copy);
	}
	lock_release(&c->lock);
	if (!copy)
		space_drop_dram(c, false, true);
	return copy;
}

void serving_follow(struct ctx *c)
{
	copy_put(followed(c));
}

int serving_write(struct ctx *c, const void *buf, size_t len, uint64_t off)
{
	struct copy *copy = followed(c);
	int r = 0;

	if (!copy)
		return 0;
	if (off + len > copy_size(copy))
		r = copy_resize(copy, off + len);
	if (r == 0)
		r = io_pwrite_all(copy_fd(copy), buf, len, off);
	copy_put(copy);
	return r;
}

int serving_truncate(struct ctx *c, uint64_t size)
{
	struct copy *copy = followed(c);
	int r = 0;

	if (!copy)
		return 0;
	if (size != copy_size(copy))
		r = copy_resize(copy, size);
	copy_put(copy);
	return r;
}

int serving_allocate(struct ctx *c, int mode, uint64_t off, uint64_t len)
{
	struct copy *copy = followed(c);
	struct stat sb;
	int r = 0;

	if (!copy)
		return 0;
	if (fstat(c->fd, &sb) == 0 && (uint64_t)sb.st_size != copy_size(copy))
		r = copy_resize(copy, (uint64_t)sb.st_size);
	while (r == 0 && len > 0 && off < copy_size(copy)) {
		static const char zeros[4096];
		size_t step = len < sizeof(zeros) ? (size_t)len : sizeof(zeros);

		if (!(mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)))
			break;
		if (step > copy_size(copy) - off)
			step = (size_t)(copy_size(copy) - off);
		r = io_pwrite_all(copy_fd(copy), zeros, step, off);
		off += step;
		len -= step;
	}
	copy_put(copy);
	return r;
}

ssize_t serving_read(struct ctx *c, void *buf, size_t len, uint64_t off)
{
	struct copy *copy;
	ssize_t got;

	lock_acquire(&c->lock);
	copy = c->copy && c->copy_shared ? copy_get(c->copy) : NULL;
	lock_release(&c->lock);
	if (!copy)
		return -ENOENT;
	got = io_pread(copy_fd(copy), buf, len, off);
	copy_put(copy);
	return got;
}

/* Writes the runs of blocks in which @now differs from @was. */
static int write_differences(struct ctx *c, const uint8_t *now, const uint8_t *was, size_t len,
			     uint64_t off)
{
	int r = 0;

	for (size_t i = 0; i < len && r == 0;) {
		size_t step = len - i < STORE_BLOCK ? len - i : STORE_BLOCK, run = 0;

		while (i + run < len && memcmp(now + i + run, was + i + run,
					       len - i - run < step ? len - i - run : step) != 0)
			run += len - i - run < step ? len - i - run : step;
		if (run)
			r = write_locked(c, now + i, run, off + i);
		i += run + step;
	}
	return r;
}

int serving_write_back(struct ctx *c)
{
	struct copy *copy;
	uint8_t *now, *was;
	uint64_t size;
	int r = 0;

	lock_acquire(&c->lock);
	copy = c->copy && c->copy_shared && !c->unlinked ? copy_get(c->copy) : NULL;
	lock_release(&c->lock);
	if (!copy)
		return 0;
	size = copy_size(copy);
	now = mem_alloc_pages(COMPARE_STEP);
	was = mem_alloc_pages(COMPARE_STEP);
	if (!now || !was)
		r = -ENOMEM;
	for (uint64_t off = 0; off < size && r == 0; off += COMPARE_STEP) {
		size_t len = size - off < COMPARE_STEP ? (size_t)(size - off) : COMPARE_STEP;

		r = io_pread_all(copy_fd(copy), now, len, off);
		if (r == 0)
			r = read_served(c, off, was, len, size);
		if (r == 0)
			r = write_differences(c, now, was, len, off);
	}
	lock_acquire(&c->lock);
	size = c->accounted;
	lock_release(&c->lock);
	index_occupies(c->st, c->ino, size);
	mem_free_pages(now, COMPARE_STEP);
	mem_free_pages(was, COMPARE_STEP);
	copy_put(copy);
	return r;
}

void serving_stop(struct ctx *c)
{
	int r;

	if (serving_end(c))
		return;
	gate_enter(&c->gate, true);
	r = serving_write_back(c);
	gate_leave(&c->gate, true);
	if (r < 0)
		log_error(c->st->log, "stores into a mapping of inode %llu are lost: %s",
			  (unsigned long long)c->ino, err_text(r));
}

bool serving_end(struct ctx *c)
{
	bool ended = false;
	int r = 0;

	gate_enter(&c->gate, true);
	lock_acquire(&c->lock);
	if (c->copy_shared && c->passthrough == 0 && !copy_in_use(c->copy))
		ended = true;
	lock_release(&c->lock);
	if (ended)
		r = serving_write_back(c);
	if (ended && r == 0) {
		lock_acquire(&c->lock);
		c->copy_shared = false;
		c->dirty = true;
		lock_release(&c->lock);
		space_drop_dram(c, false, true); /* before anything else can change the file */
	} else if (ended) {
		ctx_lose(c);
		log_error(c->st->log, "stores into a mapping of inode %llu could not be kept: %s",
			  (unsigned long long)c->ino, err_text(r));
		ended = false;
	}
	gate_leave(&c->gate, true);
	return ended;
}
