/* SPDX-License-Identifier: MIT */
#include "quant.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "levels.h"
#include "thin.h"

#define GROUP 32
#define RANGE_BITS 32 /* minimum and step, f16 each */

/* The one way to write it: what differs from this was not understood. */
static void canonical(const struct quant *q, char *out, size_t cap)
{
	const char *name = q->kind == QUANT_AXIS ? "axis" : "kivi";

	if (q->kind == QUANT_LADDER)
		snprintf(out, cap, "ladder:%u", q->bits);
	else
	if (q->kind == QUANT_EXACT)
		snprintf(out, cap, "exact");
	else if (q->kind == QUANT_DROP)
		snprintf(out, cap, "window:%u", q->recent);
	else if (q->sinks || q->recent)
		snprintf(out, cap, "%s:%u+%u+%u", name, q->bits, q->sinks, q->recent);
	else
		snprintf(out, cap, "%s:%u", name, q->bits);
}

int quant_parse(const char *s, struct quant *ret, struct msg *m)
{
	struct quant q = { .kind = QUANT_EXACT };
	char name[16] = "", text[64];
	unsigned a = 0, b = 0, c = 0;

	if (!drop_parse(s, &q.drop)) {
		q.kind = QUANT_DROP;
		*ret = q;
		return 0;
	}
	sscanf(s, "%15[a-z]:%6u+%6u+%6u", name, &a, &b, &c);
	if (!strcmp(name, "window"))
		q = (struct quant){ .kind = QUANT_DROP,
				    .sinks = DROP_SINKS,
				    .recent = a,
				    .drop = { .method = DROP_WINDOW, .sinks = DROP_SINKS } };
	else if (!strcmp(name, "ladder"))
		q = (struct quant){ .kind = QUANT_LADDER, .bits = a };
	else if (strcmp(name, "exact"))
		q = (struct quant){ .kind = !strcmp(name, "axis") ? QUANT_AXIS : QUANT_KIVI,
				    .bits = a,
				    .sinks = b,
				    .recent = c };
	canonical(&q, text, sizeof(text));
	if (strcmp(s, text) || (q.kind != QUANT_EXACT && q.kind != QUANT_LADDER && !a) ||
	    q.bits > (q.kind == QUANT_LADDER ? levels_count() - 1 : 8))
		return msg_fail(m, -EINVAL,
				"method '%s': expected exact, axis:B, kivi:B (B 1..8, optionally "
				"+SINKS+RECENT), ladder:L, window:W, or window:S, knorm:S, keydiff:S "
				"with a share S such as 0.25",
				s);
	*ret = q;
	return 0;
}

/* Cells kept exact: those below the first and from the second on. */
static void quant_kept(const struct quant *q, uint32_t cells, uint32_t *ret_below,
		       uint32_t *ret_from)
{
	uint32_t below = q->sinks < cells ? q->sinks : cells;

	*ret_below = below;
	*ret_from = q->recent < cells - below ? cells - q->recent : below;
}

uint32_t quant_cells(const struct quant *q, uint32_t cells)
{
	if (q->kind != QUANT_DROP)
		return cells;
	if (q->drop.share)
		return drop_count(&q->drop, cells);
	return q->recent < cells && q->sinks < cells - q->recent ? q->sinks + q->recent : cells;
}

double quant_bits(const struct quant *q, uint32_t cells, uint32_t heads, uint32_t dim,
		  uint32_t value_bits)
{
	uint32_t below, from, mid;
	double row = (double)heads * dim, ranges_k = 0, ranges_v = 0, kept;

	if (q->kind == QUANT_EXACT)
		return value_bits;
	if (q->kind == QUANT_DROP)
		return (double)value_bits * quant_cells(q, cells) / cells;
	quant_kept(q, cells, &below, &from);
	mid = from - below;
	kept = (cells - mid) * row * value_bits;
	if (q->kind == QUANT_AXIS) {
		ranges_k = mid ? row : 0;
		ranges_v = mid;
	} else {
		ranges_k = (mid + GROUP - 1) / GROUP * row;
		ranges_v = (double)mid * heads * ((dim + GROUP - 1) / GROUP);
	}
	return (kept + mid * row * q->bits + RANGE_BITS * (ranges_k + ranges_v) / 2) /
	       (cells * row);
}

/* One group: @n values, @stride floats apart. */
static void quant_group(float *x, size_t n, size_t stride, unsigned bits)
{
	float lo = x[0], hi = x[0], step;
	float top = (float)((1u << bits) - 1);

	for (size_t i = 1; i < n; i++) {
		lo = fminf(lo, x[i * stride]);
		hi = fmaxf(hi, x[i * stride]);
	}
	lo = f16_to_f32(f32_to_f16(lo));
	step = f16_to_f32(f32_to_f16((hi - lo) / top));
	for (size_t i = 0; i < n; i++) {
		float *v = &x[i * stride];
		float code = step > 0 ? rintf((*v - lo) / step) : 0;

		*v = lo + step * fminf(fmaxf(code, 0), top);
	}
}

/* Cells [from, to) of K: per channel, @group cells at a time. */
static void quant_channels(float *x, uint32_t from, uint32_t to, size_t row, uint32_t group,
			   unsigned bits)
{
	for (uint32_t t = from; t < to; t += group)
		for (size_t c = 0; c < row; c++)
			quant_group(x + (size_t)t * row + c, to - t < group ? to - t : group, row,
				    bits);
}

/* Cells [from, to) of V: per token, @group channels at a time. */
static void quant_tokens(float *x, uint32_t from, uint32_t to, size_t row, size_t group,
			 unsigned bits)
{
	for (uint32_t t = from; t < to; t++)
		for (size_t c = 0; c < row; c += group)
			quant_group(x + (size_t)t * row + c, row - c < group ? row - c : group, 1,
				    bits);
}

void quant_tensor(const struct quant *q, float *x, uint32_t cells, uint32_t heads, uint32_t dim,
		  bool v)
{
	uint32_t below, from;
	size_t row = (size_t)heads * dim;

	if (q->kind == QUANT_EXACT)
		return;
	quant_kept(q, cells, &below, &from);
	if (below == from)
		return;
	if (!v)
		quant_channels(x, below, from, row, q->kind == QUANT_AXIS ? from - below : GROUP,
			       q->bits);
	else if (q->kind == QUANT_AXIS)
		quant_tokens(x, below, from, row, row, q->bits);
	else
		for (uint32_t t = below; t < from; t++)
			quant_tokens(x + (size_t)t * row, 0, heads, dim, GROUP, q->bits);
}

/* One tensor, by @l if there is one. */
static int quant_layer(const struct quant *q, struct levels *l, struct kv *kv, uint32_t layer,
		       bool v, float *x, struct msg *m)
{
	size_t row = (size_t)kv->n_kv_head * kv->head_dim;
	int r = 0;

	for (uint32_t t = 0; t < kv->n_cells; t++)
		for (uint32_t h = 0; h < kv->n_kv_head; h++)
			(v ? kv_get_v : kv_get_k)(kv, layer, h, t,
						  x + t * row + (size_t)h * kv->head_dim);
	if (l)
		r = levels_tensor(l, x, kv->n_cells, layer, v, m);
	else
		quant_tensor(q, x, kv->n_cells, kv->n_kv_head, kv->head_dim, v);
	for (uint32_t t = 0; !r && t < kv->n_cells; t++)
		for (uint32_t h = 0; h < kv->n_kv_head; h++)
			(v ? kv_put_v : kv_put_k)(kv, layer, h, t,
						  x + t * row + (size_t)h * kv->head_dim);
	return r;
}

static int quant_values(const struct quant *q, struct kv *c, double *ret_bits, struct msg *m)
{
	size_t values = ((size_t)c->n_cells + 1) * c->n_kv_head * c->head_dim;
	float *x = malloc(values * sizeof(*x));
	struct levels *l = NULL;
	int r = 0;

	if (!x)
		return msg_fail(m, -ENOMEM, "out of memory");
	if (q->kind == QUANT_LADDER)
		r = levels_create(q->bits, c->dtype, c->n_kv_head, c->head_dim, &l, m);
	for (uint32_t i = 0; !r && i < 2 * c->n_layer; i++)
		r = quant_layer(q, l, c, i / 2, i % 2, x, m);
	if (l)
		*ret_bits = levels_bits(l);
	levels_destroy(l);
	free(x);
	return r;
}

int quant_kv(const struct quant *q, const struct kv *kv, struct kv **ret, double *ret_bits,
	     struct msg *m)
{
	struct kv *c;
	int r = kv_clone(kv, &c, m);

	if (r)
		return r;
	if (q->kind != QUANT_LADDER)
		*ret_bits = quant_bits(q, c->n_cells, c->n_kv_head, c->head_dim,
				       8 * (uint32_t)dtype_bytes(c->dtype));
	if (q->kind == QUANT_DROP)
		r = thin_kv(q, c, m);
	else if (q->kind != QUANT_EXACT)
		r = quant_values(q, c, ret_bits, m);
	if (r)
		kv_destroy(c);
	else
		*ret = c;
	return r;
}
