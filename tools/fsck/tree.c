/* SPDX-License-Identifier: MIT */
/*
 * The names: every regular file's record, and the object that it refers to.
 *
 * A record in state SWITCHED is no damage: its seal was cut off before the punch,
 * and a mount or --repair finishes it. While the plain data is still whole such
 * a file survives a bad object too. A record that is gone or unreadable is
 * settled in the objects pass, where its object may turn up.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/mem.h"
#include "base/units.h"
#include "codecs/codec.h"
#include "fsck.h"
#include "store/object_format.h"
#include "store/record.h"
#include "store/standin.h"

#define PUNCH_ALIGN 65536u

/* A file of tree/ under examination. */
struct file {
	const char *open_path; /* from the working directory */
	const char *path;      /* for people */
	int fd;
	struct stat st;
	struct kvfs_record rec;
};

static void id_of(const struct kvfs_record *rec, struct object_id *ret)
{
	memcpy(ret->id, rec->id, sizeof(ret->id));
	ret->generation = rec->generation;
}

/* No holes: every byte is in the file itself. */
static bool whole(const struct stat *st)
{
	return (uint64_t)st->st_blocks * 512 >= (uint64_t)st->st_size;
}

/* ---- --list --------------------------------------------------------------- */

static void list_one(const struct file *x, const char *state, const struct object *o)
{
	double logical = (double)x->st.st_size;
	double stored = (o ? (double)o->level_bytes[o->n_layers_present - 1] : 0) +
			(double)x->st.st_blocks * 512;
	struct sbuf b = SBUF_INIT;

	if (o)
		layout_dump(o->layout, &b);
	printf("%-8s %u  %14.0f %14.0f  %5.2f  %s  %s\n", state, o ? o->n_layers_present : 0, stored,
	       logical, stored > 0 ? logical / stored : 0, b.len ? b.s : "-", x->path);
	sbuf_fini(&b);
}

/* ---- records -------------------------------------------------------------- */

static int write_record(struct file *x, const struct fsck *f, const struct kvfs_record *rec)
{
	int err = record_set(x->fd, f->xattr, rec);

	return err ? err : io_fsync(x->fd);
}

static int punch_all(int fd, uint64_t size)
{
	if (size && fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
			      (off_t)round_up_u64(size, PUNCH_ALIGN)) < 0)
		return -errno;
	return 0;
}

/* Cuts to the size of the object's content, punches the data out and puts the mtime
 * back, as sealing would have. */
static int finish_punch(struct file *x, const struct fsck *f)
{
	struct timespec ts[2] = { { 0, UTIME_OMIT },
				  { x->rec.mtime_sec, (long)x->rec.mtime_nsec } };
	int fd = io_open_regular(AT_FDCWD, x->open_path, O_RDWR, 0);
	int err = fd < 0 ? fd : 0;

	/* dropped tokens: shorter than what was sealed */
	if (!err && x->rec.valid_bytes < (uint64_t)x->st.st_size) {
		x->st.st_size = (off_t)x->rec.valid_bytes;
		if (ftruncate(fd, x->st.st_size) < 0)
			err = -errno;
	}
	if (!err)
		err = punch_all(fd, (uint64_t)x->st.st_size);
	if (!err && futimens(fd, ts) < 0)
		err = -errno;
	io_close(&fd);
	if (err)
		return err;
	x->rec.state = KVFS_RECORD_SEALED;
	x->rec.flags &= (uint8_t)~KVFS_RECORD_MTIME;
	return write_record(x, f, &x->rec);
}

static void pending(struct fsck *f, struct file *x)
{
	int err;

	if (!f->repair) {
		fsck_note(f, x->path, "sealing was interrupted; the next mount finishes it");
		return;
	}
	err = finish_punch(x, f);
	if (err)
		fsck_problem(f, false, x->path, "sealing was interrupted and cannot be finished: %s",
			     err_text(err));
	else
		fsck_problem(f, true, x->path, "sealing was interrupted");
}

/* Layers that the record does not count any more: nobody reads them. */
static void not_cut(struct fsck *f, struct file *x, const struct object *o)
{
	struct kvfs_record rec = x->rec;
	int err;

	if (!f->repair) {
		fsck_note(f, x->path, "dropping layers was interrupted; the next mount finishes it");
		return;
	}
	rec.stored_blocks = (uint32_t)(o->level_bytes[rec.levels - 1] / 4096);
	err = object_cut(f->objects_fd, o, rec.levels);
	if (!err)
		err = write_record(x, f, &rec);
	fsck_problem(f, !err, x->path, "dropping layers was interrupted%s%s", err ? ": " : "",
		     err ? err_text(err) : "");
}

/* The object is bad. Content that is still in the file itself wins. */
static void bad_object(struct fsck *f, struct file *x, const struct object_id *id, int err)
{
	const struct kvfs_record plain = { .state = KVFS_RECORD_PLAIN };
	char name[OBJECT_NAME_MAX];

	object_name(id, name);
	if (x->rec.state == KVFS_RECORD_SWITCHED && whole(&x->st)) {
		bool fixed = f->repair && write_record(x, f, &plain) == 0;

		fsck_problem(f, fixed, x->path, "object %s: %s; the file still holds its content%s",
			     name, err_text(err), f->repair ? "" : ", --repair makes it plain again");
		return;
	}
	fsck_problem(f, false, x->path, "object %s: %s; restore the file or remove it", name,
		     err == -ENOENT ? "is missing" : err_text(err));
}

/* Data in the file itself while its content is in an object. */
static int check_standin(struct fsck *f, struct file *x)
{
	int fd, err, r = standin_settle(x->fd, false);

	if (r == 0)
		r = standin_examine(x->fd, &x->st, &x->rec);
	if (r == STANDIN_UNKNOWN) {
		fsck_problem(f, false, x->path, "was written to after it was sealed, and copied "
			     "without its holes; restore the file from a copy that has them, or "
			     "remove it");
		return 0;
	}
	if (r != STANDIN_FOREIGN)
		return r;
	fd = f->repair ? io_open_regular(AT_FDCWD, x->open_path, O_RDWR, 0) : -1;
	err = fd < 0 ? fd : punch_all(fd, (uint64_t)x->st.st_size);
	if (!err)
		err = io_fsync(fd);
	io_close(&fd);
	fsck_problem(f, f->repair && !err, x->path, "was copied without its holes; its content is in "
		     "an object%s%s%s", f->repair ? "" : ", --repair makes the holes again",
		     f->repair && err ? ": " : "", f->repair && err ? err_text(err) : "");
	return STANDIN_EMPTY;
}

static int check_sealed(struct fsck *f, struct file *x)
{
	struct object_id id;
	struct object *o;
	uint64_t other;
	int err, standin;

	id_of(&x->rec, &id);
	other = refs_add(&f->refs, &id, x->st.st_ino, &err);
	if (err)
		return err;
	if (other == x->st.st_ino)
		return 0; /* another name of the same file */
	if (other) {
		fsck_problem(f, false, x->path, "refers to the object of inode %llu; copy the "
			     "content of one of them away and remove it", (unsigned long long)other);
		return 0;
	}
	f->sealed++;
	standin = x->rec.state == KVFS_RECORD_SEALED ? check_standin(f, x) : STANDIN_EMPTY;
	if (standin < 0)
		return standin;
	err = object_open(f->objects_fd, &id, NULL, &o);
	if (err == -ENOMEM)
		return err;
	if (!err && (x->rec.levels < 1 || x->rec.levels > o->n_layers_present)) {
		object_put(o);
		err = -KVFS_ETRUNCATED;
	}
	if (err) {
		bad_object(f, x, &id, err);
		return 0;
	}
	f->stored_bytes += o->level_bytes[o->n_layers_present - 1];
	if (f->list)
		list_one(x, standin == STANDIN_OVERLAY ? "overlay" : "sealed", o);
	if (x->rec.state == KVFS_RECORD_SWITCHED)
		pending(f, x);
	if (o->n_layers_present > x->rec.levels)
		not_cut(f, x, o);
	object_put(o);
	return 0;
}

/* Other names of an inode are found with the first. */
static int add_lost(struct fsck *f, const struct file *x)
{
	for (size_t i = 0; x->st.st_nlink > 1 && i < f->n_lost; i++)
		if (f->lost[i].ino == x->st.st_ino)
			return 0;
	if (f->n_lost == f->cap_lost) {
		size_t cap = f->cap_lost ? f->cap_lost * 2 : 16;
		struct lost *p = mem_realloc(f->lost, cap * sizeof(*p));

		if (!p)
			return -ENOMEM;
		f->lost = p;
		f->cap_lost = cap;
	}
	f->lost[f->n_lost] = (struct lost) { .ino = x->st.st_ino, .size = (uint64_t)x->st.st_size,
					     .path = mem_strdup(x->path) };
	return f->lost[f->n_lost++].path ? 0 : -ENOMEM;
}

/* Nothing but zeros: what a copy without attributes and without holes makes of a
 * sealed file. Ends with the first other byte. */
static bool is_blank(const struct file *x)
{
	static const uint8_t zeros[65536];
	uint8_t *buf = mem_alloc(sizeof(zeros));
	uint64_t off = 0;
	ssize_t n = 1;
	bool blank;

	while (buf && n > 0) {
		n = io_pread(x->fd, buf, sizeof(zeros), off);
		if (n > 0 && memcmp(buf, zeros, (size_t)n) != 0)
			break;
		off += n > 0 ? (uint64_t)n : 0;
	}
	blank = !buf || n <= 0; /* what cannot be read is not content either */
	mem_free(buf);
	return blank;
}

/* No record, or none that can be read. */
static int check_lost(struct fsck *f, struct file *x, int err)
{
	const struct kvfs_record plain = { .state = KVFS_RECORD_PLAIN };

	if (whole(&x->st) && !is_blank(x)) {
		bool fixed = f->repair && write_record(x, f, &plain) == 0;

		fsck_problem(f, fixed, x->path, "record %s; the file holds its whole content%s",
			     err == -ENODATA ? "is missing" : err_text(err),
			     f->repair ? "" : ", --repair writes a new one");
		return 0;
	}
	return add_lost(f, x);
}

static int check_file(struct fsck *f, struct file *x)
{
	uint64_t size = (uint64_t)x->st.st_size;
	int err = record_get(x->fd, NULL, f->xattr, &x->rec);

	f->files++;
	f->logical_bytes += size;
	f->stored_bytes += (uint64_t)x->st.st_blocks * 512;
	if (!err && x->rec.state != KVFS_RECORD_PLAIN)
		return check_sealed(f, x);
	if (err == -KVFS_EVERSION) {
		fsck_problem(f, false, x->path, "record of a newer version");
		return 0;
	}
	if (err && err != -ENODATA && err > -KVFS_ERR_BASE) {
		fsck_problem(f, false, x->path, "record: %s", err_text(err));
		return 0;
	}
	if (err && (err != -ENODATA || (size && (size >= FSCK_RECORD_FROM || !x->st.st_blocks))))
		return check_lost(f, x, err);
	f->plain++;
	if (f->list)
		list_one(x, "plain", NULL);
	return 0;
}

/* ---- walking -------------------------------------------------------------- */

static int visit(struct fsck *f, FTSENT *e, struct bar *bar)
{
	struct file x = { .open_path = e->fts_accpath, .path = e->fts_path };
	int err;

	if (e->fts_info == FTS_DNR || e->fts_info == FTS_ERR || e->fts_info == FTS_NS) {
		fsck_problem(f, false, e->fts_path, "%s", strerror(e->fts_errno));
		return 0;
	}
	if (e->fts_info != FTS_F)
		return 0;
	x.fd = io_open_regular(AT_FDCWD, x.open_path, O_RDONLY | O_NOATIME, 0);
	if (x.fd == -EPERM) /* not ours: not root */
		x.fd = io_open_regular(AT_FDCWD, x.open_path, O_RDONLY, 0);
	if (x.fd < 0) {
		fsck_problem(f, false, x.path, "%s", err_text(x.fd));
		return 0;
	}
	err = fstat(x.fd, &x.st) < 0 ? -errno : check_file(f, &x);
	io_close(&x.fd);
	bar_add(bar, 1);
	return err;
}

static int walk(struct fsck *f)
{
	size_t len = strlen(f->path) + sizeof("/tree");
	char *root = mem_alloc(len), *paths[] = { root, NULL };
	struct bar bar;
	int err = 0;
	FTSENT *e;
	FTS *fts;

	if (!root)
		return -ENOMEM;
	snprintf(root, len, "%s/tree", f->path);
	fts = fts_open(paths, FTS_PHYSICAL, NULL);
	if (!fts) {
		err = -errno;
		mem_free(root);
		return err;
	}
	if (f->list)
		printf("state    levels   stored        logical  ratio  layout  path\n");
	bar_begin(&bar, "files", 0, false, f->quiet || f->list);
	while (!err && !fsck_cancelled() && (e = fts_read(fts)) != NULL)
		err = visit(f, e, &bar);
	bar_clear(&bar);
	(void)fts_close(fts); /* changes back to where we were; nothing of ours is lost */
	mem_free(root);
	return err;
}

/* What damage=hide took away keeps its object from being an orphan. */
static int scan_damaged(struct fsck *f)
{
	int fd = openat(f->damaged_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), err = 0;
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct kvfs_record rec;
	struct object_id id;
	struct dirent *e;
	struct stat st;

	if (!d) {
		err = -errno;
		io_close(&fd);
		return err;
	}
	while (!err && (e = readdir(d)) != NULL) {
		int file;

		if (object_name_parse(e->d_name, &id) == 0)
			continue;
		file = io_open_regular(f->damaged_fd, e->d_name, O_RDONLY, 0);
		if (file < 0)
			continue;
		f->hidden++;
		if (fstat(file, &st) == 0 && record_get(file, NULL, f->xattr, &rec) == 0 &&
		    rec.state != KVFS_RECORD_PLAIN) {
			id_of(&rec, &id);
			(void)refs_add(&f->refs, &id, st.st_ino, &err); /* who had it is no matter */
		}
		io_close(&file);
	}
	closedir(d);
	return err;
}

int fsck_tree(struct fsck *f)
{
	int err = walk(f);

	return err ? err : scan_damaged(f);
}

/* ---- trash ---------------------------------------------------------------- */

/* As recovery does: a name that is still in tree/ as well was never taken away. */
static int empty_one(struct fsck *f, const char *name, bool has_other_names,
		     const struct object_id *id)
{
	int err = 0;

	if (id && !has_other_names)
		err = object_remove(f->objects_fd, id);
	if (!err && unlinkat(f->trash_fd, name, 0) < 0)
		err = -errno;
	return err;
}

static int trash_entry(struct fsck *f, const char *name)
{
	struct kvfs_record rec;
	struct object_id id;
	struct stat st;
	char path[300];
	bool sealed;
	int err = 0, fd = io_open_regular(f->trash_fd, name, O_RDONLY, 0);

	snprintf(path, sizeof(path), "trash/%s", name);
	if (fd < 0) {
		fsck_problem(f, false, path, "%s", err_text(fd));
		return 0;
	}
	sealed = fstat(fd, &st) == 0 && record_get(fd, NULL, f->xattr, &rec) == 0 &&
		rec.state != KVFS_RECORD_PLAIN;
	io_close(&fd);
	if (sealed) {
		id_of(&rec, &id);
		(void)refs_add(&f->refs, &id, st.st_ino, &err); /* not an orphan: handled here */
	}
	if (err)
		return err;
	if (!f->repair) {
		fsck_note(f, path, "a removal was interrupted; the next mount finishes it");
		return 0;
	}
	err = empty_one(f, name, st.st_nlink > 1, sealed ? &id : NULL);
	fsck_problem(f, !err, path, "a removal was interrupted%s%s", err ? ": " : "",
		     err ? err_text(err) : "");
	return 0;
}

int fsck_trash(struct fsck *f)
{
	int fd = openat(f->trash_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), err = 0;
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	if (!d) {
		err = -errno;
		io_close(&fd);
		return err;
	}
	while (!err && !fsck_cancelled() && (e = readdir(d)) != NULL)
		if (e->d_name[0] != '.')
			err = trash_entry(f, e->d_name);
	closedir(d);
	return err;
}
