/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_STORE_DIRS_H
#define KVCACHEFS_STORE_DIRS_H
/* The store's directories: making, checking and locking them. */
#include "store/store_types.h"

/* Opens (creates when absent) everything below st->cfg.path into st's
 * descriptors and takes the lock. On failure what was opened stays for
 * dirs_close, and @why says what to do. */
WUR int dirs_open(struct store *st, struct sbuf *why);
void dirs_close(struct store *st);
/* Writes our pid into the lock, for the message of the next one. */
void dirs_lock_pid(struct store *st);

#endif
