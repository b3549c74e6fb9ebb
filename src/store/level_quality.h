/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_STORE_LEVEL_QUALITY_H
#define KVCACHEFS_STORE_LEVEL_QUALITY_H
/*
 * The quality of each level of a file: the expected share of greedy next tokens that stay the
 * same as with the exact cache. It is what user.kvcache.profile says, else an estimate from
 * the error of samples (policy/quality.h, estimate.h, resample.c), less what readers of this
 * file or of others of its model measured (user.kvcache.feedback, policy/reprofile.h).
 *
 * Files are of one model when they have one owner and K and V of one format and shape. Another's
 * feedback changes nothing of one's own files.
 */
#include "policy/policy.h"
#include "policy/reprofile.h"
#include "store/store_types.h"

WUR int level_models_init(struct store *st); /* -ENOMEM */
void level_models_fini(struct store *st);

/* Of each level of @o, whose gate is held; 0 where nothing is known; the top one has 1. What the
 * file's readers say is remembered of its model. @o NULL: by its settings alone. */
void level_qualities(struct store *st, struct node *n, const struct object *o,
		     double ret[POLICY_LEVELS_MAX]);
/* The file is gone. */
void level_models_forget(struct store *st, uint64_t ino);
/* Contexts that readers measured, and models of them. */
void level_models_count(struct store *st, unsigned *ret_contexts, unsigned *ret_models);

#endif
