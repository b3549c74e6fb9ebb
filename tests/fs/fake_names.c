/* SPDX-License-Identifier: MIT */
/* The fake store: configuration, nodes and names. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/fsuid.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/mem.h"
#include "fake_store.h"

int fake_err(int r)
{
	return r < 0 ? -errno : 0;
}

void fake_path(const struct node *n, char buf[40])
{
	snprintf(buf, 40, "/proc/self/fd/%d", n->fd);
}

int store_open(const struct store_config *cfg, struct store **ret, struct sbuf *why)
{
	struct store *st = mem_zalloc(sizeof(*st));
	struct stat sb;

	if (!st)
		return -ENOMEM;
	if (!cfg->read_only && mkdir(cfg->path, 0700) < 0 && errno != EEXIST)
		goto fail;
	st->root.fd = open(cfg->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (st->root.fd < 0 || fstat(st->root.fd, &sb) < 0)
		goto fail;
	st->root.dev = sb.st_dev;
	st->root.ino = sb.st_ino;
	st->root.refs = 1;
	lock_init(&st->lock);
	st->log = cfg->log;
	st->paths = cfg->paths;
	st->read_only = cfg->read_only;
	st->dram_limit = cfg->dram_bytes;
	st->ssd_limit = cfg->ssd_bytes;
	st->path = mem_strdup(cfg->path);
	*ret = st;
	return 0;
fail:
	sbuf_addf(why, "store %s: %s", cfg->path, strerror(errno));
	mem_free(st);
	return -EINVAL;
}

int store_start(struct store *st, const struct store_kernel_ops *k, void *karg, unsigned paths)
{
	st->k = k;
	st->karg = karg;
	st->paths &= paths;
	return 0;
}

void store_close(struct store *st, bool seal)
{
	(void)seal;
	if (!st)
		return;
	for (unsigned i = 0; i < FAKE_BUCKETS; i++)
		while (st->bucket[i]) {
			struct node *n = st->bucket[i];

			st->bucket[i] = n->chain;
			close(n->fd);
			mem_free(n);
		}
	close(st->root.fd);
	lock_fini(&st->lock);
	mem_free(st->path);
	mem_free(st);
}

struct node *store_root(struct store *st)
{
	return &st->root;
}

static struct node **bucket_of(struct store *st, dev_t dev, ino_t ino)
{
	return &st->bucket[hash_u64(ino ^ (uint64_t)dev << 32) % FAKE_BUCKETS];
}

int fake_node_at(struct store *st, struct node *dir, const char *name, struct node **ret,
		 struct stat *ret_attr)
{
	int fd = openat(dir->fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct node **b, *n;

	if (fd < 0)
		return -errno;
	if (fstat(fd, ret_attr) < 0) {
		int r = -errno;

		close(fd);
		return r;
	}
	lock_acquire(&st->lock);
	b = bucket_of(st, ret_attr->st_dev, ret_attr->st_ino);
	for (n = *b; n; n = n->chain)
		if (n->ino == ret_attr->st_ino && n->dev == ret_attr->st_dev)
			break;
	if (n) {
		close(fd);
	} else {
		n = mem_zalloc(sizeof(*n));
		if (!n) {
			lock_release(&st->lock);
			close(fd);
			return -ENOMEM;
		}
		n->fd = fd;
		n->dev = ret_attr->st_dev;
		n->ino = ret_attr->st_ino;
		n->chain = *b;
		*b = n;
		st->nodes++;
	}
	n->refs++;
	lock_release(&st->lock);
	*ret = n;
	return 0;
}

int store_lookup(struct store *st, struct node *dir, const char *name, struct node **ret,
		 struct stat *ret_attr)
{
	return fake_node_at(st, dir, name, ret, ret_attr);
}

void store_forget(struct store *st, struct node *n, uint64_t nlookup)
{
	struct node **p;

	lock_acquire(&st->lock);
	n->refs -= nlookup;
	if (n->refs == 0) {
		for (p = bucket_of(st, n->dev, n->ino); *p != n; p = &(*p)->chain)
			;
		*p = n->chain;
		st->nodes--;
	} else {
		n = NULL;
	}
	lock_release(&st->lock);
	if (n) {
		close(n->fd);
		mem_free(n);
	}
}

int store_getattr(struct store *st, struct node *n, struct file *f, struct stat *ret)
{
	(void)st;
	(void)f;
	return fake_err(fstat(n->fd, ret));
}

static int set_times(const char *path, const struct stat *attr, unsigned set)
{
	struct timespec ts[2] = { { 0, UTIME_OMIT }, { 0, UTIME_OMIT } };

	if (set & SET_ATIME)
		ts[0] = attr->st_atim;
	if (set & SET_MTIME)
		ts[1] = attr->st_mtim;
	if (set & SET_ATIME_NOW)
		ts[0].tv_nsec = UTIME_NOW;
	if (set & SET_MTIME_NOW)
		ts[1].tv_nsec = UTIME_NOW;
	return fake_err(utimensat(AT_FDCWD, path, ts, 0));
}

int store_setattr(struct store *st, struct node *n, struct file *f, const struct stat *attr,
		  unsigned set, struct stat *ret)
{
	char path[40];
	struct stat now;
	int r = 0;

	if (st->read_only)
		return -EROFS;
	fake_path(n, path);
	if (set & (SET_UID | SET_GID))
		r = fake_err(fchownat(n->fd, "", set & SET_UID ? attr->st_uid : (uid_t)-1,
				      set & SET_GID ? attr->st_gid : (gid_t)-1,
				      AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW));
	if (r == 0 && (set & SET_MODE))
		r = fake_err(chmod(path, attr->st_mode & 07777));
	if (r == 0 && (set & SET_SIZE))
		r = fake_err(f ? ftruncate(f->fd, attr->st_size) : truncate(path, attr->st_size));
	if (r == 0 && (set & SET_KILL_SUIDGID) && fstat(n->fd, &now) == 0 && S_ISREG(now.st_mode)) {
		mode_t kill = S_ISUID | (now.st_mode & S_IXGRP ? S_ISGID : 0);

		if (now.st_mode & kill)
			r = fake_err(chmod(path, now.st_mode & 07777 & ~kill));
	}
	if (r == 0 && (set & (SET_ATIME | SET_MTIME | SET_ATIME_NOW | SET_MTIME_NOW)))
		r = set_times(path, attr, set);
	return r < 0 ? r : store_getattr(st, n, f, ret);
}

int store_readlink(struct store *st, struct node *n, char *buf, size_t len)
{
	ssize_t r = readlinkat(n->fd, "", buf, len - 1);

	(void)st;
	if (r < 0)
		return -errno;
	buf[r] = '\0';
	return 0;
}

/* The new name gets its creator as owner, the group of a setgid directory, and
 * the mode it was asked to have. */
static int finish_new(struct store *st, const struct caller *c, struct node *dir, const char *name,
		      mode_t mode, struct node **ret, struct stat *ret_attr)
{
	char path[40];
	struct stat d;
	int r = fake_node_at(st, dir, name, ret, ret_attr);

	if (r < 0)
		return r;
	if (fstat(dir->fd, &d) < 0)
		return -errno;
	r = fake_err(fchownat((*ret)->fd, "", c->uid, d.st_mode & S_ISGID ? d.st_gid : c->gid,
			      AT_EMPTY_PATH));
	if (S_ISDIR(ret_attr->st_mode) && (d.st_mode & S_ISGID))
		mode |= S_ISGID;
	fake_path(*ret, path);
	if (r == 0 && !S_ISLNK(ret_attr->st_mode))
		r = fake_err(chmod(path, mode & 07777));
	return r < 0 ? r : fake_err(fstat((*ret)->fd, ret_attr));
}

int store_mkdir(struct store *st, const struct caller *c, struct node *dir, const char *name,
		mode_t mode, struct node **ret, struct stat *ret_attr)
{
	if (mkdirat(dir->fd, name, 0700) < 0)
		return -errno;
	return finish_new(st, c, dir, name, mode, ret, ret_attr);
}

int store_mknod(struct store *st, const struct caller *c, struct node *dir, const char *name,
		mode_t mode, dev_t rdev, struct node **ret, struct stat *ret_attr)
{
	if (mknodat(dir->fd, name, mode, rdev) < 0)
		return -errno;
	return finish_new(st, c, dir, name, mode, ret, ret_attr);
}

int store_symlink(struct store *st, const struct caller *c, const char *target, struct node *dir,
		  const char *name, struct node **ret, struct stat *ret_attr)
{
	if (symlinkat(target, dir->fd, name) < 0)
		return -errno;
	return finish_new(st, c, dir, name, 0777, ret, ret_attr);
}

int store_link(struct store *st, struct node *n, struct node *dir, const char *name,
	       struct stat *ret_attr)
{
	struct node *same;
	char path[40];
	int r;

	fake_path(n, path);
	if (linkat(AT_FDCWD, path, dir->fd, name, AT_SYMLINK_FOLLOW) < 0)
		return -errno;
	r = fake_node_at(st, dir, name, &same, ret_attr);
	return r;
}

int store_unlink(struct store *st, struct node *dir, const char *name)
{
	(void)st;
	return fake_err(unlinkat(dir->fd, name, 0));
}

int store_rmdir(struct store *st, struct node *dir, const char *name)
{
	(void)st;
	return fake_err(unlinkat(dir->fd, name, AT_REMOVEDIR));
}

int store_rename(struct store *st, struct node *dir, const char *name, struct node *newdir,
		 const char *newname, unsigned flags)
{
	(void)st;
	return fake_err(renameat2(dir->fd, name, newdir->fd, newname, flags));
}

int store_opendir(struct store *st, struct node *n, struct dirh **ret)
{
	struct dirh *h = mem_zalloc(sizeof(*h));
	int fd = openat(n->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (h && fd >= 0)
		h->d = fdopendir(fd);
	if (!h || !h->d) {
		if (fd >= 0)
			close(fd);
		mem_free(h);
		return -ENOMEM;
	}
	h->st = st;
	h->node = n;
	*ret = h;
	return 0;
}

int store_readdir(struct dirh *d, uint64_t off, bool plus, struct dir_entry *ret)
{
	struct dirent *e;

	if (off != d->pos)
		seekdir(d->d, (long)off);
	errno = 0;
	e = readdir(d->d);
	if (!e)
		return -errno;
	d->pos = (uint64_t)e->d_off;
	ret->name = e->d_name;
	ret->ino = e->d_ino;
	ret->type = e->d_type;
	ret->next = d->pos;
	ret->node = NULL;
	if (plus && strcmp(e->d_name, ".") && strcmp(e->d_name, "..") &&
	    fake_node_at(d->st, d->node, e->d_name, &ret->node, &ret->attr) < 0)
		ret->node = NULL;
	return 1;
}

int store_fsyncdir(struct dirh *d)
{
	return fake_err(fsync(dirfd(d->d)));
}

void store_closedir(struct dirh *d)
{
	closedir(d->d);
	mem_free(d);
}
