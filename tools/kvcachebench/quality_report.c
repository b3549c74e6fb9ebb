// SPDX-License-Identifier: MIT
/* Table, JSON, and the picture by gnuplot. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/sbuf.h"
#include "quality.h"

static const char *const family_names[] = { "ladder", "planes", "KIVI", "one range per axis",
					    "float prefix" };

static double ssd(const struct quality_row *r)
{
	return r->values > 0 ? r->ssd_bits / r->values : 0;
}

static double dram(const struct quality_row *r)
{
	return r->values > 0 ? r->dram_bits / r->values : 0;
}

static double error_of(const struct quality_row *r)
{
	return r->weight > 0 ? sqrt(r->error / r->weight) : 0;
}

void quality_print(const struct quality *q)
{
	printf("\n%-18s %9s %9s %12s %10s\n", "", "SSD bits", "DRAM bits", "error", "agreement");
	for (unsigned i = 0; i < q->n_rows; i++) {
		const struct quality_row *r = &q->rows[i];

		printf("%-18s %9.3f %9.3f %12.5f", r->name, ssd(r), dram(r), error_of(r));
		if (r->agree_n > 0)
			printf(" %9.3f%%", 100 * r->agree / r->agree_n);
		printf("\n");
	}
	printf("Bits per value, everything counted; error: what attention's output differs by, relative,\n"
	       "keys standing in for queries; float prefix: entropy, without tables.\n");
	if (q->head_dim)
		printf("Heads of %u are assumed where a file does not say.\n", q->head_dim);
}

void quality_json(const struct quality *q, struct sbuf *b)
{
	sbuf_adds(b, "[");
	for (unsigned i = 0; i < q->n_rows; i++) {
		const struct quality_row *r = &q->rows[i];

		sbuf_addf(b, "%s{\"name\":\"%s\",\"family\":\"%s\",\"values\":%.0f,"
			  "\"ssd_bits\":%.5f,\"dram_bits\":%.5f,\"error\":%.7f",
			  i ? "," : "", r->name, family_names[r->family], r->values, ssd(r), dram(r),
			  error_of(r));
		if (r->agree_n > 0)
			sbuf_addf(b, ",\"agreement\":%.6f,\"positions\":%.0f",
				  r->agree / r->agree_n, r->agree_n);
		sbuf_adds(b, "}");
	}
	sbuf_adds(b, "]");
}

static double height(const struct quality_row *r, bool agree)
{
	return agree ? 1 - r->agree / (r->agree_n > 0 ? r->agree_n : 1) : error_of(r);
}

/* Points of one family; what loses nothing has no place on a logarithmic axis. */
static unsigned plot_points(const struct quality *q, FILE *f, unsigned family, bool agree)
{
	unsigned n = 0;

	for (unsigned i = 0; i < q->n_rows; i++) {
		const struct quality_row *r = &q->rows[i];

		if (r->family != family || !(height(r, agree) > 0))
			continue;
		if (f)
			fprintf(f, "%.5f %.7f\n", ssd(r), height(r, agree));
		n++;
	}
	return n;
}

/* One curve per family, as inline data. */
static void plot_one(const struct quality *q, FILE *f, bool agree)
{
	const unsigned families = sizeof(family_names) / sizeof(family_names[0]);
	const char *sep = "plot";

	fprintf(f, "set ylabel '%s'\n", agree ? "share of next tokens that change"
					      : "relative error of attention output");
	for (unsigned m = 0; m < families; m++) {
		if (plot_points(q, NULL, m, agree) == 0)
			continue;
		fprintf(f, "%s '-' using 1:2 with linespoints pt %u title '%s'", sep, m + 4,
			family_names[m]);
		sep = ",";
	}
	fprintf(f, "\n");
	for (unsigned m = 0; m < families; m++)
		if (plot_points(q, f, m, agree) > 0)
			fprintf(f, "e\n");
}

int quality_plot(const struct quality *q, const struct quality_options *o)
{
	bool agree = q->n_rows && q->rows[0].agree_n > 0;
	FILE *f;

	if (strpbrk(o->plot, "'\\\n")) {
		fprintf(stderr, "kvcachebench: --plot: a name without quotes, please\n");
		return -EINVAL;
	}
	f = popen("gnuplot", "w");
	if (!f)
		return -errno;
	fprintf(f, "set terminal svg size 900,%u font 'sans,12' background 'white'\n"
		   "set output '%s'\nset logscale y\nset grid\nset xlabel 'bits per value, as stored'\n"
		   "set xrange [0:10]\nset key top right\n",
		agree ? 900 : 520, o->plot);
	if (agree)
		fprintf(f, "set multiplot layout 2,1\n");
	plot_one(q, f, false);
	if (agree)
		plot_one(q, f, true);
	fprintf(f, "%sset output\n", agree ? "unset multiplot\n" : "");
	if (pclose(f) != 0) {
		fprintf(stderr, "kvcachebench: --plot needs gnuplot (apt install gnuplot-nox)\n");
		return -ENOENT;
	}
	return 0;
}
