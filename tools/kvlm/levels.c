/* SPDX-License-Identifier: MIT */
#include "levels.h"

#include <errno.h>
#include <stdlib.h>

#include "base/elem.h"
#include "codecs/codec.h"
#include "kvcachefs/format.h"

struct levels {
	unsigned level;
	enum dtype dtype;
	uint32_t heads, dim;
	struct codec_ctx *ctx; /* owned */
	const struct codec_ops *ops;
	uint8_t *plain;                         /* owned; one chunk's bytes */
	struct codec_out out[CODEC_LAYERS_MAX]; /* bufs owned */
	double bits, values;
};

unsigned levels_count(void)
{
	return codec_by_id(CODEC_LADDER_HUF)->layers;
}

static unsigned elem_of(enum dtype t)
{
	return t == DTYPE_BF16 ? ELEM_BF16 : t == DTYPE_F16 ? ELEM_F16 : ELEM_F32;
}

static int alloc_buffers(struct levels *l)
{
	struct chunk_shape shape = { .elem = (uint8_t)elem_of(l->dtype) };
	size_t len = (size_t)LEVELS_TOKENS * l->heads * l->dim * dtype_bytes(l->dtype);

	if (len > CODEC_CHUNK_MAX)
		return -EINVAL;
	l->plain = malloc(len);
	for (unsigned i = 0; i < l->ops->layers; i++) {
		l->out[i].cap = l->ops->bound(&shape, len, i);
		l->out[i].buf = malloc(l->out[i].cap);
		if (!l->out[i].buf)
			return -ENOMEM;
	}
	return l->plain ? 0 : -ENOMEM;
}

int levels_create(unsigned level, enum dtype t, uint32_t heads, uint32_t dim,
		  struct levels **ret, struct msg *m)
{
	struct levels *l = calloc(1, sizeof(*l));
	int r = -ENOMEM;

	if (l) {
		*l = (struct levels){ .level = level, .dtype = t, .heads = heads, .dim = dim,
				      .ops = codec_by_id(CODEC_LADDER_HUF) };
		r = codec_ctx_create(CODEC_SIMD_BEST, &l->ctx);
		if (!r)
			r = alloc_buffers(l);
	}
	if (r) {
		levels_destroy(l);
		return msg_fail(m, r, "the codec of levels: %s", err_text(r));
	}
	*ret = l;
	return 0;
}

void levels_destroy(struct levels *l)
{
	if (!l)
		return;
	for (unsigned i = 0; i < CODEC_LAYERS_MAX; i++)
		free(l->out[i].buf);
	free(l->plain);
	codec_ctx_destroy(l->ctx);
	free(l);
}

/* The chunk's bytes to what is read back. */
static int through_codec(struct levels *l, const struct chunk_shape *shape, size_t len)
{
	struct codec_in in[CODEC_LAYERS_MAX];
	unsigned take = l->level + 1;
	int r = l->ops->encode(l->ctx, shape, l->plain, len, l->out);

	l->bits += 8.0 * sizeof(struct kvfs_chunk);
	if (r == -KVFS_ENOGAIN) {
		l->bits += 8.0 * (double)(len + sizeof(struct kvfs_chunk_layer));
		return 0;
	}
	for (unsigned i = 0; !r && i < take; i++) {
		in[i] = (struct codec_in){ l->out[i].buf, l->out[i].len };
		l->bits += 8.0 * (double)(l->out[i].len + sizeof(struct kvfs_chunk_layer));
	}
	return r ? r : l->ops->decode(l->ctx, shape, in, take, l->plain, len, 0);
}

int levels_tensor(struct levels *l, float *x, uint32_t cells, uint32_t layer, bool v,
		  struct msg *m)
{
	size_t row = (size_t)l->heads * l->dim, eb = dtype_bytes(l->dtype);
	struct chunk_shape shape = {
		.elem = (uint8_t)elem_of(l->dtype),
		.kind = v ? REGION_V : REGION_K,
		.layer = layer,
		.row_bytes = (uint32_t)(row * eb),
		.head_bytes = (uint32_t)(l->dim * eb),
		.region_rows = cells,
	};
	int r = 0;

	for (uint32_t t = 0; !r && t < cells; t += LEVELS_TOKENS) {
		size_t n = (cells - t < LEVELS_TOKENS ? cells - t : LEVELS_TOKENS) * row;

		shape.first_row = t;
		dtype_from_f32(l->dtype, x + t * row, l->plain, n);
		r = through_codec(l, &shape, n * eb);
		dtype_to_f32(l->dtype, l->plain, x + t * row, n);
		l->values += (double)n;
	}
	return r ? msg_fail(m, r, "the codec of levels: %s", err_text(r)) : 0;
}

double levels_bits(const struct levels *l)
{
	return l->values > 0 ? l->bits / l->values : 0;
}
