/* SPDX-License-Identifier: MIT */
/*
 * What happens when stored content turns out not to be what was written.
 *
 * damage=eio: the read fails, the file stays listed, is marked, counted and
 * logged once. damage=hide: besides, its name moves to STORE/damaged/INO.NAME and
 * its object to STORE/damaged/ID.G, so that an engine finds nothing and computes
 * it again; nothing is deleted. The tree file goes first: a crash between
 * the two is finished by damage_scan at the next mount, which finds the object
 * through the record. Whoever has the file open keeps it, and its errors.
 *
 * Only codes that say "these are not the bytes" count. An errno of the device
 * (EIO, ENOMEM, EMFILE) and a newer version never mark or hide anything.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/io.h"
#include "store/record.h"
#include "store/store_types.h"

bool damage_is(int code)
{
	return code == -KVFS_ECHECKSUM || code == -KVFS_ECODEC || code == -KVFS_ETRUNCATED ||
	       code == -KVFS_EDAMAGED || code == -KVFS_EIDENTITY || code == -KVFS_EMAGIC ||
	       code == -KVFS_EFORMAT;
}

bool damage_record_lost(const struct stat *sb)
{
	return sb->st_size > 0 && ((uint64_t)sb->st_size >= SEAL_MIN_BYTES || sb->st_blocks == 0);
}

int damage_note(struct ctx *c, int code)
{
	struct store *st = c->st;
	struct meta_rec rec;
	bool first;

	if (!damage_is(code))
		return code;
	lock_acquire(&c->lock);
	first = !c->damaged;
	c->damaged = true;
	lock_release(&c->lock);
	store_count(st, CNT_DAMAGE, 1);
	/* the index remembers what was said before this context was made */
	if (first && (meta_get(st->meta, c->ino, &rec) < 0 || !(rec.flags & META_DAMAGED))) {
		log_error(st->log,
			  "inode %llu is damaged (%s): reads fail; restore or remove the file",
			  (unsigned long long)c->ino, err_text(code));
		index_flag(st, c->ino, META_DAMAGED, true);
	}
	return code == -KVFS_EMAGIC || code == -KVFS_EFORMAT ? -KVFS_EDAMAGED : code;
}

/* ---- hiding --------------------------------------------------------------- */

/* objects/xx/ID.G -> damaged/ID.G; absent is fine. */
static int move_object(struct store *st, const struct kvfs_record *rec)
{
	struct object_id id;
	char name[OBJECT_NAME_MAX];

	if (rec->state == KVFS_RECORD_PLAIN)
		return 0;
	record_object(rec, &id);
	object_name(&id, name);
	if (renameat(st->objects_fd, name, st->damaged_fd, strchr(name, '/') + 1) < 0 &&
	    errno != ENOENT)
		return -errno;
	return 0;
}

/* Moves the name to damaged/INO.NAME, never over something. */
static int move_name(struct store *st, const struct at *at, uint64_t ino)
{
	char to[NAME_MAX + 1];

	for (unsigned i = 0; i < 100; i++) {
		char head[40];

		snprintf(head, sizeof(head), i ? "%llu.%u" : "%llu", (unsigned long long)ino, i);
		snprintf(to, sizeof(to), "%s.%.*s", head, (int)(NAME_MAX - 1 - strlen(head)),
			 at->name);
		if (renameat2(at->dirfd, at->name, st->damaged_fd, to, RENAME_NOREPLACE) == 0)
			return 0;
		if (errno != EEXIST)
			return -errno;
	}
	return -EEXIST;
}

/* What it occupies: by its context, and as it counts from now on. */
struct held {
	uint64_t accounted, beside;
};

/* From here on nobody seals or changes it; false when that was so already. Gate
 * exclusive, until the name is gone: who comes meanwhile waits. */
static bool hold(struct ctx *c, struct held *h)
{
	struct meta_rec rec;

	if (!ctx_leave_begin(c))
		return false;
	lock_acquire(&c->lock);
	c->hidden = true;
	h->accounted = c->accounted;
	c->accounted = 0; /* still occupied: stays in the sum, see damage_scan */
	lock_release(&c->lock);
	h->beside = h->accounted;
	if (!c->loaded && meta_get(c->st->meta, c->ino, &rec) == 0)
		h->beside = rec.stored_bytes;
	atomic_fetch_add(&c->st->ssd_beside, h->beside);
	return true;
}

static void unhold(struct ctx *c, const struct held *h)
{
	lock_acquire(&c->lock);
	c->accounted = h->accounted;
	lock_release(&c->lock);
	atomic_fetch_sub(&c->st->ssd_beside, h->beside);
}

static int hide_at(struct store *st, struct node *n, const struct at *at, struct ctx *c)
{
	struct kvfs_record rec = { 0 };
	struct stat sb;
	int fd, r;

	fd = openat(at->dirfd, at->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	r = fstat(fd, &sb) < 0 ? -errno : sb.st_ino != c->ino ? -ESTALE : 0;
	if (r == 0) {
		char path[NODE_PATH_MAX];

		node_at_path(at, path);
		if (record_get(-1, path, st->xattr, &rec) < 0)
			memset(&rec, 0, sizeof(rec)); /* its object cannot be found through it */
		r = FAULT_POINT("damage.before");
	}
	if (r == 0)
		r = move_name(st, at, c->ino);
	if (r < 0) {
		io_close(&fd);
		return r;
	}
	node_orphan(st->nodes, n, fd);
	index_del(st, c->ino);
	r = FAULT_POINT("damage.moved");
	if (r == 0)
		r = move_object(st, &rec);
	if (r < 0)
		log_warn(st->log, "object of damaged inode %llu stays in objects/: %s",
			 (unsigned long long)c->ino, err_text(r));
	return 0;
}

/* Gate exclusive. 0, or -code and all is as it was; ret_idle: nobody has it open. */
static int hide_held(struct ctx *c, struct node *n, struct node *dir, const char *name,
		     bool *ret_idle)
{
	struct store *st = c->st;
	struct held held;
	struct at at;
	int r;

	if (!hold(c, &held))
		return -EALREADY;
	r = node_at_child(st->nodes, dir, name, &at);
	if (r == 0) {
		gate_enter(&st->names, true);
		r = hide_at(st, n, &at, c);
		gate_leave(&st->names, true);
		node_at_put(st->nodes, &at);
	}
	if (r < 0)
		unhold(c, &held);
	*ret_idle = ctx_leave_end(c, r == 0);
	if (r == 0 && *ret_idle)
		ctx_gone_locked(c);
	return r;
}

static void hidden(struct store *st, struct ctx *c, struct node *dir, const char *name)
{
	store_count(st, CNT_HIDDEN, 1);
	log_warn(st->log, "damaged file %s (inode %llu) moved to damaged/", name,
		 (unsigned long long)c->ino);
	if (st->k)
		st->k->inval_entry(st->karg, dir, name);
}

bool damage_hide(struct ctx *c, struct node *n)
{
	struct store *st = c->st;
	char name[NAME_MAX + 1];
	struct node *dir;
	bool idle = false;
	int r = -EALREADY;

	if (st->cfg.damage != DAMAGE_HIDE || st->read_only ||
	    !node_where(st->nodes, n, &dir, name))
		return false;
	if (dir != node_trash(st->nodes)) {
		gate_enter(&c->gate, true);
		r = hide_held(c, n, dir, name, &idle);
		gate_leave(&c->gate, true);
	}
	if (r == 0)
		hidden(st, c, dir, name);
	else if (r != -EALREADY)
		log_error(st->log, "damaged file %s cannot be moved to damaged/: %s", name,
			  err_text(r));
	if (r < 0 && idle)
		ctx_idle(c);
	node_forget(st->nodes, dir, 1);
	return r == 0;
}

int damage_found(struct ctx *c, struct node *n, int code)
{
	if (!damage_is(code))
		return code;
	code = damage_note(c, code);
	damage_hide(c, n);
	return code;
}

bool damage_hide_name(struct store *st, struct node *n, const struct stat *sb)
{
	struct kvfs_record rec;
	struct ctx *c;
	bool hidden;
	int fd, r;

	if (st->cfg.damage != DAMAGE_HIDE || !S_ISREG(sb->st_mode) || sb->st_size == 0 ||
	    node_content(n) != NODE_UNKNOWN)
		return false;
	fd = node_openfd(st->nodes, n, O_RDONLY | O_NONBLOCK);
	if (fd < 0)
		return false;
	r = record_get(fd, NULL, st->xattr, &rec);
	io_close(&fd);
	if (r == -ENODATA)
		r = damage_record_lost(sb) ? -KVFS_EDAMAGED : 0;
	if (!damage_is(r) || ctx_get(st, node_ino(n), true, &c) < 0)
		return false;
	err_ignore(damage_note(c, r)); /* counted and logged there */
	hidden = damage_hide(c, n);
	ctx_put(c);
	return hidden;
}

/* ---- at mount ------------------------------------------------------------- */

static uint64_t scan_one(struct store *st, const char *name)
{
	struct kvfs_record rec;
	struct stat sb;
	int fd = io_open_regular(st->damaged_fd, name, O_RDONLY, 0);

	if (fd < 0)
		return 0;
	if (fstat(fd, &sb) < 0)
		sb.st_blocks = 0;
	/* an object has no record; a second link may still be in use */
	if (!st->read_only && sb.st_nlink == 1 && record_get(fd, NULL, st->xattr, &rec) == 0)
		err_ignore(move_object(st, &rec)); /* the next mount tries again */
	io_close(&fd);
	return (uint64_t)sb.st_blocks * 512;
}

uint64_t damage_scan(struct store *st)
{
	int fd = openat(st->damaged_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	uint64_t bytes = 0;
	struct dirent *e;

	if (!d) {
		io_close(&fd);
		return 0;
	}
	while ((e = readdir(d)))
		if (e->d_name[0] != '.')
			bytes += scan_one(st, e->d_name);
	closedir(d);
	return bytes;
}
