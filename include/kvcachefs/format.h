/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_FORMAT_H
#define KVCACHEFS_FORMAT_H
/*
 * Every byte that a store holds and that is ours (man kvcachefs-format.5).
 * Little-endian, fixed width, reserved fields zero on writing and checked on
 * reading. Files of every version stay readable for ever.
 *
 *   STORE/format          text: magic, version, uuid, creation time
 *   STORE/lock            flock'ed while mounted; holds the pid
 *   STORE/tree/           the namespace, one inode per file of the mount
 *   STORE/objects/xx/ID.G sealed contents
 *   STORE/trash/          names taken away whose objects are not yet removed
 *   STORE/meta/           LMDB: intents and the rebuildable index
 *   STORE/damaged/        what damage=hide took away
 */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>

/* 2: records of version 2. A mount of a store of version 1 makes it one of version 2. */
#define KVFS_STORE_VERSION 2
#define KVFS_FORMAT_MAGIC "kvcachefs-store"

/* ---- record: the durable switch ----------------------------------------- */

/*
 * Value of the xattr "trusted.kvcf" (stores made by root) or "user.kvcf"
 * (others; STORE/format says which) on the inode in tree/. Room for it is
 * reserved at creation by writing the plain state, so a file of 64 KiB or more
 * without a record has lost it (copied without xattrs) and is not served.
 * 64 bytes fit into a 256-byte ext4 inode together with their name.
 *
 * A store may be copied with its xattrs, and a copy may have other holes than
 * the original: zeros for holes, or holes for zeros. So a record says whether data
 * in the tree file means anything (OVERLAY), and for which inode (EXTENTS): of any
 * other inode the data count only if they lie where they are noted to be.
 * Version 1 had neither flag: there data override the object when the state is SEALED.
 */
#define KVFS_RECORD_XATTR_ROOT "trusted.kvcf"
#define KVFS_RECORD_XATTR_USER "user.kvcf"
#define KVFS_RECORD_VERSION 2

enum kvfs_record_state {
	KVFS_RECORD_PLAIN = 0,   /* the tree file holds the content */
	/* the object counts; the tree file is still to be cut to valid_bytes and its data
	 * to be punched */
	KVFS_RECORD_SWITCHED = 1,
	KVFS_RECORD_SEALED = 2,  /* punched */
};
#define KVFS_RECORD_CTIME 0x01u   /* ctime_* is what the mount reports */
#define KVFS_RECORD_MTIME 0x02u   /* mtime_* is to be put back after the punch */
#define KVFS_RECORD_DAMAGED 0x04u /* a read found damage */
#define KVFS_RECORD_OVERLAY 0x08u /* SEALED: data in the tree file override the object */
#define KVFS_RECORD_DROPPED 0x20u /* tokens of what was written were dropped: see accept */
#define KVFS_RECORD_EXTENTS 0x10u /* OVERLAY, no CTIME or MTIME: the seconds are these two */
/* In mtime_sec the inode: XXH3, seed 0, over its number (u64), its time of birth (i64
 * seconds, u32 nanoseconds) and a u32 of 0. In ctime_sec its map: for each run of 4 KiB
 * blocks that have data, in order, XXH3 over first block and the block after the
 * last (u64 each), the seed being what the run before gave, 0 for the first; this
 * value while it is being written. */
#define KVFS_RECORD_MAP_UNKNOWN UINT64_MAX

struct kvfs_record {
	uint8_t version;
	uint8_t state;        /* enum kvfs_record_state */
	uint8_t levels;       /* layers present in the object */
	uint8_t flags;
	uint32_t generation;  /* G of the object's name */
	uint8_t id[16];       /* ID of the object's name */
	int64_t mtime_sec;    /* as written by the client, before sealing; or see EXTENTS */
	int64_t ctime_sec;    /* likewise */
	uint32_t mtime_nsec;
	uint32_t ctime_nsec;
	uint64_t valid_bytes; /* object bytes from here on are holes (truncated) */
	uint32_t stored_blocks; /* 4 KiB blocks that the object occupies */
	uint32_t sum;         /* low half of XXH3, seed 0, over the other 60 bytes */
};
static_assert(sizeof(struct kvfs_record) == 64, "record size");
static_assert(offsetof(struct kvfs_record, id) == 8, "record layout");
static_assert(offsetof(struct kvfs_record, mtime_sec) == 24, "record layout");
static_assert(offsetof(struct kvfs_record, mtime_nsec) == 40, "record layout");
static_assert(offsetof(struct kvfs_record, valid_bytes) == 48, "record layout");
static_assert(offsetof(struct kvfs_record, stored_blocks) == 56, "record layout");
static_assert(offsetof(struct kvfs_record, sum) == 60, "record layout");

/* ---- object file --------------------------------------------------------- */

#define KVFS_OBJECT_MAGIC "KVCOBJ\r\n"
#define KVFS_OBJECT_VERSION 1
#define KVFS_OBJECT_LAYERS 8
#define KVFS_OBJECT_ALIGN 4096u

/*
 * Offset 0. Then, from layout_off and index_off, the layout descriptor and the
 * chunk index, then the layers, layer-major, each from a multiple of 4096.
 * header_sum is XXH3 with seed 0 over the bytes before it. The sums of layout
 * and index are XXH3 with the seed kvfs_identity of (kind 1 or 2).
 */
struct kvfs_object_header {
	uint8_t magic[8];
	uint32_t version;
	uint32_t header_bytes; /* 512 */
	uint8_t id[16];
	uint32_t generation;
	uint32_t flags;        /* 0 */
	uint64_t logical_bytes;
	uint64_t tree_ino;     /* of the inode in tree/ that it was sealed from; a hint */
	uint64_t created_ns;   /* CLOCK_REALTIME */
	uint32_t n_chunks;
	uint32_t n_layers;
	uint64_t layout_off, layout_len, layout_sum;
	uint64_t index_off, index_len, index_sum;
	uint64_t stored_bytes; /* length of the whole file with all layers */
	struct {
		uint64_t off, len;
	} layers[KVFS_OBJECT_LAYERS];
	uint32_t errors[KVFS_OBJECT_LAYERS]; /* f32, of each level, as policy/quality.h
					       * defines them; 0: not known */
	uint8_t reserved[512 - 128 - 20 * KVFS_OBJECT_LAYERS - 8];
	uint64_t header_sum;
};
static_assert(sizeof(struct kvfs_object_header) == 512, "object header size");
static_assert(offsetof(struct kvfs_object_header, id) == 16, "object header layout");
static_assert(offsetof(struct kvfs_object_header, logical_bytes) == 40, "object header layout");
static_assert(offsetof(struct kvfs_object_header, n_chunks) == 64, "object header layout");
static_assert(offsetof(struct kvfs_object_header, layout_off) == 72, "object header layout");
static_assert(offsetof(struct kvfs_object_header, layers) == 128, "object header layout");
static_assert(offsetof(struct kvfs_object_header, errors) == 256, "object header layout");
static_assert(offsetof(struct kvfs_object_header, header_sum) == 504, "object header layout");

/* Chunk index: n_chunks entries, ordered by offset, covering [0, logical_bytes)
 * without gaps. Each is a kvfs_chunk followed by n_layers kvfs_chunk_layer. */
struct kvfs_chunk {
	uint64_t off;         /* in the file */
	uint32_t len;         /* decoded */
	uint8_t elem, kind, transposed, n_layers;
	uint32_t model_layer;
	uint32_t row_bytes, head_bytes, first_row, region_rows;
	uint32_t reserved;
};
static_assert(sizeof(struct kvfs_chunk) == 40, "chunk size");
static_assert(offsetof(struct kvfs_chunk, elem) == 12, "chunk layout");
static_assert(offsetof(struct kvfs_chunk, row_bytes) == 20, "chunk layout");

struct kvfs_chunk_layer {
	uint64_t off;  /* in the object file */
	uint32_t len;  /* stored */
	uint16_t codec; /* enum codec_id */
	uint16_t kind; /* 0: bytes at off in this object; others are reserved */
	uint64_t sum;  /* XXH3 of the stored bytes, seed kvfs_identity (kind 3) */
};
static_assert(sizeof(struct kvfs_chunk_layer) == 24, "chunk layer size");

/*
 * What a checksum covers besides the bytes, so that swapped, stale and
 * misdirected data is found: the seed is XXH3, seed 0, over this.
 */
struct kvfs_identity {
	uint8_t id[16];
	uint32_t generation;
	uint32_t kind;      /* 1 layout, 2 index, 3 chunk layer, 4 replica chunk */
	uint32_t chunk;
	uint16_t layer;
	uint16_t codec;
	uint64_t chunk_off; /* file offset of the chunk */
	uint32_t chunk_len; /* decoded */
	uint32_t stored_len;
};
static_assert(sizeof(struct kvfs_identity) == 48, "identity size");

#endif
