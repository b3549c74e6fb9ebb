/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_FS_SERVE_H
#define KVCACHEFS_FS_SERVE_H
/* The serving threads: each receives a request and runs its handler. */
#include "fs/fs_types.h"

/* Receives and answers one request on the calling thread (for INIT). 0 done,
 * 1 the session ended, -errno. */
WUR int serve_one(struct fs *fs, struct fuse_buf *buf);
/* Starts the threads. -EAGAIN, -ENOMEM. */
WUR int serve_start(struct fs *fs, unsigned threads);
/* A descriptor that becomes readable when the session has ended. */
int serve_ended_fd(const struct fs *fs);
/* Ends the session, wakes and joins all threads. Idempotent. */
void serve_stop(struct fs *fs);

#endif
