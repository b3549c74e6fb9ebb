/* SPDX-License-Identifier: MIT */
/* A declaration up to the first newline, then the file. */
#include <string.h>

#include "layout_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *nl = memchr(data, '\n', size);
	char s[400], why[20];
	size_t len = nl ? (size_t)(nl - data) : size;

	if (len >= sizeof(s))
		len = sizeof(s) - 1;
	memcpy(s, data, len);
	s[len] = '\0';
	if (strlen(s) != len)
		return 0;
	(void)!layout_declared_check(s, why, sizeof(why));
	if (nl)
		layout_fuzz_one(nl + 1, size - (size_t)(nl + 1 - data), "f", s);
	return 0;
}
