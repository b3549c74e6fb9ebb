// SPDX-License-Identifier: MIT
/* The frontier of delay and quality: a picture for each cell, in it a curve for each
 * family of systems over its knob, by gnuplot. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "bench.h"
#include "placement.h"

static double of_mean(const struct place_result *r) { return r->mean_s; }
static double of_quality(const struct place_result *r) { return r->quality; }

/* Points of one family in the cell that begins at @first; how many. */
static unsigned points(const struct place_systems *sys, const struct place_row *first,
		       const char *family, FILE *f)
{
	unsigned n = 0;

	for (unsigned k = 0; k < sys->n; k++) {
		const struct place_row *row = &first[k];
		double dh, qh, d = place_mean(row, of_mean, &dh), q = place_mean(row, of_quality, &qh);

		if (strcmp(sys->s[k].family, family) != 0 || q <= 0)
			continue;
		if (f)
			fprintf(f, "%.4f %.5f %.4f %.5f\n", 1e3 * d, q, 1e3 * dh, qh);
		n++;
	}
	return n;
}

static unsigned ceiling(const struct place_report *rep, const struct place_cell *c, FILE *f)
{
	unsigned n = 0;

	for (unsigned i = 0; i < rep->n_bounds; i++) {
		const struct place_bound *b = &rep->bounds[i];

		if (b->cell.zipf != c->zipf || b->cell.dram != c->dram ||
		    b->cell.throttled != c->throttled)
			continue;
		if (f)
			fprintf(f, "%.4f %.5f\n", 1e3 * b->delay_s, b->quality);
		n++;
	}
	return n;
}

/* The first system of each family stands for it. */
static bool leads(const struct place_systems *sys, unsigned k)
{
	for (unsigned i = 0; i < k; i++)
		if (strcmp(sys->s[i].family, sys->s[k].family) == 0)
			return false;
	return true;
}

static void plot_cell(const struct place_systems *sys, const struct place_report *rep,
		      const struct place_row *first, FILE *f)
{
	const struct place_cell *c = &first->cell;
	const char *sep = "plot";

	fprintf(f, "set title 'Zipf %g, DRAM %g %%%s'\n", c->zipf, 100 * c->dram,
		c->throttled ? ", throttled" : "");
	for (unsigned k = 0; k < sys->n; k++) {
		if (!leads(sys, k) || points(sys, first, sys->s[k].family, NULL) == 0)
			continue;
		fprintf(f, "%s '-' using 1:2:3:4 with xyerrorbars lc %u pt %u title '%s', "
			   "'-' using 1:2 with lines lc %u notitle", sep, k + 1, k + 4,
			sys->s[k].family, k + 1);
		sep = ",";
	}
	if (ceiling(rep, c, NULL))
		fprintf(f, "%s '-' using 1:2 with linespoints dt 2 pt 1 lc rgb 'black' title 'ceiling'", sep);
	fprintf(f, "\n");
	for (unsigned k = 0; k < sys->n; k++) {
		if (!leads(sys, k) || points(sys, first, sys->s[k].family, NULL) == 0)
			continue;
		for (unsigned twice = 0; twice < 2; twice++) {
			(void)points(sys, first, sys->s[k].family, f);
			fprintf(f, "e\n");
		}
	}
	if (ceiling(rep, c, f))
		fprintf(f, "e\n");
}

/* Is there anything to draw in the cell? */
static bool has_points(const struct place_systems *sys, const struct place_row *first)
{
	for (unsigned k = 0; k < sys->n; k++)
		if (points(sys, first, sys->s[k].family, NULL))
			return true;
	return false;
}

int place_plot(const struct place_options *o, const struct place_systems *sys,
	       const struct place_report *rep)
{
	unsigned cells = 0, across;
	FILE *f;

	for (unsigned i = 0; sys->n && i < rep->n; i += sys->n)
		cells += has_points(sys, &rep->rows[i]);
	if (cells == 0)
		return 0;
	across = cells > 2 ? 2 : cells;
	f = popen("gnuplot", "w");
	if (!f)
		return rig_fail(-errno, "gnuplot: %s", strerror(errno));
	fprintf(f, "set terminal svg size %u,%u font 'sans,11' background 'white'\nset output '%s'\n"
		   "set grid\nset xrange [0:*]\nset xlabel 'mean delay, ms'\nset ylabel 'quality'\n"
		   "set key bottom right\nset multiplot layout %u,%u\n",
		620 * across, 440 * ((cells + across - 1) / across), o->plot,
		(cells + across - 1) / across, across);
	for (unsigned i = 0; i < rep->n; i += sys->n)
		if (has_points(sys, &rep->rows[i]))
			plot_cell(sys, rep, &rep->rows[i], f);
	fprintf(f, "unset multiplot\nset output\n");
	if (pclose(f) != 0)
		return rig_fail(-ENOENT, "--plot needs gnuplot (apt install gnuplot-nox)");
	return 0;
}
