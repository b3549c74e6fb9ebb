/* SPDX-License-Identifier: MIT */
/*
 * llama.cpp's sequence states (llama_state.c has the format). The recogniser
 * has found the tensors; what is left is the head before them, whose two open
 * questions (is n_stream there, are cells 12 bytes longer) have one answer that
 * ends exactly at the first tensor. Two answers, several modules or streams, or
 * cells of several sequences: refused.
 */
#include <errno.h>

#include "base/le.h"
#include "base/mem.h"
#include "layouts/compact_form.h"

#define TENSOR_HEAD 12u /* i32 type, u64 row or u32 element, u32 n_embd */
#define SHAPE_BYTES 8u  /* u32 v_trans, n_layer */
#define COPY_BYTES 65536u

static int read_u32(const struct compact *c, uint64_t off, uint32_t *ret)
{
	uint8_t b[4];
	int err = layout_read(&c->in, b, sizeof(b), off);

	if (!err)
		*ret = le32_get(b);
	return err;
}

static int llama_parts(struct compact *c, const struct layout *l, char *why, size_t why_len)
{
	uint64_t at = l->regions[0].off_bytes - TENSOR_HEAD;

	for (uint32_t i = 0; i < l->n_regions; i++) {
		const struct layout_region *r = &l->regions[i];
		uint32_t row_cells = r->row_bytes / elem_bytes(r->elem);

		if (r->off_bytes != at + TENSOR_HEAD || !r->row_bytes)
			return compact_refuse(why, why_len, "it has more than one memory module");
		if (r->row_bytes > COMPACT_ROW_MAX || r->len_bytes / r->row_bytes > UINT32_MAX ||
		    (r->transposed ? row_cells : r->len_bytes / r->row_bytes) != c->cells)
			return compact_refuse(why, why_len, "its tensors differ in length");
		c->parts[i] = (struct compact_part){
			.off_bytes = r->off_bytes,
			.head_len = TENSOR_HEAD,
			.rows = (uint32_t)(r->len_bytes / r->row_bytes),
			.row_bytes = r->row_bytes,
			.head_bytes = r->head_bytes,
			.elem = r->elem,
			.kind = r->kind,
			.columns = r->transposed,
		};
		at = r->off_bytes + r->len_bytes;
	}
	if (at != l->size_bytes)
		return compact_refuse(why, why_len, "it has more than one memory module");
	return 0;
}

/* Finds the form of the head: where the number of cells is, how long a cell. */
static int llama_head(struct compact *c, uint64_t start, uint64_t first, char *why, size_t why_len)
{
	unsigned found = 0;
	uint32_t streams, cells;
	int err = 0;

	for (unsigned i = 0; !err && i < 4; i++) {
		uint64_t off = start + (i & 1 ? 0 : 4);
		uint32_t each = i & 2 ? 24 : 12;

		err = read_u32(c, start, &streams);
		if (!err)
			err = read_u32(c, off, &cells);
		if (err || (off != start && streams != 1) || cells != c->cells ||
		    off + 4 + (uint64_t)cells * each + SHAPE_BYTES + TENSOR_HEAD != first)
			continue;
		c->cells_off = off;
		c->cell_bytes = each;
		found++;
	}
	if (!err && found != 1)
		return compact_refuse(why, why_len,
				      "it has several streams, or cells of several sequences");
	return err;
}

static int llama_positions(struct compact *c, char *why, size_t why_len)
{
	uint8_t buf[24 * 256];
	int err = 0;

	for (uint32_t i = 0; !err && i < c->cells; i += 256) {
		uint32_t n = c->cells - i < 256 ? c->cells - i : 256;

		err = layout_read(&c->in, buf, (size_t)n * c->cell_bytes,
				  c->cells_off + 4 + (uint64_t)i * c->cell_bytes);
		for (uint32_t k = 0; !err && k < n; k++) {
			const uint8_t *b = buf + (size_t)k * c->cell_bytes;

			c->pos[i + k] = (int32_t)le32_get(b);
			if (c->pos[i + k] < 0 || le32_get(b + 4) != 1)
				err = compact_refuse(why, why_len,
						     "cells belong to no sequence or to several");
		}
	}
	return err;
}

static int llama_open(struct compact *c, const struct layout *l, char *why, size_t why_len)
{
	uint32_t tokens;
	uint64_t start, first = l->regions[0].off_bytes;
	int err = read_u32(c, 8, &tokens);

	if (err)
		return err;
	start = 12 + 4 * (uint64_t)tokens;
	if (tokens > COMPACT_TOKENS_MAX || first < start + 8 + SHAPE_BYTES + TENSOR_HEAD)
		return compact_refuse(why, why_len, "its list of tokens is too long");
	err = llama_head(c, start, first, why, why_len);
	if (!err)
		err = llama_parts(c, l, why, why_len);
	if (!err)
		err = llama_positions(c, why, why_len);
	return err;
}

/* Appends file bytes [off, off + len) to the head. */
static int copy_head(struct compact *c, uint64_t off, uint64_t len)
{
	uint8_t *buf = mem_alloc(COPY_BYTES);
	int err = buf ? 0 : -ENOMEM;

	while (!err && len) {
		size_t n = len < COPY_BYTES ? (size_t)len : COPY_BYTES;

		err = layout_read(&c->in, buf, n, off);
		if (!err)
			sbuf_add(&c->head, buf, n);
		off += n;
		len -= n;
	}
	mem_free(buf);
	return err;
}

static int llama_plan(struct compact *c)
{
	uint64_t table = c->cells_off + 4;
	uint8_t n[4];
	int err = copy_head(c, 0, c->cells_off);

	le32_put(n, c->n_kept);
	sbuf_add(&c->head, n, sizeof(n));
	for (uint32_t i = 0; !err && i < c->n_kept;) {
		uint32_t run = 1;

		while (i + run < c->n_kept && c->kept[i + run] == c->kept[i] + run)
			run++;
		err = copy_head(c, table + (uint64_t)c->kept[i] * c->cell_bytes,
				(uint64_t)run * c->cell_bytes);
		i += run;
	}
	if (!err)
		err = copy_head(c, table + (uint64_t)c->cells * c->cell_bytes, SHAPE_BYTES);
	return err;
}

const struct compact_form compact_llama = { llama_open, llama_plan };
