/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_FS_STEER_H
#define KVCACHEFS_FS_STEER_H
/*
 * Long operations asked for by xattr, on threads of their own: first come first
 * served among users, one at a time of each user, so that whoever asks for much
 * keeps nobody else waiting.
 */
#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/list.h"
#include "base/workers.h"

struct steer;

/* Embedded by the caller, who fills in uid and run. */
struct steer_job {
	uid_t uid;
	/* Does it, or with @cancelled only tells the client so; on a steering
	 * thread. The job is @done with when it returns. */
	void (*run)(struct steer_job *j, bool cancelled);
	void (*done)(struct steer_job *j); /* frees it; nothing may wait for it */
	/* private */
	struct work work;
	struct list link;
	struct steer *steer;
};

WUR int steer_create(struct steer **ret); /* -ENOMEM, -EAGAIN */
/* Takes @j over. */
void steer_submit(struct steer *s, struct steer_job *j);
/* From now on jobs that have not begun are cancelled. NULL ok. */
void steer_stop(struct steer *s);
/* Stops, waits for those that run. NULL ok. */
void steer_destroy(struct steer *s);

#endif
