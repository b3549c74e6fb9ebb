/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_LAYOUTS_BUILD_H
#define KVCACHEFS_LAYOUTS_BUILD_H
/*
 * What recognisers share: reading the input whole or not at all, collecting
 * regions with every bound checked, and turning a tensor's axes into regions.
 * Private to src/layouts. All pure apart from layout_input's callbacks.
 */
#include "layouts/layout.h"

#define LAYOUT_AXES_MAX 8

/*
 * Row-major axes, outermost first. Letters as in the engines' documents:
 * 2 K and V, L layers, T tokens, H heads, D dimension (of a head, or of all
 * heads when there is no H), N pages, B batch, '?' unknown.
 */
struct layout_axes {
	unsigned n;
	char letter[LAYOUT_AXES_MAX];
	uint64_t len[LAYOUT_AXES_MAX];
	uint64_t head_elems; /* without H: elements of a head within D; 0 unknown */
};

/* Exactly @len bytes at @off. 0, -KVFS_ENOLAYOUT when the file ends before,
 * -errno of the callback. */
WUR int layout_read(const struct layout_input *in, void *buf, size_t len, uint64_t off);

/* Appends; regions come in file order. 0; -KVFS_ENOLAYOUT when the region is
 * empty, malformed, outside the file, not behind the last one or one too many;
 * -ENOMEM. */
WUR int layout_add(struct layout *l, const struct layout_region *r);
/* All the promises of struct layout and struct layout_region hold. */
bool layout_sane(const struct layout *l);
/* Must stay exact; the first reason stays. */
void layout_veto(struct layout *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Element type of most bytes in regions; ELEM_BYTES without regions. */
uint8_t layout_main_elem(const struct layout *l);

/* Product of the axes times the element: false on overflow or a zero axis. */
bool layout_axes_bytes(const struct layout_axes *a, unsigned elem, uint64_t *ret_bytes);
/* Length of the axis with @letter, 0 when there is none. */
uint64_t layout_axis(const struct layout_axes *a, char letter);
/*
 * Adds the regions of one tensor at @off: one per combination of the axes
 * before T, each of T rows. The axis 2 before T makes K and V of it, after T
 * (or without one) everything is @kind; L before T gives the layer, counted from
 * @layer. Where that would be too many regions: one, or one per half when 2
 * is outermost. Results as layout_add.
 */
WUR int layout_add_tensor(struct layout *l, const struct layout_axes *a, uint64_t off,
			  unsigned elem, unsigned kind, uint32_t layer);
/* Fills layers, heads, head_dim and tokens that are still 0 from the axes. */
void layout_facts(struct layout *l, const struct layout_axes *a);

/* Static name for an enum kvfs_layout_id, NULL when unknown; and back, -1. */
const char *layout_name_of(unsigned id);
int layout_id_of(const char *name);

/* The recognisers. */
extern const struct layout_ops layout_declared;
extern const struct layout_ops layout_llama_state;
extern const struct layout_ops layout_npy;
extern const struct layout_ops layout_lmcache_gds;
extern const struct layout_ops layout_lmcache_fs;
extern const struct layout_ops layout_safetensors;
extern const struct layout_ops layout_numeric;

#endif
