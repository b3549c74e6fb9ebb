/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_FS_NOTIFY_H
#define KVCACHEFS_FS_NOTIFY_H
/*
 * Telling the kernel to forget cached pages and names. Those calls can wait
 * for a request that is being served, so a thread of its own makes them, from
 * a queue in which equal entries are merged.
 */
#include "fs/fs_types.h"

/* A queue without a thread: what is put in waits for notifier_start. -ENOMEM. */
WUR int notifier_create(struct fuse_session *se, struct log *log, struct notifier **ret);
WUR int notifier_start(struct notifier *n); /* -EAGAIN */
/* Joins the thread, drops what is queued and what will be. While requests are
 * still served: the thread may wait for a lock that a client holds until it has
 * its answer. NULL ok; idempotent. */
void notifier_stop(struct notifier *n);
/* Stops it; nobody uses it any more. NULL ok. */
void notifier_destroy(struct notifier *n);
/* Queue; never fail (what cannot be queued for lack of memory is logged), and
 * wait only when very much is queued, then at most a second. */
void notifier_inval_pages(struct notifier *n, fuse_ino_t ino);
void notifier_inval_entry(struct notifier *n, fuse_ino_t dir, const char *name);
/* As notifier_inval_entry, for a name that may as well stay: never waits. False
 * when enough is queued already. */
WUR bool notifier_prune_entry(struct notifier *n, fuse_ino_t dir, const char *name);
/* Waits, at most a second, until the kernel has taken all that is queued now. */
void notifier_drain(struct notifier *n);

#endif
