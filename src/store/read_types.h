/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_STORE_READ_TYPES_H
#define KVCACHEFS_STORE_READ_TYPES_H
/* The reader's body; shared by read.c, fetch.c, decode_all.c and codec_pool.c. */
#include "base/lock.h"
#include "store/read.h"
#include "store/window.h"

#define CODEC_POOL_MAX 256
#define READER_ZEROS (1u << 20)

/* Codec contexts, made when first needed, used in LIFO order. */
struct codec_pool {
	struct lock lock;
	struct cond cond;
	struct budget *budget;     /* borrowed */
	struct codec_ctx *idle[CODEC_POOL_MAX] GUARDED; /* lock */
	unsigned n_idle GUARDED, n_made GUARDED; /* lock */
	unsigned max, n_forced;    /* most; of them, made even when the budget is full */
};
/* -ENOMEM, also when the budget has no room for the first. */
WUR int codec_pool_init(struct codec_pool *p, struct budget *b, unsigned max);
void codec_pool_fini(struct codec_pool *p);
/* May wait; whoever holds one must not wait for anything. */
struct codec_ctx *codec_pool_get(struct codec_pool *p);
void codec_pool_put(struct codec_pool *p, struct codec_ctx *c);

struct reader {
	struct reader_config cfg;
	struct window w;
	struct codec_pool codecs;
	void *zeros;               /* READER_ZEROS readable bytes; costs no memory */
	_Atomic uint64_t decodes, decoded_bytes, fetches, fetched_bytes, ahead, checksum_errors;
	_Atomic double decode_Bps;
};

#endif
