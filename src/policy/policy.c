/* SPDX-License-Identifier: MIT */
/* The table of policies. */
#include "policy/policy.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "base/units.h"
#include "policy/fixed.h"
#include "policy/lru.h"

static const struct policy_ops *const table[] = {
	&policy_adaptive, &policy_lru,	    &policy_fixed[0], &policy_fixed[1], &policy_fixed[2],
	&policy_fixed[3], &policy_fixed[4], &policy_fixed[5], &policy_fixed[6], NULL,
};

const struct policy_ops *const *policy_table(void)
{
	return table;
}

const struct policy_ops *policy_by_name(const char *name)
{
	for (const struct policy_ops *const *p = table; *p; p++)
		if (strcmp((*p)->name, name) == 0)
			return *p;
	return NULL;
}

/* One "level:quality". */
static int profile_one(const char *s, size_t len, double q[POLICY_LEVELS_MAX])
{
	char word[64], *colon;
	uint64_t level;

	if (len >= sizeof(word))
		return -EINVAL;
	memcpy(word, s, len);
	word[len] = 0;
	colon = strchr(word, ':');
	if (!colon)
		return -EINVAL;
	*colon = 0;
	if (units_parse_u64(word, 0, POLICY_LEVELS_MAX - 1, &level) < 0)
		return -EINVAL;
	return units_parse_double(colon + 1, 0, 1, &q[level]);
}

int policy_profile_parse(const char *s, double q[POLICY_LEVELS_MAX])
{
	for (;;) {
		size_t len = strcspn(s, ",");
		int r = profile_one(s, len, q);

		if (r < 0)
			return r;
		if (!s[len])
			return 0;
		s += len + 1;
	}
}

void policy_said_init(struct policy_said *s)
{
	for (unsigned i = 0; i < POLICY_LEVELS_MAX; i++) {
		s->estimate[i] = s->profile[i] = s->feedback[i] = -1;
		s->worse[i] = 1;
	}
}

void policy_qualities(const struct policy_said *s, double ret[POLICY_LEVELS_MAX])
{
	double least = 0, most = 1;

	for (unsigned i = 0; i < POLICY_LEVELS_MAX; i++) {
		if (s->profile[i] >= 0) /* who measured one level knows that those above have it */
			ret[i] = least = s->profile[i];
		else
			ret[i] = s->estimate[i] >= 0 ? fmax(s->estimate[i], least) : -1;
	}
	for (unsigned i = POLICY_LEVELS_MAX; i-- > 0;) {
		if (ret[i] >= 0 && s->worse[i] > 1 && s->feedback[i] < 0)
			ret[i] = fmax(1 - s->worse[i] * (1 - ret[i]), 0);
		if (s->feedback[i] >= 0)
			most = fmin(most, s->feedback[i]);
		if (ret[i] >= 0)
			most = fmin(most, ret[i]);
		ret[i] = ret[i] >= 0 ? most : 0;
	}
}
