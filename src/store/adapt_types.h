/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_STORE_ADAPT_TYPES_H
#define KVCACHEFS_STORE_ADAPT_TYPES_H
/* Shared by the files adapt*.c. */
#include "policy/adaptive.h"
#include "store/adapt.h"

#define ADAPT_MOVES_MAX 256u
/* Whoever is full right after the mount waits so long until it is known what there is. */
#define ADAPT_KNOWN_NS (10 * NSEC_PER_SEC)

enum adapt_kind { ADAPT_SEEN, ADAPT_SEALED, ADAPT_USED, ADAPT_MOVED, ADAPT_HAND, ADAPT_DROPPED,
		  ADAPT_FAILED, ADAPT_GONE };

struct adapt_event {
	struct list link;
	enum adapt_kind kind;
	uint64_t now_ns; /* CLOCK_REALTIME */
	bool last;       /* USED */
	uint32_t replica_pages; /* MOVED, USED: of one packed for memory; 0 */
	/* SEEN, SEALED: all; MOVED, USED: id and of now dram, packing, copy; DROPPED: stored;
	 * FAILED, which is not queued: all of these */
	struct cost_item it;
};

struct adapt {
	struct store *st;
	struct adaptive_config cfg; /* lock */
	struct lock lock;           /* held while planning; q_lock is taken under it */
	struct adaptive *a GUARDED; /* lock */

	struct lock q_lock; /* leaf */
	struct cond wake;
	struct list queue;               /* q_lock */
	unsigned n_queue GUARDED;        /* q_lock */
	bool stop GUARDED, limits GUARDED, walk GUARDED; /* q_lock */
	bool lost GUARDED;               /* q_lock: something that was told */
	bool whole GUARDED;              /* q_lock: the index is; walks wait for it */
	bool known GUARDED;              /* q_lock: all contexts were told of once */
	uint64_t known_by_ns GUARDED;    /* q_lock; CLOCK_MONOTONIC: nobody waits longer */
	struct cond all_known;           /* q_lock; or the end */
	struct cost_model model GUARDED; /* q_lock: a copy, for readers */
	uint64_t model_due_ns GUARDED;   /* q_lock; CLOCK_MONOTONIC: contexts are to be asked anew; 0 */

	/* the thread's own */
	uint64_t table_bytes; /* of the table, counted in the memory budget */
	struct adaptive_move *moves; /* owned */
	uint64_t *ino; /* of contexts still to be loaded; owned */
	size_t n_ino;
	bool walking, walked;            /* now; one has just ended */
	uint64_t walk_begun_ns, walk_ns; /* CLOCK_MONOTONIC: the next one not before */
	bool check;       /* something was lost before this walk */
	uint32_t n_check; /* of the table's contexts, still to be asked whether they are there */
	uint64_t tick_ns, plan_ns, retry_ns; /* CLOCK_MONOTONIC: when next */
	bool changed;              /* since the last plan */
	uint64_t uses, used_ns;    /* of the mount; CLOCK_MONOTONIC: the last one seen */
	uint32_t sample_next;      /* of the table's contexts */
	bool sample_rests;         /* none could be sampled ... */
	uint64_t sample_uses, sampled; /* ... at this use; samples before this round */
	_Atomic bool sampling;     /* one of them is being sampled */
	_Atomic bool again;        /* a move could not begin */
	bool started;
	pthread_t thread;
};

/* adapt_item.c. Only what of it is in memory. */
void adapt_place(struct ctx *c, struct cost_place *ret);
void adapt_place_locked(struct ctx *c, struct cost_place *ret) REQUIRES(&c->lock);
/* The pages of its replica, if that has layer 0 packed for memory; else 0. */
uint32_t adapt_replica_pages_locked(struct ctx *c) REQUIRES(&c->lock);
/* Of them those of layer 0, if it has so many layers; 0: not known. */
uint32_t adapt_base_pages(const struct cost_item *it, unsigned layers, uint32_t replica_pages);
/* adapt_tell.c. A move was not carried out. @stored 0: it was to bring something to memory, and
 * what is there is told otherwise; else so many layers are still on SSD. */
void adapt_failed(struct store *st, uint64_t ino, unsigned stored);
/* adapt_move.c. Down: at once, without waiting for anybody; up: starts it. What
 * becomes of it is queued to the policy. */
void adapt_carry_out(struct adapt *ad, const struct adaptive_move *m);
/* Would what is brought up now be taken? While many moves are under way or seals wait it is not, and
 * what makes way for it would go for nothing. */
bool adapt_may_bring(struct adapt *ad);
/* adapt_walk.c; the thread's own. The next few contexts; is there more to do? */
void adapt_walk_step(struct adapt *ad);
bool adapt_walking(const struct adapt *ad);
/* One is to begin; @whole: the index is. */
void adapt_walk_wanted(struct adapt *ad, bool whole);
/* adapt_idle.c; the thread's own, once a tick. */
void adapt_idle_step(struct adapt *ad);

#endif
