// SPDX-License-Identifier: MIT
/* Table, comparison with the fixed systems, JSON. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "bench.h"
#include "placement.h"

#define SAME_QUALITY 0.01

static double of_mean(const struct place_result *r) { return r->mean_s; }
static double of_p50(const struct place_result *r) { return r->p50_s; }
static double of_p99(const struct place_result *r) { return r->p99_s; }
static double of_wait(const struct place_result *r) { return r->wait_s; }
static double of_hit(const struct place_result *r) { return r->hit; }
static double of_gone(const struct place_result *r) { return r->gone; }
static double of_quality(const struct place_result *r) { return r->quality; }
static double of_agree(const struct place_result *r) { return r->agree; }

static const struct {
	const char *name;
	double (*of)(const struct place_result *);
} measures[] = {
	{ "delay_mean_s", of_mean },    { "delay_p50_s", of_p50 }, { "delay_p99_s", of_p99 },
	{ "wait_mean_s", of_wait },     { "dram_hits", of_hit },   { "removed", of_gone },
	{ "quality", of_quality }, { "agreement", of_agree },
};
#define MEASURES (sizeof(measures) / sizeof(measures[0]))

/* Student's t, 97.5 %, by degrees of freedom. */
static double student(unsigned df)
{
	static const double t[] = { 0,     12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365,
				    2.306, 2.262,  2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
				    2.120, 2.110,  2.101, 2.093, 2.086 };

	return df < sizeof(t) / sizeof(t[0]) ? t[df] : 1.96 + 2.4 / df;
}

double place_mean(const struct place_row *row, double (*of)(const struct place_result *),
		  double *ret_half)
{
	double sum = 0, sq = 0, mean;
	unsigned n = 0;

	for (unsigned i = 0; i < row->n; i++)
		if (row->r[i].valid) {
			sum += of(&row->r[i]);
			n++;
		}
	mean = n ? sum / n : 0;
	for (unsigned i = 0; i < row->n; i++)
		if (row->r[i].valid)
			sq += (of(&row->r[i]) - mean) * (of(&row->r[i]) - mean);
	if (ret_half)
		*ret_half = n > 1 ? student(n - 1) * sqrt(sq / (n - 1) / n) : 0;
	return mean;
}

static unsigned valid_runs(const struct place_row *row)
{
	unsigned n = 0;

	for (unsigned i = 0; i < row->n; i++)
		n += row->r[i].valid;
	return n;
}

static bool same_cell(const struct place_cell *a, const struct place_cell *b)
{
	return a->zipf == b->zipf && a->dram == b->dram && a->throttled == b->throttled;
}

/* ---- adaptive beside the others -------------------------------------------------------- */

/* Of the adaptive rows in @row's cell, by @less_delay: the least delay at no less than
 * its quality less a percent; else the most quality at no more than its delay. NULL: none. */
static const struct place_row *best_adaptive(const struct place_systems *sys,
					     const struct place_report *rep,
					     const struct place_row *row, bool less_delay)
{
	double d0 = place_mean(row, of_mean, NULL), q0 = place_mean(row, of_quality, NULL), found = 0;
	const struct place_row *best = NULL;

	for (unsigned i = 0; i < rep->n; i++) {
		const struct place_row *a = &rep->rows[i];
		double d, q;

		if (!same_cell(&a->cell, &row->cell) || !valid_runs(a) ||
		    strcmp(sys->s[a->system].family, "adaptive") != 0)
			continue;
		d = place_mean(a, of_mean, NULL);
		q = place_mean(a, of_quality, NULL);
		if (less_delay ? q >= q0 - SAME_QUALITY && (!best || d < found)
			       : d <= d0 && (!best || q > found)) {
			best = a;
			found = less_delay ? d : q;
		}
	}
	return best;
}

struct ratio {
	double times, low, high; /* 95 % */
};

/* How many times the delay of @a the row has: the mean of the ratios of repeats, which had the
 * same requests. False: no repeat of both counts. */
static bool paired(const struct place_row *row, const struct place_row *a, struct ratio *ret)
{
	double sum = 0, sq = 0, half = 0, mean;
	unsigned n = 0, both = row->n < a->n ? row->n : a->n;

	for (unsigned i = 0; i < both; i++)
		if (row->r[i].valid && a->r[i].valid) {
			double l = log(row->r[i].mean_s / a->r[i].mean_s);

			sum += l;
			sq += l * l;
			n++;
		}
	if (n == 0)
		return false;
	mean = sum / n;
	if (n > 1)
		half = student(n - 1) * sqrt(fmax(0, sq - n * mean * mean) / (n - 1) / n);
	*ret = (struct ratio){ exp(mean), exp(mean - half), exp(mean + half) };
	return true;
}

/* "1.52x (1.31-1.75) less, +6.1%": less delay at equal quality, more quality at equal delay. */
static void compare(const struct place_systems *sys, const struct place_report *rep,
		    const struct place_row *row, char out[64])
{
	const struct place_row *d = best_adaptive(sys, rep, row, true);
	const struct place_row *q = best_adaptive(sys, rep, row, false);
	double q0 = place_mean(row, of_quality, NULL);
	struct ratio r;
	int n = 0;

	out[0] = 0;
	if (!sys->s[row->system].fixed)
		return;
	if (d && paired(row, d, &r))
		n = snprintf(out, 64, "%.2fx (%.2f-%.2f) less", r.times, r.low, r.high);
	if (q && q0 > 0)
		snprintf(out + n, 64 - (size_t)n, "%s%+.1f%%", n ? ", " : "",
			 100 * (place_mean(q, of_quality, NULL) / q0 - 1));
}

/* ---- the table ------------------------------------------------------------------------- */

static void print_row(const struct place_systems *sys, const struct place_report *rep,
		      const struct place_row *row)
{
	double dh, qh, d = place_mean(row, of_mean, &dh), q = place_mean(row, of_quality, &qh);
	char text[64];

	if (row->why_not) {
		printf("  %-14s not available: %s\n", sys->s[row->system].name, row->why_not);
		return;
	}
	if (!valid_runs(row)) {
		printf("  %-14s no valid run\n", sys->s[row->system].name);
		return;
	}
	compare(sys, rep, row, text);
	printf("  %-14s %7.1f ±%-6.1f %7.1f %7.1f %6.1f%% %6.1f%% %7.3f ±%-5.3f %7.3f  %u  %s\n",
	       sys->s[row->system].name, 1e3 * d, 1e3 * dh, 1e3 * place_mean(row, of_p50, NULL),
	       1e3 * place_mean(row, of_p99, NULL), 100 * place_mean(row, of_hit, NULL),
	       100 * place_mean(row, of_gone, NULL), q, qh, place_mean(row, of_agree, NULL),
	       valid_runs(row), text);
}

static void print_bounds(const struct place_report *rep, const struct place_cell *cell)
{
	for (unsigned i = 0; i < rep->n_bounds; i++) {
		const struct place_bound *b = &rep->bounds[i];

		if (same_cell(&b->cell, cell))
			printf("  %-8s %5g %7.1f %39s %7.3f\n", "ceiling", b->alpha, 1e3 * b->delay_s,
			       "", b->quality);
	}
}

/* What the control said of the runs that were throttled. */
static void add_control(const struct place_options *o, struct place_report *rep)
{
	double lo = 0, hi = 0;
	unsigned n = 0, bad = 0;

	for (unsigned i = 0; i < rep->n; i++)
		for (unsigned k = 0; k < rep->rows[i].n && rep->rows[i].cell.throttled; k++) {
			const struct place_result *r = &rep->rows[i].r[k];

			for (unsigned j = 0; j < 2; j++) {
				double v = r->control_Bps[j];

				lo = n == 0 || v < lo ? v : lo;
				hi = v > hi ? v : hi;
				n++;
			}
			bad += !r->valid;
		}
	if (n)
		sbuf_addf(&rep->notes, "Control, a plain file by O_DIRECT before and after each "
			  "throttled run: %.3f to %.3f GB/s where %.3f were set; in %u of %u runs "
			  "the better one was off by more than 10 %%, and they do not count.\n", lo / 1e9, hi / 1e9,
			  (double)o->throttle_Bps / 1e9, bad, n / 2);
}

/* The throttle lets a group that was idle begin with all that a tenth of a second allows, and
 * no light load beside it prevents that: so how much it held back is to be seen. */
static void add_seconds(const struct place_options *o, struct place_report *rep)
{
	double sum = 0, most = 0;
	unsigned n = 0, full = 0;

	for (unsigned i = 0; i < rep->n; i++)
		for (unsigned k = 0; k < rep->rows[i].n && rep->rows[i].cell.throttled; k++) {
			const struct place_result *r = &rep->rows[i].r[k];

			for (unsigned j = 0; j < r->seconds; j++) {
				double v = (double)r->second_MB[j] * 1e6;

				sum += v;
				most = v > most ? v : most;
				full += v > 0.9 * (double)o->throttle_Bps;
				n++;
			}
		}
	if (n)
		sbuf_addf(&rep->notes, "Under load the mount read %.3f GB/s of the throttled device, "
			  "at most %.3f in a second; in %u of %u seconds it was at the limit. A read "
			  "after a pause is not held back before it has a tenth of a second's bytes.\n",
			  sum / n / 1e9, most / 1e9, full, n);
}

static void print_table(const struct place_options *o, const struct place_set *s,
			const struct place_systems *sys, const struct place_report *rep)
{
	for (unsigned i = 0; i < rep->n; i++) {
		const struct place_row *row = &rep->rows[i];

		if (i % sys->n == 0)
			printf("%sZipf %g, DRAM %g %% of the contexts, SSD %g %%%s\n"
			       "  %-14s %15s %7s %7s %7s %7s %14s %7s  n  adaptive\n",
			       i ? "\n" : "", row->cell.zipf, 100 * row->cell.dram,
			       400 * row->cell.dram, row->cell.throttled ? ", throttled" : "", "",
			       "delay ms", "p50", "p99", "hits", "removed", "quality", "agree");
		print_row(sys, rep, row);
		if (i % sys->n == sys->n - 1)
			print_bounds(rep, &row->cell);
	}
	printf("\n%u contexts of %.1f MB, %.2f GB in all; %u requests at %g a second after %u of "
	       "warm-up,\n%u readers; a removed context takes %g s per MB. Means of the repeats' "
	       "figures with 95 %%\nintervals. Quality: task scores beside those of the exact "
	       "caches, from the bytes read.\nThe last column: what the best alpha has less of "
	       "delay at equal quality (within 1 %%; mean\nof the repeats' ratios, 95 %%), and more of "
	       "quality at equal delay. Ceiling: "
	       "the best placement for a known popularity,\nby the cost model at measured rates.\n%s",
	       s->n, (double)s->max_bytes / 1e6, (double)s->bytes / 1e9, o->requests, o->rate,
	       o->warmup, o->readers, o->recompute_s_per_mb, rep->notes.s ? rep->notes.s : "");
}

/* ---- JSON ------------------------------------------------------------------------------ */

static void json_cell(struct sbuf *b, const struct place_cell *c)
{
	sbuf_addf(b, "\"zipf\":%g,\"dram\":%g,\"ssd\":%g,\"throttled\":%s", c->zipf, c->dram,
		  4 * c->dram, c->throttled ? "true" : "false");
}

static void json_compare(struct sbuf *b, const struct place_systems *sys,
			 const struct place_report *rep, const struct place_row *row)
{
	const struct place_row *a = best_adaptive(sys, rep, row, true);
	struct ratio r;

	if (sys->s[row->system].fixed && a && paired(row, a, &r))
		sbuf_addf(b, ",\"times_less\":{\"by\":\"%s\",\"times\":%.4f,\"low\":%.4f,\"high\":%.4f}",
			  sys->s[a->system].name, r.times, r.low, r.high);
}

static void json_row(struct sbuf *b, const struct place_systems *sys,
		     const struct place_report *rep, const struct place_row *row)
{
	const struct place_system *s = &sys->s[row->system];

	sbuf_addf(b, "{\"system\":\"%s\",\"family\":\"%s\",", s->name, s->family);
	json_cell(b, &row->cell);
	if (row->why_not) {
		sbuf_adds(b, ",\"not_available\":");
		sbuf_add_json_str(b, row->why_not);
	}
	for (size_t m = 0; m < MEASURES && valid_runs(row); m++) {
		double half, v = place_mean(row, measures[m].of, &half);

		sbuf_addf(b, ",\"%s\":%.6f,\"%s_ci\":%.6f", measures[m].name, v, measures[m].name, half);
	}
	json_compare(b, sys, rep, row);
	sbuf_adds(b, ",\"runs\":[");
	for (unsigned i = 0; i < row->n; i++) {
		const struct place_result *r = &row->r[i];

		sbuf_addf(b, "%s{\"valid\":%s,\"control_Bps\":[%.0f,%.0f]", i ? "," : "",
			  r->valid ? "true" : "false", r->control_Bps[0], r->control_Bps[1]);
		for (size_t m = 0; m < MEASURES; m++)
			sbuf_addf(b, ",\"%s\":%.6f", measures[m].name, measures[m].of(r));
		sbuf_adds(b, ",\"read_MB_by_second\":[");
		for (unsigned m = 0; m < r->seconds && row->cell.throttled; m++)
			sbuf_addf(b, "%s%.1f", m ? "," : "", (double)r->second_MB[m]);
		sbuf_adds(b, "]}");
	}
	sbuf_adds(b, "]}");
}

static void print_json(const struct place_options *o, const struct place_set *s,
		       const struct place_systems *sys, const struct place_report *rep)
{
	struct sbuf b = SBUF_INIT;
	char *text;

	sbuf_addf(&b, "{\"bench\":\"placement\",\"contexts\":%u,\"bytes\":%llu,\"requests\":%u,"
		  "\"warmup\":%u,\"rate\":%g,\"readers\":%u,\"repeats\":%u,\"seed\":%llu,"
		  "\"recompute_s_per_mb\":%g,\"notes\":", s->n, (unsigned long long)s->bytes,
		  o->requests, o->warmup, o->rate, o->readers, o->repeats,
		  (unsigned long long)o->seed, o->recompute_s_per_mb);
	sbuf_add_json_str(&b, rep->notes.s ? rep->notes.s : "");
	sbuf_adds(&b, ",\"rows\":[");
	for (unsigned i = 0; i < rep->n; i++) {
		sbuf_adds(&b, i ? "," : "");
		json_row(&b, sys, rep, &rep->rows[i]);
	}
	sbuf_adds(&b, "],\"ceiling\":[");
	for (unsigned i = 0; i < rep->n_bounds; i++) {
		const struct place_bound *c = &rep->bounds[i];

		sbuf_adds(&b, i ? ",{" : "{");
		json_cell(&b, &c->cell);
		sbuf_addf(&b, ",\"alpha\":%g,\"delay_s\":%.6f,\"quality\":%.6f,\"value\":%.8f,"
			  "\"bound\":%.8f}", c->alpha, c->delay_s, c->quality, c->value, c->bound);
	}
	sbuf_adds(&b, "]}");
	text = sbuf_take(&b);
	if (text)
		puts(text);
	mem_free(text);
}

void place_report_print(const struct place_options *o, const struct place_set *s,
			const struct place_systems *sys, struct place_report *rep)
{
	bench_progress(NULL);
	add_control(o, rep);
	add_seconds(o, rep);
	if (o->rig.json)
		print_json(o, s, sys, rep);
	else
		print_table(o, s, sys, rep);
	fflush(stdout);
}
