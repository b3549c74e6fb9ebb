/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_FS_DAEMON_H
#define KVCACHEFS_FS_DAEMON_H
/* Going into the background. The parent waits until the child says that the
 * mount works, so that its exit code is the truth. */
#include "base/err.h"

struct daemon {
	int report_fd; /* -1: in the foreground */
};

/* Forks. In the child returns 0. The parent does not return: it exits 0 when
 * daemon_ready was called, and with the child's exit code when it died first.
 * -errno when forking failed. Before any thread or lock exists. */
WUR int daemon_fork(struct daemon *d);
/* The mount works: the parent exits, standard streams go to /dev/null. */
void daemon_ready(struct daemon *d);

#endif
