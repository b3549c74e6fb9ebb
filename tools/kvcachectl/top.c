/* SPDX-License-Identifier: MIT */
/*
 * top: a live view of a mount, by ncurses, made of .kvcachefs/metrics and, for
 * whoever may read it, .kvcachefs/contexts. Without a terminal it prints the
 * same as plain text.
 */
#include <curses.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/units.h"
#include "ctl.h"

#define ROWS_MAX 200

struct row {
	char state[10], tier[6], path[256];
	unsigned long long logical, stored, hits;
	double frequency;
	bool pinned, damaged;
};

struct sample {
	uint64_t at_ns;
	double reads, writes, opens, lookups;
};

struct view {
	const char *mount;
	struct sbuf metrics;
	struct row rows[ROWS_MAX]; /* the most frequent, best first */
	unsigned n_rows;
	unsigned long long contexts;
	bool no_contexts;
	struct sample last, now;
};

/* Value of a metric line that begins with @name; 0 when absent. */
static double metric(const struct view *v, const char *name)
{
	const char *p = v->metrics.s;
	size_t len = strlen(name);

	while (p && *p) {
		if (strncmp(p, name, len) == 0 && p[len] == ' ')
			return strtod(p + len, NULL);
		p = strchr(p, '\n');
		p = p ? p + 1 : NULL;
	}
	return 0;
}

static void keep_row(struct view *v, const struct row *r)
{
	unsigned i = v->n_rows;

	if (i == ROWS_MAX && v->rows[i - 1].frequency >= r->frequency)
		return;
	if (i == ROWS_MAX)
		i--;
	for (; i > 0 && v->rows[i - 1].frequency < r->frequency; i--)
		v->rows[i] = v->rows[i - 1];
	v->rows[i] = *r;
	if (v->n_rows < ROWS_MAX)
		v->n_rows++;
}

/* The columns of contexts(5) that are shown; the path is the last field. */
static void parse_row(struct view *v, char *line)
{
	char *field[20], *save = NULL;
	struct row r;
	int n = 0;

	for (char *f = strtok_r(line, "\t", &save); f && n < 20; f = strtok_r(NULL, "\t", &save))
		field[n++] = f;
	if (n != 20)
		return;
	memset(&r, 0, sizeof(r));
	snprintf(r.state, sizeof(r.state), "%s", field[0]);
	snprintf(r.tier, sizeof(r.tier), "%s", field[1]);
	r.pinned = field[2][0] == '1';
	r.damaged = field[3][0] == '1';
	r.logical = strtoull(field[4], NULL, 10);
	r.stored = strtoull(field[5], NULL, 10);
	r.hits = strtoull(field[8], NULL, 10);
	r.frequency = strtod(field[9], NULL);
	snprintf(r.path, sizeof(r.path), "%.255s", field[19]);
	v->contexts++;
	keep_row(v, &r);
}

static void read_contexts(struct view *v)
{
	char path[4200], line[8192];
	FILE *f;

	v->n_rows = 0;
	v->contexts = 0;
	snprintf(path, sizeof(path), "%s/.kvcachefs/contexts", v->mount);
	f = fopen(path, "re");
	v->no_contexts = !f;
	while (f && fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = '\0';
		if (line[0] != '#')
			parse_row(v, line);
	}
	if (f)
		fclose(f);
}

static int view_refresh(struct view *v)
{
	int r;

	v->metrics.len = 0;
	r = control_read(v->mount, "metrics", &v->metrics);
	if (r < 0)
		return r;
	v->last = v->now;
	v->now.at_ns = clock_mono_ns();
	v->now.reads = metric(v, "kvcachefs_fuse_requests_total{op=\"read\"}");
	v->now.writes = metric(v, "kvcachefs_fuse_requests_total{op=\"write\"}");
	v->now.opens = metric(v, "kvcachefs_fuse_requests_total{op=\"open\"}");
	v->now.lookups = metric(v, "kvcachefs_fuse_requests_total{op=\"lookup\"}");
	read_contexts(v);
	return 0;
}

static void add_share(struct sbuf *b, const char *name, double used, double limit)
{
	sbuf_addf(b, "%-8s ", name);
	sbuf_add_bytes(b, (unsigned long long)used);
	if (limit > 0) {
		sbuf_adds(b, " of ");
		sbuf_add_bytes(b, (unsigned long long)limit);
		sbuf_addf(b, " (%.0f %%)", 100 * used / limit);
	}
}

static void view_head(const struct view *v, struct sbuf *b)
{
	double s = v->last.at_ns ? (double)(v->now.at_ns - v->last.at_ns) / 1e9 : 0;
	double used = metric(v, "kvcachefs_ssd_used_bytes");
	double logical = metric(v, "kvcachefs_ssd_logical_bytes");

	sbuf_addf(
		b,
		"kvcachefs on %s: %.0f files, %.0f sealed, %.0f open, %.0f waiting to be sealed\n",
		v->mount, metric(v, "kvcachefs_files"), metric(v, "kvcachefs_files_sealed"),
		metric(v, "kvcachefs_open_files"), metric(v, "kvcachefs_seal_queue"));
	add_share(b, "memory", metric(v, "kvcachefs_dram_used_bytes"),
		  metric(v, "kvcachefs_dram_limit_bytes"));
	sbuf_addf(b, "   %.0f replicas, %.0f decoded copies\n", metric(v, "kvcachefs_replicas"),
		  metric(v, "kvcachefs_copies"));
	add_share(b, "storage", used, metric(v, "kvcachefs_ssd_limit_bytes"));
	if (used > 0)
		sbuf_addf(b, "   %.2f times as much as written", logical / used);
	sbuf_adds(b, "\n");
	if (s > 0)
		sbuf_addf(b, "requests %.0f opens/s, %.0f lookups/s, %.0f reads/s, %.0f writes/s\n",
			  (v->now.opens - v->last.opens) / s,
			  (v->now.lookups - v->last.lookups) / s,
			  (v->now.reads - v->last.reads) / s, (v->now.writes - v->last.writes) / s);
	else
		sbuf_adds(b, "requests -\n");
}

static void view_rows(const struct view *v, unsigned max, struct sbuf *b)
{
	if (v->no_contexts) {
		sbuf_adds(b, "\n(only the owner of the mount may see the list of files)\n");
		return;
	}
	sbuf_addf(b, "\n%-8s %-5s %10s %10s %6s %8s %10s  %s\n", "STATE", "IN", "SIZE", "STORED",
		  "RATIO", "HITS", "FREQUENCY", "NAME");
	for (unsigned i = 0; i < v->n_rows && i < max; i++) {
		const struct row *r = &v->rows[i];
		struct sbuf size = SBUF_INIT, stored = SBUF_INIT;

		sbuf_add_bytes(&size, r->logical);
		sbuf_add_bytes(&stored, r->stored);
		sbuf_addf(b, "%-8s %-5s %10s %10s %6.2f %8llu %10.3g %s%s\n", r->state, r->tier,
			  size.s ? size.s : "", stored.s ? stored.s : "",
			  r->stored ? (double)r->logical / (double)r->stored : 1.0, r->hits,
			  r->frequency,
			  r->damaged  ? "!"
			  : r->pinned ? "*"
				      : " ",
			  r->path);
		sbuf_fini(&size);
		sbuf_fini(&stored);
	}
}

static void draw(const struct view *v, struct sbuf *b)
{
	unsigned rows = LINES > 8 ? (unsigned)LINES - 8 : 0;
	char *save = NULL;
	int y = 0;

	b->len = 0;
	view_head(v, b);
	view_rows(v, rows, b);
	erase();
	for (char *l = b->s ? strtok_r(b->s, "\n", &save) : NULL; l && y < LINES - 1;
	     l = strtok_r(NULL, "\n", &save))
		mvaddnstr(y++, 0, l, COLS);
	mvaddnstr(LINES - 1, 0, "q quits; * pinned, ! damaged", COLS);
	refresh();
}

static int run_screen(struct view *v, double seconds, unsigned rounds)
{
	struct sbuf text = SBUF_INIT;
	int r = 0;

	initscr();
	cbreak();
	noecho();
	curs_set(0);
	timeout((int)(seconds * 1000));
	for (unsigned i = 0; !rounds || i < rounds; i++) {
		int key;

		r = view_refresh(v);
		if (r < 0)
			break;
		draw(v, &text);
		key = getch();
		if (key == 'q' || key == 'Q' || key == 27)
			break;
	}
	endwin();
	sbuf_fini(&text);
	return r < 0 ? ctl_error("%s: %s", v->mount, strerror(-r)) : 0;
}

static int run_plain(struct view *v, double seconds, unsigned rounds)
{
	struct sbuf text = SBUF_INIT;

	for (unsigned i = 0; i < rounds; i++) {
		int r = view_refresh(v);

		if (r < 0) {
			sbuf_fini(&text);
			return ctl_error("%s: %s", v->mount, strerror(-r));
		}
		text.len = 0;
		view_head(v, &text);
		view_rows(v, ROWS_MAX, &text);
		fputs(text.s ? text.s : "", stdout);
		fflush(stdout);
		if (i + 1 < rounds)
			usleep((useconds_t)(seconds * 1e6));
	}
	sbuf_fini(&text);
	return 0;
}

int cmd_top(int argc, char **argv)
{
	double seconds = 2;
	uint64_t rounds = 0;
	struct view *v;
	char *mount;
	int c, r;

	while ((c = getopt(argc, argv, "+d:n:")) != -1) {
		if (c == 'd' && units_parse_double(optarg, 0.1, 3600, &seconds) < 0)
			return ctl_error("-d takes seconds from 0.1 to 3600, not '%s'", optarg);
		if (c == 'n' && units_parse_u64(optarg, 1, 1000000, &rounds) < 0)
			return ctl_error("-n takes a number of rounds, not '%s'", optarg);
		if (c == '?')
			return ctl_usage(argv[0]);
	}
	if (argc > optind + 1)
		return ctl_usage(argv[0]);
	mount = argc > optind ? mount_of(argv[optind]) : mount_only();
	v = mount ? mem_zalloc(sizeof(*v)) : NULL;
	if (!v) {
		mem_free(mount);
		return 1;
	}
	v->mount = mount;
	if (isatty(STDOUT_FILENO))
		r = run_screen(v, seconds, (unsigned)rounds);
	else
		r = run_plain(v, seconds, rounds ? (unsigned)rounds : 1);
	sbuf_fini(&v->metrics);
	mem_free(v);
	mem_free(mount);
	return r;
}
