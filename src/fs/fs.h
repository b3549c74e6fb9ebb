/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_FS_FS_H
#define KVCACHEFS_FS_FS_H
/*
 * The FUSE side of the program, as main.c sees it. Life: fs_create, fs_mount
 * (mounts, shakes hands with the kernel, probes the fast paths), store_start
 * by the caller, fs_start (threads), fs_wait, fs_stop, store_close by the
 * caller, fs_destroy. All from the main thread.
 */
#include <stdbool.h>

#include "base/err.h"
#include "base/log.h"
#include "base/sbuf.h"
#include "fs/options.h"
#include "store/store.h"

struct fs;

/* @opt, @st and @log are borrowed until fs_destroy. -ENOMEM. */
WUR int fs_create(const struct options *opt, struct store *st, struct log *log, struct fs **ret);
/* Mounts and answers the kernel's first request. Fails with a text for people
 * in @why; nothing stays mounted then. */
WUR int fs_mount(struct fs *fs, struct sbuf *why);
/* enum path_bits that the probe found working; valid after fs_mount. */
unsigned fs_paths(const struct fs *fs);
/* What store_start wants, with @fs as its argument. */
extern const struct store_kernel_ops fs_kernel_ops;
/* Starts serving. -EAGAIN (no threads), -ENOMEM. */
WUR int fs_start(struct fs *fs);
/* Blocks until the mount is gone (0) or @signal_fd becomes readable (1). */
int fs_wait(struct fs *fs, int signal_fd);
/* Lets mapped pages be written back, ends the threads, unmounts if the mount
 * is still there, closes what clients left open. No store call comes after. */
void fs_stop(struct fs *fs);
/* NULL ok. After store_close. */
void fs_destroy(struct fs *fs);
/* One line per fast path: on, or off and why. */
void fs_dump_features(const struct fs *fs, struct sbuf *out);

#endif
