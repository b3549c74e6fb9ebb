// SPDX-License-Identifier: MIT
/*
 * Plain ways of making values smaller, for comparison: KIVI's and whole-axis
 * ranges as kvlm has them, and the trivial layered code: sign, exponent and
 * leading bits of the mantissa, whose cost is taken to be their entropy in the
 * tensor at hand, which no real coder with tables reaches.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "quality.h"
#include "quant.h"

/* Of a float cut to @keep bits of mantissa; the rest becomes one half of it. */
static double prefix(struct tensor *t, unsigned keep)
{
	size_t n = (size_t)t->tokens * t->cols, kinds = (size_t)1 << (9 + keep);
	uint32_t *count = calloc(kinds, sizeof(*count));
	unsigned drop = 23 - keep;
	double bits = 0;

	for (size_t i = 0; count && i < n; i++) {
		uint32_t u;

		memcpy(&u, &t->x[i], sizeof(u));
		count[u >> drop]++;
		if (u << 1 && (u >> 23 & 0xff) != 0xff) {
			u = (u >> drop << drop) | 1u << (drop - 1);
			memcpy(&t->x[i], &u, sizeof(u));
		}
	}
	for (size_t s = 0; count && s < kinds; s++)
		if (count[s])
			bits -= count[s] * log2(count[s] / (double)n);
	free(count);
	return bits;
}

double rival_apply(const struct quality_row *row, struct tensor *t)
{
	struct quant q = { .kind = row->family == QUALITY_KIVI ? QUANT_KIVI : QUANT_AXIS,
			   .bits = row->param };
	double n = (double)t->tokens * t->cols;

	if (row->family == QUALITY_PREFIX)
		return prefix(t, row->param);
	quant_tensor(&q, t->x, t->tokens, t->cols / t->dim, t->dim, t->r->kind == REGION_V);
	return n * quant_bits(&q, t->tokens, t->cols / t->dim, t->dim,
			      8 * elem_bytes(t->r->elem));
}
