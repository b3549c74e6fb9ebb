/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_CODECS_CODEC_CTX_H
#define KVCACHEFS_CODECS_CODEC_CTX_H
/*
 * Inside of a codec context and what the codecs' files share. Private to
 * src/codecs. A context belongs to one thread; everything in it is owned.
 */
#include <stdbool.h>
#include <stdint.h>

#include "codecs/codec.h"
#include "codecs/planes.h"
#include "codecs/simd/kernels.h"
#include "codecs/simd/ladder_kern.h"

struct ladder_scratch;
struct ZSTD_CCtx_s;
struct ZSTD_DCtx_s;

struct codec_ctx {
	enum codec_simd simd;             /* never CODEC_SIMD_BEST */
	bool only_raw;
	const struct planes_kern *kern;
	const struct ladder_kern *ladder_kern;
	struct ZSTD_CCtx_s *cctx;         /* made when first needed, as is dctx */
	struct ZSTD_DCtx_s *dctx;
	void *lz4_state;                  /* made when first needed */
	struct planes_scratch *planes;    /* made when first needed */
	struct ladder_scratch *ladder;    /* made when first needed */
};

/* How zstd_pack compresses. */
enum zstd_way {
	ZSTD_WAY_GENERAL, /* matches and entropy coding, for opaque bytes */
	ZSTD_WAY_HUFFMAN, /* entropy coding only: several times faster */
};

/* One zstd frame of src into dst[0..cap). 0 and *ret_len; -KVFS_ENOGAIN when it
 * does not fit into cap; -ENOMEM. (zstd.c) */
WUR int zstd_pack(struct codec_ctx *ctx, enum zstd_way way, const void *src, size_t len,
		  void *dst, size_t cap, size_t *ret_len);
/* Exactly len bytes, or -KVFS_ECODEC; -ENOMEM. (zstd.c) */
WUR int zstd_unpack(struct codec_ctx *ctx, const void *src, size_t src_len, void *dst,
		    size_t len);
/* Compressed length of a small sample, len when it does not shrink; -ENOMEM. (lz4.c) */
WUR int64_t lz4_probe(struct codec_ctx *ctx, const void *src, size_t len, void *dst, size_t cap);

size_t lz4_state_bytes(void);
/* What the context holds now; never more than codec_ctx_bytes_max(). */
size_t codec_ctx_bytes(const struct codec_ctx *c);

/* The scratch of the planes codecs: -ENOMEM. (planes.c) */
WUR int planes_scratch_get(struct codec_ctx *ctx, struct planes_scratch **ret);

extern const struct codec_ops codec_raw, codec_lz4, codec_zstd, codec_planes_huf,
	codec_planes_fix, codec_ladder_huf, codec_ladder_fix;

#endif
