/* SPDX-License-Identifier: MIT */
/*
 * STORE on disk: created on the first mount, checked on every later one. A
 * directory that is neither empty nor a store, a store of a newer version, and a
 * filesystem that cannot hold one are refused untouched, with the reason.
 */
#include "store/dirs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "kvcachefs/format.h"

#ifndef XFS_SUPER_MAGIC
#define XFS_SUPER_MAGIC 0x58465342
#endif
#define OVERLAY_MAGIC 0x794c7630
#define FORMAT_MAX 4096u

static int fail(struct sbuf *why, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static int fail(struct sbuf *why, int code, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	sbuf_adds(why, text);
	return code;
}

static bool is_empty(int fd)
{
	int d = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = d < 0 ? NULL : fdopendir(d);
	struct dirent *e;
	bool empty = true;

	if (!dir) {
		io_close(&d);
		return false;
	}
	while (empty && (e = readdir(dir)))
		empty = strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
			strcmp(e->d_name, "lost+found") == 0;
	closedir(dir);
	return empty;
}

/* ---- the filesystem below ------------------------------------------------- */

/* ext4 can be without a journal; then the kernel names no journal's task. */
static bool has_journal(struct store *st)
{
	char link[64], device[PATH_MAX], path[PATH_MAX + 40], task[16] = { 0 };
	struct stat sb;
	ssize_t n;
	int fd;

	if (fstat(st->store_fd, &sb) < 0)
		return true;
	snprintf(link, sizeof(link), "/sys/dev/block/%u:%u", major(sb.st_dev), minor(sb.st_dev));
	n = readlink(link, device, sizeof(device) - 1);
	if (n <= 0)
		return true;
	device[n] = 0;
	snprintf(path, sizeof(path), "/sys/fs/ext4/%s/journal_task",
		 strrchr(device, '/') ? strrchr(device, '/') + 1 : device);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? fd : io_pread(fd, task, sizeof(task) - 1, 0);
	io_close(&fd);
	return n <= 0 || strncmp(task, "<none>", 6) != 0;
}

static int check_fs(struct store *st, struct sbuf *why)
{
	struct statfs sf;

	if (fstatfs(st->store_fd, &sf) < 0)
		return fail(why, -errno, "%s: %s", st->cfg.path, strerror(errno));
	st->fs_type = FS_OTHER;
	if (sf.f_type == EXT4_SUPER_MAGIC)
		st->fs_type = FS_EXT4;
	else if (sf.f_type == XFS_SUPER_MAGIC)
		st->fs_type = FS_XFS;
	else if (sf.f_type == BTRFS_SUPER_MAGIC)
		st->fs_type = FS_BTRFS;
	else if (sf.f_type == OVERLAY_MAGIC)
		return fail(why, -EOPNOTSUPP,
			    "%s is on overlayfs, which keeps neither inode numbers nor holes; "
			    "put the store on ext4, XFS or btrfs", st->cfg.path);
	else if (sf.f_type == FUSE_SUPER_MAGIC)
		return fail(why, -EOPNOTSUPP,
			    "%s is itself on a FUSE filesystem; put the store on ext4, XFS or "
			    "btrfs", st->cfg.path);
	/* what a client wrote into a sealed file counts by blocks of this size */
	if (sf.f_bsize > (long)STORE_BLOCK)
		return fail(why, -EOPNOTSUPP,
			    "%s is on a filesystem with blocks of %ld bytes; a store needs blocks of "
			    "at most %u", st->cfg.path, (long)sf.f_bsize, STORE_BLOCK);
	st->ordered = st->fs_type == FS_XFS || (st->fs_type == FS_EXT4 && has_journal(st));
	if (st->fs_type == FS_EXT4 && !st->ordered)
		log_warn(st->log, "%s is on ext4 without a journal: a power cut may damage that "
				  "filesystem; tune2fs -j gives it one", st->cfg.path);
	return 0;
}

/* Tries the record's xattr on a scratch file. */
static int check_xattr(struct store *st, struct sbuf *why)
{
	char value[64] = { 0 };
	int fd = openat(st->store_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	int r = 0;

	if (fd < 0)
		return fail(why, -errno, "%s/lock: %s", st->cfg.path, strerror(errno));
	if (fsetxattr(fd, st->xattr, value, sizeof(value), 0) < 0) {
		r = -errno;
		fail(why, r, "%s: extended attribute %s cannot be set (%s); kvcachefs needs a "
			     "filesystem with xattrs, such as ext4, XFS or btrfs",
		     st->cfg.path, st->xattr, strerror(-r));
		r = -EOPNOTSUPP;
	} else {
		err_ignore(fremovexattr(fd, st->xattr)); /* of no use, of no harm */
	}
	io_close(&fd);
	return r;
}

/* ---- format file ---------------------------------------------------------- */

static void make_uuid(char out[40])
{
	uint8_t b[16] = { 0 };

	if (getrandom(b, sizeof(b), 0) != (ssize_t)sizeof(b))
		memset(b, 0x5a, sizeof(b)); /* only a label */
	b[6] = (b[6] & 0x0f) | 0x40;
	b[8] = (b[8] & 0x3f) | 0x80;
	snprintf(out, 40,
		 "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0],
		 b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13],
		 b[14], b[15]);
}

static int put_format(struct store *st, const struct sbuf *b, struct sbuf *why)
{
	int fd = openat(st->store_fd, "format.tmp", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	int r = fd < 0 ? -errno : io_pwrite_all(fd, b->s, b->len, 0);

	if (r == 0)
		r = io_fsync(fd);
	io_close(&fd);
	if (r == 0 && renameat(st->store_fd, "format.tmp", st->store_fd, "format") < 0)
		r = -errno;
	if (r == 0)
		r = io_fsync(st->store_fd);
	if (r < 0)
		return fail(why, r, "%s/format: %s", st->cfg.path, err_text(r));
	return 0;
}

static int write_format(struct store *st, struct sbuf *why)
{
	struct sbuf b = SBUF_INIT;
	int r;

	make_uuid(st->uuid);
	sbuf_addf(&b, "%s\nversion=%d\nuuid=%s\ncreated=%lld\nrecord=%s\n", KVFS_FORMAT_MAGIC,
		  KVFS_STORE_VERSION, st->uuid, (long long)time(NULL), st->xattr);
	r = put_format(st, &b, why);
	sbuf_fini(&b);
	return r;
}

static bool format_value(const char *text, const char *key, char *out, size_t len)
{
	const char *p = strstr(text, key), *end;

	if (!p || (p != text && p[-1] != '\n'))
		return false;
	p += strlen(key);
	end = strchr(p, '\n');
	if (!end || (size_t)(end - p) >= len)
		return false;
	memcpy(out, p, (size_t)(end - p));
	out[end - p] = 0;
	return true;
}

static int parse_format(struct store *st, const char *text, struct sbuf *why)
{
	char version[16], record[32];

	if (strncmp(text, KVFS_FORMAT_MAGIC "\n", sizeof(KVFS_FORMAT_MAGIC)) != 0)
		return fail(why, -KVFS_EMAGIC, "%s/format is not of a kvcachefs store",
			    st->cfg.path);
	if (!format_value(text, "version=", version, sizeof(version)) ||
	    !format_value(text, "uuid=", st->uuid, sizeof(st->uuid)) ||
	    !format_value(text, "record=", record, sizeof(record)))
		return fail(why, -KVFS_EFORMAT, "%s/format is damaged; restore it (see "
						"kvcachefs-format(5))", st->cfg.path);
	if (atoi(version) > KVFS_STORE_VERSION)
		return fail(why, -KVFS_EVERSION, "%s has store version %s, this kvcachefs knows "
						 "version %d; use a newer kvcachefs",
			    st->cfg.path, version, KVFS_STORE_VERSION);
	if (strcmp(record, KVFS_RECORD_XATTR_ROOT) == 0)
		st->xattr = KVFS_RECORD_XATTR_ROOT;
	else if (strcmp(record, KVFS_RECORD_XATTR_USER) == 0)
		st->xattr = KVFS_RECORD_XATTR_USER;
	else
		return fail(why, -KVFS_EFORMAT, "%s/format: unknown record name %s", st->cfg.path,
			    record);
	if (strcmp(st->xattr, KVFS_RECORD_XATTR_ROOT) == 0 && !st->privileged)
		return fail(why, -EACCES, "%s was made by root; mount it as root", st->cfg.path);
	return 0;
}

static int open_format(struct store *st, struct sbuf *why)
{
	char *text;
	size_t len;
	int r = io_read_file(st->store_fd, "format", FORMAT_MAX, &text, &len);

	if (r == -ENOENT) {
		if (!is_empty(st->store_fd))
			return fail(why, -KVFS_EMAGIC, "%s is neither empty nor a kvcachefs store; "
						       "give an empty or new directory",
				    st->cfg.path);
		if (st->read_only)
			return fail(why, -EROFS, "%s is empty and cannot be made a store read-only",
				    st->cfg.path);
		r = check_xattr(st, why);
		st->fresh = true;
		return r < 0 ? r : write_format(st, why);
	}
	if (r < 0)
		return fail(why, r, "%s/format: %s", st->cfg.path, err_text(r));
	r = parse_format(st, text, why);
	mem_free(text);
	return r;
}

/* A store of an older version, before it gets what only this one knows. */
static int upgrade_format(struct store *st, struct sbuf *why)
{
	struct sbuf b = SBUF_INIT;
	char version[16], *text, *line;
	int r = io_read_file(st->store_fd, "format", FORMAT_MAX, &text, NULL);

	if (r < 0)
		return fail(why, r, "%s/format: %s", st->cfg.path, err_text(r));
	line = strstr(text, "\nversion=");
	if (line && format_value(text, "version=", version, sizeof(version)) &&
	    atoi(version) < KVFS_STORE_VERSION) {
		*line++ = 0;
		line = strchr(line, '\n');
		sbuf_addf(&b, "%s\nversion=%d%s", text, KVFS_STORE_VERSION, line ? line : "\n");
		r = put_format(st, &b, why);
		if (r == 0)
			log_info(st->log, "%s is of store version %d now", st->cfg.path,
				 KVFS_STORE_VERSION);
		sbuf_fini(&b);
	}
	mem_free(text);
	return r;
}

/* ---- lock ----------------------------------------------------------------- */

static int take_lock(struct store *st, struct sbuf *why)
{
	char pid[32] = { 0 };
	int flags = st->read_only ? O_RDONLY : O_RDWR | O_CREAT;
	ssize_t n;

	st->lock_fd = openat(st->store_fd, "lock", flags | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (st->lock_fd < 0) {
		if (st->read_only && errno == ENOENT)
			return 0;
		return fail(why, -errno, "%s/lock: %s", st->cfg.path, strerror(errno));
	}
	if (flock(st->lock_fd, LOCK_EX | LOCK_NB) < 0) {
		n = io_pread(st->lock_fd, pid, sizeof(pid) - 1, 0);
		pid[n > 0 ? n : 0] = 0;
		pid[strcspn(pid, "\n")] = 0;
		return fail(why, -KVFS_ELOCKED, "%s is mounted already by process %s; unmount that "
						"first", st->cfg.path, pid[0] ? pid : "?");
	}
	return 0;
}

void dirs_lock_pid(struct store *st)
{
	char pid[32];
	int n = snprintf(pid, sizeof(pid), "%ld\n", (long)getpid());

	if (st->read_only || st->lock_fd < 0)
		return;
	if (ftruncate(st->lock_fd, 0) == 0)
		err_ignore(io_pwrite_all(st->lock_fd, pid, (size_t)n, 0)); /* for people only */
}

/* ---- all ------------------------------------------------------------------ */

static int sub(struct store *st, const char *name, mode_t mode, int *ret, struct sbuf *why)
{
	if (!st->read_only && mkdirat(st->store_fd, name, mode) < 0 && errno != EEXIST)
		return fail(why, -errno, "%s/%s: %s", st->cfg.path, name, strerror(errno));
	*ret = openat(st->store_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (*ret < 0)
		return fail(why, -errno, "%s/%s: %s", st->cfg.path, name, strerror(errno));
	return 0;
}

static int open_subs(struct store *st, struct sbuf *why)
{
	int meta = -1;
	int r = sub(st, "tree", 0755, &st->tree_fd, why);

	if (r == 0)
		r = sub(st, "objects", 0700, &st->objects_fd, why);
	if (r == 0)
		r = sub(st, "trash", 0700, &st->trash_fd, why);
	if (r == 0)
		r = sub(st, "damaged", 0700, &st->damaged_fd, why);
	if (r == 0)
		r = sub(st, "meta", 0700, &meta, why);
	io_close(&meta);
	if (r == 0 && !st->read_only) {
		st->barrier_fd = openat(st->store_fd, "meta/barrier",
					O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
		if (st->barrier_fd < 0)
			r = fail(why, -errno, "%s/meta/barrier: %s", st->cfg.path, strerror(errno));
	}
	return r;
}

/* The names below tree/ have the modes of the mount: only STORE's own mode keeps
 * others from a way to the files that is not the mount. */
static int check_mode(struct store *st, struct sbuf *why)
{
	struct stat sb;

	if (fstat(st->store_fd, &sb) < 0)
		return fail(why, -errno, "%s: %s", st->cfg.path, strerror(errno));
	if ((sb.st_mode & 077) == 0)
		return 0;
	if (!st->read_only && fchmod(st->store_fd, 0700) < 0)
		return fail(why, -EACCES,
			    "%s has mode %o and cannot be made 0700 (%s); others could reach files "
			    "beside the mount", st->cfg.path, (unsigned)(sb.st_mode & 07777),
			    strerror(errno));
	log_warn(st->log, st->read_only ? "%s has mode %o: others may reach files beside the mount" :
					  "%s had mode %o; made 0700, or others could reach files "
					  "beside the mount",
		 st->cfg.path, (unsigned)(sb.st_mode & 07777));
	return 0;
}

int dirs_open(struct store *st, struct sbuf *why)
{
	int r;

	if (!st->read_only && mkdir(st->cfg.path, 0700) < 0 && errno != EEXIST)
		return fail(why, -errno, "%s: cannot create: %s", st->cfg.path, strerror(errno));
	st->store_fd = open(st->cfg.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (st->store_fd < 0)
		return fail(why, -errno, "%s: %s", st->cfg.path, strerror(errno));
	r = check_fs(st, why);
	if (r < 0)
		return r;
	if (!st->read_only && faccessat(st->store_fd, ".", W_OK, AT_EACCESS) < 0 && errno == EROFS)
		st->read_only = true;
	st->xattr = st->privileged ? KVFS_RECORD_XATTR_ROOT : KVFS_RECORD_XATTR_USER;
	r = open_format(st, why);
	if (r == 0)
		r = take_lock(st, why);
	if (r == 0 && !st->read_only)
		r = upgrade_format(st, why);
	if (r == 0)
		r = check_mode(st, why);
	if (r == 0)
		r = open_subs(st, why);
	return r;
}

void dirs_close(struct store *st)
{
	io_close(&st->barrier_fd);
	io_close(&st->damaged_fd);
	io_close(&st->trash_fd);
	io_close(&st->objects_fd);
	io_close(&st->tree_fd);
	io_close(&st->lock_fd);
	io_close(&st->store_fd);
}
