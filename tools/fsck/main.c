/* SPDX-License-Identifier: MIT */
/* fsck.kvcachefs: options, the order of the passes, the last line. */
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/sbuf.h"
#include "fsck.h"

/* A signal handler can reach nothing else. */
static volatile sig_atomic_t cancelled;

static void on_signal(int sig)
{
	(void)sig;
	cancelled = 1;
}

bool fsck_cancelled(void)
{
	return cancelled != 0;
}

static void say(const char *path, const char *fmt, va_list ap, const char *tail)
{
	fflush(stderr);
	printf("%s: ", path);
	vprintf(fmt, ap);
	printf("%s\n", tail);
}

void fsck_problem(struct fsck *f, bool fixed, const char *path, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say(path, fmt, ap, fixed ? " (corrected)" : "");
	va_end(ap);
	if (fixed)
		f->corrected++;
	else
		f->left++;
}

void fsck_note(struct fsck *f, const char *path, const char *fmt, ...)
{
	va_list ap;

	if (f->quiet)
		return;
	va_start(ap, fmt);
	say(path, fmt, ap, "");
	va_end(ap);
}

static const struct option options[] = {
	{ "check", no_argument, NULL, 'n' },   { "repair", no_argument, NULL, 'y' },
	{ "list", no_argument, NULL, 'l' },    { "verify", no_argument, NULL, 'c' },
	{ "quiet", no_argument, NULL, 'q' },   { "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, 'V' }, { NULL, 0, NULL, 0 },
};

static void help(FILE *to)
{
	fputs("usage: fsck.kvcachefs [OPTION]... STORE\n\n"
	      "Checks an unmounted kvcachefs store, the directory given to kvcachefs(8) first.\n\n"
	      "  -n, --check    check and change nothing (the default)\n"
	      "  -y, -a, -p, --repair\n"
	      "                 finish what was in flight, remove what nobody refers to, put\n"
	      "                 lost records back; never removes content that a name may own\n"
	      "  -c, --verify   read every stored byte and check its sum\n"
	      "  -l, --list     list files with state, layout and sizes\n"
	      "  -q, --quiet    problems only, no progress\n"
	      "  -h, --help     -V, --version\n\n"
	      "Exits as fsck(8): 0 fine, 1 corrected, 4 problems left, 8 could not check,\n"
	      "16 usage, 32 interrupted. See fsck.kvcachefs(8).\n", to);
}

/* FSCK_OK, or what to exit with (-1: fine, nothing more to do). */
static int parse(int argc, char **argv, struct fsck *f)
{
	int c;

	while ((c = getopt_long(argc, argv, "nyapclqhVfv", options, NULL)) != -1) {
		switch (c) {
		case 'n':
			f->repair = false;
			break;
		case 'y':
		case 'a':
		case 'p':
			f->repair = true;
			break;
		case 'c':
			f->verify = true;
			break;
		case 'l':
			f->list = true;
			break;
		case 'q':
			f->quiet = true;
			break;
		case 'f': /* fsck(8) passes these */
		case 'v':
			break;
		case 'h':
			help(stdout);
			return -1;
		case 'V':
			puts("fsck.kvcachefs " KVFS_VERSION);
			return -1;
		default:
			help(stderr);
			return FSCK_USAGE;
		}
	}
	if (optind != argc - 1) {
		fputs("fsck.kvcachefs: give one store\n", stderr);
		help(stderr);
		return FSCK_USAGE;
	}
	f->path = argv[optind];
	return FSCK_OK;
}

static int passes(struct fsck *f)
{
	int err = fsck_tree(f);

	if (!err)
		err = fsck_trash(f);
	if (!err)
		err = fsck_objects(f);
	if (!err && f->verify)
		err = fsck_verify(f);
	return err;
}

static int finish(struct fsck *f, int err)
{
	int code = (f->corrected ? FSCK_CORRECTED : 0) | (f->left ? FSCK_LEFT : 0);
	struct sbuf b = SBUF_INIT;

	if (fsck_cancelled()) {
		fputs("fsck.kvcachefs: interrupted\n", stderr);
		return code | FSCK_CANCELLED;
	}
	if (err) {
		fprintf(stderr, "fsck.kvcachefs: %s: %s\n", f->path, err_text(err));
		return code | FSCK_FAILED;
	}
	if (f->hidden && !f->quiet)
		printf("%s/damaged: %llu files that damage=hide took away\n", f->path,
		       (unsigned long long)f->hidden);
	if (!f->quiet || code) {
		sbuf_add_bytes(&b, f->stored_bytes);
		sbuf_adds(&b, " stored for ");
		sbuf_add_bytes(&b, f->logical_bytes);
		printf("%s: %s, %llu files (%llu sealed), %llu objects, %s, %u corrected, %u left\n",
		       f->path, code & FSCK_LEFT ? "PROBLEMS LEFT" : code ? "corrected" : "clean",
		       (unsigned long long)f->files, (unsigned long long)f->sealed,
		       (unsigned long long)f->objects, b.s ? b.s : "", f->corrected, f->left);
		sbuf_fini(&b);
	}
	return code;
}

int main(int argc, char **argv)
{
	struct fsck f = { .store_fd = -1, .tree_fd = -1, .objects_fd = -1, .trash_fd = -1,
			  .damaged_fd = -1, .lock_fd = -1 };
	const struct sigaction sa = { .sa_handler = on_signal };
	int r = parse(argc, argv, &f);

	if (r)
		return r < 0 ? 0 : r;
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	r = fsck_open(&f);
	if (!r)
		r = finish(&f, passes(&f));
	fsck_close(&f);
	if (fflush(stdout) != 0)
		r |= FSCK_FAILED;
	return r;
}
