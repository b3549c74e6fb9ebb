/* SPDX-License-Identifier: MIT */
/* The JSON reader alone, on a block of exactly the input's length. */
#include <stdlib.h>
#include <string.h>

#include "layouts/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *buf = malloc(size + !size), *key;
	struct json j;

	if (!buf)
		abort();
	memcpy(buf, data, size);
	json_init(&j, buf, size, 10000);
	if (!json_skip(&j))
		(void)!json_end(&j);
	memcpy(buf, data, size);
	json_init(&j, buf, size, 10000);
	if (!json_object(&j)) {
		while (json_key(&j, &key) == 1 && memchr(key, 0, (size_t)(buf + size - key)))
			if (json_skip(&j))
				break;
	}
	free(buf);
	return 0;
}
