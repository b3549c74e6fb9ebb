/* SPDX-License-Identifier: MIT */
#ifndef KVLM_ESTIMATE_H
#define KVLM_ESTIMATE_H
/* The error that policy/quality.h would measure of a lossy cache, by its sample. */
#include "kv.h"
#include "msg.h"

/* Mean error over the sampled heads; chunks are those of levels.h. Same shape and cells. */
WUR int estimate_error(const struct kv *exact, const struct kv *lossy, double *ret, struct msg *m);

#endif
