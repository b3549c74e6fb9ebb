/* SPDX-License-Identifier: MIT */
/*
 * Two passes over each layer's keys: what the heads' keys are like on the
 * whole, then how each key lies to that. The sums go to the cells, and one sort
 * by score chooses. Cells are told apart by position, as a file's cells need
 * not be in the order of their tokens.
 */
#include "codecs/drop.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/elem.h"
#include "base/le.h"

static const char *const drop_names[DROP_METHODS_] = { "window", "knorm", "keydiff" };

/* ---- words ---- */

static uint32_t usual_recent(uint32_t method)
{
	return method == DROP_WINDOW ? 0 : DROP_RECENT;
}

void drop_format(const struct drop_params *p, char out[DROP_TEXT_MAX])
{
	char digits[8];
	size_t n = 6;

	snprintf(digits, sizeof(digits), "%06u", p->share % DROP_SHARE_ONE);
	while (n > 1 && digits[n - 1] == '0')
		n--;
	digits[n] = '\0';
	snprintf(out, DROP_TEXT_MAX, "%s:0.%s", drop_names[p->method], digits);
	if (p->sinks != DROP_SINKS || p->recent != usual_recent(p->method))
		snprintf(out + strlen(out), DROP_TEXT_MAX - strlen(out), "+%u+%u", p->sinks,
			 p->recent);
}

int drop_parse(const char *s, struct drop_params *ret)
{
	struct drop_params p = { .method = DROP_METHODS_ };
	char name[9] = "", digits[7] = "", text[DROP_TEXT_MAX];
	int got = sscanf(s, "%8[a-z]:0.%6[0-9]+%6u+%6u", name, digits, &p.sinks, &p.recent);

	for (unsigned i = 0; i < DROP_METHODS_; i++)
		if (!strcmp(name, drop_names[i]))
			p.method = i;
	for (size_t i = 0; i < 6; i++)
		p.share = 10 * p.share + (i < strlen(digits) ? (uint32_t)(digits[i] - '0') : 0);
	if (got < 3)
		p.sinks = DROP_SINKS;
	if (got < 4)
		p.recent = usual_recent(p.method);
	if (p.method == DROP_METHODS_ || !p.share)
		return -EINVAL;
	drop_format(&p, text);
	if (strcmp(s, text))
		return -EINVAL;
	*ret = p;
	return 0;
}

uint32_t drop_count(const struct drop_params *p, uint32_t cells)
{
	return (uint32_t)(((uint64_t)cells * p->share + DROP_SHARE_ONE - 1) / DROP_SHARE_ONE);
}

void drop_init(struct drop_cell *c, const int32_t *pos, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		c[i] = (struct drop_cell){ 0, pos[i], i };
}

/* ---- scores ---- */

static float f32_of(uint32_t bits)
{
	float f;

	memcpy(&f, &bits, sizeof(f));
	return f;
}

static double value_at(unsigned elem, const uint8_t *p, size_t i)
{
	uint32_t h;

	if (elem == ELEM_F32)
		return (double)f32_of(le32_get(p + 4 * i));
	h = le16_get(p + 2 * i);
	if (elem == ELEM_BF16)
		return (double)f32_of(h << 16);
	if ((h & 0x7c00) == 0x7c00)
		return h & 0x3ff ? NAN : INFINITY;
	/* exponents are 112 apart; so are those of the denormals after a product */
	return (double)f32_of((h & 0x8000) << 16 | (h & 0x7fff) << 13) * 0x1p112;
}

/* Its norm: NaN or infinite when one of its elements is. */
static double key_norm(const struct drop_layer *l, const uint8_t *key)
{
	double sum = 0;

	for (uint32_t i = 0; i < l->head_elems; i++) {
		double x = value_at(l->elem, key, i);

		sum += x * x;
	}
	return sqrt(sum);
}

size_t drop_work_len(uint32_t row_elems, uint32_t head_elems)
{
	return (size_t)row_elems + 2 * (head_elems ? row_elems / head_elems : (size_t)1);
}

void drop_layer_init(struct drop_layer *l, unsigned method, unsigned elem, uint32_t row_elems,
		     uint32_t head_elems, double *work)
{
	*l = (struct drop_layer){
		.method = method,
		.elem = elem,
		.heads = head_elems ? row_elems / head_elems : 1,
		.head_elems = head_elems ? head_elems : row_elems,
		.mean = work,
	};
	l->norms = work + row_elems;
	l->keys = l->norms + l->heads;
	memset(work, 0, drop_work_len(row_elems, head_elems) * sizeof(*work));
}

static void add_direction(const struct drop_layer *l, const uint8_t *key, double norm, double *mean)
{
	if (l->method != DROP_KEYDIFF || norm == 0)
		return;
	for (uint32_t i = 0; i < l->head_elems; i++)
		mean[i] += value_at(l->elem, key, i) / norm;
}

void drop_measure(struct drop_layer *l, const void *rows, uint32_t n)
{
	const uint8_t *key = rows;
	size_t key_bytes = (size_t)l->head_elems * elem_bytes(l->elem);

	for (uint32_t t = 0; t < n; t++)
		for (uint32_t h = 0; h < l->heads; h++, key += key_bytes) {
			double norm = key_norm(l, key);

			if (!isfinite(norm))
				continue;
			l->norms[h] += norm;
			l->keys[h]++;
			add_direction(l, key, norm, l->mean + (size_t)h * l->head_elems);
		}
}

static double cosine(const struct drop_layer *l, const uint8_t *key, double norm,
		     const double *mean)
{
	double dot = 0, mean2 = 0;

	for (uint32_t i = 0; i < l->head_elems; i++) {
		dot += value_at(l->elem, key, i) * mean[i];
		mean2 += mean[i] * mean[i];
	}
	return norm > 0 && mean2 > 0 ? dot / (norm * sqrt(mean2)) : 0;
}

void drop_score(struct drop_layer *l, const void *rows, uint32_t n, struct drop_cell *c)
{
	const uint8_t *key = rows;
	size_t key_bytes = (size_t)l->head_elems * elem_bytes(l->elem);

	for (uint32_t t = 0; t < n; t++)
		for (uint32_t h = 0; h < l->heads; h++, key += key_bytes) {
			double norm = key_norm(l, key);

			if (!isfinite(norm))
				c[t].score = -INFINITY;
			else if (l->method == DROP_KEYDIFF)
				c[t].score -= cosine(l, key, norm,
						     l->mean + (size_t)h * l->head_elems);
			else if (l->norms[h] > 0)
				c[t].score -= norm * l->keys[h] / l->norms[h];
		}
}

/* ---- the choice ---- */

static int by_pos(const void *a, const void *b)
{
	const struct drop_cell *x = a, *y = b;

	if (x->pos != y->pos)
		return x->pos < y->pos ? -1 : 1;
	return x->cell < y->cell ? -1 : 1;
}

/* Best first; of equals the later. */
static int by_score(const void *a, const void *b)
{
	const struct drop_cell *x = a, *y = b;

	if (x->score != y->score)
		return x->score > y->score ? -1 : 1;
	return -by_pos(a, b);
}

static int by_number(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

void drop_select(const struct drop_params *p, struct drop_cell *c, uint32_t n, uint32_t keep,
		 uint32_t *ret)
{
	uint32_t sinks = p->sinks < keep ? p->sinks : keep - 1, left = keep - sinks;
	uint32_t recent = p->recent ? p->recent : 1, k = 0;

	if (p->method == DROP_WINDOW || recent > left)
		recent = left;

	qsort(c, n, sizeof(*c), by_pos);
	qsort(c + sinks, n - sinks - recent, sizeof(*c), by_score);
	for (uint32_t i = 0; i < keep - recent; i++)
		ret[k++] = c[i].cell;
	for (uint32_t i = n - recent; i < n; i++)
		ret[k++] = c[i].cell;
	qsort(ret, keep, sizeof(*ret), by_number);
}
