/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_LAYOUTS_ST_HEADER_H
#define KVCACHEFS_LAYOUTS_ST_HEADER_H
/*
 * The header of a safetensors file (format 0.4; huggingface/safetensors,
 * safetensors/src/tensor.rs): u64 length, JSON of that length padded with
 * spaces, data. The tensors tile the data without gaps, overlaps or rest.
 * LMCache's GDS files are of this form too, with one more key per tensor.
 */
#include "layouts/build.h"

#define ST_HEADER_MAX (8u << 20)
#define ST_TENSORS_MAX LAYOUT_REGIONS_MAX

struct st_tensor {
	const char *name;    /* in st_file.text */
	uint64_t begin, end; /* from the start of the data */
	uint64_t dim[LAYOUT_AXES_MAX];
	uint8_t rank;
	uint8_t elem; /* enum elem_type; ELEM_BYTES for other dtypes */
	uint8_t bits; /* of an element */
	int32_t fmt;  /* LMCache's memory format; -1 when not said */
};

struct st_file {
	char *text;                /* owned: the header, decoded in place */
	struct st_tensor *tensors; /* owned, by begin */
	uint32_t n, cap;
	uint64_t data_off;
	/* Caches of mlx-lm that its metadata calls something else than *KVCache:
	 * their two arrays are not keys and values. Bit per number. */
	uint8_t other_cache[512];
};

/* 0; -KVFS_ENOLAYOUT; -ENOMEM; -errno of read. Nothing to release on failure. */
WUR int st_open(const struct layout_input *in, struct st_file *ret);
void st_close(struct st_file *f);

#endif
