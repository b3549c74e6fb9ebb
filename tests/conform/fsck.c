/* SPDX-License-Identifier: MIT */
/* fsck.kvcachefs on stores made by hand, one kind of trouble at a time: what it
 * says, what it exits with, what it repairs, and what it leaves alone.
 * fsck PROGRAM */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/io.h"
#include "codecs/codec.h"
#include "objects.h"
#include "store/record.h"
#include "testlib.h"

#define SIZE (1u << 20)

struct st {
	char path[64];
	int fd, objects;
	const char *xattr;
	uint8_t *data;
};

static const char *program;
static char output[16384];

static int run(struct st *s, const char *options)
{
	char cmd[512];
	size_t n;
	FILE *p;
	int rc;

	snprintf(cmd, sizeof(cmd), "'%s' %s '%s' 2>&1", program, options, s->path);
	CHECK((p = popen(cmd, "r")) != NULL);
	n = fread(output, 1, sizeof(output) - 1, p);
	output[n] = 0;
	rc = pclose(p);
	CHECK(WIFEXITED(rc));
	return WEXITSTATUS(rc);
}

static void expect_(struct st *s, const char *options, int code, const char *text, int line)
{
	int got = run(s, options);

	if (got == code && (!text || strstr(output, text)))
		return;
	fprintf(stderr, "line %d: %s: exit %d, expected %d with '%s':\n%s", line, options, got, code,
		text ? text : "", output);
	exit(1);
}
#define expect(s, options, code, text) expect_(s, options, code, text, __LINE__)

static void put_text(struct st *s, const char *name, const char *text)
{
	int fd = openat(s->fd, name, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	CHECK(fd >= 0 && io_pwrite_all(fd, text, strlen(text), 0) == 0);
	close(fd);
}

static void create(struct st *s)
{
	static const char *const dirs[] = { "tree", "tree/sub", "objects", "trash", "damaged", "meta" };
	char text[200];

	memset(s, 0, sizeof(*s));
	s->fd = tobj_dir(s->path);
	s->xattr = geteuid() == 0 ? KVFS_RECORD_XATTR_ROOT : KVFS_RECORD_XATTR_USER;
	for (unsigned i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++)
		CHECK(mkdirat(s->fd, dirs[i], 0700) == 0);
	snprintf(text, sizeof(text), "%s\nversion=2\nuuid=u\ncreated=1\nrecord=%s\n",
		 KVFS_FORMAT_MAGIC, s->xattr);
	put_text(s, "format", text);
	put_text(s, "lock", "77\n");
	CHECK((s->objects = openat(s->fd, "objects", O_RDONLY)) >= 0);
	CHECK((s->data = malloc(SIZE)) != NULL);
	tobj_fill_bf16(s->data, SIZE, 3);
}

static void destroy(struct st *s)
{
	free(s->data);
	close(s->objects);
	tobj_dir_remove(s->path, s->fd);
}

/* A file of @state; @n selects the object. Returns a descriptor. */
static int add(struct st *s, const char *name, enum kvfs_record_state state, unsigned n)
{
	const struct tobj_part part = { .len = SIZE, .chunk_bytes = 256u << 10,
					.codec = CODEC_PLANES_HUF, .elem = ELEM_BF16 };
	struct object_id id = tobj_id(n);
	struct kvfs_record rec = { .state = (uint8_t)state, .levels = state ? 1 : 0,
				   .valid_bytes = SIZE, .mtime_sec = 1000000 };
	int fd = openat(s->fd, name, O_RDWR | O_CREAT | O_EXCL, 0600);
	int err;

	CHECK(fd >= 0);
	if (state == KVFS_RECORD_SEALED)
		CHECK(ftruncate(fd, SIZE) == 0);
	else
		CHECK_EQ(io_pwrite_all(fd, s->data, SIZE, 0), 0);
	CHECK(fsync(fd) == 0); /* so that st_blocks is right */
	if (state) {
		err = tobj_seal(s->objects, &id, s->data, &part, 1, 1);
		CHECK(err == 0 || err == -EEXIST);
		memcpy(rec.id, id.id, sizeof(rec.id));
		rec.generation = id.generation;
	}
	CHECK_EQ(record_set(fd, s->xattr, &rec), 0);
	return fd;
}

static enum kvfs_record_state state_of(struct st *s, int fd)
{
	struct kvfs_record rec;

	CHECK_EQ(record_get(fd, NULL, s->xattr, &rec), 0);
	return rec.state;
}

static bool has_object(struct st *s, unsigned n)
{
	struct object_id id = tobj_id(n);
	char name[OBJECT_NAME_MAX];

	object_name(&id, name);
	return faccessat(s->objects, name, F_OK, 0) == 0;
}

static void flip(struct st *s, unsigned n, uint64_t at)
{
	struct object_id id = tobj_id(n);
	char name[OBJECT_NAME_MAX], c;
	int fd;

	object_name(&id, name);
	CHECK((fd = openat(s->objects, name, O_RDWR)) >= 0);
	CHECK(pread(fd, &c, 1, (off_t)at) == 1);
	c ^= 4;
	CHECK(pwrite(fd, &c, 1, (off_t)at) == 1);
	close(fd);
}

/* ---- cases ---------------------------------------------------------------- */

static void clean_store(void)
{
	struct st s;

	create(&s);
	close(add(&s, "tree/plain", KVFS_RECORD_PLAIN, 0));
	close(add(&s, "tree/sub/sealed", KVFS_RECORD_SEALED, 1));
	CHECK(linkat(s.fd, "tree/sub/sealed", s.fd, "tree/again", 0) == 0);
	put_text(&s, "tree/small-without-record", "x");
	CHECK(symlinkat("/etc/passwd", s.fd, "tree/link") == 0);
	CHECK(mkfifoat(s.fd, "tree/fifo", 0600) == 0);
	expect(&s, "", 0, "clean, 4 files (1 sealed), 1 objects");
	expect(&s, "--verify", 0, "clean");
	expect(&s, "--repair", 0, "clean");
	expect(&s, "--list", 0, "sealed   1");
	expect(&s, "-q", 0, "");
	CHECK(!output[0]);
	expect(&s, "--nonsense", 16, "usage");
	expect(&s, "--help", 0, "usage");
	destroy(&s);
}

static void refused_stores(void)
{
	struct st s;
	int lock;

	create(&s);
	CHECK((lock = openat(s.fd, "lock", O_RDWR)) >= 0 && flock(lock, LOCK_EX) == 0);
	expect(&s, "--repair", 8, "mounted by process 77");
	close(lock);
	put_text(&s, "format", KVFS_FORMAT_MAGIC "\nversion=3\nuuid=u\nrecord=trusted.kvcf\n");
	expect(&s, "--repair", 8, "newer");
	put_text(&s, "format", "something else\n");
	expect(&s, "", 8, "not of a kvcachefs store");
	CHECK(unlinkat(s.fd, "format", 0) == 0);
	expect(&s, "", 8, "not a kvcachefs store");
	destroy(&s);
}

static void interrupted_seals_and_removals(void)
{
	struct stat st;
	struct st s;
	int fd;

	create(&s);
	fd = add(&s, "tree/switched", KVFS_RECORD_SWITCHED, 0);
	close(add(&s, "trash/5", KVFS_RECORD_SEALED, 1));
	expect(&s, "", 0, "sealing was interrupted; the next mount finishes it");
	CHECK_EQ(state_of(&s, fd), KVFS_RECORD_SWITCHED);
	expect(&s, "--repair", 1, "2 corrected, 0 left");
	CHECK_EQ(state_of(&s, fd), KVFS_RECORD_SEALED);
	CHECK(fstat(fd, &st) == 0 && st.st_blocks < 64 && st.st_mtim.tv_sec == 1000000);
	CHECK(!has_object(&s, 1));
	expect(&s, "--verify", 0, "clean");
	close(fd);
	destroy(&s);
}

static void orphans_and_missing_objects(void)
{
	struct object_id id = tobj_id(2);
	struct st s;
	int fd;

	create(&s);
	close(add(&s, "tree/a", KVFS_RECORD_SEALED, 0));
	fd = add(&s, "tree/b", KVFS_RECORD_SEALED, 1);
	close(fd);
	CHECK(unlinkat(s.fd, "tree/b", 0) == 0);
	expect(&s, "", 4, "belongs to no file");
	CHECK(has_object(&s, 1));
	expect(&s, "-y", 1, "1 corrected");
	CHECK(!has_object(&s, 1) && has_object(&s, 0));
	close(add(&s, "tree/c", KVFS_RECORD_SEALED, 2));
	CHECK_EQ(object_remove(s.objects, &id), 0);
	expect(&s, "-y", 4, "is missing");
	CHECK(faccessat(s.fd, "tree/c", F_OK, 0) == 0);
	put_text(&s, "objects/garbage", "x"); /* outside the directories: ignored */
	put_text(&s, "objects/01/garbage", "x");
	expect(&s, "-y", 4, "not an object of this store");
	/* two files that refer to one object */
	close(add(&s, "tree/d", KVFS_RECORD_SEALED, 0));
	expect(&s, "-y", 4, "refers to the object of inode");
	destroy(&s);
}

static void lost_records(void)
{
	struct object *o;
	struct object_id id = tobj_id(0);
	struct st s;
	int plain, sealed, zeros;
	char from[32], to[48];
	struct stat st;

	create(&s);
	plain = add(&s, "tree/plain", KVFS_RECORD_PLAIN, 0);
	CHECK(fremovexattr(plain, s.xattr) == 0);
	expect(&s, "", 4, "record is missing; the file holds its whole content");
	expect(&s, "-y", 1, "1 corrected");
	CHECK_EQ(state_of(&s, plain), KVFS_RECORD_PLAIN);
	/* copied without attributes and holes: zeros are nobody's content */
	memset(s.data, 0, SIZE);
	zeros = add(&s, "tree/zeros", KVFS_RECORD_PLAIN, 0);
	tobj_fill_bf16(s.data, SIZE, 3);
	CHECK(fremovexattr(zeros, s.xattr) == 0);
	expect(&s, "-y", 4, "tree/zeros: record is missing or damaged and no object says");
	CHECK(fgetxattr(zeros, s.xattr, NULL, 0) < 0);
	close(zeros);
	CHECK(unlinkat(s.fd, "tree/zeros", 0) == 0);
	/* a record that is noise, and no object that says whose it is */
	sealed = add(&s, "tree/sealed", KVFS_RECORD_SEALED, 0);
	CHECK(fsetxattr(sealed, s.xattr, "noise", 5, 0) == 0);
	expect(&s, "-y", 4, "no object says that it belongs to inode");
	CHECK(has_object(&s, 0)); /* may be its content */
	CHECK(strstr(output, "kept"));
	/* tests' objects say inode 42: make the file that inode in its header */
	CHECK(fstat(sealed, &st) == 0);
	CHECK_EQ(object_remove(s.objects, &id), 0);
	tobj_tree_ino = st.st_ino;
	close(add(&s, "tree/other", KVFS_RECORD_SEALED, 0));
	tobj_tree_ino = 0;
	CHECK(unlinkat(s.fd, "tree/other", 0) == 0);
	/* its other name is no other file */
	CHECK(linkat(s.fd, "tree/sealed", s.fd, "tree/again", 0) == 0);
	expect(&s, "", 4, "its object was found, --repair puts the record back");
	CHECK(!strstr(output, "no object says"));
	expect(&s, "-y", 1, "1 corrected");
	CHECK_EQ(state_of(&s, sealed), KVFS_RECORD_SEALED);
	expect(&s, "-c", 0, "clean");
	CHECK(unlinkat(s.fd, "tree/again", 0) == 0);
	/* a file that damage=hide took away keeps its object */
	snprintf(from, sizeof(from), "tree/sealed");
	snprintf(to, sizeof(to), "damaged/%llu.sealed", (unsigned long long)st.st_ino);
	CHECK(renameat(s.fd, from, s.fd, to) == 0);
	expect(&s, "-y", 0, "1 files that damage=hide took away");
	CHECK(has_object(&s, 0));
	CHECK_EQ(object_open(s.objects, &id, NULL, &o), 0);
	object_put(o);
	close(plain);
	close(sealed);
	destroy(&s);
}

/* What rsync without --sparse makes of stand-ins. */
static void copies_without_holes(void)
{
	struct kvfs_record rec;
	char block[8192] = "";
	struct st s;
	int fd;

	create(&s);
	fd = add(&s, "tree/a", KVFS_RECORD_SEALED, 0);
	CHECK_EQ(io_pwrite_all(fd, block, sizeof(block), 65536), 0);
	expect(&s, "", 4, "copied without its holes; its content is in an object");
	expect(&s, "-y", 1, "1 corrected");
	CHECK(lseek(fd, 0, SEEK_DATA) < 0);
	expect(&s, "--verify --list", 0, "sealed   1");
	/* of version 1: nobody knows */
	CHECK_EQ(record_get(fd, NULL, s.xattr, &rec), 0);
	rec.flags = KVFS_RECORD_OVERLAY;
	CHECK_EQ(record_set(fd, s.xattr, &rec), 0);
	CHECK_EQ(io_pwrite_all(fd, block, sizeof(block), 65536), 0);
	expect(&s, "--list", 0, "overlay  1");
	/* written to after it was sealed, as another inode */
	rec.flags |= KVFS_RECORD_EXTENTS;
	rec.mtime_sec = rec.ctime_sec = 12345;
	CHECK_EQ(record_set(fd, s.xattr, &rec), 0);
	expect(&s, "-y", 4, "copied without its holes; restore");
	CHECK(lseek(fd, 0, SEEK_DATA) == 65536);
	close(fd);
	destroy(&s);
}

/* A level is a prefix of the object's file, and of what --verify reads. */
static void dropped_layers(void)
{
	const struct tobj_part part = { .len = SIZE, .chunk_bytes = 256u << 10,
					.codec = CODEC_PLANES_HUF, .elem = ELEM_BF16 };
	struct object_id id = tobj_id(0);
	struct kvfs_record rec;
	struct object *o;
	struct st s;
	int fd;

	create(&s);
	fd = add(&s, "tree/a", KVFS_RECORD_SEALED, 0);
	CHECK_EQ(object_remove(s.objects, &id), 0);
	CHECK_EQ(tobj_seal(s.objects, &id, s.data, &part, 1, 3), 0);
	CHECK_EQ(object_open(s.objects, &id, NULL, &o), 0);
	CHECK_EQ(record_get(fd, NULL, s.xattr, &rec), 0);
	rec.levels = 3;
	CHECK_EQ(record_set(fd, s.xattr, &rec), 0);
	expect(&s, "--verify --list", 0, "sealed   3");
	/* the switch was made, the cut was not */
	rec.levels = 2;
	CHECK_EQ(record_set(fd, s.xattr, &rec), 0);
	expect(&s, "--verify", 0, "dropping layers was interrupted; the next mount");
	expect(&s, "-y", 1, "1 corrected");
	CHECK_EQ(record_get(fd, NULL, s.xattr, &rec), 0);
	CHECK_EQ(rec.stored_blocks, o->level_bytes[1] / 4096);
	expect(&s, "--verify --list", 0, "sealed   2");
	/* cut further than the record says */
	CHECK_EQ(object_cut(s.objects, o, 1), 0);
	expect(&s, "-y", 4, "ends too early");
	rec.levels = 1;
	CHECK_EQ(record_set(fd, s.xattr, &rec), 0);
	expect(&s, "--verify", 0, "clean");
	object_put(o);
	close(fd);
	destroy(&s);
}

static void damaged_objects(void)
{
	struct st s;
	int fd;

	create(&s);
	close(add(&s, "tree/a", KVFS_RECORD_SEALED, 0));
	flip(&s, 0, 100000);
	expect(&s, "", 0, "clean"); /* only --verify reads the chunks */
	expect(&s, "--verify -y", 4, "1 of 4 chunks damaged (checksum mismatch)");
	CHECK(has_object(&s, 0));
	flip(&s, 0, 40);
	expect(&s, "-y", 4, "checksum mismatch; restore the file or remove it");
	/* switched and not punched: the file itself still has everything */
	fd = add(&s, "tree/b", KVFS_RECORD_SWITCHED, 1);
	flip(&s, 1, 40);
	expect(&s, "", 4, "makes it plain again");
	expect(&s, "-y", 5, "the file still holds its content (corrected)");
	CHECK_EQ(state_of(&s, fd), KVFS_RECORD_PLAIN);
	close(fd);
	destroy(&s);
}

int main(int argc, char **argv)
{
	CHECK(argc == 2);
	program = argv[1];
	clean_store();
	refused_stores();
	interrupted_seals_and_removals();
	orphans_and_missing_objects();
	lost_records();
	copies_without_holes();
	dropped_layers();
	damaged_objects();
	return 0;
}
