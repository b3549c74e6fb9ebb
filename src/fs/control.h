/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_FS_CONTROL_H
#define KVCACHEFS_FS_CONTROL_H
/*
 * The virtual directory .kvcachefs at the root of the mount: reachable by
 * name, left out of listings, read-only. status, metrics and config are made
 * when opened; contexts (paths of everybody: for the owner of the mount) is
 * produced while it is read.
 */
#include "fs/fs_types.h"

bool control_is_name(fuse_ino_t parent, const char *name);
/* These answer the request and return true when it is about a control file. */
bool control_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
bool control_getattr(fuse_req_t req, fuse_ino_t ino);
bool control_open(fuse_req_t req, fuse_ino_t ino, int flags);
/* For handles of the control directory and of its texts. */
void control_readdir(fuse_req_t req, size_t size, off_t off, bool plus);
void control_read(fuse_req_t req, struct handle *h, size_t size, off_t off);

/* The texts (control_text.c). */
void control_status(struct fs *fs, struct sbuf *out);
void control_metrics(struct fs *fs, struct sbuf *out);
void control_config(struct fs *fs, struct sbuf *out);

#endif
