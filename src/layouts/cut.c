/* SPDX-License-Identifier: MIT */
/*
 * Cutting a layout into chunks. The same walk runs twice, first to count and
 * then to fill, so that the array is allocated once and exactly.
 *
 * A region is cut into equal runs of whole rows, of about the target. Small
 * neighbours without a gap share a chunk: it then mixes layers, keys and values,
 * which costs more the longer they are, as tables for each do the shorter they are.
 * Rows longer than a chunk may be are
 * cut inside, at elements, and the chunk's shape then names no rows. Opaque
 * bytes are cut at multiples of the target, so that chunk borders of a file
 * without regions are page-aligned and holes keep their edges.
 */
#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "kvcachefs/format_layout.h"
#include "layouts/build.h"
#include "layouts/layout.h"

struct cut {
	uint32_t target, max;
	bool context; /* each region begins with a context's first token */
	struct layout_chunk *v; /* NULL while counting */
	uint64_t n;
};

static void emit(struct cut *c, uint64_t off, uint32_t len, const struct chunk_shape *shape)
{
	if (c->v)
		c->v[c->n] = (struct layout_chunk){ off, len, *shape };
	c->n++;
}

static void cut_opaque(struct cut *c, uint64_t off, uint64_t end)
{
	static const struct chunk_shape opaque = { .elem = ELEM_BYTES, .kind = REGION_OPAQUE };
	uint64_t whole;

	if (!c->v && end - off > (uint64_t)c->target * 4) { /* counted, not walked: may be 8 EiB */
		whole = (end - off) / c->target - 2;
		c->n += whole;
		off += whole * c->target;
	}
	while (off < end) {
		uint64_t left = end - off, len = c->target - off % c->target;

		/* no short tail, unless it must be */
		if (len > left || (left - len < c->target / 4 && left <= c->max))
			len = left;
		emit(c, off, (uint32_t)len, &opaque);
		off += len;
	}
}

/* Engines cut contexts into files of so few tokens, and these do not say which they are:
 * the first ones kept exact would be most of what a low level takes. */
#define PAGE_ROWS 64u

/* A cache as a whole, and not perhaps a page of one. */
static bool is_context(const struct layout *l)
{
	int id = layout_id_of(l->name);

	return id == KVFS_LAYOUT_LLAMA_SEQ || id == KVFS_LAYOUT_LLAMA_SESSION ||
	       id == KVFS_LAYOUT_SAFETENSORS;
}

static struct chunk_shape region_shape(const struct cut *c, const struct layout_region *r)
{
	struct chunk_shape s = {
		.elem = r->elem,
		.kind = r->kind,
		.transposed = r->transposed,
		.layer = r->layer,
		.row_bytes = r->row_bytes,
		.head_bytes = r->head_bytes,
	};
	uint64_t rows = r->row_bytes ? r->len_bytes / r->row_bytes : 0;

	s.region_rows = rows <= UINT32_MAX ? (uint32_t)rows : 0;
	s.page = !c->context && !r->transposed && rows < PAGE_ROWS;
	return s;
}

/* Equal pieces of whole @unit bytes, about the target and at most max each. */
static uint64_t piece_bytes(const struct cut *c, uint64_t len, uint64_t unit)
{
	uint64_t n = (len + c->target / 2) / c->target;
	uint64_t least = (len + c->max - 1) / c->max;
	uint64_t units = len / unit, per;

	if (n < least)
		n = least;
	per = (units + n - 1) / n;
	if (per > c->max / unit)
		per = c->max / unit;
	return per * unit;
}

static void cut_region(struct cut *c, const struct layout_region *r)
{
	struct chunk_shape s = region_shape(c, r);
	uint64_t unit = r->row_bytes, end = r->off_bytes + r->len_bytes, piece;

	if (!unit || unit > c->max || !s.region_rows) {
		unit = elem_bytes(r->elem);
		s.row_bytes = s.head_bytes = s.region_rows = 0;
	}
	piece = piece_bytes(c, r->len_bytes, unit);
	for (uint64_t off = r->off_bytes; off < end; off += piece) {
		uint64_t len = end - off < piece ? end - off : piece;

		if (s.row_bytes)
			s.first_row = (uint32_t)((off - r->off_bytes) / s.row_bytes);
		emit(c, off, (uint32_t)len, &s);
	}
}

/* Shape of a chunk that holds both: what they do not share is unknown. */
static void merge_shape(const struct cut *c, struct chunk_shape *s, const struct layout_region *r)
{
	struct chunk_shape o = region_shape(c, r);

	if (s->kind != o.kind)
		s->kind = REGION_KV;
	if (s->head_bytes != o.head_bytes)
		s->head_bytes = 0;
	s->region_rows += o.region_rows;
}

/* Of the target, what is small. On kvlm's caches as safetensors, all layers, apart and in
 * one chunk: 0.89 at 88 KiB, 0.90 at 64, 0.94 at 32, 1.04 at 16. Of pages there are many,
 * and pages of 64 KiB tensors, each a chunk, are read at half the speed. */
#define SMALL_PART 16
#define SMALL_PART_PAGE 6

static bool small(const struct cut *c, const struct layout_region *r)
{
	return r->len_bytes < c->target / (c->context ? SMALL_PART : SMALL_PART_PAGE);
}

/* Regions from @i on that share one chunk. Returns how many; 1 when none. */
static uint32_t cut_merged(struct cut *c, const struct layout *l, uint32_t i)
{
	const struct layout_region *first = &l->regions[i], *r = first;
	struct chunk_shape s = region_shape(c, r);
	uint64_t len = r->len_bytes;
	bool alike = s.row_bytes > 0;
	uint32_t n = 1;

	for (; small(c, first) && i + n < l->n_regions; n++) {
		r = &l->regions[i + n];
		if (!small(c, r) || r->off_bytes != first->off_bytes + len || r->elem != first->elem ||
		    r->transposed != first->transposed || r->row_bytes != first->row_bytes ||
		    len + r->len_bytes > c->target)
			break;
		merge_shape(c, &s, r);
		len += r->len_bytes;
		alike &= r->len_bytes == first->len_bytes;
	}
	if (n > 1 && alike)
		s.part_rows = s.region_rows / n;
	if (n == 1)
		cut_region(c, first);
	else
		emit(c, first->off_bytes, (uint32_t)len, &s);
	return n;
}

static void cut_all(struct cut *c, const struct layout *l)
{
	uint64_t off = 0;

	c->n = 0;
	for (uint32_t i = 0, n; i < l->n_regions; i += n) {
		const struct layout_region *r = &l->regions[i];

		cut_opaque(c, off, r->off_bytes);
		n = cut_merged(c, l, i);
		r = &l->regions[i + n - 1];
		off = r->off_bytes + r->len_bytes;
	}
	cut_opaque(c, off, l->size_bytes);
}

int layout_cut(const struct layout *l, uint32_t target_bytes, uint32_t max_bytes,
	       struct layout_chunk **ret, uint32_t *ret_n)
{
	struct cut c = { .target = target_bytes, .max = max_bytes, .context = is_context(l) };

	/* An element must fit; the target must leave room for uneven rows. */
	if (c.max < 8)
		c.max = 8;
	if (c.target < 8)
		c.target = 8;
	if (c.target > c.max)
		c.target = c.max;
	cut_all(&c, l);
	if (c.n > LAYOUT_CHUNKS_MAX)
		return -E2BIG;
	c.v = mem_calloc(c.n ? c.n : 1, sizeof(*c.v));
	if (!c.v)
		return -ENOMEM;
	cut_all(&c, l);
	*ret = c.v;
	*ret_n = (uint32_t)c.n;
	return 0;
}
