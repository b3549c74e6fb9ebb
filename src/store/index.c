/* SPDX-License-Identifier: MIT */
/*
 * What the index keeps of files and directories, and settings inherited from
 * directories. All of it can be rebuilt from tree/, so failures are dropped.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "store/adapt.h"
#include "store/level_quality.h"
#include "store/record.h"

static bool place_of(struct store *st, struct node *n, struct meta_rec *rec)
{
	struct node *dir;

	if (!node_where(st->nodes, n, &dir, rec->name))
		return false;
	rec->parent_ino = node_ino(dir);
	node_forget(st->nodes, dir, 1);
	return dir != node_trash(st->nodes);
}

static void put(struct store *st, uint64_t ino, const struct meta_rec *rec)
{
	err_ignore(meta_put(st->meta, ino, rec)); /* rebuildable */
	if (meta_wants_flush(st->meta)) {
		lock_acquire(&st->tick_lock);
		cond_signal(&st->tick_wake);
		lock_release(&st->tick_lock);
	}
}

/* The record so far, or an empty one. */
static void get(struct store *st, uint64_t ino, struct meta_rec *rec)
{
	if (meta_get(st->meta, ino, rec) < 0)
		memset(rec, 0, sizeof(*rec));
}

uint64_t index_when(const struct store *st, uint64_t ns, uint64_t now_ns)
{
	if (ns <= now_ns)
		return ns;
	return st->begun_ns < now_ns ? st->begun_ns : now_ns;
}

static void merge_heat(struct ctx *c, struct meta_rec *rec)
{
	struct object_id id;

	lock_acquire(&c->lock);
	record_object(&c->rec, &id);
	rec->hits += c->hits - c->hits_saved;
	c->hits_saved = c->hits;
	if (c->heat_ns) {
		rec->heat = c->heat;
		rec->heat_ns = c->heat_ns;
		if (index_when(c->st, rec->last_ns, clock_real_ns()) < c->heat_ns)
			rec->last_ns = c->heat_ns;
	}
	if (c->loaded) { /* else it does not know what was set before */
		rec->flags &= ~(uint32_t)(META_PINNED | META_DAMAGED);
		if (rec->sample.object != object_mark(&id))
			rec->sample.n = 0; /* of another content */
	}
	rec->flags |= (c->pinned ? META_PINNED : 0u) | (c->damaged ? META_DAMAGED : 0u);
	lock_release(&c->lock);
}

void index_put(struct store *st, struct node *n, struct ctx *c, const struct stat *sb, bool sealed)
{
	struct meta_rec rec;

	if (st->read_only)
		return;
	get(st, sb->st_ino, &rec);
	if (!place_of(st, n, &rec))
		return;
	rec.stored_bytes = (uint64_t)sb->st_blocks * 512;
	rec.logical_bytes = (uint64_t)sb->st_size;
	rec.flags = (rec.flags & META_PINNED) | (sealed ? META_SEALED : 0u);
	if (c) {
		merge_heat(c, &rec);
		lock_acquire(&c->lock);
		if (!sealed && c->dirty && rec.logical_bytes >= SEAL_MIN_BYTES)
			rec.flags |= META_PENDING;
		lock_release(&c->lock);
	}
	if (rec.last_ns == 0)
		rec.last_ns = clock_real_ns();
	put(st, sb->st_ino, &rec);
}

void index_follow(struct ctx *c, struct node *n)
{
	struct stat sb;
	bool named;

	if (fstat(c->fd, &sb) < 0)
		return;
	lock_acquire(&c->lock);
	named = !c->unlinked;
	lock_release(&c->lock);
	ctx_account(c, &sb);
	attr_apply(&c->rec, &sb);
	if (named)
		index_put(c->st, n, c, &sb, c->rec.state != KVFS_RECORD_PLAIN);
}

void index_put_dir(struct store *st, struct node *n)
{
	struct meta_rec rec;

	memset(&rec, 0, sizeof(rec));
	if (!place_of(st, n, &rec))
		return;
	rec.flags = META_DIR;
	put(st, node_ino(n), &rec);
}

void index_moved(struct store *st, struct node *n)
{
	struct meta_rec rec;

	if (meta_get(st->meta, node_ino(n), &rec) < 0)
		return; /* not indexed (a symlink, or not yet) */
	if (place_of(st, n, &rec))
		put(st, node_ino(n), &rec);
}

void index_del(struct store *st, uint64_t ino)
{
	adapt_gone(st, ino);
	level_models_forget(st, ino);
	if (!st->read_only)
		err_ignore(meta_del(st->meta, ino)); /* rebuildable */
}

void index_heat(struct ctx *c)
{
	struct meta_rec rec;

	if (c->st->read_only || meta_get(c->st->meta, c->ino, &rec) < 0)
		return;
	merge_heat(c, &rec);
	put(c->st, c->ino, &rec);
}

void index_sampled(struct ctx *c, const struct meta_sample *s)
{
	struct meta_rec rec;

	if (c->st->read_only || meta_get(c->st->meta, c->ino, &rec) < 0)
		return;
	rec.sample = *s;
	put(c->st, c->ino, &rec);
}

void index_flag(struct store *st, uint64_t ino, uint32_t flag, bool on)
{
	struct meta_rec rec;

	if (st->read_only || meta_get(st->meta, ino, &rec) < 0)
		return;
	rec.flags = on ? rec.flags | flag : rec.flags & ~flag;
	put(st, ino, &rec);
}

void index_occupies(struct store *st, uint64_t ino, uint64_t bytes)
{
	struct meta_rec rec;

	if (st->read_only || meta_get(st->meta, ino, &rec) < 0)
		return;
	rec.stored_bytes = bytes;
	put(st, ino, &rec);
}

bool index_setting(struct store *st, struct node *n, const char *xattr, char *buf, size_t len)
{
	struct node *at = n;
	bool found = false;

	node_ref(st->nodes, at);
	for (int depth = 0; depth < 256; depth++) {
		char name[NAME_MAX + 1];
		struct node *up;
		ssize_t got = store_getxattr(st, at, xattr, buf, len - 1);

		if (got >= 0) {
			buf[got] = 0;
			found = true;
			break;
		}
		if (node_is_root(at) || !node_where(st->nodes, at, &up, name))
			break;
		node_forget(st->nodes, at, 1);
		at = up;
	}
	node_forget(st->nodes, at, 1);
	return found;
}

/* Recursion follows the directory depth. */
static struct node *dir_node(struct store *st, uint64_t ino, unsigned depth)
{
	struct node *n = node_find(st->nodes, ino), *up;
	struct meta_rec rec;

	if (n || depth > 256)
		return n;
	if (meta_get(st->meta, ino, &rec) < 0 || !(rec.flags & META_DIR))
		return NULL;
	up = dir_node(st, rec.parent_ino, depth + 1);
	if (!up)
		return NULL;
	if (node_get(st->nodes, up, rec.name, ino, S_IFDIR, &n) < 0)
		n = NULL;
	node_forget(st->nodes, up, 1);
	return n;
}

struct node *index_node(struct store *st, uint64_t ino)
{
	struct node *dir, *n = NULL;
	struct meta_rec rec;

	if (meta_get(st->meta, ino, &rec) < 0 || (rec.flags & META_DIR))
		return NULL;
	dir = dir_node(st, rec.parent_ino, 0);
	if (!dir)
		return NULL;
	if (node_get(st->nodes, dir, rec.name, ino, S_IFREG, &n) < 0)
		n = NULL;
	node_forget(st->nodes, dir, 1);
	return n;
}

struct node *index_find(struct store *st, uint64_t ino)
{
	struct node *n = node_find(st->nodes, ino);

	return n ? n : index_node(st, ino);
}
