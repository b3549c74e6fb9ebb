/* SPDX-License-Identifier: MIT */
/* The GGUF reader and the model loader over hostile bytes. */
#include <stddef.h>
#include <stdint.h>

#include "gguf.h"
#include "model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct msg m = { "" };
	struct gguf *g;
	struct model *md;

	if (gguf_parse(data, size, &g, &m)) {
		if (!m.text[0])
			__builtin_trap();
		return 0;
	}
	if (!model_from_gguf(g, &md, &m))
		model_free(md);
	else if (!m.text[0])
		__builtin_trap();
	gguf_close(g);
	return 0;
}
