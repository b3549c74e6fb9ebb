/* SPDX-License-Identifier: MIT */
/* LMCache's 28-byte header: as it is, and with the right length and a small
 * format and dtype. */
#include "base/le.h"
#include "layout_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct lfile f = { 0 };

	layout_fuzz_one(data, size, "f", NULL);
	if (size < 28)
		return 0;
	lfile_u32(&f, (uint32_t)size - 28);
	lfile_u32(&f, le32_get(data + 4) % 9);
	lfile_u32(&f, le32_get(data + 8) % 10);
	lfile_bytes(&f, data + 12, size - 12);
	layout_fuzz_one(f.d, f.n, "f", NULL);
	lfile_fini(&f);
	return 0;
}
