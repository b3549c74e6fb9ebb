// SPDX-License-Identifier: MIT
/*
 * zstd: one zstd frame (RFC 8878) that decodes to exactly the chunk; no
 * dictionary, no checksum of its own. Also the entropy coder of planes-huf.
 *
 * Huffman only: a very fast level finds next to no matches in noise, and
 * ZSTD_c_literalCompressionMode makes it Huffman-code the literals all the same.
 * That parameter is experimental, but it is reachable through the stable
 * ZSTD_CCtx_setParameter under a reserved name whose number is in the public
 * enum. A libzstd that refuses it gets level 1, which Huffman-codes by itself,
 * slower; the bytes are a plain frame either way, so decoding never cares.
 */
#include <errno.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "base/le.h"
#include "codecs/codec_ctx.h"

#define LEVEL_GENERAL 3
#define LEVEL_HUFFMAN (-100)
#define LITERALS_HUFFMAN 1 /* ZSTD_ps_enable; ZSTD_lcm_huffman before 1.5 */

static int zstd_err(size_t code, int other)
{
	return ZSTD_getErrorCode(code) == ZSTD_error_memory_allocation ? -ENOMEM : other;
}

/* Parameters are sticky in the context, so each way sets all that it needs. */
static size_t set_way(ZSTD_CCtx *c, enum zstd_way way)
{
	size_t r = ZSTD_CCtx_reset(c, ZSTD_reset_session_and_parameters);

	if (ZSTD_isError(r))
		return r;
	if (way == ZSTD_WAY_GENERAL)
		return ZSTD_CCtx_setParameter(c, ZSTD_c_compressionLevel, LEVEL_GENERAL);
	r = ZSTD_CCtx_setParameter(c, ZSTD_c_experimentalParam5, LITERALS_HUFFMAN);
	return ZSTD_CCtx_setParameter(c, ZSTD_c_compressionLevel,
				      ZSTD_isError(r) ? 1 : LEVEL_HUFFMAN);
}

int zstd_pack(struct codec_ctx *ctx, enum zstd_way way, const void *src, size_t len, void *dst,
	      size_t cap, size_t *ret_len)
{
	size_t r;

	if (!ctx->cctx) {
		ctx->cctx = ZSTD_createCCtx();
		if (!ctx->cctx)
			return -ENOMEM;
	}
	r = set_way(ctx->cctx, way);
	if (!ZSTD_isError(r))
		r = ZSTD_compress2(ctx->cctx, dst, cap, src, len);
	if (ZSTD_isError(r))
		return zstd_err(r, -KVFS_ENOGAIN);
	*ret_len = r;
	return 0;
}

int zstd_unpack(struct codec_ctx *ctx, const void *src, size_t src_len, void *dst, size_t len)
{
	size_t r;

	if (!ctx->dctx) {
		ctx->dctx = ZSTD_createDCtx();
		if (!ctx->dctx)
			return -ENOMEM;
	}
	/* One frame of today's format: no skippable, legacy or second frame. */
	if (src_len < 4 || le32_get(src) != ZSTD_MAGICNUMBER ||
	    ZSTD_findFrameCompressedSize(src, src_len) != src_len)
		return -KVFS_ECODEC;
	r = ZSTD_decompressDCtx(ctx->dctx, dst, len, src, src_len);
	if (ZSTD_isError(r))
		return zstd_err(r, -KVFS_ECODEC);
	return r == len ? 0 : -KVFS_ECODEC;
}

static size_t zstd_bound(const struct chunk_shape *shape, size_t len, unsigned layer)
{
	(void)shape, (void)layer;
	return len ? len : 1; /* what does not shrink is given up */
}

static int zstd_encode(struct codec_ctx *ctx, const struct chunk_shape *shape, const void *src,
		       size_t len, struct codec_out out[])
{
	size_t cap = out[0].cap;

	(void)shape;
	if (len == 0 || len > CODEC_CHUNK_MAX)
		return -EINVAL;
	if (cap >= len)
		cap = len - 1;
	return zstd_pack(ctx, ZSTD_WAY_GENERAL, src, len, out[0].buf, cap, &out[0].len);
}

static int zstd_decode(struct codec_ctx *ctx, const struct chunk_shape *shape,
		       const struct codec_in in[], unsigned n_in, void *dst, size_t len,
		       unsigned flags)
{
	(void)shape, (void)flags;
	if (n_in != 1 || len > CODEC_CHUNK_MAX)
		return -KVFS_ECODEC;
	return zstd_unpack(ctx, in[0].buf, in[0].len, dst, len);
}

const struct codec_ops codec_zstd = {
	.id = CODEC_ZSTD,
	.layers = 1,
	.elem_mask = (1u << ELEM_TYPES_) - 1,
	.name = "zstd",
	.bound = zstd_bound,
	.encode = zstd_encode,
	.decode = zstd_decode,
};
