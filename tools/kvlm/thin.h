/* SPDX-License-Identifier: MIT */
#ifndef KVLM_THIN_H
#define KVLM_THIN_H
/*
 * Caches that lose tokens: which cells stay (codecs/drop.h chooses), and a cache
 * of only those. The tokens of the context and the positions stay what they were.
 */
#include <stdint.h>

#include "cache.h"
#include "kv.h"
#include "msg.h"
#include "quant.h"

/* The cells of @c that stay, ascending; malloc'ed. @q is a QUANT_DROP. */
WUR int thin_choose(const struct quant *q, const struct cache *c, uint32_t heads, uint32_t **ret,
		    uint32_t *ret_n, struct msg *m);
/* Drops the others from @kv. */
WUR int thin_kv(const struct quant *q, struct kv *kv, struct msg *m);

#endif
