// SPDX-License-Identifier: MIT
/*
 * kvcachebench: measures kvcachefs, part by part. Every figure is given beside
 * what it should be compared with, taken in the same run.
 */
#include <stdio.h>
#include <string.h>

#include "bench.h"

/* One line per subcommand. */
static const struct bench_cmd commands[] = {
	{ "codec", "ratios and speeds of the codecs, beside memcpy", bench_codec },
	{ "read", "loading files, beside ext4 and btrfs", bench_read },
	{ "write", "saving files, beside ext4; sealing under load", bench_write },
	{ "meta", "creating, opening and looking at many files", bench_meta },
	{ "placement", "delay and quality of many contexts under a load, beside other systems", bench_placement },
	{ "replay", "recorded accesses, on a mount and simulated", bench_replay },
};

static int usage(FILE *f, int status)
{
	fprintf(f, "Usage: kvcachebench COMMAND [OPTION...]\n\n");
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		fprintf(f, "  %-9s %s\n", commands[i].name, commands[i].help);
	fprintf(f, "\nkvcachebench COMMAND --help says more; see kvcachebench(1).\n");
	return status;
}

int main(int argc, char **argv)
{
	if (argc < 2)
		return usage(stderr, 2);
	if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0) {
		printf("kvcachebench %s\n", KVFS_VERSION);
		return 0;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
		return usage(stdout, 0);
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (strcmp(argv[1], commands[i].name) == 0)
			return commands[i].run(argc - 1, argv + 1);
	fprintf(stderr, "kvcachebench: no command '%s'\n", argv[1]);
	return usage(stderr, 2);
}
