// SPDX-License-Identifier: MIT
/*
 * Conformance of every codec of one layer in the table (ladder_conform.c has the
 * others): whatever the data, length, alignment
 * and element type, encode gives the same bytes in every SIMD version, and
 * decode in every version gives the original. All buffers end at a page that
 * cannot be touched, so an access beyond the end is a crash here; the bytes
 * before them are checked for stray writes.
 *
 * codec_conform [SEED]   Exit 0 passed, 1 failed.
 */
#include <string.h>

#include "codec_data.h"
#include "codec_kit.h"

#define ROOM (4u << 20)
#define CANARY 0xa5
#define CANARY_BYTES 64u

struct bench {
	struct codec_kit kit;
	uint8_t *src_end, *enc_end, *ref_end, *dst_end; /* each at its guard page */
	size_t cases, encoded;
};

static void canary_set(uint8_t *p)
{
	memset(p - CANARY_BYTES, CANARY, CANARY_BYTES);
}

static bool canary_ok(const uint8_t *p)
{
	for (unsigned i = 1; i <= CANARY_BYTES; i++)
		if (p[-(int)i] != CANARY)
			return false;
	return true;
}

struct one {
	const struct codec_ops *ops;
	struct chunk_shape shape;
	enum codec_data kind;
	size_t len;
	unsigned skew; /* bytes between the data's end and the guard page */
};

static void fail_at(const struct one *o, const char *what, unsigned simd, int r)
{
	CHECK_MSG(0, "%s: %s elem %u kind %s len %zu row %u transposed %u skew %u simd %u r %d",
		  what, o->ops->name, o->shape.elem, codec_data_name(o->kind), o->len,
		  o->shape.row_bytes, o->shape.transposed, o->skew, simd, r);
}

/* Decodes enc with every version. */
static void decode_all(struct bench *b, const struct one *o, const uint8_t *enc, size_t enc_len)
{
	uint8_t *src = b->src_end - o->len - o->skew, *dst = b->dst_end - o->len - o->skew;

	for (unsigned v = 0; v < b->kit.n; v++) {
		struct codec_in in = { enc, enc_len };
		int r;

		memset(dst, 0x5a, o->len + o->skew);
		canary_set(dst);
		r = o->ops->decode(b->kit.ctx[v], &o->shape, &in, 1, dst, o->len,
				   (v ^ o->skew ^ o->len >> 7) & 1 ? CODEC_DECODE_STREAM : 0);
		if (r != 0 || memcmp(dst, src, o->len) != 0)
			fail_at(o, "decode", v, r);
		for (unsigned i = 0; i < o->skew; i++)
			if (dst[o->len + i] != 0x5a)
				fail_at(o, "written behind the end", v, 0);
		if (!canary_ok(dst))
			fail_at(o, "written before the start", v, 0);
	}
}

static void one_case(struct bench *b, const struct one *o, uint64_t seed)
{
	uint8_t *src = b->src_end - o->len - o->skew, *ref = NULL;
	uint32_t cols = o->shape.row_bytes ? o->shape.row_bytes : 100;
	size_t bound = o->ops->bound(&o->shape, o->len, 0), ref_len = 0;
	int ref_r = 0;

	codec_data_fill(o->kind, o->shape.elem, cols / elem_bytes(o->shape.elem) + 1, seed, src,
			o->len);
	for (unsigned v = 0; v < b->kit.n; v++) {
		uint8_t *enc = b->enc_end - bound;
		struct codec_out out = { enc, bound, 0 };
		int r;

		canary_set(enc);
		r = o->ops->encode(b->kit.ctx[v], &o->shape, src, o->len, &out);
		if (!canary_ok(enc))
			fail_at(o, "encode wrote before the start", v, 0);
		if (v == 0) {
			ref_r = r;
			ref_len = out.len;
			ref = b->ref_end - ref_len;
			if (r == 0)
				memcpy(ref, enc, ref_len);
		} else if (r != ref_r ||
			   (r == 0 && (out.len != ref_len || memcmp(enc, ref, ref_len)))) {
			fail_at(o, "versions differ", v, r);
		}
		if (r != 0 && r != -KVFS_ENOGAIN)
			fail_at(o, "encode", v, r);
		if (r == 0 && out.len >= o->len && o->ops->id != CODEC_RAW)
			fail_at(o, "grew", v, r);
	}
	b->cases++;
	if (ref_r == 0) {
		b->encoded++;
		decode_all(b, o, ref, ref_len);
	}
}

/* Around the borders of vectors, blocks, runs and segments, for eb bytes. */
static size_t make_sizes(unsigned eb, size_t *sizes)
{
	static const size_t borders[] = { 64, 128, 512, 1024, 4096, 8192, 32768, 65536 };
	size_t n = 0;

	for (size_t i = 1; i <= 70; i++)
		sizes[n++] = i;
	for (unsigned b = 0; b < sizeof(borders) / sizeof(borders[0]); b++)
		for (int d = -1; d <= 1; d++) {
			sizes[n++] = borders[b] * eb + (size_t)d;
			sizes[n++] = borders[b] + (size_t)(d * 63);
		}
	sizes[n++] = 70000;
	sizes[n++] = 131072u * eb + 3;
	return n;
}

static void codec_cases(struct bench *b, const struct codec_ops *ops, struct rng *r)
{
	static const uint32_t rows[] = { 0, 2, 34, 128, 200, 256, 1000, 2048, 8192 };
	size_t sizes[256];

	for (unsigned elem = 0; elem < ELEM_TYPES_; elem++) {
		size_t n = make_sizes(elem_bytes(elem), sizes);

		if (!(ops->elem_mask >> elem & 1))
			continue;
		for (unsigned kind = 0; kind < DATA_KINDS_; kind++)
			for (size_t i = 0; i < n && codec_data_available(kind); i++) {
				struct one o = { .ops = ops, .kind = kind, .len = sizes[i] };
				uint64_t x = rng_next(r);

				o.shape.elem = (uint8_t)elem;
				o.shape.row_bytes = rows[x % 9];
				o.shape.transposed = x >> 8 & 1;
				o.skew = x >> 16 & 1 ? 0 : x >> 20 & 63;
				one_case(b, &o, x);
			}
	}
}

int main(int argc, char **argv)
{
	struct rng r = { argc > 1 ? strtoull(argv[1], NULL, 0) : 1 };
	struct bench b = { 0 };

	b.src_end = guarded_end(ROOM);
	b.enc_end = guarded_end(ROOM);
	b.ref_end = guarded_end(ROOM);
	b.dst_end = guarded_end(ROOM);
	codec_kit_init(&b.kit);
	for (const struct codec_ops *const *t = codec_table(); *t; t++) {
		CHECK(codec_by_id((*t)->id) == *t && codec_by_name((*t)->name) == *t);
		if ((*t)->layers > 1)
			continue;
		codec_cases(&b, *t, &r);
		printf("%-10s ok\n", (*t)->name);
	}
	printf("%zu cases, %zu encoded, %u versions\n", b.cases, b.encoded, b.kit.n);
	codec_kit_fini(&b.kit);
	return 0;
}
