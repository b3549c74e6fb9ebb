/* SPDX-License-Identifier: MIT */
/* The fake store: open files, xattrs, and made-up answers about contexts. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/io.h"
#include "base/mem.h"
#include "fake_store.h"
#include "layouts/layout.h"

/* One backing per node, registered by its first open. */
static int backing_get(struct store *st, struct node *n)
{
	char path[40];
	int id;

	lock_acquire(&st->lock);
	if (n->backing_users++ == 0) {
		fake_path(n, path);
		n->backing_fd = open(path, O_RDWR | O_CLOEXEC);
		n->backing_id = n->backing_fd < 0 ? -errno
						  : st->k->backing_open(st->karg, n->backing_fd);
	}
	id = n->backing_id;
	lock_release(&st->lock);
	return id;
}

static void backing_put(struct store *st, struct node *n)
{
	lock_acquire(&st->lock);
	if (--n->backing_users == 0) {
		if (n->backing_id > 0)
			st->k->backing_close(st->karg, n->backing_id);
		io_close(&n->backing_fd);
	}
	lock_release(&st->lock);
}

static void choose_mode(struct file *f, int flags, struct open_reply *ret)
{
	ret->file = f;
	ret->mode = SERVE_CACHED;
	ret->keep_cache = true;
	if (f->st->paths & PATH_PASSTHROUGH_READ) {
		int id = backing_get(f->st, f->node);

		if (id > 0) {
			ret->mode = SERVE_PASSTHROUGH;
			ret->backing_id = id;
		} else {
			backing_put(f->st, f->node);
		}
	} else if ((f->st->paths & PATH_STREAM) && !(flags & O_DIRECT)) {
		ret->mode = SERVE_STREAM;
	}
	f->mode = ret->mode;
}

int store_openat(struct store *st, struct node *n, int flags, const struct caller *c,
		 struct open_reply *ret)
{
	struct file *f = mem_zalloc(sizeof(*f));
	char path[40];
	int acc = flags & O_ACCMODE;

	(void)c;
	if (!f)
		return -ENOMEM;
	fake_path(n, path);
	/* read back what was written around a page: always readable */
	f->fd = open(path,
		     (acc == O_WRONLY ? O_RDWR : acc) | (flags & (O_TRUNC | O_SYNC)) | O_CLOEXEC);
	if (f->fd < 0) {
		int r = -errno;

		mem_free(f);
		return r;
	}
	f->st = st;
	f->node = n;
	st->opens++;
	choose_mode(f, flags, ret);
	return 0;
}

int store_create(struct store *st, const struct caller *c, struct node *dir, const char *name,
		 mode_t mode, int flags, struct node **ret, struct stat *ret_attr,
		 struct open_reply *ret_open)
{
	int r = store_mknod(st, c, dir, name, (mode & 07777) | S_IFREG, 0, ret, ret_attr);

	if (r == -EEXIST && !(flags & O_EXCL))
		r = fake_node_at(st, dir, name, ret, ret_attr);
	if (r == 0)
		r = store_openat(st, *ret, flags, c, ret_open);
	return r;
}

void store_release(struct file *f)
{
	if (f->mode == SERVE_PASSTHROUGH)
		backing_put(f->st, f->node);
	f->st->opens--;
	close(f->fd);
	mem_free(f);
}

int store_flush(struct file *f)
{
	(void)f;
	return 0;
}

int store_fsync(struct file *f, bool datasync)
{
	return datasync ? io_fdatasync(f->fd) : io_fsync(f->fd);
}

int store_read(struct file *f, uint64_t off, size_t len, struct read_reply *r)
{
	ssize_t n = io_pread(f->fd, r->scratch, len, off);

	if (n < 0)
		return (int)n;
	/* two slices, to see that they are put together */
	r->len = (size_t)n;
	r->iov[1] = (struct iovec){ r->scratch, (size_t)n / 2 };
	r->iov[2] = (struct iovec){ (char *)r->scratch + n / 2, (size_t)n - (size_t)n / 2 };
	r->n = 2;
	return 0;
}

void store_read_done(struct read_reply *r)
{
	(void)r;
}

int store_write(struct file *f, const void *buf, size_t len, uint64_t off)
{
	return io_pwrite_all(f->fd, buf, len, off);
}

int store_fallocate(struct file *f, int mode, uint64_t off, uint64_t len)
{
	return fake_err(fallocate(f->fd, mode, (off_t)off, (off_t)len));
}

int store_lseek(struct file *f, uint64_t off, int whence, uint64_t *ret)
{
	off_t r = lseek(f->fd, (off_t)off, whence);

	if (r < 0)
		return -errno;
	*ret = (uint64_t)r;
	return 0;
}

ssize_t store_copy_range(struct file *in, uint64_t off_in, struct file *out, uint64_t off_out,
			 size_t len)
{
	off_t i = (off_t)off_in, o = (off_t)off_out;
	ssize_t r = copy_file_range(in->fd, &i, out->fd, &o, len, 0);

	return r < 0 ? -errno : r;
}

int store_statfs(struct store *st, struct statvfs *ret)
{
	return fake_err(fstatvfs(st->root.fd, ret));
}

int store_syncfs(struct store *st)
{
	return fake_err(syncfs(st->root.fd));
}

ssize_t store_getxattr(struct store *st, struct node *n, const char *name, void *buf, size_t len)
{
	char path[40];
	ssize_t r;

	(void)st;
	fake_path(n, path);
	r = getxattr(path, name, buf, len);
	return r < 0 ? -errno : r;
}

ssize_t store_listxattr(struct store *st, struct node *n, char *buf, size_t len)
{
	char path[40];
	ssize_t r;

	(void)st;
	fake_path(n, path);
	r = listxattr(path, buf, len);
	return r < 0 ? -errno : r;
}

int store_setxattr(struct store *st, struct node *n, const char *name, const void *val, size_t len,
		   int flags)
{
	char path[40];

	(void)st;
	fake_path(n, path);
	return fake_err(setxattr(path, name, val, len, flags));
}

int store_removexattr(struct store *st, struct node *n, const char *name)
{
	char path[40];

	(void)st;
	fake_path(n, path);
	return fake_err(removexattr(path, name));
}

int store_info(struct store *st, struct node *n, struct ctx_info *ret)
{
	struct stat s;

	(void)st;
	if (fstat(n->fd, &s) < 0)
		return -errno;
	memset(ret, 0, sizeof(*ret));
	ret->logical_bytes = (uint64_t)s.st_size;
	ret->stored_bytes = (uint64_t)s.st_blocks * 512;
	ret->quality = 1;
	ret->pinned = n->pinned;
	ret->ino = s.st_ino;
	snprintf(ret->codec, sizeof(ret->codec), "none");
	snprintf(ret->reason, sizeof(ret->reason), "this store never seals");
	return 0;
}

int store_seal(struct store *st, struct node *n)
{
	(void)st;
	(void)n;
	usleep(200000); /* long enough to see that serving goes on */
	return -KVFS_ENOGAIN;
}

int store_positions(struct store *st, struct node *n, struct sbuf *ret)
{
	(void)st, (void)n;
	sbuf_adds(ret, "0-3,128");
	return 0;
}

int store_level(struct store *st, struct node *n, const char *level)
{
	(void)st;
	(void)n;
	(void)level;
	return -KVFS_EEXACT;
}

int store_unseal(struct store *st, struct node *n)
{
	(void)st;
	(void)n;
	return 0;
}

int store_pin(struct store *st, struct node *n, uid_t who, bool on)
{
	(void)st;
	(void)who;
	n->pinned = on;
	return 0;
}

int store_move(struct store *st, struct node *n, enum place where)
{
	(void)st;
	(void)n;
	(void)where;
	return 0;
}

int store_prefetch(struct store *st, struct node *n, uid_t who)
{
	(void)st;
	(void)n;
	(void)who;
	return 0;
}

int store_evict(struct store *st, struct node *n, const struct caller *who)
{
	(void)st;
	(void)who;
	return n->backing_users ? -EBUSY : -EOPNOTSUPP;
}

void store_settings_changed(struct store *st, struct node *n)
{
	(void)st;
	(void)n;
}

void store_status(struct store *st, struct store_status *ret)
{
	memset(ret, 0, sizeof(*ret));
	ret->dram_limit = st->dram_limit;
	ret->ssd_limit = st->ssd_limit;
	ret->nodes = st->nodes;
	ret->opens = st->opens;
	ret->paths = st->paths;
	snprintf(ret->uuid, sizeof(ret->uuid), "fake");
	snprintf(ret->policy, sizeof(ret->policy), "none");
	ret->read_only = st->read_only;
}

void store_each_counter(struct store *st,
			void (*cb)(void *arg, const char *name, const char *help, uint64_t value),
			void *arg)
{
	cb(arg, "fake.opens", "Open files of the fake store.", st->opens);
	cb(arg, "fake_nodes_total", "", st->nodes);
}

void store_each_context(struct store *st,
			bool (*cb)(void *arg, const char *path, const struct ctx_info *i),
			void *arg)
{
	const char *s = getenv("KVCACHEFS_FAKE_CONTEXTS");
	unsigned long n = s ? strtoul(s, NULL, 10) : 0;
	struct ctx_info info;
	char path[64];

	(void)st;
	memset(&info, 0, sizeof(info));
	for (unsigned long i = 0; i < n; i++) {
		snprintf(path, sizeof(path), "made/up\t%lu.bin", i);
		info.hits = i;
		if (!cb(arg, path, &info))
			return;
	}
}

int store_scrub_start(struct store *st)
{
	st->scrub.files_total = st->scrub.files_done = 1;
	return 0;
}

void store_scrub_status(struct store *st, struct scrub_status *ret)
{
	*ret = st->scrub;
}

int store_set_limit(struct store *st, bool dram, uint64_t bytes)
{
	*(dram ? &st->dram_limit : &st->ssd_limit) = bytes;
	return 0;
}
