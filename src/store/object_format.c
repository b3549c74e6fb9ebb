/* SPDX-License-Identifier: MIT */
/*
 * The object file's bytes: byte order, checksums, and the checks that make a
 * parsed header and index safe to use without a second look.
 *
 * After object_header_parse and object_index_parse succeeded these hold:
 * layout, index and layers are disjoint, in this order, inside the file as far
 * as layers are present; chunks cover [0, logical_bytes) in order without gaps;
 * within a layer stored extents are in chunk order and disjoint; codec ids are
 * known; decoded lengths are at most CODEC_CHUNK_MAX except for holes; a
 * chunk's layers are at most OBJECT_STORED_MAX together. What the codecs' bytes mean is checked
 * by the codecs, after their checksum.
 */
#include <endian.h>
#include <string.h>

#include "base/hash.h"
#include "base/units.h"
#include "codecs/codec.h"
#include "store/object_format.h"

void object_header_swap(struct kvfs_object_header *h)
{
	h->version = htole32(h->version);
	h->header_bytes = htole32(h->header_bytes);
	h->generation = htole32(h->generation);
	h->flags = htole32(h->flags);
	h->logical_bytes = htole64(h->logical_bytes);
	h->tree_ino = htole64(h->tree_ino);
	h->created_ns = htole64(h->created_ns);
	h->n_chunks = htole32(h->n_chunks);
	h->n_layers = htole32(h->n_layers);
	h->layout_off = htole64(h->layout_off);
	h->layout_len = htole64(h->layout_len);
	h->layout_sum = htole64(h->layout_sum);
	h->index_off = htole64(h->index_off);
	h->index_len = htole64(h->index_len);
	h->index_sum = htole64(h->index_sum);
	h->stored_bytes = htole64(h->stored_bytes);
	for (unsigned i = 0; i < KVFS_OBJECT_LAYERS; i++) {
		h->layers[i].off = htole64(h->layers[i].off);
		h->layers[i].len = htole64(h->layers[i].len);
	}
	for (unsigned i = 0; i < KVFS_OBJECT_LAYERS; i++)
		h->errors[i] = htole32(h->errors[i]);
	h->header_sum = htole64(h->header_sum);
}

void object_chunk_swap(struct kvfs_chunk *c)
{
	c->off = htole64(c->off);
	c->len = htole32(c->len);
	c->model_layer = htole32(c->model_layer);
	c->row_bytes = htole32(c->row_bytes);
	c->head_bytes = htole32(c->head_bytes);
	c->first_row = htole32(c->first_row);
	c->region_rows = htole32(c->region_rows);
	c->reserved = htole32(c->reserved);
}

void object_chunk_layer_swap(struct kvfs_chunk_layer *l)
{
	l->off = htole64(l->off);
	l->len = htole32(l->len);
	l->codec = htole16(l->codec);
	l->kind = htole16(l->kind);
	l->sum = htole64(l->sum);
}

/* ---- checksums ------------------------------------------------------------ */

static uint64_t identity_seed(struct kvfs_identity *i)
{
	i->generation = htole32(i->generation);
	i->kind = htole32(i->kind);
	i->chunk = htole32(i->chunk);
	i->layer = htole16(i->layer);
	i->codec = htole16(i->codec);
	i->chunk_off = htole64(i->chunk_off);
	i->chunk_len = htole32(i->chunk_len);
	i->stored_len = htole32(i->stored_len);
	return hash64(i, sizeof(*i), 0);
}

uint64_t object_header_sum(const struct kvfs_object_header *disk)
{
	return hash64(disk, offsetof(struct kvfs_object_header, header_sum), 0);
}

uint64_t object_part_sum(const struct object_id *id, unsigned kind, const void *p, size_t len)
{
	struct kvfs_identity i = {
		.generation = id->generation,
		.kind = kind,
		.stored_len = (uint32_t)len,
	};

	memcpy(i.id, id->id, sizeof(i.id));
	return hash64(p, len, identity_seed(&i));
}

uint64_t object_sum(const struct object_id *id, unsigned kind, uint32_t chunk, unsigned layer,
		    unsigned codec, uint64_t chunk_off, uint32_t chunk_len,
		    const void *p, size_t len)
{
	struct kvfs_identity i = {
		.generation = id->generation,
		.kind = kind,
		.chunk = chunk,
		.layer = (uint16_t)layer,
		.codec = (uint16_t)codec,
		.chunk_off = chunk_off,
		.chunk_len = chunk_len,
		.stored_len = (uint32_t)len,
	};

	memcpy(i.id, id->id, sizeof(i.id));
	return hash64(p, len, identity_seed(&i));
}

/* ---- header --------------------------------------------------------------- */

static bool all_zero(const void *p, size_t len)
{
	const uint8_t *b = p;

	for (size_t i = 0; i < len; i++)
		if (b[i])
			return false;
	return true;
}

/* Layout and index lie behind the header, one after the other. */
static int check_front(const struct kvfs_object_header *h)
{
	uint64_t layout_end, index_end;

	if (h->layout_off < h->header_bytes || !add_u64(h->layout_off, h->layout_len, &layout_end))
		return -KVFS_EFORMAT;
	if (h->index_off < layout_end || !add_u64(h->index_off, h->index_len, &index_end))
		return -KVFS_EFORMAT;
	if (index_end > OBJECT_FRONT_MAX || h->stored_bytes < index_end)
		return -KVFS_EFORMAT;
	return 0;
}

static int check_layers(const struct kvfs_object_header *h)
{
	uint64_t end = h->index_off + h->index_len;

	for (unsigned i = 0; i < KVFS_OBJECT_LAYERS; i++) {
		if (i >= h->n_layers) {
			if (h->layers[i].off || h->layers[i].len)
				return -KVFS_EFORMAT;
			continue;
		}
		if (h->layers[i].off < end || h->layers[i].off % KVFS_OBJECT_ALIGN ||
		    !add_u64(h->layers[i].off, h->layers[i].len, &end))
			return -KVFS_EFORMAT;
	}
	return end <= h->stored_bytes && h->stored_bytes % KVFS_OBJECT_ALIGN == 0 ?
		0 : -KVFS_EFORMAT;
}

unsigned object_layers_present(const struct kvfs_object_header *h, uint64_t file_bytes)
{
	unsigned n = 0;

	while (n < h->n_layers && h->layers[n].off + h->layers[n].len <= file_bytes)
		n++;
	return n;
}

int object_header_parse(const struct kvfs_object_header *disk, const struct object_id *want,
			uint64_t file_bytes, struct kvfs_object_header *ret)
{
	struct kvfs_object_header h = *disk;
	int err;

	object_header_swap(&h);
	if (memcmp(h.magic, KVFS_OBJECT_MAGIC, sizeof(h.magic)) != 0)
		return -KVFS_EMAGIC;
	if (h.version > KVFS_OBJECT_VERSION)
		return -KVFS_EVERSION;
	if (object_header_sum(disk) != h.header_sum)
		return -KVFS_ECHECKSUM;
	if (h.version != KVFS_OBJECT_VERSION || h.header_bytes != sizeof(h) || h.flags ||
	    !all_zero(h.reserved, sizeof(h.reserved)))
		return -KVFS_EFORMAT;
	if (want && (memcmp(want->id, h.id, sizeof(h.id)) != 0 || want->generation != h.generation))
		return -KVFS_EIDENTITY;
	if (h.n_layers < 1 || h.n_layers > KVFS_OBJECT_LAYERS || h.n_layers > CODEC_LAYERS_MAX ||
	    (h.n_chunks == 0) != (h.logical_bytes == 0) || h.logical_bytes > INT64_MAX)
		return -KVFS_EFORMAT;
	err = check_front(&h);
	if (!err)
		err = check_layers(&h);
	if (err)
		return err;
	/* Dropped layers shorten the file, but never into layer 0. */
	if (object_layers_present(&h, file_bytes) < 1)
		return -KVFS_ETRUNCATED;
	*ret = h;
	return 0;
}

/* ---- chunk index ---------------------------------------------------------- */

int object_index_layers(const struct kvfs_object_header *h, uint64_t *ret)
{
	uint64_t fixed = (uint64_t)h->n_chunks * sizeof(struct kvfs_chunk);
	uint64_t n;

	if (h->index_len < fixed || (h->index_len - fixed) % sizeof(struct kvfs_chunk_layer))
		return -KVFS_EFORMAT;
	n = (h->index_len - fixed) / sizeof(struct kvfs_chunk_layer);
	if (n < h->n_chunks || n > (uint64_t)h->n_chunks * h->n_layers)
		return -KVFS_EFORMAT;
	*ret = n;
	return 0;
}

static int parse_chunk(const struct kvfs_object_header *h, const uint8_t *p, uint64_t at,
		       struct object_chunk *ret)
{
	struct kvfs_chunk c;

	memcpy(&c, p, sizeof(c));
	object_chunk_swap(&c);
	if (c.off != at || c.len == 0 || c.len > h->logical_bytes - at)
		return -KVFS_EFORMAT;
	if (c.n_layers < 1 || c.n_layers > h->n_layers || c.reserved || c.transposed > 1 ||
	    c.elem >= ELEM_TYPES_ || c.kind >= REGION_KINDS_)
		return -KVFS_EFORMAT;
	ret->off_bytes = c.off;
	ret->len_bytes = c.len;
	ret->n_layers = c.n_layers;
	ret->shape = (struct chunk_shape) {
		.elem = c.elem,
		.kind = c.kind,
		.transposed = c.transposed,
		.layer = c.model_layer,
		.row_bytes = c.row_bytes,
		.head_bytes = c.head_bytes,
		.first_row = c.first_row,
		.region_rows = c.region_rows,
	};
	return 0;
}

/* @end: where the last extent of this layer ended; moved on. */
static int parse_layer(const struct kvfs_object_header *h, const struct object_chunk *c,
		       unsigned layer, const uint8_t *p, uint64_t *end, struct object_layer *ret)
{
	uint64_t limit = h->layers[layer].off + h->layers[layer].len;
	struct kvfs_chunk_layer l;

	memcpy(&l, p, sizeof(l));
	object_chunk_layer_swap(&l);
	if (l.kind != 0 || l.codec >= CODEC_IDS_)
		return -KVFS_EFORMAT;
	*ret = (struct object_layer) {
		.off_bytes = l.off, .sum = l.sum, .len_bytes = l.len, .codec = l.codec,
	};
	if (l.codec == CODEC_HOLE)
		return c->n_layers == 1 && !l.off && !l.len && !l.sum ? 0 : -KVFS_EFORMAT;
	if (c->len_bytes > CODEC_CHUNK_MAX)
		return -KVFS_EFORMAT;
	if (l.off < *end || l.off > limit || l.len > limit - l.off || l.off % OBJECT_EXTENT_ALIGN)
		return -KVFS_EFORMAT;
	*end = l.off + l.len;
	return 0;
}

int object_index_parse(const struct kvfs_object_header *h, const void *index,
		       struct object_chunk *chunks, struct object_layer *layers)
{
	const uint8_t *p = index, *stop = p + h->index_len;
	uint64_t ends[KVFS_OBJECT_LAYERS], at = 0;
	uint32_t n_layers = 0;
	int err;

	for (unsigned i = 0; i < KVFS_OBJECT_LAYERS; i++)
		ends[i] = h->layers[i].off;
	for (uint32_t i = 0; i < h->n_chunks; i++) {
		struct object_chunk *c = &chunks[i];
		uint64_t stored = 0;

		if ((size_t)(stop - p) < sizeof(struct kvfs_chunk))
			return -KVFS_EFORMAT;
		err = parse_chunk(h, p, at, c);
		if (err)
			return err;
		p += sizeof(struct kvfs_chunk);
		if ((size_t)(stop - p) < c->n_layers * sizeof(struct kvfs_chunk_layer))
			return -KVFS_EFORMAT;
		c->first_layer = n_layers;
		for (unsigned l = 0; l < c->n_layers; l++) {
			err = parse_layer(h, c, l, p, &ends[l], &layers[n_layers]);
			if (err)
				return err;
			/* one codec made them all, and decodes them */
			if (layers[n_layers].codec != layers[c->first_layer].codec)
				return -KVFS_EFORMAT;
			stored += layers[n_layers++].len_bytes;
			p += sizeof(struct kvfs_chunk_layer);
		}
		if (stored > OBJECT_STORED_MAX(c->len_bytes))
			return -KVFS_EFORMAT;
		at += c->len_bytes;
	}
	return p == stop && at == h->logical_bytes ? 0 : -KVFS_EFORMAT;
}
