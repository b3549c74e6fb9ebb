/* SPDX-License-Identifier: MIT */
#include "judge.h"

#include <math.h>
#include <stddef.h>

#include "forward.h"

#define EDIT_MAX 4096

/* log(sum(exp(x))) */
static double log_sum(const float *x, uint32_t n)
{
	double max = x[argmax(x, n)], sum = 0;

	for (uint32_t i = 0; i < n; i++)
		sum += exp(x[i] - max);
	return max + log(sum);
}

void judge_add(struct judge *j, const float *exact, const float *lossy, uint32_t n_vocab,
	       int32_t truth)
{
	double ze = log_sum(exact, n_vocab), zl = log_sum(lossy, n_vocab), kl = 0;
	uint32_t best_e = argmax(exact, n_vocab), best_l = argmax(lossy, n_vocab);

	for (uint32_t i = 0; i < n_vocab; i++) {
		double le = exact[i] - ze, ll = lossy[i] - zl;

		kl += exp(le) * (le - ll);
	}
	j->n++;
	j->kl += kl;
	j->agree += best_e == best_l;
	j->nll_exact += ze - exact[truth];
	j->nll_lossy += zl - lossy[truth];
	j->hit_exact += best_e == (uint32_t)truth;
	j->hit_lossy += best_l == (uint32_t)truth;
}

void judge_sum(struct judge *j, const struct judge *o)
{
	j->n += o->n;
	j->kl += o->kl;
	j->agree += o->agree;
	j->nll_exact += o->nll_exact;
	j->nll_lossy += o->nll_lossy;
	j->hit_exact += o->hit_exact;
	j->hit_lossy += o->hit_lossy;
}

double judge_ppl(double nll, double n)
{
	return n > 0 ? exp(nll / n) : 0;
}

uint32_t edit_distance(const int32_t *a, uint32_t n, const int32_t *b, uint32_t m)
{
	uint32_t row[EDIT_MAX + 1];

	if (n > EDIT_MAX || m > EDIT_MAX)
		return n > m ? n : m;
	for (uint32_t k = 0; k <= m; k++)
		row[k] = k;
	for (uint32_t i = 1; i <= n; i++) {
		uint32_t diag = row[0];

		row[0] = i;
		for (uint32_t k = 1; k <= m; k++) {
			uint32_t best = diag + (a[i - 1] != b[k - 1]);

			diag = row[k];
			best = row[k] + 1 < best ? row[k] + 1 : best;
			row[k] = row[k - 1] + 1 < best ? row[k - 1] + 1 : best;
		}
	}
	return row[m];
}
