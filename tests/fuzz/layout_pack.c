/* SPDX-License-Identifier: MIT */
/* Descriptors as found in an object: refused, or a layout with all properties;
 * also the descriptor of what the input is recognised as, with its bytes
 * overwritten by the input's. */
#include <string.h>

#include "layout_file.h"

static void unpack(const void *p, size_t len)
{
	struct layout *l;

	if (layout_unpack(p, len, &l))
		return;
	layout_check_properties(l);
	layout_destroy(l);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct lfile f = { .declared = "dtype=bf16 order=L2THD layers=3 heads=2 dim=8" };
	struct sbuf b = SBUF_INIT;
	struct layout *l;

	unpack(data, size);
	lfile_noise(&f, 2 * 3 * 32 * 5, 1);
	l = lfile_recognise(&f);
	if (!layout_pack(l, &b))
		for (size_t i = 0; i + 2 <= size && i < 8; i += 2)
			b.s[data[i] % b.len] ^= (char)data[i + 1];
	unpack(b.s, b.len);
	layout_destroy(l);
	sbuf_fini(&b);
	lfile_fini(&f);
	return 0;
}
