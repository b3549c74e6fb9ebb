/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_STORE_WINDOW_H
#define KVCACHEFS_STORE_WINDOW_H
/*
 * The window: decoded chunks that were read lately, are being decoded, or will
 * be read soon. Private to the reader (read.c, fetch.c, decode_all.c). The
 * states of a slot are in a table at the head of window.c.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/list.h"
#include "base/lock.h"
#include "base/workers.h"
#include "codecs/codec.h"
#include "store/object.h"
#include "store/pages.h"
#include "store/replica.h"
#include "tiers/tier.h"

struct reader;

struct fbuf; /* fetch.h: encoded bytes on their way from the device */

enum slot_state { SLOT_FREE, SLOT_LOADING, SLOT_READY, SLOT_FAILED };
/* Of a slot that is LOADING. */
enum slot_phase {
	PHASE_FETCH,     /* reads in flight */
	PHASE_QUEUED,    /* decoding waits in the workers' queue */
	PHASE_CLAIMABLE, /* fetched, and a waiting reader was woken to decode it */
	PHASE_DECODE,    /* some thread decodes */
};

struct slot {
	struct list link;        /* free, reuse or lru list; unlinked while pinned or LOADING */
	struct slot *hash_next;
	struct reader *reader;
	enum slot_state state;
	enum slot_phase phase;
	bool hashed, consumed, cheap, ahead;
	bool of_rep;             /* loaded from a replica, well or not */
	unsigned pins, sleepers;
	int err;                 /* FAILED */
	struct object_id id;     /* key, with chunk and n_layers */
	uint32_t chunk;
	unsigned n_layers;       /* decoded from; of them ... */
	unsigned first;          /* ... so many from rep, while LOADING */
	uint32_t len_bytes;      /* decoded */
	struct pbuf *buf;        /* owned while not FREE */
	struct cond cond;        /* the state or phase changed */
	/* while LOADING, owned by the load: */
	struct object *obj;
	struct replica *rep;     /* has the first layers, or NULL */
	struct fbuf *fb;         /* for the others, or NULL */
	struct work work;
};

struct window {
	struct lock lock;        /* guards everything here and every slot */
	struct cond avail;       /* a buffer or slot may be had now */
	unsigned avail_waiters GUARDED;
	uint64_t waits GUARDED;  /* times that somebody began to */
	struct slot *slots;      /* owned, all of them */
	unsigned n_slots;
	struct slot **hash GUARDED;
	unsigned n_hash;         /* power of two */
	struct list free GUARDED;  /* slots without a buffer */
	struct list reuse GUARDED; /* consumed and cheap to make again: newest first */
	struct list lru GUARDED;   /* oldest first */
	unsigned n_loading GUARDED;
	struct pages dec GUARDED;  /* decoded */
	struct pages enc GUARDED;  /* encoded: struct fbuf */
	uint64_t hits GUARDED, joined GUARDED, ahead_unused GUARDED;
};

WUR int window_init(struct window *w, struct reader *r, struct budget *b, uint64_t window_bytes,
		    uint64_t buffer_bytes);
/* Nothing may be pinned or LOADING. */
void window_fini(struct window *w);

/* What a slot is wanted for. */
struct slot_want {
	const struct object *obj;
	uint32_t chunk;
	unsigned n_layers;
	size_t fetch_bytes; /* room for encoded bytes; 0: not from the device */
	bool demand;        /* somebody waits: reserved buffers and others' ahead slots may be taken */
};

/* The slot that holds or loads the chunk, or NULL. Not pinned. */
struct slot *window_find_locked(struct window *w, const struct slot_want *q) REQUIRES(w->lock);
/*
 * A LOADING slot for a chunk that window_find_locked did not find, entered under
 * its key, with buffers, not pinned. 0; -EAGAIN: the lock was given up meanwhile,
 * look again; -EBUSY: nothing can be had without waiting for avail; -ENOMEM.
 */
WUR int window_new_locked(struct window *w, const struct slot_want *q, struct slot **ret)
	REQUIRES(w->lock);
void window_pin_locked(struct window *w, struct slot *s) REQUIRES(w->lock);
void window_unpin_locked(struct window *w, struct slot *s) REQUIRES(w->lock);
/* LOADING -> READY or FAILED (@err); wakes those who wait. The caller gives back
 * what obj and rep were. */
void window_loaded_locked(struct window *w, struct slot *s, int err) REQUIRES(w->lock);
/* Waits until something was freed. */
void window_wait_locked(struct window *w) REQUIRES(w->lock);
void window_forget(struct window *w, const struct object_id *id);
void window_shrink(struct window *w, struct budget *b, uint64_t bytes);

/* Asserts what window.c's table says; nothing in ordinary builds. */
void window_check_locked(struct window *w) REQUIRES(w->lock);

/* Encoded buffers outside of slots (decode_all); NULL when there is none and
 * not @wait, or when out of memory. */
struct fbuf *window_fbuf_get(struct window *w, size_t len, bool wait);
void window_fbuf_put(struct window *w, struct fbuf *f);

#endif
