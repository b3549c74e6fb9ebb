/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_FS_CHECK_H
#define KVCACHEFS_FS_CHECK_H
/* Before mounting: are STORE and MOUNTPOINT fit for it? */
#include "base/err.h"
#include "base/sbuf.h"
#include "fs/options.h"

/* Makes both paths absolute and free of symlinks (STORE may not exist yet).
 * -errno with a text for people that says what to do. */
WUR int check_paths(struct options *o, struct sbuf *why);

#endif
