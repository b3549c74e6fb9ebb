// SPDX-License-Identifier: MIT
/*
 * The table of codecs, the context, and the choice of a codec for one chunk.
 *
 * Choice. Numeric chunks take the planes form of their tier, unless a sample
 * shrinks to less than half by plain matching (zeros, repeats), which zstd does
 * better; chunks that are half empty (unused rows, f32 that was bf16) take
 * planes-huf in DRAM as well, because planes-fix keeps low planes raw. Chunks
 * with many equal rows are tried with zstd, in DRAM with lz4, as well. Opaque
 * chunks, and numeric ones that planes cannot shrink, go by a sample of a few
 * KiB: LZ4 says whether there are matches, the byte entropy whether Huffman
 * coding alone would gain; with neither, the chunk stays raw and the sample is
 * all it has cost. For DRAM, where raw decodes at the speed of memory, zstd must
 * gain 1/8 over raw and over lz4.
 */
#include "codecs/codec.h"

#include <errno.h>
#include <string.h>
#include <zstd.h>

#include "base/hash.h"
#include "base/mem.h"
#include "codecs/codec_ctx.h"
#include "codecs/ladder.h"

#define PROBE_PIECES 4u
#define PROBE_BYTES 4096u     /* each */
#define REPEAT_ROWS 512u      /* rows looked at for equal ones */
#define REPEAT_RUN 64u        /* of them one after the other */
#define REPEAT_SLOTS 1024u
#define REPEAT_BYTES 64u      /* of a row that stand for it */
#define SPARSE_BITS 5u        /* byte entropy below this: Huffman pays in DRAM too */
#define GAIN(len) ((len) - (len) / 64)       /* at most this, or it is raw */
#define GAIN_DRAM(len) ((len) - (len) / 8)   /* for zstd in DRAM */
#define ZSTD_BYTES_MAX (3u << 20) /* both contexts at CODEC_CHUNK_MAX; tested */
#define ZSTD_DECODING_BYTES_MAX (256u << 10) /* one of them; tested */

static const struct codec_ops *const table[] = {
	&codec_raw, &codec_lz4, &codec_zstd, &codec_planes_huf, &codec_planes_fix,
	&codec_ladder_huf, &codec_ladder_fix, NULL,
};

const struct codec_ops *const *codec_table(void)
{
	return table;
}

const struct codec_ops *codec_by_id(unsigned id)
{
	for (size_t i = 0; table[i]; i++)
		if (table[i]->id == id)
			return table[i];
	return NULL;
}

const struct codec_ops *codec_by_name(const char *name)
{
	for (size_t i = 0; table[i]; i++)
		if (strcmp(table[i]->name, name) == 0)
			return table[i];
	return NULL;
}

static enum codec_simd best_simd(void)
{
#ifdef KVFS_SIMD
	if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
	    __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vbmi2") &&
	    __builtin_cpu_supports("bmi2"))
		return CODEC_SIMD_AVX512;
	/* what has AVX2 and FMA has F16C too, which not all compilers can ask for */
	if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2") &&
	    __builtin_cpu_supports("fma"))
		return CODEC_SIMD_AVX2;
#endif
	return CODEC_SIMD_PORTABLE;
}

static const struct planes_kern *kern_of(enum codec_simd simd)
{
#ifdef KVFS_SIMD
	if (simd == CODEC_SIMD_AVX512)
		return &planes_kern_avx512;
	if (simd == CODEC_SIMD_AVX2)
		return &planes_kern_avx2;
#endif
	(void)simd;
	return &planes_kern_portable;
}

static const struct ladder_kern *ladder_kern_of(enum codec_simd simd)
{
#ifdef KVFS_SIMD
	if (simd == CODEC_SIMD_AVX512)
		return &ladder_kern_avx512;
	if (simd == CODEC_SIMD_AVX2)
		return &ladder_kern_avx2;
#endif
	(void)simd;
	return &ladder_kern_portable;
}

int codec_ctx_create(enum codec_simd simd, struct codec_ctx **ret)
{
	enum codec_simd best = best_simd();
	struct codec_ctx *c;

	if (simd == CODEC_SIMD_BEST)
		simd = best;
	if (simd > best)
		return -EOPNOTSUPP;
	c = mem_zalloc(sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->simd = simd;
	c->kern = kern_of(simd);
	c->ladder_kern = ladder_kern_of(simd);
	*ret = c;
	return 0;
}

void codec_ctx_destroy(struct codec_ctx *c)
{
	if (!c)
		return;
	ZSTD_freeCCtx(c->cctx);
	ZSTD_freeDCtx(c->dctx);
	mem_free(c->lz4_state);
	if (c->planes)
		mem_free_pages(c->planes, sizeof(*c->planes));
	ladder_scratch_free(c->ladder);
	mem_free(c);
}

enum codec_simd codec_ctx_simd(const struct codec_ctx *c)
{
	return c->simd;
}

void codec_ctx_only_raw(struct codec_ctx *c)
{
	c->only_raw = true;
}

size_t codec_ctx_bytes_max(void)
{
	return sizeof(struct codec_ctx) + sizeof(struct planes_scratch) +
	       sizeof(struct ladder_scratch) + sizeof(struct ladder_stats) + lz4_state_bytes() +
	       ZSTD_BYTES_MAX;
}

size_t codec_ctx_bytes_decoding(void)
{
	return sizeof(struct codec_ctx) + sizeof(struct planes_scratch) +
	       sizeof(struct ladder_scratch) + ZSTD_DECODING_BYTES_MAX;
}

size_t codec_ctx_bytes(const struct codec_ctx *c)
{
	return sizeof(*c) + (c->planes ? sizeof(*c->planes) : 0) +
	       ladder_scratch_bytes(c->ladder) +
	       (c->lz4_state ? lz4_state_bytes() : 0) + ZSTD_sizeof_CCtx(c->cctx) +
	       ZSTD_sizeof_DCtx(c->dctx);
}

size_t codec_best_bound(size_t len)
{
	return len ? len : 1; /* raw; the others give up at this length */
}

struct probe {
	uint64_t bytes;    /* looked at */
	uint64_t lz4;      /* what LZ4 makes of them */
	uint64_t bits_256; /* byte entropy, 1/256 bit per byte */
};

static int probe_take(struct codec_ctx *ctx, const uint8_t *src, size_t len, struct probe *ret)
{
	size_t pieces = len > PROBE_PIECES * PROBE_BYTES ? PROBE_PIECES : 1;
	size_t each = len < PROBE_BYTES ? len : PROBE_BYTES;
	struct planes_scratch *s;
	struct probe p = { 0 };
	int r = planes_scratch_get(ctx, &s);

	if (r < 0)
		return r;
	memset(s->hist, 0, sizeof(s->hist));
	for (size_t i = 0; i < pieces; i++) {
		const uint8_t *at = src + (pieces > 1 ? i * (len - each) / (pieces - 1) : 0);
		int64_t n = lz4_probe(ctx, at, each, s->seg[0], sizeof(s->seg[0]));

		if (n < 0)
			return (int)n;
		p.bytes += each;
		p.lz4 += (uint64_t)n;
		for (size_t k = 0; k < each; k++)
			s->hist[at[k]]++;
	}
	p.bits_256 = planes_entropy(s->hist);
	*ret = p;
	return 0;
}

/* 0 when kept; -KVFS_ENOGAIN when longer than max; -ENOMEM. */
static int try_one(struct codec_ctx *ctx, const struct codec_ops *ops,
		   const struct chunk_shape *shape, const void *src, size_t len, size_t max,
		   struct codec_out out[], uint16_t *ret_id)
{
	int r = ops->encode(ctx, shape, src, len, out);

	if (r < 0)
		return r;
	if (out[0].len > max)
		return -KVFS_ENOGAIN;
	*ret_id = ops->id;
	return 0;
}

static int opaque_dram(struct codec_ctx *ctx, const struct probe *p,
		       const struct chunk_shape *shape, const void *src, size_t len,
		       struct codec_out out[], uint16_t *ret_id)
{
	size_t lz4_len = len, max = GAIN_DRAM(len);
	int r;

	if (p->lz4 <= GAIN(p->bytes)) {
		r = try_one(ctx, &codec_lz4, shape, src, len, GAIN(len), out, ret_id);
		if (r != -KVFS_ENOGAIN && r < 0)
			return r;
		if (r == 0) {
			lz4_len = out[0].len;
			if (lz4_len < len / 4)
				return 0; /* little is left to gain */
			max = GAIN_DRAM(lz4_len);
		}
	} else if (p->bits_256 > GAIN_DRAM(8 * 256)) {
		return -KVFS_ENOGAIN;
	}
	r = try_one(ctx, &codec_zstd, shape, src, len, max, out, ret_id);
	if (r != -KVFS_ENOGAIN || lz4_len == len)
		return r;
	return try_one(ctx, &codec_lz4, shape, src, len, GAIN(len), out, ret_id);
}

static int opaque(struct codec_ctx *ctx, enum codec_form form, const struct probe *p,
		  const struct chunk_shape *shape, const void *src, size_t len,
		  struct codec_out out[], uint16_t *ret_id)
{
	int r;

	if (form == CODEC_FORM_DRAM)
		return opaque_dram(ctx, p, shape, src, len, out, ret_id);
	if (p->lz4 <= GAIN(p->bytes))
		return try_one(ctx, &codec_zstd, shape, src, len, GAIN(len), out, ret_id);
	if (p->bits_256 > GAIN(8 * 256) || out[0].cap < len)
		return -KVFS_ENOGAIN;
	r = zstd_pack(ctx, ZSTD_WAY_HUFFMAN, src, len, out[0].buf, GAIN(len), &out[0].len);
	if (r == 0)
		*ret_id = CODEC_ZSTD;
	return r;
}

/*
 * Do at least a quarter of the rows repeat an earlier one? The V rows of a
 * model's first layer do: they depend on nothing but the token. Runs of rows from
 * all of the chunk are looked at, as it may begin with that layer and hold others.
 */
static bool rows_repeat(struct planes_scratch *s, const struct chunk_shape *shape,
			const uint8_t *src, size_t len)
{
	uint64_t *slots = (uint64_t *)(void *)s->seg[0];
	size_t rows = shape->row_bytes ? len / shape->row_bytes : 0, again = 0;
	size_t each = shape->row_bytes < REPEAT_BYTES ? shape->row_bytes : REPEAT_BYTES;
	size_t skip = 0; /* behind each run */

	if (rows > REPEAT_ROWS) {
		skip = (rows - REPEAT_ROWS) / (REPEAT_ROWS / REPEAT_RUN);
		rows = REPEAT_ROWS;
	}
	memset(slots, 0, REPEAT_SLOTS * sizeof(slots[0]));
	for (size_t i = 0; i < rows; i++) {
		const uint8_t *row = src + (i + i / REPEAT_RUN * skip) * shape->row_bytes;
		uint64_t h = hash64(row, each, 1) | 1;
		size_t at = h >> 32 & (REPEAT_SLOTS - 1);

		if (row[0] == 0 && memcmp(row, row + 1, each - 1) == 0)
			continue; /* unused: no form minds those */
		while (slots[at] && slots[at] != h)
			at = (at + 1) & (REPEAT_SLOTS - 1);
		again += slots[at] == h;
		slots[at] = h;
	}
	return rows >= 16 && again >= rows / 4;
}

/* Numeric chunks: the planes form, or @other (may be NULL) where that is smaller. */
static int numeric_best(struct codec_ctx *ctx, const struct codec_ops *planes,
			const struct codec_ops *other, const struct chunk_shape *shape,
			const void *src, size_t len, struct codec_out out[], uint16_t *ret_id)
{
	size_t planes_len = len;
	int r = try_one(ctx, planes, shape, src, len, GAIN(len), out, ret_id);

	if (!other || (r < 0 && r != -KVFS_ENOGAIN))
		return r;
	if (r == 0)
		planes_len = out[0].len;
	r = try_one(ctx, other, shape, src, len, GAIN(planes_len), out, ret_id);
	if (r != -KVFS_ENOGAIN)
		return r;
	return try_one(ctx, planes, shape, src, len, GAIN(len), out, ret_id);
}

int codec_encode_best(struct codec_ctx *ctx, enum codec_form form,
		      const struct chunk_shape *shape, const void *src, size_t len,
		      struct codec_out out[], uint16_t *ret_id, unsigned *ret_layers)
{
	const struct codec_ops *planes = &codec_planes_huf, *other = NULL;
	bool numeric = shape->elem < ELEM_TYPES_ && planes->elem_mask >> shape->elem & 1;
	struct probe p;
	int r;

	if (len == 0 || len > CODEC_CHUNK_MAX || out[0].cap < codec_best_bound(len))
		return -EINVAL;
	*ret_layers = 1;
	if (ctx->only_raw)
		return try_one(ctx, &codec_raw, shape, src, len, len, out, ret_id);
	r = probe_take(ctx, src, len, &p);
	if (r < 0)
		return r;
	if (form == CODEC_FORM_DRAM && p.bits_256 >= SPARSE_BITS * 256)
		planes = &codec_planes_fix;
	r = -KVFS_ENOGAIN;
	if (numeric && p.lz4 < p.bytes / 2) {
		r = opaque(ctx, form, &p, shape, src, len, out, ret_id);
		if (r == 0 && out[0].len > len / 2)
			r = -KVFS_ENOGAIN;
	}
	if (numeric && r == -KVFS_ENOGAIN) {
		if (rows_repeat(ctx->planes, shape, src, len))
			other = form == CODEC_FORM_SSD ? &codec_zstd : &codec_lz4;
		r = numeric_best(ctx, planes, other, shape, src, len, out, ret_id);
	}
	if (r == -KVFS_ENOGAIN)
		r = opaque(ctx, form, &p, shape, src, len, out, ret_id);
	if (r == -KVFS_ENOGAIN)
		r = try_one(ctx, &codec_raw, shape, src, len, len, out, ret_id);
	return r;
}

int codec_encode_layers(struct codec_ctx *ctx, enum codec_form form,
			const struct chunk_shape *shape, const void *src, size_t len,
			struct codec_out out[], uint16_t *ret_id, unsigned *ret_layers)
{
	const struct codec_ops *ops = form == CODEC_FORM_SSD ? &codec_ladder_huf
							     : &codec_ladder_fix;
	struct probe p;
	size_t sum = 0;
	int r;

	if (len == 0 || len > CODEC_CHUNK_MAX || out[0].cap < codec_best_bound(len))
		return -EINVAL;
	if (ctx->only_raw)
		return codec_encode_best(ctx, form, shape, src, len, out, ret_id, ret_layers);
	r = probe_take(ctx, src, len, &p);
	if (r < 0)
		return r;
	r = -KVFS_ENOGAIN;
	if (shape->elem < ELEM_TYPES_ && ops->elem_mask >> shape->elem & 1 &&
	    p.lz4 >= p.bytes / 2 && !rows_repeat(ctx->planes, shape, src, len))
		r = ops->encode(ctx, shape, src, len, out);
	for (unsigned i = 0; r == 0 && i < ops->layers; i++)
		sum += out[i].len;
	if (r == -KVFS_ENOGAIN || sum > GAIN(len))
		return codec_encode_best(ctx, form, shape, src, len, out, ret_id, ret_layers);
	*ret_id = ops->id;
	*ret_layers = ops->layers;
	return r;
}

int codec_decode(struct codec_ctx *ctx, unsigned id, const struct chunk_shape *shape,
		 const struct codec_in in[], unsigned n_in, void *dst, size_t len,
		 unsigned flags)
{
	const struct codec_ops *ops = codec_by_id(id);

	if (id == CODEC_HOLE) {
		memset(dst, 0, len);
		return 0;
	}
	return ops ? ops->decode(ctx, shape, in, n_in, dst, len, flags) : -KVFS_ECODEC;
}
