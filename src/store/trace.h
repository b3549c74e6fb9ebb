/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_STORE_TRACE_H
#define KVCACHEFS_STORE_TRACE_H
/*
 * Recording of accesses, for replay and plan (policy/trace.h has the text). A record is
 * formatted by whoever closes, seals or removes and appended to a buffer; kvfs-tick writes buffers
 * to STORE/trace. Nobody waits for that: when the buffer is full, or storage is, records are
 * dropped and counted. STORE/trace becomes STORE/trace.1 at half of what is allowed, so that both
 * together never take more.
 */
#include "store/store_types.h"

#define TRACE_MIN_BYTES (1u << 20)

/* Nothing is recorded without st->cfg.trace_bytes. -EROFS, -EINVAL (too few bytes), -ENOMEM,
 * -errno, with a text in @why. */
WUR int trace_start(struct store *st, struct sbuf *why);
/* Writes what is left. NULL trace ok. */
void trace_stop(struct store *st);
/* By kvfs-tick only, and by trace_stop after it. */
void trace_flush(struct store *st);

/* It is being opened: notes what it is and where. Gate held, object loaded. Out of memory: not
 * recorded. */
void trace_found(struct file *f);
/* Some of it was read. */
void trace_read(struct file *f);
/* Its record, when it is closed. No lock held. */
void trace_closed(struct file *f);
/* Gate held, object loaded. */
void trace_sealed(struct ctx *c, struct node *n);
void trace_removed(struct store *st, uint64_t ino);

#endif
