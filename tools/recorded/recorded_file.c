/* SPDX-License-Identifier: MIT */
/* A trace's files, and lists on command lines. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/io.h"
#include "base/mem.h"
#include "base/units.h"
#include "policy/policy.h"
#include "recorded.h"

#define FILE_MAX (4ull << 30)
#define BUDGET_MAX (1ull << 53) /* as in traces */

static int load_one(const char *path, struct trace_set *s)
{
	char *text;
	size_t len;
	int r = io_read_file(AT_FDCWD, path, FILE_MAX, &text, &len);

	if (r < 0)
		return r;
	r = len ? trace_set_add(s, text, len) : 0;
	mem_free(text);
	return r;
}

int recorded_load(const char *path, struct trace_set *ret, struct sbuf *why)
{
	struct trace_set s = { .n = 0 };
	char old[4200];
	int r;

	snprintf(old, sizeof(old), "%s.1", path);
	r = load_one(old, &s);
	if (r == 0 || r == -ENOENT) {
		snprintf(old, sizeof(old), "%s", path);
		r = load_one(old, &s);
	}
	if (r < 0)
		sbuf_addf(why, "%s: %s", old,
			  r == -KVFS_EFORMAT ? "not a trace of kvcachefs" : err_text(r));
	if (r == 0) {
		r = trace_set_finish(&s);
		if (r == -ENODATA)
			sbuf_addf(why, "%s: no reads of sealed files in %llu records (%llu unreadable lines)",
				  path, (unsigned long long)s.records, (unsigned long long)s.damaged);
		else if (r < 0)
			sbuf_addf(why, "%s: %s", path, err_text(r));
	}
	if (r == 0 && !s.has_state) {
		r = -ENODATA;
		sbuf_addf(why, "%s: no record of the machine's speeds (a line \"state\")", path);
	}
	if (r == 0)
		*ret = s;
	else
		trace_set_fini(&s);
	return r;
}

/* The next of "a,b"; false at the end. */
static bool next(const char **s, char *one, size_t cap)
{
	size_t n = strcspn(*s, ",");

	if (!**s)
		return false;
	snprintf(one, cap, "%.*s", (int)n, *s);
	*s += n + ((*s)[n] == ',');
	return true;
}

int recorded_budgets_parse(const char *s, struct recorded_budgets *ret)
{
	struct recorded_budgets l = { .n = 0 };
	char one[64];

	while (next(&s, one, sizeof(one)))
		if (l.n == RECORDED_LIST_MAX || units_parse_bytes(one, &l.v[l.n]) < 0 ||
		    l.v[l.n++] > BUDGET_MAX)
			return -EINVAL;
	*ret = l;
	return l.n ? 0 : -EINVAL;
}

int recorded_storage_parse(const char *s, struct recorded_budgets *ret)
{
	int r = recorded_budgets_parse(s, ret);

	for (unsigned i = 0; i < ret->n && r == 0; i++)
		r = ret->v[i] ? 0 : -EINVAL;
	return r;
}

int recorded_policies_parse(const char *s, struct recorded_policies *ret)
{
	struct recorded_policies l = { .n = 0 };
	char one[64];

	while (next(&s, one, sizeof(one))) {
		const struct policy_ops *p = policy_by_name(one);

		if (l.n == RECORDED_LIST_MAX || !p)
			return -EINVAL;
		l.v[l.n++] = p;
	}
	*ret = l;
	return l.n ? 0 : -EINVAL;
}
