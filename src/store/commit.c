/* SPDX-License-Identifier: MIT */
/*
 * Durable commits, shared. Sealing switches, punches and deletions must each be
 * durable before the next step, but one flush of the device serves everybody
 * who asked before it began.
 *
 * ext4 and XFS journal metadata in order: fsync of any inode that changed
 * makes all earlier metadata changes durable without writing other files' data.
 * So the barrier dirties and fsyncs one small file. btrfs has a commit ioctl;
 * elsewhere it is syncfs. On ext4 without a journal the barrier orders nothing:
 * there commit_inode does for a file whose record changes, and unlink and rename
 * are as safe as that filesystem makes them.
 *
 * Failure: a barrier that failed is reported to everybody who waited for it, the
 * queued work included (recovery will find what it leaves); it is never retried for
 * the same callers, because a second fsync would succeed without the data.
 */
#include <errno.h>
#include <linux/btrfs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/io.h"
#include "base/thread.h"
#include "store/store_types.h"

static int barrier_now(struct store *st)
{
	int r;

	store_count(st, CNT_BARRIERS, 1);
	r = FAULT_POINT("barrier.before");
	if (r < 0)
		return r;
	switch (st->fs_type) {
	case FS_EXT4:
	case FS_XFS:
		/* a size that always changes: a write within one clock tick of
		 * the last would leave the inode clean and commit nothing */
		st->commit.flips++;
		if (ftruncate(st->barrier_fd, (off_t)(st->commit.flips & 1)) < 0)
			return -errno;
		return io_fsync(st->barrier_fd);
	case FS_BTRFS:
		return ioctl(st->tree_fd, BTRFS_IOC_SYNC, 0) < 0 ? -errno : 0;
	default:
		return syncfs(st->tree_fd) < 0 ? -errno : 0;
	}
}

int commit_inode(struct store *st, int fd)
{
	return st->ordered || st->fs_type == FS_BTRFS ? 0 : io_fsync(fd);
}

static void run_all(struct store *st, struct list *work, int result)
{
	list_for_each_safe(l, tmp, work) {
		struct after *a = container_of(l, struct after, link);

		list_del(l);
		a->run(st, a, result);
	}
}

static void *committer(void *arg)
{
	struct store *st = arg;
	struct committer *c = &st->commit;

	lock_acquire(&c->lock);
	for (;;) {
		struct list work;
		uint64_t upto;
		int r;

		while (c->asked == c->finished && !c->stop)
			cond_wait(&c->wake, &c->lock);
		if (c->asked == c->finished)
			break;
		upto = c->asked;
		list_init(&work);
		list_for_each_safe(l, tmp, &c->queue) {
			list_del(l);
			list_add_tail(&work, l);
		}
		lock_release(&c->lock);
		r = barrier_now(st);
		if (r < 0)
			log_error(st->log, "durable commit of the store failed: %s", err_text(r));
		lock_acquire(&c->lock);
		if (r < 0) {
			c->failed_upto = upto;
			c->failure = r;
		}
		c->finished = upto;
		cond_broadcast(&c->done);
		lock_release(&c->lock);
		run_all(st, &work, r);
		lock_acquire(&c->lock);
	}
	lock_release(&c->lock);
	return NULL;
}

int commit_start(struct store *st)
{
	struct committer *c = &st->commit;
	int r = thread_start("kvfs-commit", committer, st, &c->thread);

	c->running = r == 0;
	return r;
}

void commit_stop(struct store *st)
{
	struct committer *c = &st->commit;

	if (!c->running)
		return;
	lock_acquire(&c->lock);
	c->stop = true;
	cond_signal(&c->wake);
	lock_release(&c->lock);
	pthread_join(c->thread, NULL);
	c->running = false;
}

int commit_barrier(struct store *st)
{
	struct committer *c = &st->commit;
	uint64_t mine;
	int r;

	if (!c->running)
		return barrier_now(st);
	lock_acquire(&c->lock);
	mine = ++c->asked;
	cond_signal(&c->wake);
	while (c->finished < mine)
		cond_wait(&c->done, &c->lock);
	/* others may have run and ended since: a failure is never overlooked, and a
	 * later one may be taken for ours */
	r = c->failed_upto >= mine ? c->failure : 0;
	lock_release(&c->lock);
	return r;
}

void commit_after(struct store *st, struct after *a)
{
	struct committer *c = &st->commit;

	if (!c->running) {
		a->run(st, a, barrier_now(st));
		return;
	}
	lock_acquire(&c->lock);
	c->asked++;
	list_add_tail(&c->queue, &a->link);
	cond_signal(&c->wake);
	lock_release(&c->lock);
}
