// SPDX-License-Identifier: MIT
/*
 * Fuzzes every encoder: whatever the bytes and the claimed shape, all versions
 * encode alike, never grow, and decode to the original. The first 8 bytes say
 * which codec and shape; their format is the harness's own.
 */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/le.h"
#include "codecs/codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct result {
	int r;
	unsigned id, layers;
	size_t len[CODEC_LADDER_LAYERS];
	uint8_t *enc[CODEC_LADDER_LAYERS];
};

static void encode(struct codec_ctx *c, unsigned how, const struct chunk_shape *shape,
		   const uint8_t *src, size_t len, struct result *ret)
{
	const struct codec_ops *ops = codec_by_id(how);
	struct codec_out out[CODEC_LADDER_LAYERS];
	uint16_t id = (uint16_t)how;
	size_t sum = 0;

	for (unsigned i = 0; i < CODEC_LADDER_LAYERS; i++) {
		out[i] = (struct codec_out){ malloc(codec_best_bound(len)), codec_best_bound(len), 0 };
		ret->enc[i] = out[i].buf;
	}
	ret->layers = ops ? ops->layers : 1;
	if (ops)
		ret->r = ops->elem_mask >> shape->elem & 1
				 ? ops->encode(c, shape, src, len, out)
				 : -KVFS_ENOGAIN;
	else if (how > 9)
		ret->r = codec_encode_layers(c, how & 1, shape, src, len, out, &id, &ret->layers);
	else
		ret->r = codec_encode_best(c, how & 1, shape, src, len, out, &id, &ret->layers);
	ret->id = id;
	for (unsigned i = 0; i < ret->layers; i++)
		sum += ret->len[i] = out[i].len;
	if (ret->r != 0 && (ret->r != -KVFS_ENOGAIN || !ops))
		abort();
	if (ret->r == 0 && sum > len)
		abort();
}

static void result_free(struct result *x)
{
	for (unsigned i = 0; i < CODEC_LADDER_LAYERS; i++)
		free(x->enc[i]);
}

static bool differ(const struct result *a, const struct result *b)
{
	if (a->r != b->r || (a->r == 0 && (a->id != b->id || a->layers != b->layers)))
		return true;
	for (unsigned i = 0; a->r == 0 && i < a->layers; i++)
		if (a->len[i] != b->len[i] || memcmp(a->enc[i], b->enc[i], a->len[i]) != 0)
			return true;
	return false;
}

/* All layers are exact, fewer decode, and the twin's layer 0 can be made. */
static void check(struct codec_ctx *c, const struct chunk_shape *shape, const uint8_t *src,
		  size_t len, const struct result *x)
{
	const struct codec_ops *ops = codec_by_id(x->id);
	struct codec_in in[CODEC_LADDER_LAYERS];
	uint8_t *dst = malloc(len), *twin = malloc(len + 64);
	struct codec_out out = { twin, len, 0 };

	for (unsigned i = 0; i < x->layers; i++) {
		in[i] = (struct codec_in){ x->enc[i], x->len[i] };
		if (codec_decode(c, x->id, shape, in, i + 1, dst, len, 0) != 0)
			abort();
	}
	if (memcmp(dst, src, len) != 0)
		abort();
	if (ops && ops->transcode &&
	    ops->transcode(c, shape, in[0].buf, in[0].len, len, &out) == 0) {
		in[0] = (struct codec_in){ twin, out.len };
		if (codec_decode(c, ops->twin, shape, in, x->layers, dst, len, 0) != 0 ||
		    memcmp(dst, src, len) != 0)
			abort();
	}
	free(dst);
	free(twin);
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
		encode(c, data[0] % 12, &shape, data + 8, len, &x);
		if (x.r == 0)
			check(c, &shape, data + 8, len, &x);
		codec_ctx_destroy(c);
		if (v == 0) {
			first = x;
			continue;
		}
		if (differ(&x, &first))
			abort();
		result_free(&x);
	}
	result_free(&first);
	return 0;
}
