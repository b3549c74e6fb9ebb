/* SPDX-License-Identifier: MIT */
#ifndef KVLM_QUANT_H
#define KVLM_QUANT_H
/*
 * Ways to lose something: plain reference quantisers, the baseline that better
 * codecs are held against, of which nothing is packed and the bits are only
 * counted; and kvcachefs' own codec. Values are replaced by what is read back.
 *
 *   axis:B    K: one range per channel over all tokens; V: one per token
 *   kivi:B    K: one range per channel and 32 tokens; V: one per token and 32
 *             channels of a head (KIVI's grouping, without its exact window)
 *   window:W  keeps the first 4 and the last W tokens, drops the others
 *   window:S, knorm:S, keydiff:S  keep the share S of the tokens ("0.25"), the
 *             first 4 among them, the others as codecs/drop.h chooses
 *   ladder:L  what a file stored as layers gives back at level L (levels.h)
 *   exact     nothing
 *
 * A range is a minimum and a step, both as f16 (32 bits are counted for it);
 * codes are round((x - min) / step), 0..2^B-1. "kivi:2+4+128" keeps the first 4
 * and the last 128 tokens as they are.
 */
#include <stdbool.h>
#include <stdint.h>

#include "cache.h"
#include "codecs/drop.h"
#include "kv.h"
#include "msg.h"

enum quant_kind { QUANT_EXACT, QUANT_AXIS, QUANT_KIVI, QUANT_LADDER, QUANT_DROP };

struct quant {
	enum quant_kind kind;
	uint32_t bits; /* QUANT_LADDER: the level */
	uint32_t sinks, recent;  /* cells kept exact */
	struct drop_params drop; /* QUANT_DROP; share 0: sinks + recent cells stay */
};

WUR int quant_parse(const char *s, struct quant *ret, struct msg *m);
/* Mean bits per value of the context's K and V, ranges and dropped tokens
 * included; @value_bits is what an exact value takes. Not for QUANT_LADDER. */
double quant_bits(const struct quant *q, uint32_t cells, uint32_t heads, uint32_t dim,
		  uint32_t value_bits);
/* One tensor of @cells rows [heads][dim], in place. Not for QUANT_DROP and
 * QUANT_LADDER. */
void quant_tensor(const struct quant *q, float *x, uint32_t cells, uint32_t heads, uint32_t dim,
		  bool v);
/* How many cells stay; all but of QUANT_DROP. */
uint32_t quant_cells(const struct quant *q, uint32_t cells);
/* A copy of @kv as it would be read back, and its mean bits per value. */
WUR int quant_kv(const struct quant *q, const struct kv *kv, struct kv **ret, double *ret_bits,
		 struct msg *m);

#endif
