/* SPDX-License-Identifier: MIT */
#ifndef KVLM_OPT_H
#define KVLM_OPT_H
/*
 * A command's options as one table: parsing, bounds and --help come from it.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "msg.h"

enum opt_kind {
	OPT_FLAG,   /* bool */
	OPT_STR,    /* const char *, into argv */
	OPT_LIST,   /* struct opt_list: may be given several times */
	OPT_U32,    /* uint32_t within [min, max] */
	OPT_BYTES,  /* uint64_t, with K M G or KiB MiB GiB */
	OPT_DTYPE,  /* enum dtype */
	OPT_FORMAT, /* enum cache_format */
};

#define OPT_LIST_MAX 64
struct opt_list {
	const char *v[OPT_LIST_MAX];
	size_t n;
};

struct opt {
	const char *name; /* "save": --save; one letter: -n */
	enum opt_kind kind;
	void *dst;
	const char *arg; /* what the help calls the value */
	const char *help;
	uint32_t min, max; /* OPT_U32 */
};

struct opt_set {
	const char *usage; /* "kvlm prefill MODEL --prompt FILE ..." */
	const char *about;
	const struct opt *opts;
	size_t n_opts;
	const char **args; /* positional values go here */
	size_t min_args, max_args;
	size_t n_args; /* set by opt_parse */
};

/* 0; 1 when --help was asked for and printed; -EINVAL. argv[0] is skipped. */
WUR int opt_parse(struct opt_set *s, int argc, char **argv, struct msg *m);

#endif
