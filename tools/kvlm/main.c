/* SPDX-License-Identifier: MIT */
/* kvlm: chooses the command and prints the one error a failed one leaves. */
#include <stdio.h>
#include <string.h>

#include "command.h"

static const struct {
	const char *name;
	command_fn *run;
	const char *about;
} commands[] = {
	{ "prefill", cmd_prefill, "compute a context, save its KV cache as a file" },
	{ "generate", cmd_generate, "load a cache file and continue greedily" },
	{ "compare", cmd_compare, "what a lossy cache costs beside the exact one" },
	{ "quant", cmd_quant, "write a lossy cache with a plain reference quantiser" },
	{ "calibrate", cmd_calibrate, "from the error of levels to the tokens they keep" },
	{ "eval", cmd_eval, "run task suites with caches loaded from files" },
	{ "corpus", cmd_corpus, "write many real caches, or large files of them" },
	{ "info", cmd_info, "describe a model or a cache file" },
};

static int usage(FILE *f)
{
	fprintf(f,
		"usage: kvlm COMMAND [OPTIONS]   (kvlm COMMAND --help)\n\n"
		"Computes, saves, loads and judges the KV caches of a small language model.\n\n");
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		fprintf(f, "  %-10s%s\n", commands[i].name, commands[i].about);
	return f == stdout ? 0 : 2;
}

int main(int argc, char **argv)
{
	struct msg m = { "" };
	int r;

	if (argc < 2)
		return usage(stderr);
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help"))
		return usage(stdout);
	if (!strcmp(argv[1], "--version")) {
		printf("kvlm %s\n", KVFS_VERSION);
		return 0;
	}
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		if (strcmp(argv[1], commands[i].name))
			continue;
		r = commands[i].run(argc - 1, argv + 1, &m);
		if (r < 0)
			fprintf(stderr, "kvlm %s: %s\n", argv[1], m.text);
		if (fflush(stdout) || ferror(stdout)) {
			fprintf(stderr, "kvlm: cannot write the output\n");
			return 1;
		}
		return r < 0 ? 1 : 0;
	}
	fprintf(stderr, "kvlm: unknown command %s\n", argv[1]);
	return usage(stderr);
}
