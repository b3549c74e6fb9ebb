/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_STORE_OBJECT_H
#define KVCACHEFS_STORE_OBJECT_H
/*
 * One sealed content: the file objects/xx/ID.G and its parsed header, layout
 * and chunk index in memory. Immutable once written. An object in memory is
 * reference-counted, holds one descriptor (O_DIRECT where the filesystem allows
 * it) and is counted in the budget (BUDGET_TABLE).
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/budget.h"
#include "base/elem.h"
#include "base/err.h"
#include "kvcachefs/format.h"
#include "layouts/layout.h"

struct object_id {
	uint8_t id[16];
	uint32_t generation;
};

struct object_layer {
	uint64_t off_bytes; /* in the object file */
	uint64_t sum;
	uint32_t len_bytes; /* stored; 0 for CODEC_HOLE */
	uint16_t codec;
};
struct object_chunk {
	uint64_t off_bytes; /* in the file */
	uint32_t len_bytes; /* decoded */
	uint32_t first_layer; /* index into object.layers */
	uint8_t n_layers;
	struct chunk_shape shape;
};

struct object {
	_Atomic unsigned refs;
	struct object_id id;
	int fd;                /* owned; -1 for a memory-only object in tests */
	bool direct;           /* fd has O_DIRECT */
	uint64_t logical_bytes, stored_bytes, tree_ino;
	uint32_t n_chunks, n_layers_max;
	unsigned n_layers_present; /* whole within the file, >= 1; a record that promises more: cut */
	uint64_t level_bytes[KVFS_OBJECT_LAYERS]; /* length of the file cut behind layer i */
	/* Of level i, policy/quality.h; 0: not known. As sealed; resample.c changes both under the
	 * gate of the context that has loaded it, exclusive, and they are looked at under it. */
	float errors[KVFS_OBJECT_LAYERS];
	uint32_t n_samples;
	struct object_chunk *chunks; /* owned, by offset, no gaps */
	struct object_layer *layers; /* owned */
	struct layout *layout;       /* owned */
	struct budget *budget;       /* borrowed; NULL in tools */
	size_t table_bytes;          /* counted */
};

/* "xx/ID.G" into @buf (OBJECT_NAME_MAX). */
#define OBJECT_NAME_MAX 64
void object_name(const struct object_id *id, char *buf);
/* Parses the last component "ID.G"; -EINVAL. */
WUR int object_name_parse(const char *name, struct object_id *ret);
int object_id_random(uint32_t generation, struct object_id *ret);
/* Decoded bytes of its longest chunk, at least 1. */
size_t object_chunk_max(const struct object *o);
/* Tells this object from others by 32 bits. */
uint32_t object_mark(const struct object_id *id);

/*
 * Opens and checks header, layout and index of objects_fd/xx/ID.G. Time and
 * memory are bounded by the file's length, not by what its header claims.
 * -ENOENT; -KVFS_EMAGIC, -KVFS_EVERSION, -KVFS_EFORMAT, -KVFS_ECHECKSUM,
 * -KVFS_EIDENTITY (another id, generation), -KVFS_ETRUNCATED; -ENOMEM;
 * -KVFS_EBUDGET (caller makes room and retries); -errno. @budget may be NULL.
 * One reference.
 */
WUR int object_open(int objects_fd, const struct object_id *id, struct budget *budget,
		    struct object **ret);
/* The same for an open file, which is taken over either way; @id NULL: whatever
 * the header says. @direct: it has O_DIRECT. */
WUR int object_open_fd(int fd, bool direct, const struct object_id *id, struct budget *budget,
		       struct object **ret);
struct object *object_get(struct object *o);
void object_put(struct object *o); /* NULL ok */

/* The chunk that holds file offset @off (< logical_bytes). */
uint32_t object_chunk_at(const struct object *o, uint64_t off);
/* Checks @len stored bytes of a layer against its sum: 0 or -KVFS_ECHECKSUM. */
WUR int object_check(const struct object *o, uint32_t chunk, unsigned layer,
		     const void *p, size_t len);
/* The sum of a chunk's stored form, for writers and replicas (kind 3 or 4). */
uint64_t object_sum(const struct object_id *id, unsigned kind, uint32_t chunk, unsigned layer,
		    unsigned codec, uint64_t chunk_off, uint32_t chunk_len,
		    const void *p, size_t len);

/* ---- writing -------------------------------------------------------------- */

struct object_writer;
struct object_plan {
	struct object_id id;
	uint64_t logical_bytes, tree_ino;
	uint64_t created_ns;              /* CLOCK_REALTIME; 0: now */
	const struct layout *layout;      /* borrowed during create */
	const struct layout_chunk *chunks; /* borrowed until finish */
	uint32_t n_chunks;
	unsigned n_layers;                /* most that a chunk has */
};
/* Creates objects_fd/xx/ID.G (and xx); objects_fd is borrowed until finish.
 * -EEXIST, -E2BIG (index over 256 MiB), -EINVAL (a plan that cannot be), -errno,
 * -ENOMEM. Holds 1 MiB of buffer per layer and 64 bytes per chunk and layer. */
#define OBJECT_WRITER_BYTES (1u << 20)
#define OBJECT_WRITER_CHUNK_BYTES 64u
WUR int object_writer_create(int objects_fd, const struct object_plan *plan,
			     struct object_writer **ret);
/* Adds the stored bytes of the next chunk, in chunk order, all its layers (1 for
 * now written straight out; more are spooled so that the file ends up
 * layer-major). Buffers writes, keeps the host page cache clean. The parts of a chunk
 * have one codec. A hole is one part with CODEC_HOLE. -errno; -EINVAL for what the format cannot hold. */
struct object_part {
	uint16_t codec;
	const void *buf;
	uint32_t len;
};
WUR int object_writer_add(struct object_writer *w, const struct object_part parts[], unsigned n);
/* What is known of the levels' errors, before finish. */
void object_writer_errors(struct object_writer *w, const float errors[KVFS_OBJECT_LAYERS]);
/* Bytes that the file will occupy so far. */
uint64_t object_writer_bytes(const struct object_writer *w);
/* Writes index and header, makes file and directory durable and closes.
 * On failure the file is removed. @w is gone either way. */
WUR int object_writer_finish(struct object_writer *w, uint64_t *ret_stored_bytes);
void object_writer_abort(struct object_writer *w); /* removes the file; NULL ok */
/* Cuts the object's file behind its first @n_layers layers, unless it is that short
 * already. Not durable by itself. -ENOENT, -errno. */
WUR int object_cut(int objects_fd, const struct object *o, unsigned n_layers);
/* Unlinks the object's file; 0 also when it is not there. */
WUR int object_remove(int objects_fd, const struct object_id *id);

#endif
