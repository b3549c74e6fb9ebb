// SPDX-License-Identifier: MIT
/*
 * raw: the bytes as they are. Encoding always succeeds (never -KVFS_ENOGAIN):
 * it is what chunks fall back to.
 */
#include <errno.h>
#include <string.h>

#include "codecs/codec_ctx.h"

static size_t raw_bound(const struct chunk_shape *shape, size_t len, unsigned layer)
{
	(void)shape, (void)layer;
	return len ? len : 1;
}

static int raw_encode(struct codec_ctx *ctx, const struct chunk_shape *shape, const void *src,
		      size_t len, struct codec_out out[])
{
	(void)ctx, (void)shape;
	if (len == 0 || len > CODEC_CHUNK_MAX || out[0].cap < len)
		return -EINVAL;
	memcpy(out[0].buf, src, len);
	out[0].len = len;
	return 0;
}

static int raw_decode(struct codec_ctx *ctx, const struct chunk_shape *shape,
		      const struct codec_in in[], unsigned n_in, void *dst, size_t len,
		      unsigned flags)
{
	(void)ctx, (void)shape, (void)flags;
	if (n_in != 1 || in[0].len != len)
		return -KVFS_ECODEC;
	if (len)
		memcpy(dst, in[0].buf, len);
	return 0;
}

const struct codec_ops codec_raw = {
	.id = CODEC_RAW,
	.layers = 1,
	.elem_mask = (1u << ELEM_TYPES_) - 1,
	.name = "raw",
	.bound = raw_bound,
	.encode = raw_encode,
	.decode = raw_decode,
};
