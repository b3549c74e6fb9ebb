/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_STORE_STORE_H
#define KVCACHEFS_STORE_STORE_H
/*
 * The store: a namespace of files whose contents are plain (as written) or
 * sealed (encoded). Everything that fs/ needs is here; fs/ adds only the FUSE
 * protocol, the steering names and the control files.
 *
 * All functions are thread-safe, may block on the backing filesystem unless
 * said otherwise, and return 0 or -code (base/err.h). Nothing here knows FUSE.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>

#include "base/err.h"
#include "base/log.h"
#include "base/sbuf.h"
#include "policy/cost.h"

struct store;
struct node; /* a name's inode as the kernel knows it; alive while looked up or open */
struct file; /* an open file description */
struct dirh; /* an open directory */

/* ---- configuration ------------------------------------------------------ */

enum full_mode { FULL_ENOSPC, FULL_EVICT };
enum damage_mode { DAMAGE_EIO, DAMAGE_HIDE };
enum statfs_mode { STATFS_PHYSICAL, STATFS_LOGICAL };
/* Ways of serving an open file; a set of bits. */
enum path_bits {
	PATH_PASSTHROUGH_READ = 1,  /* decoded copies, plain files: kernel reads natively */
	PATH_PASSTHROUGH_WRITE = 2, /* plain files: kernel writes natively */
	PATH_STREAM = 4,            /* direct_io replies from the decoder */
	PATH_CACHED = 8,            /* the kernel's page cache: always possible */
};

/* What the store asks of the kernel side (implemented by fs/). Called without
 * store locks held. inval_* must not be called from a thread that serves a
 * kernel request for the same inode. */
struct store_kernel_ops {
	/* Drop cached attributes and, with @data, cached pages of @n. */
	void (*inval_inode)(void *arg, struct node *n, bool data);
	/* Drop the cached name (of an evicted file). */
	void (*inval_entry)(void *arg, struct node *dir, const char *name);
	/* The same for a name that is only to be forgotten, from any thread: never
	 * waits; false when the kernel is behind, and then nothing happens. */
	bool (*prune_entry)(void *arg, struct node *dir, const char *name);
	/* Registers @fd as a passthrough backing: id > 0 or -errno. */
	int (*backing_open)(void *arg, int fd);
	void (*backing_close)(void *arg, int id);
};

struct policy_ops; /* policy/policy.h */

struct store_config {
	const char *path;        /* STORE; created when absent and not read_only */
	struct log *log;
	uint64_t dram_bytes;     /* hard bound of all data memory */
	uint64_t ssd_bytes;      /* hard bound of what the store occupies; 0: the filesystem's size */
	uint64_t reserve_bytes;  /* free budget below which writes are seen one by one; 0: 5 %, 2G */
	enum full_mode full;
	enum damage_mode damage;
	enum statfs_mode statfs;
	bool read_only;
	bool strictwrite;        /* never PATH_PASSTHROUGH_WRITE */
	unsigned threads;        /* workers; 0: number of CPUs */
	uint64_t settle_ns;      /* quiet time after the last close before sealing */
	double quality;          /* mount-wide floor, 1 = exact */
	bool raw;                /* what is sealed stays as it is, whether that gains anything or not */
	const char *policy;      /* "lru", "fixed:1", ... */
	double alpha_s;          /* adaptive: seconds that a unit of quality is worth */
	double recompute_s_per_mb; /* adaptive: of content whose file says nothing */
	double recompute_s_per_token; /* before that, where the number of tokens is known; 0: not */
	uint64_t trace_bytes;    /* most that recorded accesses take in STORE; 0: none are */
	unsigned paths;          /* enum path_bits that the user allows */
};

/* Opens or creates a store and recovers what was in flight (time proportional
 * to that). Fails with a text for people in @why: -KVFS_ELOCKED (names the
 * holder's pid), -KVFS_EMAGIC (foreign directory), -KVFS_EVERSION, -EOPNOTSUPP
 * (filesystem without xattrs, overlayfs), -EROFS, -errno. No threads run yet. */
WUR int store_open(const struct store_config *cfg, struct store **ret, struct sbuf *why);
/* The kernel side is there: @paths are the ways that the probe found working
 * (and-ed with the configuration). Starts workers and background jobs. Called
 * once, after daemonizing. */
WUR int store_start(struct store *st, const struct store_kernel_ops *k, void *karg, unsigned paths);
/* Finishes writing; seals what is quick when @seal; persists the index. All
 * files must have been closed. NULL ok. */
void store_close(struct store *st, bool seal);

/* ---- names -------------------------------------------------------------- */

struct caller {
	uid_t uid;
	gid_t gid;
	pid_t pid; /* 0 unknown */
};

struct node *store_root(struct store *st); /* borrowed, never forgotten */
/* Each success of lookup, mkdir, mknod, symlink, link, create and of readdir
 * with plus gives the caller one reference on the node, returned by forget. */
WUR int store_lookup(struct store *st, struct node *dir, const char *name,
		     struct node **ret, struct stat *ret_attr);
void store_forget(struct store *st, struct node *n, uint64_t nlookup); /* never blocks on I/O */
/* @f may be NULL. st_size logical, st_blocks stored, times as written. */
WUR int store_getattr(struct store *st, struct node *n, struct file *f, struct stat *ret);

enum set_bits {
	SET_MODE = 1, SET_UID = 2, SET_GID = 4, SET_SIZE = 8,
	SET_ATIME = 16, SET_MTIME = 32, SET_ATIME_NOW = 64, SET_MTIME_NOW = 128,
	SET_KILL_SUIDGID = 256,
};
WUR int store_setattr(struct store *st, struct node *n, struct file *f,
		      const struct stat *attr, unsigned set, struct stat *ret);
WUR int store_readlink(struct store *st, struct node *n, char *buf, size_t len); /* NUL-terminated */
WUR int store_mkdir(struct store *st, const struct caller *c, struct node *dir, const char *name,
		    mode_t mode, struct node **ret, struct stat *ret_attr);
/* Regular files, fifos, sockets; devices as root only. */
WUR int store_mknod(struct store *st, const struct caller *c, struct node *dir, const char *name,
		    mode_t mode, dev_t rdev, struct node **ret, struct stat *ret_attr);
WUR int store_symlink(struct store *st, const struct caller *c, const char *target,
		      struct node *dir, const char *name, struct node **ret, struct stat *ret_attr);
WUR int store_link(struct store *st, struct node *n, struct node *dir, const char *name,
		   struct stat *ret_attr); /* takes one more reference on @n */
WUR int store_unlink(struct store *st, struct node *dir, const char *name);
WUR int store_rmdir(struct store *st, struct node *dir, const char *name);
/* @flags: RENAME_NOREPLACE, RENAME_EXCHANGE or 0; others -EINVAL. */
WUR int store_rename(struct store *st, struct node *dir, const char *name,
		     struct node *newdir, const char *newname, unsigned flags);

WUR int store_opendir(struct store *st, struct node *n, struct dirh **ret);
struct dir_entry {
	const char *name; /* valid until the next call on the dirh */
	uint64_t ino;
	unsigned type;    /* DT_* */
	uint64_t next;    /* offset to continue behind this entry */
	struct node *node; /* with plus: looked up, or NULL when that failed */
	struct stat attr;  /* with plus and node */
};
/* The entry at offset @off (0 first). 1 with an entry, 0 at the end, -code.
 * One thread at a time per dirh. */
WUR int store_readdir(struct dirh *d, uint64_t off, bool plus, struct dir_entry *ret);
WUR int store_fsyncdir(struct dirh *d);
void store_closedir(struct dirh *d);

/* ---- open files --------------------------------------------------------- */

enum serve_mode {
	SERVE_STREAM,      /* FOPEN_DIRECT_IO */
	SERVE_CACHED,      /* the kernel's page cache */
	SERVE_PASSTHROUGH, /* reads and writes go to backing_id by the kernel */
	/* reads and writes come to us, mappings go to backing_id: a writer beside
	 * passthrough readers that must be seen (FOPEN_PASSTHROUGH|FOPEN_DIRECT_IO) */
	SERVE_PASSTHROUGH_DIRECT,
};
struct open_reply {
	struct file *file;
	enum serve_mode mode;
	int backing_id;  /* for the passthrough modes */
	bool keep_cache; /* SERVE_CACHED: pages of an earlier open are still right */
};
/* @flags: O_ACCMODE, O_TRUNC, O_APPEND, O_DIRECT, O_SYNC, O_DSYNC, O_NOATIME.
 * Opening never unseals; only the first write does. */
WUR int store_openat(struct store *st, struct node *n, int flags, const struct caller *c,
		     struct open_reply *ret);
WUR int store_create(struct store *st, const struct caller *c, struct node *dir, const char *name,
		     mode_t mode, int flags, struct node **ret, struct stat *ret_attr,
		     struct open_reply *ret_open);
void store_release(struct file *f);
/* close(2) of one descriptor: reports a pending write error. */
WUR int store_flush(struct file *f);
WUR int store_fsync(struct file *f, bool datasync);

#define READ_SLICES_MAX 64
struct read_reply {
	void *scratch;       /* in: page-aligned room of the calling thread ... */
	size_t scratch_len;  /* in: ... at least the request's length */
	struct iovec iov[READ_SLICES_MAX + 1]; /* iov[0] is left to the caller (reply header) */
	unsigned n;          /* slices from iov[1] on */
	size_t len;          /* sum; shorter than asked only at end of file */
	void *pins[READ_SLICES_MAX]; /* private: decoded chunks held until store_read_done */
	unsigned n_pins;
	void *owner; /* private */
};
/* Reads [off, off+len). Slices point into decoded chunks or into scratch.
 * -EIO classes for damage at @off itself. */
WUR int store_read(struct file *f, uint64_t off, size_t len, struct read_reply *r);
void store_read_done(struct read_reply *r); /* always after a successful store_read */
/* All of @len or -code (-KVFS_EFULL before anything is written). */
WUR int store_write(struct file *f, const void *buf, size_t len, uint64_t off);
/* As fallocate(2); -EOPNOTSUPP where the backing filesystem says so. */
WUR int store_fallocate(struct file *f, int mode, uint64_t off, uint64_t len);
/* SEEK_DATA, SEEK_HOLE. */
WUR int store_lseek(struct file *f, uint64_t off, int whence, uint64_t *ret);
/* Bytes copied (may be short) or -code. */
WUR ssize_t store_copy_range(struct file *in, uint64_t off_in, struct file *out,
			     uint64_t off_out, size_t len);

WUR int store_statfs(struct store *st, struct statvfs *ret);
/* syncfs: everything acknowledged so far is durable. */
WUR int store_syncfs(struct store *st);

/* ---- extended attributes ------------------------------------------------ */

/* As l*xattr(2) on the file in tree/. The store's own names do not exist here:
 * -ENODATA to get, -EPERM to set, absent from the list. Returns bytes (with
 * len 0: the size needed). */
WUR ssize_t store_getxattr(struct store *st, struct node *n, const char *name, void *buf, size_t len);
WUR ssize_t store_listxattr(struct store *st, struct node *n, char *buf, size_t len);
WUR int store_setxattr(struct store *st, struct node *n, const char *name, const void *val,
		       size_t len, int flags);
WUR int store_removexattr(struct store *st, struct node *n, const char *name);

/* ---- steering and looking ----------------------------------------------- */

#define INFO_LEVELS_MAX 8
enum ctx_state { CTX_PLAIN, CTX_SEALING, CTX_SEALED, CTX_OVERLAY };
struct ctx_info {
	enum ctx_state state;
	bool damaged, pinned;
	char layout[160];      /* layout_dump, "" when not examined (plain) */
	char codec[48];        /* codec of most bytes, "none" when plain */
	unsigned levels;       /* layers stored (1 when exact only, 0 plain) */
	unsigned levels_max;   /* with those that were dropped */
	bool dropped;          /* has lost tokens: its top level is what was left */
	unsigned level_next;   /* layers that the next open gets; levels_max: exact */
	uint64_t level_bytes[INFO_LEVELS_MAX];   /* on storage, of each level that is there */
	double level_quality[INFO_LEVELS_MAX];   /* expected; 0: not known */
	uint64_t logical_bytes, stored_bytes, replica_bytes, copy_bytes;
	bool in_dram, has_copy; /* tiers: replica in DRAM, decoded copy */
	uint64_t hits;
	double frequency;      /* decayed hits */
	double quality;        /* floor in force (own or inherited or mount) */
	uint64_t opens;
	uint64_t ino;
	char reason[64];       /* of the last move, or why it stays plain */
	bool planned;          /* the rest is by a policy that plans */
	double utility;        /* seconds: reads expected x (alpha x quality - delay) */
	double estimate;       /* quality of a read at ... */
	unsigned plan_level;   /* ... the level that the next open gets */
	unsigned plan_dram, plan_stored, plan_layers; /* layers in memory, on SSD, made */
	char why[1024];        /* that policy's sentences; "" in lists */
};
WUR int store_info(struct store *st, struct node *n, struct ctx_info *ret);
/* Seals now and waits; -EBUSY while open for writing or mapped, -KVFS_ENOGAIN
 * (stays plain), 0 when sealed. What is sealed in one layer, and has a grant, is
 * encoded anew in layers where that is possible. */
WUR int store_seal(struct store *st, struct node *n);
/* Goes to a level, by its number or "exact", and drops the layers above it; seals or
 * re-layers first where that is needed. -KVFS_EEXACT, -KVFS_EVETO, -KVFS_EFLOOR;
 * -KVFS_EGONE upwards; -KVFS_ENOLAYERS; -EINVAL; else as store_seal. Who has the file
 * open keeps the level that he has; the room comes free when he is done.
 *
 * "drop:METHOD:SHARE" (codecs/drop.h) leaves a file of only that share of the tokens,
 * which is shorter; also -EBUSY while anybody has it open, -KVFS_ENOACCEPT,
 * -KVFS_ENODROP. */
WUR int store_level(struct store *st, struct node *n, const char *level);
/* The token positions that the file holds, as ranges; -ENODATA where it tells none. */
WUR int store_positions(struct store *st, struct node *n, struct sbuf *ret);
/* Back to plain: the bytes as they read at the best level that is there. */
WUR int store_unseal(struct store *st, struct node *n);
WUR int store_pin(struct store *st, struct node *n, uid_t who, bool on); /* -EDQUOT over the user's share */
enum place { PLACE_SSD, PLACE_DRAM, PLACE_COPY };
/* Brings the file to DRAM (replica), to a decoded copy, or drops both. Waits. */
WUR int store_move(struct store *st, struct node *n, enum place where);
/* Starts store_move(PLACE_DRAM or COPY by policy) in the background. */
WUR int store_prefetch(struct store *st, struct node *n, uid_t who);
/* Removes the file as full=evict would: -EBUSY when open, pinned or with another
 * name; -EACCES when @who could not unlink it (the owner of the file is asking). */
WUR int store_evict(struct store *st, struct node *n, const struct caller *who);
/* Something that changes inherited settings was set on @n (user.kvcache.layout,
 * quality, ...): drop what was cached. */
void store_settings_changed(struct store *st, struct node *n);

struct store_status {
	uint64_t dram_limit, dram_used, dram_use[8]; /* by enum budget_use */
	uint64_t ssd_limit, ssd_used, ssd_logical, ssd_overshoot;
	uint64_t files, files_sealed, nodes, opens, replicas, copies;
	uint64_t seal_queue, seal_running;
	uint64_t held_files, held_bytes; /* dropped layers that are still in use, and ... */
	char held[256];        /* ... paths of some of these files */
	unsigned paths;        /* working ways */
	double ssd_read_Bps, ssd_latency_ns, decode_Bps;
	struct cost_rates rates; /* what the policy counts with, guesses where nothing was seen */
	bool planned;            /* the rest is of a policy that plans */
	uint64_t plans, plan_contexts, plan_dram_bytes, plan_ssd_bytes;
	double plan_dram_price, plan_ssd_price; /* utility per MiB */
	uint64_t resampled;      /* samples of contexts taken since the mount */
	unsigned measured, measured_models; /* contexts that readers measured, models of them */
	bool plan_fits;
	char uuid[40];
	char policy[32];
	bool read_only;
};
void store_status(struct store *st, struct store_status *ret);

/* Counters, one table: name, unit, help (store/stats.h has the X-macro); the
 * callback gets each with its value. */
void store_each_counter(struct store *st,
			void (*cb)(void *arg, const char *name, const char *help, uint64_t value),
			void *arg);
/* Every file that the index knows: path within the mount and its info, in no
 * order. @cb false stops. Opens nothing: layout and codec are "" for sealed files that
 * are neither open nor lately read. */
void store_each_context(struct store *st,
			bool (*cb)(void *arg, const char *path, const struct ctx_info *i), void *arg);
/* Starts a scrub (verify everything at low priority) or tells how far it is. */
WUR int store_scrub_start(struct store *st);
struct scrub_status {
	bool running;
	uint64_t files_done, files_total, bytes_done, damaged;
};
void store_scrub_status(struct store *st, struct scrub_status *ret);
/* Changes a limit at run time (dram, at least 16 MiB, or ssd, 0: the filesystem's
 * size): evicts down to it. -EINVAL. */
WUR int store_set_limit(struct store *st, bool dram, uint64_t bytes);

#endif
