/* SPDX-License-Identifier: MIT */
/*
 * safetensors as kvlm writes them: K and V of each layer as [cells, heads, dim],
 * in the metadata the tokens and, where tokens were dropped, the positions, both
 * as decimal numbers with one blank between them. The header is written anew:
 * all other metadata as they were, then the positions, then the tensors in the
 * order of their data; blanks up to a multiple of 8 bytes.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/le.h"
#include "base/mem.h"
#include "layouts/compact_form.h"
#include "layouts/json.h"

#define PAIRS_MAX 64u

struct meta {
	const char *format, *tokens, *positions;
};

static int meta_pairs(struct json *j, struct compact *c, struct meta *m)
{
	char *key, *value;
	int more, err = json_object(j);

	while (!err && (more = json_key(j, &key)) != 0) {
		if (more < 0)
			return more;
		err = json_string(j, &value);
		if (err)
			break;
		if (!strcmp(key, "positions")) {
			if (m->positions)
				return -KVFS_EFORMAT;
			m->positions = value;
			continue;
		}
		if (c->n_pairs == 2 * PAIRS_MAX)
			return -KVFS_EFORMAT;
		if (!strcmp(key, "tokens"))
			m->tokens = value;
		if (!strcmp(key, "format"))
			m->format = value;
		c->pairs[c->n_pairs++] = key;
		c->pairs[c->n_pairs++] = value;
	}
	return err;
}

/* The metadata, from a copy of the header that is decoded in place. */
static int read_meta(struct compact *c, struct meta *m)
{
	uint64_t len = c->st.data_off - 8;
	struct json j;
	char *key;
	int more, err;

	c->meta = mem_alloc((size_t)len);
	c->pairs = mem_calloc(2 * PAIRS_MAX, sizeof(*c->pairs));
	if (!c->meta || !c->pairs)
		return -ENOMEM;
	err = layout_read(&c->in, c->meta, (size_t)len, 8);
	if (err)
		return err;
	json_init(&j, c->meta, (size_t)len, (uint32_t)len);
	err = json_object(&j);
	while (!err && (more = json_key(&j, &key)) != 0) {
		if (more < 0)
			return more;
		err = strcmp(key, "__metadata__") ? json_skip(&j) : meta_pairs(&j, c, m);
	}
	return err;
}

/* Reads "7 8 9"; @out may be NULL. How many, -1 when malformed or over @max. */
static int64_t read_list(const char *s, int32_t *out, uint32_t max)
{
	uint32_t n = 0;

	while (*s) {
		uint64_t v = 0;
		const char *from = s;

		while (*s >= '0' && *s <= '9' && v <= INT32_MAX)
			v = 10 * v + (uint64_t)(*s++ - '0');
		if (s == from || v > INT32_MAX || n == max || (*s && *s++ != ' '))
			return -1;
		if (out)
			out[n] = (int32_t)v;
		n++;
	}
	return n;
}

static int st_parts(struct compact *c, const struct layout *l, char *why, size_t why_len)
{
	static const char other[] = "its tensors are not K and V of [cells, heads, dim]";

	if (c->st.n != l->n_regions)
		return compact_refuse(why, why_len, other);
	for (uint32_t i = 0; i < c->st.n; i++) {
		const struct st_tensor *t = &c->st.tensors[i];
		const struct layout_region *r = &l->regions[i];

		if (t->rank != 3 || t->dim[0] != c->cells || r->transposed || !r->row_bytes ||
		    r->row_bytes > COMPACT_ROW_MAX || r->off_bytes != c->st.data_off + t->begin ||
		    r->len_bytes != t->end - t->begin || r->len_bytes / r->row_bytes != c->cells)
			return compact_refuse(why, why_len, other);
		c->parts[i] = (struct compact_part){
			.off_bytes = r->off_bytes,
			.rows = c->cells,
			.row_bytes = r->row_bytes,
			.head_bytes = r->head_bytes,
			.elem = r->elem,
			.kind = r->kind,
		};
	}
	return 0;
}

static int st_form_open(struct compact *c, const struct layout *l, char *why, size_t why_len)
{
	struct meta m = { 0 };
	int64_t n;
	int err = st_open(&c->in, &c->st);

	if (!err)
		err = read_meta(c, &m);
	if (err == -KVFS_EFORMAT || err == -KVFS_ENOLAYOUT ||
	    (!err && (!m.format || strcmp(m.format, "kvlm") || !m.tokens)))
		return compact_refuse(why, why_len,
				      "it does not tell its tokens and positions as kvlm does");
	if (err)
		return err;
	n = read_list(m.tokens, NULL, COMPACT_TOKENS_MAX);
	c->n_tokens = n < 0 ? 0 : (uint32_t)n;
	if (m.positions)
		n = read_list(m.positions, c->pos, c->cells);
	else
		for (uint32_t i = 0; i < c->cells; i++)
			c->pos[i] = (int32_t)i;
	if (n != c->cells)
		return compact_refuse(why, why_len, "its positions are not one per cell");
	return st_parts(c, l, why, why_len);
}

static void add_positions(struct compact *c)
{
	sbuf_adds(&c->head, ",\"positions\":\"");
	for (uint32_t i = 0; i < c->n_kept; i++)
		sbuf_addf(&c->head, "%s%d", i ? " " : "", c->pos[c->kept[i]]);
	sbuf_adds(&c->head, "\"");
}

static void add_tensors(struct compact *c)
{
	static const char *const names[] = {
		[ELEM_F32] = "F32", [ELEM_F16] = "F16", [ELEM_BF16] = "BF16"
	};
	uint64_t at = 0;

	for (uint32_t i = 0; i < c->st.n; i++) {
		const struct st_tensor *t = &c->st.tensors[i];
		uint64_t len = (uint64_t)c->n_kept * c->parts[i].row_bytes;

		sbuf_adds(&c->head, ",");
		sbuf_add_json_str(&c->head, t->name);
		sbuf_addf(&c->head,
			  ":{\"dtype\":\"%s\",\"shape\":[%u,%" PRIu64 ",%" PRIu64
			  "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}",
			  names[t->elem], c->n_kept, t->dim[1], t->dim[2], at, at + len);
		at += len;
	}
}

static int st_plan(struct compact *c)
{
	static const uint8_t no_len[8];

	/* the recogniser tells cells from heads by which are more */
	for (uint32_t i = 0; i < c->st.n; i++)
		if (c->n_kept < c->st.tensors[i].dim[1])
			return -EOPNOTSUPP;
	sbuf_add(&c->head, no_len, sizeof(no_len));
	sbuf_adds(&c->head, "{\"__metadata__\":{");
	for (uint32_t i = 0; i < c->n_pairs; i += 2) {
		sbuf_adds(&c->head, i ? "," : "");
		sbuf_add_json_str(&c->head, c->pairs[i]);
		sbuf_adds(&c->head, ":");
		sbuf_add_json_str(&c->head, c->pairs[i + 1]);
	}
	if (c->n_kept != c->n_tokens)
		add_positions(c);
	sbuf_adds(&c->head, "}");
	add_tensors(c);
	sbuf_adds(&c->head, "}");
	while (!c->head.failed && c->head.len % 8)
		sbuf_adds(&c->head, " ");
	if (c->head.failed)
		return -ENOMEM;
	if (c->head.len - 8 > ST_HEADER_MAX)
		return -EOPNOTSUPP;
	le64_put(c->head.s, c->head.len - 8);
	return 0;
}

const struct compact_form compact_st = { st_form_open, st_plan };
