/* SPDX-License-Identifier: MIT */
/*
 * Which tensors of a safetensors file are keys and values, by their names:
 *
 *   kv_cache                         vLLM ExampleConnector: [2][T][H][D], [T][H][C], [T][C]
 *   layer_3_k, layer_3_v             kvlm, oMLX: [T][H*D] or [T][H][D]
 *   layer_3_state_0, layer_3_state_1 oMLX paged_ssd_cache.py: [B][H][T][D]
 *   0.0, 0.1                         mlx-lm save_prompt_cache: [B][H][T][D]
 *   key_cache.3, layers.3.k_cache, past_key_values.3.value
 *
 * Everything else is opaque. A file without any such tensor still gets its
 * float tensors as regions, which the exact codecs gain from, with a veto: they
 * may be weights. F8 tensors are regions with a veto (layout.c).
 */
#include <ctype.h>
#include <string.h>

#include "kvcachefs/format_layout.h"
#include "layouts/st_header.h"

/* What a name says. */
struct st_name {
	uint8_t kind; /* REGION_OPAQUE: nothing about keys and values */
	uint32_t layer;
};

struct st_words {
	unsigned words, numbers;
	bool other, state;
	uint8_t kind;
	uint32_t first, last; /* numbers */
};

/* Words that make a tensor something else, whatever else its name says. */
static const char *const st_other[] = {
	"tq",    "scale",  "scales",    "bias",    "biases", "zero",   "zeros",    "conv",
	"ssm",   "mamba",  "recurrent", "indexer", "index",  "pos",    "position", "positions",
	"token", "tokens", "ids",       "mask",    "logits", "hidden", "weight",   "weights",
	"proj",  "norm",   "embed",     "lora",    "draft",
};

static void st_word(const char *w, size_t len, struct st_words *s)
{
	static const struct {
		const char *word;
		uint8_t kind;
	} kinds[] = {
		{ "k", REGION_K },   { "key", REGION_K },      { "keys", REGION_K },
		{ "v", REGION_V },   { "value", REGION_V },    { "values", REGION_V },
		{ "kv", REGION_KV }, { "kvcache", REGION_KV }, { "kvs", REGION_KV },
	};

	s->words++;
	s->state |= len == 5 && !strncasecmp(w, "state", len);
	for (size_t i = 0; i < sizeof(st_other) / sizeof(st_other[0]); i++)
		if (strlen(st_other[i]) == len && !strncasecmp(w, st_other[i], len))
			s->other = true;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (strlen(kinds[i].word) == len && !strncasecmp(w, kinds[i].word, len))
			s->kind = kinds[i].kind; /* past_key_values.3.value: the last one counts */
}

static const char *st_number(const char *p, struct st_words *s)
{
	uint32_t v = 0;

	for (; isdigit((unsigned char)*p); p++)
		v = v < 100000000 ? 10 * v + (uint32_t)(*p - '0') : v;
	if (!s->numbers++)
		s->first = v;
	s->last = v;
	return p;
}

static struct st_name st_name(const char *name)
{
	struct st_words s = { 0 };
	struct st_name n = { REGION_OPAQUE, 0 };
	const char *p = name;

	while (*p) {
		const char *from = p;

		if (isdigit((unsigned char)*p)) {
			p = st_number(p, &s);
		} else if (isalpha((unsigned char)*p)) {
			while (isalpha((unsigned char)*p))
				p++;
			st_word(from, (size_t)(p - from), &s);
		} else {
			p++;
		}
	}
	if (s.other)
		return n;
	n.kind = s.kind;
	n.layer = s.first;
	if (!s.kind && s.numbers == 2 && s.last < 2 && (!s.words || s.state))
		n.kind = s.last ? REGION_V : REGION_K;
	return n;
}

/* Letters for the axes, as far as rank and lengths tell. */
static const char *st_order(const struct st_tensor *t, unsigned kind)
{
	const uint64_t *d = t->dim;

	switch (t->rank) {
	case 2:
		return "TD";
	case 3:
		if (kind == REGION_KV)
			return d[0] == 2 ? "2TD" : "THD";
		return d[0] < d[1] && d[0] <= 64 ? "HTD" : "THD";
	case 4:
		if (kind == REGION_KV)
			return d[0] == 2 ? "2THD" : d[1] == 2 ? "T2HD" : "????";
		return d[1] <= d[2] ? "BHTD" : "BTHD";
	case 5:
		if (kind == REGION_KV && d[0] == 2)
			return "2NTHD";
		return kind == REGION_KV && d[1] == 2 ? "N2THD" : "?????";
	default:
		return "????????";
	}
}

static int st_add(struct layout *l, const struct st_file *f, const struct st_tensor *t,
		  struct st_name name)
{
	struct layout_axes a = { .n = t->rank };

	if (!t->rank || t->begin == t->end)
		return 0;
	memcpy(a.letter, st_order(t, name.kind), t->rank);
	memcpy(a.len, t->dim, t->rank * sizeof(a.len[0]));
	if (!l->n_regions)
		layout_facts(l, &a);
	return layout_add_tensor(l, &a, f->data_off + t->begin, t->elem, name.kind, name.layer);
}

/* Is it one that regions are made of? Fills what its name says. */
static bool st_is_kv(const struct st_file *f, const struct st_tensor *t, struct st_name *ret)
{
	*ret = st_name(t->name);
	if (ret->kind == REGION_OPAQUE || t->elem == ELEM_BYTES)
		return false;
	if (isdigit((unsigned char)t->name[0]) && ret->layer < 8 * sizeof(f->other_cache) &&
	    f->other_cache[ret->layer / 8] >> (ret->layer & 7) & 1)
		return false;
	return !isdigit((unsigned char)t->name[0]) || t->rank == 4;
}

static int st_regions(const struct st_file *f, struct layout *l)
{
	uint32_t n_k = 0, n_kv = 0, n = 0;
	struct st_name name;
	int err = 0;

	for (uint32_t i = 0; i < f->n; i++) {
		if (!st_is_kv(f, &f->tensors[i], &name))
			continue;
		n_k += name.kind == REGION_K;
		n_kv += name.kind == REGION_KV;
		n++;
	}
	for (uint32_t i = 0; !err && i < f->n; i++) {
		if (n && st_is_kv(f, &f->tensors[i], &name)) {
			err = st_add(l, f, &f->tensors[i], name);
		} else if (!n && f->tensors[i].elem != ELEM_BYTES) {
			name.kind = REGION_KV;
			err = st_add(l, f, &f->tensors[i], name);
		}
	}
	if (!n)
		layout_veto(l, "no tensor is named like keys and values");
	l->layers = n_k ? n_k : n_kv;
	if (!n)
		l->heads = l->head_dim = l->tokens = 0;
	return err;
}

static int safetensors_recognise(const struct layout_input *in, struct layout *ret)
{
	struct st_file f;
	int err = st_open(in, &f);

	if (err)
		return err;
	err = st_regions(&f, ret);
	ret->name = layout_name_of(KVFS_LAYOUT_SAFETENSORS);
	ret->elem = layout_main_elem(ret);
	st_close(&f);
	return err;
}

const struct layout_ops layout_safetensors = { "safetensors", safetensors_recognise };
