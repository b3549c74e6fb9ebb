/* SPDX-License-Identifier: MIT */
/* Which level a policy gives to readers, and the text of a profile. */
#include <criterion/criterion.h>
#include <errno.h>

#include "policy/policy.h"
#include "policy/reprofile.h"

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

/* What nobody has read yet: the oldest goes first; what was read before, by its hits. */
Test(policy_levels, adaptive_values_what_was_only_written_by_its_age)
{
	const struct policy_ops *p = policy_by_name("adaptive");
	struct policy_item i = { .now_ns = 10 * POLICY_HALF_NS, .last_ns = 9 * POLICY_HALF_NS,
				 .stored_bytes = 4096, .logical_bytes = 4096 };
	struct policy_item older = i, read = i;

	older.last_ns -= 1000000000;
	read.heat = 2;
	read.heat_ns = i.last_ns;
	cr_assert_gt(p->value(&i), p->value(&older));
	cr_assert_gt(p->value(&read), p->value(&i));
	i.logical_bytes = 6000;
	cr_assert_gt(p->value(&i), 0.5, "a byte of it saves more work");
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

static struct policy_said said(const char *estimate, const char *profile, const char *feedback)
{
	struct policy_said s;

	policy_said_init(&s);
	cr_assert(!*estimate || policy_profile_parse(estimate, s.estimate) == 0);
	cr_assert(!*profile || policy_profile_parse(profile, s.profile) == 0);
	cr_assert(!*feedback || policy_profile_parse(feedback, s.feedback) == 0);
	return s;
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
		struct policy_said s = said(t[k].estimate, t[k].profile, t[k].feedback);
		double q[POLICY_LEVELS_MAX];

		policy_qualities(&s, q);
		for (unsigned i = 0; i < 4; i++)
			cr_assert_eq(q[i], t[k].want[i], "%s: level %u has %g", t[k].what, i, q[i]);
	}
}

static bool near(double a, double b)
{
	return a > b - 1e-6 && a < b + 1e-6;
}

#define P REPROFILE_PRIOR

Test(policy_reprofile, what_was_measured_of_some_holds_for_their_model)
{
	struct policy_said s = said("0:0.9,1:0.98,2:0.99", "", "0:0.7,1:0.96");
	double w[POLICY_LEVELS_MAX], q[POLICY_LEVELS_MAX];
	struct reprofile *r;

	cr_assert_eq(reprofile_create(&r), 0);
	cr_assert_eq(reprofile_tell(r, 0, 1, 10, &s), 1);
	reprofile_worse(r, 1, w);
	cr_assert(near(w[0], (0.3 + P) / (0.1 + P)), "%g", w[0]);
	cr_assert(near(w[1], (0.04 + P) / (0.02 + P)), "%g", w[1]);
	cr_assert(near(w[2], (0.34 + P) / (0.12 + P)), "not measured: as all, %g", w[2]);
	reprofile_worse(r, 2, w);
	cr_assert_eq(w[0], 1, "another model");
	cr_assert_eq(reprofile_tell(r, 0, 1, 10, &s), 0, "the same again");
	for (uint64_t id = 11; id < 14; id++) { /* of others a reader found what was said, or better */
		struct policy_said fine = said("0:0.9,1:0.98,2:0.99", "", "0:0.95,1:0.98");

		cr_assert_eq(reprofile_tell(r, 0, 1, id, &fine), 1);
	}
	reprofile_worse(r, 1, w);
	cr_assert(near(w[0], (0.6 + P) / (0.4 + P)), "%g", w[0]);

	s = said("0:0.8,1:0.98", "", "");
	reprofile_worse(r, 1, s.worse);
	policy_qualities(&s, q);
	cr_assert(near(q[0], 1 - 0.2 * (0.6 + P) / (0.4 + P)), "%g", q[0]);
	cr_assert_eq(q[2], 0, "not known stays so");
	s = said("0:0.1", "", "");
	s.worse[0] = 3;
	policy_qualities(&s, q);
	cr_assert_eq(q[0], 0, "no more than all");
	reprofile_destroy(r);
}

Test(policy_reprofile, is_never_better_and_forgets_what_is_taken_back)
{
	struct policy_said fine = said("0:0.9,1:0.98", "", "0:1,1:1"), none = said("0:0.9", "", "");
	struct policy_said bad = said("0:0.9,1:0.98", "0:0.95", "0:0.2");
	struct policy_said unknown = said("", "", "0:0.2,3:0.1");
	double w[POLICY_LEVELS_MAX];
	unsigned n, models;
	struct reprofile *r;

	cr_assert_eq(reprofile_create(&r), 0);
	cr_assert_eq(reprofile_tell(r, 0, 1, 10, &none), 0);
	cr_assert_eq(reprofile_tell(r, 0, 1, 10, &fine), 0);
	cr_assert_eq(reprofile_tell(r, 0, 1, 11, &unknown), 0);
	reprofile_worse(r, 1, w);
	for (unsigned i = 0; i < POLICY_LEVELS_MAX; i++)
		cr_assert_eq(w[i], 1, "level %u: %g", i, w[i]);
	cr_assert_eq(reprofile_tell(r, 0, 1, 10, &bad), 1);
	reprofile_worse(r, 1, w);
	cr_assert(near(w[0], (0.8 + P) / (0.05 + P)), "a profile that is wrong: %g", w[0]);
	reprofile_count(r, &n, &models);
	cr_assert(n == 1 && models == 1, "%u of %u", n, models);
	cr_assert_eq(reprofile_tell(r, 0, 1, 10, &none), 1, "taken back");
	reprofile_worse(r, 1, w);
	cr_assert_eq(w[0], 1);
	reprofile_destroy(r);
	reprofile_destroy(NULL);
}

/* Told of again, in another order: nothing changes. */
Test(policy_reprofile, of_many_the_same_ones_count)
{
	double w[POLICY_LEVELS_MAX], again[POLICY_LEVELS_MAX];
	struct reprofile *r;
	unsigned n, models;

	cr_assert_eq(reprofile_create(&r), 0);
	for (unsigned round = 0; round < 3; round++) {
		for (uint64_t i = 0; i < 100; i++) {
			uint64_t id = round == 1 ? 99 - i : i;
			struct policy_said s = said("0:0.9,1:0.95", "", "");

			s.feedback[0] = (double)(id % 7) / 10;
			cr_assert(reprofile_tell(r, 0, 1, id, &s) <= (round == 0), "round %u, %u", round,
				  (unsigned)id);
		}
		reprofile_worse(r, 1, round ? again : w);
		cr_assert(round == 0 || (near(w[0], again[0]) && near(w[1], again[1])));
	}
	reprofile_count(r, &n, &models);
	cr_assert(n == REPROFILE_CONTEXTS && models == 1, "%u of %u", n, models);
	reprofile_destroy(r);
}

Test(policy_reprofile, an_owner_has_his_share_of_models)
{
	struct policy_said bad = said("0:0.9", "", "0:0.5");
	double w[POLICY_LEVELS_MAX];
	unsigned n, models, known = 0;
	struct reprofile *r;

	cr_assert_eq(reprofile_create(&r), 0);
	cr_assert_eq(reprofile_tell(r, 1, 1000, 1, &bad), 1);
	for (unsigned round = 0; round < 2; round++)
		for (uint64_t key = 0; key < 100; key++)
			cr_assert(reprofile_tell(r, 2, key, key + 2, &bad) <= (round == 0));
	reprofile_count(r, &n, &models);
	cr_assert_eq(models, REPROFILE_OWN + 1);
	reprofile_worse(r, 1000, w);
	cr_assert_gt(w[0], 1, "another owner's");
	for (uint64_t key = 0; key < 100; key++) {
		reprofile_worse(r, key, w);
		known += w[0] > 1;
	}
	cr_assert_eq(known, REPROFILE_OWN);
	for (uint32_t owner = 3; owner < 3 + REPROFILE_MODELS; owner++)
		(void)reprofile_tell(r, owner, 2000 + owner, 2000 + owner, &bad);
	reprofile_count(r, &n, &models);
	cr_assert_eq(models, REPROFILE_MODELS);
	reprofile_destroy(r);
}

Test(policy_reprofile, a_context_that_is_of_another_model_now)
{
	struct policy_said bad = said("0:0.9", "", "0:0.5"), none = said("0:0.9", "", "");
	double w[POLICY_LEVELS_MAX];
	struct reprofile *r;

	cr_assert_eq(reprofile_create(&r), 0);
	cr_assert_eq(reprofile_tell(r, 1, 1, 7, &bad), 1);
	cr_assert_eq(reprofile_tell(r, 2, 2, 7, &bad), 1);
	reprofile_worse(r, 1, w);
	cr_assert_eq(w[0], 1, "it was of: %g", w[0]);
	cr_assert_eq(reprofile_tell(r, 2, 3, 7, &none), 1);
	reprofile_worse(r, 2, w);
	cr_assert_eq(w[0], 1, "and of: %g", w[0]);
	cr_assert(reprofile_tell(r, 2, 2, 7, &bad) && reprofile_tell(r, 2, 2, 8, &bad));
	cr_assert(reprofile_forget(r, 7) && reprofile_forget(r, 8) && !reprofile_forget(r, 8));
	reprofile_worse(r, 2, w);
	cr_assert_eq(w[0], 1, "removed: %g", w[0]);
	reprofile_destroy(r);
}

Test(policy_reprofile, what_a_reader_measured_himself_is_not_made_worse)
{
	struct policy_said s = said("0:0.8,1:0.98", "", "0:0.75");
	double q[POLICY_LEVELS_MAX];

	s.worse[0] = s.worse[1] = 2;
	policy_qualities(&s, q);
	cr_assert(near(q[0], 0.75) && near(q[1], 0.96), "%g, %g", q[0], q[1]);
}
