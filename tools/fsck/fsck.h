/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_TOOLS_FSCK_H
#define KVCACHEFS_TOOLS_FSCK_H
/*
 * fsck.kvcachefs: what its files share. It sees include/, base, layouts and codecs
 * and, through object_lib, the parsing of objects and records; never the store:
 * a checker that shares the code it checks would share its mistakes.
 *
 * Passes: tree/ and damaged/ (records, and what they refer to) -> trash/ ->
 * objects/ (what nobody refers to) -> with --verify every stored byte. Repairing
 * never removes content that a name may still belong to.
 */
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "kvcachefs/format.h"
#include "store/object.h"

/* Exit codes of fsck(8), or-ed. */
enum fsck_exit {
	FSCK_OK = 0,
	FSCK_CORRECTED = 1,
	FSCK_LEFT = 4,
	FSCK_FAILED = 8,
	FSCK_USAGE = 16,
	FSCK_CANCELLED = 32,
};

/* Plain files below this need no record (the store's SEAL_MIN_BYTES). */
#define FSCK_RECORD_FROM 65536u

struct ref {
	struct object_id id;
	bool used;
	uint64_t ino;          /* of the inode whose record refers to it */
};
/* Objects that records refer to; open addressing. */
struct refs {
	struct ref *slots;     /* owned; power of two */
	size_t n, cap;
};

/* A file whose record is gone: its object may still be found by inode number. */
struct lost {
	uint64_t ino, size;
	char *path;            /* owned; within the store */
	bool found;
};

struct fsck {
	const char *path;
	bool repair, list, verify, quiet;
	char xattr[32];        /* name of the record */
	int store_fd, tree_fd, objects_fd, trash_fd, damaged_fd, lock_fd;
	struct refs refs;
	struct lost *lost;     /* owned */
	size_t n_lost, cap_lost;
	uint64_t files, plain, sealed, objects, hidden;
	uint64_t logical_bytes, stored_bytes;
	unsigned corrected, left;
};

/* main.c */
/* Prints "PATH: text". @fixed: it is right now; else it is left as it is. */
void fsck_problem(struct fsck *f, bool fixed, const char *path, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* The same for what is no damage (a mount would finish it). */
void fsck_note(struct fsck *f, const char *path, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
bool fsck_cancelled(void); /* ctrl-C */

/* progress.c: a line on a terminal, from one second on */
struct bar {
	const char *what;
	uint64_t done, total;  /* total 0: unknown, counts only */
	uint64_t start_ns, shown_ns;
	bool tty, bytes;
};
void bar_begin(struct bar *b, const char *what, uint64_t total, bool bytes, bool quiet);
void bar_add(struct bar *b, uint64_t n);
void bar_clear(struct bar *b); /* before another line is printed, and at the end */

/* refs.c */
/* The inode that was there before with the same id, 0 when it is new; -ENOMEM
 * through @ret_err. */
uint64_t refs_add(struct refs *r, const struct object_id *id, uint64_t ino, int *ret_err);
bool refs_has(const struct refs *r, const struct object_id *id);
void refs_fini(struct refs *r);

/* open.c */
/* Format and lock; prints the reason. FSCK_OK or what to exit with. */
int fsck_open(struct fsck *f);
void fsck_close(struct fsck *f);

/* tree.c */
WUR int fsck_tree(struct fsck *f);  /* tree/ and damaged/ */
WUR int fsck_trash(struct fsck *f);

/* objects.c */
WUR int fsck_objects(struct fsck *f);
WUR int fsck_verify(struct fsck *f);

#endif
