/* SPDX-License-Identifier: MIT */
/*
 * Open directories: getdents64 on the backing directory through one buffer per
 * handle, so that a directory of any size costs the same memory. Offsets are the
 * backing filesystem's own (d_off), so seekdir works as there.
 *
 * Listing with attributes (readdirplus) of a directory whose inodes are not in
 * memory is mostly waiting for one inode after the other. Where that is seen,
 * a worker looks at the second half of the buffer's entries meanwhile. What it
 * finds is dropped: the backing filesystem has them in its caches then.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/mem.h"
#include "store/names.h"

#define DIR_BUF_BYTES 32768u
#define AHEAD_LOOKS 32      /* entries after which it is known whether they are slow */
#define AHEAD_FROM_NS 2500u /* each: not in memory */

struct dirent64_raw {
	uint64_t d_ino;
	int64_t d_off;
	unsigned short d_reclen;
	unsigned char d_type;
	char d_name[];
};

struct dirh {
	struct store *st;
	struct node *node; /* one reference */
	int fd;
	uint64_t at;       /* offset of the entry at pos */
	uint64_t last_at;  /* the entry given out last: it may not have fitted into the reply */
	size_t pos, len;   /* in buf */
	size_t last_pos;
	unsigned looks;    /* entries looked at since the buffer was filled */
	uint64_t looks_ns; /* time that took */
	char buf[DIR_BUF_BYTES] __attribute__((aligned(8)));
};

int store_opendir(struct store *st, struct node *n, struct dirh **ret)
{
	struct dirh *d = mem_alloc(sizeof(*d));

	if (!d)
		return -ENOMEM;
	d->fd = node_openfd(st->nodes, n, O_RDONLY | O_DIRECTORY | O_NONBLOCK);
	if (d->fd < 0) {
		int r = d->fd;

		mem_free(d);
		return r;
	}
	d->st = st;
	d->node = n;
	d->at = d->last_at = 0;
	d->pos = d->last_pos = d->len = 0;
	node_ref(st->nodes, n);
	*ret = d;
	return 0;
}

void store_closedir(struct dirh *d)
{
	io_close(&d->fd);
	node_forget(d->st->nodes, d->node, 1);
	mem_free(d);
}

int store_fsyncdir(struct dirh *d)
{
	return io_fsync(d->fd);
}

/* Fills the buffer from offset @off. Bytes, 0 at the end, -errno. */
static int dir_fill(struct dirh *d, uint64_t off)
{
	long n;

	if (lseek(d->fd, (off_t)off, SEEK_SET) < 0)
		return -errno;
	n = syscall(SYS_getdents64, d->fd, d->buf, sizeof(d->buf));
	if (n < 0)
		return -errno;
	d->pos = d->last_pos = 0;
	d->len = (size_t)n;
	d->at = d->last_at = off;
	d->looks = 0;
	d->looks_ns = 0;
	return n > 0 ? 1 : 0;
}

static bool is_dot(const char *s)
{
	return s[0] == '.' && (s[1] == 0 || (s[1] == '.' && s[2] == 0));
}

/* ---- ahead ---------------------------------------------------------------- */

struct ahead {
	struct work work;
	int fd; /* owned */
	size_t len;
	char buf[] __attribute__((aligned(8)));
};

static void ahead_run(struct work *w)
{
	struct ahead *a = container_of(w, struct ahead, work);

	for (size_t pos = 0; pos < a->len;) {
		const struct dirent64_raw *e = (const struct dirent64_raw *)(a->buf + pos);
		struct stat sb;

		/* only to have it in memory: it may be gone, and nobody hears of errors */
		if (fstatat(a->fd, e->d_name, &sb, AT_SYMLINK_NOFOLLOW) < 0 && errno == EIO)
			break;
		pos += e->d_reclen;
	}
	io_close(&a->fd);
	mem_free(a);
}

/* The second half of what is left in the buffer, by a worker. */
static void look_ahead(struct dirh *d)
{
	size_t pos = d->pos, half = d->pos + (d->len - d->pos) / 2;
	struct ahead *a;

	while (pos < half)
		pos += ((const struct dirent64_raw *)(d->buf + pos))->d_reclen;
	if (pos >= d->len)
		return;
	a = mem_zalloc(sizeof(*a) + d->len - pos);
	if (!a)
		return; /* slower */
	a->fd = fcntl(d->fd, F_DUPFD_CLOEXEC, 0);
	if (a->fd < 0) {
		mem_free(a);
		return;
	}
	a->len = d->len - pos;
	memcpy(a->buf, d->buf + pos, a->len);
	a->work.run = ahead_run;
	list_init(&a->work.link);
	workers_submit(d->st->workers, WORK_READ, &a->work);
}

static void look(struct dirh *d, const struct dirent64_raw *e, struct dir_entry *ret)
{
	struct at at;

	if (is_dot(e->d_name) || node_at_child(d->st->nodes, d->node, e->d_name, &at) < 0)
		return;
	if (names_found(d->st, d->node, &at, &ret->node, &ret->attr) < 0)
		ret->node = NULL;
	node_at_put(d->st->nodes, &at);
}

int store_readdir(struct dirh *d, uint64_t off, bool plus, struct dir_entry *ret)
{
	const struct dirent64_raw *e;
	int r;

	if (off && d->len && d->last_at == off) { /* rewinding (0) reads anew */
		d->pos = d->last_pos;
	} else if (d->pos >= d->len || d->at != off) {
		r = dir_fill(d, off);
		if (r <= 0)
			return r;
	}
	e = (const struct dirent64_raw *)(d->buf + d->pos);
	d->last_pos = d->pos;
	d->last_at = off;
	d->pos += e->d_reclen;
	d->at = (uint64_t)e->d_off;
	ret->name = e->d_name;
	ret->ino = e->d_ino;
	ret->type = e->d_type;
	ret->next = (uint64_t)e->d_off;
	ret->node = NULL;
	if (plus) {
		uint64_t start = clock_mono_ns();

		look(d, e, ret);
		d->looks_ns += clock_mono_ns() - start;
		if (++d->looks == AHEAD_LOOKS && d->looks_ns > AHEAD_LOOKS * AHEAD_FROM_NS)
			look_ahead(d);
	}
	return 1;
}
