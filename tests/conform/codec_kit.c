// SPDX-License-Identifier: MIT
#include "codec_kit.h"

#include <errno.h>
#include <sys/mman.h>

void codec_kit_init(struct codec_kit *k)
{
	k->n = 0;
	for (unsigned v = 0; v < CODEC_SIMD_BEST; v++) {
		int r = codec_ctx_create(v, &k->ctx[k->n]);

		CHECK(r == 0 || (r == -EOPNOTSUPP && v > 0));
		if (r == 0)
			k->n++;
	}
}

void codec_kit_fini(struct codec_kit *k)
{
	while (k->n)
		codec_ctx_destroy(k->ctx[--k->n]);
}

uint8_t *guarded_end(size_t room)
{
	uint8_t *p;

	room = (room + 4095) & ~(size_t)4095;
	p = mmap(NULL, room + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(p != MAP_FAILED);
	CHECK(mprotect(p + room, 4096, PROT_NONE) == 0);
	return p + room;
}
