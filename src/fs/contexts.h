/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_FS_CONTEXTS_H
#define KVCACHEFS_FS_CONTEXTS_H
/*
 * The file .kvcachefs/contexts: one line per context, produced by a thread of
 * its own into a bounded buffer while somebody reads, so that a million of
 * them cost no memory. Reading backwards begins anew.
 */
#include "fs/fs_types.h"

struct contexts;

/* -ENOMEM, -EAGAIN. */
WUR int contexts_open(struct fs *fs, struct contexts **ret);
/* Answers with the bytes at @off; waits for the producer. */
void contexts_read(fuse_req_t req, struct contexts *c, size_t size, off_t off);
/* Stops the producer, waits for it. NULL ok. */
void contexts_close(struct contexts *c);
/* The line of one context, tab-separated; the head line names the columns. */
void contexts_head(struct sbuf *out);
void contexts_line(const char *path, const struct ctx_info *i, struct sbuf *out);

#endif
