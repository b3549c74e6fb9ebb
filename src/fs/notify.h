/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_FS_NOTIFY_H
#define KVCACHEFS_FS_NOTIFY_H
/*
 * Telling the kernel to forget cached pages and names. Those calls can wait
 * for a request that is being served, so a thread of its own makes them, from
 * a queue in which equal entries are merged.
 */
#include "fs/fs_types.h"

/* -ENOMEM, -EAGAIN. */
WUR int notifier_create(struct fuse_session *se, struct log *log, struct notifier **ret);
/* Sends what is queued (unless the session is gone), joins. NULL ok. */
void notifier_destroy(struct notifier *n);
/* Queue; never fail (what cannot be queued for lack of memory is logged), and
 * wait only when very much is queued, then at most a second. */
void notifier_inval_pages(struct notifier *n, fuse_ino_t ino);
void notifier_inval_entry(struct notifier *n, fuse_ino_t dir, const char *name);
/* Waits, at most a second, until the kernel has taken all that is queued now. */
void notifier_drain(struct notifier *n);

#endif
