/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_STORE_REPLICA_H
#define KVCACHEFS_STORE_REPLICA_H
/*
 * The encoded copy of a context in DRAM, in the arena: each chunk in
 * the DRAM form of its codec (or the SSD form where that is smaller). Of a chunk
 * with layers it may hold the first ones only: who needs more reads the rest from
 * the object. Filled chunk by chunk; readable while incomplete. Reference-counted:
 * evicting drops the owner's reference, readers keep theirs. Each layer of a chunk
 * has its sum (kind 4), checked before every decode of it.
 */
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "codecs/codec.h"
#include "store/object.h"
#include "tiers/tier.h"

struct replica;

/* For @o's chunks; the table counts in the budget. -ENOMEM, -KVFS_EBUDGET. */
WUR int replica_create(struct arena *a, const struct object *o, struct replica **ret);
struct replica *replica_get(struct replica *r);
void replica_put(struct replica *r); /* NULL ok */

/* Copies the stored form of @chunk, its first @n layers, into the arena. -EEXIST when
 * it is there already, -KVFS_EBUDGET (caller makes room and retries), -ENOMEM. */
WUR int replica_add_layers(struct replica *r, uint32_t chunk, unsigned codec,
			   const struct codec_in in[], unsigned n);
/* The same of a chunk with one layer. */
WUR int replica_add(struct replica *r, uint32_t chunk, unsigned codec, const void *p, size_t len);
/* Bytes of the budget that adding @len is best given: for several chunks at once. */
uint64_t replica_wants(struct replica *r, size_t len);

struct replica_form {
	unsigned codec, n;                    /* layers that are there */
	struct codec_in in[CODEC_LAYERS_MAX]; /* the first n are set */
};
/* The stored form of @chunk, valid while the reference is held: false if absent. */
bool replica_find(const struct replica *r, uint32_t chunk, struct replica_form *ret);
/* Verifies the first @n layers of what replica_find returned: 0 or -KVFS_ECHECKSUM. */
WUR int replica_check(const struct replica *r, uint32_t chunk, const struct replica_form *f,
		      unsigned n);
/* The chunk is damaged: not found any more, by nobody; who has it keeps it. */
void replica_bad(struct replica *r, uint32_t chunk);
bool replica_complete(const struct replica *r);
/* How many layers of a chunk it is meant to hold at most; all unless it was said, with
 * about how many bytes they will be, before anything is added. */
unsigned replica_layers(const struct replica *r);
void replica_set_layers(struct replica *r, unsigned n, uint64_t expected_bytes);
uint64_t replica_bytes(const struct replica *r);
const struct object *replica_object(const struct replica *r); /* borrowed; tables only */
/* A new one that has of each chunk of @r, which is complete, the first @n layers at most.
 * -ENOMEM, -KVFS_EBUDGET, -EAGAIN when one of its chunks is damaged. */
WUR int replica_trim(struct replica *r, unsigned n, struct replica **ret);

#endif
