/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_STORE_REPLICA_H
#define KVCACHEFS_STORE_REPLICA_H
/*
 * The encoded copy of a context in DRAM, in the arena: each chunk in
 * the DRAM form of its codec (or the SSD form where that is smaller). Filled
 * chunk by chunk; readable while incomplete. Reference-counted: evicting drops
 * the owner's reference, readers keep theirs. Each chunk has its sum (kind 4),
 * checked before every decode.
 */
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "store/object.h"
#include "tiers/tier.h"

struct replica;

/* For @o's chunks; the table counts in the budget. -ENOMEM, -KVFS_EBUDGET. */
WUR int replica_create(struct arena *a, const struct object *o, struct replica **ret);
struct replica *replica_get(struct replica *r);
void replica_put(struct replica *r); /* NULL ok */

/* Copies the stored form of @chunk into the arena. -EEXIST when it is there
 * already, -KVFS_EBUDGET (caller makes room and retries), -ENOMEM. */
WUR int replica_add(struct replica *r, uint32_t chunk, unsigned codec, const void *p, size_t len);
/* Bytes of the budget that adding @len is best given: for several chunks at once. */
uint64_t replica_wants(struct replica *r, size_t len);
/* The stored form of @chunk, valid while the reference is held: false if absent. */
bool replica_find(const struct replica *r, uint32_t chunk, unsigned *ret_codec,
		  const void **ret, size_t *ret_len);
/* Verifies what replica_find returned: 0 or -KVFS_ECHECKSUM. */
WUR int replica_check(const struct replica *r, uint32_t chunk, const void *p, size_t len);
/* The chunk is damaged: not found any more, by nobody; who has it keeps it. */
void replica_bad(struct replica *r, uint32_t chunk);
bool replica_complete(const struct replica *r);
uint64_t replica_bytes(const struct replica *r);

#endif
