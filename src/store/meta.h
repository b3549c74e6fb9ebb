/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_STORE_META_H
#define KVCACHEFS_STORE_META_H
/*
 * STORE/meta, an LMDB environment with three tables:
 *   intents  durable before the step they cover, so that recovery looks only at
 *            what was in flight
 *   index    per file its directory, name, bytes, hits; per directory its parent
 *            and name. Rebuildable from tree/; written in batches, so it may
 *            lag behind by seconds after a crash ("clean" in state says so)
 *   state    totals and the clean flag
 * Thread-safe. Updates of the index are queued in memory (bounded) and merged;
 * meta_flush writes them in one transaction.
 */
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "store/object.h"

struct meta;

enum meta_flags {
	META_DIR = 1,
	META_SEALED = 2,
	META_PENDING = 4, /* plain and not yet examined by the sealer */
	META_PINNED = 8,
	META_DAMAGED = 16,
};
/* What was found out about the error of levels since the object was sealed: resample.c. */
struct meta_sample {
	uint32_t object; /* object_mark() of what was sampled */
	uint32_t n;      /* samples, with that of the seal; 0: nothing */
	float errors[KVFS_OBJECT_LAYERS]; /* mean over them */
};
/* One file or directory. Stored little-endian: meta_rec.h. */
struct meta_rec {
	uint64_t parent_ino;
	uint64_t stored_bytes;  /* tree file's blocks and object together */
	uint64_t logical_bytes;
	uint64_t hits;
	uint64_t heat_ns;       /* CLOCK_REALTIME at which heat holds */
	double heat;            /* decayed hits */
	uint64_t last_ns;       /* CLOCK_REALTIME of the last open */
	uint32_t flags;
	uint32_t sum;           /* set and checked by meta_rec.c */
	char name[NAME_MAX + 1];
	struct meta_sample sample;
};

struct meta_totals {
	uint64_t files, sealed, stored_bytes, logical_bytes;
};

enum intent_kind { INTENT_SEAL = 1, INTENT_UNSEAL = 2, INTENT_CUT = 3 };
struct intent {
	uint32_t kind;
	uint32_t generation;
	uint8_t id[16];
	uint64_t ino;          /* tree inode */
	uint64_t parent_ino;   /* where it was then */
	uint32_t handle_len;   /* file handle (name_to_handle_at), 0 none */
	int32_t handle_type;
	uint8_t handle[64];
	char name[NAME_MAX + 1];
	uint64_t sum;          /* set and checked by meta.c: a wrong one must not act */
};

/* Opens STORE/meta below @store_fd. @ret_clean: the last close was clean and
 * the index belongs to this very tree (@tree_ino, @fsid); else rebuild it.
 * -errno, -KVFS_EFORMAT (damaged database: the caller may delete and retry). */
WUR int meta_open(int store_fd, uint64_t tree_ino, uint64_t fsid, bool read_only,
		  struct meta **ret, bool *ret_clean);
/* Reads all of the database, so that damage does not crash LMDB: -KVFS_EFORMAT
 * when it must be made anew, -errno. Before meta_open. */
WUR int meta_check(int store_fd);
/* Flushes; @clean marks the index trustworthy. NULL ok. */
void meta_close(struct meta *m, bool clean);
/* The database was last used with this very tree: inode numbers and file handles
 * in it mean something. */
bool meta_same_tree(const struct meta *m);
/* The next mount shall rebuild the index. */
void meta_unclean(struct meta *m);
/* Marks the index untrustworthy until the next clean close; durable. */
WUR int meta_begin(struct meta *m);
/* Empties the index before a rebuild. */
WUR int meta_reset_index(struct meta *m);

/* Durable when it returns (concurrent callers share one commit). */
WUR int meta_intent_put(struct meta *m, struct intent *i);
/* @durable makes all changes of the filesystem so far durable; a flush calls it
 * before intents go. Before threads run. */
void meta_set_durable(struct meta *m, int (*durable)(void *arg), void *arg);
/* Lazy: gone with the next flush. */
void meta_intent_del(struct meta *m, const struct object_id *id);
/* Every intent; @cb -code stops and is returned. Only before threads run. */
WUR int meta_each_intent(struct meta *m, int (*cb)(void *arg, const struct intent *i), void *arg);

/* Queues; a later put of one inode replaces an earlier one. -ENOMEM. */
WUR int meta_put(struct meta *m, uint64_t ino, const struct meta_rec *r);
WUR int meta_del(struct meta *m, uint64_t ino);
/* What is queued counts. -ENOENT. */
WUR int meta_get(struct meta *m, uint64_t ino, struct meta_rec *ret);
/* All of the index as of the last flush plus nothing queued: flush first. @cb
 * false stops. Runs inside a read transaction: do not call meta_* from @cb. */
WUR int meta_each(struct meta *m, bool (*cb)(void *arg, uint64_t ino, const struct meta_rec *r),
		  void *arg);
/* Writes the queue in one transaction. @sync: durable. -ENOSPC, -EIO. */
WUR int meta_flush(struct meta *m, bool sync);
bool meta_wants_flush(const struct meta *m); /* the queue is getting long */
void meta_totals(struct meta *m, struct meta_totals *ret);

#endif
