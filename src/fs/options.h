/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_FS_OPTIONS_H
#define KVCACHEFS_FS_OPTIONS_H
/*
 * The command line and mount options: one table of name, type, bounds,
 * default, when settable and help (options.c). --help, .kvcachefs/config and
 * the check against the man page all read that table.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/sbuf.h"

enum option_type {
	OPTION_BYTES, /* "8G" */
	OPTION_SHARE, /* bytes, or "25%" of a total that main fills in */
	OPTION_NS,    /* "250ms" */
	OPTION_UINT,
	OPTION_NUMBER, /* decimal fraction */
	OPTION_FLAG,   /* present, or =yes|no */
	OPTION_CHOICE, /* one of .choices; the field is the index */
};

struct options {
	char *store;      /* owned */
	char *mountpoint; /* owned */
	char *fsname;     /* owned, NULL: the store's path */
	bool foreground, help, version;
	/* from the table */
	uint64_t dram_bytes, ssd_bytes, reserve_bytes, settle_ns, trace_bytes;
	unsigned threads, serve_threads;
	double quality, alpha_s, recompute_s_per_mb, recompute_s_per_token;
	unsigned full, damage, statfs, policy, codec, paths, follow, log; /* choice indexes */
	bool strictwrite, allow_other, read_only;
	/* generic mount options that go on to the kernel: ",noexec,noatime" */
	struct sbuf kernel_opts;
};

struct option_def {
	const char *name;
	enum option_type type;
	size_t offset;       /* of the field in struct options */
	double min, max;     /* of the value in its unit */
	const char *def;     /* default as one would write it */
	const char *choices; /* "a|b|c" */
	bool at_runtime;     /* also settable on a mount, by an xattr of its root */
	const char *help;
};
extern const struct option_def option_table[];
extern const size_t option_count;

/* What the order of the choices means. */
enum { CODEC_CHOICE_AUTO, CODEC_CHOICE_RAW };
enum { FOLLOW_AUTO, FOLLOW_OFF };
enum { PATHS_AUTO, PATHS_PASSTHROUGH, PATHS_STREAM, PATHS_CACHED };

/* Fills in the defaults; @dram_total_bytes is what "%" of dram refers to.
 * Only -ENOMEM. */
WUR int options_init(struct options *o, uint64_t dram_total_bytes);
/* Parses argv. -EINVAL with a text for people in @why that names the option,
 * the value and what is allowed; -ENOMEM. */
WUR int options_parse(struct options *o, int argc, char **argv, uint64_t dram_total_bytes,
		      struct sbuf *why);
/* Does option @name, of type BYTES or SHARE, allow @bytes? -EINVAL with what it takes
 * in @why. */
WUR int options_check_bytes(const char *name, uint64_t bytes, struct sbuf *why);
void options_fini(struct options *o);
void options_help(struct sbuf *out);
/* "name=value" of every option in force, one line each. */
void options_dump(const struct options *o, struct sbuf *out);
/* The text of choice @index of option @name, as a literal copied into @buf. */
const char *options_choice(const char *name, unsigned index, char *buf, size_t len);

#endif
