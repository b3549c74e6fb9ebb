/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEBENCH_RIG_H
#define KVCACHEBENCH_RIG_H
/*
 * What "read", "write" and "meta" stand on: a scratch directory, real contents,
 * daemons, loop devices, throttling, and undoing all of it at the end, also
 * after ctrl-C. One thread; a rig belongs to one run.
 */
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/sbuf.h"

struct rig_options {
	const char *dir;    /* scratch; the contents made there stay for the next run */
	const char *daemon; /* programs and model; NULL: found beside this program */
	const char *kvlm, *model;
	const char *only;   /* rows whose name begins so; NULL all */
	uint64_t bytes;     /* of one content file */
	unsigned rounds, files;
	bool json, quiet_sched, check;
};

#define RIG_PATH (PATH_MAX + 64)
#define RIG_UNDO_MAX 32

enum rig_undo_kind { UNDO_UNMOUNT, UNDO_CHILD, UNDO_TREE, UNDO_CGROUP };
struct rig_undo {
	enum rig_undo_kind kind;
	pid_t pid;
	char path[RIG_PATH];
};

struct rig_throttle {
	bool on;              /* a group of our own exists and we are in it */
	char group[RIG_PATH]; /* its directory */
	char back[RIG_PATH];  /* where we were */
	char device[32];      /* "MAJ:MIN" */
	const char *why_not;
};

struct rig {
	const struct rig_options *o; /* borrowed */
	char dir[RIG_PATH];     /* what stays */
	char scratch[RIG_PATH]; /* what goes: of this run, below dir */
	char base[RIG_PATH];    /* on ext4: the store and the ext4 reference */
	bool base_on_loop;
	char log[RIG_PATH];     /* what programs print */
	struct rig_undo undo[RIG_UNDO_MAX];
	unsigned n_undo;
	struct rig_throttle throttle;
	bool interrupted;
};

/* ---- rig.c: life ---------------------------------------------------------- */
/* Common options of the subcommands; @more is the help of this one. 0 go on, 1
 * help was shown, -EINVAL said why. */
WUR int rig_options(int argc, char **argv, const char *more, struct rig_options *o);
/* Goes on in a quiet child, with SIGINT and SIGTERM held back: see
 * rig_interrupted. Says why on stderr when it fails; then *ret is NULL. */
WUR int rig_create(const struct rig_options *o, struct rig **ret);
void rig_destroy(struct rig *g); /* undoes everything; NULL ok */
/* True once somebody wants us to end; asked between steps. */
bool rig_interrupted(struct rig *g);
/* Prints "kvcachebench: ..." and returns @code. */
int rig_fail(int code, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* A status line. */
void rig_say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
bool rig_row_wanted(const struct rig *g, const char *name);
WUR int rig_undo_add(struct rig *g, enum rig_undo_kind kind, pid_t pid, const char *path);
void rig_undo_drop(struct rig *g, enum rig_undo_kind kind, pid_t pid, const char *path);
/* Of this run only; as far as it goes. */
void rig_remove_tree(const char *path);
/* Makes directory dir/name and gives its path. */
WUR int rig_mkdir(const char *dir, const char *name, char path[RIG_PATH]);

/* ---- rig_proc.c: programs -------------------------------------------------- */
/* Runs to the end; -EINTR when interrupted (the program is killed), -ECHILD when
 * it fails, said together with the end of what it printed. */
WUR int rig_run(struct rig *g, const char *const argv[]);
/* Starts it; it is killed at the end if still there. */
WUR int rig_spawn(struct rig *g, const char *const argv[], pid_t *ret);
/* Waits up to @seconds; then kills. */
void rig_reap(struct rig *g, pid_t pid, unsigned seconds);
/* The program built or installed together with this one. */
WUR int rig_find(const char *given, const char *built, const char *name, char path[RIG_PATH]);

/* ---- rig_disk.c: filesystems ----------------------------------------------- */
/* An image of @bytes on a loop device with direct I/O, made by @mkfs (NULL
 * terminated, the device is appended), mounted at scratch/@name. */
WUR int rig_loop_mount(struct rig *g, const char *name, uint64_t bytes, const char *const mkfs[],
		       const char *fstype, const char *options, char path[RIG_PATH]);
WUR int rig_btrfs(struct rig *g, uint64_t bytes, char path[RIG_PATH]);
/* base: in the scratch directory if that is ext4, else, or for many @files (0: only
 * a few), on a loop device: where many were removed lately, ext4 searches long
 * for inode numbers. */
WUR int rig_base(struct rig *g, uint64_t bytes, unsigned files);
void rig_drop_caches(void);
/* Everything is written and no data are cached any more; names are. Where that freed much it
 * waits: a virtual machine's memory then goes back to its host, which stops the machine for up
 * to a second at a time. */
void rig_drop_data(void);
/* Frees directory entries and inodes only. */
void rig_drop_names(void);

/* ---- rig_throttle.c -------------------------------------------------------- */
/* Puts this process, and so its children, into a blkio group of cgroup v1. */
void rig_throttle_init(struct rig *g);
/* Reads of base's device in bytes per second; 0 unlimited. False: cannot. */
bool rig_throttle_set(struct rig *g, uint64_t bytes_per_second);
/* What the group has read of that device so far. */
uint64_t rig_throttle_bytes(struct rig *g);
/* Leaves the group, or joins it again: programs started within stay in it. */
void rig_throttle_member(struct rig *g, bool in);
void rig_throttle_fini(struct rig *g);

/* ---- rig_mount.c: the daemon ------------------------------------------------ */
struct rig_mount {
	char store[RIG_PATH], mnt[RIG_PATH];
	pid_t pid; /* 0: not running */
};
/* base/@name.store on base/@name; @options for -o. */
WUR int rig_mount_start(struct rig *g, struct rig_mount *m, const char *name, const char *options);
WUR int rig_mount_stop(struct rig *g, struct rig_mount *m);
/* The same in @dir, which is on base's device. */
WUR int rig_mount_at(struct rig *g, struct rig_mount *m, const char *dir, const char *name,
		     const char *options);
/* Another FUSE server that stays in the foreground. */
WUR int rig_fuse_start(struct rig *g, struct rig_mount *m, const char *const argv[]);
/* Opens, reads to the end or as far as @cap, closes, as clients do. Bytes read or -errno. */
ssize_t rig_slurp(const char *path, char *buf, size_t cap);
/* @seen after each call: so much is there. */
ssize_t rig_slurp_seen(const char *path, char *buf, size_t cap, void (*seen)(void *arg, size_t len),
		       void *arg);
/* setfattr user.kvcache.@what; rig_steer says what fails. */
WUR int rig_set(const char *file, const char *what, const char *value);
WUR int rig_steer(const char *file, const char *what, const char *value);
/* getfattr user.kvcache.@what; "" when there is none. */
void rig_ask(const char *file, const char *what, char *buf, size_t len);
/* A counter or gauge kvcachefs_@name of .kvcachefs/metrics; -1 when it cannot be had. */
double rig_metric(const char *mnt, const char *name);
/* Waits until no promotion runs any more, then leaves the file on SSD only. */
WUR int rig_only_ssd(struct rig *g, const char *file);

/* ---- rig_corpus.c ----------------------------------------------------------- */
#define RIG_FILES_MAX 16
struct rig_corpus {
	unsigned n;
	char path[RIG_FILES_MAX][RIG_PATH];
	uint64_t bytes[RIG_FILES_MAX];
	uint64_t sum[RIG_FILES_MAX]; /* hash64 with seed 0 */
	uint64_t max_bytes;
};
/* @n real caches packed to options.bytes, made by kvlm when not there yet. */
WUR int rig_corpus(struct rig *g, unsigned n, struct rig_corpus *ret);
/* Of contexts of @tokens, packed to @size. */
WUR int rig_corpus_sized(struct rig *g, unsigned n, uint64_t size, unsigned tokens,
			 struct rig_corpus *ret);

/* ---- rig_load.c: the clients' part ------------------------------------------- */
enum load_how { LOAD_READ, LOAD_MMAP, LOAD_DIRECT };
/* From open to close into @buf; seconds, or -errno as a negative number. */
double load_file(const char *path, enum load_how how, void *buf, size_t len);
/* Present pages as malloc gives them to a client: huge where the system does so
 * unasked. NULL, or munmap(p, len) at the end. */
void *load_buffer(size_t len);
/* Several files at once, a thread and a buffer each. */
struct load_many {
	const char *path[RIG_FILES_MAX];
	void *buf[RIG_FILES_MAX];
	size_t len[RIG_FILES_MAX];
	unsigned n;
};
double load_many(const struct load_many *m, enum load_how how);
/* From open (new file) to close in calls of @call bytes; @buf repeats after @have. */
double save_file(const char *path, const void *buf, size_t have, uint64_t len, size_t call);
/* CLOCK_MONOTONIC. */
void load_sleep_until(uint64_t ns);
/* Ascending; then what a share of @p, in (0, 1], of the @n > 0 values is not above. */
void load_sort(float *v, size_t n);
float load_percentile(const float *sorted, size_t n, double p);
/* Copies and makes durable. */
WUR int copy_in(const char *from, const char *to);

#endif
