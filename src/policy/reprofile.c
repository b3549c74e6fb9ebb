/* SPDX-License-Identifier: MIT */
#include "policy/reprofile.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"

#define NOTABLE 0.01

/* Losses of the levels that were measured. */
struct told {
	uint64_t id;
	unsigned levels;
	float said[POLICY_LEVELS_MAX], measured[POLICY_LEVELS_MAX];
};

struct model {
	uint64_t key;
	uint32_t owner;
	unsigned n; /* 0: its place is free */
	struct told told[REPROFILE_CONTEXTS];
};

struct reprofile {
	unsigned n;
	struct model *model[REPROFILE_MODELS]; /* owned */
};

int reprofile_create(struct reprofile **ret)
{
	*ret = mem_zalloc(sizeof(**ret));
	return *ret ? 0 : -ENOMEM;
}

void reprofile_destroy(struct reprofile *r)
{
	for (unsigned i = 0; r && i < r->n; i++)
		mem_free(r->model[i]);
	mem_free(r);
}

static struct model *find(const struct reprofile *r, uint64_t key)
{
	for (unsigned i = 0; i < r->n; i++)
		if (r->model[i]->n > 0 && r->model[i]->key == key)
			return r->model[i];
	return NULL;
}

/* Which of more than there is room for stay. */
static bool goes_before(uint64_t a, uint64_t b)
{
	return hash_u64(a) < hash_u64(b);
}

/* The place for a new model of @owner, who gives up one of his own when he has his share.
 * NULL: there is none. */
static struct model *place(struct reprofile *r, uint32_t owner, uint64_t key)
{
	struct model *free = NULL, *last = NULL;
	unsigned own = 0;

	for (unsigned i = 0; i < r->n; i++) {
		struct model *m = r->model[i];

		if (m->n == 0) {
			free = m;
		} else if (m->owner == owner) {
			own++;
			last = last && goes_before(m->key, last->key) ? last : m;
		}
	}
	if (own >= REPROFILE_OWN)
		return goes_before(key, last->key) ? last : NULL;
	if (!free && r->n < REPROFILE_MODELS) {
		free = mem_zalloc(sizeof(*free));
		if (free)
			r->model[r->n++] = free;
	}
	return free;
}

static void worse(const struct model *m, double ret[POLICY_LEVELS_MAX])
{
	double said[POLICY_LEVELS_MAX] = { 0 }, got[POLICY_LEVELS_MAX] = { 0 };
	double all_said = REPROFILE_PRIOR, all_got = REPROFILE_PRIOR;
	unsigned levels = 0;

	for (unsigned k = 0; m && k < m->n; k++) {
		for (unsigned i = 0; i < m->told[k].levels; i++) {
			said[i] += (double)m->told[k].said[i];
			got[i] += (double)m->told[k].measured[i];
			all_said += (double)m->told[k].said[i];
			all_got += (double)m->told[k].measured[i];
		}
		levels = levels > m->told[k].levels ? levels : m->told[k].levels;
	}
	for (unsigned i = 0; i < POLICY_LEVELS_MAX; i++)
		ret[i] = i < levels ? (got[i] + REPROFILE_PRIOR) / (said[i] + REPROFILE_PRIOR) :
				      all_got / all_said;
}

/* What was lost, by what is said with and without measurements. */
static struct told losses(uint64_t id, const struct policy_said *s)
{
	struct policy_said before = *s, after = *s;
	double q[POLICY_LEVELS_MAX], got[POLICY_LEVELS_MAX];
	struct told t = { .id = id };

	for (unsigned i = 0; i < POLICY_LEVELS_MAX; i++) {
		before.worse[i] = after.worse[i] = 1;
		before.feedback[i] = -1;
		if (s->feedback[i] >= 0 && (s->estimate[i] >= 0 || s->profile[i] >= 0))
			t.levels = i + 1;
	}
	policy_qualities(&before, q);
	policy_qualities(&after, got);
	for (unsigned i = 0; i < t.levels; i++) {
		if (s->estimate[i] < 0 && s->profile[i] < 0)
			continue; /* nothing was said: nothing can be worse */
		t.said[i] = (float)(1 - q[i]);
		t.measured[i] = (float)(1 - got[i]);
	}
	return t;
}

static struct told *told_of(struct model *m, uint64_t id)
{
	for (unsigned i = 0; i < m->n; i++)
		if (m->told[i].id == id)
			return &m->told[i];
	return NULL;
}

static void note(struct model *m, const struct told *t)
{
	struct told *to = told_of(m, t->id);

	if (!to && m->n < REPROFILE_CONTEXTS)
		to = &m->told[m->n++];
	if (!to) {
		to = &m->told[0];
		for (unsigned i = 1; i < m->n; i++)
			if (goes_before(to->id, m->told[i].id))
				to = &m->told[i];
		if (!goes_before(t->id, to->id))
			return;
	}
	*to = *t;
}

static bool differ(const double a[POLICY_LEVELS_MAX], const double b[POLICY_LEVELS_MAX])
{
	for (unsigned i = 0; i < POLICY_LEVELS_MAX; i++)
		if (fabs(a[i] - b[i]) > NOTABLE * a[i])
			return true;
	return false;
}

/* In all models but @keep. */
static bool forget_but(struct reprofile *r, const struct model *keep, uint64_t id)
{
	double before[POLICY_LEVELS_MAX], now[POLICY_LEVELS_MAX];
	bool changed = false;

	for (unsigned i = 0; i < r->n; i++) {
		struct model *m = r->model[i];
		struct told *t = m != keep ? told_of(m, id) : NULL;

		if (!t)
			continue;
		worse(m, before);
		*t = m->told[--m->n];
		worse(m, now);
		changed |= differ(before, now);
	}
	return changed;
}

bool reprofile_forget(struct reprofile *r, uint64_t id)
{
	return forget_but(r, NULL, id);
}

bool reprofile_tell(struct reprofile *r, uint32_t owner, uint64_t key, uint64_t id,
		    const struct policy_said *s)
{
	double before[POLICY_LEVELS_MAX], now[POLICY_LEVELS_MAX];
	struct told t = losses(id, s);
	struct model *m = find(r, key);
	/* it may have been of another one */
	bool changed = forget_but(r, t.levels > 0 ? m : NULL, id);

	if (t.levels == 0)
		return changed;
	worse(m, before);
	if (!m) {
		m = place(r, owner, key);
		if (!m)
			return changed;
		m->key = key;
		m->owner = owner;
		m->n = 0;
	}
	note(m, &t);
	worse(m, now);
	return changed || differ(before, now);
}

void reprofile_worse(const struct reprofile *r, uint64_t key, double ret[POLICY_LEVELS_MAX])
{
	worse(find(r, key), ret);
}

void reprofile_count(const struct reprofile *r, unsigned *ret_contexts, unsigned *ret_models)
{
	*ret_contexts = *ret_models = 0;
	for (unsigned i = 0; i < r->n; i++) {
		*ret_contexts += r->model[i]->n;
		*ret_models += r->model[i]->n > 0;
	}
}
