// SPDX-License-Identifier: MIT
/*
 * ladder-huf and ladder-fix as entries of the codecs' table.
 * CODEC_DECODE_STREAM is not heeded: non-temporal stores gain nothing here (LADDER.md).
 */
#include "codecs/ladder.h"

#include <errno.h>

/* What does not shrink is given up, so that no layer is longer than the chunk.
 * A refinement has its bits per element, but whole blocks. */
static size_t ladder_bound(const struct chunk_shape *shape, size_t len, unsigned layer)
{
	(void)shape, (void)layer;
	return len ? len : 1;
}

static int huf_encode(struct codec_ctx *ctx, const struct chunk_shape *shape, const void *src,
		      size_t len, struct codec_out out[])
{
	unsigned layers;

	return ladder_encode(ctx, true, shape, &ladder_defaults, src, len, out, &layers);
}

static int fix_encode(struct codec_ctx *ctx, const struct chunk_shape *shape, const void *src,
		      size_t len, struct codec_out out[])
{
	unsigned layers;

	return ladder_encode(ctx, false, shape, &ladder_defaults, src, len, out, &layers);
}

static int huf_decode(struct codec_ctx *ctx, const struct chunk_shape *shape,
		      const struct codec_in in[], unsigned n_in, void *dst, size_t len,
		      unsigned flags)
{
	(void)shape, (void)flags;
	return ladder_decode(ctx, true, in, n_in, dst, len);
}

static int fix_decode(struct codec_ctx *ctx, const struct chunk_shape *shape,
		      const struct codec_in in[], unsigned n_in, void *dst, size_t len,
		      unsigned flags)
{
	(void)shape, (void)flags;
	return ladder_decode(ctx, false, in, n_in, dst, len);
}

static int huf_to_fix(struct codec_ctx *ctx, const struct chunk_shape *shape, const void *layer0,
		      size_t layer0_len, size_t len, struct codec_out *to)
{
	(void)shape;
	return ladder_transcode(ctx, false, layer0, layer0_len, len, to);
}

static int fix_to_huf(struct codec_ctx *ctx, const struct chunk_shape *shape, const void *layer0,
		      size_t layer0_len, size_t len, struct codec_out *to)
{
	(void)shape;
	return ladder_transcode(ctx, true, layer0, layer0_len, len, to);
}

const struct codec_ops codec_ladder_huf = {
	.id = CODEC_LADDER_HUF,
	.layers = CODEC_LADDER_LAYERS,
	.elem_mask = 1u << ELEM_F32 | 1u << ELEM_F16 | 1u << ELEM_BF16,
	.name = "ladder-huf",
	.bound = ladder_bound,
	.encode = huf_encode,
	.decode = huf_decode,
	.twin = CODEC_LADDER_FIX,
	.transcode = huf_to_fix,
};

const struct codec_ops codec_ladder_fix = {
	.id = CODEC_LADDER_FIX,
	.layers = CODEC_LADDER_LAYERS,
	.elem_mask = 1u << ELEM_F32 | 1u << ELEM_F16 | 1u << ELEM_BF16,
	.name = "ladder-fix",
	.bound = ladder_bound,
	.encode = fix_encode,
	.decode = fix_decode,
	.twin = CODEC_LADDER_HUF,
	.transcode = fix_to_huf,
};
