// SPDX-License-Identifier: MIT
/* Table and JSON of rows with a reference. */
#include "rig_report.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"

struct row *report_row(struct report *rep, const struct rig *g, const char *name, const char *what,
		       const char *ref, double target, double work)
{
	struct row *r;

	if (rep->n == ROWS_MAX || !rig_row_wanted(g, name))
		return NULL;
	r = &rep->rows[rep->n++];
	*r = (struct row){ .name = name, .what = what, .ref = ref, .target = target, .work = work };
	return r;
}

static void row_ratios(const struct row *r, struct bench_times *ret)
{
	unsigned n = r->ours.n < r->theirs.n || r->direct ? r->ours.n : r->theirs.n;

	ret->n = 0;
	for (unsigned i = 0; i < n; i++)
		bench_add(ret, r->direct ? r->ours.s[i]
			       : r->ours.s[i] > 0 ? r->theirs.s[i] / r->ours.s[i] : 0);
}

double row_ratio(const struct row *r)
{
	struct bench_times t;

	row_ratios(r, &t);
	return bench_median(&t);
}

static double worst(const struct bench_times *t)
{
	double w = 0;

	for (unsigned i = 0; i < t->n; i++)
		w = t->s[i] > w ? t->s[i] : w;
	return w;
}

/* GB/s, or thousands of operations per second. */
static double speed(const struct row *r, const struct bench_times *t)
{
	double m = bench_median(t);

	return m > 0 ? r->work / m / (r->ops ? 1e3 : 1e9) : 0;
}

static bool row_met(const struct row *r)
{
	return r->target <= 0 || row_ratio(r) >= r->target;
}

static void print_table(const struct report *rep, const struct rig *g)
{
	printf("%-42s %9s  %-24s %9s | %6s %-13s | %6s\n", "", "kvcachefs", "", "reference",
	       "ratio", "  [min-max]", "target");
	for (unsigned i = 0; i < rep->n; i++) {
		const struct row *r = &rep->rows[i];
		const char *unit = r->ops ? "k/s" : "GB/s";
		struct bench_times t;

		row_ratios(r, &t);
		printf("%-42s ", r->what);
		if (r->direct)
			printf("%9s  %-24s %9s", "", r->ref, "");
		else
			printf("%5.2f %-4s %-24s %5.2f %-4s", speed(r, &r->ours), unit, r->ref,
			       speed(r, &r->theirs), unit);
		printf(" | %6.2f [%.2f-%.2f]", row_ratio(r), bench_best(&t), worst(&t));
		if (r->target > 0)
			printf(" | %6.2f %s\n", r->target, row_met(r) ? "met" : "SHORT");
		else
			printf(" |\n");
	}
	printf("Medians of %u rounds; a ratio is the median of each round's.\n%s", g->o->rounds,
	       rep->notes.s ? rep->notes.s : "");
}

static void json_times(struct sbuf *b, const char *name, const struct bench_times *t)
{
	sbuf_addf(b, ",\"%s\":[", name);
	for (unsigned i = 0; i < t->n; i++)
		sbuf_addf(b, "%s%.6f", i ? "," : "", t->s[i]);
	sbuf_adds(b, "]");
}

static void print_json(const struct report *rep, const struct rig *g)
{
	struct sbuf b = SBUF_INIT;
	char *text;

	sbuf_addf(&b, "{\"bench\":\"%s\",\"rounds\":%u,\"bytes\":%llu,\"files\":%u,\"notes\":",
		  rep->bench, g->o->rounds, (unsigned long long)g->o->bytes, g->o->files);
	sbuf_add_json_str(&b, rep->notes.s ? rep->notes.s : "");
	sbuf_adds(&b, ",\"rows\":[");
	for (unsigned i = 0; i < rep->n; i++) {
		const struct row *r = &rep->rows[i];

		sbuf_addf(&b, "%s{\"name\":\"%s\",\"what\":", i ? "," : "", r->name);
		sbuf_add_json_str(&b, r->what);
		sbuf_adds(&b, ",\"reference\":");
		sbuf_add_json_str(&b, r->ref);
		sbuf_addf(&b, ",\"ratio\":%.4f,\"target\":%.4f,\"met\":%s,\"work\":%.0f,"
			      "\"unit\":\"%s\"", row_ratio(r), r->target,
			  row_met(r) ? "true" : "false", r->work,
			  r->direct ? "ratio" : r->ops ? "operations" : "bytes");
		json_times(&b, r->direct ? "ratios" : "seconds", &r->ours);
		if (!r->direct)
			json_times(&b, "reference_seconds", &r->theirs);
		sbuf_adds(&b, "}");
	}
	sbuf_adds(&b, "]}");
	text = sbuf_take(&b);
	if (text)
		puts(text);
	mem_free(text);
}

bool report_print(struct report *rep, const struct rig *g)
{
	bool all = true;

	bench_progress(NULL);
	for (unsigned i = 0; i < rep->n; i++)
		all = all && row_met(&rep->rows[i]);
	if (g->o->json)
		print_json(rep, g);
	else
		print_table(rep, g);
	fflush(stdout);
	return all;
}

void report_fini(struct report *rep)
{
	sbuf_fini(&rep->notes);
}
