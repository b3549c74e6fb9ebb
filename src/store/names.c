/* SPDX-License-Identifier: MIT */
/*
 * The namespace: every name is a name of the backing filesystem in tree/, so its
 * crash safety is inherited. Two things are added: a new regular file gets its
 * record (room for the switch), and a sealed file whose last name goes is moved
 * to STORE/trash in the same atomic step, so that its object can be found and
 * removed whatever happens next.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/io.h"
#include "store/grant.h"
#include "store/names.h"
#include "store/record.h"

struct node *store_root(struct store *st)
{
	return node_root(st->nodes);
}

void store_forget(struct store *st, struct node *n, uint64_t nlookup)
{
	node_forget(st->nodes, n, nlookup);
}

/*
 * Files are created with the caller's fsuid and fsgid, so that owner, setgid
 * directories and quotas are the kernel's business. The raw system calls
 * change this thread only; SECBIT_NO_SETUID_FIXUP (store.c) keeps the
 * capabilities.
 */
void names_enter(struct store *st, const struct caller *c)
{
	if (!st->privileged || !c)
		return;
	syscall(SYS_setfsgid, c->gid);
	syscall(SYS_setfsuid, c->uid);
}

void names_leave(struct store *st, const struct caller *c)
{
	if (!st->privileged || !c)
		return;
	syscall(SYS_setfsuid, 0);
	syscall(SYS_setfsgid, 0);
}

/* names held, or else the inode could go and its number come again, for another
 * file, between the two. */
static int found_locked(struct store *st, struct node *dir, const struct at *at, struct node **ret,
			struct stat *ret_attr)
{
	int r;

	if (fstatat(at->dirfd, at->name, ret_attr, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	r = node_get(st->nodes, dir, at->name, ret_attr->st_ino, ret_attr->st_mode, ret);
	if (r < 0)
		return r;
	r = attr_at(st, *ret, at, ret_attr);
	if (r < 0) {
		node_forget(st->nodes, *ret, 1);
		return r;
	}
	return 0;
}

/* The node and attributes of a name that exists: one reference. */
int names_found(struct store *st, struct node *dir, const struct at *at, struct node **ret,
		struct stat *ret_attr)
{
	int r;

	gate_enter(&st->names, false);
	r = found_locked(st, dir, at, ret, ret_attr);
	gate_leave(&st->names, false);
	if (r == 0)
		space_prune_nodes(st);
	return r;
}

int store_lookup(struct store *st, struct node *dir, const char *name, struct node **ret,
		 struct stat *ret_attr)
{
	struct at at;
	int r = node_at_child(st->nodes, dir, name, &at);

	if (r < 0)
		return r;
	r = names_found(st, dir, &at, ret, ret_attr);
	node_at_put(st->nodes, &at);
	if (r == 0 && damage_hide_name(st, *ret, ret_attr)) {
		node_forget(st->nodes, *ret, 1);
		return -ENOENT;
	}
	if (r == 0 && S_ISREG(ret_attr->st_mode)) {
		struct ctx *c;

		/* an open file's record may be newer than the xattr just read */
		if (ctx_get(st, ret_attr->st_ino, false, &c) == 0) {
			ctx_put(c);
			err_ignore(attr_node(st, *ret, ret_attr)); /* keeps what it had */
		}
	}
	return r;
}

int store_readlink(struct store *st, struct node *n, char *buf, size_t len)
{
	struct at at;
	ssize_t got;
	int r = node_at(st->nodes, n, &at);

	if (r < 0)
		return r;
	got = readlinkat(at.dirfd, at.name, buf, len - 1);
	r = got < 0 ? -errno : 0;
	if (r == 0)
		buf[got] = 0;
	node_at_put(st->nodes, &at);
	return r;
}

/* ---- making --------------------------------------------------------------- */

struct making {
	mode_t mode;
	dev_t rdev;
	const char *target; /* symlink */
};

static int make_at(const struct at *at, const struct making *m)
{
	if (m->target)
		return symlinkat(m->target, at->dirfd, at->name);
	if (S_ISDIR(m->mode))
		return mkdirat(at->dirfd, at->name, m->mode & 07777);
	return mknodat(at->dirfd, at->name, m->mode, m->rdev);
}

static int make(struct store *st, const struct caller *c, struct node *dir, const char *name,
		const struct making *m, struct node **ret, struct stat *ret_attr)
{
	struct at at;
	int r;

	if (st->read_only)
		return -EROFS;
	r = node_at_child(st->nodes, dir, name, &at);
	if (r < 0)
		return r;
	names_enter(st, c);
	r = make_at(&at, m) < 0 ? -errno : 0;
	names_leave(st, c);
	if (r == 0)
		r = names_found(st, dir, &at, ret, ret_attr);
	node_at_put(st->nodes, &at);
	if (r == 0 && S_ISDIR(ret_attr->st_mode))
		index_put_dir(st, *ret);
	return r;
}

int store_mkdir(struct store *st, const struct caller *c, struct node *dir, const char *name,
		mode_t mode, struct node **ret, struct stat *ret_attr)
{
	struct making m = { .mode = S_IFDIR | (mode & 07777) };

	return make(st, c, dir, name, &m, ret, ret_attr);
}

int store_symlink(struct store *st, const struct caller *c, const char *target, struct node *dir,
		  const char *name, struct node **ret, struct stat *ret_attr)
{
	struct making m = { .target = target };

	return make(st, c, dir, name, &m, ret, ret_attr);
}

int store_mknod(struct store *st, const struct caller *c, struct node *dir, const char *name,
		mode_t mode, dev_t rdev, struct node **ret, struct stat *ret_attr)
{
	struct making m = { .mode = mode, .rdev = rdev };
	int r;

	if ((mode & S_IFMT) == 0)
		m.mode |= S_IFREG;
	if (S_ISREG(m.mode)) {
		struct open_reply o;

		r = store_create(st, c, dir, name, mode & 07777, O_WRONLY | O_EXCL, ret, ret_attr,
				 &o);
		if (r == 0)
			store_release(o.file);
		return r;
	}
	return make(st, c, dir, name, &m, ret, ret_attr);
}

/* Gives a file just created its record, or removes it again. */
static int first_record(struct store *st, const struct at *at, int fd)
{
	struct kvfs_record rec = { .version = KVFS_RECORD_VERSION };
	int r = FAULT_POINT("create.made");

	if (r == 0)
		r = record_set(fd, st->xattr, &rec);
	if (r < 0 && unlinkat(at->dirfd, at->name, 0) < 0)
		return -errno;
	return r;
}

/*
 * Opens or creates @name. A store without privilege creates with mode 0600
 * first, because user.* xattrs need write permission, and sets the mode after
 * the record.
 */
static int create_at(struct store *st, const struct caller *c, struct node *dir,
		     const struct at *at, mode_t mode, int flags, int *ret_fd)
{
	mode_t first = st->privileged ? mode & 07777 : (mode & 07777) | 0600;
	int r, fd;

	names_enter(st, c);
	fd = openat(at->dirfd, at->name,
		    O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, first);
	r = fd < 0 ? -errno : 0;
	names_leave(st, c);
	*ret_fd = fd;
	if (fd < 0)
		return r == -EEXIST && !(flags & O_EXCL) ? 0 : r;
	r = first_record(st, at, fd);
	if (r == 0)
		grant_inherit(st, dir, fd, st->privileged && c ? c->uid : geteuid());
	if (r == 0 && first != (mode & 07777) && fchmod(fd, mode & 07777) < 0)
		r = -errno;
	return r;
}

int names_create(struct store *st, const struct caller *c, struct node *dir, const char *name,
		 mode_t mode, int flags, struct node **ret, struct stat *ret_attr, int *ret_fd,
		 bool *ret_created)
{
	struct at at;
	int r, fd;

	r = node_at_child(st->nodes, dir, name, &at);
	if (r < 0)
		return r;
	gate_enter(&st->names, false); /* what is there must not be evicted until it is found */
	r = create_at(st, c, dir, &at, mode, flags, &fd);
	*ret_created = fd >= 0;
	if (r == 0)
		r = found_locked(st, dir, &at, ret, ret_attr);
	gate_leave(&st->names, false);
	if (r == 0 && *ret_created)
		node_set_content(*ret, NODE_PLAIN);
	node_at_put(st->nodes, &at);
	if (r < 0)
		io_close(&fd);
	*ret_fd = fd;
	return r;
}

int store_link(struct store *st, struct node *n, struct node *dir, const char *name,
	       struct stat *ret_attr)
{
	char path[40];
	struct at at;
	int r, fd;

	if (st->read_only)
		return -EROFS;
	atomic_fetch_add(&st->renames, 1);
	fd = node_openfd(st->nodes, n, O_PATH | O_NOFOLLOW);
	if (fd < 0)
		return fd;
	r = node_at_child(st->nodes, dir, name, &at);
	if (r == 0) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		gate_enter(&st->names, false);
		if (node_in_trash(st->nodes, n))
			r = -ENOENT; /* as the kernel: no way back from nlink 0 */
		else if (linkat(AT_FDCWD, path, at.dirfd, at.name, AT_SYMLINK_FOLLOW) < 0)
			r = -errno;
		if (r == 0)
			r = node_moved(st->nodes, n, dir, name);
		gate_leave(&st->names, false);
		node_at_put(st->nodes, &at);
	}
	io_close(&fd);
	if (r < 0)
		return r;
	attr_ctime_live(st, n);
	r = attr_node(st, n, ret_attr);
	if (r == 0)
		node_ref(st->nodes, n);
	return r;
}
