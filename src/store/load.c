/* SPDX-License-Identifier: MIT */
/*
 * Loading: from a name's inode to a context that can be read. The record says
 * where the content is; what it does not say rightly any more, because a crash
 * came between two steps, is put right here, before anything is served.
 *
 * Failure: a record or a stand-in that does not make sense is damage (damage.c);
 * an error of the storage is that error and says nothing about the content.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "store/level.h"
#include "store/record.h"
#include "store/resample.h"
#include "store/standin.h"
#include "store/store_types.h"

static int open_tree_file(struct ctx *c, struct node *n, struct stat *sb)
{
	struct store *st = c->st;
	int want = st->read_only ? O_RDONLY : O_RDWR;
	int fd = node_openfd(st->nodes, n, want | O_NONBLOCK);

	c->fd_writable = want == O_RDWR;
	if (fd == -EACCES || fd == -EPERM || fd == -EROFS || fd == -ETXTBSY) {
		fd = node_openfd(st->nodes, n, O_RDONLY | O_NONBLOCK);
		c->fd_writable = false;
	}
	if (fd == -EMFILE && ctx_spare_fds(st))
		fd = node_openfd(st->nodes, n, (c->fd_writable ? want : O_RDONLY) | O_NONBLOCK);
	if (fd < 0)
		return fd;
	if (fstat(fd, sb) < 0 || !S_ISREG(sb->st_mode)) {
		close(fd);
		return -KVFS_EFORMAT;
	}
	c->fd = fd;
	return 0;
}

/*
 * The record of the file just opened. 1: it counts as plain, and its inode does
 * not say so, or says that it is sealed.
 */
static int read_record(struct ctx *c, const struct stat *sb, struct kvfs_record *rec)
{
	int r;

	memset(rec, 0, sizeof(*rec));
	r = record_get(c->fd, NULL, c->st->xattr, rec);
	if (sb->st_size == 0) /* there is nothing that could be elsewhere */
		return r == -ENODATA || damage_is(r) || rec->state != KVFS_RECORD_PLAIN ? 1 : r;
	if (r != -ENODATA)
		return r;
	/* lost with its xattrs, and perhaps a stand-in: see format.h */
	return damage_record_lost(sb) ? -KVFS_EDAMAGED : 1;
}

/*
 * A kill before a new file got its record, or between cutting a file to nothing
 * and saying so: without a record what is written now would be damage later.
 * A file whose inode takes none is served, and not written.
 */
static void load_plain(struct ctx *c, struct kvfs_record *rec)
{
	const struct kvfs_record old = *rec, plain = { .version = KVFS_RECORD_VERSION };
	struct object_id id;

	*rec = plain;
	if (c->st->read_only || !c->fd_writable)
		return;
	if (record_set(c->fd, c->st->xattr, &plain) < 0) {
		c->fd_writable = false;
		return;
	}
	if (old.state == KVFS_RECORD_PLAIN)
		return;
	record_object(&old, &id);
	trash_object_later(c->st, &id);
}

/* What the index remembers of a context that was not in memory. */
static void load_flags(struct ctx *c, uint64_t bytes)
{
	struct meta_rec rec;
	bool known = meta_get(c->st->meta, c->ino, &rec) == 0;
	uint32_t flags = known ? rec.flags : 0;

	/* grown unseen, through a mapping that outlived its descriptor */
	if (known && rec.stored_bytes != bytes && !c->st->read_only) {
		atomic_fetch_add(&c->st->ssd_used, bytes - rec.stored_bytes);
		index_occupies(c->st, c->ino, bytes);
	}

	lock_acquire(&c->lock);
	c->accounted = bytes;
	c->pinned |= (flags & META_PINNED) != 0;
	c->damaged |= (flags & META_DAMAGED) != 0;
	if (known && c->heat_ns == 0) {
		c->heat = rec.heat;
		c->heat_ns = index_when(c->st, rec.heat_ns, clock_real_ns());
	}
	lock_release(&c->lock);
}

/* Data of a copy without holes: away with it, durably, before there may be some
 * that counts. */
static int drop_foreign(struct ctx *c, const struct stat *sb)
{
	int r = trash_punch(c->fd, (uint64_t)sb->st_size);

	if (r == 0)
		r = io_fsync(c->fd);
	if (r == 0)
		log_info(c->st->log, "inode %llu was copied without its holes; they are back",
			 (unsigned long long)c->ino);
	return r;
}

/* What data in a stand-in mean while the object counts. */
static int load_standin(struct ctx *c, const struct stat *sb)
{
	bool writable = c->fd_writable && !c->st->read_only;
	int r = sb->st_blocks ? standin_settle(c->fd, writable) : 0;

	if (r == 0)
		r = standin_examine(c->fd, sb, &c->rec);
	if (r == STANDIN_OVERLAY)
		c->state = CTX_OVERLAY;
	/* a crash while it was written: to be noted when it is idle */
	c->map_stale = (c->rec.flags & KVFS_RECORD_EXTENTS) &&
		       (uint64_t)c->rec.ctime_sec == KVFS_RECORD_MAP_UNKNOWN;
	c->overlay_begun = false;
	if (r == STANDIN_FOREIGN && writable)
		return drop_foreign(c, sb);
	if (r == STANDIN_EMPTY && c->rec.version < KVFS_RECORD_VERSION && writable) {
		struct kvfs_record rec = c->rec;

		rec.version = KVFS_RECORD_VERSION;
		rec.flags &= (uint8_t)~KVFS_RECORD_OVERLAY;
		if (record_set(c->fd, c->st->xattr, &rec) == 0) /* as good as it was, if not */
			ctx_set_record(c, &rec);
	}
	return r < 0 ? r : r == STANDIN_UNKNOWN ? -KVFS_EDAMAGED : 0;
}

void load_note_map(struct ctx *c)
{
	struct kvfs_record rec = c->rec;
	struct stat sb;
	uint64_t map;

	c->overlay_begun = false;
	if (!c->map_stale || c->fd < 0 || !c->fd_writable || c->st->read_only ||
	    !(rec.flags & KVFS_RECORD_EXTENTS) || fstat(c->fd, &sb) < 0 ||
	    standin_map(c->fd, (uint64_t)sb.st_size, &map) < 0)
		return;
	rec.ctime_sec = (int64_t)map;
	if (record_set(c->fd, c->st->xattr, &rec) == 0)
		ctx_set_record(c, &rec);
	c->map_stale = false;
}

int ctx_load_locked(struct ctx *c, struct node *n)
{
	struct kvfs_record rec;
	struct stat sb;
	int r;

	if (c->fd >= 0)
		return 0;
	r = open_tree_file(c, n, &sb);
	if (r < 0)
		return r;
	r = read_record(c, &sb, &rec);
	if (r < 0) {
		io_close(&c->fd);
		return r;
	}
	if (r > 0)
		load_plain(c, &rec);
	if (rec.state != KVFS_RECORD_PLAIN && rec.valid_bytes > (uint64_t)sb.st_size &&
	    !c->st->read_only && c->fd_writable) {
		/* a crash between a truncation and its note: note it before the file
		 * can grow again, or the object's old bytes would come back */
		rec.valid_bytes = (uint64_t)sb.st_size;
		r = record_set(c->fd, c->st->xattr, &rec);
		if (r < 0) {
			io_close(&c->fd);
			return r;
		}
	}
	c->state = CTX_PLAIN;
	ctx_set_record(c, &rec);
	if (rec.state == KVFS_RECORD_SEALED)
		r = load_standin(c, &sb);
	if (r < 0) {
		io_close(&c->fd);
		return r;
	}
	node_set_content(n, rec.state == KVFS_RECORD_PLAIN ? NODE_PLAIN : NODE_SEALED);
	if (!c->loaded) {
		uint64_t bytes = (uint64_t)sb.st_blocks * 512;

		/* what it occupies is in the totals already: no delta */
		if (rec.state != KVFS_RECORD_PLAIN)
			bytes += (uint64_t)rec.stored_blocks * STORE_BLOCK;
		load_flags(c, bytes);
		lock_acquire(&c->lock); /* for who walks over all contexts */
		c->loaded = true;
		lock_release(&c->lock);
		c->unpunched = rec.state == KVFS_RECORD_SWITCHED;
	}
	c->size = (uint64_t)sb.st_size;
	if (rec.state == KVFS_RECORD_SWITCHED && rec.valid_bytes < c->size)
		c->size = rec.valid_bytes; /* a cut is pending: thin.c */
	return 0;
}

/* More than the tables of nearly every object. */
#define OBJECT_ROOM (4ull << 20)

int ctx_object_open(struct ctx *c, const struct object_id *id, struct object **ret)
{
	struct store *st = c->st;
	int r = object_open(st->objects_fd, id, &st->dram, ret);

	if (r == -EMFILE && ctx_spare_fds(st))
		r = object_open(st->objects_fd, id, &st->dram, ret);
	if (r == -KVFS_EBUDGET) {
		(void)space_dram(st, OBJECT_ROOM, c);
		r = object_open(st->objects_fd, id, &st->dram, ret);
	}
	if (r == -KVFS_EBUDGET) /* a file that is in use must read: uncounted then */
		r = object_open(st->objects_fd, id, NULL, ret);
	return r;
}

/*
 * The intent of this switch was lost, with the index or in a copy of the store, so
 * recovery did not find it. The object is there: once the switch is durable the
 * plain data can go. Failing only keeps the space.
 */
static void punch_late(struct ctx *c)
{
	uint64_t bytes;

	c->unpunched = false;
	if (c->rec.state != KVFS_RECORD_SWITCHED || c->st->read_only || !c->fd_writable ||
	    commit_barrier(c->st) < 0 || seal_punch_locked(c) < 0)
		return;
	lock_acquire(&c->lock);
	bytes = c->accounted;
	lock_release(&c->lock);
	index_occupies(c->st, c->ino, bytes);
}

int ctx_object_locked(struct ctx *c)
{
	struct object_id id;
	int r;

	if (c->obj || c->rec.state == KVFS_RECORD_PLAIN)
		return 0;
	record_object(&c->rec, &id);
	r = ctx_object_open(c, &id, &c->obj);
	if (r == -ENOENT || r == -ENOTDIR)
		r = -KVFS_EDAMAGED;
	if (r == 0 && c->unpunched)
		punch_late(c);
	if (r == 0)
		level_settle_late(c);
	if (r == 0 && !c->obj) /* it was cut */
		r = ctx_object_open(c, &id, &c->obj);
	if (r == 0)
		resample_load(c);
	return r;
}
