/* SPDX-License-Identifier: MIT */
/* Files in memory for layout tests, and what holds for every layout. */
#include "layout_file.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/le.h"
#include "base/mem.h"
#include "layouts/compact.h"

#define MUST(cond)                                                                         \
	do {                                                                               \
		if (!(cond)) {                                                             \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #cond); \
			abort();                                                           \
		}                                                                          \
	} while (0)

void lfile_fini(struct lfile *f)
{
	free(f->d);
	*f = (struct lfile){ 0 };
}

void lfile_bytes(struct lfile *f, const void *p, size_t len)
{
	if (f->cap - f->n < len) {
		f->cap = 2 * f->cap + len + 64;
		f->d = realloc(f->d, f->cap);
		MUST(f->d);
	}
	if (len)
		memcpy(f->d + f->n, p, len);
	f->n += len;
}

void lfile_u16(struct lfile *f, uint16_t v)
{
	uint8_t b[2];

	le16_put(b, v);
	lfile_bytes(f, b, sizeof(b));
}

void lfile_u32(struct lfile *f, uint32_t v)
{
	uint8_t b[4];

	le32_put(b, v);
	lfile_bytes(f, b, sizeof(b));
}

void lfile_u64(struct lfile *f, uint64_t v)
{
	uint8_t b[8];

	le64_put(b, v);
	lfile_bytes(f, b, sizeof(b));
}

void lfile_str(struct lfile *f, const char *s)
{
	lfile_bytes(f, s, strlen(s));
}

void lfile_fill(struct lfile *f, uint8_t byte, size_t len)
{
	while (len--)
		lfile_bytes(f, &byte, 1);
}

static uint32_t noise(uint32_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 17;
	*s ^= *s << 5;
	return *s * 0x9e3779b1u >> 8;
}

void lfile_noise(struct lfile *f, size_t len, uint32_t seed)
{
	uint32_t s = seed * 2654435761u + 1;

	for (size_t i = 0; i < len; i++) {
		uint8_t b = (uint8_t)noise(&s);

		lfile_bytes(f, &b, 1);
	}
}

/* Truncation is good enough to give each type's exponents and mantissas. */
static void put_float(struct lfile *f, unsigned elem, float v)
{
	uint32_t u, e;

	memcpy(&u, &v, 4);
	if (elem == ELEM_F32) {
		lfile_u32(f, u);
	} else if (elem == ELEM_BF16) {
		lfile_u16(f, (uint16_t)(u >> 16));
	} else { /* f16 of a value within its normal range */
		e = u >> 23 & 255;
		lfile_u16(f, e < 113 ? 0
				     : (uint16_t)(u >> 16 & 0x8000) | (uint16_t)((e - 112) << 10) |
					       (uint16_t)(u >> 13 & 0x3ff));
	}
}

void lfile_floats(struct lfile *f, unsigned elem, size_t n, uint32_t seed)
{
	uint32_t s = seed * 2654435761u + 1;

	for (size_t i = 0; i < n; i++) {
		float u = (float)(noise(&s) + 1) / 16777217.f, w = (float)noise(&s) / 16777216.f;

		put_float(f, elem, sqrtf(-2 * logf(u)) * cosf(6.2831853f * w));
	}
}

void lfile_safetensors(struct lfile *f, const char *json, size_t data_len)
{
	lfile_u64(f, strlen(json));
	lfile_str(f, json);
	lfile_noise(f, data_len, 7);
}

/* ---- as an input ---- */

static int64_t lfile_read(void *arg, void *buf, size_t len, uint64_t off)
{
	struct lfile *f = arg;
	uint64_t size = f->size ? f->size : f->n;

	if (off >= size)
		return 0;
	if (len > size - off)
		len = (size_t)(size - off);
	if (f->fail_at && off <= f->fail_at && f->fail_at - off < len)
		return -EIO;
	f->reads++;
	f->read_bytes += len;
	memset(buf, 0, len);
	if (off < f->n)
		memcpy(buf, f->d + off, len < f->n - off ? len : f->n - (size_t)off);
	return (int64_t)len;
}

static int64_t lfile_read_beside(void *arg, const char *name, void *buf, size_t len)
{
	struct lfile *f = arg;
	size_t n;

	if (!f->beside_name || strcmp(name, f->beside_name))
		return -ENOENT;
	n = strlen(f->beside);
	n = n < len ? n : len;
	memcpy(buf, f->beside, n);
	return (int64_t)n;
}

struct layout_input lfile_input(struct lfile *f)
{
	return (struct layout_input){
		.name = f->name ? f->name : "f",
		.dir = f->dir ? f->dir : "",
		.size_bytes = f->size ? f->size : f->n,
		.read = lfile_read,
		.read_beside = lfile_read_beside,
		.arg = f,
		.declared = f->declared,
		.checksummed = f->checksummed,
	};
}

struct layout *lfile_recognise(struct lfile *f)
{
	struct layout_input in = lfile_input(f);
	struct layout *l;

	MUST(layout_recognise(&in, &l) == 0);
	layout_check_properties(l);
	return l;
}

char *lfile_dump(struct lfile *f)
{
	struct layout *l = lfile_recognise(f);
	struct sbuf b = SBUF_INIT;

	layout_dump(l, &b);
	layout_destroy(l);
	return sbuf_take(&b);
}

void layout_fuzz_one(const uint8_t *data, size_t len, const char *name, const char *declared)
{
	struct lfile f = { .name = name, .declared = declared };
	struct sbuf b = SBUF_INIT;
	struct layout *l;

	lfile_bytes(&f, data, len);
	l = lfile_recognise(&f);
	layout_dump(l, &b);
	layout_destroy(l);
	sbuf_fini(&b);
	lfile_fini(&f);
}

/* ---- compact files ---- */

static int collect(void *arg, const void *buf, size_t len)
{
	lfile_bytes(arg, buf, len);
	return 0;
}

/* @a is a layout, @b that of @n of its cells. */
static void check_thinned(const struct layout *a, const struct layout *b, uint32_t n)
{
	MUST(a->name == b->name && a->n_regions == b->n_regions && b->tokens == n);
	for (uint32_t i = 0; i < a->n_regions; i++) {
		const struct layout_region *r = &a->regions[i], *q = &b->regions[i];

		MUST(r->kind == q->kind && r->layer == q->layer && r->elem == q->elem);
		MUST(r->transposed == q->transposed);
		if (r->transposed)
			MUST(q->row_bytes == n * elem_bytes(q->elem) &&
			     r->len_bytes / r->row_bytes == q->len_bytes / q->row_bytes);
		else
			MUST(q->row_bytes == r->row_bytes && q->len_bytes / q->row_bytes == n);
	}
}

static int compact_to(struct compact *c, const struct layout *l, uint32_t every, struct lfile *ret)
{
	uint32_t cells = compact_cells(c), n = 0, *kept = calloc(cells, sizeof(*kept));
	struct layout_input in;
	struct layout *l2;
	struct compact *c2;
	char why[LFILE_WHY];
	uint64_t size;
	int err;

	MUST(kept && cells == l->tokens);
	for (uint32_t i = 0; i < cells; i++)
		if (i % every == 0 || i == cells - 1)
			kept[n++] = i;
	err = compact_choose(c, kept, n, &size);
	if (!err) {
		MUST(compact_write(c, collect, ret) == 0 && ret->n == size);
		l2 = lfile_recognise(ret);
		check_thinned(l, l2, n);
		in = lfile_input(ret);
		if (!l2->lossy_veto) {
			MUST(compact_open(&in, l2, &c2, why, sizeof(why)) == 0);
			for (uint32_t i = 0; i < n; i++)
				MUST(compact_positions(c2)[i] == compact_positions(c)[kept[i]]);
			compact_close(c2);
		}
		layout_destroy(l2);
	}
	free(kept);
	return err;
}

int lfile_compact(struct lfile *f, uint32_t every, struct lfile *ret, char why[LFILE_WHY])
{
	struct layout *l = lfile_recognise(f);
	struct layout_input in = lfile_input(f);
	struct compact *c;
	int err = compact_open(&in, l, &c, why, LFILE_WHY);

	*ret = (struct lfile){ .name = f->name, .dir = f->dir };
	if (!err) {
		err = compact_to(c, l, every, ret);
		compact_close(c);
	}
	layout_destroy(l);
	return err;
}

/* ---- properties ---- */

static void check_regions(const struct layout *l)
{
	uint64_t end = 0;

	MUST(l->n_regions <= LAYOUT_REGIONS_MAX);
	MUST(strnlen(l->veto, sizeof(l->veto)) < sizeof(l->veto));
	MUST(l->lossy_veto == (l->veto[0] != '\0'));
	for (uint32_t i = 0; i < l->n_regions; i++) {
		const struct layout_region *r = &l->regions[i];

		MUST(r->len_bytes > 0);
		MUST(r->off_bytes >= end);
		MUST(r->off_bytes <= l->size_bytes);
		MUST(r->len_bytes <= l->size_bytes - r->off_bytes);
		MUST(r->kind > REGION_OPAQUE && r->kind < REGION_KINDS_);
		MUST(r->elem > ELEM_BYTES && r->elem < ELEM_TYPES_);
		MUST(r->len_bytes % elem_bytes(r->elem) == 0);
		MUST(!r->row_bytes || r->len_bytes % r->row_bytes == 0);
		MUST(!r->head_bytes || r->row_bytes % r->head_bytes == 0);
		end = r->off_bytes + r->len_bytes;
	}
}

/* The region that @off lies in, from @i on; n_regions when none. */
static uint32_t region_at(const struct layout *l, uint32_t i, uint64_t off)
{
	while (i < l->n_regions && l->regions[i].off_bytes + l->regions[i].len_bytes <= off)
		i++;
	return i < l->n_regions && l->regions[i].off_bytes <= off ? i : l->n_regions;
}

static void check_chunk(const struct layout *l, const struct layout_chunk *c, uint32_t i)
{
	const struct layout_region *r = &l->regions[i];

	MUST(c->shape.elem == r->elem);
	MUST((c->off_bytes - r->off_bytes) % elem_bytes(r->elem) == 0);
	MUST(c->len_bytes % elem_bytes(r->elem) == 0);
	if (!c->shape.row_bytes)
		return;
	MUST(c->len_bytes % c->shape.row_bytes == 0);
	MUST((c->off_bytes - r->off_bytes) % c->shape.row_bytes == 0);
	MUST((c->off_bytes - r->off_bytes) / c->shape.row_bytes == c->shape.first_row);
	MUST(c->shape.first_row + (uint64_t)c->len_bytes / c->shape.row_bytes <=
	     c->shape.region_rows);
}

static void check_cut(const struct layout *l, uint32_t target, uint32_t max)
{
	struct layout_chunk *c;
	uint64_t off = 0;
	uint32_t n, region = 0;
	int err = layout_cut(l, target, max, &c, &n);

	if (err == -E2BIG) {
		MUST(l->size_bytes / target > LAYOUT_CHUNKS_MAX / 4);
		return;
	}
	MUST(!err);
	for (uint32_t i = 0; i < n; i++) {
		uint32_t at;

		MUST(c[i].off_bytes == off && c[i].len_bytes > 0 && c[i].len_bytes <= max);
		at = region_at(l, region, off);
		if (c[i].shape.kind == REGION_OPAQUE) {
			MUST(at == l->n_regions && c[i].shape.elem == ELEM_BYTES);
			MUST(region_at(l, region, off + c[i].len_bytes - 1) == l->n_regions);
		} else {
			MUST(at < l->n_regions);
			check_chunk(l, &c[i], at);
			region = at;
		}
		off += c[i].len_bytes;
	}
	MUST(off == l->size_bytes);
	mem_free(c);
}

static void check_pack(const struct layout *l)
{
	struct sbuf a = SBUF_INIT, b = SBUF_INIT, x = SBUF_INIT, y = SBUF_INIT;
	struct layout *u;

	MUST(layout_pack(l, &a) == 0);
	MUST(layout_unpack(a.s, a.len, &u) == 0);
	MUST(layout_pack(u, &b) == 0);
	MUST(a.len == b.len && !memcmp(a.s, b.s, a.len));
	MUST(u->n_regions == l->n_regions && u->size_bytes == l->size_bytes);
	for (uint32_t i = 0; i < l->n_regions; i++) {
		const struct layout_region *r = &l->regions[i], *q = &u->regions[i];

		MUST(r->off_bytes == q->off_bytes && r->len_bytes == q->len_bytes);
		MUST(r->kind == q->kind && r->elem == q->elem && r->transposed == q->transposed);
		MUST(r->layer == q->layer && r->row_bytes == q->row_bytes &&
		     r->head_bytes == q->head_bytes);
	}
	layout_dump(l, &x);
	layout_dump(u, &y);
	MUST(!strcmp(x.s, y.s));
	layout_destroy(u);
	sbuf_fini(&a);
	sbuf_fini(&b);
	sbuf_fini(&x);
	sbuf_fini(&y);
}

void layout_check_properties(const struct layout *l)
{
	check_regions(l);
	check_cut(l, 768u << 10, 1u << 20);
	check_cut(l, 512u << 10, 4u << 20);
	if (l->size_bytes < 1u << 20)
		check_cut(l, 100, 4096);
	check_pack(l);
}
