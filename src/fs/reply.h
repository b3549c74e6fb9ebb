/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_FS_REPLY_H
#define KVCACHEFS_FS_REPLY_H
/*
 * Answers. The only place where codes of base/err.h become errno values. Every
 * function ends the request; those that return int say whether the kernel took
 * the answer (0) or the caller must take back what it gave (-errno).
 */
#include "fs/fs_types.h"

/* @code: 0 or (negative or positive) code. */
void reply_code(fuse_req_t req, int code);
void reply_attr(fuse_req_t req, const struct stat *attr);
/* A looked-up or created name; @n carries one reference, given back when the
 * kernel did not take the answer. */
void reply_entry(fuse_req_t req, struct node *n, const struct stat *attr);
/* No such name, for as long as nobody creates it. */
void reply_absent(fuse_req_t req);
/* Open replies by hand, for flags that libfuse 3.14 does not know. */
WUR int reply_open(fuse_req_t req, struct handle *h, unsigned kf_flags, int backing_id);
WUR int reply_create(fuse_req_t req, struct node *n, const struct stat *attr, struct handle *h,
		     unsigned kf_flags, int backing_id);
/* Notes setuid bits that the kernel is about to see. */
void reply_note_mode(struct fs *fs, mode_t mode);

#endif
