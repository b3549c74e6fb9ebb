/* SPDX-License-Identifier: MIT */
/*
 * LMCache's two self-describing forms.
 *
 * fs connector (lmcache/v1/protocol.py RemoteMetadata): 7 x i32 = length, memory
 * format, dtype, shape[4] padded with zeros; then length bytes.
 * GDS backend (gds_backend.py pack_metadata): a safetensors header of exactly
 * 4088 bytes with one tensor "kvcache" that also has its memory format; data
 * from 4096.
 *
 * Formats: 1 [2][L][T][HD], 2 [T][2][HD], 3 [2][T][HD], 6 [1][L][T][D] (latent).
 * 4 and 5 are bytes that LMCache compressed itself: recognised, without regions.
 */
#include <string.h>

#include "base/le.h"
#include "kvcachefs/format_layout.h"
#include "layouts/st_header.h"

#define LMCACHE_FS_HEADER 28u
#define LMCACHE_GDS_HEADER 4088u

static const uint8_t lmcache_dtypes[] = {
	[1] = ELEM_F16,
	[2] = ELEM_F16,
	[3] = ELEM_BF16,
	[4] = ELEM_F32,
	[5] = ELEM_BYTES /* f64 */,
	[6] = ELEM_BYTES /* u8 */,
	[7] = ELEM_F8E4M3,
	[8] = ELEM_F8E5M2,
};
static const uint8_t lmcache_dtype_bytes[] = { 1, 2, 2, 2, 4, 8, 1, 1, 1 };
#define LMCACHE_DTYPES (sizeof(lmcache_dtypes) / sizeof(lmcache_dtypes[0]))

/* Axes of a memory format; NULL when it has none. */
static const char *lmcache_order(int32_t fmt)
{
	static const char *const orders[] = { NULL, "2LTD", "T2D", "2TD", NULL, NULL, "BLTD" };

	return fmt >= 0 && (size_t)fmt < sizeof(orders) / sizeof(orders[0]) ? orders[fmt] : NULL;
}

static bool lmcache_binary(int32_t fmt)
{
	return fmt == 4 || fmt == 5;
}

/* Axes from letters and lengths; what exceeds the letters must be 0 or 1. */
static bool lmcache_axes(const char *order, const uint64_t *dim, unsigned rank,
			 struct layout_axes *a)
{
	*a = (struct layout_axes){ .n = (unsigned)strlen(order) };
	if (rank < a->n)
		return false;
	for (unsigned i = 0; i < rank; i++) {
		if (i >= a->n) {
			if (dim[i] > 1)
				return false;
			continue;
		}
		a->letter[i] = order[i];
		a->len[i] = dim[i];
		if (order[i] == '2' && dim[i] != 2)
			return false;
	}
	return true;
}

static int lmcache_payload(struct layout *l, const struct layout_axes *a, uint64_t off,
			   unsigned elem, unsigned es)
{
	uint64_t elems;

	if (!layout_axes_bytes(a, ELEM_BYTES, &elems) || elems > l->size_bytes ||
	    elems * es != l->size_bytes - off)
		return -KVFS_ENOLAYOUT;
	layout_facts(l, a);
	if (elem != ELEM_BYTES)
		return layout_add_tensor(l, a, off, elem, REGION_KV, 0);
	layout_veto(l, "elements are of no float type");
	return 0;
}

static int lmcache_fs_recognise(const struct layout_input *in, struct layout *ret)
{
	uint8_t b[LMCACHE_FS_HEADER];
	uint64_t dim[4];
	struct layout_axes a;
	uint32_t fmt, dtype;
	const char *order;
	int err = layout_read(in, b, sizeof(b), 0);

	if (err)
		return err;
	fmt = le32_get(b + 4);
	dtype = le32_get(b + 8);
	if (le32_get(b) != in->size_bytes - sizeof(b) || in->size_bytes > INT32_MAX || !dtype ||
	    dtype >= LMCACHE_DTYPES)
		return -KVFS_ENOLAYOUT;
	for (int i = 0; i < 4; i++) {
		dim[i] = le32_get(b + 12 + 4 * i);
		if (dim[i] > INT32_MAX)
			return -KVFS_ENOLAYOUT;
	}
	ret->name = layout_name_of(KVFS_LAYOUT_LMCACHE_FS);
	if (fmt < 7 && lmcache_binary((int32_t)fmt)) {
		layout_veto(ret, "compressed by LMCache (memory format %u)", fmt);
		return 0;
	}
	order = fmt < 7 ? lmcache_order((int32_t)fmt) : NULL;
	if (!order || !lmcache_axes(order, dim, 4, &a))
		return -KVFS_ENOLAYOUT;
	err = lmcache_payload(ret, &a, sizeof(b), lmcache_dtypes[dtype],
			      lmcache_dtype_bytes[dtype]);
	ret->elem = layout_main_elem(ret);
	return err;
}

static int gds_regions(const struct st_file *f, struct layout *l)
{
	const struct st_tensor *t = &f->tensors[0];
	struct layout_axes a;
	const char *order;

	if (f->n != 1 || strcmp(t->name, "kvcache") || t->fmt < 0)
		return -KVFS_ENOLAYOUT;
	l->name = layout_name_of(KVFS_LAYOUT_LMCACHE_GDS);
	if (lmcache_binary(t->fmt)) {
		layout_veto(l, "compressed by LMCache (memory format %d)", t->fmt);
		return 0;
	}
	order = lmcache_order(t->fmt);
	if (!order || !lmcache_axes(order, t->dim, t->rank, &a))
		return -KVFS_ENOLAYOUT;
	return lmcache_payload(l, &a, f->data_off, t->elem, t->bits / 8);
}

static int lmcache_gds_recognise(const struct layout_input *in, struct layout *ret)
{
	struct st_file f;
	uint8_t b[8];
	int err = layout_read(in, b, sizeof(b), 0);

	if (err)
		return err;
	if (le64_get(b) != LMCACHE_GDS_HEADER)
		return -KVFS_ENOLAYOUT;
	err = st_open(in, &f);
	if (err)
		return err;
	err = gds_regions(&f, ret);
	ret->elem = layout_main_elem(ret);
	st_close(&f);
	return err;
}

const struct layout_ops layout_lmcache_fs = { "lmcache-fs", lmcache_fs_recognise };
const struct layout_ops layout_lmcache_gds = { "lmcache-gds", lmcache_gds_recognise };
