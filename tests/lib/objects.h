/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_TESTS_LIB_OBJECTS_H
#define KVCACHEFS_TESTS_LIB_OBJECTS_H
/*
 * What tests of store/object, store/read and fsck share: content to seal, a
 * scratch directory, and objects made from content. Everything aborts the test
 * program when something unexpected fails (but not under injected faults).
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/object.h"

/* What a range of the content shall be stored as. */
struct tobj_part {
	uint64_t len;
	uint32_t chunk_bytes; /* cut into chunks of this many bytes */
	uint16_t codec;       /* enum codec_id */
	uint8_t elem;         /* enum elem_type for the planes codecs */
};

/* New directory below $TMPDIR or /var/tmp (on a filesystem with O_DIRECT where
 * there is one); returns a descriptor. */
int tobj_dir(char path[64]);
/* Removes it with everything inside. */
void tobj_dir_remove(const char *path, int fd);

/* Deterministic bytes: bf16 elements, normal with a spread per 64 channels, so
 * that the planes codecs gain; @seed selects. */
void tobj_fill_bf16(void *p, size_t len, uint64_t seed);

/*
 * Seals @data as objects_fd/xx/ID.G. Parts with CODEC_HOLE do not look at their
 * data (it must be zeros). Parts whose codec does not gain are stored raw.
 * Returns 0 or the writer's error. @n_layers of 2 or 3 splits every stored chunk
 * into that many pieces, which no codec understands: for the format alone. With
 * CODEC_LADDER_LAYERS, parts with CODEC_LADDER_HUF get the layers that it makes.
 */
WUR int tobj_seal(int objects_fd, const struct object_id *id, const void *data,
		  const struct tobj_part parts[], unsigned n_parts, unsigned n_layers);
/* What the headers say of the inode in tree/; 0: 42. */
extern uint64_t tobj_tree_ino;
/* The id that all tests use: bytes 1, 2, ... 16 and generation 7, varied by @n. */
struct object_id tobj_id(unsigned n);

#endif
