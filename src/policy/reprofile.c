/* SPDX-License-Identifier: MIT */
#include "policy/reprofile.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"

#define NOTABLE 0.01

/* Losses of the levels that were measured. */
struct told {
	uint64_t id;
	unsigned levels;
	float said[POLICY_LEVELS_MAX], measured[POLICY_LEVELS_MAX];
};

struct model {
	uint64_t key, heard; /* when, by reprofile.heard */
	unsigned n;
	struct told told[REPROFILE_CONTEXTS]; /* the first was heard of first */
};

struct reprofile {
	uint64_t heard;
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
		if (r->model[i]->key == key)
			return r->model[i];
	return NULL;
}

/* A new one, in the place of the one not heard of for longest. */
static struct model *make(struct reprofile *r, uint64_t key)
{
	struct model *m = r->model[0];

	if (r->n < REPROFILE_MODELS) {
		m = mem_alloc(sizeof(*m));
		if (!m)
			return NULL;
		r->model[r->n++] = m;
	} else {
		for (unsigned i = 1; i < r->n; i++)
			if (r->model[i]->heard < m->heard)
				m = r->model[i];
	}
	*m = (struct model){ .key = key };
	return m;
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

static void forget(struct model *m, uint64_t id)
{
	for (unsigned i = 0; i < m->n; i++) {
		if (m->told[i].id != id)
			continue;
		memmove(&m->told[i], &m->told[i + 1], (--m->n - i) * sizeof(m->told[0]));
		return;
	}
}

int reprofile_tell(struct reprofile *r, uint64_t key, uint64_t id, const struct policy_said *s)
{
	double before[POLICY_LEVELS_MAX], now[POLICY_LEVELS_MAX];
	struct told t = losses(id, s);
	struct model *m = find(r, key);

	if (!m && t.levels == 0)
		return 0;
	worse(m, before);
	if (!m)
		m = make(r, key);
	if (!m)
		return -ENOMEM;
	forget(m, id);
	if (t.levels > 0) {
		if (m->n == REPROFILE_CONTEXTS)
			forget(m, m->told[0].id);
		m->told[m->n++] = t;
		m->heard = ++r->heard;
	}
	worse(m, now);
	for (unsigned i = 0; i < POLICY_LEVELS_MAX; i++)
		if (fabs(now[i] - before[i]) > NOTABLE * before[i])
			return 1;
	return 0;
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
