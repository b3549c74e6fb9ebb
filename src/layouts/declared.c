/* SPDX-License-Identifier: MIT */
/*
 * Raw pages whose geometry somebody declared: SGLang's HiCacheFile, LMCache's
 * local disk and L2 files, vLLM's and llm-d's blocks, pools of slots. One axis
 * is left to the file's size (tokens, or pages when there is an N), which must
 * divide. A declaration is inherited by everything below a directory, so what
 * does not fit (config.json, an index) is simply not this layout; files that
 * describe themselves by a magic are left to their own recogniser.
 */
#include "layouts/declared.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/units.h"
#include "kvcachefs/format_layout.h"

#define DECLARED_MAX 255
#define DECLARED_AXIS_MAX (1u << 30)

static int refuse(char *why, size_t why_len, const char *text, const char *what)
{
	if (why && why_len)
		(void)snprintf(why, why_len, text, what);
	return -EINVAL;
}

static const char *order_alias(const char *s)
{
	static const struct {
		const char *name, *order;
	} table[] = {
		{ "layer_first", "2LTHD" },
		{ "page_first", "2TLHD" },
		{ "page_first_direct", "2LTHD" },
		{ "page_head", "2HTLD" },
		{ "kv_2ltd", "2LTD" },
		{ "kv_t2d", "T2D" },
		{ "kv_2td", "2TD" },
		{ "kv_mla", "LTD" },
		{ "kv_mla_fmt", "LTD" },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (!strcasecmp(s, table[i].name))
			return table[i].order;
	return s;
}

static int parse_order(const char *s, struct declared *d, char *why, size_t why_len)
{
	const char *t, *dim;

	s = order_alias(s);
	if (!*s || strlen(s) > LAYOUT_AXES_MAX || strspn(s, "2LTHDNB") != strlen(s))
		return refuse(why, why_len, "order=%s: letters are 2 L T H D N B", s);
	for (const char *c = s; *c; c++)
		if (strchr(c + 1, *c))
			return refuse(why, why_len, "order=%s: a letter occurs twice", s);
	t = strchr(s, 'T');
	dim = strchr(s, 'D');
	if (!t || !dim || t > dim || dim[1])
		return refuse(why, why_len, "order=%s: needs T, and D at its end", s);
	d->n = (unsigned)strlen(s);
	memcpy(d->letter, s, d->n);
	return 0;
}

static int parse_kind(const char *s, struct declared *d, char *why, size_t why_len)
{
	for (unsigned k = REGION_K; k < REGION_KINDS_; k++)
		if (!strcasecmp(s, region_kind_name(k))) {
			d->kind = (uint8_t)k;
			return 0;
		}
	return refuse(why, why_len, "kind=%s: k, v or kv", s);
}

static int parse_number(const char *key, const char *s, struct declared *d, char *why,
			size_t why_len)
{
	const struct {
		const char *key;
		uint64_t *to;
		uint64_t min, max;
	} table[] = {
		{ "layers", &d->layers, 1, DECLARED_AXIS_MAX },
		{ "heads", &d->heads, 1, DECLARED_AXIS_MAX },
		{ "dim", &d->dim, 1, DECLARED_AXIS_MAX },
		{ "tokens", &d->tokens, 1, DECLARED_AXIS_MAX },
		{ "pages", &d->pages, 1, DECLARED_AXIS_MAX },
		{ "skip", &d->skip, 0, 1ull << 40 },
		{ "pad", &d->pad, 0, DECLARED_AXIS_MAX },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		if (strcmp(key, table[i].key))
			continue;
		if (units_parse_u64(s, table[i].min, table[i].max, table[i].to))
			return refuse(why, why_len, "%s=: not a number, or out of range", key);
		return 0;
	}
	return refuse(why, why_len, "unknown key %s", key);
}

/* One KEY=VALUE; leaves the key in @w. */
static int parse_word(char *w, struct declared *d, char *why, size_t why_len)
{
	char *eq = strchr(w, '=');

	if (!eq || eq == w || !eq[1])
		return refuse(why, why_len, "%s: not KEY=VALUE", w);
	*eq++ = '\0';
	if (!strcmp(w, "order"))
		return parse_order(eq, d, why, why_len);
	if (!strcmp(w, "kind"))
		return parse_kind(eq, d, why, why_len);
	if (strcmp(w, "dtype"))
		return parse_number(w, eq, d, why, why_len);
	d->elem = elem_parse(eq);
	if (d->elem <= ELEM_BYTES)
		return refuse(why, why_len, "dtype=%s: bf16, f16, f32, fp8_e4m3 or fp8_e5m2", eq);
	return 0;
}

static bool has(const struct declared *d, char letter)
{
	return memchr(d->letter, letter, d->n) != NULL;
}

/* With a dtype, all that a raw file needs must be there. */
static int complete(const struct declared *d, char *why, size_t why_len)
{
	if (!d->n)
		return refuse(why, why_len, "%s= is missing", "order");
	if (d->kind && has(d, '2'))
		return refuse(why, why_len, "kind= and a %s in the order exclude each other", "2");
	if (d->elem < 0)
		return 0;
	if (has(d, 'L') && !d->layers)
		return refuse(why, why_len, "%s= is missing", "layers");
	if (has(d, 'H') && !d->heads)
		return refuse(why, why_len, "%s= is missing", "heads");
	if (!d->dim)
		return refuse(why, why_len, "%s= is missing", "dim");
	if (has(d, 'N') && !d->tokens)
		return refuse(why, why_len, "%s= is missing (N is found by the size)", "tokens");
	return 0;
}

static bool is_word(const char *s, const char *word)
{
	size_t from = strspn(s, " \t\n"), len = strlen(word);

	return !strncasecmp(s + from, word, len) &&
	       !s[from + len + strspn(s + from + len, " \t\n")];
}

int declared_parse(const char *s, struct declared *ret, char *why, size_t why_len)
{
	struct declared d = { .elem = -1 };
	char buf[DECLARED_MAX + 1], *save, *w;
	const char *seen[16];
	unsigned n_seen = 0;
	int err;

	if (strlen(s) > DECLARED_MAX)
		return refuse(why, why_len, "%s", "too long");
	d.opaque = is_word(s, "opaque");
	d.automatic = is_word(s, "auto");
	if (d.opaque || d.automatic)
		goto done;
	strcpy(buf, s);
	for (w = strtok_r(buf, " \t\n", &save); w; w = strtok_r(NULL, " \t\n", &save)) {
		err = parse_word(w, &d, why, why_len); /* cuts w at '=' */
		if (err)
			return err;
		for (unsigned i = 0; i < n_seen; i++)
			if (!strcmp(seen[i], w))
				return refuse(why, why_len, "%s= is said twice", w);
		if (n_seen < sizeof(seen) / sizeof(seen[0])) /* there are fewer keys */
			seen[n_seen++] = w;
	}
	err = complete(&d, why, why_len);
	if (err)
		return err;
	if (!d.kind)
		d.kind = REGION_KV;
done:
	*ret = d;
	return 0;
}

int layout_declared_check(const char *s, char *why, size_t why_len)
{
	struct declared d;

	return declared_parse(s, &d, why, why_len);
}

static uint64_t axis_len(const struct declared *d, char letter)
{
	switch (letter) {
	case '2':
		return 2;
	case 'L':
		return d->layers;
	case 'H':
		return d->heads;
	case 'T':
		return d->tokens;
	case 'N':
		return d->pages;
	case 'B':
		return 1;
	default: /* D: of a head when H is an axis of its own */
		return has(d, 'H') || !d->heads ? d->dim : d->dim * d->heads;
	}
}

/* Axes of a file with @payload bytes of data and padding. */
static int declared_axes(const struct declared *d, uint64_t payload, struct layout_axes *a)
{
	char open = !has(d, 'N') ? 'T' : 'N';
	uint64_t unit = elem_bytes((unsigned)d->elem), n, rest;
	unsigned at = 0;

	*a = (struct layout_axes){ .n = d->n };
	for (unsigned i = 0; i < d->n; i++) {
		a->letter[i] = d->letter[i];
		a->len[i] = axis_len(d, d->letter[i]);
		if (d->letter[i] == open)
			at = i;
		else if (!mul_u64(unit, a->len[i], &unit))
			return -KVFS_ENOLAYOUT;
	}
	if (!unit || payload < unit)
		return -KVFS_ENOLAYOUT;
	n = a->len[at] ? a->len[at] : payload / unit;
	if (n > payload / unit)
		return -KVFS_ENOLAYOUT;
	rest = payload - n * unit;
	if (rest && rest >= d->pad)
		return -KVFS_ENOLAYOUT;
	a->len[at] = n;
	if (!has(d, 'H') && d->heads)
		a->head_elems = d->dim;
	return 0;
}

static bool has_magic(const struct layout_input *in)
{
	uint8_t head[6];

	if (layout_read(in, head, sizeof(head), 0))
		return false;
	return !memcmp(head, "\x93NUMPY", 6) || !memcmp(head, "qsgg", 4) ||
	       !memcmp(head, "nsgg", 4);
}

static int declared_recognise(const struct layout_input *in, struct layout *ret)
{
	struct layout_axes a;
	struct declared d;
	int err;

	if (!in->declared || declared_parse(in->declared, &d, NULL, 0))
		return -KVFS_ENOLAYOUT;
	if (d.opaque)
		return 0;
	if (d.automatic || d.elem < 0 || in->size_bytes <= d.skip || has_magic(in))
		return -KVFS_ENOLAYOUT;
	err = declared_axes(&d, in->size_bytes - d.skip, &a);
	if (!err)
		err = layout_add_tensor(ret, &a, d.skip, (unsigned)d.elem, d.kind, 0);
	if (err)
		return err;
	layout_facts(ret, &a);
	ret->name = layout_name_of(KVFS_LAYOUT_DECLARED);
	ret->elem = layout_main_elem(ret);
	return 0;
}

const struct layout_ops layout_declared = { "declared", declared_recognise };
