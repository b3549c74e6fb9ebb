/* SPDX-License-Identifier: MIT */
/*
 * Objects that nobody refers to any more: removal after unlink, after unsealing,
 * and what recovery finds in trash/ and among the intents.
 *
 * Recovery at mount looks at trash/ and at the intents only. Each step can be
 * repeated, so a kill at any point is harmless:
 *   trash/INO with other names   the rename never happened: drop the entry
 *   trash/INO alone              remove its object, then the entry
 *   intent whose record points to the object: the switch happened; finish the
 *                                cut and punch (at once: the record says SWITCHED)
 *   intent of a cut whose record does: cut what the record no longer counts
 *   intent whose record does not: the object is an orphan; remove it
 *   intent or entry whose file is not found: orphan.c decides after a walk
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/units.h"
#include "store/record.h"
#include "store/seal.h"

void trash_name(uint64_t ino, char buf[24])
{
	snprintf(buf, 24, "%llu", (unsigned long long)ino);
}

int trash_intent(struct ctx *c, enum intent_kind kind, const struct object_id *id)
{
	struct intent i = { .kind = kind, .generation = id->generation, .ino = c->ino };
	struct meta_rec rec;

	memcpy(i.id, id->id, sizeof(i.id));
	if (meta_get(c->st->meta, c->ino, &rec) == 0) {
		i.parent_ino = rec.parent_ino;
		snprintf(i.name, sizeof(i.name), "%s", rec.name);
	}
	seal_intent_handle(c->fd, &i);
	return meta_intent_put(c->st->meta, &i);
}

static void remove_now(struct store *st, uint64_t ino, const struct object_id *id)
{
	char name[24];
	int r;

	trash_name(ino, name);
	r = FAULT_POINT("trash.before");
	if (r == 0)
		r = object_remove(st->objects_fd, id);
	if (r == 0)
		r = FAULT_POINT("trash.object");
	if (r == 0 && unlinkat(st->trash_fd, name, 0) < 0 && errno != ENOENT)
		r = -errno;
	if (r < 0)
		log_warn(st->log, "object of a removed file stays until the next mount: %s",
			 err_text(r));
}

/* Larger than any block of the filesystems below. */
#define PUNCH_ALIGN 65536u

int trash_punch(int fd, uint64_t size)
{
	if (size == 0)
		return 0;
	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
		      (off_t)round_up_u64(size, PUNCH_ALIGN)) < 0)
		return -errno;
	return 0;
}

int trash_cut(struct store *st, int fd, const struct kvfs_record *rec, struct stat *ret_sb)
{
	int r = 0;

	if (fstat(fd, ret_sb) < 0)
		return -errno;
	if (rec->valid_bytes >= (uint64_t)ret_sb->st_size)
		return 0;
	if (ftruncate(fd, (off_t)rec->valid_bytes) < 0)
		return -errno;
	r = commit_inode(st, fd); /* before the record says that it is done */
	if (r == 0 && fstat(fd, ret_sb) < 0)
		r = -errno;
	return r < 0 ? r : FAULT_POINT("thin.cut");
}

struct later {
	struct after after;
	struct object_id id;
	uint64_t ino; /* of what lies in trash/ */
};

static void remove_later(struct store *st, struct after *a, int result)
{
	struct later *l = container_of(a, struct later, after);

	if (result == 0)
		remove_now(st, l->ino, &l->id); /* else recovery does it */
	mem_free(l);
}

void trash_remove(struct store *st, uint64_t ino, const struct kvfs_record *rec)
{
	struct object_id id;
	struct later *l;

	record_object(rec, &id);
	if (st->ordered) {
		remove_now(st, ino, &id);
		return;
	}
	/* the name's going must be durable first, or it might come back without
	 * its content */
	l = mem_zalloc(sizeof(*l));
	if (!l)
		return; /* recovery finds it in trash/ */
	l->id = id;
	l->ino = ino;
	l->after.run = remove_later;
	commit_after(st, &l->after);
}

static void object_later(struct store *st, struct after *a, int result)
{
	struct later *l = container_of(a, struct later, after);
	int r = result < 0 ? result : object_remove(st->objects_fd, &l->id);

	if (r == 0)
		meta_intent_del(st->meta, &l->id);
	mem_free(l);
}

void trash_object_later(struct store *st, const struct object_id *id)
{
	struct later *l = mem_zalloc(sizeof(*l));

	if (!l)
		return; /* its intent brings recovery to it */
	l->id = *id;
	l->after.run = object_later;
	commit_after(st, &l->after);
}

/* ---- recovery ------------------------------------------------------------- */

static int recover_trash_entry(struct store *st, const char *name)
{
	struct kvfs_record rec;
	struct stat sb;
	int fd, r;

	fd = io_open_regular(st->trash_fd, name, O_RDONLY, 0);
	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	r = fstat(fd, &sb) < 0 ? -errno : 0;
	if (r == 0 && sb.st_nlink == 1 && record_get(fd, NULL, st->xattr, &rec) == 0 &&
	    rec.state != KVFS_RECORD_PLAIN) {
		struct object_id id;

		record_object(&rec, &id);
		if (sb.st_ino != strtoull(name, NULL, 10)) {
			/* copied from elsewhere, perhaps without its other links */
			io_close(&fd);
			return orphan_defer(st, &id, name);
		}
		r = object_remove(st->objects_fd, &id);
	}
	io_close(&fd);
	if (r == 0)
		r = FAULT_POINT("recover.trash");
	if (r == 0 && unlinkat(st->trash_fd, name, 0) < 0)
		r = -errno;
	if (r == 0)
		store_count(st, CNT_RECOVERED, 1);
	return r;
}

static int recover_trash(struct store *st)
{
	int fd = openat(st->trash_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;
	int r = 0;

	if (!d) {
		r = -errno;
		io_close(&fd);
		return r;
	}
	while (r == 0 && (errno = 0, e = readdir(d)))
		if (e->d_name[0] != '.')
			r = recover_trash_entry(st, e->d_name);
	if (r == 0 && !e)
		r = -errno;
	closedir(d);
	return r;
}

/* A descriptor of the inode that an intent speaks of: by its handle, else by
 * the path that the index has. -ENOENT when it is gone. */
static int intent_open(struct store *st, const struct intent *i)
{
	struct {
		struct file_handle h;
		unsigned char room[sizeof(i->handle)];
	} fh;
	struct meta_rec dir;
	char path[PATH_MAX], tail[PATH_MAX];
	uint64_t up = i->parent_ino;
	struct stat sb;
	int fd;

	if (!meta_same_tree(st->meta))
		return -ENOENT;
	if (i->handle_len && st->privileged) {
		fh.h.handle_bytes = i->handle_len;
		fh.h.handle_type = i->handle_type;
		memcpy(fh.room, i->handle, i->handle_len);
		fd = open_by_handle_at(st->tree_fd, &fh.h, O_RDWR | O_NONBLOCK | O_CLOEXEC);
		if (fd >= 0)
			return fd;
		if (errno == ESTALE)
			return -ENOENT;
		/* EPERM to root without CAP_DAC_READ_SEARCH, as in containers; and
		 * under load a kernel was seen to say ENOMEM with memory in plenty */
	}
	snprintf(path, sizeof(path), "%s", i->name);
	while (fstat(st->tree_fd, &sb) == 0 && up != sb.st_ino) {
		if (meta_get(st->meta, up, &dir) < 0 ||
		    (size_t)snprintf(tail, sizeof(tail), "%s/%s", dir.name, path) >= sizeof(tail))
			return -ESTALE;
		strcpy(path, tail);
		up = dir.parent_ino;
	}
	fd = io_open_beneath(st->tree_fd, path, O_RDWR | O_NONBLOCK);
	if (fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP || fd == -EINVAL)
		return -ESTALE;
	if (fd < 0)
		return fd;
	if (fstat(fd, &sb) < 0 || sb.st_ino != i->ino) {
		close(fd);
		return -ESTALE;
	}
	return fd;
}

/* Finishes a punch that the record says is pending. */
static int recover_punch(struct store *st, int fd, struct kvfs_record *rec)
{
	struct timespec ts[2] = { { 0, UTIME_OMIT },
				  { rec->mtime_sec, (long)rec->mtime_nsec } };
	struct stat sb;
	int r;

	r = commit_inode(st, fd);
	if (r < 0)
		return r;
	r = trash_cut(st, fd, rec, &sb);
	if (r == 0)
		r = trash_punch(fd, (uint64_t)sb.st_size);
	if (r < 0)
		return r;
	r = FAULT_POINT("recover.punched");
	if (r < 0)
		return r;
	if (futimens(fd, ts) < 0)
		return -errno;
	rec->state = KVFS_RECORD_SEALED;
	rec->flags &= (uint8_t)~KVFS_RECORD_MTIME;
	return record_set(fd, st->xattr, rec);
}

/* Layers that the record no longer counts: nobody has them in use now. */
static int recover_cut(struct store *st, int fd, struct kvfs_record *rec)
{
	struct object_id id;
	struct object *o;
	uint64_t bytes;
	int r;

	record_object(rec, &id);
	r = object_open(st->objects_fd, &id, NULL, &o);
	if (r < 0)
		return damage_is(r) || r == -ENOENT ? 0 : r; /* who reads it finds out */
	if (rec->levels < 1 || rec->levels > o->n_layers_present) {
		object_put(o);
		return 0;
	}
	bytes = o->level_bytes[rec->levels - 1];
	r = object_cut(st->objects_fd, o, rec->levels);
	object_put(o);
	if (r == 0)
		r = FAULT_POINT("recover.cut");
	if (r < 0)
		return r;
	rec->stored_blocks = (uint32_t)(bytes / STORE_BLOCK);
	return record_set(fd, st->xattr, rec);
}

static int recover_intent(void *arg, const struct intent *i)
{
	struct store *st = arg;
	struct object_id id;
	struct kvfs_record rec;
	struct stat sb;
	bool ours = false;
	int fd, r = 0;

	memcpy(id.id, i->id, sizeof(id.id));
	id.generation = i->generation;
	fd = intent_open(st, i);
	if (fd == -ESTALE || fd == -ENOENT) /* gone or moved, or a copy of a store */
		return orphan_defer(st, &id, NULL);
	if (fd < 0)
		return fd;
	if (fd >= 0) {
		r = record_get(fd, NULL, st->xattr, &rec);
		ours = r == 0 && rec.state != KVFS_RECORD_PLAIN &&
		       memcmp(rec.id, id.id, sizeof(id.id)) == 0 && rec.generation == id.generation;
		r = 0;
		if (ours && fstat(fd, &sb) == 0 && sb.st_size == 0) {
			/* cut to nothing, but the record did not follow */
			memset(&rec, 0, sizeof(rec));
			ours = false;
			r = record_set(fd, st->xattr, &rec);
		} else if (ours && rec.state == KVFS_RECORD_SWITCHED) {
			r = recover_punch(st, fd, &rec);
		}
		if (r == 0 && ours && i->kind == INTENT_CUT)
			r = commit_inode(st, fd) < 0 ? -EIO : recover_cut(st, fd, &rec);
		io_close(&fd);
	}
	if (r == 0 && !ours)
		r = object_remove(st->objects_fd, &id);
	if (r == 0)
		r = FAULT_POINT("recover.intent");
	if (r == 0) {
		meta_intent_del(st->meta, &id);
		store_count(st, CNT_RECOVERED, 1);
	}
	return r;
}

int recover_all(struct store *st, struct sbuf *why)
{
	int r = recover_trash(st);

	if (r == 0)
		r = meta_each_intent(st->meta, recover_intent, st);
	if (r < 0)
		sbuf_addf(why, "cannot finish what was in flight: %s; run fsck.kvcachefs",
			  err_text(r));
	if (st->orphans.n)
		st->clean = false; /* walk */
	return r;
}
