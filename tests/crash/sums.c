/* SPDX-License-Identifier: MIT */
/*
 * What the store counts and keeps after odd ends: files cut and removed without a
 * descriptor, stores full of what cannot go, walks and seals that did not come
 * to their end. In-process, against the store itself.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/clock.h"
#include "model.h"
#include "store/record.h"
#include "store/seal.h"
#include "testlib.h"

#define MB (1u << 20)

static char *dir;

static struct store *open_store(const char *name, uint64_t ssd, bool start)
{
	struct store_config cfg = { .dram_bytes = 64u << 20, .ssd_bytes = ssd, .full = FULL_EVICT,
				    .settle_ns = 3600 * NSEC_PER_SEC, .quality = 1,
				    .policy = "lru", .threads = 2 };
	struct sbuf why = SBUF_INIT;
	struct store *st;
	char path[512];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	cfg.path = path;
	if (store_open(&cfg, &st, &why) < 0) {
		fprintf(stderr, "store_open: %s\n", why.s ? why.s : "");
		exit(1);
	}
	sbuf_fini(&why);
	if (start)
		CHECK_EQ(store_start(st, NULL, NULL, 0), 0);
	return st;
}

/* A new file, open; @seed 0: bytes that nothing makes smaller. */
static int try_file(struct store *st, const char *name, size_t len, unsigned seed, struct node **n,
		    struct file **f)
{
	struct caller who = { 0 };
	struct open_reply o;
	uint8_t *p = malloc(len);
	struct stat sb;
	int r;

	CHECK(p);
	if (seed)
		model_fill(p, len, seed, 0);
	else
		test_fill(p, len, 7);
	CHECK_EQ(store_create(st, &who, store_root(st), name, 0644, O_RDWR, n, &sb, &o), 0);
	r = store_write(o.file, p, len, 0);
	free(p);
	*f = o.file;
	return r;
}

static void put_file(struct store *st, const char *name, size_t len, unsigned seed)
{
	struct node *n;
	struct file *f;

	CHECK_EQ(try_file(st, name, len, seed, &n, &f), 0);
	store_release(f);
	store_forget(st, n, 1);
}

static struct node *find(struct store *st, const char *name, struct stat *sb)
{
	struct node *n;

	return store_lookup(st, store_root(st), name, &n, sb) < 0 ? NULL : n;
}

static int seal(struct store *st, const char *name)
{
	struct stat sb;
	struct node *n = find(st, name, &sb);
	int r = store_seal(st, n);

	store_forget(st, n, 1);
	return r;
}

static void cut_and_removed_is_counted_once(void)
{
	struct store *st = open_store("cut", 64 * MB, true);
	struct meta_rec rec;
	struct node *n;
	struct stat sb;

	put_file(st, "f", MB, 0);
	CHECK_EQ(seal(st, "f"), -KVFS_ENOGAIN); /* so that no queue holds it in memory */
	n = find(st, "f", &sb);
	CHECK_EQ(meta_get(st->meta, sb.st_ino, &rec), 0);
	CHECK(!(rec.flags & META_PENDING)); /* and the next mount does not try again */
	sb.st_size = 0;
	CHECK_EQ(store_setattr(st, n, NULL, &sb, SET_SIZE, &sb), 0);
	store_forget(st, n, 1);
	CHECK_EQ(store_unlink(st, store_root(st), "f"), 0);
	CHECK_EQ(atomic_load(&st->ssd_used), 0);
	store_close(st, false);
}

static void unlinked_and_cut_leaves_nothing(void)
{
	struct store *st = open_store("trash", 64 * MB, true);
	struct caller who = { 0 };
	struct open_reply o;
	struct dirent *e;
	struct node *n;
	struct stat sb;
	char buf[4096] = "new";
	DIR *d;

	put_file(st, "f", MB, 1);
	CHECK_EQ(seal(st, "f"), 0);
	n = find(st, "f", &sb);
	CHECK_EQ(store_openat(st, n, O_RDWR, &who, &o), 0);
	CHECK_EQ(store_unlink(st, store_root(st), "f"), 0);
	sb.st_size = 0;
	CHECK_EQ(store_setattr(st, n, o.file, &sb, SET_SIZE, &sb), 0);
	CHECK_EQ(store_write(o.file, buf, sizeof(buf), 0), 0);
	store_release(o.file);
	store_forget(st, n, 1);
	CHECK_EQ(atomic_load(&st->ssd_used), 0);
	d = fdopendir(dup(st->trash_fd));
	store_close(st, false); /* what waits for a commit is done */
	while ((e = readdir(d)))
		CHECK(e->d_name[0] == '.');
	closedir(d);
}

/* What cannot go, however much of it, does not keep the rest from going. */
static void second_names_do_not_stop_eviction(void)
{
	struct store *st = open_store("links", 8 * MB, true);
	char name[32];

	for (unsigned i = 0; i < 300; i++) {
		struct node *n;
		struct stat sb;

		snprintf(name, sizeof(name), "l%u", i);
		put_file(st, name, 4096, 1);
		n = find(st, name, &sb);
		snprintf(name, sizeof(name), "m%u", i);
		CHECK_EQ(store_link(st, n, store_root(st), name, &sb), 0);
		store_forget(st, n, 2);
	}
	for (unsigned i = 0; i < 24; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		put_file(st, name, MB / 2, 0);
	}
	CHECK(atomic_load(&st->counters[CNT_EVICTED]) > 0);
	store_close(st, false);
}

static void too_much_at_once_evicts_nothing(void)
{
	struct store *st = open_store("huge", 8 * MB, true);
	struct node *n, *big;
	struct stat sb;
	struct file *f;

	put_file(st, "old", MB, 0);
	CHECK_EQ(try_file(st, "big", 4 * MB, 0, &big, &f), 0);
	CHECK_EQ(store_fallocate(f, 0, 4 * MB, 5 * MB), -KVFS_EFULL);
	CHECK_EQ(store_fallocate(f, 0, 0, 4 * MB + 4096), 0); /* is there already */
	n = find(st, "old", &sb);
	CHECK(n);
	store_forget(st, n, 1);
	store_release(f);
	store_forget(st, big, 1);
	store_close(st, false);
}

/* Pinned small and grown to most of the store: users' go in the end, root's do not. */
static void pins_do_not_end_eviction(uid_t owner)
{
	struct store *st = open_store(owner ? "pins" : "rootpins", 8 * MB, true);
	struct node *n, *other;
	struct stat sb = { .st_uid = owner };
	uint8_t *p = calloc(1, MB);
	struct file *f;

	CHECK(p);
	CHECK_EQ(try_file(st, "p", MB, 0, &n, &f), 0);
	CHECK_EQ(store_setattr(st, n, f, &sb, SET_UID, &sb), 0);
	CHECK_EQ(store_pin(st, n, owner, true), 0);
	for (unsigned i = 1; i < 6; i++)
		CHECK_EQ(store_write(f, p, MB, (uint64_t)i * MB), 0);
	store_release(f);
	store_forget(st, n, 1);
	CHECK_EQ(try_file(st, "f", 3 * MB, 0, &other, &f), owner ? 0 : -KVFS_EFULL);
	n = find(st, "p", &sb);
	CHECK(!n == (owner != 0));
	if (n)
		store_forget(st, n, 1);
	store_release(f);
	store_forget(st, other, 1);
	free(p);
	store_close(st, false);
}

/* A store whose daemon died, with two files that are too small to be sealed. */
#define SMALL 49152u
static void make_unclean(const char *name)
{
	pid_t pid = fork();
	int status;

	CHECK(pid >= 0);
	if (pid == 0) {
		struct store *st = open_store(name, 64 * MB, true);

		put_file(st, "a", SMALL, 0);
		put_file(st, "b", SMALL, 0);
		_exit(0);
	}
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
}

static void wait_clean(struct store *st)
{
	for (int i = 0; i < 1000 && !*(volatile bool *)&st->clean; i++)
		usleep(10000);
	CHECK(st->clean);
}

static void half_a_walk_is_done_again(void)
{
	struct store *st;

	make_unclean("walk");
	st = open_store("walk", 64 * MB, false);
	CHECK(!st->clean);
	atomic_store(&st->stopping, true);
	CHECK_EQ(store_start(st, NULL, NULL, 0), 0);
	store_close(st, false);
	st = open_store("walk", 64 * MB, true);
	wait_clean(st);
	store_close(st, false);
	st = open_store("walk", 64 * MB, false);
	CHECK(st->clean);
	CHECK_EQ(atomic_load(&st->ssd_used), 2 * SMALL);
	store_close(st, false);
}

static void the_walk_keeps_what_is_reserved(void)
{
	struct store *st;

	make_unclean("reserved");
	st = open_store("reserved", 64 * MB, false);
	CHECK_EQ(space_reserve(st, MB, 0), 0);
	CHECK_EQ(store_start(st, NULL, NULL, 0), 0);
	wait_clean(st);
	CHECK_EQ(atomic_load(&st->ssd_used), 2 * SMALL + MB);
	space_release(st, MB);
	CHECK_EQ(atomic_load(&st->ssd_used), 2 * SMALL);
	store_close(st, false);
}

static int tree_file(struct store *st, const char *name, struct kvfs_record *rec)
{
	int fd = openat(st->tree_fd, name, O_RDWR);

	CHECK(fd >= 0);
	CHECK_EQ(record_get(fd, NULL, st->xattr, rec), 0);
	return fd;
}

/* A record that cannot be read may be the one that refers to the object. */
static void unreadable_records_keep_objects(void)
{
	struct store *st = open_store("blind", 64 * MB, true);
	char name[OBJECT_NAME_MAX];
	struct kvfs_record rec;
	struct object_id id;
	int fd;

	put_file(st, "f", MB, 1);
	CHECK_EQ(seal(st, "f"), 0);
	fd = tree_file(st, "f", &rec);
	memcpy(id.id, rec.id, sizeof(id.id));
	id.generation = rec.generation;
	CHECK(fsetxattr(fd, st->xattr, "noise", 5, 0) == 0);
	close(fd);
	store_close(st, false);
	st = open_store("blind", 64 * MB, false);
	CHECK_EQ(orphan_defer(st, &id, NULL), 0);
	st->clean = false;
	CHECK_EQ(store_start(st, NULL, NULL, 0), 0);
	wait_clean(st);
	object_name(&id, name);
	CHECK(faccessat(st->objects_fd, name, F_OK, 0) == 0);
	store_close(st, false);
}

/* Copied, or its index lost: no intent says that the plain data can go. */
static void lost_switches_are_finished(void)
{
	struct store *st = open_store("late", 64 * MB, true);
	uint8_t *p = malloc(MB);
	struct caller who = { 0 };
	struct kvfs_record rec;
	struct open_reply o;
	struct node *n;
	struct stat sb;
	int fd;

	CHECK(p);
	put_file(st, "f", MB, 1);
	CHECK_EQ(seal(st, "f"), 0);
	fd = tree_file(st, "f", &rec);
	store_close(st, false);
	model_fill(p, MB, 1, 0);
	CHECK(pwrite(fd, p, MB, 0) == MB && fsync(fd) == 0);
	rec.state = KVFS_RECORD_SWITCHED;
	st = open_store("late", 64 * MB, true);
	CHECK_EQ(record_set(fd, st->xattr, &rec), 0);
	n = find(st, "f", &sb);
	CHECK_EQ(store_openat(st, n, O_RDONLY, &who, &o), 0);
	store_release(o.file);
	store_forget(st, n, 1);
	CHECK(fstat(fd, &sb) == 0 && sb.st_blocks < 64);
	CHECK_EQ(record_get(fd, NULL, st->xattr, &rec), 0);
	CHECK_EQ(rec.state, KVFS_RECORD_SEALED);
	close(fd);
	free(p);
	store_close(st, false);
}

static void drop_cap(unsigned cap)
{
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct d[2];

	CHECK(syscall(SYS_capget, &h, d) == 0);
	d[0].effective &= ~(1u << cap);
	CHECK(syscall(SYS_capset, &h, d) == 0);
}

/* As in a container: file handles cannot be opened. */
static void recovery_without_file_handles(void)
{
	struct store *st = open_store("caps", 64 * MB, true);
	struct intent i = { .kind = INTENT_SEAL, .id = { 1 }, .generation = 1, .name = "f" };
	struct kvfs_record rec;
	struct stat sb;
	int fd, status;
	pid_t pid;

	put_file(st, "f", MB, 1);
	fd = tree_file(st, "f", &rec);
	CHECK(fstat(st->tree_fd, &sb) == 0);
	i.parent_ino = sb.st_ino;
	CHECK(fstat(fd, &sb) == 0);
	i.ino = sb.st_ino;
	seal_intent_handle(fd, &i);
	close(fd);
	CHECK_EQ(meta_intent_put(st->meta, &i), 0);
	store_close(st, false);
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		if (geteuid() == 0)
			drop_cap(CAP_DAC_READ_SEARCH);
		st = open_store("caps", 64 * MB, false);
		_exit(st->orphans.n != 0 || atomic_load(&st->counters[CNT_RECOVERED]) != 1);
	}
	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK_EQ(status, 0);
}

int main(void)
{
	dir = test_tmpdir_create();
	cut_and_removed_is_counted_once();
	unlinked_and_cut_leaves_nothing();
	second_names_do_not_stop_eviction();
	too_much_at_once_evicts_nothing();
	if (geteuid() == 0) {
		pins_do_not_end_eviction(1000);
		pins_do_not_end_eviction(0);
	}
	half_a_walk_is_done_again();
	the_walk_keeps_what_is_reserved();
	unreadable_records_keep_objects();
	lost_switches_are_finished();
	recovery_without_file_handles();
	test_tmpdir_remove(dir);
	return 0;
}
