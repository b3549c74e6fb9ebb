/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_STORE_NODE_TYPES_H
#define KVCACHEFS_STORE_NODE_TYPES_H
/* Bodies shared by node.c (the table) and dirfd.c (the way to a node). */
#include "base/list.h"
#include "base/lock.h"
#include "store/node.h"

/* Kept small: there can be a million. All but ino, type and content under the
 * table's lock; content is a hint, a torn view of it is impossible (one byte). */
struct node {
	_Atomic uint64_t ino; /* changes once, when its file is gone: node_dead */
	struct node *next;   /* hash chain */
	struct node *parent; /* counted in its kids; NULL for root, trash, orphans */
	char *name;          /* owned; NULL with parent NULL */
	uint64_t nlookup;
	uint32_t kids;
	uint32_t type;
	struct dirfd *dfd;   /* directories: cached descriptor, or NULL */
	int fd;              /* orphans: O_PATH, owned; else -1 */
	unsigned char is_root;
	_Atomic unsigned char content;
};

struct dirfd {
	struct list lru;
	struct node *dir; /* NULL when detached: closed at the last put */
	int fd;
	unsigned refs;
	bool fixed;       /* tree or trash: never closed here */
};

struct node_table {
	struct lock lock;
	struct budget *budget; /* borrowed */
	int tree_fd, trash_fd; /* borrowed */
	unsigned max_dirfds;
	struct node *root, *trash;
	struct node **hash GUARDED; /* lock; n_hash is a power of two */
	size_t n_hash;
	size_t count;
	struct list dirfds;         /* lock; newest first */
	unsigned n_dirfds;          /* lock */
};

/* Forgets a directory's cached descriptor (closed when unused). */
void dirfd_drop_locked(struct node_table *t, struct node *dir) REQUIRES(&t->lock);
void dirfd_drop_all(struct node_table *t);

#endif
