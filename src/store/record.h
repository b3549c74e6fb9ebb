/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_STORE_RECORD_H
#define KVCACHEFS_STORE_RECORD_H
/*
 * The record: 64 bytes in an xattr of the inode in tree/ that say where its
 * content is. Setting it is the one durable switch of sealing and unsealing.
 * Values in memory are in host order; these functions convert and check.
 */
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "kvcachefs/format.h"
#include "store/object.h"

bool record_is_name(const char *xattr); /* either spelling */
/* The object that it names. */
void record_object(const struct kvfs_record *r, struct object_id *ret);

void record_pack(const struct kvfs_record *r, uint8_t out[64]);
/* A sealed record of version 1 gets the flag OVERLAY, which it meant.
 * -KVFS_EFORMAT, -KVFS_EVERSION, -KVFS_ECHECKSUM. */
WUR int record_unpack(const uint8_t in[64], size_t len, struct kvfs_record *ret);

/* Reads it from @fd, or from @path when fd is -1 (not following symlinks).
 * -ENODATA when there is none; as record_unpack, or -errno. */
WUR int record_get(int fd, const char *path, const char *xattr, struct kvfs_record *ret);
/* Replaces it. Not durable by itself. -ENOSPC when there is no room for xattrs, -errno. */
WUR int record_set(int fd, const char *xattr, const struct kvfs_record *r);

#endif
