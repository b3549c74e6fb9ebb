// SPDX-License-Identifier: MIT
/* Values in and out of a file's bytes, and what a change of them does to attention. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/le.h"
#include "dtype.h"
#include "layouts/layout.h"
#include "quality.h"

#define QUERIES 24u /* of one head */

static float get_value(unsigned elem, const uint8_t *p)
{
	uint32_t bits;
	float v;

	if (elem == ELEM_F16)
		return f16_to_f32(le16_get(p));
	bits = elem == ELEM_F32 ? le32_get(p) : (uint32_t)le16_get(p) << 16;
	memcpy(&v, &bits, sizeof(v));
	return v;
}

static void put_value(unsigned elem, uint8_t *p, float v)
{
	uint32_t bits;

	memcpy(&bits, &v, sizeof(bits));
	if (elem == ELEM_F32)
		le32_put(p, bits);
	else if (elem == ELEM_F16)
		le16_put(p, f32_to_f16(v));
	else
		le16_put(p, f32_to_bf16(v));
}

/* Where the value of a token's column lies in the file. */
static size_t place(const struct tensor *t, uint32_t token, uint32_t col)
{
	size_t at = t->r->transposed ? (size_t)col * t->tokens + token
				     : (size_t)token * t->cols + col;

	return t->r->off_bytes + at * elem_bytes(t->r->elem);
}

int tensor_load(const struct layout_region *r, uint32_t dim, const uint8_t *file,
		struct tensor *ret)
{
	unsigned eb = elem_bytes(r->elem);
	uint32_t rows = r->row_bytes ? (uint32_t)(r->len_bytes / r->row_bytes) : 0;
	struct tensor t = { .r = r };

	if (rows == 0 || eb < 2 || r->row_bytes % eb)
		return -ENODATA;
	t.tokens = r->transposed ? r->row_bytes / eb : rows;
	t.cols = r->transposed ? rows : r->row_bytes / eb;
	t.dim = t.cols % dim == 0 ? dim : t.cols;
	t.x = malloc((size_t)t.tokens * t.cols * sizeof(*t.x));
	if (!t.x)
		return -ENOMEM;
	for (uint32_t i = 0; i < t.tokens; i++)
		for (uint32_t c = 0; c < t.cols; c++)
			t.x[(size_t)i * t.cols + c] = get_value(r->elem, file + place(&t, i, c));
	*ret = t;
	return 0;
}

void tensor_store(const struct tensor *t, uint8_t *file)
{
	for (uint32_t i = 0; i < t->tokens; i++)
		for (uint32_t c = 0; c < t->cols; c++)
			put_value(t->r->elem, file + place(t, i, c), t->x[(size_t)i * t->cols + c]);
}

void tensor_fini(struct tensor *t)
{
	free(t->x);
	t->x = NULL;
}

/* Attention's output for one query of one head over the first @n positions. */
static void attend(const float *q, const struct tensor *k, const struct tensor *v, uint32_t head,
		   uint32_t n, float *p, float *out)
{
	uint32_t d = k->dim, at = head * d;
	float most = -INFINITY, sum = 0, scale = 1 / sqrtf((float)d);

	for (uint32_t i = 0; i < n; i++) {
		const float *row = k->x + (size_t)i * k->cols + at;
		float s = 0;

		for (uint32_t c = 0; c < d; c++)
			s += q[c] * row[c];
		p[i] = s * scale;
		most = fmaxf(most, p[i]);
	}
	memset(out, 0, d * sizeof(*out));
	for (uint32_t i = 0; i < n; i++) {
		const float *row = v->x + (size_t)i * v->cols + at;
		float w = expf(p[i] - most);

		sum += w;
		for (uint32_t c = 0; c < d; c++)
			out[c] += w * row[c];
	}
	for (uint32_t c = 0; c < d; c++)
		out[c] /= sum;
}

void attention_error(const struct tensor *k, const struct tensor *v, const struct tensor *k2,
		     const struct tensor *v2, double *ret_error, double *ret_weight)
{
	float *p = malloc((k->tokens + 2ull * k->dim) * sizeof(*p));
	float *a = p + k->tokens, *b = a + k->dim;

	*ret_error = *ret_weight = 0;
	for (uint32_t h = 0; p && h < k->cols / k->dim; h++) {
		for (uint32_t i = 0; i < QUERIES; i++) {
			uint32_t n = k->tokens / 4 + (uint64_t)i * (k->tokens - k->tokens / 4 - 1) / QUERIES;
			const float *q = k->x + (size_t)n * k->cols + h * k->dim;

			if (n == 0)
				continue;
			attend(q, k, v, h, n, p, a);
			attend(q, k2, v2, h, n, p, b);
			for (uint32_t c = 0; c < k->dim; c++) {
				*ret_error += (double)(a[c] - b[c]) * (a[c] - b[c]);
				*ret_weight += (double)a[c] * a[c];
			}
		}
	}
	free(p);
}
