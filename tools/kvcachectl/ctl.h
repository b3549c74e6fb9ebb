/* SPDX-License-Identifier: MIT */
#ifndef KVCACHECTL_CTL_H
#define KVCACHECTL_CTL_H
/*
 * kvcachectl: a convenience over a mount's xattrs and .kvcachefs/; it needs
 * nothing but the mount. Exit codes: 0, 1 when something failed (said on
 * standard error), 2 for a wrong command line.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/sbuf.h"
#include "kvcachefs/xattr.h"

#define CTL_USAGE 2

struct command {
	const char *name;
	const char *args;
	const char *help;
	/* argv[0] is the command's name. Returns the exit code. */
	int (*run)(int argc, char **argv);
};
extern const struct command commands[];

/* main.c: "kvcachectl: " and a newline around the message; returns 1. */
int ctl_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* How @name is to be called, after a message; returns CTL_USAGE. */
int ctl_usage(const char *name);

/* mount.c: root of the kvcachefs mount that @path lies in; freed with
 * mem_free. NULL after a message that says what is wrong. */
char *mount_of(const char *path);
/* The only kvcachefs mount of this machine, or a message. */
char *mount_only(void);
/* Contents of @mount/.kvcachefs/@name. -errno. */
WUR int control_read(const char *mount, const char *name, struct sbuf *out);

/* walk.c: every regular file at or below @path; directories only with
 * @recursive. @cb's nonzero returns are counted. Returns 0, or 1 after a message. */
typedef int (*walk_cb)(const char *path, off_t size, void *arg);
int walk_files(const char *path, bool recursive, walk_cb cb, void *arg);
/* Value of xattr @name (without prefix) as text; -errno. */
WUR int value_of(const char *path, const char *name, char *buf, size_t len);

/* progress.c: one line on a terminal, renewed ten times a second. */
struct progress {
	uint64_t done, total, start_ns, shown_ns;
	const char *what;
	bool tty;
};
void progress_begin(struct progress *p, const char *what, uint64_t total);
void progress_add(struct progress *p, uint64_t bytes);
void progress_end(struct progress *p);

int cmd_ls(int argc, char **argv);
int cmd_stat(int argc, char **argv);
int cmd_why(int argc, char **argv);
int cmd_steer(int argc, char **argv);
int cmd_set(int argc, char **argv);
int cmd_calibrate(int argc, char **argv);
int cmd_move(int argc, char **argv);
int cmd_limit(int argc, char **argv);
int cmd_status(int argc, char **argv);
int cmd_plan(int argc, char **argv);
int cmd_scrub(int argc, char **argv);
int cmd_top(int argc, char **argv);
int cmd_copy(int argc, char **argv);

#endif
