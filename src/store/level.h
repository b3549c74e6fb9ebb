/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_STORE_LEVEL_H
#define KVCACHEFS_STORE_LEVEL_H
/*
 * Levels: how many layers of a sealed file are there, and how many of them its readers
 * get. Level k is layers 0..k; the top one is exact.
 *
 * The kernel's pages, passthrough and mappings are per inode, so the level is too: it is
 * pinned from the first open to the last use, mappings included, and chosen anew by
 * the next open with none other.
 */
#include "store/store_types.h"

/* Gate held, object loaded, in all of these unless it is said. */

/* Layers that count on storage. */
unsigned level_stored(const struct ctx *c);
/* Layers that who has it open is served from; of a file that nobody has open, what
 * was chosen last, else all. */
unsigned level_serving(const struct ctx *c);
/* Memory has all that such a read needs: a decoded copy, or so many layers. No gate. */
bool level_in_memory(const struct ctx *c, unsigned layers) REQUIRES(c->lock);
/* The most exact there is: what is stored, or what is still served. */
unsigned level_best(const struct ctx *c);
/* Something of it is lost. */
bool level_lossy(const struct ctx *c);
/* Of so many @layers, what the next open would get by the policy; @o tells what each is worth,
 * NULL: it is only being made. No gate. */
unsigned level_wanted(struct store *st, struct node *n, const struct object *o, unsigned layers);
/* Chooses for an open, unless it is in use; sets pages_stale when what the kernel may have
 * cached is of another level. Gate exclusive. */
void level_pin_locked(struct ctx *c, struct node *n, bool writes);
/* The same to @layers, for a decoded copy that nobody has open. Gate exclusive. */
void level_choose_locked(struct ctx *c, unsigned layers);
/* Goes down to @want layers at once, if nobody uses it, its floor allows it and no lock has
 * to be waited for: -EBUSY, as store_level. No gate of it held. */
WUR int level_shed(struct ctx *c, struct node *n, unsigned want);
/* It was sealed just now, exactly. Gate exclusive. */
void level_sealed(struct ctx *c);
/* It is plain again: nothing is pinned or due. Gate exclusive. */
void level_forget(struct ctx *c);
/* Its last name is gone: its object goes as a whole. Gate exclusive. */
void level_gone(struct ctx *c);
/* Cuts what was dropped, if nobody uses it any more. No gate held. */
void level_settle(struct ctx *c, struct node *n);
/* The same for what an earlier mount dropped and did not cut. Gate exclusive. */
void level_settle_late(struct ctx *c);

/* relayer.c: the content of a file sealed in one layer, in several; up to the switch, on
 * the calling thread. -EBUSY in use by a writer or another seal, -EALREADY has layers,
 * -KVFS_ECHANGED it was written to or cut since it was sealed, -KVFS_EEXACT, -KVFS_EVETO,
 * -KVFS_ENOLAYERS nothing of it can be layered, -code. */
WUR int relayer_run(struct ctx *c, struct node *n);
/* In the background, once, if readers shall get less than all of it. */
void relayer_later(struct ctx *c, struct node *n);

#endif
