/* SPDX-License-Identifier: MIT */
/*
 * Parsing and checking of a safetensors header. The length is checked against
 * the file and ST_HEADER_MAX before a buffer is taken; tensors are collected in
 * a growing array, then sorted and held against the file's size. Names that
 * repeat, unknown dtypes, shapes that do not fill their range: not recognised.
 */
#include "layouts/st_header.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/le.h"
#include "base/mem.h"
#include "base/units.h"
#include "layouts/json.h"

static const struct {
	const char *name;
	uint8_t bits, elem;
} st_dtypes[] = {
	{ "BF16", 16, ELEM_BF16 },     { "F16", 16, ELEM_F16 },
	{ "F32", 32, ELEM_F32 },       { "F8_E4M3", 8, ELEM_F8E4M3 },
	{ "F8_E5M2", 8, ELEM_F8E5M2 }, { "F8E4M3FN", 8, ELEM_F8E4M3 }, /* LMCache's spelling */
	{ "F8E5M2", 8, ELEM_F8E5M2 },  { "BOOL", 8, ELEM_BYTES },
	{ "U8", 8, ELEM_BYTES },       { "I8", 8, ELEM_BYTES },
	{ "U16", 16, ELEM_BYTES },     { "I16", 16, ELEM_BYTES },
	{ "U32", 32, ELEM_BYTES },     { "I32", 32, ELEM_BYTES },
	{ "U64", 64, ELEM_BYTES },     { "I64", 64, ELEM_BYTES },
	{ "F64", 64, ELEM_BYTES },     { "C64", 64, ELEM_BYTES },
	{ "F8_E8M0", 8, ELEM_BYTES },  { "F4", 4, ELEM_BYTES },
	{ "F6_E2M3", 6, ELEM_BYTES },  { "F6_E3M2", 6, ELEM_BYTES },
};

static int st_dtype(struct json *j, struct st_tensor *t)
{
	char *s;
	int err = json_string(j, &s);

	for (size_t i = 0; !err && i < sizeof(st_dtypes) / sizeof(st_dtypes[0]); i++)
		if (!strcmp(s, st_dtypes[i].name)) {
			t->bits = st_dtypes[i].bits;
			t->elem = st_dtypes[i].elem;
			return 0;
		}
	return -KVFS_EFORMAT;
}

static int st_shape(struct json *j, struct st_tensor *t)
{
	int more, err = json_array(j);

	while (!err && (more = json_item(j)) != 0) {
		if (more < 0 || t->rank == LAYOUT_AXES_MAX)
			return -KVFS_EFORMAT;
		err = json_u64(j, &t->dim[t->rank++]);
	}
	return err;
}

static int st_offsets(struct json *j, struct st_tensor *t)
{
	int err = json_array(j);

	if (err || json_item(j) != 1 || json_u64(j, &t->begin) || json_item(j) != 1 ||
	    json_u64(j, &t->end) || json_item(j) != 0)
		return -KVFS_EFORMAT;
	return 0;
}

static int st_fmt(struct json *j, struct st_tensor *t)
{
	uint64_t v;

	if (json_u64(j, &v) || v > INT32_MAX)
		return -KVFS_EFORMAT;
	t->fmt = (int32_t)v;
	return 0;
}

/* The shape times the element fills begin..end exactly. */
static bool st_fits(const struct st_tensor *t)
{
	uint64_t bits = t->bits;

	for (unsigned i = 0; i < t->rank; i++)
		if (!mul_u64(bits, t->dim[i], &bits))
			return false;
	return bits % 8 == 0 && t->end >= t->begin && t->end - t->begin == bits / 8;
}

/* {"dtype":..,"shape":[..],"data_offsets":[..]} */
static int st_tensor(struct json *j, struct st_tensor *t)
{
	enum { DTYPE = 1, SHAPE = 2, OFFSETS = 4, FMT = 8 };
	unsigned seen = 0, bit;
	char *key;
	int more, err = json_object(j);

	while (!err && (more = json_key(j, &key)) != 0) {
		if (more < 0)
			return more;
		bit = !strcmp(key, "dtype")          ? DTYPE
		      : !strcmp(key, "shape")        ? SHAPE
		      : !strcmp(key, "data_offsets") ? OFFSETS
		      : !strcmp(key, "fmt")          ? FMT
						     : 0;
		if (seen & bit)
			return -KVFS_EFORMAT;
		seen |= bit;
		err = bit == DTYPE     ? st_dtype(j, t)
		      : bit == SHAPE   ? st_shape(j, t)
		      : bit == OFFSETS ? st_offsets(j, t)
		      : bit == FMT     ? st_fmt(j, t)
				       : json_skip(j);
	}
	if (!err && ((seen & 7) != 7 || !st_fits(t)))
		err = -KVFS_EFORMAT;
	return err;
}

/* mlx-lm names the class of its i-th cache in "2.i". */
static void st_note_class(struct st_file *f, const char *key, const char *value)
{
	uint64_t i;

	if (strncmp(key, "2.", 2) ||
	    units_parse_u64(key + 2, 0, 8 * sizeof(f->other_cache) - 1, &i))
		return;
	if (!strstr(value, "KVCache"))
		f->other_cache[i / 8] |= (uint8_t)(1u << (i & 7));
}

static int st_metadata(struct json *j, struct st_file *f)
{
	char *key, *value;
	int more, err = json_object(j);

	while (!err && (more = json_key(j, &key)) != 0) {
		if (more < 0)
			return more;
		err = json_string(j, &value);
		if (!err)
			st_note_class(f, key, value);
	}
	return err;
}

static int st_grow(struct st_file *f)
{
	uint32_t cap = f->cap ? 2 * f->cap : 16;
	void *p;

	if (f->n < f->cap)
		return 0;
	if (f->n >= ST_TENSORS_MAX)
		return -KVFS_EFORMAT;
	p = mem_realloc(f->tensors, cap * sizeof(*f->tensors));
	if (!p)
		return -ENOMEM;
	f->tensors = p;
	f->cap = cap;
	return 0;
}

static int st_parse(struct json *j, struct st_file *f)
{
	bool metadata = false;
	char *key;
	int more, err = json_object(j);

	while (!err && (more = json_key(j, &key)) != 0) {
		if (more < 0)
			return more;
		if (!strcmp(key, "__metadata__")) {
			if (metadata)
				return -KVFS_EFORMAT;
			metadata = true;
			err = st_metadata(j, f);
			continue;
		}
		err = st_grow(f);
		if (err)
			return err;
		f->tensors[f->n] = (struct st_tensor){ .name = key, .fmt = -1 };
		err = st_tensor(j, &f->tensors[f->n]);
		f->n++;
	}
	return err ? err : json_end(j);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct st_tensor *)a)->name, ((const struct st_tensor *)b)->name);
}

static int by_begin(const void *a, const void *b)
{
	const struct st_tensor *x = a, *y = b;

	if (x->begin != y->begin)
		return x->begin < y->begin ? -1 : 1;
	return x->end < y->end ? -1 : x->end > y->end;
}

/* Distinct names, and one tensor after the other up to the file's end. */
static int st_check(struct st_file *f, uint64_t data_len)
{
	uint64_t at = 0;

	if (!f->n)
		return -KVFS_EFORMAT;
	qsort(f->tensors, f->n, sizeof(*f->tensors), by_name);
	for (uint32_t i = 1; i < f->n; i++)
		if (!strcmp(f->tensors[i - 1].name, f->tensors[i].name))
			return -KVFS_EFORMAT;
	qsort(f->tensors, f->n, sizeof(*f->tensors), by_begin);
	for (uint32_t i = 0; i < f->n; i++) {
		if (f->tensors[i].begin != at)
			return -KVFS_EFORMAT;
		at = f->tensors[i].end;
	}
	return at == data_len ? 0 : -KVFS_EFORMAT;
}

int st_open(const struct layout_input *in, struct st_file *ret)
{
	struct st_file f = { 0 };
	struct json j;
	uint8_t head[9];
	uint64_t len;
	int err;

	err = layout_read(in, head, sizeof(head), 0);
	if (err)
		return err;
	len = le64_get(head);
	if (head[8] != '{' || len < 2 || len > ST_HEADER_MAX || len > in->size_bytes - 8)
		return -KVFS_ENOLAYOUT;
	f.text = mem_alloc(len);
	if (!f.text)
		return -ENOMEM;
	err = layout_read(in, f.text, len, 8);
	if (err)
		goto err_close;
	json_init(&j, f.text, len, (uint32_t)len);
	err = st_parse(&j, &f);
	if (!err)
		err = st_check(&f, in->size_bytes - 8 - len);
	if (err)
		goto err_close;
	f.data_off = 8 + len;
	*ret = f;
	return 0;
err_close:
	st_close(&f);
	return err == -KVFS_EFORMAT ? -KVFS_ENOLAYOUT : err;
}

void st_close(struct st_file *f)
{
	mem_free(f->text);
	mem_free(f->tensors);
	f->text = NULL;
	f->tensors = NULL;
}
