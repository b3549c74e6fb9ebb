/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_STORE_RESAMPLE_H
#define KVCACHEFS_STORE_RESAMPLE_H
/*
 * EVICPRESS profiles contexts anew when the machine is idle (arXiv 2512.14946). What the seal
 * estimated of a file's levels it did from a sample that is bounded whatever the file's
 * size; here further ones are taken, of other layers, heads and tokens, and the estimate is
 * the mean of them all. The index keeps it: it can be made again, from the object.
 */
#include "store/store_types.h"

/* What the index knows of the object just loaded. Gate exclusive. */
void resample_load(struct ctx *c);
/* Could a sample more be taken, by what the index knows? */
bool resample_wanted(struct store *st, uint64_t ino);
/* Takes one in the background, and tells the policy; *@busy is true until it is done, or given
 * up: because somebody uses the mount (store_uses() is no longer @uses) or the file, or there is
 * no memory for it. False: -ENOMEM. */
bool resample_start(struct store *st, uint64_t ino, uint64_t uses, _Atomic bool *busy);

#endif
