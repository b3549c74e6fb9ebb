/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_STORE_OBJECT_FORMAT_H
#define KVCACHEFS_STORE_OBJECT_FORMAT_H
/*
 * The one place where bytes of an object file become numbers and back. Private
 * to store/object*.c and to the tests that make bad objects. Everything here is
 * pure, total on any input and thread-safe.
 */
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "kvcachefs/format.h"
#include "store/object.h"

/* What a kvfs_identity's kind may be. */
enum object_sum_kind {
	OBJECT_SUM_LAYOUT = 1,
	OBJECT_SUM_INDEX = 2,
	OBJECT_SUM_CHUNK = 3,
	OBJECT_SUM_REPLICA = 4,
};

/* Most that header, layout and index may take together: 4 million chunks. */
#define OBJECT_FRONT_MAX (256u << 20)
/* Stored extents start at multiples of this, for the decoders' vector loads. */
#define OBJECT_EXTENT_ALIGN 64u
/* Most stored bytes of one chunk, all layers together: no codec may expand
 * further, and readers' buffers are made for it. */
#define OBJECT_STORED_MAX(chunk_len) ((uint64_t)(chunk_len) + (chunk_len) / 8 + 4096)

/* Host order to little-endian or back (the same operation), in place. */
void object_header_swap(struct kvfs_object_header *h);
void object_chunk_swap(struct kvfs_chunk *c);
void object_chunk_layer_swap(struct kvfs_chunk_layer *l);

/* Sum of the header's first 504 bytes as they lie on disk. */
uint64_t object_header_sum(const struct kvfs_object_header *disk);
/* Sum of the layout descriptor or of the index (kind 1 or 2). */
uint64_t object_part_sum(const struct object_id *id, unsigned kind, const void *p, size_t len);

/*
 * Checks the header's own bytes and that every range it names lies in the front
 * (layout, index) or behind it (layers), in order and disjoint. @disk is as read;
 * @ret is in host order. @file_bytes is the file's length. -KVFS_EMAGIC,
 * -KVFS_EVERSION, -KVFS_ECHECKSUM, -KVFS_EFORMAT, -KVFS_EIDENTITY (@want may be
 * NULL: any id), -KVFS_ETRUNCATED.
 */
WUR int object_header_parse(const struct kvfs_object_header *disk, const struct object_id *want,
			    uint64_t file_bytes, struct kvfs_object_header *ret);
/* Layers that lie wholly within @file_bytes: a level is a prefix of the file. */
unsigned object_layers_present(const struct kvfs_object_header *h, uint64_t file_bytes);

/*
 * Fills @chunks (h->n_chunks) and @layers (as many as the index holds:
 * object_index_layers) from the index's bytes. -KVFS_EFORMAT.
 */
WUR int object_index_parse(const struct kvfs_object_header *h, const void *index,
			   struct object_chunk *chunks, struct object_layer *layers);
/* Layer entries in an index of h->index_len bytes, -KVFS_EFORMAT. */
WUR int object_index_layers(const struct kvfs_object_header *h, uint64_t *ret);

#endif
