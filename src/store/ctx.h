/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_STORE_CTX_H
#define KVCACHEFS_STORE_CTX_H
/*
 * A context in use: one regular file of the mount that is open, being sealed,
 * or present in DRAM. Contexts are found by tree inode number; a file that is
 * none of these costs no memory here.
 *
 * Two locks. The table lock (ctx.c) guards the hash and refs. ctx.lock guards
 * the members marked GUARDED. Neither is held across I/O. The *gate* orders
 * I/O against changes of what the content is made of: readers and plain
 * writers pass it shared; sealing's switch, unsealing, truncation and the first
 * overlay write of a block pass it exclusively. Gate before ctx.lock.
 */
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "base/err.h"
#include "base/list.h"
#include "base/lock.h"
#include "kvcachefs/format.h"
#include "store/object.h"
#include "store/store.h"

struct replica; /* replica.h: encoded copy in DRAM */
struct copy;    /* copy.h: decoded copy on the private tmpfs */

struct gate {
	struct lock lock;
	struct cond cond;
	unsigned shared GUARDED;    /* gate.lock */
	bool exclusive GUARDED;     /* gate.lock */
	unsigned waiting_excl GUARDED; /* gate.lock: writers first */
};
void gate_init(struct gate *g);
void gate_fini(struct gate *g);
void gate_enter(struct gate *g, bool exclusive);
void gate_leave(struct gate *g, bool exclusive);
bool gate_try(struct gate *g, bool exclusive);

struct ctx {
	struct store *st;     /* borrowed */
	uint64_t ino;         /* of the inode in tree/ */
	struct list hash;     /* table lock */
	struct list lru;      /* table lock: contexts with something in DRAM, oldest first */
	struct list kept;     /* table lock: closed contexts that keep their object */
	unsigned refs;        /* table lock */

	struct gate gate;
	struct lock lock;

	/* Under the gate: shared to look, exclusive to change; rec and state are
	 * changed under the lock as well, so either is enough to look at them. */
	/* PLAIN, SEALED or OVERLAY; SEALING shows in .sealing. Atomic, because closing
	 * and counting look at it without gate or lock: a hint is enough there. */
	_Atomic(enum ctx_state) state;
	struct kvfs_record rec;
	struct object *obj;   /* one reference while SEALED or OVERLAY and loaded */
	int fd;               /* of the tree file; the daemon's only one; -1 closed */
	bool fd_writable;
	uint64_t size;        /* logical size while SEALED or OVERLAY */
	unsigned serve_layers; /* level.c: that readers get, copies too; 0 nobody asked yet */
	_Atomic bool wanted;  /* an open waits: a move of it ends */
	_Atomic bool cut_due; /* layers were dropped that somebody still uses; a hint without the gate */
	bool pages_stale;     /* the kernel may have pages of what was there before: thin.c */
	bool loaded;          /* accounted was set from the file */
	bool unpunched;       /* found SWITCHED, with nobody under way to finish that */
	bool punch_durable;   /* SEALED, punch and OVERLAY flag are known to be durable */
	bool overlay_begun;   /* the record names this inode and says that it is being written */
	bool map_stale;       /* the stand-in's data changed since the record noted where it is */

	/* Under ctx.lock. */
	unsigned opens GUARDED;       /* struct file, all modes */
	unsigned writers GUARDED;     /* of them, opened for writing */
	unsigned passthrough GUARDED; /* of them, served by passthrough */
	unsigned others GUARDED;      /* of them, served otherwise */
	int backing_id GUARDED;       /* registered while passthrough > 0, else 0 */
	bool backing_is_copy GUARDED; /* it is copy's file, not the tree file */
	bool copy_shared GUARDED;     /* a writer came to a copy being served: serving.c */
	bool unseen GUARDED;          /* a writer was passed through to the tree file: watch.c */
	bool watched GUARDED;         /* and may have a mapping left: holds a reference */
	bool sealing GUARDED;         /* a seal is between its first and last step */
	bool cancel GUARDED;          /* asks that seal to give up */
	bool leased GUARDED;          /* that seal has a lease on fd, which stays until it is false */
	bool queued GUARDED;          /* in the seal queue */
	bool dirty GUARDED;           /* written since it was last examined by the sealer */
	unsigned by_hand GUARDED;     /* how often somebody had it brought somewhere */
	enum place hand_place GUARDED; /* the last time */
	unsigned working GUARDED;     /* movers and scrubs that pass the gate again and again */
	bool lost GUARDED;            /* a write or fsync failed: fsync says EIO until O_TRUNC */
	bool lost_held GUARDED;       /* a reference that goes with lost: see ctx_lose */
	bool pinned GUARDED;
	bool damaged GUARDED;
	bool unlinked GUARDED;        /* no name left: only the descriptor or trash holds it */
	bool leaving GUARDED;         /* its last name is going just now: remove.c, damage.c */
	bool hidden GUARDED;          /* unlinked because damaged: see damage.c; nothing goes */
	uint64_t accounted GUARDED;   /* bytes of it in store.ssd_used */
	struct replica *rep GUARDED;  /* one reference, or NULL */
	struct copy *copy GUARDED;    /* one reference, or NULL */
	uint64_t hits GUARDED;        /* since it is in memory */
	uint64_t hits_saved GUARDED;  /* of them, in the index */
	double heat GUARDED;          /* decayed hits at heat_ns */
	uint64_t heat_ns GUARDED;     /* CLOCK_REALTIME */
	bool relayer_due GUARDED;     /* readers shall have less of it than its one layer */
	bool relayer_tried GUARDED;   /* not again while it is in memory: relayer.c */
	uint64_t whole_reads GUARDED; /* opens that read from start to end */
	uint64_t closed_ns GUARDED;   /* CLOCK_MONOTONIC of the last close */
	char reason[64] GUARDED;      /* of the last move */
	struct timespec seen_mtim;    /* only kvfs-tick: of the file when it last looked */
	blkcnt_t seen_blocks;         /* likewise */
	struct list seal_link;        /* seal queue's lock */
	uint64_t due_ns;              /* set before queueing; CLOCK_MONOTONIC */
	uint64_t retry_ns;            /* not before: the last try found it busy or no room */
};

#endif
