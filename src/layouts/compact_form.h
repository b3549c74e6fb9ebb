/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_LAYOUTS_COMPACT_FORM_H
#define KVCACHEFS_LAYOUTS_COMPACT_FORM_H
/* What compact.c shares with the two forms it knows. Private to src/layouts. */
#include "layouts/compact.h"
#include "layouts/st_header.h"

/* One tensor: @head_len bytes that stay as they are, then rows of the cells or,
 * with columns, rows that hold an element of each cell. */
struct compact_part {
	uint64_t off_bytes; /* of the rows */
	uint32_t head_len;  /* before them */
	uint32_t rows, row_bytes, head_bytes;
	uint8_t elem, kind;
	bool columns;
};

struct compact {
	struct layout_input in; /* its pointers are borrowed */
	const struct compact_form *form;
	uint32_t cells;
	int32_t *pos;               /* owned; [cells] */
	struct compact_part *parts; /* owned; in the order of the file, up to its end */
	uint32_t n_parts;
	/* llama-seq */
	uint64_t cells_off; /* of the number of cells */
	uint32_t cell_bytes;
	/* safetensors */
	struct st_file st;  /* owned */
	char *meta;         /* owned: the header again, decoded in place */
	const char **pairs; /* owned; keys and values in meta, positions left out */
	uint32_t n_pairs;   /* of both together */
	uint32_t n_tokens;
	/* the plan */
	const uint32_t *kept; /* borrowed */
	uint32_t n_kept;
	struct sbuf head; /* all before the first part */
};

struct compact_form {
	/* Fills cells, pos and parts; reasons as compact_open. */
	int (*open)(struct compact *c, const struct layout *l, char *why, size_t why_len);
	/* Fills head from kept; -EOPNOTSUPP: too long. */
	int (*plan)(struct compact *c);
};

extern const struct compact_form compact_llama, compact_st;

/* Writes the reason; -EOPNOTSUPP. */
int compact_refuse(char *why, size_t why_len, const char *reason);

#endif
