// SPDX-License-Identifier: MIT
/*
 * Damaged encodings: every codec must answer 0 or -KVFS_ECODEC, touch nothing
 * outside its buffers (which end at guard pages), and do the same in every SIMD
 * version. Damage is flipped bits, most of them near the start where lengths and
 * modes lie, cut ends, extra bytes, and another decoded length. Of codecs with
 * layers any number of layers is decoded, and layer 0 made into the twin's.
 *
 * codec_hostile [SEED [ROUNDS]]
 */
#include <errno.h>
#include <string.h>

#include "codec_data.h"
#include "codec_kit.h"

#define ROOM (1u << 20)

struct bench {
	struct codec_kit kit;
	uint8_t *enc_end[CODEC_LAYERS_MAX], *dst_end, *ref;
	size_t decoded, refused;
};

struct sample {
	const struct codec_ops *ops;
	struct chunk_shape shape;
	uint8_t *enc[CODEC_LAYERS_MAX];
	size_t enc_len[CODEC_LAYERS_MAX], len;
};

static void sample_free(struct sample *s)
{
	for (unsigned i = 0; i < s->ops->layers; i++)
		free(s->enc[i]);
}

static bool sample_make(struct bench *b, const struct codec_ops *ops, struct rng *r,
			struct sample *s)
{
	static const size_t lens[] = { 600, 2048, 9000, 70001, 200000 };
	uint64_t x = rng_next(r);
	struct codec_out out[CODEC_LAYERS_MAX];
	uint8_t *src;
	int e;

	*s = (struct sample){ .ops = ops, .len = lens[x % 5] };
	s->shape.elem = (uint8_t)(1 + (x >> 8) % (ELEM_TYPES_ - 1));
	s->shape.row_bytes = ops->layers > 1 || x >> 16 & 1 ? 256 : 0;
	s->shape.transposed = x >> 17 & 1;
	src = malloc(s->len);
	CHECK(src);
	for (unsigned i = 0; i < ops->layers; i++) {
		out[i] = (struct codec_out){ malloc(ROOM), ROOM, 0 };
		CHECK((s->enc[i] = out[i].buf));
	}
	codec_data_fill((enum codec_data)((x >> 24) % DATA_REAL), s->shape.elem, 128, x, src,
			s->len);
	e = ops->elem_mask >> s->shape.elem & 1
		    ? ops->encode(b->kit.ctx[0], &s->shape, src, s->len, out)
		    : -EINVAL;
	free(src);
	for (unsigned i = 0; i < ops->layers; i++)
		s->enc_len[i] = out[i].len;
	if (e != 0)
		sample_free(s);
	return e == 0;
}

/* Damages enc[0..*len) in place; room for 16 bytes more. */
static void damage(struct rng *r, uint8_t *enc, size_t *len, size_t *dst_len)
{
	uint64_t x = rng_next(r);
	unsigned flips = x % 4;

	for (unsigned i = 0; i < flips && *len; i++) {
		uint64_t y = rng_next(r);
		size_t near = *len < 96 ? *len : 96;
		size_t at = y & 3 ? (y >> 8) % near : (y >> 8) % *len;

		enc[at] = y >> 4 & 1 ? (uint8_t)(y >> 56) : enc[at] ^ (uint8_t)(1 << (y >> 60 & 7));
	}
	if ((x >> 8) % 4 == 0)
		*len -= (x >> 16) % (*len + 1);
	else if ((x >> 8) % 8 == 1)
		for (unsigned i = 0; i < 1 + (x >> 16) % 16; i++)
			enc[(*len)++] = (uint8_t)(x >> 24);
	if ((x >> 40) % 8 == 0)
		*dst_len = (x >> 44) % (2 * *dst_len);
}

/* Layer 0 into the twin's: alike in all versions. */
static void one_transcode(struct bench *b, const struct sample *s, const struct codec_in *in,
			  size_t dst_len)
{
	int first = 0;

	for (unsigned v = 0; v < b->kit.n && s->ops->transcode; v++) {
		struct codec_out out = { b->dst_end - dst_len, dst_len, 0 };
		int e;

		e = s->ops->transcode(b->kit.ctx[v], &s->shape, in->buf, in->len, dst_len, &out);
		CHECK_MSG(e == 0 || e == -KVFS_ECODEC || e == -KVFS_ENOGAIN, "%d", e);
		if (v == 0) {
			first = e;
			memcpy(b->ref, out.buf, out.len);
		}
		CHECK_MSG(e == first, "%s: versions differ", s->ops->name);
		CHECK(e != 0 || memcmp(b->ref, out.buf, out.len) == 0);
	}
}

static void one_round(struct bench *b, const struct sample *s, struct rng *r)
{
	unsigned n_in = 1 + rng_next(r) % s->ops->layers, hurt = rng_next(r) % n_in;
	uint8_t *bytes = malloc(s->enc_len[hurt] + 16);
	struct codec_in in[CODEC_LAYERS_MAX];
	size_t dst_len = s->len;
	int first = 0;

	CHECK(bytes);
	for (unsigned i = 0; i < n_in; i++) {
		size_t len = s->enc_len[i];

		if (i == hurt)
			damage(r, memcpy(bytes, s->enc[i], len), &len, &dst_len);
		in[i] = (struct codec_in){
			memcpy(b->enc_end[i] - len, i == hurt ? bytes : s->enc[i], len), len };
	}
	for (unsigned v = 0; v < b->kit.n; v++) {
		uint8_t *dst = b->dst_end - dst_len;
		int e;

		dst[-1] = 0xa5;
		e = s->ops->decode(b->kit.ctx[v], &s->shape, in, n_in, dst, dst_len, 0);
		CHECK_MSG(e == 0 || e == -KVFS_ECODEC, "%s: %d", s->ops->name, e);
		CHECK(dst[-1] == 0xa5);
		if (v == 0) {
			first = e;
			memcpy(b->ref, dst, dst_len);
			*(e ? &b->refused : &b->decoded) += 1;
		}
		CHECK_MSG(e == first, "%s: versions differ", s->ops->name);
		CHECK(e != 0 || memcmp(b->ref, dst, dst_len) == 0);
	}
	one_transcode(b, s, in, dst_len);
	free(bytes);
}

int main(int argc, char **argv)
{
	struct rng r = { argc > 1 ? strtoull(argv[1], NULL, 0) : 7 };
	unsigned rounds = argc > 2 ? (unsigned)atoi(argv[2]) : 60;
	struct bench b = { .dst_end = guarded_end(ROOM), .ref = malloc(ROOM) };

	CHECK(b.ref);
	for (unsigned i = 0; i < CODEC_LAYERS_MAX; i++)
		b.enc_end[i] = guarded_end(ROOM);
	codec_kit_init(&b.kit);
	for (const struct codec_ops *const *t = codec_table(); *t; t++) {
		b.decoded = b.refused = 0;
		for (unsigned i = 0; i < rounds; i++) {
			struct sample s;

			if (!sample_make(&b, *t, &r, &s))
				continue;
			for (unsigned k = 0; k < 40; k++)
				one_round(&b, &s, &r);
			sample_free(&s);
		}
		printf("%-10s %zu decoded, %zu refused\n", (*t)->name, b.decoded, b.refused);
	}
	codec_kit_fini(&b.kit);
	free(b.ref);
	return 0;
}
