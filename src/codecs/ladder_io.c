// SPDX-License-Identifier: MIT
/*
 * How the ladder's layers are read and written block by block, and layer 0's codes
 * in both packings.
 *
 * Reading: a kernel may be given any place that has a block's worth behind it, so
 * the last bytes of a layer are copied in front of zeros once they are reached.
 * A layer that was too short shows when its end has been passed. Writing is the
 * mirror of that: the last bytes go through a buffer.
 */
#include <errno.h>
#include <string.h>

#include "base/le.h"
#include "codecs/ladder.h"

#define TAIL 8192u

const uint8_t *ladder_in_end(struct ladder_in *in, size_t need)
{
	size_t left = (size_t)(in->end - in->p);

	if (!in->ending && left < need + LADDER_SLACK) {
		if (left)
			memcpy(in->tail, in->p, left);
		memset(in->tail + left, 0, TAIL - left);
		in->p = in->tail;
		in->end = in->tail + left;
		in->ending = true;
	}
	return in->p;
}

uint8_t *ladder_out_get(struct ladder_out *o, size_t max)
{
	return (size_t)(o->end - o->p) >= max + LADDER_SLACK ? o->p : o->tail;
}

bool ladder_out_put(struct ladder_out *o, const uint8_t *at, size_t n)
{
	if (n > (size_t)(o->end - o->p))
		return false;
	if (at != o->p && n)
		memcpy(o->p, at, n);
	o->p += n;
	return true;
}

int64_t ladder_plane_put(struct codec_ctx *ctx, const uint8_t *plane, size_t n, uint8_t *dst,
			 size_t cap)
{
	size_t got;
	int r;

	if (n == 0)
		return 0;
	if (cap == 0)
		return -KVFS_ENOGAIN;
	if (n == 1 || memcmp(plane, plane + 1, n - 1) == 0) {
		dst[0] = plane[0];
		return 1;
	}
	r = zstd_pack(ctx, ZSTD_WAY_HUFFMAN, plane, n, dst, cap < n - 1 ? cap : n - 1, &got);
	if (r == 0)
		return (int64_t)got;
	if (r != -KVFS_ENOGAIN || n > cap)
		return r;
	memcpy(dst, plane, n);
	return (int64_t)n;
}

int ladder_plane_get(struct codec_ctx *ctx, const uint8_t *src, size_t src_len, uint8_t *to,
		     size_t n)
{
	if (src_len > n || (n && !src_len))
		return -KVFS_ECODEC;
	if (n == 0)
		return 0;
	if (src_len == 1)
		memset(to, src[0], n);
	else if (src_len == n)
		memcpy(to, src, n);
	else
		return zstd_unpack(ctx, src, src_len, to, n);
	return 0;
}

/* Where each class' digits lie in the buffer; false when it is too small. */
static bool digits_places(const struct ladder_sizes *z, size_t start[LADDER_CLASSES_MAX + 1])
{
	start[0] = 0;
	for (unsigned k = 0; k < LADDER_CLASSES_MAX; k++)
		start[k + 1] = start[k] + z->stream[k] + LADDER_SLACK;
	return start[LADDER_CLASSES_MAX] <= LADDER_DIGITS_MAX;
}

/* The planes' segments, which lie one after the other. */
static int digits_get(struct codec_ctx *ctx, uint8_t **ret)
{
	struct planes_scratch *s;
	int r = planes_scratch_get(ctx, &s);

	if (r == 0)
		*ret = (uint8_t *)s;
	return r;
}

/* The next of a directory's planes: *dir and *at go on. */
static int next_plane(struct codec_ctx *ctx, const uint8_t **dir, const uint8_t **at,
		      const uint8_t *end, uint8_t *to, size_t n)
{
	size_t len = le32_get(*dir);
	int r;

	if (len > (size_t)(end - *at))
		return -KVFS_ECODEC;
	r = ladder_plane_get(ctx, *at, len, to, n);
	*dir += 4;
	*at += len;
	return r;
}

static int open_huf(struct codec_ctx *ctx, struct ladder_scratch *s, const struct ladder_head *h,
		    const struct ladder_sizes *z, const uint8_t *src, size_t src_len,
		    struct ladder_codes *c)
{
	size_t start[LADDER_CLASSES_MAX + 1], n_dir = 4u * (h->n_classes + 2u);
	const uint8_t *dir = src + h->at_codes, *at = dir + n_dir, *end = src + src_len;
	int r;

	if (src_len - h->at_codes < n_dir || !digits_places(z, start))
		return -KVFS_ECODEC;
	r = digits_get(ctx, &c->digits);
	for (unsigned k = 0; r == 0 && k < h->n_classes; k++) {
		c->stream[k] = c->digits + start[k];
		r = next_plane(ctx, &dir, &at, end, c->digits + start[k], z->stream[k]);
	}
	if (r < 0)
		return r;
	r = next_plane(ctx, &dir, &at, end, s->plane, h->n_escapes);
	for (size_t i = 0; r == 0 && i < h->n_escapes; i++)
		s->escapes[i] = s->plane[i];
	if (r == 0)
		r = next_plane(ctx, &dir, &at, end, s->plane, h->n_escapes);
	for (size_t i = 0; r == 0 && i < h->n_escapes; i++)
		s->escapes[i] = (int16_t)(s->escapes[i] | s->plane[i] << 8);
	return r == 0 && at != end ? -KVFS_ECODEC : r;
}

int ladder_codes_open(struct codec_ctx *ctx, struct ladder_scratch *s,
		      const struct ladder_head *h, bool huf, const uint8_t *src, size_t src_len,
		      struct ladder_codes *ret)
{
	struct ladder_sizes z;
	int r = 0;

	ladder_sizes_of(h, s, &z);
	*ret = (struct ladder_codes){ .huf = huf };
	if (huf) {
		r = open_huf(ctx, s, h, &z, src, src_len, ret);
	} else {
		const uint8_t *esc = src + h->at_codes + z.fix;

		if (src_len - h->at_codes != z.fix + 2 * (size_t)h->n_escapes)
			return -KVFS_ECODEC;
		ladder_patterns_get((uint16_t *)s->escapes, esc, h->n_escapes);
		ret->in = (struct ladder_in){ .p = src + h->at_codes, .end = esc,
					      .tail = s->tail[0] };
	}
	memset(s->escapes + h->n_escapes, 0, 1024 * sizeof(s->escapes[0]));
	return r;
}

void ladder_codes_get(struct codec_ctx *ctx, const struct ladder_walk *w, struct ladder_codes *c)
{
	struct ladder_block *b = &w->s->block;

	if (c->huf)
		ctx->ladder_kern->unpack_huf(w->d, c->stream, b);
	else
		c->in.p += ctx->ladder_kern->unpack_fix(w->d, ladder_in_get(&c->in, 512), b);
}

bool ladder_codes_done(const struct ladder_codes *c)
{
	return c->huf || c->in.p == c->in.end;
}

int ladder_codes_out_open(struct codec_ctx *ctx, struct ladder_scratch *s,
			  const struct ladder_head *h, bool huf, uint8_t *dst, size_t cap,
			  struct ladder_codes_out *ret)
{
	size_t start[LADDER_CLASSES_MAX + 1];
	struct ladder_sizes z;
	int r;

	ladder_sizes_of(h, s, &z);
	*ret = (struct ladder_codes_out){ .huf = huf, .out = { dst, dst + cap, s->tail[0] } };
	if (!digits_places(&z, start)) /* for both, so that either can be made of the other */
		return -KVFS_ENOGAIN;
	memcpy(ret->size, z.stream, sizeof(ret->size));
	if (!huf)
		return 0;
	r = digits_get(ctx, &ret->digits);
	for (unsigned k = 0; r == 0 && k < LADDER_CLASSES_MAX; k++)
		ret->stream[k] = ret->digits + start[k];
	return r;
}

int ladder_codes_put(struct codec_ctx *ctx, const struct ladder_scratch *s,
		     const struct ladder_desc *d, struct ladder_codes_out *c)
{
	uint8_t *at;

	if (c->huf) {
		ctx->ladder_kern->pack_huf(d, &s->block, c->stream);
		return 0;
	}
	at = ladder_out_get(&c->out, 512);
	return ladder_out_put(&c->out, at, ctx->ladder_kern->pack_fix(d, &s->block, at))
		       ? 0
		       : -KVFS_ENOGAIN;
}

static int put_plane(struct codec_ctx *ctx, struct ladder_codes_out *c, const uint8_t *plane,
		     size_t n, uint8_t *dir)
{
	int64_t r = ladder_plane_put(ctx, plane, n, c->out.p, (size_t)(c->out.end - c->out.p));

	if (r < 0)
		return (int)r;
	le32_put(dir, (uint32_t)r);
	c->out.p += r;
	return 0;
}

static int close_huf(struct codec_ctx *ctx, struct ladder_scratch *s, const struct ladder_head *h,
		     struct ladder_codes_out *c)
{
	size_t n_dir = 4u * (h->n_classes + 2u);
	uint8_t *dir = c->out.p;
	int r = 0;

	if ((size_t)(c->out.end - c->out.p) < n_dir)
		return -KVFS_ENOGAIN;
	c->out.p += n_dir;
	for (unsigned k = 0; r == 0 && k < h->n_classes; k++, dir += 4)
		r = put_plane(ctx, c, c->stream[k] - c->size[k], c->size[k], dir);
	for (unsigned high = 0; r == 0 && high < 2; high++, dir += 4) {
		for (size_t i = 0; i < h->n_escapes; i++)
			s->plane[i] = (uint8_t)(s->escapes[i] >> 8 * high);
		r = put_plane(ctx, c, s->plane, h->n_escapes, dir);
	}
	return r;
}

int ladder_codes_out_close(struct codec_ctx *ctx, struct ladder_scratch *s,
			   const struct ladder_head *h, struct ladder_codes_out *c,
			   uint8_t **ret_end)
{
	int r = 0;

	if (c->huf) {
		r = close_huf(ctx, s, h, c);
	} else if ((size_t)(c->out.end - c->out.p) < 2 * (size_t)h->n_escapes) {
		r = -KVFS_ENOGAIN;
	} else {
		for (size_t i = 0; i < h->n_escapes; i++, c->out.p += 2)
			le16_put(c->out.p, (uint16_t)s->escapes[i]);
	}
	*ret_end = c->out.p;
	return r;
}
