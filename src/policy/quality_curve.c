/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/units.h"
#include "policy/quality.h"

#define NUMBER_MAX 32

const struct quality_curve quality_builtin = {
	.n = 7,
	.at = { { 0.01272, 0.99959 }, { 0.01345, 0.99835 }, { 0.05652, 0.99403 },
		{ 0.1517, 0.98704 }, { 0.161, 0.98488 }, { 0.3866, 0.95648 },
		{ 0.573, 0.94187 } },
};

double quality_of(const struct quality_curve *c, double error)
{
	double e0 = 0, q0 = 1, q;
	unsigned i = 0;

	if (!isfinite(error))
		return 0;
	if (error <= 0 || c->n == 0)
		return 1;
	while (i < c->n && c->at[i].error < error) {
		e0 = c->at[i].error;
		q0 = c->at[i].quality;
		i++;
	}
	if (i < c->n)
		q = q0 + (c->at[i].quality - q0) * ((error - e0) / (c->at[i].error - e0));
	else
		q = 1 - (1 - q0) * (error / e0);
	return q > 0 ? q : 0;
}

/* The number up to @stop, which is a character or the end of the text. */
static int number(const char **s, char stop, double max, double *ret)
{
	char text[NUMBER_MAX];
	size_t len = strcspn(*s, ":,");

	if ((*s)[len] != stop || len >= sizeof(text))
		return -EINVAL;
	memcpy(text, *s, len);
	text[len] = 0;
	*s += len + (stop != 0);
	return units_parse_double(text, 0, max, ret) ? -EINVAL : 0;
}

int quality_curve_parse(const char *s, struct quality_curve *ret)
{
	struct quality_curve c = { 0 };
	double e0 = 0, q0 = 1;

	for (;;) {
		double e, q;
		bool last = !strchr(s, ',');

		if (c.n == QUALITY_POINTS_MAX || number(&s, ':', 1e6, &e) ||
		    number(&s, last ? 0 : ',', 1, &q) || !(e > e0) || q > q0)
			return -EINVAL;
		c.at[c.n++] = (struct quality_point){ e, q };
		e0 = e;
		q0 = q;
		if (last)
			break;
	}
	*ret = c;
	return 0;
}

void quality_curve_print(const struct quality_curve *c, char *buf, size_t cap)
{
	size_t at = 0;

	buf[0] = 0;
	for (unsigned i = 0; i < c->n && at < cap; i++)
		at += (size_t)snprintf(buf + at, cap - at, "%s%.4g:%.5g", i ? "," : "",
				       c->at[i].error, c->at[i].quality);
}

/* ---- fitting --------------------------------------------------------------- */

static int by_error(const void *a, const void *b)
{
	double x = ((const struct quality_pair *)a)->error, y = ((const struct quality_pair *)b)->error;

	return (x > y) - (x < y);
}

/* Those that say something, to the front. How many; 0 when a number is out of range. */
static size_t useful(struct quality_pair *p, size_t n)
{
	size_t kept = 0;

	for (size_t i = 0; i < n; i++) {
		if (!(p[i].error >= 0 && p[i].error <= 1e6) ||
		    !(p[i].quality >= 0 && p[i].quality <= 1) ||
		    !(p[i].weight >= 0 && p[i].weight <= 1e12))
			return 0;
		if (p[i].error > 0 && p[i].weight > 0)
			p[kept++] = p[i];
	}
	return kept;
}

static void join(struct quality_pair *a, const struct quality_pair *b)
{
	double w = a->weight + b->weight;

	a->error = (a->error * a->weight + b->error * b->weight) / w;
	a->quality = (a->quality * a->weight + b->quality * b->weight) / w;
	a->weight = w;
}

int quality_fit(struct quality_pair *p, size_t n, struct quality_curve *ret)
{
	struct quality_pair group[QUALITY_POINTS_MAX];
	unsigned groups, k = 0;

	n = useful(p, n);
	if (n < 2)
		return -EINVAL;
	qsort(p, n, sizeof(*p), by_error);
	groups = n < QUALITY_POINTS_MAX ? (unsigned)n : QUALITY_POINTS_MAX;
	for (unsigned g = 0; g < groups; g++) {
		size_t from = n * g / groups, to = n * (g + 1) / groups;

		group[k] = p[from];
		for (size_t i = from + 1; i < to; i++)
			join(&group[k], &p[i]);
		while (k > 0 && (group[k].quality >= group[k - 1].quality ||
				 group[k].error <= group[k - 1].error)) {
			join(&group[k - 1], &group[k]);
			k--;
		}
		k++;
	}
	ret->n = k;
	for (unsigned g = 0; g < k; g++)
		ret->at[g] = (struct quality_point){ group[g].error, group[g].quality };
	return 0;
}
