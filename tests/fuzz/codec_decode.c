// SPDX-License-Identifier: MIT
/*
 * Fuzzes every decoder with arbitrary bytes, in the format of the golden files
 * (conform/codec_golden.h): the result is 0 or -KVFS_ECODEC, nothing outside the
 * buffers is touched, and all SIMD versions agree.
 */
#include <stdlib.h>
#include <string.h>

#include "../conform/codec_golden.h"
#include "codecs/codec.h"

#define LEN_MAX (1u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct chunk_shape shape;
	uint8_t *first = NULL, *dst, *enc;
	struct golden g;
	int first_r = 0;

	if (size < GOLDEN_HEAD)
		return 0;
	golden_get(data, &g);
	g.len %= LEN_MAX;
	/* Buffers of the exact sizes, so that ASan sees one byte too many. */
	enc = malloc(size - GOLDEN_HEAD);
	memcpy(enc, data + GOLDEN_HEAD, size - GOLDEN_HEAD);
	for (unsigned v = 0; v < CODEC_SIMD_BEST; v++) {
		struct codec_in in = { enc, size - GOLDEN_HEAD };
		struct codec_ctx *c;
		int r;

		if (codec_ctx_create(v, &c) < 0)
			continue;
		dst = calloc(1, g.len ? g.len : 1);
		r = codec_decode(c, g.codec, &shape, &in, 1, dst, g.len, 0);
		codec_ctx_destroy(c);
		if (r != 0 && r != -KVFS_ECODEC)
			abort();
		if (v == 0) {
			first = dst;
			first_r = r;
			continue;
		}
		if (r != first_r || (r == 0 && memcmp(first, dst, g.len) != 0))
			abort();
		free(dst);
	}
	free(first);
	free(enc);
	return 0;
}
