/* SPDX-License-Identifier: MIT */
/* Runner: posix DIR [NAME...]. Exit 0 when all cases pass, 77 when not root. */
#include "posix.h"

#include <ftw.h>
#include <grp.h>
#include <sys/wait.h>

void posix_fail(const char *file, int line, const char *what)
{
	fprintf(stderr, "  %s:%d: %s (errno %d %s, euid %d)\n", file, line, what, errno,
		strerror(errno), (int)geteuid());
	exit(1);
}

void become(uid_t uid)
{
	gid_t groups[2] = { uid, TEAM };

	become_root();
	OK(setgroups(uid == ALICE ? 2 : 1, groups));
	OK(setegid(uid));
	OK(seteuid(uid));
}

void become_root(void)
{
	OK(seteuid(0));
	OK(setegid(0));
	OK(setgroups(0, NULL));
}

void make_file(const char *name, mode_t mode, const char *text)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_EXCL, mode);

	OK(fd);
	TRUE(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	OK(close(fd));
}

void expect_text(const char *name, const char *text)
{
	char buf[4096];
	int fd = open(name, O_RDONLY);
	ssize_t n;

	OK(fd);
	n = read(fd, buf, sizeof(buf));
	TRUE(n == (ssize_t)strlen(text) && memcmp(buf, text, (size_t)n) == 0);
	OK(close(fd));
}

struct stat stat_of(const char *name)
{
	struct stat st;

	OK(lstat(name, &st));
	return st;
}

bool absent(const char *name)
{
	struct stat st;

	return lstat(name, &st) < 0 && errno == ENOENT;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void case_dir(const char *name)
{
	char dir[64];

	snprintf(dir, sizeof(dir), "case-%s", name);
	(void)nftw(dir, remove_one, 32, FTW_DEPTH | FTW_PHYS);
	OK(mkdir(dir, 0777));
	OK(chdir(dir));
}

static bool run_case(const struct posix_case *c)
{
	char dir[64];
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		alarm(120);
		umask(0);
		case_dir(c->name);
		c->run();
		fflush(NULL);
		_exit(0); /* a leak checker cannot look at a process that changed users */
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		return false;
	snprintf(dir, sizeof(dir), "case-%s", c->name);
	(void)nftw(dir, remove_one, 32, FTW_DEPTH | FTW_PHYS);
	if (status == 0)
		return true;
	printf("FAIL %s (status 0x%x)\n", c->name, status);
	return false;
}

static bool wanted(const char *name, int argc, char **argv)
{
	for (int i = 2; i < argc; i++)
		if (strcmp(argv[i], name) == 0)
			return true;
	return argc <= 2;
}

int main(int argc, char **argv)
{
	const struct posix_case *const all[] = { cases_names, cases_perms, cases_data,
						 cases_attrs, cases_dirs,  cases_xattrs };
	unsigned ran = 0, failed = 0;

	if (geteuid() != 0)
		return 77;
	if (argc < 2 || chdir(argv[1]) < 0) {
		fprintf(stderr, "usage: posix DIR [NAME...]\n");
		return 2;
	}
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		for (const struct posix_case *c = all[i]; c->name; c++) {
			if (!wanted(c->name, argc, argv))
				continue;
			ran++;
			failed += !run_case(c);
		}
	printf("%u cases, %u failed\n", ran, failed);
	return failed || !ran;
}
