/* SPDX-License-Identifier: MIT */
/*
 * Dropping tokens, in the order that sealing has:
 *   1 lease: nobody has the file open or mapped
 *   2 the shorter content is made beside it (thin_content.c)
 *   3 intents durable: the new object, and that the old one may go
 *   4 the new object and its directory durable, each chunk decoded and compared
 *   5 the switch: the record names the new object, and with valid_bytes the new size
 *   6 once that is durable the tree file is cut to that size and punched; then the
 *     old object goes
 * An open, a truncation or a removal between 1 and 5 makes it give up; so does any
 * failure, and leaves the file as it was. After 5 the new content counts: a record
 * that says SWITCHED with a size below the tree file's is finished by recovery or by
 * the next user, as a seal is. What was dropped is gone.
 *
 * Only for who asks: the level is set by the file's owner, whose readers must have said
 * that they understand gaps (user.kvcache.accept), and who must have granted quality 0,
 * since nothing predicts what missing tokens cost.
 */
#include "store/thin.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/io.h"
#include "base/mem.h"
#include "store/adapt.h"
#include "store/grant.h"
#include "store/level.h"
#include "store/record.h"
#include "store/seal.h"
#include "store/seal_enc.h"

#define ACCEPT "user.kvcache.accept"

struct thin {
	struct ctx *c;
	struct store *st;
	struct node *node;
	struct stat sb;        /* of the tree file */
	struct recognise file; /* the content as it is */
	struct layout *layout; /* of that */
	struct object *old;    /* one reference; NULL: plain */
	struct thin_content to;
	struct object_id id, old_id;
	struct layout_chunk *chunks;
	uint32_t n_chunks;
	struct seal_enc enc;
	struct object *fresh;
	uint64_t stored, reserved;
};

bool thin_is(const struct ctx *c)
{
	return c->rec.state != KVFS_RECORD_PLAIN && (c->rec.flags & KVFS_RECORD_DROPPED);
}

int thin_parse(const char *level, struct drop_params *ret)
{
	if (strncmp(level, "drop:", 5) != 0)
		return -EINVAL;
	return drop_parse(level + 5, ret);
}

/* ---- 1: the file to ourselves ---------------------------------------------- */

static int load(struct thin *s)
{
	struct ctx *c = s->c;
	int r = ctx_load_locked(c, s->node);

	if (r == 0)
		r = ctx_object_locked(c);
	if (r == 0 && !c->fd_writable)
		r = -EACCES;
	if (r == 0 && c->rec.state == KVFS_RECORD_SWITCHED)
		r = seal_punch_locked(c);
	if (r == 0)
		r = seal_copy_gone(c);
	if (r == 0 && fstat(c->fd, &s->sb) < 0)
		r = -errno;
	if (r == 0)
		r = seal_lease(c);
	if (r < 0)
		return r;
	s->file.size = (uint64_t)s->sb.st_size;
	if (c->obj) {
		s->old = object_get(c->obj);
		s->old_id = c->obj->id;
	}
	return 0;
}

static int claim(struct thin *s)
{
	struct ctx *c = s->c;
	int r;

	/* whoever holds it may be waiting for room, and for us to make some */
	if (!gate_try(&c->gate, true))
		return -EBUSY;
	lock_acquire(&c->lock);
	r = c->opens > 0 || c->sealing || c->working > 0 || c->unlinked || c->lost || c->copy_shared
		    ? -EBUSY
		    : 0;
	if (r == 0) {
		c->sealing = true;
		c->cancel = false;
	}
	lock_release(&c->lock);
	if (r == 0) {
		r = load(s);
		if (r < 0)
			seal_unclaim_locked(c);
	}
	gate_leave(&c->gate, true);
	return r;
}

/* True when the content is still the one it was: else whoever changed it has an intent of
 * his own for the old object. */
static bool unclaim(struct thin *s)
{
	struct ctx *c = s->c;
	bool same;

	gate_enter(&c->gate, true);
	same = c->obj == s->old;
	seal_unclaim_locked(c);
	gate_leave(&c->gate, true);
	return same;
}

/* ---- 2: may it be, and what is it ------------------------------------------ */

static int64_t read_now(struct recognise *f, void *buf, size_t len, uint64_t off)
{
	struct thin *s = container_of(f, struct thin, file);
	struct ctx *c = s->c;
	int r;

	if (off >= f->size)
		return 0;
	len = len < f->size - off ? len : (size_t)(f->size - off);
	if (seal_canceled(c))
		return -KVFS_ECANCELED;
	gate_enter(&c->gate, false);
	r = c->fd < 0 || c->obj != s->old ? -KVFS_ECANCELED : read_range(c, off, buf, len, f->size);
	gate_leave(&c->gate, false);
	return r < 0 ? r : (int64_t)len;
}

static bool accepted(struct thin *s)
{
	char v[16];
	ssize_t n = store_getxattr(s->st, s->node, ACCEPT, v, sizeof(v));

	return n == 4 && memcmp(v, "drop", 4) == 0;
}

static int check_grant(struct thin *s)
{
	int r;

	if (!accepted(s))
		return -KVFS_ENOACCEPT;
	r = grant_check(s->st, s->node, s->layout);
	if (r == 0 && grant_floor(s->st, s->node) > 0)
		r = -KVFS_EFLOOR;
	return r;
}

/* ---- 3, 4: the object ------------------------------------------------------ */

static int intents(struct thin *s)
{
	struct ctx *c = s->c;
	int r = 0;

	if (s->old) {
		s->id = s->old_id;
		s->id.generation++;
	} else {
		r = object_id_random(1, &s->id);
	}
	if (r < 0)
		return r;
	gate_enter(&c->gate, false);
	r = c->fd < 0 ? -KVFS_ECANCELED : trash_intent(c, INTENT_SEAL, &s->id);
	if (r == 0 && s->old)
		r = trash_intent(c, INTENT_UNSEAL, &s->old_id);
	gate_leave(&c->gate, false);
	return r < 0 ? r : FAULT_POINT("thin.intent");
}

static int encode(struct thin *s)
{
	int r = 0;

	for (uint32_t i = 0; i < s->n_chunks && r == 0; i++) {
		if (seal_canceled(s->c))
			return -KVFS_ECANCELED;
		workers_yield(s->st->workers);
		r = seal_enc_room(&s->enc, s->c->ino, &s->reserved);
		if (r == 0)
			r = io_pread_all(s->to.fd, s->enc.src, s->chunks[i].len_bytes,
					 s->chunks[i].off_bytes);
		if (r == 0)
			r = seal_enc_chunk(&s->enc, i, &s->chunks[i]);
		if (r == 0)
			r = FAULT_POINT("thin.chunk");
	}
	return r;
}

static int make_object(struct thin *s)
{
	struct object_plan plan = { .id = s->id,
				    .logical_bytes = s->to.size,
				    .tree_ino = s->c->ino,
				    .layout = s->to.layout };
	int r = layout_cut(s->to.layout, SEAL_CHUNK_TARGET, SEAL_CHUNK_MAX, &s->chunks,
			   &s->n_chunks);

	if (r == 0)
		r = seal_enc_init(&s->enc, s->st, s->c, !s->st->cfg.raw);
	if (r == 0)
		r = seal_enc_sample(&s->enc, s->to.layout, s->chunks, s->n_chunks);
	if (r < 0)
		return r;
	plan.chunks = s->chunks;
	plan.n_chunks = s->n_chunks;
	plan.n_layers = s->enc.layers;
	seal_enc_count(&s->enc, s->n_chunks * (sizeof(*s->chunks) +
					       s->enc.layers * OBJECT_WRITER_CHUNK_BYTES));
	r = object_writer_create(s->st->objects_fd, &plan, &s->enc.w);
	if (r == 0)
		r = encode(s);
	if (r < 0)
		return r;
	r = seal_enc_finish(&s->enc, &s->stored);
	if (r == 0)
		r = FAULT_POINT("thin.object");
	return r < 0 ? r : ctx_object_open(s->c, &s->id, &s->fresh);
}

/* ---- 5: the switch --------------------------------------------------------- */

/* The mtime stays that of who wrote it; the ctime becomes the tree file's. */
static void fill_record(const struct thin *s, const struct stat *sb, struct kvfs_record *ret)
{
	const struct kvfs_record *old = &s->c->rec;
	bool noted = old->state != KVFS_RECORD_PLAIN && (old->flags & KVFS_RECORD_MTIME);

	*ret = (struct kvfs_record){
		.version = KVFS_RECORD_VERSION,
		.state = KVFS_RECORD_SWITCHED,
		.levels = (uint8_t)s->fresh->n_layers_max,
		.flags = KVFS_RECORD_MTIME | KVFS_RECORD_DROPPED,
		.generation = s->id.generation,
		.mtime_sec = noted ? old->mtime_sec : sb->st_mtim.tv_sec,
		.mtime_nsec = noted ? old->mtime_nsec : (uint32_t)sb->st_mtim.tv_nsec,
		.valid_bytes = s->to.size,
		.stored_blocks = (uint32_t)((s->stored + STORE_BLOCK - 1) / STORE_BLOCK),
	};
	memcpy(ret->id, s->id.id, sizeof(ret->id));
}

/* What is in memory goes with the content that it is of. */
static void take_over(struct thin *s, const struct kvfs_record *rec)
{
	struct ctx *c = s->c;

	ctx_set_record(c, rec);
	if (s->old)
		reader_forget(s->st->reader, s->old);
	object_put(c->obj);
	c->obj = s->fresh;
	s->fresh = NULL;
	c->size = s->to.size;
	c->pages_stale = true; /* until finish() has had them dropped */
	c->punch_durable = c->overlay_begun = c->map_stale = false;
	level_sealed(c);
	node_set_content(s->node, NODE_SEALED);
	lock_acquire(&c->lock);
	c->state = CTX_SEALED;
	c->sealing = c->dirty = false;
	lock_release(&c->lock);
	space_drop_dram(c, true, true);
	ctx_account(c, &s->sb);
	adapt_seen(c, s->node); /* seal_finish() may be long in coming */
	seal_unlease(c);
}

static int switch_over(struct thin *s)
{
	struct ctx *c = s->c;
	struct kvfs_record rec;
	struct stat sb;
	int r = 0;

	gate_enter(&c->gate, true);
	if (seal_canceled(c) || c->fd < 0 || c->obj != s->old)
		r = -KVFS_ECANCELED;
	if (r == 0 && fcntl(c->fd, F_GETLEASE) != F_WRLCK)
		r = -EBUSY; /* broken, or no leases on this filesystem: never punch */
	if (r == 0 && (fstat(c->fd, &sb) < 0 || sb.st_nlink == 0 || sb.st_size != s->sb.st_size ||
		       sb.st_mtim.tv_sec != s->sb.st_mtim.tv_sec ||
		       sb.st_mtim.tv_nsec != s->sb.st_mtim.tv_nsec))
		r = -KVFS_ECANCELED;
	if (r == 0)
		r = check_grant(s); /* may have changed meanwhile */
	if (r == 0) {
		fill_record(s, &sb, &rec);
		r = FAULT_POINT("thin.before_switch");
	}
	if (r == 0)
		r = record_set(c->fd, s->st->xattr, &rec);
	if (r == 0) {
		take_over(s, &rec);
		err_ignore(FAULT_POINT("thin.switched")); /* done is done: only kills count */
	}
	gate_leave(&c->gate, true);
	return r;
}

/* ---- the whole ------------------------------------------------------------- */

static void failed(struct thin *s, int r, const char *why)
{
	char reason[THIN_WHY_MAX + 16];
	bool same = unclaim(s);

	if (s->id.generation && object_remove(s->st->objects_fd, &s->id) == 0)
		meta_intent_del(s->st->meta, &s->id);
	if (s->id.generation && s->old && same)
		meta_intent_del(s->st->meta, &s->old_id);
	if (r == -KVFS_ECANCELED || r == -EBUSY)
		return;
	snprintf(reason, sizeof(reason), "not dropped: %s", *why ? why : err_text(r));
	ctx_reason(s->c, reason);
	if (*why)
		log_info(s->st->log, "inode %llu keeps its tokens: %s",
			 (unsigned long long)s->c->ino, why);
}

static void fini(struct thin *s)
{
	seal_enc_fini(&s->enc);
	thin_content_fini(&s->to);
	space_release(s->st, s->reserved);
	object_put(s->old);
	object_put(s->fresh);
	layout_destroy(s->layout);
	mem_free(s->chunks);
}

static int run(struct thin *s, const struct drop_params *p, char *why)
{
	int r = recognise_layout(&s->file, &s->layout);

	if (r == 0)
		r = check_grant(s);
	if (r == 0)
		r = thin_content_make(&s->file, s->layout, p, &s->to, why);
	if (r == 0)
		r = intents(s);
	if (r == 0)
		r = make_object(s);
	return r < 0 ? r : switch_over(s);
}

/* 6; the new content counts already. */
static int finish(struct thin *s)
{
	struct store *st = s->st;
	int r = commit_barrier(st);

	if (r < 0)
		return r; /* recovery, or who loads it next, does the rest */
	seal_finish(s->c, s->node);
	if (s->old)
		trash_object_later(st, &s->old_id);
	if (st->k)
		st->k->inval_inode(st->karg, s->node, true);
	return 0;
}

static int run_once(struct ctx *c, struct node *n, const struct drop_params *p)
{
	struct thin s = { .c = c, .st = c->st, .node = n };
	char why[THIN_WHY_MAX] = "", text[DROP_TEXT_MAX];
	int r;

	s.file = (struct recognise){ .st = c->st, .node = n, .read = read_now };
	seal_enter(c->st);
	r = claim(&s);
	if (r == 0) {
		r = run(&s, p, why);
		if (r < 0)
			failed(&s, r, why);
		else
			r = finish(&s);
	}
	if (r == 0) {
		drop_format(p, text);
		snprintf(why, sizeof(why), "dropped %u of %u tokens by %s", s.to.cells - s.to.kept,
			 s.to.cells, text);
		ctx_reason(c, why);
		store_count(c->st, CNT_TOKENS_DROPPED, s.to.cells - s.to.kept);
	}
	fini(&s);
	seal_leave(c->st);
	return r;
}

int thin_run(struct ctx *c, struct node *n, const struct drop_params *p)
{
	int r = -EBUSY;

	for (int tries = 0; tries < 100; tries++) {
		struct timespec ts = { 0, 20 * 1000 * 1000 };

		r = run_once(c, n, p);
		if (r != -EBUSY && r != -KVFS_ECANCELED)
			break;
		nanosleep(&ts, NULL); /* a release may be on its way */
	}
	return r == -KVFS_ECANCELED ? -EBUSY : r;
}

/* ---- positions ------------------------------------------------------------- */

/* Under the gate. */
static int64_t read_held(struct recognise *f, void *buf, size_t len, uint64_t off)
{
	struct thin *s = container_of(f, struct thin, file);
	int r;

	if (off >= f->size)
		return 0;
	len = len < f->size - off ? len : (size_t)(f->size - off);
	r = read_range(s->c, off, buf, len, f->size);
	return r < 0 ? r : (int64_t)len;
}

static int positions(struct thin *s, struct sbuf *ret)
{
	struct ctx *c = s->c;
	int r = ctx_load_locked(c, s->node);

	if (r == 0)
		r = ctx_object_locked(c);
	if (r == 0 && fstat(c->fd, &s->sb) < 0)
		r = -errno;
	if (r < 0)
		return r;
	s->file.size = c->rec.state == KVFS_RECORD_PLAIN ? (uint64_t)s->sb.st_size : c->size;
	if (c->state == CTX_SEALED)
		return thin_positions(&s->file, c->obj->layout, ret);
	r = recognise_layout(&s->file, &s->layout);
	if (r == 0)
		r = thin_positions(&s->file, s->layout, ret);
	layout_destroy(s->layout);
	return r;
}

int store_positions(struct store *st, struct node *n, struct sbuf *ret)
{
	struct thin s = { .st = st, .node = n };
	int r;

	if (!S_ISREG(node_type(n)))
		return -ENODATA;
	s.file = (struct recognise){ .st = st, .node = n, .read = read_held };
	r = ctx_get(st, node_ino(n), true, &s.c);
	if (r < 0)
		return r;
	r = ctx_enter(s.c);
	if (r == 0) {
		r = positions(&s, ret);
		gate_leave(&s.c->gate, true);
	}
	ctx_idle(s.c);
	ctx_put(s.c);
	return r;
}
