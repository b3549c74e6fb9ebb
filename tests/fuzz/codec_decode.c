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
	uint8_t *first = NULL, *dst, *enc[CODEC_LAYERS_MAX];
	struct codec_in in[CODEC_LAYERS_MAX];
	struct golden g;
	int first_r = 0;
	unsigned n;

	if (size < GOLDEN_HEAD)
		return 0;
	golden_get(data, &g);
	g.len %= LEN_MAX;
	/* Buffers of the exact sizes, so that ASan sees one byte too many. */
	n = golden_layers(data, size, in);
	for (unsigned i = 0; i < n; i++) {
		enc[i] = malloc(in[i].len ? in[i].len : 1);
		in[i].buf = memcpy(enc[i], in[i].buf, in[i].len);
	}
	for (unsigned v = 0; v < CODEC_SIMD_BEST; v++) {
		struct codec_ctx *c;
		int r;

		if (codec_ctx_create(v, &c) < 0)
			continue;
		dst = calloc(1, g.len ? g.len : 1);
		r = codec_decode(c, g.codec, &shape, in, n, dst, g.len, 0);
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
	for (unsigned i = 0; i < n; i++)
		free(enc[i]);
	return 0;
}
