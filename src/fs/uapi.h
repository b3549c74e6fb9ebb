/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_FS_UAPI_H
#define KVCACHEFS_FS_UAPI_H
/*
 * What this program needs of the kernel's FUSE protocol beyond libfuse 3.14:
 * numbers and layouts of protocol 7.40, valid for every later one. The names
 * begin with KF_/kf_ so that they never clash with a <linux/fuse.h> of any age.
 */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>

/* Feature bits of INIT, both directions (flags | flags2 << 32). */
#define KF_PARALLEL_DIROPS (1ull << 18)
#define KF_HANDLE_KILLPRIV_V2 (1ull << 28)
#define KF_INIT_EXT (1ull << 30)
#define KF_DIRECT_IO_ALLOW_MMAP (1ull << 36)
#define KF_PASSTHROUGH (1ull << 37)
#define KF_NO_EXPORT_SUPPORT (1ull << 38)

/* Flags of an open reply. */
#define KF_OPEN_DIRECT_IO (1u << 0)
#define KF_OPEN_KEEP_CACHE (1u << 1)
#define KF_OPEN_CACHE_DIR (1u << 3)
#define KF_OPEN_NOFLUSH (1u << 5)
#define KF_OPEN_PARALLEL_DIRECT_WRITES (1u << 6)
#define KF_OPEN_PASSTHROUGH (1u << 7)

/* Flags of requests that libfuse 3.14 does not hand on. */
#define KF_WRITE_KILL_SUIDGID (1u << 2)
#define KF_OPEN_KILL_SUIDGID (1u << 0)

/* Requests looked at before libfuse sees them. */
enum kf_opcode {
	KF_LOOKUP = 1,
	KF_FORGET = 2,
	KF_GETATTR = 3,
	KF_OPEN = 14,
	KF_READ = 15,
	KF_WRITE = 16,
	KF_RELEASE = 18,
	KF_INIT = 26,
	KF_RELEASEDIR = 29,
	KF_CREATE = 35,
	KF_INTERRUPT = 36,
	KF_DESTROY = 38,
	KF_BATCH_FORGET = 42,
	KF_SYNCFS = 50,
	KF_OPCODES = 64, /* bound of our counters; unknown ones share slot 0 */
};

struct kf_in_header {
	uint32_t len, opcode;
	uint64_t unique, nodeid;
	uint32_t uid, gid, pid;
	uint32_t extlen;
};
static_assert(sizeof(struct kf_in_header) == 40, "protocol");

struct kf_out_header {
	uint32_t len;
	int32_t error;
	uint64_t unique;
};
static_assert(sizeof(struct kf_out_header) == 16, "protocol");

struct kf_init_in {
	uint32_t major, minor, max_readahead, flags, flags2;
	uint32_t unused[11];
};
static_assert(sizeof(struct kf_init_in) == 64, "protocol");

struct kf_init_out {
	uint32_t major, minor, max_readahead, flags;
	uint16_t max_background, congestion_threshold;
	uint32_t max_write, time_gran;
	uint16_t max_pages, map_alignment;
	uint32_t flags2, max_stack_depth;
	uint32_t unused[6];
};
static_assert(sizeof(struct kf_init_out) == 64, "protocol");
static_assert(offsetof(struct kf_init_out, max_stack_depth) == 36, "protocol");

struct kf_open_in {
	uint32_t flags, open_flags;
};
struct kf_create_in {
	uint32_t flags, mode, umask, open_flags;
};
struct kf_write_in {
	uint64_t fh, offset;
	uint32_t size, write_flags;
	uint64_t lock_owner;
	uint32_t flags, padding;
};
static_assert(sizeof(struct kf_write_in) == 40, "protocol");

struct kf_open_out {
	uint64_t fh;
	uint32_t open_flags;
	int32_t backing_id;
};
static_assert(sizeof(struct kf_open_out) == 16, "protocol");

struct kf_attr {
	uint64_t ino, size, blocks, atime, mtime, ctime;
	uint32_t atimensec, mtimensec, ctimensec;
	uint32_t mode, nlink, uid, gid, rdev, blksize, flags;
};
struct kf_entry_out {
	uint64_t nodeid, generation, entry_valid, attr_valid;
	uint32_t entry_valid_nsec, attr_valid_nsec;
	struct kf_attr attr;
};
static_assert(sizeof(struct kf_entry_out) == 128, "protocol");

/* Passthrough: a file descriptor becomes a backing id of the connection. */
struct kf_backing_map {
	int32_t fd;
	uint32_t flags;
	uint64_t padding;
};
#define KF_IOC_BACKING_OPEN _IOW(229, 1, struct kf_backing_map)
#define KF_IOC_BACKING_CLOSE _IOW(229, 2, uint32_t)

#endif
