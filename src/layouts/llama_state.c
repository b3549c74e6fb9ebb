/* SPDX-License-Identifier: MIT */
/*
 * llama.cpp's sequence files (llama_state_seq_save_file, server slots; magic
 * 'ggsq', versions 2 and 3) and session files (llama_state_save_file,
 * --prompt-cache; 'ggsn', versions 9 and 10). Read from src/llama-context.cpp,
 * llama-kv-cache.cpp and llama-memory-recurrent.cpp of 2025-02 to 2026-09; all
 * little-endian without padding:
 *
 *   u32 magic, version, n_token; n_token x i32
 *   session: u32 len, architecture; until version 9: outputs, logits, embeddings
 *   one or more memory modules (two for sliding-window models; hybrid models add
 *   a recurrent one), each
 *     u32 n_stream (not before 2025-07); per stream
 *       u32 cells; when not 0:
 *       cells x { i32 pos, u32 n_seq, [3 x i32 for M-RoPE and PLE], n_seq x i32 }
 *       u32 v_trans, n_layer
 *       K per layer: i32 type, u64 row bytes, cells x row
 *       V per layer (absent for latent attention): the same, or, transposed,
 *         i32 type, u32 element bytes, u32 n_embd, n_embd x cells x element
 *
 * The header does not say which of the bracketed forms it is, so each is tried
 * until one ends exactly at the end of the file. How much is read is bounded by
 * LLAMA_SCAN_MAX whatever the counts say. Quantised rows and recurrent state
 * are parsed but are no regions. The file names no heads.
 */
#include <errno.h>
#include <string.h>

#include "base/le.h"
#include "base/mem.h"
#include "base/units.h"
#include "kvcachefs/format_layout.h"
#include "layouts/build.h"

#define LLAMA_SEQ_MAGIC 0x67677371u
#define LLAMA_SESSION_MAGIC 0x6767736eu
#define LLAMA_WINDOW 65536u /* read ahead among cells */
#define LLAMA_PEEK 64u      /* between tensors, where the next header is far */
#define LLAMA_SCAN_MAX (256u << 20)
#define LLAMA_CELLS_MAX (16u << 20)
#define LLAMA_LAYERS_MAX 4096u
#define LLAMA_STREAMS_MAX 256u
#define LLAMA_ROW_MAX (16u << 20)
#define LLAMA_MODULES_MAX 4u

/* What the header leaves open. */
struct llama_form {
	bool outputs;         /* session: outputs, logits and embeddings follow the architecture */
	bool streams;         /* n_stream is there */
	bool ext;             /* 12 more bytes per cell */
	bool no_v;            /* K only */
	bool first_recurrent; /* no keys and values before the recurrent state */
};

struct llama_parse {
	const struct layout_input *in;
	struct layout *l;
	struct llama_form form;
	uint8_t *win; /* LLAMA_WINDOW bytes, owned */
	size_t ahead; /* how much of it to fill */
	uint64_t win_off;
	size_t win_len;
	uint64_t pos;
	uint64_t scan_left;
	uint32_t layer; /* number of the module's first layer */
	int quant;      /* ggml type of some quantised row, -1 none */
	bool recurrent;
	bool ambiguous; /* what was taken for K and V may be recurrent state */
};

static const struct {
	int32_t type;
	uint8_t elem;
	uint16_t block_elems, block_bytes;
	const char *name;
} ggml_types[] = {
	{ 0, ELEM_F32, 1, 4, "f32" },         { 1, ELEM_F16, 1, 2, "f16" },
	{ 30, ELEM_BF16, 1, 2, "bf16" },      { 2, ELEM_BYTES, 32, 18, "q4_0" },
	{ 3, ELEM_BYTES, 32, 20, "q4_1" },    { 6, ELEM_BYTES, 32, 22, "q5_0" },
	{ 7, ELEM_BYTES, 32, 24, "q5_1" },    { 8, ELEM_BYTES, 32, 34, "q8_0" },
	{ 20, ELEM_BYTES, 32, 18, "iq4_nl" },
};
#define GGML_TYPES (sizeof(ggml_types) / sizeof(ggml_types[0]))
#define GGML_TYPE_MAX 255

static size_t ggml_find(int32_t type)
{
	size_t i = 0;

	while (i < GGML_TYPES && ggml_types[i].type != type)
		i++;
	return i;
}

/* ---- reading ---- */

static int fill(struct llama_parse *p, size_t least)
{
	uint64_t left = p->in->size_bytes - p->pos;
	size_t len = least < p->ahead ? p->ahead : least;
	int err;

	if (len > left)
		len = (size_t)left;
	if (p->scan_left < len)
		return -KVFS_ENOLAYOUT;
	p->scan_left -= len;
	p->win_len = 0;
	err = layout_read(p->in, p->win, len, p->pos);
	if (err)
		return err;
	p->win_off = p->pos;
	p->win_len = len;
	return 0;
}

/* Points at the next @len bytes (under LLAMA_WINDOW) and steps over them. */
static int take(struct llama_parse *p, size_t len, const uint8_t **ret)
{
	int err;

	if (p->pos < p->win_off || p->pos - p->win_off > p->win_len ||
	    len > p->win_len - (p->pos - p->win_off)) {
		if (len > p->in->size_bytes - p->pos)
			return -KVFS_ENOLAYOUT;
		err = fill(p, len);
		if (err)
			return err;
	}
	*ret = p->win + (p->pos - p->win_off);
	p->pos += len;
	return 0;
}

static int take_u32(struct llama_parse *p, uint32_t *ret)
{
	const uint8_t *b;
	int err = take(p, 4, &b);

	if (!err)
		*ret = le32_get(b);
	return err;
}

static int take_u64(struct llama_parse *p, uint64_t *ret)
{
	const uint8_t *b;
	int err = take(p, 8, &b);

	if (!err)
		*ret = le64_get(b);
	return err;
}

static int skip(struct llama_parse *p, uint64_t n, uint64_t each)
{
	uint64_t bytes;

	if (!mul_u64(n, each, &bytes) || bytes > p->in->size_bytes - p->pos)
		return -KVFS_ENOLAYOUT;
	p->pos += bytes;
	return 0;
}

/* ---- one tensor ---- */

/* Steps over @n rows of @row bytes and notes what they are; opaque ones are
 * only checked. */
static int rows(struct llama_parse *p, int32_t type, uint64_t n, uint64_t row,
		struct layout_region *r)
{
	size_t t = ggml_find(type);

	if (type < 0 || type > GGML_TYPE_MAX || row > LLAMA_ROW_MAX ||
	    (!row && r->kind != REGION_OPAQUE)) /* LFM2 has states of no length */
		return -KVFS_ENOLAYOUT;
	if (t < GGML_TYPES && row % ggml_types[t].block_bytes)
		return -KVFS_ENOLAYOUT;
	r->off_bytes = p->pos;
	r->len_bytes = n * row; /* both under 2^25 */
	r->row_bytes = (uint32_t)row;
	if (skip(p, n, row))
		return -KVFS_ENOLAYOUT;
	if (r->kind == REGION_OPAQUE)
		return 0;
	if (t == GGML_TYPES || ggml_types[t].elem == ELEM_BYTES) {
		p->quant = type;
		return 0;
	}
	r->elem = ggml_types[t].elem;
	return layout_add(p->l, r);
}

/* i32 type, u64 row, cells x row */
static int tensor(struct llama_parse *p, uint32_t cells, unsigned kind, uint32_t layer)
{
	struct layout_region r = { .kind = (uint8_t)kind, .layer = layer };
	uint32_t type;
	uint64_t row;
	int err;

	err = take_u32(p, &type);
	if (!err)
		err = take_u64(p, &row);
	if (!err)
		err = rows(p, (int32_t)type, cells, row, &r);
	return err;
}

/* i32 type, u32 element, u32 n_embd, n_embd x cells x element */
static int tensor_trans(struct llama_parse *p, uint32_t cells, uint32_t layer)
{
	struct layout_region r = { .kind = REGION_V, .layer = layer, .transposed = 1 };
	uint32_t type, el, n_embd;
	size_t t;
	int err;

	err = take_u32(p, &type);
	if (!err)
		err = take_u32(p, &el);
	if (!err)
		err = take_u32(p, &n_embd);
	if (err)
		return err;
	t = ggml_find((int32_t)type);
	if (t == GGML_TYPES || el != ggml_types[t].block_bytes || !n_embd || n_embd > LLAMA_ROW_MAX)
		return -KVFS_ENOLAYOUT;
	if ((uint64_t)cells * el > UINT32_MAX)
		return -KVFS_ENOLAYOUT;
	if (ggml_types[t].elem == ELEM_BYTES) {
		p->quant = (int32_t)type;
		return skip(p, n_embd, (uint64_t)cells * el);
	}
	r.elem = ggml_types[t].elem;
	r.row_bytes = cells * el;
	r.off_bytes = p->pos;
	r.len_bytes = (uint64_t)n_embd * r.row_bytes;
	err = skip(p, n_embd, r.row_bytes);
	return err ? err : layout_add(p->l, &r);
}

/* ---- one module ---- */

static int cells_meta(struct llama_parse *p, uint32_t cells, bool ext)
{
	const uint8_t *b;
	uint32_t n_seq;
	int err = 0;

	p->ahead = LLAMA_WINDOW;
	for (uint32_t i = 0; !err && i < cells; i++) {
		err = take(p, 8, &b);
		if (err)
			break;
		n_seq = le32_get(b + 4);
		if (n_seq > LLAMA_STREAMS_MAX) {
			err = -KVFS_ENOLAYOUT;
			break;
		}
		err = take(p, (ext ? 12 : 0) + 4 * (size_t)n_seq, &b);
	}
	p->ahead = LLAMA_PEEK;
	return err;
}

static int take_cells(struct llama_parse *p, uint32_t *ret)
{
	int err = take_u32(p, ret);

	if (!err && (*ret > LLAMA_CELLS_MAX || *ret > (p->in->size_bytes - p->pos) / 8))
		return -KVFS_ENOLAYOUT;
	return err;
}

static int take_shape(struct llama_parse *p, uint32_t *ret_trans, uint32_t *ret_layers)
{
	int err = take_u32(p, ret_trans);

	if (!err)
		err = take_u32(p, ret_layers);
	if (!err && (*ret_trans > 1 || *ret_layers > LLAMA_LAYERS_MAX))
		return -KVFS_ENOLAYOUT;
	return err;
}

static int stream(struct llama_parse *p, uint32_t *ret_layers)
{
	uint32_t cells, trans, n_layer;
	int err = take_cells(p, &cells);

	if (err || !cells)
		return err;
	err = cells_meta(p, cells, p->form.ext);
	if (!err)
		err = take_shape(p, &trans, &n_layer);
	for (uint32_t i = 0; !err && i < n_layer; i++)
		err = tensor(p, cells, p->form.no_v ? REGION_KV : REGION_K, p->layer + i);
	for (uint32_t i = 0; !err && i < n_layer && !p->form.no_v; i++)
		err = trans ? tensor_trans(p, cells, p->layer + i)
			    : tensor(p, cells, REGION_V, p->layer + i);
	if (err)
		return err;
	/* Before n_stream a recurrent module looked the same: one cell of f32 rows
	 * per sequence. */
	if (!p->form.streams && cells <= LLAMA_STREAMS_MAX && n_layer && p->l->regions &&
	    p->l->n_regions && p->l->regions[p->l->n_regions - 1].elem == ELEM_F32)
		p->ambiguous = true;
	if (p->l->tokens < cells)
		p->l->tokens = cells;
	*ret_layers = n_layer;
	return 0;
}

static int kv_module(struct llama_parse *p)
{
	uint32_t n_stream = 1, n_layer = 0;
	int err = 0;

	if (p->form.streams)
		err = take_u32(p, &n_stream);
	if (!err && (!n_stream || n_stream > LLAMA_STREAMS_MAX))
		return -KVFS_ENOLAYOUT;
	for (uint32_t s = 0; !err && s < n_stream; s++)
		err = stream(p, &n_layer);
	p->layer += n_layer;
	return err;
}

/* u32 cells; meta without ext; u32 0, n_layer; R and S rows of the layers that
 * have them, up to the end of the file: it is always the last module. */
static int recurrent_module(struct llama_parse *p)
{
	uint32_t cells, trans, n_layer;
	int err = take_cells(p, &cells);

	if (err || !cells)
		return err;
	err = cells_meta(p, cells, false);
	if (!err)
		err = take_shape(p, &trans, &n_layer);
	if (!err && trans)
		return -KVFS_ENOLAYOUT;
	for (uint32_t i = 0; !err && i < 2 * n_layer && p->pos < p->in->size_bytes; i++)
		err = tensor(p, cells, REGION_OPAQUE, i);
	p->recurrent = true;
	return err;
}

static int modules(struct llama_parse *p)
{
	unsigned n;
	int err = 0;

	for (n = 0; p->pos < p->in->size_bytes; n++) {
		uint64_t pos = p->pos;
		uint32_t n_regions = p->l->n_regions, layer = p->layer, tokens = p->l->tokens;

		if (n == LLAMA_MODULES_MAX || p->recurrent)
			return -KVFS_ENOLAYOUT;
		err = !n && p->form.first_recurrent ? -KVFS_ENOLAYOUT : kv_module(p);
		if (err == -KVFS_ENOLAYOUT && (n || p->form.first_recurrent)) {
			p->pos = pos;
			p->l->n_regions = n_regions;
			p->layer = layer;
			p->l->tokens = tokens;
			err = recurrent_module(p);
		}
		if (err)
			return err;
	}
	return n ? 0 : -KVFS_ENOLAYOUT;
}

/* ---- the file ---- */

/* u32 n, n x i32; u64 n, n x f32; u64 n, n x f32 */
static int outputs(struct llama_parse *p)
{
	uint32_t n;
	uint64_t n_floats;
	int err = take_u32(p, &n);

	if (!err)
		err = skip(p, n, 4);
	for (int i = 0; !err && i < 2; i++) {
		err = take_u64(p, &n_floats);
		if (!err)
			err = skip(p, n_floats, 4);
	}
	return err;
}

static int arch(struct llama_parse *p)
{
	const uint8_t *b;
	uint32_t len;
	int err = take_u32(p, &len);

	if (!err && (!len || len > 64))
		return -KVFS_ENOLAYOUT;
	if (!err)
		err = take(p, len, &b);
	for (uint32_t i = 0; !err && i < len; i++)
		if (b[i] <= ' ' || b[i] > '~')
			return -KVFS_ENOLAYOUT;
	return err;
}

static int parse_form(struct llama_parse *p, uint64_t start, bool session)
{
	int err = 0;

	p->pos = start;
	p->layer = 0;
	p->quant = -1;
	p->recurrent = p->ambiguous = false;
	p->l->n_regions = 0;
	p->l->tokens = 0;
	if (session)
		err = arch(p);
	if (!err && p->form.outputs)
		err = outputs(p);
	return err ? err : modules(p);
}

static int parse_forms(struct llama_parse *p, uint64_t start, bool session, bool old)
{
	int err = -KVFS_ENOLAYOUT;

	/* Likely ones first. n_stream is in all files of the newer versions. */
	for (unsigned i = 0; i < 32 && err == -KVFS_ENOLAYOUT; i++) {
		bool flip_outputs = i & 4, no_streams = i & 8;

		if ((flip_outputs && !session) || (no_streams && !old))
			continue;
		p->form.ext = i & 1;
		p->form.no_v = i & 2;
		p->form.outputs = session && old != flip_outputs;
		p->form.streams = !no_streams;
		p->form.first_recurrent = i & 16;
		err = parse_form(p, start, session);
	}
	return err;
}

static void finish(struct llama_parse *p, bool session)
{
	struct layout *l = p->l;
	size_t t = ggml_find(p->quant);

	l->name = layout_name_of(session ? KVFS_LAYOUT_LLAMA_SESSION : KVFS_LAYOUT_LLAMA_SEQ);
	l->layers = p->layer;
	l->elem = layout_main_elem(l);
	if (p->quant >= 0)
		layout_veto(l, "already quantised: rows are %s",
			    t < GGML_TYPES ? ggml_types[t].name : "of another type");
	if (p->recurrent && !l->n_regions)
		layout_veto(l, "holds recurrent state");
	if (p->ambiguous)
		layout_veto(l, "may hold recurrent state");
}

static int llama_recognise(const struct layout_input *in, struct layout *ret)
{
	struct llama_parse p = {
		.in = in, .l = ret, .scan_left = LLAMA_SCAN_MAX, .ahead = LLAMA_PEEK
	};
	uint32_t version, n_token;
	uint8_t head[12];
	bool session;
	int err;

	err = layout_read(in, head, sizeof(head), 0);
	if (err)
		return err;
	session = le32_get(head) == LLAMA_SESSION_MAGIC;
	version = le32_get(head + 4);
	n_token = le32_get(head + 8);
	if (session ? version < 9 || version > 10
		    : le32_get(head) != LLAMA_SEQ_MAGIC || version < 2 || version > 3)
		return -KVFS_ENOLAYOUT;
	if (n_token > (in->size_bytes - sizeof(head)) / 4)
		return -KVFS_ENOLAYOUT;
	p.win = mem_alloc(LLAMA_WINDOW);
	if (!p.win)
		return -ENOMEM;
	err = parse_forms(&p, sizeof(head) + 4 * (uint64_t)n_token, session,
			  session ? version == 9 : version == 2);
	if (!err)
		finish(&p, session);
	mem_free(p.win);
	return err;
}

const struct layout_ops layout_llama_state = { "llama-state", llama_recognise };
