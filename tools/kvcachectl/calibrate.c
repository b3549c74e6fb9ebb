/* SPDX-License-Identifier: MIT */
/*
 * What levels cost a user's own model: from pairs that kvlm calibrate, or an engine,
 * measured, the curve from error to quality, and the profile: the mean quality of each
 * level, which can be set on files and directories.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "ctl.h"
#include "policy/quality.h"

#define LEVELS_MAX 8
#define LINE_MAX_BYTES 256
#define TOKENS_MAX 1e12

struct pairs {
	struct quality_pair *p; /* owned */
	size_t n, cap;
	double sum[LEVELS_MAX], weight[LEVELS_MAX]; /* by level */
};

static int add(struct pairs *a, unsigned level, struct quality_pair p)
{
	if (a->n == a->cap) {
		size_t cap = a->cap ? 2 * a->cap : 64;
		struct quality_pair *grown = mem_realloc(a->p, cap * sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		a->p = grown;
		a->cap = cap;
	}
	a->p[a->n++] = p;
	a->sum[level] += p.quality * p.weight;
	a->weight[level] += p.weight;
	return 0;
}

/* "CONTEXT LEVEL ERROR QUALITY TOKENS"; empty lines and those with # say nothing. */
static int read_line(struct pairs *a, const char *line)
{
	struct quality_pair p;
	unsigned level;
	char end;

	if (line[strspn(line, " \t\r\n")] == 0 || line[0] == '#')
		return 0;
	if (sscanf(line, "%*s %1u %lf %lf %lf %c", &level, &p.error, &p.quality, &p.weight, &end) !=
		    4 ||
	    level >= LEVELS_MAX || !(p.error >= 0) || !(p.quality >= 0 && p.quality <= 1) ||
	    !(p.weight > 0 && p.weight <= TOKENS_MAX))
		return -EINVAL;
	return add(a, level, p);
}

static int read_pairs(const char *path, struct pairs *a)
{
	FILE *f = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
	char line[LINE_MAX_BYTES];
	unsigned at = 0;
	int r = 0;

	if (!f)
		return ctl_error("%s: %s", path, strerror(errno));
	while (r == 0 && fgets(line, sizeof(line), f)) {
		at++;
		r = read_line(a, line);
	}
	if (r == -EINVAL)
		ctl_error("%s: line %u: expected CONTEXT LEVEL ERROR QUALITY TOKENS", path, at);
	else if (r < 0 || ferror(f))
		r = ctl_error("%s: %s", path, r < 0 ? strerror(-r) : "cannot be read");
	if (f != stdin)
		fclose(f);
	return r ? 1 : 0;
}

/* Rounded down: a profile is believed. */
static void profile_text(const struct pairs *a, char *buf, size_t cap)
{
	size_t at = 0;

	buf[0] = 0;
	for (unsigned l = 0; l < LEVELS_MAX && at < cap; l++)
		if (a->weight[l] > 0)
			at += (size_t)snprintf(buf + at, cap - at, "%s%u:%.4f", at ? "," : "", l,
					       (double)(int)(1e4 * a->sum[l] / a->weight[l]) / 1e4);
}

static int set_profile(char *text, int argc, char **argv)
{
	char **with = mem_calloc((size_t)argc + 3, sizeof(*with));
	int r;

	if (!with)
		return ctl_error("%s", strerror(ENOMEM));
	with[0] = (char[]){ "profile" };
	with[1] = text;
	memcpy(with + 2, argv, (size_t)argc * sizeof(*argv));
	r = cmd_set(argc + 2, with);
	mem_free(with);
	return r;
}

int cmd_calibrate(int argc, char **argv)
{
	char curve_text[512], profile[128];
	struct quality_curve curve;
	struct pairs a = { 0 };
	int r;

	if (argc < 2 || (argv[1][0] == '-' && argv[1][1]))
		return ctl_usage(argv[0]);
	r = read_pairs(argv[1], &a);
	if (r == 0) {
		profile_text(&a, profile, sizeof(profile));
		if (quality_fit(a.p, a.n, &curve) < 0)
			r = ctl_error("%s: two pairs with an error at least are needed", argv[1]);
	}
	mem_free(a.p);
	if (r)
		return r;
	quality_curve_print(&curve, curve_text, sizeof(curve_text));
	printf("curve    %s\nprofile  %s\n", curve_text, profile);
	return argc > 2 ? set_profile(profile, argc - 2, argv + 2) : 0;
}
