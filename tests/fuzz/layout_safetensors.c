/* SPDX-License-Identifier: MIT */
/* safetensors and LMCache's GDS files: as they are, and with the header's length
 * set to where the text ends, or padded to GDS's length. */
#include <string.h>

#include "layout_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *nl = size > 8 ? memchr(data + 8, '\0', size - 8) : NULL;
	size_t len = size <= 8 ? 0 : nl ? (size_t)(nl - data) - 8 : size - 8;
	struct lfile f = { 0 };

	layout_fuzz_one(data, size, "f", NULL);
	if (!len)
		return 0;
	lfile_u64(&f, len);
	lfile_bytes(&f, data + 8, size - 8);
	layout_fuzz_one(f.d, f.n, "f", NULL);
	f.n = 0;
	if (len > 4088)
		len = 4088;
	lfile_u64(&f, 4088);
	lfile_bytes(&f, data + 8, len);
	lfile_fill(&f, ' ', 4088 - len);
	lfile_bytes(&f, data + 8 + len, size - 8 - len);
	layout_fuzz_one(f.d, f.n, "f", NULL);
	lfile_fini(&f);
	return 0;
}
