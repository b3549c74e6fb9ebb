// SPDX-License-Identifier: MIT
/*
 * lz4: one LZ4 block (the block format of liblz4, without a frame: the decoded
 * length is the chunk's). Fast to decode; for opaque bytes with repetition.
 * A block that decodes to another length than the chunk's is -KVFS_ECODEC.
 */
#include <errno.h>
#include <lz4.h>

#include "base/mem.h"
#include "codecs/codec_ctx.h"

static size_t lz4_bound(const struct chunk_shape *shape, size_t len, unsigned layer)
{
	(void)shape, (void)layer;
	return len ? len : 1; /* what does not shrink is given up */
}

size_t lz4_state_bytes(void)
{
	return (size_t)LZ4_sizeofState();
}

/* Length, 0 when it does not fit, -ENOMEM. */
static int64_t lz4_pack(struct codec_ctx *ctx, const void *src, size_t len, void *dst,
			size_t cap, int acceleration)
{
	if (!ctx->lz4_state) {
		ctx->lz4_state = mem_alloc(lz4_state_bytes());
		if (!ctx->lz4_state)
			return -ENOMEM;
	}
	return LZ4_compress_fast_extState(ctx->lz4_state, src, dst, (int)len, (int)cap,
					  acceleration);
}

int64_t lz4_probe(struct codec_ctx *ctx, const void *src, size_t len, void *dst, size_t cap)
{
	int64_t n = lz4_pack(ctx, src, len, dst, cap, 1);

	return n == 0 || n > (int64_t)len ? (int64_t)len : n;
}

static int lz4_encode(struct codec_ctx *ctx, const struct chunk_shape *shape, const void *src,
		      size_t len, struct codec_out out[])
{
	size_t cap = out[0].cap;
	int64_t n;

	(void)shape;
	if (len == 0 || len > CODEC_CHUNK_MAX)
		return -EINVAL;
	if (cap >= len)
		cap = len - 1;
	if (cap == 0)
		return -KVFS_ENOGAIN;
	n = lz4_pack(ctx, src, len, out[0].buf, cap, 1);
	if (n <= 0)
		return n < 0 ? (int)n : -KVFS_ENOGAIN;
	out[0].len = (size_t)n;
	return 0;
}

static int lz4_decode(struct codec_ctx *ctx, const struct chunk_shape *shape,
		      const struct codec_in in[], unsigned n_in, void *dst, size_t len,
		      unsigned flags)
{
	(void)ctx, (void)shape, (void)flags;
	if (n_in != 1 || len == 0 || len > CODEC_CHUNK_MAX || in[0].len > CODEC_CHUNK_MAX)
		return -KVFS_ECODEC;
	if (LZ4_decompress_safe(in[0].buf, dst, (int)in[0].len, (int)len) != (int)len)
		return -KVFS_ECODEC;
	return 0;
}

const struct codec_ops codec_lz4 = {
	.id = CODEC_LZ4,
	.layers = 1,
	.elem_mask = (1u << ELEM_TYPES_) - 1,
	.name = "lz4",
	.bound = lz4_bound,
	.encode = lz4_encode,
	.decode = lz4_decode,
};
