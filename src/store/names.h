/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_STORE_NAMES_H
#define KVCACHEFS_STORE_NAMES_H
/* What the files of the namespace share: names.c, remove.c, dir.c, open.c. */
#include "store/store_types.h"

void names_enter(struct store *st, const struct caller *c);
void names_leave(struct store *st, const struct caller *c);
WUR int names_found(struct store *st, struct node *dir, const struct at *at, struct node **ret,
		    struct stat *ret_attr);
/* @ret_fd: an O_RDWR descriptor when created, else -1. */
WUR int names_create(struct store *st, const struct caller *c, struct node *dir, const char *name,
		     mode_t mode, int flags, struct node **ret, struct stat *ret_attr,
		     int *ret_fd, bool *ret_created);

#endif
