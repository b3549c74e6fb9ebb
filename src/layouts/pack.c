/* SPDX-License-Identifier: MIT */
/*
 * The descriptor inside an object (kvcachefs/format_layout.h). Equal regions at
 * equal distances, one per layer as a rule, become one run, so that a page of
 * 64 regions costs two records. Unpacking builds the layout, checks it like a
 * recogniser's, packs it again and compares: what pack would not write is
 * refused, reserved bytes included. Nothing is allocated before the counts
 * are known to fit the length and LAYOUT_REGIONS_MAX.
 */
#include <errno.h>
#include <string.h>

#include "base/le.h"
#include "base/mem.h"
#include "kvcachefs/format_layout.h"
#include "layouts/build.h"
#include "layouts/layout.h"

static bool same_shape(const struct layout_region *a, const struct layout_region *b)
{
	return a->len_bytes == b->len_bytes && a->kind == b->kind && a->elem == b->elem &&
	       a->transposed == b->transposed && a->row_bytes == b->row_bytes &&
	       a->head_bytes == b->head_bytes;
}

/* How many regions from @r on (of @n) make one run, and its step. */
static uint32_t run_length(const struct layout_region *r, uint32_t n, uint64_t *ret_stride,
			   uint8_t *ret_step)
{
	uint64_t stride;
	uint32_t step, i;

	*ret_stride = 0;
	*ret_step = 0;
	if (n < 2 || !same_shape(&r[0], &r[1]))
		return 1;
	stride = r[1].off_bytes - r[0].off_bytes;
	step = r[1].layer - r[0].layer;
	if (step > UINT8_MAX)
		return 1;
	for (i = 2; i < n; i++)
		if (!same_shape(&r[0], &r[i]) || r[i].off_bytes - r[i - 1].off_bytes != stride ||
		    r[i].layer - r[i - 1].layer != step)
			break;
	*ret_stride = stride;
	*ret_step = (uint8_t)step;
	return i;
}

static void put_run(const struct layout_region *r, uint32_t count, uint64_t stride, uint8_t step,
		    struct sbuf *b)
{
	struct kvfs_layout_run d = {
		.off_bytes = htole64(r->off_bytes),
		.len_bytes = htole64(r->len_bytes),
		.stride_bytes = htole64(stride),
		.count = htole32(count),
		.layer = htole32(r->layer),
		.row_bytes = htole32(r->row_bytes),
		.head_bytes = htole32(r->head_bytes),
		.kind = r->kind,
		.elem = r->elem,
		.transposed = r->transposed,
		.layer_step = step,
	};

	sbuf_add(b, &d, sizeof(d));
}

static uint32_t count_runs(const struct layout *l)
{
	uint32_t runs = 0;
	uint64_t stride;
	uint8_t step;

	for (uint32_t i = 0; i < l->n_regions; runs++)
		i += run_length(&l->regions[i], l->n_regions - i, &stride, &step);
	return runs;
}

int layout_pack(const struct layout *l, struct sbuf *b)
{
	int id = layout_id_of(l->name);
	size_t veto_len = strnlen(l->veto, sizeof(l->veto) - 1);
	struct kvfs_layout_head h = {
		.magic = htole32(KVFS_LAYOUT_MAGIC),
		.version = KVFS_LAYOUT_VERSION,
		.id = (uint8_t)id,
		.elem = l->elem,
		.flags = l->lossy_veto ? KVFS_LAYOUT_F_VETO : 0,
		.size_bytes = htole64(l->size_bytes),
		.layers = htole32(l->layers),
		.heads = htole32(l->heads),
		.head_dim = htole32(l->head_dim),
		.tokens = htole32(l->tokens),
		.n_regions = htole32(l->n_regions),
		.n_runs = htole32(count_runs(l)),
		.veto_len = l->lossy_veto ? (uint8_t)veto_len : 0,
	};
	uint64_t stride;
	uint8_t step;

	if (id < 0 || !layout_sane(l))
		return -EINVAL;
	sbuf_add(b, &h, sizeof(h));
	for (uint32_t i = 0, n; i < l->n_regions; i += n) {
		n = run_length(&l->regions[i], l->n_regions - i, &stride, &step);
		put_run(&l->regions[i], n, stride, step, b);
	}
	sbuf_add(b, l->veto, h.veto_len);
	return b->failed ? -ENOMEM : 0;
}

static int get_run(const uint8_t *p, struct layout *l)
{
	struct kvfs_layout_run d;
	struct layout_region r;
	uint32_t count;
	int err;

	memcpy(&d, p, sizeof(d));
	count = le32toh(d.count);
	r = (struct layout_region){
		.off_bytes = le64toh(d.off_bytes),
		.len_bytes = le64toh(d.len_bytes),
		.kind = d.kind,
		.elem = d.elem,
		.transposed = d.transposed,
		.layer = le32toh(d.layer),
		.row_bytes = le32toh(d.row_bytes),
		.head_bytes = le32toh(d.head_bytes),
	};
	for (uint32_t i = 0; i < count; i++) { /* ends at LAYOUT_REGIONS_MAX at the latest */
		err = layout_add(l, &r);
		if (err)
			return err;
		r.off_bytes += le64toh(d.stride_bytes); /* a wrap is found by the next add */
		r.layer += d.layer_step;
	}
	return 0;
}

static int unpack(const uint8_t *p, size_t len, struct layout *l)
{
	struct kvfs_layout_head h;
	uint32_t n_runs;
	int err;

	memcpy(&h, p, sizeof(h));
	n_runs = le32toh(h.n_runs);
	if (le32toh(h.magic) != KVFS_LAYOUT_MAGIC || h.version != KVFS_LAYOUT_VERSION ||
	    h.id >= KVFS_LAYOUT_IDS_ || h.veto_len > KVFS_LAYOUT_VETO_MAX)
		return -KVFS_EFORMAT;
	if (n_runs > LAYOUT_REGIONS_MAX ||
	    len != sizeof(h) + n_runs * sizeof(struct kvfs_layout_run) + h.veto_len)
		return -KVFS_EFORMAT;
	l->name = layout_name_of(h.id);
	l->size_bytes = le64toh(h.size_bytes);
	l->layers = le32toh(h.layers);
	l->heads = le32toh(h.heads);
	l->head_dim = le32toh(h.head_dim);
	l->tokens = le32toh(h.tokens);
	l->elem = h.elem;
	l->lossy_veto = h.flags & KVFS_LAYOUT_F_VETO;
	p += sizeof(h);
	for (uint32_t i = 0; i < n_runs; i++, p += sizeof(struct kvfs_layout_run)) {
		err = get_run(p, l);
		if (err)
			return err == -ENOMEM ? err : -KVFS_EFORMAT;
	}
	memcpy(l->veto, p, h.veto_len);
	return 0;
}

/* Is [p, len) what pack makes of @l? */
static int packs_to(const struct layout *l, const void *p, size_t len)
{
	struct sbuf b = SBUF_INIT;
	int err = layout_sane(l) ? layout_pack(l, &b) : -KVFS_EFORMAT;

	if (!err && (b.len != len || memcmp(b.s, p, len)))
		err = -KVFS_EFORMAT;
	sbuf_fini(&b);
	return err;
}

int layout_unpack(const void *p, size_t len, struct layout **ret)
{
	struct layout *l;
	int err;

	if (len < sizeof(struct kvfs_layout_head))
		return -KVFS_EFORMAT;
	l = mem_zalloc(sizeof(*l));
	if (!l)
		return -ENOMEM;
	err = unpack(p, len, l);
	if (!err)
		err = packs_to(l, p, len);
	if (err) {
		layout_destroy(l);
		return err;
	}
	*ret = l;
	return 0;
}
