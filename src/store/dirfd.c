/* SPDX-License-Identifier: MIT */
/*
 * From a node to something that *at() calls take: a bounded LRU of O_PATH
 * descriptors of directories, opened from the nearest cached ancestor down.
 *
 * A path may change between the look at (parent, name) and the open; the inode
 * number is compared, and the walk starts again a few times before -ESTALE.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "store/node_types.h"

#define WALK_TRIES 16

static void dirfd_put_locked(struct node_table *t, struct dirfd *d) REQUIRES(&t->lock)
{
	if (--d->refs > 0 || d->dir)
		return;
	close(d->fd); /* O_PATH */
	mem_free(d);
}

void dirfd_drop_locked(struct node_table *t, struct node *dir)
{
	struct dirfd *d = dir->dfd;

	dir->dfd = NULL;
	d->dir = NULL;
	list_del(&d->lru);
	t->n_dirfds--;
	if (d->refs == 0) {
		close(d->fd);
		mem_free(d);
	}
}

void dirfd_drop_all(struct node_table *t)
{
	list_for_each_safe(l, tmp, &t->dirfds) {
		struct dirfd *d = container_of(l, struct dirfd, lru);

		close(d->fd);
		mem_free(d);
	}
	list_init(&t->dirfds);
}

static void trim_locked(struct node_table *t) REQUIRES(&t->lock)
{
	struct list *l = t->dirfds.prev;

	while (t->n_dirfds > t->max_dirfds && l != &t->dirfds) {
		struct dirfd *d = container_of(l, struct dirfd, lru);

		l = l->prev;
		if (d->refs == 0)
			dirfd_drop_locked(t, d->dir);
	}
}

/* A reference on the cached descriptor of @n, or NULL. */
static struct dirfd *cached_locked(struct node_table *t, struct node *n) REQUIRES(&t->lock)
{
	struct dirfd *d = n->dfd;

	if (!d)
		return NULL;
	list_del(&d->lru);
	list_add_head(&t->dirfds, &d->lru);
	d->refs++;
	return d;
}

static int open_checked(int dirfd, const char *name, int flags, uint64_t ino)
{
	struct stat sb;
	int fd = openat(dirfd, name, flags | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (fstat(fd, &sb) < 0 || sb.st_ino != ino) {
		close(fd);
		return -ESTALE;
	}
	return fd;
}

/* Caches @fd (taken over) for @n unless somebody was faster. Ref'd. */
static struct dirfd *install(struct node_table *t, struct node *n, int fd)
{
	struct dirfd *d = mem_zalloc(sizeof(*d));
	struct dirfd *other;

	if (!d) {
		close(fd);
		return NULL;
	}
	lock_acquire(&t->lock);
	other = cached_locked(t, n);
	if (!other) {
		d->fd = fd;
		d->dir = n;
		d->refs = 1;
		n->dfd = d;
		list_add_head(&t->dirfds, &d->lru);
		t->n_dirfds++;
		trim_locked(t);
	}
	lock_release(&t->lock);
	if (!other)
		return d;
	close(fd);
	mem_free(d);
	return other;
}


static int dirfd_get(struct node_table *t, struct node *dir, struct dirfd **ret);

/* One step: the descriptor of @dir's parent and @dir's name there. */
static int dirfd_open(struct node_table *t, struct node *dir, struct dirfd **ret)
{
	char name[NAME_MAX + 1];
	struct node *parent;
	struct dirfd *up;
	int fd, r;

	if (!node_where(t, dir, &parent, name)) {
		int own;

		lock_acquire(&t->lock);
		own = dir->fd >= 0 ? dup(dir->fd) : -1;
		lock_release(&t->lock);
		if (own < 0)
			return -ESTALE;
		*ret = install(t, dir, own);
		return *ret ? 0 : -ENOMEM;
	}
	r = dirfd_get(t, parent, &up);
	if (r == 0) {
		fd = open_checked(up->fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW, dir->ino);
		lock_acquire(&t->lock);
		dirfd_put_locked(t, up);
		lock_release(&t->lock);
		if (fd >= 0) {
			*ret = install(t, dir, fd);
			r = *ret ? 0 : -ENOMEM;
		} else {
			r = fd;
		}
	}
	node_forget(t, parent, 1);
	return r;
}

/* Recursion depth is the directory depth; PATH_MAX bounds what a kernel can ask
 * for, and each level takes under 400 bytes of stack. */
static int dirfd_get(struct node_table *t, struct node *dir, struct dirfd **ret)
{
	struct dirfd *d;

	lock_acquire(&t->lock);
	d = cached_locked(t, dir);
	lock_release(&t->lock);
	if (d) {
		*ret = d;
		return 0;
	}
	if (dir == t->root || dir == t->trash) {
		int fd = dup(dir == t->root ? t->tree_fd : t->trash_fd);

		if (fd < 0)
			return -errno;
		*ret = install(t, dir, fd);
		return *ret ? 0 : -ENOMEM;
	}
	return dirfd_open(t, dir, ret);
}

static int get_retry(struct node_table *t, struct node *dir, struct dirfd **ret)
{
	int r = -ESTALE;

	for (int i = 0; i < WALK_TRIES; i++) {
		r = dirfd_get(t, dir, ret);
		if (r != -ESTALE && r != -ENOENT)
			break;
	}
	return r;
}

int node_at_child(struct node_table *t, struct node *dir, const char *name, struct at *ret)
{
	size_t len = strlen(name);
	int r;

	if (len > NAME_MAX)
		return -ENAMETOOLONG;
	r = get_retry(t, dir, &ret->hold);
	if (r < 0)
		return r == -ESTALE ? -ENOENT : r;
	ret->dirfd = ret->hold->fd;
	ret->flags = AT_SYMLINK_NOFOLLOW;
	memcpy(ret->name, name, len + 1);
	return 0;
}

int node_at(struct node_table *t, struct node *n, struct at *ret)
{
	struct node *parent;
	int r;

	if (n == t->root) {
		r = get_retry(t, n, &ret->hold);
		if (r < 0)
			return r;
		ret->dirfd = ret->hold->fd;
		ret->flags = AT_SYMLINK_NOFOLLOW;
		strcpy(ret->name, ".");
		return 0;
	}
	if (!node_where(t, n, &parent, ret->name)) {
		if (n->fd < 0)
			return -ESTALE;
		ret->hold = NULL;
		ret->dirfd = AT_FDCWD;
		ret->flags = 0;
		snprintf(ret->name, sizeof(ret->name), "/proc/self/fd/%d", n->fd);
		return 0;
	}
	r = get_retry(t, parent, &ret->hold);
	node_forget(t, parent, 1);
	if (r < 0)
		return r;
	ret->dirfd = ret->hold->fd;
	ret->flags = AT_SYMLINK_NOFOLLOW;
	return 0;
}

void node_at_put(struct node_table *t, struct at *at)
{
	if (!at->hold)
		return;
	lock_acquire(&t->lock);
	dirfd_put_locked(t, at->hold);
	lock_release(&t->lock);
	at->hold = NULL;
}

void node_at_path(const struct at *at, char buf[NODE_PATH_MAX])
{
	if (at->hold)
		snprintf(buf, NODE_PATH_MAX, "/proc/self/fd/%d/%s", at->dirfd, at->name);
	else
		snprintf(buf, NODE_PATH_MAX, "%s", at->name);
}

int node_openfd(struct node_table *t, struct node *n, int flags)
{
	int r = -ESTALE;

	for (int i = 0; i < WALK_TRIES; i++) {
		struct at at;

		r = node_at(t, n, &at);
		if (r < 0)
			return r;
		/* an orphan is reached through a magic link, which must be followed */
		r = open_checked(at.dirfd, at.name,
				 at.flags ? flags | O_NOFOLLOW : flags & ~O_NOFOLLOW, n->ino);
		node_at_put(t, &at);
		if (r != -ESTALE && r != -ENOENT)
			break;
	}
	return r;
}
