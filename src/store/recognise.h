/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_STORE_RECOGNISE_H
#define KVCACHEFS_STORE_RECOGNISE_H
/* What a file's content is, with its name, its settings and the files beside it. */
#include "layouts/layout.h"
#include "store/store_types.h"

struct recognise {
	struct store *st;
	struct node *node;
	uint64_t size;
	/* Reads content: as layout_input's. */
	int64_t (*read)(struct recognise *r, void *buf, size_t len, uint64_t off);
};

/* The layout, for layout_destroy. -ESTALE without a name, -code of layout_recognise. */
WUR int recognise_layout(struct recognise *r, struct layout **ret);
/* For what reads the content after that: without names. @r is borrowed. */
struct layout_input recognise_input(struct recognise *r);

#endif
