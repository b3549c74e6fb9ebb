/* SPDX-License-Identifier: MIT */
/*
 * Sealing one file. The happy path:
 *   1 lease on the only descriptor: nobody has it open or mapped
 *   2 recognise the layout, cut into chunks
 *   3 intent durable
 *   4 encode chunk by chunk into a new object; each is decoded and compared
 *   5 object and its directory durable
 *   6 the switch: record says SWITCHED, memory says SEALED
 *   7 after a durable commit: punch the tree file, mtime back, record SEALED
 * An open between 1 and 6 cancels. Failure before 6 removes the object and
 * leaves the plain file as it was; after 6 the object counts, and recovery or
 * the next user finishes 7.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/io.h"
#include "base/mem.h"
#include "store/grant.h"
#include "store/level.h"
#include "store/recognise.h"
#include "store/record.h"
#include "store/adapt.h"
#include "store/seal.h"
#include "store/seal_enc.h"
#include "store/trace.h"

struct seal {
	struct ctx *c;
	struct store *st;
	struct node *node;   /* one reference */
	struct stat sb;
	struct recognise file;
	struct layout *layout;
	struct layout_chunk *chunks;
	uint32_t n_chunks;
	struct object_id id;
	struct seal_enc enc;
	struct object *obj;
	uint64_t stored;
	uint64_t reserved; /* of the SSD budget, for the object while it grows */
};

/* ---- 1: the file to ourselves --------------------------------------------- */

static int seal_claim(struct seal *s)
{
	struct ctx *c = s->c;
	int r;

	/* whoever holds it may be waiting for room, and for us to make some */
	if (!gate_try(&c->gate, true))
		return -EBUSY;
	lock_acquire(&c->lock);
	r = c->opens > 0 || c->sealing || c->unlinked || c->lost || c->copy_shared ? -EBUSY : 0;
	if (r == 0) {
		c->sealing = true;
		c->cancel = false;
	}
	lock_release(&c->lock);
	if (r < 0)
		goto out;
	r = ctx_load_locked(c, s->node);
	if (r == 0 && c->rec.state != KVFS_RECORD_PLAIN)
		r = -EALREADY;
	if (r == 0)
		r = seal_copy_gone(c);
	if (r == 0 && !c->fd_writable)
		r = -EACCES;
	if (r == 0 && fstat(c->fd, &s->sb) < 0)
		r = -errno;
	if (r == 0 && ((uint64_t)s->sb.st_size < SEAL_MIN_BYTES ||
		       (uint64_t)s->sb.st_size > SEAL_MAX_BYTES))
		r = -KVFS_ENOGAIN;
	if (r == 0)
		r = seal_lease(c);
	if (r < 0)
		seal_unclaim_locked(c);
out:
	gate_leave(&c->gate, true);
	return r;
}

static void seal_unclaim(struct ctx *c)
{
	gate_enter(&c->gate, true);
	seal_unclaim_locked(c);
	gate_leave(&c->gate, true);
}

/* ---- 2: layout ------------------------------------------------------------ */

static int64_t read_plain(struct recognise *r, void *buf, size_t len, uint64_t off)
{
	return io_pread(container_of(r, struct seal, file)->c->fd, buf, len, off);
}

static int seal_layout(struct seal *s)
{
	int r;

	s->file = (struct recognise) { .st = s->st, .node = s->node,
				       .size = (uint64_t)s->sb.st_size, .read = read_plain };
	r = recognise_layout(&s->file, &s->layout);
	if (r == 0)
		r = layout_cut(s->layout, SEAL_CHUNK_TARGET, SEAL_CHUNK_MAX, &s->chunks,
			       &s->n_chunks);
	return r;
}

/* ---- 3: intent ------------------------------------------------------------ */

void seal_intent_handle(int fd, struct intent *i)
{
	struct {
		struct file_handle h;
		unsigned char room[sizeof(i->handle)];
	} fh;
	char path[40];
	int mount_id;

	fh.h.handle_bytes = sizeof(i->handle);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (name_to_handle_at(AT_FDCWD, path, &fh.h, &mount_id, AT_SYMLINK_FOLLOW) < 0)
		return;
	i->handle_len = fh.h.handle_bytes;
	i->handle_type = fh.h.handle_type;
	memcpy(i->handle, fh.room, fh.h.handle_bytes);
}

static int seal_intent(struct seal *s)
{
	struct intent i = { .kind = INTENT_SEAL, .ino = s->c->ino };
	struct node *dir;
	int r = object_id_random(1, &s->id);

	if (r < 0)
		return r;
	i.generation = s->id.generation;
	memcpy(i.id, s->id.id, sizeof(i.id));
	if (!node_where(s->st->nodes, s->node, &dir, i.name))
		return -ESTALE;
	i.parent_ino = node_ino(dir);
	node_forget(s->st->nodes, dir, 1);
	seal_intent_handle(s->c->fd, &i);
	r = meta_intent_put(s->st->meta, &i);
	return r < 0 ? r : FAULT_POINT("seal.intent");
}

/* ---- 4: encoding ---------------------------------------------------------- */

static int seal_chunk(struct seal *s, uint32_t i)
{
	const struct layout_chunk *ch = &s->chunks[i];
	int r = io_pread_all(s->c->fd, s->enc.src, ch->len_bytes, ch->off_bytes);

	return r < 0 ? r : seal_enc_chunk(&s->enc, i, ch);
}

/* Room for the next chunk, in steps. */
static int seal_room(struct seal *s)
{
	uint64_t need = object_writer_bytes(s->enc.w) + s->enc.enc_bytes + STORE_BLOCK;
	uint64_t step = 8u << 20;
	int r;

	if (need <= s->reserved)
		return 0;
	r = space_reserve_seal(s->st, step, s->c->ino);
	if (r < 0) {
		step = need - s->reserved;
		r = space_reserve_seal(s->st, step, s->c->ino);
	}
	if (r == 0)
		s->reserved += step;
	return r;
}

static int seal_encode(struct seal *s)
{
	int r = 0;

	for (uint32_t i = 0; i < s->n_chunks && r == 0; i++) {
		/* a lease that breaks keeps its opener waiting: give way at once */
		if (seal_canceled(s->c) || fcntl(s->c->fd, F_GETLEASE) != F_WRLCK)
			return -KVFS_ECANCELED;
		workers_yield(s->st->workers);
		r = seal_room(s);
		if (r == 0)
			r = seal_chunk(s, i);
		if (r == 0)
			r = FAULT_POINT("seal.chunk");
		/* encoded bytes must pay: no use in finishing what grows */
		if (r == 0 && !s->st->cfg.raw &&
		    object_writer_bytes(s->enc.w) >= (uint64_t)s->sb.st_size)
			r = -KVFS_ENOGAIN;
	}
	return r;
}

/* ---- 5, 6: the object, the switch ----------------------------------------- */

static int seal_object(struct seal *s)
{
	struct object_plan plan = {
		.id = s->id, .logical_bytes = (uint64_t)s->sb.st_size, .tree_ino = s->c->ino,
		.layout = s->layout, .chunks = s->chunks, .n_chunks = s->n_chunks,
		.n_layers = s->enc.layers,
	};
	int r;

	seal_enc_count(&s->enc, s->n_chunks * (sizeof(*s->chunks) +
					       s->enc.layers * OBJECT_WRITER_CHUNK_BYTES));
	r = object_writer_create(s->st->objects_fd, &plan, &s->enc.w);
	if (r < 0)
		return r;
	r = seal_encode(s);
	if (r < 0)
		return r;
	r = seal_enc_finish(&s->enc, &s->stored);
	if (r == 0)
		r = FAULT_POINT("seal.object");
	if (r == 0 && !s->st->cfg.raw &&
	    s->stored / 512 + STORE_BLOCK / 512 > (uint64_t)s->sb.st_blocks)
		r = -KVFS_ENOGAIN;
	if (r == 0)
		r = ctx_object_open(s->c, &s->id, &s->obj);
	return r;
}

static void fill_record(const struct seal *s, const struct stat *sb, struct kvfs_record *rec)
{
	memset(rec, 0, sizeof(*rec));
	rec->version = KVFS_RECORD_VERSION;
	rec->state = KVFS_RECORD_SWITCHED;
	rec->levels = (uint8_t)s->obj->n_layers_max;
	rec->flags = KVFS_RECORD_CTIME | KVFS_RECORD_MTIME;
	rec->generation = s->id.generation;
	memcpy(rec->id, s->id.id, sizeof(rec->id));
	rec->mtime_sec = sb->st_mtim.tv_sec;
	rec->mtime_nsec = (uint32_t)sb->st_mtim.tv_nsec;
	rec->ctime_sec = sb->st_ctim.tv_sec;
	rec->ctime_nsec = (uint32_t)sb->st_ctim.tv_nsec;
	rec->valid_bytes = (uint64_t)s->sb.st_size;
	rec->stored_blocks = (uint32_t)((s->stored + STORE_BLOCK - 1) / STORE_BLOCK);
}

static int seal_switch(struct seal *s)
{
	struct ctx *c = s->c;
	struct kvfs_record rec;
	struct stat sb;
	int r = 0;

	gate_enter(&c->gate, true);
	lock_acquire(&c->lock);
	if (c->cancel || c->opens > 0 || c->unlinked)
		r = -KVFS_ECANCELED;
	lock_release(&c->lock);
	if (r == 0 && fcntl(c->fd, F_GETLEASE) != F_WRLCK)
		r = -EBUSY; /* broken, or no leases on this filesystem: never punch */
	/* no link left: removed by who looked for a context before this one was made */
	if (r == 0 && (fstat(c->fd, &sb) < 0 || sb.st_nlink == 0 || sb.st_size != s->sb.st_size ||
		       sb.st_mtim.tv_sec != s->sb.st_mtim.tv_sec ||
		       sb.st_mtim.tv_nsec != s->sb.st_mtim.tv_nsec))
		r = -KVFS_ECANCELED;
	if (r == 0) {
		fill_record(s, &sb, &rec);
		r = FAULT_POINT("seal.before_switch");
	}
	if (r == 0)
		r = record_set(c->fd, s->st->xattr, &rec);
	if (r == 0) {
		ctx_set_record(c, &rec);
		ctx_account(c, &sb);
		c->obj = s->obj;
		s->obj = NULL;
		c->size = (uint64_t)s->sb.st_size;
		c->punch_durable = c->overlay_begun = c->map_stale = false;
		level_sealed(c);
		node_set_content(s->node, NODE_SEALED);
		lock_acquire(&c->lock);
		c->sealing = false;
		c->dirty = false;
		c->rep = s->enc.rep;
		s->enc.rep = NULL;
		lock_release(&c->lock);
		seal_unlease(c);
	}
	gate_leave(&c->gate, true);
	if (r == 0)
		err_ignore(FAULT_POINT("seal.switched")); /* done is done: only kills count */
	return r;
}

/* ---- 7: the punch --------------------------------------------------------- */

int seal_punch_locked(struct ctx *c)
{
	struct timespec ts[2] = { { 0, UTIME_OMIT }, { 0, 0 } };
	struct kvfs_record rec = c->rec;
	struct stat sb;
	int r;

	r = commit_inode(c->st, c->fd);
	if (r < 0)
		return r;
	r = trash_cut(c->st, c->fd, &rec, &sb);
	if (r == 0)
		r = trash_punch(c->fd, (uint64_t)sb.st_size);
	if (r == 0)
		r = FAULT_POINT("seal.punched");
	if (r < 0)
		return r;
	ts[1].tv_sec = rec.mtime_sec;
	ts[1].tv_nsec = (long)rec.mtime_nsec;
	if (futimens(c->fd, ts) < 0)
		return -errno;
	rec.state = KVFS_RECORD_SEALED;
	rec.flags &= (uint8_t)~KVFS_RECORD_MTIME;
	r = record_set(c->fd, c->st->xattr, &rec);
	if (r < 0)
		return r;
	ctx_set_record(c, &rec);
	c->punch_durable = false;
	if (fstat(c->fd, &sb) == 0)
		ctx_account(c, &sb);
	return FAULT_POINT("seal.done");
}

void seal_finish(struct ctx *c, struct node *n)
{
	struct store *st = c->st;
	struct object_id id;
	struct stat sb;
	bool named;
	int r = 0;

	gate_enter(&c->gate, true);
	lock_acquire(&c->lock);
	named = !c->unlinked;
	lock_release(&c->lock);
	if (c->rec.state == KVFS_RECORD_SWITCHED && ctx_load_locked(c, n) == 0)
		r = seal_punch_locked(c);
	record_object(&c->rec, &id);
	if (r == 0 && c->rec.state == KVFS_RECORD_SEALED)
		meta_intent_del(st->meta, &id);
	if (c->fd >= 0 && named && fstat(c->fd, &sb) == 0) {
		attr_apply(&c->rec, &sb);
		index_put(st, n, c, &sb, c->rec.state != KVFS_RECORD_PLAIN);
		if (st->adapt && ctx_object_locked(c) == 0)
			adapt_sealed(c, n);
		if (st->trace && ctx_object_locked(c) == 0)
			trace_sealed(c, n);
	}
	gate_leave(&c->gate, true);
	if (r < 0)
		log_warn(st->log, "space of sealed inode %llu is freed later: %s",
			 (unsigned long long)c->ino, err_text(r));
	if (st->k)
		st->k->inval_inode(st->karg, n, false);
	ctx_touch(c, false);
	ctx_idle(c);
}

/* ---- the whole ------------------------------------------------------------ */

static void seal_fini(struct seal *s)
{
	seal_enc_fini(&s->enc);
	object_put(s->obj);
	layout_destroy(s->layout);
	mem_free(s->chunks);
}

static void seal_failed(struct seal *s, int r, bool intent)
{
	struct store *st = s->st;

	seal_unclaim(s->c);
	if (intent && object_remove(st->objects_fd, &s->id) == 0)
		meta_intent_del(st->meta, &s->id);
	if (r == -KVFS_ECANCELED || r == -EBUSY || r == -KVFS_EFULL) {
		if (r == -KVFS_EFULL)
			ctx_reason(s->c, "plain: no room to seal");
		store_count(st, CNT_SEAL_CANCELED, 1);
	} else if (r == -KVFS_ENOGAIN) {
		store_count(st, CNT_SEAL_NOGAIN, 1);
		ctx_reason(s->c, "plain: sealing gains nothing");
		lock_acquire(&s->c->lock);
		s->c->dirty = false;
		lock_release(&s->c->lock);
		index_flag(st, s->c->ino, META_PENDING, false); /* the next mount need not try */
	} else {
		store_count(st, CNT_SEAL_FAILED, 1);
		ctx_reason(s->c, err_text(r));
		log_warn(st->log, "inode %llu stays plain: sealing failed: %s",
			 (unsigned long long)s->c->ino, err_text(r));
	}
}

static int run(struct ctx *c, struct node *n, bool want_replica)
{
	struct seal s = { .c = c, .st = c->st, .node = n };
	bool intent = false;
	int r = seal_claim(&s);

	if (r < 0)
		return r;
	r = seal_layout(&s);
	if (r == 0)
		r = seal_enc_init(&s.enc, s.st, c,
				  !s.st->cfg.raw && grant_check(s.st, n, s.layout) == 0);
	if (r == 0)
		r = seal_enc_sample(&s.enc, s.layout, s.chunks, s.n_chunks);
	if (r == 0)
		s.enc.rep_layers = level_wanted(s.st, n, NULL, s.enc.layers);
	if (r == 0)
		r = seal_intent(&s);
	intent = r == 0;
	if (r == 0 && want_replica)
		seal_replica_begin(c, &s.enc.rep, &s.id, s.chunks, s.n_chunks);
	seal_enc_prefix(&s.enc, (uint64_t)s.sb.st_size);
	if (r == 0)
		r = seal_object(&s);
	if (r == 0)
		r = seal_switch(&s);
	space_release(s.st, s.reserved);
	if (r < 0) {
		seal_failed(&s, r, intent);
	} else {
		store_count(s.st, CNT_SEALED, 1);
		store_count(s.st, CNT_SEALED_BYTES, (uint64_t)s.sb.st_size);
		store_count(s.st, CNT_SEAL_STORED_BYTES, s.stored);
		ctx_reason(c, "sealed");
	}
	seal_fini(&s);
	return r;
}

int seal_run(struct ctx *c, struct node *n, bool want_replica)
{
	int r;

	seal_enter(c->st);
	r = run(c, n, want_replica);
	seal_leave(c->st);
	return r;
}
