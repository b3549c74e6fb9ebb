/* SPDX-License-Identifier: MIT */
/*
 * Making the index right after an unclean end: a walk over tree/ in the
 * background while the mount serves. The index may lag behind by the seconds
 * before the crash; what the walk finds replaces it, what it does not find is
 * dropped, and the budget's sum follows. A store copied from elsewhere (other
 * inode numbers) is indexed anew the same way.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/mem.h"
#include "store/record.h"
#include "store/store_types.h"

/* Directories still to be walked: paths relative to tree/. */
struct todo {
	struct todo *next;
	uint64_t ino;
	char path[];
};

struct inos {
	uint64_t *v; /* owned */
	size_t n, cap;
};

static bool inos_add(struct inos *l, uint64_t ino)
{
	if (l->n == l->cap) {
		size_t cap = l->cap ? l->cap * 2 : 1024;
		uint64_t *p = mem_realloc(l->v, cap * sizeof(*p));

		if (!p)
			return false;
		l->v = p;
		l->cap = cap;
	}
	l->v[l->n++] = ino;
	return true;
}

struct walk {
	struct store *st;
	struct todo *todo;
	struct inos seen; /* sorted at the end: inodes that exist */
	bool failed;      /* did not see everything */
	bool blind;       /* could not read a record, which may refer to any object */
};

static void saw(struct walk *w, uint64_t ino)
{
	w->failed |= !inos_add(&w->seen, ino);
}

static void later(struct walk *w, const char *dir, const char *name, uint64_t ino)
{
	size_t len = strlen(dir) + strlen(name) + 2;
	struct todo *t = mem_alloc(sizeof(*t) + len);

	if (!t) {
		w->failed = true;
		return;
	}
	t->ino = ino;
	snprintf(t->path, len, "%s%s%s", dir, *dir ? "/" : "", name);
	t->next = w->todo;
	w->todo = t;
}

/* What the file occupies by its record; PENDING when it was never examined. */
static void file_rec(struct walk *w, int dfd, const char *name, const struct stat *sb,
		     struct meta_rec *rec)
{
	struct kvfs_record r;
	char path[NODE_PATH_MAX];
	int err;

	rec->stored_bytes = (uint64_t)sb->st_blocks * 512;
	rec->logical_bytes = (uint64_t)sb->st_size;
	rec->flags &= META_PINNED;
	if (sb->st_size == 0)
		return;
	snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", dfd, name);
	err = record_get(-1, path, w->st->xattr, &r);
	if (err < 0) {
		/* without a record it refers to nothing, unless it has lost it */
		w->blind |= err != -ENOENT && (err != -ENODATA || damage_record_lost(sb));
		return;
	}
	if (w->st->orphans.n)
		orphan_saw(w->st, &r);
	if (r.state == KVFS_RECORD_PLAIN) {
		if (rec->logical_bytes >= SEAL_MIN_BYTES)
			rec->flags |= META_PENDING;
		return;
	}
	rec->flags |= META_SEALED;
	rec->stored_bytes += (uint64_t)r.stored_blocks * STORE_BLOCK;
}

static void one(struct walk *w, int dfd, const char *dir, uint64_t dir_ino, const char *name)
{
	struct meta_rec rec;
	struct stat sb;

	if (fstatat(dfd, name, &sb, AT_SYMLINK_NOFOLLOW) < 0) {
		w->failed |= errno != ENOENT; /* else removed meanwhile */
		return;
	}
	if (!S_ISREG(sb.st_mode) && !S_ISDIR(sb.st_mode))
		return;
	if (meta_get(w->st->meta, sb.st_ino, &rec) < 0) {
		memset(&rec, 0, sizeof(rec));
		rec.last_ns = (uint64_t)sb.st_atim.tv_sec * 1000000000u;
	}
	rec.parent_ino = dir_ino;
	snprintf(rec.name, sizeof(rec.name), "%s", name);
	if (S_ISDIR(sb.st_mode)) {
		rec.flags = META_DIR;
		later(w, dir, name, sb.st_ino);
	} else {
		file_rec(w, dfd, name, &sb, &rec);
	}
	saw(w, sb.st_ino);
	w->failed |= meta_put(w->st->meta, sb.st_ino, &rec) < 0;
	if (meta_wants_flush(w->st->meta))
		w->failed |= meta_flush(w->st->meta, false) < 0; /* bounds the queue */
}

static void walk_dir(struct walk *w, const char *path, uint64_t ino)
{
	int fd = io_open_beneath(w->st->tree_fd, *path ? path : ".", O_RDONLY | O_DIRECTORY);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	if (!d) {
		w->failed |= fd >= 0 || (fd != -ENOENT && fd != -ENOTDIR && fd != -ELOOP);
		if (fd >= 0)
			close(fd);
		return;
	}
	while ((errno = 0, e = readdir(d)) && !atomic_load(&w->st->stopping)) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		one(w, fd, path, ino, e->d_name);
	}
	w->failed |= !e && errno != 0;
	closedir(d);
}

static int by_ino(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

struct drop {
	struct walk *w;
	struct inos gone;
};

static bool find_gone(void *arg, uint64_t ino, const struct meta_rec *r)
{
	struct drop *d = arg;

	(void)r;
	if (bsearch(&ino, d->w->seen.v, d->w->seen.n, sizeof(ino), by_ino))
		return true;
	return inos_add(&d->gone, ino);
}

static void drop_gone(struct walk *w)
{
	struct drop d = { .w = w };

	qsort(w->seen.v, w->seen.n, sizeof(*w->seen.v), by_ino);
	err_ignore(meta_flush(w->st->meta, false));
	if (meta_each(w->st->meta, find_gone, &d) == 0) {
		for (size_t i = 0; i < d.gone.n; i++) {
			struct node *n = node_find(w->st->nodes, d.gone.v[i]);

			/* made or renamed behind the walk: the kernel knows it */
			if (n)
				node_forget(w->st->nodes, n, 1);
			else
				err_ignore(meta_del(w->st->meta, d.gone.v[i]));
		}
	}
	mem_free(d.gone.v);
	err_ignore(meta_flush(w->st->meta, false));
}

/* What contexts in memory count beyond what the index says of them. */
static bool add_unindexed(struct ctx *c, void *arg)
{
	uint64_t *sum = arg;
	struct meta_rec rec;
	uint64_t known = 0;

	if (meta_get(c->st->meta, c->ino, &rec) == 0)
		known = rec.stored_bytes;
	lock_acquire(&c->lock);
	if (c->loaded || c->unlinked)
		*sum += c->accounted - known;
	lock_release(&c->lock);
	return true;
}

/* The sum is what is in the index, what counts besides, and what is under way. As a
 * difference, so that what changes just now is not lost. */
static void sum_up(struct store *st)
{
	uint64_t was = atomic_load(&st->ssd_used), now;
	struct meta_totals t;

	now = atomic_load(&st->ssd_reserved) + atomic_load(&st->ssd_beside);
	meta_totals(st->meta, &t);
	now += t.stored_bytes;
	ctx_each(st, add_unindexed, &now);
	atomic_fetch_add(&st->ssd_used, now - was);
	log_info(st->log, "index checked after an unclean end: %llu files",
		 (unsigned long long)t.files);
}

void recover_reindex(struct store *st)
{
	struct walk w = { .st = st };
	struct stat sb;
	bool complete;

	if (fstat(st->tree_fd, &sb) < 0)
		return;
	saw(&w, sb.st_ino);
	walk_dir(&w, "", sb.st_ino);
	while (w.todo) {
		struct todo *t = w.todo;

		w.todo = t->next;
		if (!atomic_load(&st->stopping))
			walk_dir(&w, t->path, t->ino);
		mem_free(t);
	}
	complete = !w.failed && !atomic_load(&st->stopping);
	orphan_settle(st, complete && !w.blind);
	if (complete) {
		drop_gone(&w);
		sum_up(st);
		st->clean = true;
	}
	mem_free(w.seen.v);
}

/* ---- what was not yet sealed ---------------------------------------------- */

static bool find_pending(void *arg, uint64_t ino, const struct meta_rec *r)
{
	return !(r->flags & META_PENDING) || inos_add(arg, ino);
}

void seal_queue_pending(struct store *st)
{
	struct inos pending = { 0 };

	err_ignore(meta_flush(st->meta, false)); /* what the walk found */
	err_ignore(meta_each(st->meta, find_pending, &pending)); /* as far as it goes */
	seal_feed(st, pending.v, pending.n);
}
