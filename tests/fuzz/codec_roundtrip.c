// SPDX-License-Identifier: MIT
/*
 * Fuzzes every encoder: whatever the bytes and the claimed shape, all versions
 * encode alike, never grow, and decode to the original. The first 8 bytes say
 * which codec and shape; their format is the harness's own.
 */
#include <stdlib.h>
#include <string.h>

#include "base/le.h"
#include "codecs/codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct result {
	int r;
	unsigned id;
	size_t len;
	uint8_t *enc;
};

static void encode(struct codec_ctx *c, unsigned how, const struct chunk_shape *shape,
		   const uint8_t *src, size_t len, struct result *ret)
{
	const struct codec_ops *ops = codec_by_id(how);
	struct codec_out out = { NULL, codec_best_bound(len), 0 };
	uint16_t id = (uint16_t)how;
	unsigned layers;

	out.buf = ret->enc = malloc(out.cap);
	if (ops)
		ret->r = ops->elem_mask >> shape->elem & 1
				 ? ops->encode(c, shape, src, len, &out)
				 : -KVFS_ENOGAIN;
	else
		ret->r = codec_encode_best(c, how & 1, shape, src, len, &out, &id, &layers);
	ret->id = id;
	ret->len = out.len;
	if (ret->r != 0 && (ret->r != -KVFS_ENOGAIN || !ops))
		abort();
	if (ret->r == 0 && out.len > len)
		abort();
}

static void check(struct codec_ctx *c, const struct chunk_shape *shape, const uint8_t *src,
		  size_t len, const struct result *x)
{
	struct codec_in in = { x->enc, x->len };
	uint8_t *dst = malloc(len);

	if (codec_decode(c, x->id, shape, &in, 1, dst, len, 0) != 0 || memcmp(dst, src, len) != 0)
		abort();
	free(dst);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct chunk_shape shape = { 0 };
	struct result first = { 0 };
	size_t len = size - 8;

	if (size < 9 || len > CODEC_CHUNK_MAX)
		return 0;
	shape.elem = data[1] % ELEM_TYPES_;
	shape.transposed = data[2] & 1;
	shape.row_bytes = le32_get(data + 4);
	for (unsigned v = 0; v < CODEC_SIMD_BEST; v++) {
		struct result x;
		struct codec_ctx *c;

		if (codec_ctx_create(v, &c) < 0)
			continue;
		encode(c, data[0] % 8, &shape, data + 8, len, &x);
		if (x.r == 0)
			check(c, &shape, data + 8, len, &x);
		codec_ctx_destroy(c);
		if (v == 0) {
			first = x;
			continue;
		}
		if (x.r != first.r || (x.r == 0 && (x.id != first.id || x.len != first.len ||
						    memcmp(x.enc, first.enc, x.len) != 0)))
			abort();
		free(x.enc);
	}
	free(first.enc);
	return 0;
}
