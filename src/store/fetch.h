/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_STORE_FETCH_H
#define KVCACHEFS_STORE_FETCH_H
/*
 * From the device to decoded bytes. Private to the reader. A *fetch* brings the
 * stored layers of one chunk; a *load* makes a slot of the window READY, by a
 * fetch or from the replica, on whichever thread is best.
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
	struct codec_in in[CODEC_LAYERS_MAX]; /* the layers' own bytes within p */
	_Atomic unsigned pending; /* reads not done, plus one while submitting */
	_Atomic int err;          /* the first one */
	/* All reads are done; err says how. Called exactly once, without locks, on a
	 * thread of the tier or inside fetch_start. */
	void (*ready)(struct fbuf *f);
	void *owner;              /* of whoever set ready */
	uint32_t chunk;
};

/* Room that a fetch of the chunk's first @n_layers needs. */
size_t fetch_bytes(const struct object *o, uint32_t chunk, unsigned n_layers);
/* Submits the reads; @f->ready and owner are set; @o lives until ready. */
void fetch_start(struct reader *r, struct fbuf *f, const struct object *o, uint32_t chunk,
		 unsigned n_layers);
/* Layers of the chunk that level @n_layers - 1 needs. */
unsigned fetch_layers(const struct object *o, uint32_t chunk, unsigned n_layers);

/* Verifies and decodes into @dst (the whole chunk). -KVFS_ECHECKSUM,
 * -KVFS_ECODEC, -ENOMEM. */
WUR int fetch_decode(struct reader *r, const struct object *o, uint32_t chunk, unsigned n_layers,
		     const struct codec_in in[], void *dst, unsigned flags);
/* The same from the replica, which holds the chunk. */
WUR int fetch_decode_replica(struct reader *r, const struct object *o, struct replica *rep,
			     uint32_t chunk, void *dst, unsigned flags);

/* Starts a slot that window_new_locked gave: from @rep when not NULL, else from
 * the device into slot->fb. @here: the caller decodes a replica's chunk itself,
 * now; else workers do. The window's lock is not held. */
void load_start(struct reader *r, struct slot *s, const struct object *o, struct replica *rep,
		bool here);
/* Waits until the pinned slot is READY, helping meanwhile. On failure the pin
 * is gone, and *@ret_of_rep says whether it was a replica that failed. */
WUR int load_wait(struct reader *r, struct slot *s, bool *ret_of_rep);

#endif
