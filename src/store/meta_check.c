/* SPDX-License-Identifier: MIT */
/*
 * LMDB trusts its file: a damaged page makes it follow wild pointers. So a child
 * process reads the whole database before the store does, its list of free
 * pages too, and makes a change that it gives up again. If the child dies or
 * finds something wrong, the database is made anew from tree/. The file's pages
 * are then in the page cache, where the mount wants them.
 *
 * No threads run yet when this is called, so forking is safe.
 */
#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io.h"
#include "store/meta.h"

/* Every key and value of one table is touched. */
static int walk_table(MDB_txn *txn, MDB_dbi db)
{
	volatile unsigned char sum = 0; /* reading is the purpose */
	MDB_cursor *cur;
	MDB_val k, v;
	int r = mdb_cursor_open(txn, db, &cur);

	if (r)
		return r;
	while ((r = mdb_cursor_get(cur, &k, &v, MDB_NEXT)) == 0) {
		const unsigned char *p = v.mv_data, *key = k.mv_data;

		for (size_t i = 0; i < k.mv_size; i++)
			sum = (unsigned char)(sum + key[i]);
		for (size_t i = 0; i < v.mv_size; i += 64)
			sum = (unsigned char)(sum + p[i]);
	}
	mdb_cursor_close(cur);
	return r == MDB_NOTFOUND ? 0 : r;
}

/* Page numbers of the free list: within the file, none of the first two. */
static int walk_free(MDB_txn *txn, size_t last)
{
	MDB_cursor *cur;
	MDB_val k, v;
	int r = mdb_cursor_open(txn, 0, &cur);

	if (r)
		return r;
	while ((r = mdb_cursor_get(cur, &k, &v, MDB_NEXT)) == 0) {
		const size_t *list = v.mv_data;

		if (v.mv_size < sizeof(*list) || list[0] > v.mv_size / sizeof(*list) - 1)
			r = MDB_CORRUPTED;
		for (size_t i = 1; r == 0 && i <= list[0]; i++)
			if (list[i] < 2 || list[i] > last || (i > 1 && list[i] >= list[i - 1]))
				r = MDB_CORRUPTED;
		if (r)
			break;
	}
	mdb_cursor_close(cur);
	return r == MDB_NOTFOUND ? 0 : r;
}

static int try_change(MDB_env *env, MDB_dbi db)
{
	uint64_t key = UINT64_MAX;
	char value[64] = { 0 };
	MDB_val k = { sizeof(key), &key }, v = { sizeof(value), value };
	MDB_txn *txn;
	int r = mdb_txn_begin(env, NULL, 0, &txn);

	if (r)
		return r;
	r = mdb_put(txn, db, &k, &v, 0);
	mdb_txn_abort(txn);
	return r == MDB_MAP_FULL || r == ENOSPC ? 0 : r;
}

static int walk_all(MDB_env *env, bool read_only)
{
	static const char *const names[] = { "intents", "index", "state" };
	MDB_envinfo info;
	MDB_dbi db, index = 0;
	MDB_txn *txn;
	int r = mdb_env_info(env, &info);

	if (r == 0)
		r = mdb_txn_begin(env, NULL, MDB_RDONLY, &txn);
	if (r)
		return r;
	r = walk_free(txn, info.me_last_pgno);
	for (unsigned i = 0; i < 3 && r == 0; i++) {
		r = mdb_dbi_open(txn, names[i], i == 1 ? MDB_INTEGERKEY : 0, &db);
		if (r == MDB_NOTFOUND) {
			r = 0; /* new, and cut off before it was made */
			continue;
		}
		if (r == 0)
			r = walk_table(txn, db);
		if (i == 1)
			index = db;
	}
	if (r == 0)
		r = mdb_txn_commit(txn); /* keeps the handles */
	else
		mdb_txn_abort(txn);
	if (r == 0 && index && !read_only)
		r = try_change(env, index);
	return r;
}

static int check_here(const char *path, uint64_t bytes, bool read_only)
{
	MDB_env *env;
	int r = mdb_env_create(&env);

	if (r)
		return r;
	mdb_env_set_maxdbs(env, 4);
	mdb_env_set_mapsize(env, (size_t)bytes + (64u << 20));
	r = mdb_env_open(env, path, MDB_NOTLS | (read_only ? MDB_RDONLY | MDB_NOLOCK : 0), 0600);
	return r ? r : walk_all(env, read_only);
}

static void child(const char *path, uint64_t bytes, bool read_only) __attribute__((noreturn));
static void child(const char *path, uint64_t bytes, bool read_only)
{
	static const int fatal[] = { SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL };
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

	for (unsigned i = 0; i < sizeof(fatal) / sizeof(fatal[0]); i++)
		signal(fatal[i], SIG_DFL);
	if (null >= 0)
		dup2(null, 2);
	alarm(300); /* a loop in a damaged tree ends, too */
	_exit(check_here(path, bytes, read_only) ? 1 : 0);
}

int meta_check(int store_fd, bool read_only)
{
	char path[64];
	struct stat sb;
	pid_t pid;
	int dir, fd, status;

	dir = openat(store_fd, "meta", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return -errno;
	fd = io_open_regular(dir, "data.mdb", O_RDONLY, 0);
	io_close(&dir);
	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	if (fstat(fd, &sb) < 0)
		sb.st_size = 0;
	io_close(&fd);
	if (sb.st_size == 0)
		return 0; /* LMDB makes it anew */
	snprintf(path, sizeof(path), "/proc/self/fd/%d/meta", store_fd);
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0)
		child(path, (uint64_t)sb.st_size, read_only);
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -KVFS_EFORMAT;
}
