/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_STORE_NODE_H
#define KVCACHEFS_STORE_NODE_H
/*
 * The names that the kernel knows: one small struct per inode that was looked
 * up, with its parent and one of its names. No descriptor is held per node; a
 * bounded cache of directory descriptors turns (parent, name) into something
 * that the *at() calls take. A million nodes fit into about 200 MB, counted in
 * the budget (BUDGET_TABLE); beyond the limit names are pruned by asking the
 * kernel to forget them.
 *
 * All functions are thread-safe. Names change only through node_moved.
 */
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "base/budget.h"
#include "base/err.h"

struct node;
struct node_table;
struct dirfd;

/* What a *at() call needs. hold keeps dirfd open until node_at_put. */
struct at {
	int dirfd;
	int flags;               /* AT_SYMLINK_NOFOLLOW, or 0 for a magic link */
	char name[NAME_MAX + 1]; /* "." for the root */
	struct dirfd *hold;
};

/* What is known of a node's content without looking (NODE_UNKNOWN: look). */
enum node_content { NODE_UNKNOWN, NODE_PLAIN, NODE_SEALED };

/* @tree_fd, @trash_fd borrowed for the table's life. */
WUR int node_table_create(int tree_fd, int trash_fd, struct budget *b, unsigned max_dirfds,
			  struct node_table **ret);
void node_table_destroy(struct node_table *t); /* NULL ok */
struct node *node_root(struct node_table *t);
/* The directory of names taken away (STORE/trash); never shown to the kernel. */
struct node *node_trash(struct node_table *t);
uint64_t node_count(struct node_table *t);

/* One lookup reference on the node of inode @ino, made if new. An existing
 * node takes over the name given. -ENOMEM. */
WUR int node_get(struct node_table *t, struct node *dir, const char *name, uint64_t ino,
		 mode_t type, struct node **ret);
/* One more reference on a node that has one. */
void node_ref(struct node_table *t, struct node *n);
void node_forget(struct node_table *t, struct node *n, uint64_t nlookup);
/* The node of @ino with a reference, or NULL when the kernel does not know it. */
struct node *node_find(struct node_table *t, uint64_t ino);

uint64_t node_ino(const struct node *n);
mode_t node_type(const struct node *n); /* S_IFMT bits */
bool node_is_root(const struct node *n);
enum node_content node_content(const struct node *n);
void node_set_content(struct node *n, enum node_content c);

/* The inode's name is now @name in @dir (rename, a new link, into the trash). */
WUR int node_moved(struct node_table *t, struct node *n, struct node *dir, const char *name);
/* Its last name is gone; @fd (O_PATH, taken over; -1 none) is the way to it. */
void node_orphan(struct node_table *t, struct node *n, int fd);
/* The inode itself is gone: its number may be given to another file, which must
 * not find this node. */
void node_dead(struct node_table *t, struct node *n);
/* It has no name that clients see: its only one is in the trash, or it has none. */
bool node_in_trash(const struct node_table *t, struct node *n);
/* It has a name in the trash. */
bool node_is_trash(struct node_table *t, struct node *n);

/* Fills @ret; may open directories on the way. -ESTALE, -errno. */
WUR int node_at(struct node_table *t, struct node *n, struct at *ret);
/* The same for a name inside directory @dir. -ENAMETOOLONG. */
WUR int node_at_child(struct node_table *t, struct node *dir, const char *name, struct at *ret);
void node_at_put(struct node_table *t, struct at *at);
/* A descriptor of exactly this inode (O_PATH|O_NOFOLLOW or @flags), checked
 * against its inode number. -ESTALE, -errno. */
WUR int node_openfd(struct node_table *t, struct node *n, int flags);
/* "/proc/self/fd/N/NAME" for calls that only take paths. */
#define NODE_PATH_MAX (NAME_MAX + 40)
void node_at_path(const struct at *at, char buf[NODE_PATH_MAX]);
/* A copy of where it is: parent (with a reference) and name. False for the root
 * and orphans. */
bool node_where(struct node_table *t, struct node *n, struct node **ret_dir,
		char name[NAME_MAX + 1]);

/* "a/b/c" of a node ("" for the root), cut at @len; "?" parts when unknown. */
void node_path(struct node_table *t, struct node *n, char *buf, size_t len);
/* Up to @max childless nodes that the kernel knows, from a moving cursor, each
 * with a reference: candidates for pruning. */
unsigned node_pick(struct node_table *t, size_t *cursor, struct node **ret, unsigned max);

#endif
