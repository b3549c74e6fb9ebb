/* SPDX-License-Identifier: MIT */
/*
 * Reading and writing an open file. Under the gate, shared, the state says
 * where the bytes are:
 *   PLAIN    the tree file
 *   SEALED   the object, decoded by reader_*
 *   OVERLAY  the object, overridden by what the tree file has as data
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/units.h"
#include "store/level.h"
#include "store/record.h"
#include "store/trace.h"

void read_source_of(struct ctx *c, struct read_source *ret)
{
	ret->obj = c->obj;
	ret->valid_bytes = c->rec.valid_bytes;
	ret->n_layers = level_serving(c);
	lock_acquire(&c->lock);
	ret->rep = c->rep ? replica_get(c->rep) : NULL;
	lock_release(&c->lock);
}

/* ---- read ----------------------------------------------------------------- */

/* Copies what the tree file has as data in [off, off+len) over @buf. */
static int overlay_data(struct ctx *c, uint64_t off, uint8_t *buf, size_t len)
{
	uint64_t pos = off, end = off + len;

	while (pos < end) {
		off_t data = lseek(c->fd, (off_t)pos, SEEK_DATA), hole;
		ssize_t got;

		if (data < 0)
			return errno == ENXIO ? 0 : -errno;
		if ((uint64_t)data >= end)
			return 0;
		hole = lseek(c->fd, data, SEEK_HOLE);
		if (hole < 0)
			return -errno;
		pos = (uint64_t)hole < end ? (uint64_t)hole : end;
		got = io_pread(c->fd, buf + ((uint64_t)data - off), pos - (uint64_t)data,
			       (uint64_t)data);
		if (got < 0)
			return (int)got;
	}
	return 0;
}

static int read_sealed_copy(struct ctx *c, uint64_t off, void *buf, size_t len, bool best)
{
	struct read_source src;
	int r;

	if (!c->obj)
		return -KVFS_EDAMAGED;
	read_source_of(c, &src);
	if (best)
		src.n_layers = level_best(c);
	r = reader_copy(c->st->reader, &src, off, buf, len);
	replica_put(src.rep);
	return r;
}

static int read_any(struct ctx *c, uint64_t off, void *buf, size_t len, uint64_t size, bool best)
{
	int r;

	if (off >= size)
		return 0;
	if (len > size - off)
		len = size - off;
	if (c->rec.state == KVFS_RECORD_PLAIN) {
		ssize_t got = io_pread(c->fd, buf, len, off);

		if (got >= 0 && (size_t)got < len)
			memset((char *)buf + got, 0, len - (size_t)got);
		return got < 0 ? (int)got : 0;
	}
	r = read_sealed_copy(c, off, buf, len, best);
	if (r == 0 && c->state == CTX_OVERLAY)
		r = overlay_data(c, off, buf, len);
	return r;
}

int read_range(struct ctx *c, uint64_t off, void *buf, size_t len, uint64_t size)
{
	return read_any(c, off, buf, len, size, true);
}

int read_served(struct ctx *c, uint64_t off, void *buf, size_t len, uint64_t size)
{
	return read_any(c, off, buf, len, size, false);
}

static int one_slice(struct read_reply *r, size_t len)
{
	r->iov[1].iov_base = r->scratch;
	r->iov[1].iov_len = len;
	r->n = len ? 1 : 0;
	r->len = len;
	return 0;
}

static int read_plain(struct ctx *c, uint64_t off, size_t len, struct read_reply *r)
{
	ssize_t got = io_pread(c->fd, r->scratch, len, off);

	return got < 0 ? (int)got : one_slice(r, (size_t)got);
}

static int read_overlay(struct ctx *c, uint64_t off, size_t len, struct read_reply *r)
{
	int code;

	if (off >= c->size)
		return one_slice(r, 0);
	if (len > c->size - off)
		len = c->size - off;
	code = read_served(c, off, r->scratch, len, c->size);
	return code < 0 ? code : one_slice(r, len);
}

/*
 * Damage further on cuts a reply short. The kernel takes a short reply as end of
 * file: its page cache, which mappings of streamed files use too, would show
 * zeros behind it. So the whole request fails, with what is wrong there; -EAGAIN
 * when nothing is, now.
 */
static int read_sealed_once(struct ctx *c, struct file *f, uint64_t off, size_t len,
			    struct read_reply *r)
{
	struct reader *rd = c->st->reader;
	struct read_source src;
	uint64_t want = off < c->size ? c->size - off : 0;
	int code;

	if (want > len)
		want = len;
	read_source_of(c, &src);
	code = reader_read(rd, &src, &f->rs, off, len, c->size, r);
	if (code == 0 && r->len < want) {
		uint64_t at = off + r->len;

		reader_done(rd, r);
		code = reader_read(rd, &src, &f->rs, at, len - (size_t)(at - off), c->size, r);
		if (code == 0) {
			reader_done(rd, r);
			code = -EAGAIN;
		}
	}
	replica_put(src.rep);
	return code;
}

/* What fails once and not again (the device, memory) is not told: once more. */
static int read_sealed(struct ctx *c, struct file *f, uint64_t off, size_t len,
		       struct read_reply *r)
{
	int code = read_sealed_once(c, f, off, len, r);

	if (code == -EAGAIN)
		code = read_sealed_once(c, f, off, len, r);
	return code == -EAGAIN ? -EIO : code;
}

int store_read(struct file *f, uint64_t off, size_t len, struct read_reply *r)
{
	struct ctx *c = f->ctx;
	ssize_t got;
	int code;

	r->n = 0;
	r->len = 0;
	r->n_pins = 0;
	if (len > r->scratch_len)
		len = r->scratch_len;
	gate_enter(&c->gate, false);
	got = -ENOENT;
	if (f->mode == SERVE_PASSTHROUGH || f->mode == SERVE_PASSTHROUGH_DIRECT)
		got = serving_read(c, r->scratch, len, off); /* has stores not seen here */
	if (got != -ENOENT) {
		code = got < 0 ? (int)got : one_slice(r, (size_t)got);
	} else if (c->rec.state == KVFS_RECORD_PLAIN) {
		code = read_plain(c, off, len, r);
	} else if (!c->obj) {
		code = -KVFS_EDAMAGED;
	} else if (c->state == CTX_OVERLAY) {
		code = read_overlay(c, off, len, r);
	} else {
		code = read_sealed(c, f, off, len, r);
	}
	gate_leave(&c->gate, false);
	code = damage_found(c, f->node, code);
	if (code < 0)
		return code;
	store_count(c->st, CNT_READ_BYTES, r->len);
	trace_read(f);
	r->owner = c->st->reader;
	return 0;
}

void store_read_done(struct read_reply *r)
{
	if (r->n_pins)
		reader_done(r->owner, r);
}

/* ---- write ---------------------------------------------------------------- */

static int write_plain(struct ctx *c, const void *buf, size_t len, uint64_t off)
{
	struct stat sb;
	int r = space_reserve(c->st, len, c->ino);

	if (r < 0) {
		/* an overwrite of what is allocated needs no room */
		if (fstat(c->fd, &sb) < 0 || off + len > (uint64_t)sb.st_size ||
		    (uint64_t)sb.st_blocks * 512 < (uint64_t)sb.st_size)
			return r;
		return io_pwrite_all(c->fd, buf, len, off);
	}
	r = io_pwrite_all(c->fd, buf, len, off);
	space_release(c->st, len);
	if (fstat(c->fd, &sb) == 0)
		ctx_account(c, &sb);
	return r;
}

/* Into the stand-in of a sealed file; edges filled so that whole blocks count. */
static int write_overlay(struct ctx *c, const void *buf, size_t len, uint64_t off)
{
	struct stat sb;
	int r;

	store_count(c->st, CNT_OVERLAY_WRITES, 1);
	r = space_reserve(c->st, len + 2 * STORE_BLOCK, c->ino);
	if (r < 0)
		return r;
	r = overlay_fill_locked(c, off, len);
	if (r == 0)
		r = overlay_write_locked(c, buf, len, off);
	space_release(c->st, len + 2 * STORE_BLOCK);
	if (fstat(c->fd, &sb) == 0) {
		c->size = (uint64_t)sb.st_size;
		ctx_account(c, &sb);
		/* rewritten for the most part: plain again, or else it stays as it is; and so
		 * it does while somebody reads it at a level that unsealing would change */
		if (r == 0 && (uint64_t)sb.st_blocks * 512 * 2 > c->size &&
		    level_serving(c) == level_best(c))
			err_ignore(unseal_locked(c, &sb));
	}
	return r;
}

static bool is_plain(const struct ctx *c)
{
	return c->rec.state == KVFS_RECORD_PLAIN;
}

int write_locked(struct ctx *c, const void *buf, size_t len, uint64_t off)
{
	struct stat sb;
	int r = 0;

	/* what is lost cannot fill the edges of blocks: all of it becomes what it reads */
	if (!is_plain(c) && level_lossy(c))
		r = unseal_locked(c, &sb);
	if (r < 0)
		return r;
	return is_plain(c) ? write_plain(c, buf, len, off) : write_overlay(c, buf, len, off);
}

static int write_once(struct ctx *c, const void *buf, size_t len, uint64_t off)
{
	bool copied;
	int r;

	lock_acquire(&c->lock);
	copied = c->copy != NULL;
	lock_release(&c->lock);
	gate_enter(&c->gate, false);
	if (is_plain(c) && !copied) {
		r = write_plain(c, buf, len, off);
		gate_leave(&c->gate, false);
		return r;
	}
	gate_leave(&c->gate, false);
	gate_enter(&c->gate, true);
	r = write_locked(c, buf, len, off); /* whatever it has become meanwhile */
	if (r == 0)
		r = serving_write(c, buf, len, off);
	gate_leave(&c->gate, true);
	return r;
}

int store_write(struct file *f, const void *buf, size_t len, uint64_t off)
{
	struct ctx *c = f->ctx;
	int r;

	if (!f->writes)
		return -EBADF;
	lock_acquire(&c->lock);
	c->dirty = true;
	lock_release(&c->lock);
	f->wrote = true;
	r = write_once(c, buf, len, off);
	if (r == 0 && (f->flags & (O_SYNC | O_DSYNC)))
		r = store_fsync(f, (f->flags & O_SYNC) != O_SYNC);
	if (r == 0)
		store_count(c->st, CNT_WRITE_BYTES, len);
	else if (r == -KVFS_EFULL || r == -ENOSPC)
		store_count(c->st, CNT_ENOSPC, 1);
	return r;
}

/* ---- the rest ------------------------------------------------------------- */

/* Bytes of [off, off+len) that have no block yet. Preallocated ones count as such:
 * too much is asked for then, never too little. */
static uint64_t unallocated(int fd, uint64_t off, uint64_t len)
{
	uint64_t pos = off, end = off + len, need = len;

	while (pos < end) {
		off_t data = lseek(fd, (off_t)pos, SEEK_DATA), hole;

		if (data < 0 || (uint64_t)data >= end)
			break;
		hole = lseek(fd, data, SEEK_HOLE);
		if (hole < 0)
			break;
		pos = (uint64_t)hole < end ? (uint64_t)hole : end;
		need -= pos - (uint64_t)data;
	}
	return need;
}

int store_fallocate(struct file *f, int mode, uint64_t off, uint64_t len)
{
	struct ctx *c = f->ctx;
	bool grows = !(mode & FALLOC_FL_PUNCH_HOLE);
	uint64_t need = 0;
	struct stat sb;
	int r = 0;

	if (!f->writes)
		return -EBADF;
	if (mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
		return -EOPNOTSUPP;
	if (len > INT64_MAX || off > INT64_MAX - len)
		return -EFBIG;
	gate_enter(&c->gate, true);
	lock_acquire(&c->lock);
	c->dirty = true;
	lock_release(&c->lock);
	if (!is_plain(c))
		r = unseal_locked(c, &sb);
	if (r == 0 && grows) {
		need = unallocated(c->fd, off, len);
		r = space_reserve(c->st, need, c->ino);
	}
	if (r == 0) {
		r = fallocate(c->fd, mode, (off_t)off, (off_t)len) < 0 ? -errno : 0;
		if (grows)
			space_release(c->st, need);
		if (fstat(c->fd, &sb) == 0)
			ctx_account(c, &sb);
		if (r == 0)
			r = serving_allocate(c, mode, off, len);
	}
	gate_leave(&c->gate, true);
	return r;
}

/* From the chunk index: runs of CODEC_HOLE chunks are holes. */
static int seek_sealed(struct ctx *c, uint64_t off, int whence, uint64_t *ret)
{
	const struct object *o = c->obj;
	uint64_t end = o->logical_bytes < c->size ? o->logical_bytes : c->size;
	uint32_t i;

	if (off >= c->size)
		return -ENXIO;
	if (off < end) {
		for (i = object_chunk_at(o, off); i < o->n_chunks; i++) {
			const struct object_chunk *ch = &o->chunks[i];
			bool hole = o->layers[ch->first_layer].codec == CODEC_HOLE;

			if (ch->off_bytes >= end)
				break;
			if (hole == (whence == SEEK_HOLE)) {
				*ret = ch->off_bytes > off ? ch->off_bytes : off;
				return 0;
			}
		}
	}
	if (whence == SEEK_DATA)
		return -ENXIO;
	*ret = off > end ? off : end;
	return 0;
}

/* No holes: allowed by POSIX and true. */
static int seek_all_data(struct ctx *c, uint64_t off, int whence, uint64_t *ret)
{
	struct stat sb;

	if (fstat(c->fd, &sb) < 0)
		return -errno;
	if (off >= (uint64_t)sb.st_size)
		return -ENXIO;
	*ret = whence == SEEK_DATA ? off : (uint64_t)sb.st_size;
	return 0;
}

int store_lseek(struct file *f, uint64_t off, int whence, uint64_t *ret)
{
	struct ctx *c = f->ctx;
	bool shared;
	int r = 0;

	if (whence != SEEK_DATA && whence != SEEK_HOLE)
		return -EINVAL;
	gate_enter(&c->gate, false);
	lock_acquire(&c->lock);
	shared = c->copy_shared; /* stores into it may have filled holes */
	lock_release(&c->lock);
	if (shared || c->state == CTX_OVERLAY) {
		r = seek_all_data(c, off, whence, ret);
	} else if (is_plain(c)) {
		off_t at = lseek(c->fd, (off_t)off, whence);

		if (at < 0)
			r = -errno;
		else
			*ret = (uint64_t)at;
	} else {
		r = c->obj ? seek_sealed(c, off, whence, ret) : -KVFS_EDAMAGED;
	}
	gate_leave(&c->gate, false);
	return r;
}

#define COPY_STEP (1u << 20)

/* All slices into scratch, so that nothing of the window is held any more. Each
 * slice that lies in scratch is where it belongs or behind that. */
static void gather(struct read_reply *rr)
{
	size_t at = 0;

	for (unsigned i = 1; i <= rr->n; i++) {
		memmove((char *)rr->scratch + at, rr->iov[i].iov_base, rr->iov[i].iov_len);
		at += rr->iov[i].iov_len;
	}
	store_read_done(rr);
	rr->n_pins = 0;
}

ssize_t store_copy_range(struct file *in, uint64_t off_in, struct file *out, uint64_t off_out,
			 size_t len)
{
	struct read_reply rr = { .scratch_len = COPY_STEP };
	size_t done = 0;
	int r = 0;

	rr.scratch = mem_alloc_pages(COPY_STEP);
	if (!rr.scratch)
		return -ENOMEM;
	while (done < len && r == 0) {
		size_t step = len - done < COPY_STEP ? len - done : COPY_STEP;

		r = store_read(in, off_in + done, step, &rr);
		if (r < 0 || rr.len == 0)
			break;
		gather(&rr); /* writing may wait for what others hold of the window */
		r = store_write(out, rr.scratch, rr.len, off_out + done);
		if (r == 0)
			done += rr.len;
	}
	mem_free_pages(rr.scratch, COPY_STEP);
	return done ? (ssize_t)done : r;
}
