/* SPDX-License-Identifier: MIT */
/* ls, stat, status: looking. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "ctl.h"

struct column {
	const char *name, *title;
	int width; /* negative: left-aligned */
	bool bytes;
};
static const struct column columns[] = {
	{ "state", "STATE", -8, false },       { "tier", "IN", -5, false },
	{ "logical_bytes", "SIZE", 10, true }, { "stored_bytes", "STORED", 10, true },
	{ "ratio", "RATIO", 6, false },        { "hits", "HITS", 6, false },
	{ "quality", "QUALITY", 7, false },    { "pin", "PIN", 3, false },
};
#define COLUMNS (sizeof(columns) / sizeof(columns[0]))

static void print_cell(const struct column *c, const char *value)
{
	struct sbuf b = SBUF_INIT;

	if (c->bytes && *value != '-')
		sbuf_add_bytes(&b, strtoull(value, NULL, 10));
	else
		sbuf_adds(&b, value);
	printf("%*s ", c->width, b.s ? b.s : "");
	sbuf_fini(&b);
}

static int ls_one(const char *path, off_t size, void *arg)
{
	char value[256];
	int *printed = arg, r = value_of(path, "state", value, sizeof(value));

	(void)size;
	if (r < 0)
		return ctl_error("%s: %s", path,
				 r == -ENODATA || r == -EOPNOTSUPP
					 ? "does not lie in a mounted kvcachefs"
					 : strerror(-r));
	if (!(*printed)++) {
		for (size_t i = 0; i < COLUMNS; i++)
			printf("%*s ", columns[i].width, columns[i].title);
		puts("NAME");
	}
	for (size_t i = 0; i < COLUMNS; i++) {
		if (value_of(path, columns[i].name, value, sizeof(value)) < 0)
			strcpy(value, "-");
		print_cell(&columns[i], value);
	}
	puts(path);
	return 0;
}

/* Takes a leading "-r"; the index of the first path, or -1. */
static int take_recursive(int argc, char **argv, bool *recursive)
{
	int i = 1;

	for (; i < argc && argv[i][0] == '-' && argv[i][1]; i++) {
		if (strcmp(argv[i], "--") == 0)
			return i + 1;
		if (strcmp(argv[i], "-r") != 0)
			return -1;
		*recursive = true;
	}
	return i;
}

/* A directory named to ls shows the files directly in it. */
static int ls_dir(const char *path, int *printed)
{
	struct sbuf p = SBUF_INIT;
	struct dirent **names = NULL;
	int n = scandir(path, &names, NULL, alphasort), failed = 0;

	if (n < 0)
		return ctl_error("%s: %s", path, strerror(errno));
	for (int i = 0; i < n; i++) {
		struct stat st;

		p.len = 0;
		sbuf_addf(&p, "%s%s%s", path, path[strlen(path) - 1] == '/' ? "" : "/",
			  names[i]->d_name);
		if (!p.failed && lstat(p.s, &st) == 0 && S_ISREG(st.st_mode))
			failed |= ls_one(p.s, st.st_size, printed);
		free(names[i]);
	}
	free(names);
	sbuf_fini(&p);
	return failed;
}

int cmd_ls(int argc, char **argv)
{
	bool recursive = false;
	int i = take_recursive(argc, argv, &recursive), failed = 0, printed = 0;
	char here[] = ".", *dot[] = { here };

	if (i < 0)
		return ctl_usage(argv[0]);
	if (i == argc) {
		argv = dot;
		argc = 1;
		i = 0;
	}
	for (; i < argc; i++) {
		struct stat st;

		if (!recursive && lstat(argv[i], &st) == 0 && S_ISDIR(st.st_mode))
			failed |= ls_dir(argv[i], &printed);
		else
			failed |= walk_files(argv[i], recursive, ls_one, &printed);
	}
	return failed;
}

static const struct {
	const char *name, *help;
} stat_names[] = {
#define X(id, name, kind, on, set, value, help) { name, help },
	KVCACHEFS_XATTRS(X)
#undef X
};

int cmd_stat(int argc, char **argv)
{
	int failed = 0;

	if (argc < 2)
		return ctl_usage(argv[0]);
	for (int i = 1; i < argc; i++) {
		unsigned shown = 0;
		char value[4097];
		struct stat st;

		if (lstat(argv[i], &st) < 0) {
			failed = ctl_error("%s: %s", argv[i], strerror(errno));
			continue;
		}
		for (size_t k = 0; k < sizeof(stat_names) / sizeof(stat_names[0]); k++) {
			if (value_of(argv[i], stat_names[k].name, value, sizeof(value)) < 0)
				continue;
			if (!shown++)
				printf("%s\n", argv[i]);
			printf("  %-14s %-24s %s\n", stat_names[k].name, value, stat_names[k].help);
		}
		if (!shown)
			failed = ctl_error("%s: nothing to tell; it does not lie in a mounted "
					   "kvcachefs, or is a directory without settings",
					   argv[i]);
	}
	return failed;
}

int cmd_why(int argc, char **argv)
{
	int failed = 0;

	if (argc < 2)
		return ctl_usage(argv[0]);
	for (int i = 1; i < argc; i++) {
		char value[4097];
		int r = value_of(argv[i], "why", value, sizeof(value));

		if (r == 0)
			printf("%s: %s\n", argv[i], value);
		else if (value_of(argv[i], "state", value, sizeof(value)) == 0)
			failed = ctl_error("%s: nothing is planned for it: it is %s, or the mount's "
					   "policy is not adaptive",
					   argv[i], value);
		else
			failed = ctl_error("%s: %s", argv[i], strerror(-r));
	}
	return failed;
}

int cmd_status(int argc, char **argv)
{
	struct sbuf text = SBUF_INIT;
	char *mount;
	int r;

	if (argc > 2)
		return ctl_usage(argv[0]);
	mount = argc == 2 ? mount_of(argv[1]) : mount_only();
	if (!mount)
		return 1;
	r = control_read(mount, "status", &text);
	if (r < 0)
		r = ctl_error("%s: %s", mount, strerror(-r));
	else
		fputs(text.s ? text.s : "", stdout);
	sbuf_fini(&text);
	mem_free(mount);
	return r;
}
