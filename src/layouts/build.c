/* SPDX-License-Identifier: MIT */
/*
 * Helpers of the recognisers. Regions are checked when they are added, so that
 * a hostile header cannot get a region outside the file, an overlap or an
 * unbounded list past this file, whatever the recogniser believed.
 */
#include "layouts/build.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/units.h"

int layout_read(const struct layout_input *in, void *buf, size_t len, uint64_t off)
{
	int64_t n;

	if (off > in->size_bytes || len > in->size_bytes - off)
		return -KVFS_ENOLAYOUT;
	n = in->read(in->arg, buf, len, off);
	if (n < 0)
		return (int)n;
	return (uint64_t)n == len ? 0 : -KVFS_ENOLAYOUT;
}

static bool region_sane(const struct layout_region *r, uint64_t size_bytes)
{
	uint32_t es = elem_bytes(r->elem);
	uint64_t end;

	if (!r->len_bytes || !add_u64(r->off_bytes, r->len_bytes, &end) || end > size_bytes)
		return false;
	if (r->kind == REGION_OPAQUE || r->kind >= REGION_KINDS_)
		return false;
	if (r->elem == ELEM_BYTES || r->elem >= ELEM_TYPES_ || r->transposed > 1)
		return false;
	if (r->len_bytes % es || r->row_bytes % es || r->head_bytes % es)
		return false;
	if (r->row_bytes && r->len_bytes % r->row_bytes)
		return false;
	if (r->head_bytes && (!r->row_bytes || r->row_bytes % r->head_bytes))
		return false;
	return true;
}

int layout_add(struct layout *l, const struct layout_region *r)
{
	uint32_t n = l->n_regions;

	if (n >= LAYOUT_REGIONS_MAX || !region_sane(r, l->size_bytes))
		return -KVFS_ENOLAYOUT;
	if (n && r->off_bytes < l->regions[n - 1].off_bytes + l->regions[n - 1].len_bytes)
		return -KVFS_ENOLAYOUT;
	if (!(n & (n - 1))) { /* full at 0 and at every power of two */
		size_t cap = n ? 2 * (size_t)n : 1;
		void *p = mem_realloc(l->regions, cap * sizeof(*r));

		if (!p)
			return -ENOMEM;
		l->regions = p;
	}
	l->regions[l->n_regions++] = *r;
	return 0;
}

/* The reason is one printable line, which fits into double quotes. */
static bool veto_sane(const struct layout *l)
{
	size_t len = strnlen(l->veto, sizeof(l->veto));

	if (len == sizeof(l->veto) || l->lossy_veto != (len > 0))
		return false;
	for (size_t i = 0; i < len; i++)
		if (l->veto[i] < ' ' || l->veto[i] > '~' || l->veto[i] == '"')
			return false;
	return true;
}

bool layout_sane(const struct layout *l)
{
	uint64_t end = 0;

	if (l->n_regions > LAYOUT_REGIONS_MAX || l->elem >= ELEM_TYPES_ || !veto_sane(l))
		return false;
	for (uint32_t i = 0; i < l->n_regions; i++) {
		const struct layout_region *r = &l->regions[i];

		if (!region_sane(r, l->size_bytes) || r->off_bytes < end)
			return false;
		end = r->off_bytes + r->len_bytes;
	}
	return true;
}

void layout_veto(struct layout *l, const char *fmt, ...)
{
	va_list ap;

	if (l->lossy_veto)
		return;
	l->lossy_veto = true;
	va_start(ap, fmt);
	(void)vsnprintf(l->veto, sizeof(l->veto), fmt, ap);
	va_end(ap);
}

uint8_t layout_main_elem(const struct layout *l)
{
	uint64_t bytes[ELEM_TYPES_] = { 0 };
	uint8_t best = ELEM_BYTES;

	for (uint32_t i = 0; i < l->n_regions; i++)
		bytes[l->regions[i].elem] += l->regions[i].len_bytes;
	for (uint8_t e = 1; e < ELEM_TYPES_; e++)
		if (bytes[e] > bytes[best])
			best = e;
	return best;
}

bool layout_axes_bytes(const struct layout_axes *a, unsigned elem, uint64_t *ret_bytes)
{
	uint64_t n = elem_bytes(elem);

	for (unsigned i = 0; i < a->n; i++)
		if (!a->len[i] || !mul_u64(n, a->len[i], &n))
			return false;
	*ret_bytes = n;
	return true;
}

uint64_t layout_axis(const struct layout_axes *a, char letter)
{
	for (unsigned i = 0; i < a->n; i++)
		if (a->letter[i] == letter)
			return a->len[i];
	return 0;
}

/* Index of an axis, a->n when there is none. */
static unsigned axis_index(const struct layout_axes *a, char letter)
{
	unsigned i = 0;

	while (i < a->n && a->letter[i] != letter)
		i++;
	return i;
}

/* Product of the axes from..to; the whole product is known not to overflow. */
static uint64_t axis_product(const struct layout_axes *a, unsigned from, unsigned to)
{
	uint64_t n = 1;

	for (unsigned i = from; i < to; i++)
		n *= a->len[i];
	return n;
}

/* Bytes of a row and of a head in it; 0 when unknown or too long to say. */
static void tensor_rows(const struct layout_axes *a, unsigned t, uint32_t es,
			struct layout_region *r)
{
	unsigned h = axis_index(a, 'H');
	uint64_t row = axis_product(a, t + 1, a->n);
	uint64_t head = a->head_elems;

	if (!head && h < a->n)
		head = h > t ? axis_product(a, h + 1, a->n) : row;
	if (row > UINT32_MAX / es)
		return;
	r->row_bytes = (uint32_t)row * es;
	r->head_bytes = head && row % head == 0 ? (uint32_t)head * es : 0;
}

/* Sets kind and layer of the @i-th combination of the axes before @t. */
static void tensor_place(const struct layout_axes *a, unsigned t, uint64_t i, uint32_t layer,
			 struct layout_region *r)
{
	while (t-- > 0) {
		uint64_t at = i % a->len[t];

		i /= a->len[t];
		if (a->letter[t] == '2')
			r->kind = at ? REGION_V : REGION_K;
		else if (a->letter[t] == 'L')
			r->layer = layer + (uint32_t)at;
	}
}

int layout_add_tensor(struct layout *l, const struct layout_axes *a, uint64_t off, unsigned elem,
		      unsigned kind, uint32_t layer)
{
	struct layout_region r = { .elem = (uint8_t)elem, .kind = (uint8_t)kind, .layer = layer };
	uint32_t es = elem_bytes(elem);
	unsigned t = axis_index(a, 'T'), split;
	uint64_t bytes, n;
	int err;

	if (!a->n || !layout_axes_bytes(a, elem, &bytes))
		return -KVFS_ENOLAYOUT;
	if (t == a->n) { /* no tokens: rows of the last axis */
		t = a->n - 1;
		r.row_bytes = a->len[t] <= UINT32_MAX / es ? (uint32_t)a->len[t] * es : 0;
		split = a->letter[0] == '2' && t > 0;
	} else {
		tensor_rows(a, t, es, &r);
		split = t;
	}
	n = axis_product(a, 0, split);
	if (n > LAYOUT_REGIONS_MAX - l->n_regions) {
		split = a->letter[0] == '2';
		n = axis_product(a, 0, split);
		/* What lies between two rows is unknown here: K and V may alternate. */
	}
	r.len_bytes = bytes / n;
	for (uint64_t i = 0; i < n; i++) {
		r.off_bytes = off + i * r.len_bytes;
		tensor_place(a, split, i, layer, &r);
		err = layout_add(l, &r);
		if (err)
			return err;
	}
	return 0;
}

static uint32_t fact(uint32_t have, uint64_t n)
{
	return have || n > UINT32_MAX ? have : (uint32_t)n;
}

void layout_facts(struct layout *l, const struct layout_axes *a)
{
	uint64_t heads = layout_axis(a, 'H');
	uint64_t dim = heads ? layout_axis(a, 'D') : a->head_elems;
	uint64_t pages = layout_axis(a, 'N'), tokens = layout_axis(a, 'T');

	if (!heads && a->head_elems)
		heads = layout_axis(a, 'D') / a->head_elems;
	if (pages && tokens && !mul_u64(pages, tokens, &tokens))
		tokens = 0;
	l->layers = fact(l->layers, layout_axis(a, 'L'));
	l->heads = fact(l->heads, heads);
	l->head_dim = fact(l->head_dim, dim);
	l->tokens = fact(l->tokens, tokens);
}
