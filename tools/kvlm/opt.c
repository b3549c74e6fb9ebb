/* SPDX-License-Identifier: MIT */
#include "opt.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache.h"
#include "dtype.h"

static void print_help(const struct opt_set *s)
{
	printf("usage: %s\n\n%s\n\n", s->usage, s->about);
	for (size_t i = 0; i < s->n_opts; i++) {
		const struct opt *o = &s->opts[i];
		int w = printf("  %s%s%s%s", o->name[1] ? "--" : "-", o->name, o->arg ? " " : "",
			       o->arg ? o->arg : "");

		printf("%*s%s\n", w < 26 ? 26 - w : 1, "", o->help);
	}
	printf("  --help                  this text\n");
}

static int parse_bytes(const char *text, uint64_t *ret)
{
	static const char units[] = "KMGT";
	char *end;
	double v = strtod(text, &end);
	const char *u = *end ? strchr(units, *end) : NULL;

	if (end == text || !(v >= 0))
		return -EINVAL;
	if (u) {
		v *= (double)(1ull << (10 * (u - units + 1)));
		end++;
		if (!strcmp(end, "iB") || !strcmp(end, "B"))
			end += strlen(end);
	}
	if (*end || v > 9e18)
		return -EINVAL;
	*ret = (uint64_t)v;
	return 0;
}

static int parse_u32(const char *text, uint32_t min, uint32_t max, uint32_t *ret)
{
	char *end;
	unsigned long long v = strtoull(text, &end, 0);

	if (end == text || *end || *text == '-' || v < min || v > max)
		return -EINVAL;
	*ret = (uint32_t)v;
	return 0;
}

static int set_value(const struct opt *o, const char *text)
{
	struct opt_list *list = o->dst;
	int v;

	switch (o->kind) {
	case OPT_FLAG:
		*(bool *)o->dst = true;
		return 0;
	case OPT_STR:
		*(const char **)o->dst = text;
		return 0;
	case OPT_LIST:
		if (list->n == OPT_LIST_MAX)
			return -E2BIG;
		list->v[list->n++] = text;
		return 0;
	case OPT_U32:
		return parse_u32(text, o->min, o->max, o->dst);
	case OPT_BYTES:
		return parse_bytes(text, o->dst);
	case OPT_DTYPE:
		v = dtype_parse(text);
		if (v >= 0)
			*(enum dtype *)o->dst = (enum dtype)v;
		return v < 0 ? -EINVAL : 0;
	default:
		v = cache_format_parse(text);
		if (v >= 0)
			*(enum cache_format *)o->dst = (enum cache_format)v;
		return v < 0 ? -EINVAL : 0;
	}
}

static const struct opt *find(const struct opt_set *s, const char *name, size_t len)
{
	for (size_t i = 0; i < s->n_opts; i++)
		if (strlen(s->opts[i].name) == len && !memcmp(s->opts[i].name, name, len))
			return &s->opts[i];
	return NULL;
}

/* One option at argv[*i], which begins with '-'. */
static int parse_one(struct opt_set *s, int argc, char **argv, int *i, struct msg *m)
{
	const char *name = argv[*i] + 1 + (argv[*i][1] == '-'), *eq = strchr(name, '=');
	const struct opt *o = find(s, name, eq ? (size_t)(eq - name) : strlen(name));
	const char *value = eq ? eq + 1 : NULL;
	const char *given = argv[*i];

	if (!o)
		return msg_fail(m, -EINVAL, "unknown option %s (see --help)", given);
	if (o->kind == OPT_FLAG && value)
		return msg_fail(m, -EINVAL, "%s takes no value", given);
	if (o->kind != OPT_FLAG && !value) {
		if (*i + 1 >= argc)
			return msg_fail(m, -EINVAL, "%s needs a value", given);
		value = argv[++*i];
	}
	if (set_value(o, value))
		return msg_fail(m, -EINVAL, "%s %s: not a usable value", given, value);
	return 0;
}

int opt_parse(struct opt_set *s, int argc, char **argv, struct msg *m)
{
	bool only_args = false;
	int r = 0;

	s->n_args = 0;
	for (int i = 1; !r && i < argc; i++) {
		if (!only_args && !strcmp(argv[i], "--")) {
			only_args = true;
		} else if (!only_args && argv[i][0] == '-' && argv[i][1]) {
			if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
				print_help(s);
				return 1;
			}
			r = parse_one(s, argc, argv, &i, m);
		} else if (s->n_args == s->max_args) {
			r = msg_fail(m, -EINVAL, "unexpected argument %s (see --help)", argv[i]);
		} else {
			s->args[s->n_args++] = argv[i];
		}
	}
	if (!r && s->n_args < s->min_args)
		r = msg_fail(m, -EINVAL, "too few arguments; usage: %s", s->usage);
	return r;
}
