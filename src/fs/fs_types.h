/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_FS_FS_TYPES_H
#define KVCACHEFS_FS_FS_TYPES_H
/* The inside of struct fs, for src/fs only. */
#ifndef FUSE_USE_VERSION
#define FUSE_USE_VERSION 314
#endif
#include <fuse_lowlevel.h>
#include <stdatomic.h>

#include "base/list.h"
#include "base/lock.h"
#include "fs/follow.h"
#include "fs/fs.h"
#include "fs/uapi.h"

/* The kernel keeps names and attributes until told otherwise: only the daemon
 * changes the store behind its back, and then says so. */
#define FS_TIMEOUT_SEC 86400.0
#define FS_REQUEST_MAX (1u << 20) /* bytes of one read or write */
#define FS_SCRATCH_KEEP 16

/* Marks put by serve.c into the open flags of a request (WRITE, OPEN, CREATE),
 * for what libfuse 3.14 does not hand on. Not a flag of open(2). */
#define FS_FLAG_KILL_SUIDGID (1 << 30)

struct fs_features {
	uint32_t minor;         /* of the kernel's protocol */
	uint64_t offered, want; /* KF_* bits by the kernel, put into our reply */
	bool done;              /* INIT answered */
	bool passthrough;       /* a backing was registered for a trial */
	int passthrough_err;    /* why not, a positive errno */
	unsigned readahead_kb;  /* 0: not raised */
	uint64_t init_unique;
	unsigned max_write;
};

enum handle_kind { HANDLE_FILE, HANDLE_DIR, HANDLE_TEXT, HANDLE_CONTEXTS };
/* What fi->fh points to. Created by open, opendir, create; gone with release. */
struct handle {
	struct list link; /* in fs->handles */
	enum handle_kind kind;
	bool writable_backing;     /* mapped writes may change times unseen */
	struct file *file;         /* owned, HANDLE_FILE */
	struct dirh *dir;          /* owned, HANDLE_DIR; NULL for the control directory */
	struct lock lock;          /* serialises readers of dir and of control text */
	struct sbuf text;          /* HANDLE_TEXT */
	struct contexts *contexts; /* owned, HANDLE_CONTEXTS */
};

struct notifier;
struct server_set;
struct steer;

struct fs {
	struct store *st;          /* borrowed */
	const struct options *opt; /* borrowed */
	struct log *log;           /* borrowed */
	struct node *root;         /* borrowed from the store */
	struct fuse_session *se;   /* owned */
	struct fs_features feat;
	struct follow follow;
	struct notifier *notify;    /* owned; from fs_mount on */
	struct steer *steer;        /* owned */
	struct server_set *servers; /* owned */
	struct lock lock;           /* handles, scratch */
	struct list handles GUARDED;
	void *scratch[FS_SCRATCH_KEEP] GUARDED; /* last in, first out: cache-warm */
	unsigned n_scratch GUARDED;
	_Atomic unsigned n_contexts; /* open listings of contexts */
	_Atomic bool suid_seen;      /* a file with S_ISUID or S_ISGID was shown to the kernel */
	_Atomic uint64_t requests[KF_OPCODES];
	uint64_t started_ns;  /* CLOCK_REALTIME */
	uint64_t refused_log; /* log_limited state of refused settings */
	bool mounted;
	_Atomic unsigned device_users; /* store threads inside a call to the kernel */
	_Atomic bool device_gone;      /* no such call any more */
};

/* Before the session's descriptor is closed: waits for those inside (kernel.c). */
void kernel_device_gone(struct fs *fs);

/* Node ids: 1 the root, small numbers the control files, else the address. */
#define FS_INO_CONTROL 2
#define FS_INO_FIRST_NODE 64
static inline bool fs_ino_is_control(fuse_ino_t ino)
{
	return ino >= FS_INO_CONTROL && ino < FS_INO_FIRST_NODE;
}
static inline struct node *fs_node(const struct fs *fs, fuse_ino_t ino)
{
	return ino == FUSE_ROOT_ID ? fs->root : (struct node *)(uintptr_t)ino;
}
static inline fuse_ino_t fs_ino(const struct fs *fs, const struct node *n)
{
	return n == fs->root ? FUSE_ROOT_ID : (fuse_ino_t)(uintptr_t)n;
}
static inline struct fs *fs_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}
static inline struct caller fs_caller(fuse_req_t req)
{
	const struct fuse_ctx *c = fuse_req_ctx(req);

	return (struct caller){ .uid = c->uid, .gid = c->gid, .pid = c->pid };
}

#endif
