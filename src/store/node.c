/* SPDX-License-Identifier: MIT */
/*
 * The node table: inode number -> node, with parents counted so that a path to
 * the root always exists.
 *
 * A node lives while nlookup > 0 (the kernel or the store refers to it) or kids
 * > 0 (a known child needs it for its path). One lock guards hash, counts, names
 * and the cache of directory descriptors; nothing under it does I/O. The
 * tables in dirfd.c do the opening.
 */
#include "store/node.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/io.h"
#include "base/mem.h"
#include "store/node_types.h"

#define NODE_HASH_MIN 1024u

static struct node **bucket_of(struct node_table *t, uint64_t ino) REQUIRES(&t->lock)
{
	return &t->hash[hash_u64(ino) & (t->n_hash - 1)];
}

static size_t node_bytes(const struct node *n)
{
	/* malloc's own overhead of two blocks is about 32 bytes */
	return sizeof(*n) + (n->name ? strlen(n->name) + 1 : 0) + 32;
}

static struct node *find_locked(struct node_table *t, uint64_t ino) REQUIRES(&t->lock)
{
	struct node *n = *bucket_of(t, ino);

	while (n && n->ino != ino)
		n = n->next;
	return n;
}

/* Doubles the hash; on failure the chains just get longer. */
static void grow_locked(struct node_table *t) REQUIRES(&t->lock)
{
	size_t bigger = t->n_hash * 2;
	struct node **h;

	if (t->count < t->n_hash)
		return;
	h = mem_calloc(bigger, sizeof(*h));
	if (!h)
		return;
	for (size_t i = 0; i < t->n_hash; i++) {
		struct node *n = t->hash[i];

		while (n) {
			struct node *next = n->next;
			struct node **b = &h[hash_u64(n->ino) & (bigger - 1)];

			n->next = *b;
			*b = n;
			n = next;
		}
	}
	budget_force(t->budget, BUDGET_TABLE, (bigger - t->n_hash) * sizeof(*h));
	mem_free(t->hash);
	t->hash = h;
	t->n_hash = bigger;
}

static void unhash_locked(struct node_table *t, struct node *n) REQUIRES(&t->lock)
{
	struct node **p = bucket_of(t, n->ino);

	while (*p != n)
		p = &(*p)->next;
	*p = n->next;
	t->count--;
}

static void hash_locked(struct node_table *t, struct node *n) REQUIRES(&t->lock)
{
	struct node **b = bucket_of(t, n->ino);

	n->next = *b;
	*b = n;
	t->count++;
}

static void rehash_locked(struct node_table *t, struct node *n, uint64_t ino) REQUIRES(&t->lock)
{
	unhash_locked(t, n);
	n->ino = ino;
	hash_locked(t, n);
}

/* Frees what nobody refers to, upwards. */
static void reap_locked(struct node_table *t, struct node *n) REQUIRES(&t->lock)
{
	while (n && n->nlookup == 0 && n->kids == 0) {
		struct node *parent = n->parent;

		if (n == t->root || n == t->trash)
			return;
		unhash_locked(t, n);
		if (n->dfd)
			dirfd_drop_locked(t, n);
		if (n->fd >= 0)
			close(n->fd); /* O_PATH: does no I/O */
		budget_give(t->budget, BUDGET_TABLE, node_bytes(n));
		mem_free(n->name);
		mem_free(n);
		if (parent)
			parent->kids--;
		n = parent;
	}
}

/* Takes over (dir, name); @fresh is the name's copy, owned from now on. */
static void place_locked(struct node_table *t, struct node *n, struct node *dir, char *fresh)
	REQUIRES(&t->lock)
{
	struct node *old = n->parent;

	budget_give(t->budget, BUDGET_TABLE, node_bytes(n));
	mem_free(n->name);
	n->name = fresh;
	n->parent = dir;
	if (dir)
		dir->kids++;
	budget_force(t->budget, BUDGET_TABLE, node_bytes(n));
	if (n->fd >= 0 && dir) {
		close(n->fd);
		n->fd = -1;
	}
	if (old) {
		old->kids--;
		reap_locked(t, old);
	}
}

static struct node *insert_locked(struct node_table *t, struct node *dir, char *name,
				  uint64_t ino, mode_t type) REQUIRES(&t->lock)
{
	struct node *n = mem_zalloc(sizeof(*n));

	if (!n)
		return NULL;
	n->ino = ino;
	n->type = type & S_IFMT;
	n->fd = -1;
	n->parent = dir;
	n->name = name;
	if (dir)
		dir->kids++;
	grow_locked(t);
	hash_locked(t, n);
	budget_force(t->budget, BUDGET_TABLE, node_bytes(n));
	return n;
}

int node_get(struct node_table *t, struct node *dir, const char *name, uint64_t ino, mode_t type,
	     struct node **ret)
{
	char *copy = mem_strdup(name);
	struct node *n;

	if (!copy)
		return -ENOMEM;
	lock_acquire(&t->lock);
	n = find_locked(t, ino);
	if (n && (n->type != (type & S_IFMT))) {
		/* the inode number was reused while the kernel still held the old one */
		rehash_locked(t, n, 0);
		n = NULL;
	}
	if (!n) {
		n = insert_locked(t, dir, copy, ino, type);
		if (!n) {
			lock_release(&t->lock);
			mem_free(copy);
			return -ENOMEM;
		}
	} else if (n->parent == dir && n->name && strcmp(n->name, name) == 0) {
		mem_free(copy);
	} else if (n != t->root) {
		place_locked(t, n, dir, copy);
	} else {
		mem_free(copy);
	}
	n->nlookup++;
	*ret = n;
	lock_release(&t->lock);
	return 0;
}

void node_ref(struct node_table *t, struct node *n)
{
	lock_acquire(&t->lock);
	n->nlookup++;
	lock_release(&t->lock);
}

void node_forget(struct node_table *t, struct node *n, uint64_t nlookup)
{
	lock_acquire(&t->lock);
	n->nlookup -= nlookup < n->nlookup ? nlookup : n->nlookup;
	reap_locked(t, n);
	lock_release(&t->lock);
}

struct node *node_find(struct node_table *t, uint64_t ino)
{
	struct node *n;

	lock_acquire(&t->lock);
	n = find_locked(t, ino);
	if (n)
		n->nlookup++;
	lock_release(&t->lock);
	return n;
}

int node_moved(struct node_table *t, struct node *n, struct node *dir, const char *name)
{
	char *copy = mem_strdup(name);

	if (!copy)
		return -ENOMEM;
	lock_acquire(&t->lock);
	place_locked(t, n, dir, copy);
	lock_release(&t->lock);
	return 0;
}

void node_orphan(struct node_table *t, struct node *n, int fd)
{
	lock_acquire(&t->lock);
	place_locked(t, n, NULL, NULL);
	if (n->fd >= 0)
		close(n->fd);
	n->fd = fd;
	lock_release(&t->lock);
}

void node_dead(struct node_table *t, struct node *n)
{
	lock_acquire(&t->lock);
	if (n->ino)
		rehash_locked(t, n, 0);
	lock_release(&t->lock);
}

bool node_in_trash(const struct node_table *t, struct node *n)
{
	struct node_table *tt = (struct node_table *)t;
	bool yes;

	lock_acquire(&tt->lock);
	yes = n->parent == t->trash || (!n->parent && n != t->root);
	lock_release(&tt->lock);
	return yes;
}

bool node_is_trash(struct node_table *t, struct node *n)
{
	bool yes;

	lock_acquire(&t->lock);
	yes = n->parent == t->trash;
	lock_release(&t->lock);
	return yes;
}

uint64_t node_ino(const struct node *n)
{
	return n->ino;
}

mode_t node_type(const struct node *n)
{
	return n->type;
}

bool node_is_root(const struct node *n)
{
	return n->is_root;
}

enum node_content node_content(const struct node *n)
{
	return (enum node_content)n->content;
}

void node_set_content(struct node *n, enum node_content c)
{
	n->content = (unsigned char)c;
}

bool node_where(struct node_table *t, struct node *n, struct node **ret_dir,
		char name[NAME_MAX + 1])
{
	bool ok = false;

	lock_acquire(&t->lock);
	if (n->parent && n->name && strlen(n->name) <= NAME_MAX) {
		strcpy(name, n->name);
		*ret_dir = n->parent;
		n->parent->nlookup++;
		ok = true;
	}
	lock_release(&t->lock);
	return ok;
}

void node_path(struct node_table *t, struct node *n, char *buf, size_t len)
{
	char *end = buf + len, *p = end;

	*--p = 0;
	lock_acquire(&t->lock);
	for (; n && n->parent; n = n->parent) {
		size_t l = n->name ? strlen(n->name) : 0;
		size_t sep = *p ? 1 : 0;

		if (l + sep + 1 > (size_t)(p - buf))
			break;
		if (sep)
			*--p = '/';
		p -= l;
		if (l)
			memcpy(p, n->name, l);
	}
	lock_release(&t->lock);
	memmove(buf, p, (size_t)(end - p));
}

unsigned node_pick(struct node_table *t, size_t *cursor, struct node **ret, unsigned max)
{
	unsigned n = 0;

	lock_acquire(&t->lock);
	for (size_t i = 0; i < t->n_hash && n < max; i++) {
		*cursor = (*cursor + 1) & (t->n_hash - 1);
		for (struct node *x = t->hash[*cursor]; x && n < max; x = x->next) {
			if (x->kids || !x->nlookup || !x->parent || x->parent == t->trash)
				continue;
			x->nlookup++;
			ret[n++] = x;
		}
	}
	lock_release(&t->lock);
	return n;
}

struct node *node_root(struct node_table *t)
{
	return t->root;
}

struct node *node_trash(struct node_table *t)
{
	return t->trash;
}

uint64_t node_count(struct node_table *t)
{
	uint64_t n;

	lock_acquire(&t->lock);
	n = t->count;
	lock_release(&t->lock);
	return n;
}

static int make_fixed(struct node_table *t, int fd, struct node **ret)
{
	struct stat sb;

	if (fstat(fd, &sb) < 0)
		return -errno;
	lock_acquire(&t->lock);
	*ret = insert_locked(t, NULL, NULL, sb.st_ino, S_IFDIR);
	if (*ret)
		(*ret)->nlookup = 1;
	lock_release(&t->lock);
	return *ret ? 0 : -ENOMEM;
}

int node_table_create(int tree_fd, int trash_fd, struct budget *b, unsigned max_dirfds,
		      struct node_table **ret) NO_TSA
{
	struct node_table *t = mem_zalloc(sizeof(*t));
	int r;

	if (!t)
		return -ENOMEM;
	lock_init(&t->lock);
	list_init(&t->dirfds);
	t->budget = b;
	t->max_dirfds = max_dirfds;
	t->tree_fd = tree_fd;
	t->trash_fd = trash_fd;
	t->hash = mem_calloc(NODE_HASH_MIN, sizeof(*t->hash));
	if (!t->hash) {
		r = -ENOMEM;
		goto err_free;
	}
	t->n_hash = NODE_HASH_MIN;
	budget_force(b, BUDGET_TABLE, NODE_HASH_MIN * sizeof(*t->hash));
	r = make_fixed(t, tree_fd, &t->root);
	if (r == 0)
		r = make_fixed(t, trash_fd, &t->trash);
	if (r < 0)
		goto err_free;
	t->root->is_root = 1;
	*ret = t;
	return 0;

err_free:
	node_table_destroy(t);
	return r;
}

void node_table_destroy(struct node_table *t) NO_TSA
{
	if (!t)
		return;
	for (size_t i = 0; i < t->n_hash; i++) {
		struct node *n = t->hash[i];

		while (n) {
			struct node *next = n->next;

			if (n->fd >= 0)
				close(n->fd);
			budget_give(t->budget, BUDGET_TABLE, node_bytes(n));
			mem_free(n->name);
			mem_free(n);
			n = next;
		}
	}
	dirfd_drop_all(t);
	if (t->n_hash)
		budget_give(t->budget, BUDGET_TABLE, t->n_hash * sizeof(*t->hash));
	mem_free(t->hash);
	lock_fini(&t->lock);
	mem_free(t);
}
