/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_STORE_GRANT_H
#define KVCACHEFS_STORE_GRANT_H
/*
 * What may be lost of a file's K and V elements, and what forbids it. The floor is
 * the lowest quality granted: of the file itself, which got it when it was made from the
 * nearest directory of root or of its owner that has one; else of the mount. Below 1 it
 * is a grant. A veto makes it worth nothing.
 * What levels are worth: level_quality.h.
 */
#include "store/store_types.h"

/* The floor in force for @n. */
double grant_floor(struct store *st, struct node *n);
/* May anything be lost of the file with this layout? -KVFS_EEXACT: nothing is granted;
 * -KVFS_EVETO: something forbids it. */
WUR int grant_check(struct store *st, struct node *n, const struct layout *l);
/* What forbids it, for people; NULL when nothing does. */
const char *grant_veto(struct store *st, struct node *n, const struct layout *l);
/* Who owns it. Without its gate: the caller may have that. */
bool grant_owner(struct store *st, struct node *n, uid_t *ret);
/* The value of xattr @name of the nearest of @at and the directories above it that has it and
 * is of root or of @uid, with a 0 behind it. *ret_any: one has, whosever it is; *ret_of, whose the
 * one is that was found. Either may be NULL. */
bool grant_nearest(struct store *st, struct node *at, uid_t uid, const char *name, char *buf,
		   size_t len, bool *ret_any, uid_t *ret_of);
/* The file just made in @dir, open as @fd, of owner @uid: it inherits this and what its
 * readers accept. */
void grant_inherit(struct store *st, struct node *dir, int fd, uid_t uid);
/* Names or settings of directories changed: what was remembered of them is void. */
void grant_forget(struct store *st);
/* May xattr @name of file @n be set to @val (NULL: removed)? -KVFS_EGONE when it asks for
 * bytes that the file has lost. Else it loses none until grant_set_end(*ret), which has to
 * follow once it is set, or was not. May block. */
WUR int grant_set_begin(struct store *st, struct node *n, const char *name, const void *val,
			size_t len, struct ctx **ret);
void grant_set_end(struct ctx *c); /* gate exclusive; NULL ok */

#endif
