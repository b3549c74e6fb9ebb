/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_TESTS_POSIX_H
#define KVCACHEFS_TESTS_POSIX_H
/*
 * Cases about what a filesystem owes its users. Each runs in a process of its
 * own inside a fresh directory (mode 0777, root's), as root, and becomes other
 * users as it needs. The same cases pass on ext4: tests/fs/posix.sh runs both.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ALICE 10001
#define BOB 10002
#define TEAM 20001 /* a group of alice */

struct posix_case {
	const char *name;
	void (*run)(void);
};
extern const struct posix_case cases_names[], cases_perms[], cases_data[], cases_attrs[],
	cases_dirs[], cases_xattrs[];

_Noreturn void posix_fail(const char *file, int line, const char *what);
/* The calling process becomes @uid with group @uid (and TEAM for alice). */
void become(uid_t uid);
void become_root(void);
/* Helpers that fail the case on any error. */
void make_file(const char *name, mode_t mode, const char *text);
void expect_text(const char *name, const char *text);
struct stat stat_of(const char *name);
bool absent(const char *name);

#define OK(expr)                                               \
	do {                                                   \
		if ((expr) == -1)                              \
			posix_fail(__FILE__, __LINE__, #expr); \
	} while (0)
#define TRUE(cond)                                             \
	do {                                                   \
		errno = 0;                                     \
		if (!(cond))                                   \
			posix_fail(__FILE__, __LINE__, #cond); \
	} while (0)
#define ERR(expr, code)                                                     \
	do {                                                                \
		errno = 0;                                                  \
		if ((expr) != -1 || errno != (code))                        \
			posix_fail(__FILE__, __LINE__, #expr " -> " #code); \
	} while (0)

#endif
