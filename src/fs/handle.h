/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_FS_HANDLE_H
#define KVCACHEFS_FS_HANDLE_H
/* Open handles (what fi->fh points to) and the buffers of reads. */
#include "fs/fs_types.h"

/* A handle in the list of open ones; NULL when out of memory. */
struct handle *handle_create(struct fs *fs, enum handle_kind kind);
/* Closes what it owns and frees it. */
void handle_destroy(struct fs *fs, struct handle *h);
/* What clients left open when the mount ended. */
void handles_close_all(struct fs *fs);

static inline struct handle *handle_of(const struct fuse_file_info *fi)
{
	return (struct handle *)(uintptr_t)fi->fh;
}

/* Page-aligned room of FS_REQUEST_MAX bytes, the most recently used first.
 * NULL when out of memory. */
void *scratch_take(struct fs *fs);
void scratch_give(struct fs *fs, void *buf);
void scratch_fini(struct fs *fs);

#endif
