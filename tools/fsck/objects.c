/* SPDX-License-Identifier: MIT */
/*
 * The objects: those that nobody refers to, and with --verify all their bytes.
 *
 * An orphan whose header names the inode of a file that lost its record, with the
 * same length, gives that file its record back. Other orphans are what interrupted
 * seals and removals left; they are removed unless some file's record is still
 * missing, because then one of them may be the only copy of its content.
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
#include "base/mem.h"
#include "base/units.h"
#include "codecs/codec.h"
#include "fsck.h"
#include "store/object_format.h"
#include "store/record.h"

#define VERIFY_BYTES (8u << 20)

static int each_in_dir(struct fsck *f, int fd, const char *dir, bool report,
		       int (*cb)(struct fsck *f, const struct object_id *id, void *arg), void *arg)
{
	DIR *d = fdopendir(fd);
	struct object_id id;
	struct dirent *e;
	int err = 0;

	if (!d) {
		err = -errno;
		io_close(&fd);
		return err;
	}
	while (!err && !fsck_cancelled() && (e = readdir(d)) != NULL) {
		char path[300], want[OBJECT_NAME_MAX];

		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
		if (object_name_parse(e->d_name, &id) == 0) {
			object_name(&id, want);
			if (!strcmp(want, path)) {
				err = cb(f, &id, arg);
				continue;
			}
		}
		if (report)
			fsck_problem(f, false, path, "not an object of this store; move it away");
	}
	closedir(d);
	return err;
}

/* Calls @cb for each well-formed name of objects/; -code of @cb stops. */
static int each_object(struct fsck *f, bool report,
		       int (*cb)(struct fsck *f, const struct object_id *id, void *arg), void *arg)
{
	int err = 0;

	for (unsigned i = 0; i < 256 && !err && !fsck_cancelled(); i++) {
		char dir[3];
		int fd;

		snprintf(dir, sizeof(dir), "%02x", i);
		fd = openat(f->objects_fd, dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (fd >= 0)
			err = each_in_dir(f, fd, dir, report, cb, arg);
		else if (errno != ENOENT)
			fsck_problem(f, false, dir, "%s", strerror(errno));
	}
	return err;
}

/* ---- orphans and lost records --------------------------------------------- */

/* Writes the record that leads to @o. */
static int restore(struct fsck *f, const struct lost *l, const struct object *o)
{
	struct kvfs_record rec = {
		.state = KVFS_RECORD_SEALED,
		.flags = KVFS_RECORD_OVERLAY, /* data in this very inode are a client's */
		.levels = (uint8_t)o->n_layers_present,
		.generation = o->id.generation,
		.valid_bytes = o->logical_bytes,
		.stored_blocks = (uint32_t)(o->level_bytes[o->n_layers_present - 1] / 4096),
	};
	struct stat st;
	int err, fd = io_open_regular(AT_FDCWD, l->path, O_RDONLY, 0);

	if (fd < 0)
		return fd;
	memcpy(rec.id, o->id.id, sizeof(rec.id));
	err = fstat(fd, &st) < 0 ? -errno : 0;
	if (!err && st.st_ino != l->ino)
		err = -ENOENT;
	if (!err)
		err = record_set(fd, f->xattr, &rec);
	if (!err)
		err = io_fsync(fd);
	io_close(&fd);
	return err;
}

static struct lost *lost_of(struct fsck *f, const struct object *o)
{
	for (size_t i = 0; i < f->n_lost; i++)
		if (!f->lost[i].found && f->lost[i].ino == o->tree_ino &&
		    f->lost[i].size == o->logical_bytes)
			return &f->lost[i];
	return NULL;
}

/* First round: whose object is this? */
static int match_one(struct fsck *f, const struct object_id *id, void *arg)
{
	struct object *o;
	struct lost *l;
	int err;

	(void)arg;
	f->objects++;
	if (!f->n_lost || refs_has(&f->refs, id))
		return 0;
	err = object_open(f->objects_fd, id, NULL, &o);
	if (err)
		return err == -ENOMEM ? err : 0; /* the second round speaks of it */
	l = lost_of(f, o);
	if (l) {
		err = f->repair ? restore(f, l, o) : 0;
		fsck_problem(f, f->repair && !err, l->path,
			     "record is missing or damaged; its object was found%s%s%s",
			     f->repair ? "" : ", --repair puts the record back", err ? ": " : "",
			     err ? err_text(err) : "");
		l->found = true;
		(void)refs_add(&f->refs, id, l->ino, &err);
	}
	object_put(o);
	return err == -ENOMEM ? err : 0;
}

static int orphan_one(struct fsck *f, const struct object_id *id, void *arg)
{
	const bool *keep = arg;
	char name[OBJECT_NAME_MAX], path[OBJECT_NAME_MAX + 16];
	struct object *o;
	int err;

	if (refs_has(&f->refs, id))
		return 0;
	object_name(id, name);
	snprintf(path, sizeof(path), "objects/%s", name);
	err = object_open(f->objects_fd, id, NULL, &o);
	if (!err)
		object_put(o);
	/* One that was never finished has no header: nobody's content. */
	if (*keep && err != -KVFS_EMAGIC && err != -KVFS_ETRUNCATED) {
		fsck_problem(f, false, path, "belongs to no file; kept, it may be the content of a "
			     "file without a record");
		return 0;
	}
	if (err == -KVFS_EVERSION) {
		fsck_problem(f, false, path, "of a newer version; left alone");
		return 0;
	}
	err = f->repair ? object_remove(f->objects_fd, id) : 0;
	fsck_problem(f, f->repair && !err, path, "belongs to no file%s%s%s",
		     f->repair ? "" : ", --repair removes it", err ? ": " : "",
		     err ? err_text(err) : "");
	return 0;
}

int fsck_objects(struct fsck *f)
{
	bool keep = false;
	int err = each_object(f, true, match_one, NULL);

	for (size_t i = 0; i < f->n_lost; i++) {
		if (f->lost[i].found)
			continue;
		keep = true;
		fsck_problem(f, false, f->lost[i].path, "record is missing or damaged and no object "
			     "says that it belongs to inode %llu; restore the file with its xattrs, "
			     "or remove it", (unsigned long long)f->lost[i].ino);
	}
	if (err || fsck_cancelled())
		return err;
	return each_object(f, false, orphan_one, &keep);
}

/* ---- --verify -------------------------------------------------------------- */

struct verify {
	uint8_t *buf;   /* VERIFY_BYTES, page-aligned */
	struct bar bar;
	uint64_t total;
};

static int sum_size(struct fsck *f, const struct object_id *id, void *arg)
{
	struct verify *v = arg;
	char name[OBJECT_NAME_MAX];
	struct stat st;

	object_name(id, name);
	if (fstatat(f->objects_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		v->total += (uint64_t)st.st_size;
	return 0;
}

static int verify_layer(struct verify *v, const struct object *o, uint32_t chunk, unsigned layer)
{
	const struct object_layer *l = &o->layers[o->chunks[chunk].first_layer + layer];
	uint64_t from = round_down_u64(l->off_bytes, KVFS_PAGE);
	uint64_t end = round_up_u64(l->off_bytes + l->len_bytes, KVFS_PAGE);
	ssize_t n;
	int err = FAULT_POINT("fsck.verify");

	if (err || l->codec == CODEC_HOLE)
		return err;
	n = io_pread(o->fd, v->buf, (size_t)(end - from), from); /* < OBJECT_STORED_MAX + 8 KiB */
	bar_add(&v->bar, end - from);
	if (n < 0)
		return (int)n;
	if ((uint64_t)n < l->off_bytes - from + l->len_bytes)
		return -KVFS_ETRUNCATED;
	return object_check(o, chunk, layer, v->buf + (l->off_bytes - from), l->len_bytes);
}

static int verify_one(struct fsck *f, const struct object_id *id, void *arg)
{
	struct verify *v = arg;
	char name[OBJECT_NAME_MAX], path[OBJECT_NAME_MAX + 16];
	uint32_t bad = 0, first = 0;
	struct object *o;
	int err, why = 0;

	if (!refs_has(&f->refs, id))
		return 0;
	err = object_open(f->objects_fd, id, NULL, &o);
	if (err)
		return err == -ENOMEM ? err : 0; /* the tree pass spoke of it */
	for (uint32_t c = 0; c < o->n_chunks && !fsck_cancelled(); c++) {
		for (unsigned l = 0; l < o->chunks[c].n_layers && l < o->n_layers_present; l++) {
			err = verify_layer(v, o, c, l);
			if (!err)
				continue;
			first = bad++ ? first : c;
			why = err;
			break;
		}
	}
	if (bad) {
		object_name(id, name);
		snprintf(path, sizeof(path), "objects/%s", name);
		bar_clear(&v->bar);
		fsck_problem(f, false, path, "%u of %u chunks damaged (%s), the first at byte %llu of the "
			     "file with inode %llu; restore that file or remove it",
			     bad, o->n_chunks, err_text(why),
			     (unsigned long long)o->chunks[first].off_bytes,
			     (unsigned long long)o->tree_ino);
	}
	object_put(o);
	return 0;
}

int fsck_verify(struct fsck *f)
{
	struct verify v = { .buf = mem_alloc_pages(VERIFY_BYTES) };
	int err;

	if (!v.buf)
		return -ENOMEM;
	err = each_object(f, false, sum_size, &v);
	bar_begin(&v.bar, "verifying", v.total, true, f->quiet);
	if (!err)
		err = each_object(f, false, verify_one, &v);
	bar_clear(&v.bar);
	mem_free_pages(v.buf, VERIFY_BYTES);
	return err;
}
