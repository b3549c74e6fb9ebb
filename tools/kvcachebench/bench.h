/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEBENCH_BENCH_H
#define KVCACHEBENCH_BENCH_H
/*
 * What the subcommands of kvcachebench share. A subcommand is one file and one
 * line in the table of main.c.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bench_cmd {
	const char *name;
	const char *help; /* one line */
	/* argv[0] is the subcommand's name; returns the exit status. */
	int (*run)(int argc, char **argv);
};

int bench_codec(int argc, char **argv);
int bench_read(int argc, char **argv);
int bench_write(int argc, char **argv);
int bench_meta(int argc, char **argv);
int bench_placement(int argc, char **argv);
int bench_replay(int argc, char **argv);

/* Times of one measured thing over the rounds, in seconds. */
#define BENCH_ROUNDS_MAX 99
struct bench_times {
	double s[BENCH_ROUNDS_MAX];
	unsigned n;
};
void bench_add(struct bench_times *t, double seconds);
double bench_median(const struct bench_times *t); /* 0 when empty */
double bench_best(const struct bench_times *t);   /* 0 when empty */

/* Goes on in a child with the quietest scheduling that the system grants: a
 * session of its own (an autogroup of its own, at the highest weight) and
 * nice -20. The parent hands
 * on what should end it and exits with the child's status. Without the
 * right to it, it goes on as it is, silently: results are ratios anyway. */
void bench_quiet(void);

/* Gives each option of @longs ("help" with value 'h' among them) to @one with @o, which
 * answers < 0 to a bad value. 0 go on, operands are from optind; 1 help is asked for;
 * -EINVAL said why. */
struct option;
int bench_options(int argc, char **argv, const struct option *longs, int (*one)(int c, void *o),
		  void *o);

/* One status line on stderr while something takes long; nothing if not a tty.
 * NULL clears it. */
void bench_progress(const char *text);

#endif
