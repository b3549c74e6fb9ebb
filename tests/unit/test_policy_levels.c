/* SPDX-License-Identifier: MIT */
/* Which level a policy gives to readers, and the text of a profile. */
#include <criterion/criterion.h>
#include <errno.h>

#include "policy/policy.h"

static unsigned layers(const char *policy, unsigned n, double floor, const double *q)
{
	const struct policy_ops *p = policy_by_name(policy);
	struct policy_levels l = { .n = n, .quality = q, .floor = floor };

	cr_assert_not_null(p, "%s", policy);
	return p->layers(p, &l);
}

Test(policy_levels, fixed_is_the_level_or_the_next_good_one)
{
	const double known[] = { 0.6, 0.9, 0.99, 1 }, unknown[] = { 0, 0, 0, 1 };

	cr_assert_eq(layers("fixed:0", 4, 0.5, known), 1);
	cr_assert_eq(layers("fixed:0", 4, 0.6, known), 1);
	cr_assert_eq(layers("fixed:0", 4, 0.7, known), 2);
	cr_assert_eq(layers("fixed:2", 4, 0.7, known), 3);
	cr_assert_eq(layers("fixed:0", 4, 0.995, known), 4);
	cr_assert_eq(layers("fixed:6", 4, 0, known), 4, "no more than there are");
	cr_assert_eq(layers("fixed:3", 2, 0, known), 2);
	cr_assert_eq(layers("fixed:0", 2, 0.95, known), 2, "what is left, if nothing will do");
	cr_assert_eq(layers("fixed:1", 4, 0, unknown), 2, "anything is granted");
	cr_assert_eq(layers("fixed:1", 4, 0.01, unknown), 4, "not known is not good enough");
	cr_assert_null(policy_by_name("lru")->layers, "all of them");
	cr_assert_null(policy_by_name("fixed:7"));
	cr_assert_null(policy_by_name("fixed"));
}

Test(policy_levels, profiles)
{
	static const char *const bad[] = { "", "0", "0:", ":1", "0:1,", ",0:1", "8:1", "-1:1", "0:1.1",
					   "0:-1", "0:nan", "a:1", "0:1 1:1", "0=1", "0:1,1" };
	double q[POLICY_LEVELS_MAX] = { 0 };

	cr_assert_eq(policy_profile_parse("1:0.5", q), 0);
	cr_assert_eq(policy_profile_parse("0:0.25,7:1,2:0", q), 0);
	cr_assert_eq(q[0], 0.25);
	cr_assert_eq(q[1], 0.5, "what is not named stays");
	cr_assert_eq(q[7], 1);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_assert_lt(policy_profile_parse(bad[i], q), 0, "'%s'", bad[i]);
}

Test(policy_levels, no_level_is_better_than_one_above_it)
{
	static const struct {
		const char *what, *estimate, *profile, *feedback;
		double want[4];
	} t[] = {
		{ "nothing", "", "", "", { 0, 0, 0, 0 } },
		{ "estimates", "0:0.9,1:0.95,2:0.99", "", "", { 0.9, 0.95, 0.99, 0 } },
		{ "an estimate that is off", "0:0.96,1:0.95,2:0.99", "", "", { 0.95, 0.95, 0.99, 0 } },
		{ "of one nothing is known", "0:0.9,2:0.99", "", "", { 0.9, 0, 0.99, 0 } },
		{ "a profile", "0:0.9,1:0.95,2:0.99", "0:0.5,1:0.6", "", { 0.5, 0.6, 0.99, 0 } },
		{ "of one level, less", "0:0.9,1:0.95", "1:0.5", "", { 0.5, 0.5, 0, 0 } },
		{ "of one level, more", "0:0.2,1:0.3", "0:0.8", "", { 0.8, 0.8, 0, 0 } },
		{ "of what is not estimated", "", "0:0.8", "", { 0.8, 0, 0, 0 } },
		{ "feedback", "0:0.9,1:0.95,2:0.99", "", "1:0.5", { 0.5, 0.5, 0.99, 0 } },
		{ "that is more", "0:0.9,1:0.95", "", "0:0.99", { 0.9, 0.95, 0, 0 } },
		{ "with a profile", "", "0:0.9,1:0.95", "1:0.5", { 0.5, 0.5, 0, 0 } },
		{ "of nothing known", "0:0.9", "", "1:0.4", { 0.4, 0, 0, 0 } },
	};

	for (size_t k = 0; k < sizeof(t) / sizeof(t[0]); k++) {
		struct policy_said s;
		double q[POLICY_LEVELS_MAX];

		for (unsigned i = 0; i < POLICY_LEVELS_MAX; i++)
			s.estimate[i] = s.profile[i] = s.feedback[i] = -1;
		cr_assert(!*t[k].estimate || policy_profile_parse(t[k].estimate, s.estimate) == 0);
		cr_assert(!*t[k].profile || policy_profile_parse(t[k].profile, s.profile) == 0);
		cr_assert(!*t[k].feedback || policy_profile_parse(t[k].feedback, s.feedback) == 0);
		policy_qualities(&s, q);
		for (unsigned i = 0; i < 4; i++)
			cr_assert_eq(q[i], t[k].want[i], "%s: level %u has %g", t[k].what, i, q[i]);
	}
}
