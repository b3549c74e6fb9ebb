/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_POLICY_REPROFILE_H
#define KVCACHEFS_POLICY_REPROFILE_H
/*
 * What readers measured of some contexts says about the others of their model. EVICPRESS (arXiv
 * 2512.14946) profiles a context anew when measured quality falls below its profile; here
 * nobody can ask the model, so what is wrong with the profile is learned from the
 * contexts that were measured (user.kvcache.feedback) and holds for all of that model.
 *
 * A level loses so many times what was said of it:
 *
 *	(sum of losses measured + PRIOR) / (sum of losses said + PRIOR)
 *
 * over the contexts measured; a level above those measured, as all of them together. A measurement
 * counts only where it is lower than what was said, so this is never below 1: nobody's
 * content loses more because another's was found to be fine. PRIOR, about what a first
 * level loses of one context, keeps few and small losses from meaning much.
 *
 * Of a model REPROFILE_CONTEXTS contexts count, of an owner REPROFILE_OWN models; which ones of
 * more does not depend on the order in which they are told of, so that being told of
 * all of them again changes nothing. No I/O, no clock, no threads: one caller at a time.
 */
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "policy/policy.h"

#define REPROFILE_MODELS 64u
#define REPROFILE_OWN 8u
#define REPROFILE_CONTEXTS 32u
#define REPROFILE_PRIOR 0.05

struct reprofile; /* owned by whoever created it; up to 200 KiB */

WUR int reprofile_create(struct reprofile **ret); /* -ENOMEM */
void reprofile_destroy(struct reprofile *r);      /* NULL ok */

/* What is said of context @id of model @model of @owner (part of what @model tells apart), with
 * what was measured or nothing any more; s->worse counts for nothing. True: a model is taken
 * for another than before by more than a hundredth. Without room it is not noted. */
bool reprofile_tell(struct reprofile *r, uint32_t owner, uint64_t model, uint64_t id,
		    const struct policy_said *s);
/* It is gone. True: as above. */
bool reprofile_forget(struct reprofile *r, uint64_t id);
/* For policy_said.worse: 1 at every level of a model of which nothing is known. */
void reprofile_worse(const struct reprofile *r, uint64_t model, double ret[POLICY_LEVELS_MAX]);
/* Contexts measured, and their models. */
void reprofile_count(const struct reprofile *r, unsigned *ret_contexts, unsigned *ret_models);

#endif
