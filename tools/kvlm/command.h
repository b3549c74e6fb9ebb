/* SPDX-License-Identifier: MIT */
#ifndef KVLM_COMMAND_H
#define KVLM_COMMAND_H
/*
 * A command is one file: it parses its options, does its work, prints its
 * result. 0; 1 when only help was asked for; -errno with the reason in @m.
 * argv[0] is the command's name.
 */
#include "msg.h"

typedef int command_fn(int argc, char **argv, struct msg *m);

command_fn cmd_prefill, cmd_generate, cmd_eval, cmd_compare, cmd_corpus, cmd_quant, cmd_calibrate,
	cmd_info;

/* The options that every command with a model has. */
#define COMMON_OPTS(threads_, kernels_, json_)                                                       \
	{ "threads", OPT_U32, (threads_), "N", "threads (default: all processors)", 1, 64 },         \
		{ "kernels", OPT_STR, (kernels_), "NAME", "portable, avx2 or avx512 (same results)", \
		  0,         0 },                                                                    \
	{                                                                                            \
		"json", OPT_FLAG, (json_), NULL, "print the result as one JSON object", 0, 0         \
	}

#endif
