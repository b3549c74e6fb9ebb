/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_FS_PRIVS_H
#define KVCACHEFS_FS_PRIVS_H
/* What the process may do: limits, core dumps, capabilities. */
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

/* No core dumps or ptrace by the same user (contents are other people's
 * prompts), umask 0 (modes come with requests), as many descriptors as the
 * hard limit allows. Before anything is opened. */
void privs_harden(void);
/* Gives up the capabilities that serving files never needs, for this thread
 * and those it starts. As an ordinary user there is nothing to give up. 0 or -errno. */
WUR int privs_drop(void);

struct privs_saved {
	uint32_t sets[6]; /* as capget(2) has them */
	bool valid;
};
/* Leaves the calling thread only CAP_SYS_ADMIN in force, until restored. */
void privs_reduce(struct privs_saved *ret);
void privs_restore(const struct privs_saved *s);

#endif
