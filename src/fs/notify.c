/* SPDX-License-Identifier: MIT */
/*
 * Notifier: a FIFO of entries, hashed so that an entry that is queued already
 * is not queued twice. Node ids may be stale when their turn comes: the
 * kernel then answers ENOENT, or drops a cache too many, which is harmless.
 */
#include "fs/notify.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/thread.h"

#define NOTIFY_BUCKETS 1024u
#define NOTIFY_MANY 65536u /* from here on producers wait a little */
#define NOTIFY_PRUNE 4096u /* from here on names are not pruned */

struct note {
	struct list fifo;   /* in notifier.fifo */
	struct note *chain; /* same bucket */
	uint64_t hash;
	fuse_ino_t ino;  /* the inode, or the directory of name */
	size_t name_len; /* 0: pages of ino */
	char name[];
};

struct notifier {
	struct fuse_session *se; /* borrowed */
	struct log *log;         /* borrowed */
	pthread_t thread; /* by who starts and stops it */
	bool started;
	struct lock lock;
	struct cond more, less;
	struct list fifo GUARDED;
	struct note *bucket[NOTIFY_BUCKETS] GUARDED;
	unsigned queued GUARDED;
	uint64_t added GUARDED, sent GUARDED; /* entries so far */
	bool stop GUARDED;
	uint64_t log_state;
};

static struct note *note_take(struct notifier *n) REQUIRES(n->lock)
{
	struct note *t = container_of(n->fifo.next, struct note, fifo);
	struct note **p = &n->bucket[t->hash % NOTIFY_BUCKETS];

	while (*p != t)
		p = &(*p)->chain;
	*p = t->chain;
	list_del(&t->fifo);
	if (--n->queued == NOTIFY_MANY - 1)
		cond_broadcast(&n->less);
	return t;
}

static void note_send(struct notifier *n, const struct note *t)
{
	int r;

	if (fuse_session_exited(n->se))
		return;
	r = t->name_len ? fuse_lowlevel_notify_inval_entry(n->se, t->ino, t->name, t->name_len)
			: fuse_lowlevel_notify_inval_inode(n->se, t->ino, 0, 0);
	if (r < 0 && r != -ENOENT && r != -ENODEV && log_limited(&n->log_state, NSEC_PER_SEC))
		log_warn(n->log, "cannot invalidate %s: %s", t->name_len ? t->name : "pages",
			 strerror(-r));
}

static void *notifier_main(void *arg)
{
	struct notifier *n = arg;

	lock_acquire(&n->lock);
	while (!n->stop) {
		struct note *t;

		if (list_empty(&n->fifo)) {
			cond_wait(&n->more, &n->lock);
			continue;
		}
		t = note_take(n);
		lock_release(&n->lock);
		note_send(n, t);
		mem_free(t);
		lock_acquire(&n->lock);
		n->sent++;
		if (list_empty(&n->fifo))
			cond_broadcast(&n->less);
	}
	lock_release(&n->lock);
	return NULL;
}

int notifier_create(struct fuse_session *se, struct log *log, struct notifier **ret)
{
	struct notifier *n = mem_zalloc(sizeof(*n));

	if (!n)
		return -ENOMEM;
	n->se = se;
	n->log = log;
	lock_init(&n->lock);
	cond_init(&n->more);
	cond_init(&n->less);
	lock_acquire(&n->lock);
	list_init(&n->fifo);
	lock_release(&n->lock);
	*ret = n;
	return 0;
}

int notifier_start(struct notifier *n)
{
	int r = thread_start("kvfs-notify", notifier_main, n, &n->thread);

	n->started = r == 0;
	return r;
}

void notifier_stop(struct notifier *n)
{
	if (!n)
		return;
	lock_acquire(&n->lock);
	n->stop = true;
	cond_signal(&n->more);
	cond_broadcast(&n->less);
	lock_release(&n->lock);
	if (n->started)
		pthread_join(n->thread, NULL);
	n->started = false;
	lock_acquire(&n->lock);
	while (!list_empty(&n->fifo))
		mem_free(note_take(n));
	lock_release(&n->lock);
}

void notifier_destroy(struct notifier *n)
{
	if (!n)
		return;
	notifier_stop(n);
	cond_fini(&n->less);
	cond_fini(&n->more);
	lock_fini(&n->lock);
	mem_free(n);
}

static bool note_queued(const struct notifier *n, const struct note *t) REQUIRES(n->lock)
{
	for (const struct note *o = n->bucket[t->hash % NOTIFY_BUCKETS]; o; o = o->chain)
		if (o->hash == t->hash && o->ino == t->ino && o->name_len == t->name_len &&
		    memcmp(o->name, t->name, t->name_len) == 0)
			return true;
	return false;
}

/* Waits until less is queued, but not for long: the queue may need us. */
static void notifier_wait_room(struct notifier *n) REQUIRES(n->lock)
{
	uint64_t deadline = 0;

	while (n->queued >= NOTIFY_MANY && !n->stop) {
		if (!deadline)
			deadline = clock_mono_ns() + NSEC_PER_SEC;
		if (!cond_wait_until(&n->less, &n->lock, deadline))
			break;
	}
}

/* False when @prune and much is queued already. */
static bool notifier_add(struct notifier *n, fuse_ino_t ino, const char *name, size_t len,
			 bool prune)
{
	struct note *t = mem_alloc(sizeof(*t) + len + 1);
	bool full;

	if (!t) {
		log_error(n->log, "out of memory: the kernel keeps something stale cached");
		return !prune;
	}
	t->ino = ino;
	t->name_len = len;
	memcpy(t->name, name, len);
	t->name[len] = '\0';
	t->hash = hash64(name, len, ino);
	lock_acquire(&n->lock);
	if (!prune)
		notifier_wait_room(n);
	full = prune && n->queued >= NOTIFY_PRUNE;
	if (n->stop || full || note_queued(n, t)) {
		lock_release(&n->lock);
		mem_free(t);
		return !full;
	}
	t->chain = n->bucket[t->hash % NOTIFY_BUCKETS];
	n->bucket[t->hash % NOTIFY_BUCKETS] = t;
	list_add_tail(&n->fifo, &t->fifo);
	n->added++;
	if (n->queued++ == 0)
		cond_signal(&n->more);
	lock_release(&n->lock);
	return true;
}

void notifier_inval_pages(struct notifier *n, fuse_ino_t ino)
{
	(void)notifier_add(n, ino, "", 0, false);
}

void notifier_inval_entry(struct notifier *n, fuse_ino_t dir, const char *name)
{
	size_t len = strlen(name);

	if (len)
		(void)notifier_add(n, dir, name, len, false);
}

bool notifier_prune_entry(struct notifier *n, fuse_ino_t dir, const char *name)
{
	return notifier_add(n, dir, name, strlen(name), true);
}

void notifier_drain(struct notifier *n)
{
	uint64_t deadline = clock_mono_ns() + NSEC_PER_SEC, upto;

	lock_acquire(&n->lock);
	upto = n->added;
	while (n->sent < upto && !n->stop)
		if (!cond_wait_until(&n->less, &n->lock, deadline))
			break;
	lock_release(&n->lock);
}
