/* SPDX-License-Identifier: MIT */
/*
 * Opening chooses the form by the layout's name and lets it find the cells'
 * positions and the tensors; planning makes the new head; writing copies the
 * rows of the cells that stay, a buffer at a time. In a buffer the rows that
 * stay move to its front, where they never overtake what is still to be read.
 */
#include "layouts/compact.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "kvcachefs/format_layout.h"
#include "layouts/compact_form.h"

#define BUF_BYTES (256u << 10)

int compact_refuse(char *why, size_t why_len, const char *reason)
{
	snprintf(why, why_len, "%s", reason);
	return -EOPNOTSUPP;
}

static const struct compact_form *form_of(const struct layout *l)
{
	switch (layout_id_of(l->name)) {
	case KVFS_LAYOUT_LLAMA_SEQ:
		return &compact_llama;
	case KVFS_LAYOUT_SAFETENSORS:
		return &compact_st;
	default:
		return NULL;
	}
}

/* Elements of 2 or 4 bytes everywhere, and a number of cells that can be held. */
static int check_layout(const struct layout *l, char *why, size_t why_len)
{
	if (!form_of(l) || !l->n_regions)
		return compact_refuse(why, why_len,
				      "only llama.cpp's sequence states and kvlm's safetensors "
				      "can lose tokens");
	if (l->lossy_veto)
		return compact_refuse(why, why_len, l->veto);
	if (!l->tokens || l->tokens > COMPACT_CELLS_MAX)
		return compact_refuse(why, why_len, "it has too many tokens");
	for (uint32_t i = 0; i < l->n_regions; i++)
		if (elem_bytes(l->regions[i].elem) == 1)
			return compact_refuse(why, why_len, "its elements are already quantised");
	return 0;
}

int compact_open(const struct layout_input *in, const struct layout *l, struct compact **ret,
		 char *why, size_t why_len)
{
	struct compact *c;
	int err = check_layout(l, why, why_len);

	if (err)
		return err;
	c = mem_zalloc(sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->in = *in;
	c->form = form_of(l);
	c->cells = l->tokens;
	c->n_parts = l->n_regions;
	c->pos = mem_calloc(c->cells, sizeof(*c->pos));
	c->parts = mem_calloc(c->n_parts, sizeof(*c->parts));
	err = c->pos && c->parts ? c->form->open(c, l, why, why_len) : -ENOMEM;
	if (err == -KVFS_ENOLAYOUT) /* shorter than a moment ago */
		err = compact_refuse(why, why_len, "its header could not be read");
	if (err) {
		compact_close(c);
		return err;
	}
	*ret = c;
	return 0;
}

void compact_close(struct compact *c)
{
	if (!c)
		return;
	st_close(&c->st);
	mem_free(c->meta);
	mem_free(c->pairs);
	mem_free(c->pos);
	mem_free(c->parts);
	sbuf_fini(&c->head);
	mem_free(c);
}

uint32_t compact_cells(const struct compact *c)
{
	return c->cells;
}

const int32_t *compact_positions(const struct compact *c)
{
	return c->pos;
}

bool compact_keys(const struct compact *c, uint32_t i, struct compact_keys *ret)
{
	for (uint32_t k = 0; k < c->n_parts; k++) {
		const struct compact_part *p = &c->parts[k];

		/* latent attention keeps K and V in one */
		if (p->kind == REGION_V || i--)
			continue;
		*ret = (struct compact_keys){ p->off_bytes, p->row_bytes, p->head_bytes, p->elem };
		return true;
	}
	return false;
}

static uint64_t part_bytes(const struct compact *c, const struct compact_part *p)
{
	if (p->columns)
		return (uint64_t)p->rows * c->n_kept * elem_bytes(p->elem);
	return (uint64_t)c->n_kept * p->row_bytes;
}

int compact_choose(struct compact *c, const uint32_t *kept, uint32_t n, uint64_t *ret_size)
{
	uint64_t size;
	int err;

	c->kept = kept;
	c->n_kept = n;
	sbuf_fini(&c->head);
	c->head = (struct sbuf)SBUF_INIT;
	err = c->form->plan(c);
	if (err || c->head.failed)
		return err ? err : -ENOMEM;
	size = c->head.len;
	for (uint32_t i = 0; i < c->n_parts; i++)
		size += c->parts[i].head_len + part_bytes(c, &c->parts[i]);
	*ret_size = size;
	return 0;
}

/* ---- writing ---- */

struct copy {
	struct compact *c;
	uint8_t *buf; /* owned */
	size_t cap;
	int (*write)(void *arg, const void *buf, size_t len);
	void *arg;
};

static int copy_rows(struct copy *y, const struct compact_part *p)
{
	const struct compact *c = y->c;
	uint32_t most = (uint32_t)(y->cap / p->row_bytes), k = 0;
	int err = 0;

	for (uint32_t i = 0; !err && k < c->n_kept; i += most) {
		uint32_t n = c->cells - i < most ? c->cells - i : most, stay = 0;

		if (c->kept[k] >= i + n)
			continue;
		err = layout_read(&c->in, y->buf, (size_t)n * p->row_bytes,
				  p->off_bytes + (uint64_t)i * p->row_bytes);
		for (; !err && k < c->n_kept && c->kept[k] < i + n; k++)
			memmove(y->buf + (size_t)stay++ * p->row_bytes,
				y->buf + (size_t)(c->kept[k] - i) * p->row_bytes, p->row_bytes);
		if (!err)
			err = y->write(y->arg, y->buf, (size_t)stay * p->row_bytes);
	}
	return err;
}

/* Rows that hold one element of every cell. */
static int copy_columns(struct copy *y, const struct compact_part *p)
{
	const struct compact *c = y->c;
	size_t e = elem_bytes(p->elem);
	int err = 0;

	for (uint32_t i = 0; !err && i < p->rows; i++) {
		err = layout_read(&c->in, y->buf, p->row_bytes,
				  p->off_bytes + (uint64_t)i * p->row_bytes);
		for (uint32_t k = 0; !err && k < c->n_kept; k++)
			memmove(y->buf + k * e, y->buf + c->kept[k] * e, e);
		if (!err)
			err = y->write(y->arg, y->buf, c->n_kept * e);
	}
	return err;
}

static int copy_part(struct copy *y, const struct compact_part *p)
{
	int err = 0;

	if (p->head_len) {
		err = layout_read(&y->c->in, y->buf, p->head_len, p->off_bytes - p->head_len);
		if (!err)
			err = y->write(y->arg, y->buf, p->head_len);
	}
	if (err)
		return err;
	return p->columns ? copy_columns(y, p) : copy_rows(y, p);
}

int compact_write(struct compact *c, int (*write)(void *arg, const void *buf, size_t len),
		  void *arg)
{
	struct copy y = { .c = c, .cap = BUF_BYTES, .write = write, .arg = arg };
	int err;

	for (uint32_t i = 0; i < c->n_parts; i++)
		if (c->parts[i].row_bytes > y.cap)
			y.cap = c->parts[i].row_bytes;
	y.buf = mem_alloc(y.cap);
	if (!y.buf)
		return -ENOMEM;
	err = write(arg, c->head.s, c->head.len);
	for (uint32_t i = 0; !err && i < c->n_parts; i++)
		err = copy_part(&y, &c->parts[i]);
	mem_free(y.buf);
	/* the source became shorter under our hands */
	return err == -KVFS_ENOLAYOUT ? -EIO : err;
}

/* ---- positions for people ---- */

static int by_value(const void *a, const void *b)
{
	int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;

	return x < y ? -1 : x > y;
}

void compact_ranges(const int32_t *pos, uint32_t n, struct sbuf *b)
{
	int32_t *sorted = mem_calloc(n + !n, sizeof(*sorted));

	if (!sorted) {
		b->failed = true;
		return;
	}
	memcpy(sorted, pos, n * sizeof(*pos));
	qsort(sorted, n, sizeof(*sorted), by_value);
	for (uint32_t i = 0; i < n;) {
		uint32_t last = i;

		while (last + 1 < n && sorted[last + 1] - sorted[last] <= 1)
			last++;
		sbuf_addf(b, "%s%d", i ? "," : "", sorted[i]);
		if (sorted[last] != sorted[i])
			sbuf_addf(b, "-%d", sorted[last]);
		i = last + 1;
	}
	mem_free(sorted);
}
