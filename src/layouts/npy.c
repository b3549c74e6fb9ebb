/* SPDX-License-Identifier: MIT */
/*
 * NumPy's .npy (numpy/lib/format.py, versions 1 to 3): "\x93NUMPY", version,
 * u16 or u32 length, the text of a Python dict with descr, fortran_order and
 * shape, padded with spaces and ended by a newline; then the array. NumPy has
 * no bf16: it is found as two-byte integers or voids by its statistics.
 *
 * What the axes are only a declaration says ("order=2LTHD" on the directory, as
 * long as the shape); without one the array is a region with a veto.
 */
#include <string.h>

#include "base/le.h"
#include "base/units.h"
#include "kvcachefs/format_layout.h"
#include "layouts/build.h"
#include "layouts/declared.h"
#include "layouts/numeric.h"

#define NPY_HEADER_MAX 4096u

struct npy {
	char kind;    /* of descr: 'f', 'i', 'u', 'V', ... */
	bool swapped; /* big-endian */
	uint32_t es;
	bool fortran;
	unsigned rank;
	uint64_t dim[LAYOUT_AXES_MAX];
	uint64_t data_off;
};

/* ---- the dict ---- */

static void space(const char **p)
{
	*p += strspn(*p, " \t\n");
}

static bool eat(const char **p, const char *s)
{
	space(p);
	if (strncmp(*p, s, strlen(s)))
		return false;
	*p += strlen(s);
	return true;
}

static bool number(const char **p, uint64_t *ret)
{
	uint64_t v = 0;

	space(p);
	if (**p < '0' || **p > '9')
		return false;
	for (; **p >= '0' && **p <= '9'; (*p)++)
		if (!mul_u64(v, 10, &v) || !add_u64(v, (uint64_t)(**p - '0'), &v))
			return false;
	*ret = v;
	return true;
}

/* '<f2', '|V2', '>i4' */
static bool descr(const char **p, struct npy *h)
{
	uint64_t n;

	if (!eat(p, "'") || !strchr("<>|=", **p) || !**p)
		return false;
	h->swapped = **p == '>';
	(*p)++;
	if (!strchr("?bifuVSUcmM", **p) || !**p)
		return false;
	h->kind = *(*p)++;
	if (!number(p, &n) || !n || n > 1024 || !eat(p, "'"))
		return false;
	h->es = (uint32_t)n * (h->kind == 'U' ? 4 : 1);
	return true;
}

static bool truth(const char **p, bool *ret)
{
	*ret = eat(p, "True");
	return *ret || eat(p, "False");
}

/* (), (3,), (3, 4) */
static bool shape(const char **p, struct npy *h)
{
	bool comma = true;

	if (!eat(p, "("))
		return false;
	while (!eat(p, ")")) {
		if (!comma || h->rank == LAYOUT_AXES_MAX || !number(p, &h->dim[h->rank]))
			return false;
		h->rank++;
		comma = eat(p, ",");
	}
	return true;
}

static bool dict(const char *p, struct npy *h)
{
	bool d = false, f = false, s = false, comma = true;

	if (!eat(&p, "{"))
		return false;
	while (!eat(&p, "}")) {
		if (!comma)
			return false;
		if (!d && eat(&p, "'descr':"))
			d = descr(&p, h);
		else if (!f && eat(&p, "'fortran_order':"))
			f = truth(&p, &h->fortran);
		else if (!s && eat(&p, "'shape':"))
			s = shape(&p, h);
		else
			return false;
		comma = eat(&p, ",");
	}
	space(&p);
	return d && f && s && !*p;
}

/* ---- the file ---- */

static int npy_header(const struct layout_input *in, struct npy *h)
{
	uint8_t b[12];
	char text[NPY_HEADER_MAX + 1];
	uint32_t len, at;
	int err = layout_read(in, b, sizeof(b), 0);

	if (err)
		return err;
	if (memcmp(b, "\x93NUMPY", 6) || !b[6] || b[6] > 3 || b[7])
		return -KVFS_ENOLAYOUT;
	at = b[6] == 1 ? 10 : 12;
	len = b[6] == 1 ? le16_get(b + 8) : le32_get(b + 8);
	if (!len || len > NPY_HEADER_MAX)
		return -KVFS_ENOLAYOUT;
	err = layout_read(in, text, len, at);
	if (err)
		return err;
	text[len] = '\0';
	*h = (struct npy){ .data_off = at + len };
	if (memchr(text, '\0', len) || !dict(text, h))
		return -KVFS_ENOLAYOUT;
	return 0;
}

/* Axes in memory order, with the declared letters when they fit. */
static void npy_axes(const struct layout_input *in, const struct npy *h, struct layout_axes *a)
{
	struct declared d;
	bool known = in->declared && !declared_parse(in->declared, &d, NULL, 0) && d.n == h->rank;

	*a = (struct layout_axes){ .n = h->rank };
	for (unsigned i = 0; known && i < h->rank; i++)
		if (d.letter[i] == '2' && h->dim[i] != 2)
			known = false;
	for (unsigned i = 0; i < h->rank; i++) {
		unsigned to = h->fortran ? h->rank - 1 - i : i;

		a->letter[to] = known ? d.letter[i] : '?';
		a->len[to] = h->dim[i];
	}
}

static int npy_elem(const struct layout_input *in, const struct npy *h, uint8_t *ret)
{
	unsigned phase;
	int err;

	*ret = ELEM_BYTES;
	if (h->swapped)
		return 0;
	if (h->kind == 'f')
		*ret = h->es == 2 ? ELEM_F16 : h->es == 4 ? ELEM_F32 : ELEM_BYTES;
	if (h->es != 2 || !strchr("Viu", h->kind))
		return 0;
	err = numeric_sniff(in, h->data_off, in->size_bytes - h->data_off, ret, &phase);
	if (err == -KVFS_ENOLAYOUT || (!err && (phase || elem_bytes(*ret) != h->es))) {
		*ret = ELEM_BYTES;
		return 0;
	}
	return err;
}

static int npy_recognise(const struct layout_input *in, struct layout *ret)
{
	struct layout_axes a;
	struct npy h;
	uint64_t n;
	int err = npy_header(in, &h);

	if (err)
		return err;
	npy_axes(in, &h, &a);
	if (!layout_axes_bytes(&a, ELEM_BYTES, &n) || !mul_u64(n, h.es, &n) ||
	    n != in->size_bytes - h.data_off)
		return -KVFS_ENOLAYOUT;
	ret->name = layout_name_of(KVFS_LAYOUT_NPY);
	err = npy_elem(in, &h, &ret->elem);
	if (err)
		return err;
	if (!a.n || a.letter[0] == '?')
		layout_veto(ret, "what its axes are is not declared");
	else
		layout_facts(ret, &a);
	if (!a.n || ret->elem == ELEM_BYTES)
		return 0;
	return layout_add_tensor(ret, &a, h.data_off, ret->elem, REGION_KV, 0);
}

const struct layout_ops layout_npy = { "npy", npy_recognise };
