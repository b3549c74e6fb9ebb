/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_FS_INIT_H
#define KVCACHEFS_FS_INIT_H
/* The handshake with the kernel, past what libfuse 3.14 can negotiate. */
#include "fs/fs_types.h"

/* The lowlevel init hook: what libfuse itself knows. */
void init_conn(void *userdata, struct fuse_conn_info *conn);
/* Routes the session's I/O through us, so that the reply to INIT can be
 * completed. -errno. */
WUR int init_take_over(struct fs *fs);
/* Tries what was negotiated: registers a backing file, raises read-ahead. */
void init_probe(struct fs *fs);

#endif
