/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_STORE_SEAL_ENC_H
#define KVCACHEFS_STORE_SEAL_ENC_H
/*
 * Chunks of content into an object and a replica: what sealing (seal.c),
 * re-layering (relayer.c) and dropping tokens (thin.c) have in common. Belongs to one thread.
 */
#include "store/store_types.h"

/* Chunks are cut to about the first, and are never longer than the second. */
#define SEAL_CHUNK_TARGET (768u << 10)
#define SEAL_CHUNK_MAX (1u << 20)

struct seal_enc {
	struct store *st;
	const struct ctx *keep;   /* does not give way for the replica */
	struct codec_ctx *codec;
	uint8_t *src, *dec;       /* SEAL_CHUNK_MAX bytes each: original, decoded again */
	uint8_t *enc;             /* encoded, one layer after another */
	size_t enc_bytes;
	uint64_t counted;         /* of the memory budget, for all of these */
	unsigned layers;          /* most of one chunk; 1: the exact form */
	unsigned rep_layers;      /* of these, for the replica */
	struct estimate *est;     /* owned, or NULL: nothing to tell */
	struct object_writer *w;  /* owned; set by the caller, as is ... */
	struct replica *rep;      /* owned, or NULL: out of room, or none wanted */
};

/* One that encodes as this mount does; the caller's. -ENOMEM. */
WUR int seal_codec_create(const struct store *st, struct codec_ctx **ret);
/* @layered: K and V become layers where they can. Room is taken from the memory
 * budget by force: a seal goes on in any case. -ENOMEM. fini follows either way. */
WUR int seal_enc_init(struct seal_enc *e, struct store *st, const struct ctx *keep, bool layered);
void seal_enc_fini(struct seal_enc *e);
/* Says to the replica, when there is one, that it gets rep_layers of the chunks' layers. */
void seal_enc_prefix(struct seal_enc *e, uint64_t logical_bytes);
/* More memory that goes with this seal. */
void seal_enc_count(struct seal_enc *e, uint64_t bytes);
/* Layers will be made of @chunks (borrowed): their levels' errors are estimated. */
WUR int seal_enc_sample(struct seal_enc *e, const struct layout *l,
			const struct layout_chunk *chunks, uint32_t n_chunks);
/* Finishes the object, with what was found out. */
WUR int seal_enc_finish(struct seal_enc *e, uint64_t *ret_stored_bytes);
/* Room on storage for the next chunk and some more, for who makes an object in the place
 * of another; added to *@reserved, which the caller gives back. -KVFS_EFULL. */
WUR int seal_enc_room(struct seal_enc *e, uint64_t ino, uint64_t *reserved);
/* Encodes e->src as chunk @i, decodes and compares it, adds it to object and replica.
 * -KVFS_EVERIFY, -errno of the writer. */
WUR int seal_enc_chunk(struct seal_enc *e, uint32_t i, const struct layout_chunk *ch);

#endif
