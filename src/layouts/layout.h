/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_LAYOUTS_LAYOUT_H
#define KVCACHEFS_LAYOUTS_LAYOUT_H
/*
 * A layout says where in a file the K and V elements lie. A recogniser reads as
 * little of the file as it needs through a callback, and accounts for every
 * byte up to the end exactly, or it has not recognised it. Recognisers are
 * pure apart from that callback, thread-safe, and treat every byte as hostile:
 * time and memory are bounded (LAYOUT_REGIONS_MAX, header limits) whatever the
 * header claims. Byte formats: shared/reference/clients.md documents them; each
 * recogniser's header comment names the engine, version and source file.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/elem.h"
#include "base/err.h"
#include "base/sbuf.h"

#define LAYOUT_REGIONS_MAX 65536u
/* Of one file; 4 TiB at 1 MiB each. Bounds what layout_cut allocates. */
#define LAYOUT_CHUNKS_MAX (1u << 22)

struct layout_region {
	uint64_t off_bytes, len_bytes; /* file range, never empty */
	uint8_t kind;                  /* enum region_kind, never REGION_OPAQUE */
	uint8_t elem;                  /* enum elem_type */
	uint8_t transposed;            /* rows are channels */
	uint32_t layer;
	uint32_t row_bytes;  /* len is a multiple of it; 0 unknown */
	uint32_t head_bytes; /* row is a multiple of it; 0 unknown */
};

struct layout {
	const char *name; /* "llama-seq", "safetensors", ...; static; "opaque" when nothing fits */
	uint64_t size_bytes;
	/* Sorted by offset, disjoint, inside the file; everything between them
	 * is opaque. Owned. */
	struct layout_region *regions;
	uint32_t n_regions;
	/* For user.kvcache.layout; 0 when unknown. */
	uint32_t layers, heads, head_dim, tokens;
	uint8_t elem;    /* of most bytes in regions; ELEM_BYTES without regions */
	bool lossy_veto; /* must stay exact whatever is granted */
	char veto[64];   /* why, for people; "" when not vetoed */
};

/* What a recogniser may look at. All borrowed. */
struct layout_input {
	const char *name; /* last path component */
	const char *dir;  /* path of the directory within the mount, "" for the root */
	uint64_t size_bytes;
	/* Reads up to len bytes at off: bytes read (short only at end of file)
	 * or -errno. */
	int64_t (*read)(void *arg, void *buf, size_t len, uint64_t off);
	/* Reads up to len bytes from the start of another small file of the same
	 * directory or, with "../" prefixes, of one above it, where one directory
	 * may be named ("../../../MODEL_HASH/config.json"): bytes or -errno
	 * (-ENOENT; -EINVAL for other forms, taken as absent). May be NULL. */
	int64_t (*read_beside)(void *arg, const char *name, void *buf, size_t len);
	void *arg;
	const char *declared; /* user.kvcache.layout of the file or inherited; NULL none */
	bool checksummed;     /* a checksum of the content is kept beside it: veto lossy */
};

/* Tries the table in order; a declared geometry goes first. 0 with a new
 * layout (layout_destroy), which is "opaque" without regions when nothing fits;
 * -ENOMEM, or -errno of read. */
WUR int layout_recognise(const struct layout_input *in, struct layout **ret);
void layout_destroy(struct layout *l); /* NULL ok */

/* Checks a declaration as setfattr gives it; -EINVAL and a text for people in
 * @why (may be NULL). Grammar in man/kvcachefs-xattr.7. */
WUR int layout_declared_check(const char *s, char *why, size_t why_len);

/* One line for user.kvcache.layout:
 * "llama-seq layers=32 heads=8 dim=128 dtype=f16 tokens=2048". */
void layout_dump(const struct layout *l, struct sbuf *b);

/* The descriptor as kept inside an object (man/kvcachefs-format.5, "layout
 * descriptor"). pack: appends to b. unpack: -KVFS_EFORMAT for anything that is
 * not exactly what pack makes (sorted, disjoint, inside size, known names). */
WUR int layout_pack(const struct layout *l, struct sbuf *b);
WUR int layout_unpack(const void *p, size_t len, struct layout **ret);

/* Cutting into chunks: runs of whole rows of one region, or opaque bytes, of
 * about target_bytes (1.5 times at most) and at most max_bytes each. Rows longer
 * than max_bytes are cut at elements, and their chunks' shapes have row_bytes 0.
 * Small neighbours without a gap, of one element type and row, are merged into one
 * chunk up to the target: its layer is the first one's, its kind REGION_KV when they
 * differ, head_bytes 0 when they differ, region_rows the chunk's;
 * part_rows says where each begins when all are alike.
 * The chunks cover [0, size_bytes) without gaps, in order. */
struct layout_chunk {
	uint64_t off_bytes;
	uint32_t len_bytes;
	struct chunk_shape shape;
};
/* -ENOMEM, -E2BIG (more than LAYOUT_CHUNKS_MAX: the file is not for sealing).
 * Array owned by the caller (mem_free). */
WUR int layout_cut(const struct layout *l, uint32_t target_bytes, uint32_t max_bytes,
		   struct layout_chunk **ret, uint32_t *ret_n);

/* One recogniser: one file, one line in layout.c's table. */
struct layout_ops {
	const char *name; /* static; several forms of one format may share a file */
	/* 0: recognised, ret filled (regions allocated with mem_*);
	 * -KVFS_ENOLAYOUT: not this; -ENOMEM; -errno of read. */
	int (*recognise)(const struct layout_input *in, struct layout *ret);
};

#endif
