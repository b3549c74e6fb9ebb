/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "ctl.h"

const struct command commands[] = {
	{ "ls", "[-r] PATH...", "files with state, place, sizes and ratio", cmd_ls },
	{ "stat", "PATH...", "everything known about files", cmd_stat },
	{ "why", "PATH...", "where files are, what that gives, and why", cmd_why },
	{ "pin", "[-r] PATH...", "never evict these files", cmd_steer },
	{ "unpin", "[-r] PATH...", "take the pin away", cmd_steer },
	{ "prefetch", "[-r] PATH...", "start bringing files into memory", cmd_steer },
	{ "move", "ssd|dram|copy [-r] PATH...", "bring files to storage or memory, and wait",
	  cmd_move },
	{ "seal", "[-r] PATH...", "encode now, and wait", cmd_steer },
	{ "unseal", "[-r] PATH...", "back to plain bytes", cmd_steer },
	{ "evict", "[-r] PATH...", "REMOVE files as a full store would", cmd_steer },
	{ "quality", "VALUE|unset PATH...",
	  "lowest quality granted to a file or directory, 1: exact", cmd_set },
	{ "level", "N|exact [-r] PATH...", "go to a level and DROP all layers above it",
	  cmd_move },
	{ "calibrate", "PAIRS [PATH...]",
	  "what levels cost a model, as kvlm measured it; set as profile", cmd_calibrate },
	{ "layout", "TEXT|unset PATH...", "declared geometry of a file or of a directory's files",
	  cmd_set },
	{ "limit", "dram|ssd SIZE [MOUNT]", "change a limit of a running mount", cmd_limit },
	{ "status", "[MOUNT]", "what the mount is doing", cmd_status },
	{ "top", "[-d SECONDS] [-n ROUNDS] [MOUNT]", "the same, live; q quits", cmd_top },
	{ "plan", "[OPTION...] [MOUNT|TRACE]", "what other budgets would give, by recorded accesses",
	  cmd_plan },
	{ "scrub", "[-w] [MOUNT]", "verify every stored byte in the background; -w waits",
	  cmd_scrub },
	{ "import", "DIR PATH", "copy existing caches into the mount", cmd_copy },
	{ "export", "PATH DIR", "copy caches out of the mount, as they read", cmd_copy },
	{ NULL, NULL, NULL, NULL },
};

int ctl_error(const char *fmt, ...)
{
	va_list ap;

	fflush(stdout);
	fputs("kvcachectl: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	return 1;
}

static const struct command *find(const char *name)
{
	for (const struct command *c = commands; c->name; c++)
		if (strcmp(c->name, name) == 0)
			return c;
	return NULL;
}

int ctl_usage(const char *name)
{
	const struct command *c = find(name);

	fprintf(stderr, "usage: kvcachectl %s %s\n", c->name, c->args);
	return CTL_USAGE;
}

static void help(FILE *out)
{
	fputs("usage: kvcachectl COMMAND [ARGUMENTS]\n\n"
	      "Looks at and steers a mounted kvcachefs. MOUNT may be left out when only one\n"
	      "is mounted. -r goes into directories.\n\n",
	      out);
	for (const struct command *c = commands; c->name; c++)
		fprintf(out, "  %-9s %-33s %s\n", c->name, c->args, c->help);
	fputs("\nkvcachectl COMMAND --help says more about one. See also kvcachectl(1),\n"
	      "kvcachefs-xattr(7).\n",
	      out);
}

static bool wants_help(int argc, char **argv)
{
	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
		if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
			return true;
	return false;
}

int main(int argc, char **argv)
{
	const struct command *c;

	if (argc < 2) {
		help(stderr);
		return CTL_USAGE;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
	    strcmp(argv[1], "help") == 0) {
		help(stdout);
		return 0;
	}
	if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0) {
		puts("kvcachectl " KVFS_VERSION);
		return 0;
	}
	c = find(argv[1]);
	if (!c) {
		ctl_error("unknown command '%s'; kvcachectl --help lists them", argv[1]);
		return CTL_USAGE;
	}
	if (wants_help(argc - 1, argv + 1)) {
		printf("usage: kvcachectl %s %s\n%s\n", c->name, c->args, c->help);
		return 0;
	}
	return c->run(argc - 1, argv + 1);
}
