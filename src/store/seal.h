/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_STORE_SEAL_H
#define KVCACHEFS_STORE_SEAL_H
/* Between the sealing of one file (seal.c), its queue (sealer.c) and its
 * replica (move_replica.c). */
#include "store/store_types.h"

/* Seals @c up to the switch, on the calling thread. Then seal_finish must
 * follow a durable commit. -EBUSY open or mapped, -EALREADY sealed,
 * -KVFS_ECANCELED opened meanwhile, -KVFS_ENOGAIN stays plain, -code. */
WUR int seal_run(struct ctx *c, struct node *n, bool want_replica);
/* Around a seal: waits until fewer than the limit are in progress. Nothing held. */
void seal_enter(struct store *st);
void seal_leave(struct store *st);
/* The punch and the bookkeeping after it. */
void seal_finish(struct ctx *c, struct node *n);
/* Puts the inode's file handle into an intent where there are handles. */
void seal_intent_handle(int fd, struct intent *i);

/* Who has claimed @c, to seal or thin it, is to give up: it was opened or unlinked, or
 * the mount ends. */
bool seal_canceled(struct ctx *c);
/* A plain file has no copy that does not follow it; never is one served of what is
 * sealed now that was made of what was sealed before: 0 when there is none left, -EBUSY.
 * Gate exclusive. */
WUR int seal_copy_gone(struct ctx *c);
/* A lease on @c's descriptor, which stays open until it is given back: 0 also where there are
 * none; -EBUSY others have the file open or mapped, or the claim was cancelled. Gate exclusive. */
WUR int seal_lease(struct ctx *c);
void seal_unlease(struct ctx *c);
/* Asks who has claimed @c to give up, which that notices at its next step, and gives the lease
 * back for it. Without the gate. */
void seal_cancel(struct ctx *c);
/* Gives claim and lease back. Gate exclusive. */
void seal_unclaim_locked(struct ctx *c);

/* A replica for @c's object that is being written; NULL when there is no room. */
void seal_replica_begin(struct ctx *c, struct replica **ret, const struct object_id *id,
			const struct layout_chunk *chunks, uint32_t n);
/* replica_add_layers that makes room in DRAM first. */
WUR int replica_add_room(struct store *st, struct replica *r, const struct ctx *keep,
			 uint32_t chunk, unsigned codec, const struct codec_in in[], unsigned n);

#endif
