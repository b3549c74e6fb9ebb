/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_FS_XATTR_H
#define KVCACHEFS_FS_XATTR_H
/* The steering names: what include/kvcachefs/xattr.h promises, done with
 * store.h. ops_xattr.c decides which names come here. */
#include "fs/fs_types.h"
#include "kvcachefs/xattr.h"

struct xattr_def {
	const char *name; /* with its prefix */
	enum kvcachefs_xattr_kind kind;
	unsigned on; /* enum kvcachefs_xattr_on */
	enum kvcachefs_xattr_set set;
	const char *value; /* type or choices */
	const char *help;
};
extern const struct xattr_def xattr_table[KVCACHEFS_XATTR_IDS];

#define XATTR_VALUE_MAX 4096

/* Id of a name below the prefix; -ENODATA when there is none. */
int xattr_find(const char *name);
bool xattr_is_ours(const char *name);

/* The value that reading @id of @n shows, into @out. -ENODATA where it has
 * none. @is_root: @n is the root of the mount. */
WUR int xattr_show(struct fs *fs, struct node *n, int id, struct sbuf *out);

struct xattr_change {
	struct fs *fs;
	struct node *node;
	int id;
	uid_t who;
	gid_t gid;
	int flags; /* of setxattr(2) */
	size_t len;
	char value[XATTR_VALUE_MAX + 1]; /* NUL-terminated */
};
/* Checks name, place, permission and value; on refusal the code, and the
 * reason in @why. */
WUR int xattr_check(const struct xattr_change *c, const struct stat *attr, struct sbuf *why);
/* True for changes that may take long: not on a serving thread. */
bool xattr_is_slow(int id);
/* Does it. */
WUR int xattr_apply(const struct xattr_change *c);
/* Removes setting @id. */
WUR int xattr_remove(struct fs *fs, struct node *n, int id, uid_t who);

#endif
