/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_TESTS_CODEC_GOLDEN_H
#define KVCACHEFS_TESTS_CODEC_GOLDEN_H
/*
 * Golden files of the codecs, also the corpus of the decode fuzzer:
 *   0  u8   codec id      1  u8   element type
 *   2  u8   layers; 0: one    3  u8   0
 *   4  u32  decoded length
 *   8  u64  XXH3 of the decoded bytes, seed 0; 0 in bad ones
 *  16  with layers: a u32 per layer, its bytes; then the encoded bytes, layer by layer
 * golden/codec/good/NAME.kvc must decode for ever. golden/codec/bad/ERROR-NAME.kvc
 * must be refused with that error.
 */
#include <stdint.h>

#include "base/le.h"
#include "codecs/codec.h"

#define GOLDEN_HEAD 16u

struct golden {
	uint8_t codec, elem, layers;
	uint32_t len;
	uint64_t hash;
};

static inline void golden_get(const uint8_t *p, struct golden *g)
{
	g->codec = p[0];
	g->elem = p[1];
	g->layers = p[2];
	g->len = le32_get(p + 4);
	g->hash = le64_get(p + 8);
}

static inline void golden_put(uint8_t *p, const struct golden *g)
{
	p[0] = g->codec;
	p[1] = g->elem;
	p[2] = g->layers;
	p[3] = 0;
	le32_put(p + 4, g->len);
	le64_put(p + 8, g->hash);
}

/* The layers of a file of @len bytes; lengths that are too large are cut. How many. */
static inline unsigned golden_layers(const uint8_t *p, size_t len, struct codec_in in[])
{
	unsigned n = p[2] > CODEC_LAYERS_MAX ? CODEC_LAYERS_MAX : p[2];
	size_t at = GOLDEN_HEAD + 4 * n;

	in[0] = (struct codec_in){ p + GOLDEN_HEAD, len - GOLDEN_HEAD };
	if (n == 0 || at > len)
		return 1;
	for (unsigned i = 0; i < n; i++) {
		size_t each = le32_get(p + GOLDEN_HEAD + 4 * i);

		if (each > len - at)
			each = len - at;
		in[i] = (struct codec_in){ p + at, each };
		at += each;
	}
	return n;
}

#endif
