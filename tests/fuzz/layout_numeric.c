/* SPDX-License-Identifier: MIT */
/* A config.json up to the first newline, then a block of vLLM's, repeated to the
 * size from which statistics are made. */
#include <string.h>

#include "layout_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *nl = memchr(data, '\n', size);
	struct lfile f = { .name = "00112233445566778899.bin",
			   .dir = "m_0123456789ab_r0/001/12_g0",
			   .beside_name = "../../../m_0123456789ab/config.json" };
	char config[2000];
	size_t len = nl ? (size_t)(nl - data) : 0;

	if (!size || len >= sizeof(config))
		return 0;
	memcpy(config, data, len);
	config[len] = '\0';
	f.beside = config;
	while (f.n < 66000)
		lfile_bytes(&f, data + len, size - len);
	layout_destroy(lfile_recognise(&f));
	lfile_fini(&f);
	return 0;
}
