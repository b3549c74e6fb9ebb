/* SPDX-License-Identifier: MIT */
/*
 * Any bytes as an object file. The sums in them are put right first, or nothing
 * but the checksums would ever be tested. What opens must be safe to use: every
 * chunk is found by its offset, and every extent lies in the file or behind its
 * end, never in front of the layers.
 */
#include <endian.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/io.h"
#include "codecs/codec.h"
#include "store/object_format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void put_sums_right(uint8_t *p, size_t len)
{
	struct kvfs_object_header h;
	struct object_id id;

	if (len < sizeof(h))
		return;
	memcpy(&h, p, sizeof(h));
	object_header_swap(&h);
	memcpy(id.id, h.id, sizeof(id.id));
	id.generation = h.generation;
	if (h.layout_off <= len && h.layout_len <= len - h.layout_off)
		h.layout_sum = object_part_sum(&id, OBJECT_SUM_LAYOUT, p + h.layout_off,
					       (size_t)h.layout_len);
	if (h.index_off <= len && h.index_len <= len - h.index_off)
		h.index_sum = object_part_sum(&id, OBJECT_SUM_INDEX, p + h.index_off,
					      (size_t)h.index_len);
	memcpy(h.magic, KVFS_OBJECT_MAGIC, sizeof(h.magic));
	object_header_swap(&h);
	h.header_sum = htole64(object_header_sum(&h));
	memcpy(p, &h, sizeof(h));
}

static void use(const struct object *o)
{
	uint64_t at = 0;

	for (uint32_t i = 0; i < o->n_chunks; i++) {
		const struct object_chunk *c = &o->chunks[i];
		uint64_t stored = 0;

		if (c->off_bytes != at || !c->len_bytes || object_chunk_at(o, at) != i)
			abort();
		at += c->len_bytes;
		for (unsigned l = 0; l < c->n_layers; l++) {
			const struct object_layer *ol = &o->layers[c->first_layer + l];

			if (ol->codec != CODEC_HOLE &&
			    (ol->off_bytes < KVFS_OBJECT_ALIGN ||
			     ol->off_bytes + ol->len_bytes > o->stored_bytes ||
			     c->len_bytes > CODEC_CHUNK_MAX))
				abort();
			stored += ol->len_bytes;
		}
		if (stored > OBJECT_STORED_MAX(c->len_bytes))
			abort();
	}
	if (at != o->logical_bytes)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *p = malloc(size + 1);
	struct object *o;
	int fd;

	if (!p)
		return 0;
	memcpy(p, data, size);
	put_sums_right(p, size);
	fd = memfd_create("object", MFD_CLOEXEC);
	if (fd >= 0 && io_pwrite_all(fd, p, size, 0) == 0) {
		if (object_open_fd(fd, false, NULL, NULL, &o) == 0) {
			use(o);
			object_put(o);
		}
	} else if (fd >= 0) {
		close(fd);
	}
	free(p);
	return 0;
}
