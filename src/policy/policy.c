/* SPDX-License-Identifier: MIT */
/* The table of policies. */
#include "policy/policy.h"

#include <string.h>

#include "policy/lru.h"

static const struct policy_ops *const table[] = { &policy_lru, NULL };

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
