/* SPDX-License-Identifier: MIT */
/*
 * Changing sealed content: overlay blocks, truncation, and back to plain.
 *
 * The order of every change is such that a crash leaves the old or the new
 * content: new data durable, then the record, then the old object (through an
 * intent, so that it is found if the last step does not happen).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/units.h"
#include "codecs/codec.h"
#include "store/adapt.h"
#include "store/level.h"
#include "store/record.h"
#include "store/seal.h"
#include "store/standin.h"

#define UNSEAL_STEP (1u << 20)

static int set_record(struct ctx *c, const struct kvfs_record *rec)
{
	int r = record_set(c->fd, c->st->xattr, rec);

	if (r == 0)
		ctx_set_record(c, rec);
	return r;
}

/* ---- the stand-in --------------------------------------------------------- */

#define STANDIN_STEP (1u << 20)
#define STANDIN_BLOCKS (STANDIN_STEP / STORE_BLOCK + 1)

/* Which blocks of [first, end) are holes; one byte each. */
static void holes_of(int fd, uint64_t first, uint64_t end, uint8_t *hole)
{
	uint64_t pos = first;

	memset(hole, 1, (size_t)((end - first) / STORE_BLOCK));
	while (pos < end) {
		off_t data = lseek(fd, (off_t)pos, SEEK_DATA), stop;

		if (data < 0 || (uint64_t)data >= end)
			return;
		stop = lseek(fd, data, SEEK_HOLE);
		pos = stop < 0 || (uint64_t)stop > end ? end : (uint64_t)stop;
		for (uint64_t b = round_down_u64((uint64_t)data, STORE_BLOCK); b < pos;
		     b += STORE_BLOCK)
			hole[(b - first) / STORE_BLOCK] = 0;
	}
}

static int write_step(struct ctx *c, const void *buf, size_t len, uint64_t off)
{
	uint64_t first = round_down_u64(off, STORE_BLOCK);
	uint64_t end = round_up_u64(off + len, STORE_BLOCK);
	uint8_t hole[STANDIN_BLOCKS];
	int r = 0;

	holes_of(c->fd, first, end, hole);
	if (fallocate(c->fd, FALLOC_FL_KEEP_SIZE, (off_t)first, (off_t)(end - first)) < 0 &&
	    errno != EOPNOTSUPP)
		r = -errno;
	if (r == 0)
		r = FAULT_POINT("overlay.room");
	if (r == 0)
		r = io_pwrite_all(c->fd, buf, len, off);
	for (uint64_t b = first; r < 0 && b < end; b += STORE_BLOCK)
		if (hole[(b - first) / STORE_BLOCK] &&
		    fallocate(c->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)b,
			      STORE_BLOCK) < 0)
			log_error(c->st->log, "inode %llu: a failed write stays at %llu: %s",
				  (unsigned long long)c->ino, (unsigned long long)b,
				  strerror(errno));
	return r;
}

/*
 * A write that fails half-way (no space) leaves blocks of zeros behind, and data
 * in the stand-in hides the object: the room is allocated first, and what
 * was a hole is one again after a failure.
 */
int overlay_write_locked(struct ctx *c, const void *buf, size_t len, uint64_t off)
{
	int r = 0;

	for (size_t done = 0; done < len && r == 0;) {
		size_t step = STANDIN_STEP - (size_t)((off + done) % STORE_BLOCK);

		if (step > len - done)
			step = len - done;
		r = write_step(c, (const char *)buf + done, step, off + done);
		done += step;
	}
	return r;
}

/* ---- overlay -------------------------------------------------------------- */

/*
 * Before data in the stand-in mean "newer": it must be empty and the record must say
 * that they do, both durably, or a copy's zeros could not be told from a client's.
 */
static int overlay_begin(struct ctx *c)
{
	struct kvfs_record rec;
	uint64_t inode;
	int r = 0;

	c->map_stale = true;
	if (c->rec.state == KVFS_RECORD_SWITCHED)
		r = seal_punch_locked(c);
	if (r == 0 && !c->overlay_begun) {
		rec = c->rec;
		rec.version = KVFS_RECORD_VERSION;
		rec.flags &= (uint8_t)~(KVFS_RECORD_CTIME | KVFS_RECORD_MTIME);
		rec.flags |= KVFS_RECORD_OVERLAY | KVFS_RECORD_EXTENTS;
		r = standin_inode(c->fd, &inode);
		rec.mtime_sec = (int64_t)inode;
		rec.ctime_sec = (int64_t)KVFS_RECORD_MAP_UNKNOWN;
		rec.mtime_nsec = rec.ctime_nsec = 0;
		if (r == 0)
			r = set_record(c, &rec);
		c->overlay_begun = r == 0;
	}
	if (r == 0)
		r = FAULT_POINT("overlay.begun");
	if (r == 0 && !c->punch_durable) {
		r = commit_barrier(c->st);
		if (r == 0)
			r = commit_inode(c->st, c->fd);
		c->punch_durable = r == 0;
	}
	return r;
}

/* Fills the block at @block from what reads there now, unless it has data. With
 * blocks of 1 KiB below a power cut may leave part of one. */
static int fill_block(struct ctx *c, uint64_t block)
{
	uint8_t buf[STORE_BLOCK];
	uint64_t len = STORE_BLOCK;
	int r;

	if (block >= c->size)
		return 0;
	if (len > c->size - block)
		len = c->size - block;
	if (lseek(c->fd, (off_t)block, SEEK_DATA) == (off_t)block &&
	    lseek(c->fd, (off_t)block, SEEK_HOLE) >= (off_t)(block + len))
		return 0;
	r = read_range(c, block, buf, (size_t)len, c->size);
	if (r == 0)
		r = overlay_write_locked(c, buf, (size_t)len, block);
	return r;
}

static void has_overlay(struct ctx *c)
{
	lock_acquire(&c->lock);
	c->state = CTX_OVERLAY;
	lock_release(&c->lock);
}

/*
 * btrfs makes a data block of zeros out of a hole when the size is cut inside
 * it or grows from inside it; that would be taken for newer data. There the
 * block gets its true content first. ext4 and XFS leave holes alone.
 */
static int fill_edge(struct ctx *c, uint64_t size)
{
	uint64_t edge = size < c->size ? size : c->size;
	int r;

	if (c->st->fs_type == FS_EXT4 || c->st->fs_type == FS_XFS || edge % STORE_BLOCK == 0 ||
	    size == c->size)
		return 0;
	r = overlay_begin(c);
	if (r == 0)
		r = fill_block(c, round_down_u64(edge, STORE_BLOCK));
	if (r == 0)
		has_overlay(c);
	return r;
}

int overlay_fill_locked(struct ctx *c, uint64_t off, uint64_t len)
{
	uint64_t first = round_down_u64(off, STORE_BLOCK);
	uint64_t last = round_down_u64(off + len, STORE_BLOCK);
	int r = overlay_begin(c);

	if (r == 0 && off > c->size)
		r = fill_edge(c, off);
	if (r == 0 && first != off)
		r = fill_block(c, first);
	if (r == 0 && last != off + len && (last != first || first == off))
		r = fill_block(c, last);
	if (r < 0)
		return r;
	r = FAULT_POINT("overlay.filled");
	if (r == 0)
		has_overlay(c);
	return r;
}

/* ---- back to plain -------------------------------------------------------- */

static int unseal_intent(struct ctx *c)
{
	struct object_id id;

	record_object(&c->rec, &id);
	return trash_intent(c, INTENT_UNSEAL, &id);
}

/* The object no longer counts: forget it everywhere and have it removed. */
static void drop_object(struct ctx *c, const struct kvfs_record *old)
{
	struct object_id id;

	memcpy(id.id, old->id, sizeof(id.id));
	id.generation = old->generation;
	if (c->obj)
		reader_forget(c->st->reader, c->obj);
	object_put(c->obj);
	c->obj = NULL;
	level_forget(c);
	adapt_gone(c->st, c->ino);
	space_drop_dram(c, true, false);
	serving_follow(c);
	trash_object_later(c->st, &id);
}

static bool all_zero(const uint8_t *p, size_t len)
{
	return len == 0 || (p[0] == 0 && memcmp(p, p + 1, len - 1) == 0);
}

/* Bytes from the start that the object may have something of: what lies behind is
 * the stand-in's alone, and true already. */
static uint64_t object_end(const struct ctx *c)
{
	uint64_t end = c->size;

	if (end > c->rec.valid_bytes)
		end = c->rec.valid_bytes;
	return end > c->obj->logical_bytes ? c->obj->logical_bytes : end;
}

/* The end of the object's hole at @off, on a block's edge; @off if there is none. */
static uint64_t hole_end(const struct ctx *c, uint64_t off)
{
	const struct object *o = c->obj;
	uint64_t end = off;

	for (uint32_t i = object_chunk_at(o, off); i < o->n_chunks; i++) {
		const struct object_chunk *ch = &o->chunks[i];

		if (o->layers[ch->first_layer].codec != CODEC_HOLE)
			break;
		end = ch->off_bytes + ch->len_bytes;
	}
	end = round_down_u64(end, STORE_BLOCK);
	return end > off ? end : off;
}

/*
 * Everything as it reads now, up to @upto, into the stand-in. Where it reads as zeros
 * a hole does, and data that are there already are these zeros.
 */
static int materialise(struct ctx *c, uint64_t upto)
{
	uint8_t *buf = mem_alloc_pages(UNSEAL_STEP);
	uint64_t off = 0;
	int r = 0;

	if (!buf)
		return -ENOMEM;
	while (off < upto && r == 0) {
		uint64_t next = hole_end(c, off);

		if (next == off) {
			size_t len = upto - off < UNSEAL_STEP ? (size_t)(upto - off) : UNSEAL_STEP;

			r = read_range(c, off, buf, len, c->size);
			if (r == 0 && !all_zero(buf, len))
				r = overlay_write_locked(c, buf, len, off);
			next = off + len;
		}
		if (r == 0)
			r = FAULT_POINT("unseal.data");
		off = next;
	}
	mem_free_pages(buf, UNSEAL_STEP);
	return r;
}

int unseal_locked(struct ctx *c, struct stat *ret_sb)
{
	struct kvfs_record old = c->rec, plain = { .version = KVFS_RECORD_VERSION };
	struct timespec ts[2] = { { 0, UTIME_OMIT }, { 0, 0 } };
	uint64_t upto;
	int r;

	if (c->rec.state == KVFS_RECORD_PLAIN)
		return 0;
	if (!c->obj)
		return -KVFS_EDAMAGED;
	upto = object_end(c);
	if (fstat(c->fd, ret_sb) < 0)
		return -errno;
	ts[1] = ret_sb->st_mtim;
	if (old.flags & KVFS_RECORD_MTIME) {
		ts[1].tv_sec = old.mtime_sec;
		ts[1].tv_nsec = (long)old.mtime_nsec;
	}
	r = space_reserve(c->st, upto, c->ino);
	if (r < 0)
		return r;
	r = overlay_begin(c);
	if (r == 0)
		r = unseal_intent(c);
	if (r == 0)
		r = materialise(c, upto);
	if (r == 0)
		r = io_fdatasync(c->fd);
	if (r == 0)
		r = FAULT_POINT("unseal.synced");
	if (r == 0)
		r = set_record(c, &plain);
	if (r == 0)
		r = commit_inode(c->st, c->fd); /* before the object goes */
	if (r == 0)
		err_ignore(FAULT_POINT("unseal.switched")); /* done is done: only kills count */
	space_release(c->st, upto);
	if (r < 0)
		return r;
	if (futimens(c->fd, ts) < 0)
		r = -errno;
	drop_object(c, &old);
	if (fstat(c->fd, ret_sb) == 0)
		ctx_account(c, ret_sb);
	store_count(c->st, CNT_UNSEALED, 1);
	return r;
}

/* ---- truncation ----------------------------------------------------------- */

static int truncate_plain(struct ctx *c, uint64_t size)
{
	struct stat sb;

	if (ftruncate(c->fd, (off_t)size) < 0)
		return -errno;
	if (fstat(c->fd, &sb) == 0)
		ctx_account(c, &sb);
	return 0;
}

/* Nothing of the object is left: the record goes back to plain at once. */
static int truncate_empty(struct ctx *c)
{
	struct kvfs_record old = c->rec, plain = { .version = KVFS_RECORD_VERSION };
	int r = unseal_intent(c);

	if (r == 0 && ftruncate(c->fd, 0) < 0)
		r = -errno;
	if (r == 0)
		r = FAULT_POINT("truncate.cut");
	if (r == 0)
		r = set_record(c, &plain);
	if (r == 0)
		r = commit_inode(c->st, c->fd);
	if (r < 0)
		return r;
	c->size = 0;
	drop_object(c, &old);
	return truncate_plain(c, 0);
}

/* Shorter: the size first, then the note that the object's tail is void. */
static int truncate_sealed(struct ctx *c, uint64_t size)
{
	struct kvfs_record rec;
	int r = 0;

	if (c->rec.state == KVFS_RECORD_SWITCHED)
		r = seal_punch_locked(c);
	if (r == 0)
		r = fill_edge(c, size);
	if (r == 0 && ftruncate(c->fd, (off_t)size) < 0)
		r = -errno;
	if (r == 0)
		r = FAULT_POINT("truncate.cut");
	if (r < 0)
		return r;
	rec = c->rec;
	rec.flags &= (uint8_t)~KVFS_RECORD_CTIME;
	if (rec.flags & KVFS_RECORD_EXTENTS) {
		rec.ctime_sec = (int64_t)KVFS_RECORD_MAP_UNKNOWN;
		c->map_stale = true;
	}
	if (size < rec.valid_bytes)
		rec.valid_bytes = size;
	c->size = size;
	return set_record(c, &rec);
}

int write_truncate(struct ctx *c, uint64_t size)
{
	struct stat sb;
	int r = serving_truncate(c, size);

	if (r < 0)
		return r;
	if (c->rec.state == KVFS_RECORD_PLAIN)
		return truncate_plain(c, size);
	if (size == 0)
		return truncate_empty(c);
	r = ctx_object_locked(c);
	if (r < 0)
		return r;
	r = truncate_sealed(c, size);
	if (r == 0 && size < SEAL_MIN_BYTES)
		err_ignore(unseal_locked(c, &sb)); /* stays sealed though small */
	return r;
}
