/* SPDX-License-Identifier: MIT */
/* Compact files of whatever can be one: as it is, and with the head of a sequence
 * state of few tokens. */
#include "base/le.h"
#include "layout_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void thin(struct lfile *f, uint32_t every)
{
	char why[LFILE_WHY];
	struct lfile out;

	(void)!lfile_compact(f, every, &out, why);
	lfile_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct lfile f = { .name = "f" };

	lfile_bytes(&f, data, size);
	thin(&f, 1);
	thin(&f, 3);
	thin(&f, UINT32_MAX);
	lfile_fini(&f);
	if (size < 12)
		return 0;
	lfile_u32(&f, 0x67677371);
	lfile_u32(&f, 3);
	lfile_u32(&f, le32_get(data + 8) & 31);
	lfile_bytes(&f, data + 12, size - 12);
	thin(&f, 2);
	lfile_fini(&f);
	return 0;
}
