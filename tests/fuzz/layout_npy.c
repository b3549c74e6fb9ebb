/* SPDX-License-Identifier: MIT */
/* .npy: as it is, and with a valid magic and the header's length up to the first
 * newline; with and without a declared order. */
#include <string.h>

#include "layout_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const orders[] = { NULL, "order=2LTHD", "order=TD", "order=N2TD" };
	const uint8_t *nl = size > 10 ? memchr(data + 10, '\n', size - 10) : NULL;
	struct lfile f = { 0 };

	layout_fuzz_one(data, size, "f", NULL);
	if (!nl)
		return 0;
	lfile_str(&f, "\x93NUMPY");
	lfile_u16(&f, 1);
	lfile_u16(&f, (uint16_t)(nl - data - 9));
	lfile_bytes(&f, data + 10, size - 10);
	layout_fuzz_one(f.d, f.n, "f", orders[data[0] & 3]);
	lfile_fini(&f);
	return 0;
}
