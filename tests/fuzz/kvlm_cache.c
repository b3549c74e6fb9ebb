/* SPDX-License-Identifier: MIT */
/* Cache files of both formats; what parses is read to its last element. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "cache.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct msg m = { "" };
	struct cache *c;
	float *row;

	if (cache_parse(data, size, &c, &m)) {
		if (!m.text[0])
			__builtin_trap();
		return 0;
	}
	row = malloc(c->row * sizeof(*row));
	for (uint32_t l = 0; row && l < c->n_layer; l++) {
		cache_get_row(c, l, false, 0, row);
		cache_get_row(c, l, false, c->n_cells - 1, row);
		cache_get_row(c, l, true, c->n_cells - 1, row);
	}
	free(row);
	cache_free(c);
	return 0;
}
