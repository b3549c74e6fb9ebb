/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_FORMAT_LAYOUT_H
#define KVCACHEFS_FORMAT_LAYOUT_H
/*
 * The layout descriptor: what lies where in a sealed file. An object file holds
 * one between its header and its chunk index, covered by their checksums.
 * Little-endian, fixed-width; reserved fields are zero and checked.
 *
 *   struct kvfs_layout_head
 *   n_runs x struct kvfs_layout_run
 *   veto_len bytes of text, no NUL
 *
 * There is one valid encoding of each layout: runs are as long as they can be.
 */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#define KVFS_LAYOUT_MAGIC 0x444c564bu /* "KVLD" */
#define KVFS_LAYOUT_VERSION 1
#define KVFS_LAYOUT_VETO_MAX 63

/* Which recogniser it was. Written to disk: never renumber. */
enum kvfs_layout_id {
	KVFS_LAYOUT_OPAQUE = 0,
	KVFS_LAYOUT_LLAMA_SEQ = 1,
	KVFS_LAYOUT_LLAMA_SESSION = 2,
	KVFS_LAYOUT_SAFETENSORS = 3,
	KVFS_LAYOUT_LMCACHE_FS = 4,
	KVFS_LAYOUT_LMCACHE_GDS = 5,
	KVFS_LAYOUT_NPY = 6,
	KVFS_LAYOUT_DECLARED = 7,
	KVFS_LAYOUT_NUMERIC = 8,
	KVFS_LAYOUT_IDS_
};

#define KVFS_LAYOUT_F_VETO 1u /* exact only; the text says why */

struct kvfs_layout_head {
	uint32_t magic;
	uint8_t version;
	uint8_t id;       /* enum kvfs_layout_id */
	uint8_t elem;     /* enum elem_type of most bytes */
	uint8_t flags;    /* KVFS_LAYOUT_F_* */
	uint64_t size_bytes;
	uint32_t layers, heads, head_dim, tokens;
	uint32_t n_regions;
	uint32_t n_runs;
	uint8_t veto_len; /* 0 without KVFS_LAYOUT_F_VETO */
	uint8_t reserved[7];
};
static_assert(sizeof(struct kvfs_layout_head) == 48, "size on disk");
static_assert(offsetof(struct kvfs_layout_head, size_bytes) == 8, "offset on disk");
static_assert(offsetof(struct kvfs_layout_head, layers) == 16, "offset on disk");
static_assert(offsetof(struct kvfs_layout_head, n_regions) == 32, "offset on disk");
static_assert(offsetof(struct kvfs_layout_head, veto_len) == 40, "offset on disk");

/* @count equal regions, @stride_bytes apart; the i-th has layer
 * @layer + i * @layer_step. A single one has stride and step 0. */
struct kvfs_layout_run {
	uint64_t off_bytes, len_bytes, stride_bytes;
	uint32_t count;
	uint32_t layer;
	uint32_t row_bytes, head_bytes;
	uint8_t kind, elem, transposed, layer_step;
	uint8_t reserved[4];
};
static_assert(sizeof(struct kvfs_layout_run) == 48, "size on disk");
static_assert(offsetof(struct kvfs_layout_run, count) == 24, "offset on disk");
static_assert(offsetof(struct kvfs_layout_run, row_bytes) == 32, "offset on disk");
static_assert(offsetof(struct kvfs_layout_run, kind) == 40, "offset on disk");

#endif
