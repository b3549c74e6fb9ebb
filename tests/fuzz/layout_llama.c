/* SPDX-License-Identifier: MIT */
/* llama.cpp states: as they are, and with a valid magic and version. */
#include <string.h>

#include "base/le.h"
#include "layout_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint32_t heads[][2] = {
		{ 0x67677371, 2 }, { 0x67677371, 3 }, { 0x6767736e, 9 }, { 0x6767736e, 10 }
	};
	struct lfile f = { 0 };

	layout_fuzz_one(data, size, "f", NULL);
	if (size < 12)
		return 0;
	lfile_u32(&f, heads[data[0] & 3][0]);
	lfile_u32(&f, heads[data[0] & 3][1]);
	lfile_u32(&f, le32_get(data + 8) & 255);
	lfile_bytes(&f, data + 12, size - 12);
	layout_fuzz_one(f.d, f.n, "f", NULL);
	lfile_fini(&f);
	return 0;
}
