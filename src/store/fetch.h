/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_STORE_FETCH_H
#define KVCACHEFS_STORE_FETCH_H
/*
 * From the device to decoded bytes. Private to the reader. A *fetch* brings the
 * stored layers of one chunk that level needs and the replica lacks; a *load* makes a
 * slot of the window READY, by a fetch, from the replica or both, on whichever thread
 * is best.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "codecs/codec.h"
#include "store/object.h"
#include "store/pages.h"
#include "store/replica.h"
#include "tiers/tier.h"

struct fbuf;
struct reader;
struct slot;

struct fetch_read {
	struct tier_read rd;
	struct fbuf *f;
	size_t need; /* bytes that it must bring */
};

/* Stored bytes of one chunk: the aligned ranges of its layers one after another
 * in one buffer. No allocation between submitting and decoding. */
struct fbuf {
	struct pbuf p;            /* first: pages.h */
	struct fetch_read reads[CODEC_LAYERS_MAX];
	struct codec_in in[CODEC_LAYERS_MAX]; /* the layers' own bytes within p, from first on */
	_Atomic unsigned pending; /* reads not done, plus one while submitting */
	_Atomic int err;          /* the first one */
	/* All reads are done; err says how. Called exactly once, without locks, on a
	 * thread of the tier or inside fetch_start. */
	void (*ready)(struct fbuf *f);
	void *owner;              /* of whoever set ready */
	uint32_t chunk;
	unsigned first;           /* layers before it are the replica's */
};

/* Layers of the chunk that @n_layers of the object mean. */
unsigned fetch_layers(const struct object *o, uint32_t chunk, unsigned n_layers);
/* Of these @n_layers (as fetch_layers gave them), how many the replica (may be NULL) has,
 * from the first on, in a form that the object's others go with. *ret_codec is its form
 * when there are any. */
unsigned fetch_in_memory(const struct replica *rep, const struct object *o, uint32_t chunk,
			 unsigned n_layers, unsigned *ret_codec);
/* Room that a fetch of the chunk's layers [first, n_layers) needs; never 0. */
size_t fetch_bytes(const struct object *o, uint32_t chunk, unsigned first, unsigned n_layers);
/* Submits the reads of these; @f->ready and owner are set; @o lives until ready. */
void fetch_start(struct reader *r, struct fbuf *f, const struct object *o, uint32_t chunk,
		 unsigned first, unsigned n_layers);

/* Verifies and decodes into @dst (the whole chunk). -KVFS_ECHECKSUM,
 * -KVFS_ECODEC, -ENOMEM. */
WUR int fetch_decode(struct reader *r, const struct object *o, uint32_t chunk, unsigned n_layers,
		     const struct codec_in in[], void *dst, unsigned flags);
/* The same with layers [0, first) from the replica, which has them, and the others in
 * @in (not looked at when there are none). What is wrong with the replica is noted in it. */
WUR int fetch_decode_replica(struct reader *r, const struct object *o, struct replica *rep,
			     uint32_t chunk, unsigned first, unsigned n_layers,
			     const struct codec_in in[], void *dst, unsigned flags);

/* Starts a slot that window_new_locked gave: with its first @first layers from @rep, the
 * others from the device into slot->fb. @here: what needs no fetch is decoded by the
 * caller itself, now; else workers do. The window's lock is not held. */
void load_start(struct reader *r, struct slot *s, const struct object *o, struct replica *rep,
		unsigned first, bool here);
/* Waits until the pinned slot is READY, helping meanwhile. On failure the pin
 * is gone, and *@ret_of_rep says whether it was a replica that failed. */
WUR int load_wait(struct reader *r, struct slot *s, bool *ret_of_rep);

#endif
