/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_CODECS_CODEC_H
#define KVCACHEFS_CODECS_CODEC_H
/*
 * A codec turns the bytes of one chunk into one or more layers and back. Layer
 * 0 alone gives the lowest quality, all layers give every bit; most codecs have
 * one layer. Chunks are independent. Codecs are pure: no I/O, no
 * clock, no globals but constant tables; one struct codec_ctx per thread holds
 * the scratch memory. Encoded bytes carry no checksum and no length of their
 * own: the chunk index has both, and has verified them before decode is called
 * - but decode must be safe on any bytes: it never reads outside its inputs,
 * never writes outside dst[0..len), and answers -KVFS_ECODEC.
 *
 * All versions of one codec (portable, AVX2, AVX-512) give identical bytes in
 * both directions. The version is chosen when the context is created.
 */
#include <stddef.h>
#include <stdint.h>

#include "base/elem.h"
#include "base/err.h"

#define CODEC_LAYERS_MAX 8
#define CODEC_CHUNK_MAX (4u << 20) /* bytes of one chunk, decoded */

/* Written into object files: never renumber. */
enum codec_id {
	CODEC_HOLE = 0,       /* no stored bytes; decodes to zeros */
	CODEC_RAW = 1,
	CODEC_LZ4 = 2,
	CODEC_ZSTD = 3,
	CODEC_PLANES_HUF = 4, /* exponent plane Huffman-coded, rest raw: for SSD */
	CODEC_PLANES_FIX = 5, /* 4-bit exponent codes with escapes: for DRAM */
	CODEC_LADDER_HUF = 6, /* layers (ladder.h), the first Huffman-coded: for SSD */
	CODEC_LADDER_FIX = 7, /* the same with codes of fixed width: for DRAM */
	CODEC_IDS_
};

enum codec_simd { CODEC_SIMD_PORTABLE, CODEC_SIMD_AVX2, CODEC_SIMD_AVX512, CODEC_SIMD_BEST };

struct codec_ctx; /* scratch of one thread: zstd contexts, planes, counters */

/* @simd limits what is used (tests force each); BEST asks the CPU.
 * -ENOMEM; -EOPNOTSUPP when the CPU or the build lacks @simd. */
WUR int codec_ctx_create(enum codec_simd simd, struct codec_ctx **ret);
void codec_ctx_destroy(struct codec_ctx *c); /* NULL ok */
enum codec_simd codec_ctx_simd(const struct codec_ctx *c);
/* From now on codec_encode_best and codec_encode_layers choose raw for everything. */
void codec_ctx_only_raw(struct codec_ctx *c);
/* Upper bound of memory that one context ever holds, for the dram= budget. */
size_t codec_ctx_bytes_max(void);
/* The same of one that only ever decodes. */
size_t codec_ctx_bytes_decoding(void);

struct codec_out {
	void *buf;  /* owned by the caller */
	size_t cap; /* room in buf */
	size_t len; /* set by encode */
};
struct codec_in {
	const void *buf;
	size_t len;
};

struct codec_ops {
	uint16_t id;        /* enum codec_id */
	uint8_t layers;     /* how many it makes, 1..CODEC_LAYERS_MAX */
	uint32_t elem_mask; /* bit (1u << enum elem_type) set: accepted */
	const char *name;   /* "planes-huf": shown in user.kvcache.codec */

	/* Room that encode can need for @layer; never 0. */
	size_t (*bound)(const struct chunk_shape *shape, size_t len, unsigned layer);

	/* Encodes src[0..len) (len 1..CODEC_CHUNK_MAX, any alignment) into
	 * out[0..layers). Never writes beyond cap, but may need all of bound.
	 * 0; -KVFS_ENOGAIN when the result would not be smaller than len (the
	 * caller stores it raw; raw itself always succeeds) or than cap; -EINVAL
	 * for an element type or length it does not take; -ENOMEM. On failure
	 * the contents of out are undefined. */
	int (*encode)(struct codec_ctx *ctx, const struct chunk_shape *shape,
		      const void *src, size_t len, struct codec_out out[]);

	/* Decodes the first n_in layers into dst[0..len) (any alignment; regular
	 * stores, the caller decides about non-temporal ones by DECODE_STREAM):
	 * exact with all of them, with fewer at that level.
	 * 0; -KVFS_ECODEC; -ENOMEM. dst is undefined on failure. */
	int (*decode)(struct codec_ctx *ctx, const struct chunk_shape *shape,
		      const struct codec_in in[], unsigned n_in, void *dst, size_t len,
		      unsigned flags);

	/* Id of the codec that differs in layer 0 only, 0 when there is none. */
	uint16_t twin;
	/* Turns layer 0 of this codec into layer 0 of its twin, without the others:
	 * the same bytes as the twin's encode gives. @len: of the chunk decoded.
	 * NULL without twin. 0; -KVFS_ECODEC; -KVFS_ENOGAIN when it does not fit into
	 * to->cap (len suffices for what encode made); -ENOMEM. */
	int (*transcode)(struct codec_ctx *ctx, const struct chunk_shape *shape,
			 const void *layer0, size_t layer0_len, size_t len,
			 struct codec_out *to);
};

/* dst is large and not read again soon: stores may bypass the cache, where that pays. */
#define CODEC_DECODE_STREAM 1u

/* NULL for an unknown id (and for CODEC_HOLE). */
const struct codec_ops *codec_by_id(unsigned id);
const struct codec_ops *codec_by_name(const char *name);
/* The table, ends with NULL. */
const struct codec_ops *const *codec_table(void);

/*
 * The choice for one chunk: what fits its shape and gains at least 1/64, else
 * raw. @form says for which tier.
 * Numeric chunks: planes in the tier's form, unless they repeat themselves or
 * are half empty.
 * Opaque chunks: a cheap probe (lz4 and byte entropy of a sample) decides what
 * is tried; for DRAM zstd must gain 1/8, because raw decodes so much faster.
 * @ret_id is the codec used; out[] as for encode (each buf must have
 * codec_best_bound(len) room). 0, -ENOMEM, -EINVAL (len, room).
 */
enum codec_form { CODEC_FORM_SSD, CODEC_FORM_DRAM };
WUR int codec_encode_best(struct codec_ctx *ctx, enum codec_form form,
			  const struct chunk_shape *shape, const void *src, size_t len,
			  struct codec_out out[], uint16_t *ret_id, unsigned *ret_layers);
size_t codec_best_bound(size_t len);

/*
 * The same for a chunk that is to have levels: ladder in the tier's form where it
 * takes the chunk and gains at least 1/64 with all layers, else, and for chunks that
 * repeat themselves, what codec_encode_best chooses: one layer, exact at every level.
 * out[] has CODEC_LADDER_LAYERS entries, each with codec_best_bound(len) room.
 */
#define CODEC_LADDER_LAYERS 4u
WUR int codec_encode_layers(struct codec_ctx *ctx, enum codec_form form,
			    const struct chunk_shape *shape, const void *src, size_t len,
			    struct codec_out out[], uint16_t *ret_id, unsigned *ret_layers);

/* Decode by id; CODEC_HOLE fills zeros, an unknown id is -KVFS_ECODEC. */
WUR int codec_decode(struct codec_ctx *ctx, unsigned id, const struct chunk_shape *shape,
		     const struct codec_in in[], unsigned n_in, void *dst, size_t len,
		     unsigned flags);

#endif
