/* SPDX-License-Identifier: MIT */
#include "store/level_quality.h"

#include <string.h>

#include "base/hash.h"
#include "policy/quality.h"
#include "store/adapt.h"
#include "store/grant.h"

#define PROFILE "user.kvcache.profile"
#define FEEDBACK "user.kvcache.feedback"

int level_models_init(struct store *st)
{
	lock_init(&st->models.lock);
	return reprofile_create(&st->models.known);
}

void level_models_fini(struct store *st) NO_TSA
{
	reprofile_destroy(st->models.known);
	lock_fini(&st->models.lock);
}

void level_models_count(struct store *st, unsigned *ret_contexts, unsigned *ret_models)
{
	lock_acquire(&st->models.lock);
	reprofile_count(st->models.known, ret_contexts, ret_models);
	lock_release(&st->models.lock);
}

static uint64_t model_of(const struct object *o, uid_t uid)
{
	const struct layout *l = o->layout;
	const struct layout_region *r = l->n_regions ? l->regions : NULL;
	const uint32_t shape[] = { uid, l->layers, l->heads, l->head_dim, l->elem, r ? r->row_bytes : 0,
				   r ? r->transposed : 0, o->n_layers_max };

	return hash64(shape, sizeof(shape), hash64(l->name, strlen(l->name), 0));
}

static void models_changed(struct store *st)
{
	store_count(st, CNT_REPROFILED, 1);
	adapt_reprofiled(st);
}

/* What is remembered of its model, with what this file says. */
static void as_measured(struct store *st, uint64_t ino, const struct object *o, uid_t uid,
			struct policy_said *s)
{
	uint64_t model = model_of(o, uid);
	bool changed;

	lock_acquire(&st->models.lock);
	changed = reprofile_tell(st->models.known, uid, model, ino, s);
	reprofile_worse(st->models.known, model, s->worse);
	lock_release(&st->models.lock);
	if (changed)
		models_changed(st);
}

void level_models_forget(struct store *st, uint64_t ino)
{
	bool changed;

	lock_acquire(&st->models.lock);
	changed = reprofile_forget(st->models.known, ino);
	lock_release(&st->models.lock);
	if (changed)
		models_changed(st);
}

void level_qualities(struct store *st, struct node *n, const struct object *o,
		     double ret[POLICY_LEVELS_MAX])
{
	struct policy_said s;
	char v[256];
	ssize_t len;
	uid_t uid;
	bool owned = grant_owner(st, n, &uid);

	policy_said_init(&s);
	for (unsigned i = 0; o && i + 1 < o->n_layers_max; i++)
		if (o->errors[i] > 0) /* NaN is not */
			s.estimate[i] = quality_of(&quality_builtin, (double)o->errors[i]);
	/* both were checked when they were set */
	if (owned && grant_nearest(st, n, uid, PROFILE, v, sizeof(v), NULL, NULL))
		err_ignore(policy_profile_parse(v, s.profile));
	len = store_getxattr(st, n, FEEDBACK, v, sizeof(v) - 1);
	if (len >= 0) {
		v[len] = 0;
		err_ignore(policy_profile_parse(v, s.feedback));
	}
	for (unsigned i = o ? o->n_layers_max - 1 : POLICY_LEVELS_MAX; i < POLICY_LEVELS_MAX; i++)
		s.profile[i] = s.feedback[i] = -1;
	if (o && owned)
		as_measured(st, node_ino(n), o, uid, &s);
	policy_qualities(&s, ret);
	if (o)
		ret[o->n_layers_max - 1] = 1;
}
