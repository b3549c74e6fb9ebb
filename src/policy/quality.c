/* SPDX-License-Identifier: MIT */
#include "policy/quality.h"

#include <math.h>
#include <string.h>

unsigned quality_spread(uint64_t n, unsigned max, uint64_t ret[])
{
	unsigned k = n < max ? (unsigned)n : max;

	for (unsigned i = 0; i < k; i++)
		ret[i] = k > 1 ? (n - 1) / (k - 1) * i + (n - 1) % (k - 1) * i / (k - 1) : 0;
	return k;
}

static bool finite_row(const float *x, uint32_t dim)
{
	float sum = 0;

	for (uint32_t i = 0; i < dim; i++)
		sum += x[i] * 0;
	return sum == 0; /* NaN if one is not finite */
}

static float dot(const float *a, const float *b, uint32_t dim)
{
	float part[16] = { 0 }, sum = 0;
	uint32_t i = 0;

	for (; i + 16 <= dim; i += 16)
		for (uint32_t j = 0; j < 16; j++)
			part[j] += a[i + j] * b[i + j];
	for (; i < dim; i++)
		sum += a[i] * b[i];
	for (uint32_t j = 0; j < 16; j++)
		sum += part[j];
	return sum;
}

/* Logits of the query at token @t against the keys @k up to it. */
static void look(struct quality_work *w, uint32_t t, const float *k)
{
	uint32_t dim = w->exact.dim;

	for (uint32_t s = 0; s <= t; s++)
		w->logits[s] = dot(w->exact.k + (size_t)t * dim, k + (size_t)s * dim, dim);
}

/* Attention's output from the logits and the values @v. */
static void attend(struct quality_work *w, uint32_t t, const float *v, float out[QUALITY_DIM_MAX])
{
	uint32_t dim = w->exact.dim;
	float max = -HUGE_VALF, sum = 0;

	memset(out, 0, dim * sizeof(*out));
	for (uint32_t s = 0; s <= t; s++)
		if (!w->left_out[s])
			max = fmaxf(max, w->logits[s]);
	for (uint32_t s = 0; s <= t; s++) {
		float p = w->left_out[s] ? 0 : expf((w->logits[s] - max) * w->scale);

		if (p < 1e-9f)
			continue;
		sum += p;
		for (uint32_t i = 0; i < dim; i++)
			out[i] += p * v[(size_t)s * dim + i];
	}
	for (uint32_t i = 0; i < dim; i++)
		out[i] /= sum;
}

/* What makes the logits' standard deviation 1. */
static float scale_of(struct quality_work *w)
{
	double var = 0, n = 0;

	for (uint32_t q = 0; q < w->n_queries; q++) {
		double sum = 0, square = 0, count = 0;

		look(w, w->query[q], w->exact.k);
		for (uint32_t s = 0; s <= w->query[q]; s++) {
			double l = w->left_out[s] ? 0 : w->logits[s];

			sum += l;
			square += l * l;
			count += !w->left_out[s];
		}
		var += fmax(square / count - sum / count * (sum / count), 0);
		n++;
	}
	return var > 0 && isfinite(var) ? (float)(1 / sqrt(var / n)) : 0;
}

static void mean_of_v(struct quality_work *w)
{
	uint32_t n = 0;

	memset(w->mean, 0, sizeof(w->mean));
	for (uint32_t t = 0; t < w->exact.tokens; t++) {
		n += !w->left_out[t];
		for (uint32_t i = 0; i < w->exact.dim && !w->left_out[t]; i++)
			w->mean[i] += w->exact.v[(size_t)t * w->exact.dim + i];
	}
	for (uint32_t i = 0; i < w->exact.dim; i++)
		w->mean[i] /= (float)(n ? n : 1);
}

void quality_exact(struct quality_work *w, const struct quality_head *exact)
{
	uint64_t at[QUALITY_QUERIES];
	uint32_t from = exact->tokens / 4;
	unsigned n = quality_spread(exact->tokens - from, QUALITY_QUERIES, at);

	w->exact = *exact;
	w->n_queries = 0;
	for (uint32_t t = 0; t < exact->tokens; t++)
		w->left_out[t] = !finite_row(exact->k + (size_t)t * exact->dim, exact->dim) ||
				 !finite_row(exact->v + (size_t)t * exact->dim, exact->dim);
	for (unsigned i = 0; i < n; i++)
		if (!w->left_out[from + at[i]])
			w->query[w->n_queries++] = from + (uint32_t)at[i];
	mean_of_v(w);
	w->scale = w->n_queries ? scale_of(w) : 0;
	for (uint32_t q = 0; q < w->n_queries; q++) {
		look(w, w->query[q], exact->k);
		attend(w, w->query[q], exact->v, w->out[q]);
	}
}

double quality_error(struct quality_work *w, const struct quality_head *decoded)
{
	double err = 0, ref = 0, whole = 0;
	float out[QUALITY_DIM_MAX];

	for (uint32_t t = 0; t < w->exact.tokens; t++)
		if (!w->left_out[t] &&
		    (!finite_row(decoded->k + (size_t)t * w->exact.dim, w->exact.dim) ||
		     !finite_row(decoded->v + (size_t)t * w->exact.dim, w->exact.dim)))
			return HUGE_VAL;
	for (uint32_t q = 0; q < w->n_queries; q++) {
		look(w, w->query[q], decoded->k);
		attend(w, w->query[q], decoded->v, out);
		for (uint32_t i = 0; i < w->exact.dim; i++) {
			double o = w->out[q][i], d = out[i] - o, m = o - w->mean[i];

			err += d * d;
			ref += m * m;
			whole += o * o;
		}
	}
	ref = fmax(ref, whole / 100);
	if (!isfinite(err) || !isfinite(ref))
		return HUGE_VAL;
	return err > 0 ? sqrt(err / (ref > 0 ? ref : 1e-300)) : 0;
}
