/* SPDX-License-Identifier: MIT */
/*
 * Opening and closing, and the choice of how an open file is served.
 *
 * The kernel keeps one mode per inode, so the choice looks at what is open:
 *
 *  open now            | read-only open        | open for writing
 *  --------------------+-----------------------+---------------------------
 *  nothing, plain      | passthrough (tree);   | passthrough (tree) when writes
 *                      | strictwrite: stream   | need not be seen, else stream
 *  nothing, copy ready | passthrough (copy)    | stream; the first write drops
 *                      |                       | the copy
 *  nothing, but copy   | passthrough (copy)    | passthrough-direct (copy)
 *  mapped              |                       |
 *  nothing, sealed     | stream or cached      | stream or cached
 *  passthrough (tree)  | passthrough (tree)    | passthrough (tree) when writes
 *                      |                       | need not be seen, else direct
 *  passthrough (copy)  | passthrough (copy)    | passthrough-direct (copy)
 *  stream or cached    | stream or cached      | stream or cached
 *
 * Passthrough-direct: requests come here, mappings go to the backing file. What
 * a mapped copy does beside changes of the file is at the head of serving.c; a
 * file is sealed only when nobody has it open or mapped. Edge by edge tested by
 * tests/fs/modes.sh.
 * O_DIRECT is never served by SERVE_STREAM: without FOPEN_DIRECT_IO the kernel
 * keeps several of its requests in flight.
 * The level is chosen with the mode, and changes as that does: level.c.
 * A seal in flight gives up when its file is opened; its lease is dropped here,
 * so that the kernel's own open of the backing file never waits for it.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/io.h"
#include "base/mem.h"
#include "store/adapt.h"
#include "store/level.h"
#include "store/names.h"
#include "store/seal.h"
#include "store/trace.h"

#define BIAS_MAX STORE_WHOLE_BIAS /* readers seen lately, at most */

static bool opens_for_write(int flags)
{
	return (flags & O_ACCMODE) != O_RDONLY;
}

static bool passes(const struct file *f)
{
	return f->mode == SERVE_PASSTHROUGH || f->mode == SERVE_PASSTHROUGH_DIRECT;
}

/* ---- mode ----------------------------------------------------------------- */

/* May the kernel write to the tree file by itself? Lock held. */
static bool may_write_past(const struct ctx *c)
{
	struct store *st = c->st;

	return (st->paths & PATH_PASSTHROUGH_WRITE) && !st->cfg.strictwrite && c->fd_writable &&
	       space_free(st) > space_write_reserve(st) +
					space_seal_room(atomic_load(&st->ssd_limit));
}

/* May this open begin passthrough, and to what? Lock held. */
static bool may_pass(struct ctx *c, const struct file *f, bool *ret_copy) REQUIRES(&c->lock)
{
	struct store *st = c->st;

	*ret_copy = c->copy_shared;
	if (c->copy_shared)
		return c->others == 0;
	/* mappings of the copy are alive without a descriptor: they must see writes */
	if (f->writes && c->copy && c->others == 0 && copy_in_use(c->copy)) {
		*ret_copy = true;
		return true;
	}
	if (c->others > 0 || !st->k || !(st->paths & PATH_PASSTHROUGH_READ) || c->fd < 0)
		return false;
	if (c->state == CTX_PLAIN && c->rec.state == KVFS_RECORD_PLAIN)
		/* strict: a writer beside the reader could not be kept from mapping it */
		return f->writes ? may_write_past(c) : !st->cfg.strictwrite;
	*ret_copy = true;
	return c->copy && !f->writes && c->state == CTX_SEALED;
}

static void other_mode(struct ctx *c, struct file *f) REQUIRES(&c->lock)
{
	c->others++;
	if (f->writes && c->copy && copy_in_use(c->copy))
		c->copy_shared = true; /* at least it follows what is written here */
	f->mode = (c->st->paths & PATH_STREAM) && !(f->flags & O_DIRECT) ? SERVE_STREAM :
									     SERVE_CACHED;
}

/* A writer's requests come to us, so that the file and its copy both follow, or
 * that there is room for what is written to the tree file. */
static void pass_mode(struct ctx *c, struct file *f) REQUIRES(&c->lock)
{
	f->mode = SERVE_PASSTHROUGH;
	if (!f->writes)
		return;
	c->copy_shared |= c->backing_is_copy;
	c->unseen |= !c->backing_is_copy;
	if (c->backing_is_copy || !may_write_past(c))
		f->mode = SERVE_PASSTHROUGH_DIRECT;
}

/* Registers the backing file and counts the first open of it: the file's own, or
 * its @copy, of which the caller holds a reference. Gate exclusive, so that nobody
 * else registers; but another file's need of DRAM may take the copy from this
 * one at any moment, which then must not be served: it is soon another file's. */
static int begin_passthrough(struct ctx *c, struct file *f, const struct copy *copy)
{
	struct store *st = c->st;
	int id = st->k->backing_open(st->karg, copy ? copy_fd(copy) : c->fd);
	bool gone;

	if (id <= 0)
		return id < 0 ? id : -EIO;
	lock_acquire(&c->lock);
	gone = copy && c->copy != copy;
	if (!gone) {
		c->backing_id = id;
		c->backing_is_copy = copy;
		c->passthrough++;
		pass_mode(c, f);
	}
	lock_release(&c->lock);
	if (gone)
		st->k->backing_close(st->karg, id);
	return gone ? -KVFS_ECANCELED : 0;
}

static void choose_mode(struct ctx *c, struct file *f)
{
	struct copy *copy = NULL;
	bool of_copy, begun;

	lock_acquire(&c->lock);
	if (c->passthrough > 0) {
		c->passthrough++;
		pass_mode(c, f);
		lock_release(&c->lock);
		return;
	}
	begun = may_pass(c, f, &of_copy);
	if (begun && of_copy)
		copy = copy_get(c->copy);
	lock_release(&c->lock);
	begun = begun && begin_passthrough(c, f, copy) == 0;
	copy_put(copy);
	if (begun)
		return;
	lock_acquire(&c->lock);
	other_mode(c, f);
	lock_release(&c->lock);
}

/* Counts opens of unread files: every LOOKth streams, so that what readers do
 * stays known (reads through the kernel are not seen). */
#define LOOK 64u
/* Native reading of a copy takes at least this, for readers that close at once. */
#define COPY_READ_BPS 2e10

static bool expects_whole(struct ctx *c) REQUIRES(&c->lock)
{
	struct store *st = c->st;

	if (c->whole_reads > 0)
		return true;
	return atomic_load(&st->whole_bias) > 0 && atomic_fetch_add(&st->looks, 1) % LOOK != LOOK - 1;
}

/* Is there a copy worth it of a file that lies only on SSD? */
static bool ssd_by_copy(struct ctx *c, struct file *f)
{
	struct store *st = c->st;

	f->from_ssd = c->size <= budget_limit(&st->dram) / 4;
	f->layers = level_serving(c);
	return f->from_ssd && cold_choose(&st->cold, f->layers) == LOAD_COPY;
}

/* Decode at open pays when the whole file will be read. */
static bool wants_copy(struct ctx *c, struct file *f)
{
	bool yes, dram;

	if (!c->st->copies || !(c->st->paths & PATH_PASSTHROUGH_READ) || f->writes ||
	    c->state != CTX_SEALED || c->size < COPY_MIN_BYTES)
		return false;
	lock_acquire(&c->lock);
	yes = !c->copy && c->others == 0 && expects_whole(c);
	dram = c->rep && replica_complete(c->rep);
	lock_release(&c->lock);
	if (yes && !dram)
		yes = ssd_by_copy(c, f);
	if (yes && !space_copy(c->st, c->size, c)) {
		move_prepare(c->st, c->size); /* the next one's */
		yes = false;
	}
	return yes;
}

/* ---- open ----------------------------------------------------------------- */

static int load(struct ctx *c, struct file *f)
{
	int r = ctx_load_locked(c, f->node);

	if (r == -ENOENT)
		r = -ESTALE; /* evicted: the kernel looks the name up again */
	if (r == 0 && f->writes && !c->fd_writable)
		r = -EACCES;
	if (r == 0 && (f->flags & O_TRUNC)) {
		lock_acquire(&c->lock);
		c->dirty = true;
		lock_release(&c->lock);
		r = write_truncate(c, 0);
		if (r == 0)
			ctx_lose_end(c);
	}
	if (r == 0)
		r = ctx_object_locked(c);
	return r;
}

/* A slow client's reading; a second one's does not shorten it. */
#define PASSING_BPS 5e9

static void note_passing(struct store *st, uint64_t size)
{
	uint64_t now = clock_mono_ns(), s_ns = (uint64_t)((double)size / PASSING_BPS * 1e9);
	uint64_t until = now + (s_ns < NSEC_PER_SEC ? s_ns : NSEC_PER_SEC);

	if (until > atomic_load(&st->passing_until_ns))
		atomic_store(&st->passing_until_ns, until); /* a race costs a mover's waiting */
}

static void count_open(struct ctx *c, const struct file *f)
{
	struct store *st = c->st;

	store_count(st, CNT_OPENS, 1);
	if (f->mode == SERVE_PASSTHROUGH) {
		store_count(st, CNT_OPENS_PASSTHROUGH, 1);
		if (!f->writes)
			note_passing(st, c->size);
	}
	if (c->state != CTX_PLAIN)
		store_count(st, f->in_memory ? CNT_OPENS_DRAM : CNT_OPENS_SSD, 1);
}

/* @stale: what the kernel may have cached of it is of another level. */
static void fill_reply(struct ctx *c, struct file *f, bool stale, struct open_reply *ret)
{
	ret->file = f;
	ret->mode = f->mode;
	ret->keep_cache = f->mode == SERVE_CACHED && !stale;
	lock_acquire(&c->lock);
	ret->backing_id = c->backing_id;
	lock_release(&c->lock);
}

/* Takes over @fd (>= 0: the file was created just now). */
static int open_ctx(struct file *f, int fd, struct open_reply *ret)
{
	struct ctx *c = f->ctx;
	bool stale = false;
	int r;

	seal_cancel(c);
	atomic_store(&c->wanted, true);
	r = ctx_enter(c);
	if (r < 0) {
		io_close(&fd);
		return r; /* the kernel looks the name up again */
	}
	seal_cancel(c); /* one that came to the gate before us */
	if (fd >= 0) {
		c->fd = fd;
		c->fd_writable = true;
		lock_acquire(&c->lock);
		c->loaded = true;
		lock_release(&c->lock);
		c->state = CTX_PLAIN;
	} else {
		r = load(c, f);
	}
	if (r == 0) {
		uint64_t start;

		level_pin_locked(c, f->node, f->writes);
		stale = c->pages_stale;
		c->pages_stale = false;
		lock_acquire(&c->lock);
		c->opens++;
		c->writers += f->writes;
		f->in_memory = c->obj && level_in_memory(c, level_serving(c));
		lock_release(&c->lock);
		adapt_seen(c, f->node);
		trace_found(f);
		start = clock_mono_ns();
		if (wants_copy(c, f) && move_copy(c, NULL) == 0) {
			f->made_bytes = copy_held(c->size);
			atomic_fetch_add(&c->st->made_bytes, f->made_bytes);
			f->copied_ns = f->from_ssd ? clock_mono_ns() - f->opened_ns : 0;
			move_prepare(c->st, c->size); /* this one's pages may stay in use */
		}
		f->decoding_ns = clock_mono_ns() - start;
		choose_mode(c, f);
		fill_reply(c, f, stale, ret);
	}
	gate_leave(&c->gate, true);
	if (r == 0)
		count_open(c, f);
	return r;
}

static int file_new(struct store *st, struct node *n, int flags, struct file **ret)
{
	struct file *f = mem_zalloc(sizeof(*f));
	int r;

	atomic_fetch_add(&st->uses, 1);
	if (!f)
		return -ENOMEM;
	f->st = st;
	f->node = n;
	f->flags = flags;
	f->writes = opens_for_write(flags);
	f->opened_ns = clock_mono_ns();
	r = ctx_get(st, node_ino(n), true, &f->ctx);
	if (r < 0) {
		mem_free(f);
		return r;
	}
	node_ref(st->nodes, n);
	*ret = f;
	return 0;
}

static void file_free(struct file *f)
{
	atomic_fetch_sub(&f->st->made_bytes, f->made_bytes);
	mem_free(f->trace);
	ctx_put(f->ctx);
	node_forget(f->st->nodes, f->node, 1);
	mem_free(f);
}

int store_openat(struct store *st, struct node *n, int flags, const struct caller *c,
		 struct open_reply *ret)
{
	struct file *f;
	int r;

	(void)c;
	if (!S_ISREG(node_type(n)))
		return S_ISDIR(node_type(n)) ? -EISDIR : -ENXIO;
	if (st->read_only && (opens_for_write(flags) || (flags & O_TRUNC)))
		return -EROFS;
	r = file_new(st, n, flags, &f);
	if (r < 0)
		return r;
	r = open_ctx(f, -1, ret);
	if (damage_is(r)) {
		r = damage_note(f->ctx, r);
		if (damage_hide(f->ctx, n))
			r = -ESTALE; /* the kernel looks the name up again */
	}
	if (r < 0) {
		ctx_idle(f->ctx);
		file_free(f);
		return r;
	}
	ctx_touch(f->ctx, true);
	if (f->ctx->state == CTX_SEALED)
		rates_opened(&st->rates,
			     f->mode == SERVE_PASSTHROUGH ? RATES_OPEN_COPY : RATES_OPEN_DRAM,
			     clock_mono_ns() - f->opened_ns - f->decoding_ns);
	return 0;
}

int store_create(struct store *st, const struct caller *c, struct node *dir, const char *name,
		 mode_t mode, int flags, struct node **ret, struct stat *ret_attr,
		 struct open_reply *ret_open)
{
	struct file *f;
	bool created;
	int fd, r;

	if (st->read_only)
		return -EROFS;
	r = space_reserve(st, STORE_BLOCK, 0);
	if (r < 0)
		return r;
	space_release(st, STORE_BLOCK);
	r = names_create(st, c, dir, name, mode, flags, ret, ret_attr, &fd, &created);
	if (r < 0)
		return r;
	r = S_ISREG(ret_attr->st_mode) ? 0 : -EEXIST;
	if (r == 0)
		r = file_new(st, *ret, flags, &f);
	if (r == 0) {
		r = open_ctx(f, fd, ret_open);
		if (damage_is(r)) {
			r = damage_note(f->ctx, r);
			if (damage_hide(f->ctx, *ret))
				r = -ESTALE; /* the kernel tries again and creates it */
		}
		if (r < 0) {
			ctx_idle(f->ctx);
			file_free(f);
		}
		fd = -1;
	}
	if (r < 0) {
		io_close(&fd);
		node_forget(st->nodes, *ret, 1);
		return r;
	}
	if (created) {
		lock_acquire(&f->ctx->lock);
		f->ctx->dirty = true;
		lock_release(&f->ctx->lock);
		index_put(st, *ret, f->ctx, ret_attr, false);
	} else if (flags & O_TRUNC) {
		err_ignore(attr_node(st, *ret, ret_attr)); /* keeps what it had */
	}
	return 0;
}

/* ---- close ---------------------------------------------------------------- */

int store_flush(struct file *f)
{
	bool lost;

	lock_acquire(&f->ctx->lock);
	lost = f->ctx->lost;
	lock_release(&f->ctx->lock);
	return lost && f->wrote ? -KVFS_ELOST : 0;
}

/* Passthrough writes were not seen: the size and blocks are what they are now. */
static void settle_written(struct file *f)
{
	struct ctx *c = f->ctx;

	if (!f->writes && !f->wrote)
		return;
	gate_enter(&c->gate, false);
	if (c->fd >= 0) {
		lock_acquire(&c->lock);
		if (passes(f) && !c->backing_is_copy)
			c->dirty = true;
		lock_release(&c->lock);
		index_follow(c, f->node);
	}
	gate_leave(&c->gate, false);
}

/* The last one is gone: the backing id, and what waited for that. */
static void last_close(struct file *f, int backing_id, bool unlinked, bool hidden)
{
	struct ctx *c = f->ctx;
	struct store *st = c->st;
	bool kept = unlinked && !hidden && node_is_trash(st->nodes, f->node);

	if (backing_id > 0)
		st->k->backing_close(st->karg, backing_id);
	if (!unlinked) {
		(void)serving_end(c); /* else when its last mapping goes: tick */
		if (c->cut_due)
			level_settle(c, f->node); /* the same */
		relayer_later(c, f->node);
		if (c->state != CTX_SEALED)
			space_drop_dram(c, false, true); /* changes will not be seen */
		watch_closed(c);
		ctx_idle(c);
		seal_queue(c);
		return;
	}
	ctx_gone(c);
	if (kept) {
		node_dead(st->nodes, f->node);
		trash_remove(st, c->ino, &c->rec);
	}
}

/* What readers of this mount do in general decides for first reads. */
static void note_bias(struct store *st, bool whole)
{
	int bias = atomic_load(&st->whole_bias);

	bias += whole ? 1 : -2;
	/* racing readers may lose a step */
	atomic_store(&st->whole_bias, bias < 0 ? 0 : bias > BIAS_MAX ? BIAS_MAX : bias);
}

/* The load through a copy, whose reads are not seen, is timed as if it ended at once. */
static void note_copied(struct file *f, uint64_t size)
{
	uint64_t ns = clock_mono_ns() - f->opened_ns;
	uint64_t least = f->copied_ns +
		(uint64_t)((double)size / COPY_READ_BPS * (double)NSEC_PER_SEC);

	cold_note(&f->st->cold, f->layers, LOAD_COPY, size, ns > least ? ns : least);
}

static void note_whole_read(struct file *f)
{
	struct ctx *c = f->ctx;
	uint64_t size;
	bool whole, plain;

	gate_enter(&c->gate, false);
	size = c->size;
	plain = c->state == CTX_PLAIN;
	gate_leave(&c->gate, false);
	if (f->copied_ns) {
		note_copied(f, size);
		/* the copy makes way for the next one: what stays is the replica */
		move_after_read(c, f->node, true, size);
	}
	if (f->writes || plain || f->mode == SERVE_PASSTHROUGH)
		return;
	whole = atomic_load(&f->rs.total) >= size && size > 0;
	lock_acquire(&c->lock);
	if (whole)
		c->whole_reads++;
	lock_release(&c->lock);
	if (whole && f->from_ssd)
		cold_note(&c->st->cold, f->layers, LOAD_STREAM, size, clock_mono_ns() - f->opened_ns);
	note_bias(c->st, whole);
	if (atomic_load(&f->rs.total) > 0)
		move_after_read(c, f->node, whole, size);
}

void store_release(struct file *f)
{
	struct ctx *c = f->ctx;
	int backing_id = 0;
	bool last, unlinked, hidden, leaving;

	atomic_fetch_add(&c->st->uses, 1);
	trace_closed(f);
	settle_written(f);
	note_whole_read(f);
	lock_acquire(&c->lock);
	c->opens--;
	c->writers -= f->writes;
	if (passes(f)) {
		if (--c->passthrough == 0) {
			backing_id = c->backing_id;
			c->backing_id = 0;
		}
	} else {
		c->others--;
	}
	last = c->opens == 0;
	unlinked = c->unlinked;
	hidden = c->hidden;
	leaving = c->leaving; /* who takes the name away does the rest */
	c->closed_ns = clock_mono_ns();
	lock_release(&c->lock);
	if (last && !leaving)
		last_close(f, backing_id, unlinked, hidden);
	else if (backing_id > 0)
		f->st->k->backing_close(f->st->karg, backing_id);
	if (!unlinked && c->state != CTX_PLAIN) {
		index_heat(c);
		adapt_used(c);
	}
	file_free(f);
}

/* ---- durability ----------------------------------------------------------- */

int store_fsync(struct file *f, bool datasync)
{
	struct ctx *c = f->ctx;
	bool lost, shared;
	int r = 0;

	lock_acquire(&c->lock);
	lost = c->lost;
	shared = c->copy_shared;
	lock_release(&c->lock);
	if (lost)
		return -KVFS_ELOST;
	gate_enter(&c->gate, shared);
	if (c->fd >= 0 && c->fd_writable) {
		r = FAULT_POINT("fsync.before");
		if (r == 0 && shared)
			r = serving_write_back(c);
		if (r == 0)
			r = datasync ? io_fdatasync(c->fd) : io_fsync(c->fd);
	}
	gate_leave(&c->gate, shared);
	if (r < 0) {
		/* never believe a second try: see design section 2.5 */
		ctx_lose(c);
		log_error(f->st->log, "fsync of inode %llu failed: %s", (unsigned long long)c->ino,
			  err_text(r));
	}
	return r;
}
