/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_STORE_ADAPT_H
#define KVCACHEFS_STORE_ADAPT_H
/*
 * policy=adaptive in the store. One thread owns the table of policy/adaptive.h; what
 * happens to contexts is queued to it, because a plan takes tens of milliseconds, and it
 * has its moves carried out: down at once, up in the background. Readers never wait for
 * it: the level of an open comes from the context itself and a copy of the model.
 *
 * Contexts that nobody has opened yet are loaded by that thread one by one after the mount:
 * sizes of layers are in their objects, not in the index.
 *
 * All of these do nothing (or say no) under other policies. What is queued may be lost when
 * very much is; the table is then made right by another walk over all contexts.
 */
#include "store/store_types.h"

WUR int adapt_start(struct store *st);
/* The thread ends; what is queued from now on is dropped. */
void adapt_stop(struct store *st);
/* From now on contexts that nobody has opened are looked at. */
void adapt_index_whole(struct store *st);
/* Does it know of all contexts, which takes a while after the mount? Before, what goes to make
 * room may be what should go last. @wait: for that. Some seconds after the mount the
 * answer is yes in any case. */
bool adapt_knows(struct store *st, bool wait);
void adapt_free(struct store *st);

/* What the policy knows of a context. Gate held, object loaded. False: it is nothing that
 * could be moved (plain). */
bool adapt_item(struct ctx *c, struct node *n, struct cost_item *ret);
/* Layers that the next open gets, of those stored. Gate exclusive, object loaded. */
unsigned adapt_layers(struct ctx *c, struct node *n);

/* It was opened, found, or its settings changed. Gate held, object loaded. */
void adapt_seen(struct ctx *c, struct node *n);
/* It was sealed. Likewise. */
void adapt_sealed(struct ctx *c, struct node *n);
/* A reader closed it. No lock of it held. */
void adapt_used(struct ctx *c);
/* Something of it came to memory or went. No lock of it held. */
void adapt_moved(struct ctx *c);
/* It is about to be brought somewhere because somebody says so. */
void adapt_by_hand(struct store *st, uint64_t ino);
/* It has so many layers from now on. */
void adapt_dropped(struct store *st, uint64_t ino, unsigned stored);
void adapt_gone(struct store *st, uint64_t ino);
/* Settings of a file or directory changed. May block. */
void adapt_settings(struct store *st, struct node *n);
/* What is known of a model changed: contexts are asked anew when nobody uses the mount, or soon. */
void adapt_reprofiled(struct store *st);
/* A limit changed. */
void adapt_limits(struct store *st);
/* Bytes of memory that are not for contexts, whatever the policy: tables, windows, buffers, and
 * copies that opens make for themselves. */
uint64_t adapt_set_aside(struct store *st);

/* How layer 0 of a replica is packed. */
enum cost_packing adapt_packing(const struct replica *r);

/* Tries to make @bytes free by giving up what loses least; false: the caller has to find
 * other ways, which includes, for memory, that the table is being planned just now. */
bool adapt_room_dram(struct store *st, uint64_t bytes, const struct ctx *keep);
/* Likewise for a decoded copy, for which pages that another one leaves do as well. */
bool adapt_room_copy(struct store *st, uint64_t bytes, const struct ctx *keep);
/* @all_or_none: nothing goes when all that may go would not do. */
bool adapt_room_ssd(struct store *st, uint64_t bytes, uint64_t keep_ino, bool all_or_none);

/* utility and reason; with @text, which takes longer, why. */
void adapt_info(struct store *st, uint64_t ino, bool text, struct ctx_info *ret);
void adapt_status(struct store *st, struct store_status *ret);

#endif
