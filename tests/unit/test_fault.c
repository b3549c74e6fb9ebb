/* SPDX-License-Identifier: MIT */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io.h"
#include "base/mem.h"
#include "testlib.h"

#ifdef KVFS_FAULTS
Test(fault, counted_hits_once_or_from_then_on)
{
	fault_arm(FAULT_ALLOC, 2, false);
	cr_assert_not(fault_hit(FAULT_ALLOC));
	cr_assert(fault_hit(FAULT_ALLOC));
	cr_assert_not(fault_hit(FAULT_ALLOC));
	cr_assert_eq(fault_count(FAULT_ALLOC), 3);
	fault_arm(FAULT_ALLOC, 2, true);
	cr_assert_not(fault_hit(FAULT_ALLOC));
	cr_assert(fault_hit(FAULT_ALLOC));
	cr_assert(fault_hit(FAULT_ALLOC));
	cr_assert_not(fault_hit(FAULT_READ));
	fault_arm(FAULT_ALLOC, 0, false);
	cr_assert_not(fault_hit(FAULT_ALLOC));
}

Test(fault, every_allocator_honours_it)
{
	char *p = mem_alloc(1);

	fault_arm(FAULT_ALLOC, 1, true);
	cr_assert_null(mem_alloc(1));
	cr_assert_null(mem_zalloc(1));
	cr_assert_null(mem_calloc(1, 1));
	cr_assert_null(mem_realloc(p, 2));
	cr_assert_null(mem_strdup("x"));
	cr_assert_null(mem_alloc_pages(1));
	fault_arm(FAULT_ALLOC, 0, false);
	mem_free(p);
}

Test(fault, point_yields_an_error_the_nth_time)
{
	setenv("KVCACHEFS_FAULT", "seal.switched:2=enospc", 1);
	cr_assert_eq(fault_point("seal.switched"), 0);
	cr_assert_eq(fault_point("seal.other"), 0);
	cr_assert_eq(FAULT_POINT("seal.switched"), -ENOSPC);
	cr_assert_eq(fault_point("seal.switched"), 0);
}

Test(fault, point_kills_by_default)
{
	int st;
	pid_t pid = fork();

	if (!pid) {
		setenv("KVCACHEFS_FAULT", "x", 1);
		(void)fault_point("x");
		_exit(0);
	}
	cr_assert_eq(waitpid(pid, &st, 0), pid);
	cr_assert(WIFSIGNALED(st) && WTERMSIG(st) == SIGKILL);
}

Test(fault, nonsense_is_refused_loudly)
{
	static const char *const bad[] = { "x=explode", "x:0", "x:2y", ":1" };

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		int st;
		pid_t pid = fork();

		if (!pid) {
			signal(SIGABRT, SIG_DFL);
			setenv("KVCACHEFS_FAULT", bad[i], 1);
			(void)fault_point("x");
			_exit(0);
		}
		cr_assert_eq(waitpid(pid, &st, 0), pid);
		cr_assert(WIFSIGNALED(st) && WTERMSIG(st) == SIGABRT, "%s", bad[i]);
	}
}

Test(fault, list_names_each_point_once)
{
	char *dir = test_tmpdir_create(), *path, *s;
	size_t len;

	cr_assert_gt(asprintf(&path, "%s/list", dir), 0);
	setenv("KVCACHEFS_FAULT_LIST", path, 1);
	for (int i = 0; i < 3; i++) {
		cr_assert_eq(fault_point("a.one"), 0);
		cr_assert_eq(fault_point("b.two"), 0);
	}
	cr_assert_eq(io_read_file(AT_FDCWD, path, 100, &s, &len), 0);
	cr_assert_str_eq(s, "a.one\nb.two\n");
	mem_free(s);
	free(path);
	test_tmpdir_remove(dir);
}
#else
Test(fault, compiles_to_nothing)
{
	fault_arm(FAULT_ALLOC, 1, true);
	cr_assert_not(fault_hit(FAULT_ALLOC));
	cr_assert_eq(FAULT_POINT("x"), 0);
}
#endif
