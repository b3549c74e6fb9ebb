/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_TESTS_CODEC_GOLDEN_H
#define KVCACHEFS_TESTS_CODEC_GOLDEN_H
/*
 * Golden files of the codecs, also the corpus of the decode fuzzer:
 *   0  u8   codec id      1  u8   element type     2  u16  0
 *   4  u32  decoded length
 *   8  u64  XXH3 of the decoded bytes, seed 0; 0 in bad ones
 *  16  the encoded bytes
 * golden/codec/good/NAME.kvc must decode for ever. golden/codec/bad/ERROR-NAME.kvc
 * must be refused with that error.
 */
#include <stdint.h>

#include "base/le.h"

#define GOLDEN_HEAD 16u

struct golden {
	uint8_t codec, elem;
	uint32_t len;
	uint64_t hash;
};

static inline void golden_get(const uint8_t *p, struct golden *g)
{
	g->codec = p[0];
	g->elem = p[1];
	g->len = le32_get(p + 4);
	g->hash = le64_get(p + 8);
}

static inline void golden_put(uint8_t *p, const struct golden *g)
{
	p[0] = g->codec;
	p[1] = g->elem;
	le16_put(p + 2, 0);
	le32_put(p + 4, g->len);
	le64_put(p + 8, g->hash);
}

#endif
