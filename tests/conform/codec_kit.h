/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_TESTS_CODEC_KIT_H
#define KVCACHEFS_TESTS_CODEC_KIT_H
/* What the codec tests share: contexts of every version, guarded buffers. */
#include <stdint.h>

#include "codecs/codec.h"
#include "testlib.h"

/* CHECK that says more when it fails. */
#define CHECK_MSG(cond, ...)                                               \
	do {                                                               \
		if (!(cond)) {                                             \
			fprintf(stderr, __VA_ARGS__);                      \
			fputc('\n', stderr);                               \
			test_fail(__FILE__, __LINE__, #cond);              \
		}                                                          \
	} while (0)

/* One context per version that this CPU and build have. */
struct codec_kit {
	struct codec_ctx *ctx[CODEC_SIMD_BEST];
	unsigned n;
};
void codec_kit_init(struct codec_kit *k);
void codec_kit_fini(struct codec_kit *k);

/* The end of @room bytes that are followed by a page that cannot be touched.
 * Never freed. */
uint8_t *guarded_end(size_t room);

#endif
