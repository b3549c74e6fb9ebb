/* SPDX-License-Identifier: MIT */
/*
 * One chunk: zeros become a hole; K and V become layers when that is asked for and
 * the codec can; everything else, and all without a grant, takes the exact form that
 * is smallest. Whatever it is, it is decoded and compared before it is believed.
 *
 * A replica gets its chunks in the form for DRAM, while the original is at hand: of
 * a chunk with layers so many as readers will ask for, of which the first alone has
 * another form there.
 */
#include "store/seal_enc.h"

#include <errno.h>
#include <float.h>
#include <string.h>

#include "base/mem.h"
#include "store/estimate.h"
#include "store/seal.h"

/* A seal goes on in any case, or nothing would free space; there are only a few. */
void seal_enc_count(struct seal_enc *e, uint64_t bytes)
{
	struct budget *b = &e->st->dram;
	int r = budget_take(b, BUDGET_BUFFER, bytes);

	/* others may be faster to take what was made free */
	for (int i = 0; i < 8 && r < 0 && space_dram(e->st, bytes, NULL); i++)
		r = budget_take(b, BUDGET_BUFFER, bytes);
	if (r < 0)
		budget_force(b, BUDGET_BUFFER, bytes);
	e->counted += bytes;
}

int seal_codec_create(const struct store *st, struct codec_ctx **ret)
{
	int r = codec_ctx_create(CODEC_SIMD_BEST, ret);

	if (r == 0 && st->cfg.raw)
		codec_ctx_only_raw(*ret);
	return r;
}

int seal_enc_init(struct seal_enc *e, struct store *st, const struct ctx *keep, bool layered)
{
	*e = (struct seal_enc) { .st = st, .keep = keep, .layers = 1, .rep_layers = 1 };
	if (layered)
		e->layers = e->rep_layers = CODEC_LADDER_LAYERS;
	e->enc_bytes = e->layers * codec_best_bound(SEAL_CHUNK_MAX);
	seal_enc_count(e, 2 * SEAL_CHUNK_MAX + e->enc_bytes + e->layers * OBJECT_WRITER_BYTES +
				  codec_ctx_bytes_max());
	e->src = mem_alloc_pages(SEAL_CHUNK_MAX);
	e->dec = mem_alloc_pages(SEAL_CHUNK_MAX);
	e->enc = mem_alloc_pages(e->enc_bytes);
	if (!e->src || !e->dec || !e->enc)
		return -ENOMEM;
	/* not one of the reader's pool: a seal waits for gates */
	return seal_codec_create(st, &e->codec);
}

void seal_enc_prefix(struct seal_enc *e, uint64_t logical_bytes)
{
	if (e->rep && e->rep_layers < e->layers) /* layers double from one to the next */
		replica_set_layers(e->rep, e->rep_layers,
				   (logical_bytes / 4 * 3) >> (e->layers - e->rep_layers));
}

void seal_enc_fini(struct seal_enc *e)
{
	object_writer_abort(e->w);
	estimate_destroy(e->est);
	replica_put(e->rep);
	mem_free_pages(e->src, SEAL_CHUNK_MAX);
	mem_free_pages(e->dec, SEAL_CHUNK_MAX);
	mem_free_pages(e->enc, e->enc_bytes);
	codec_ctx_destroy(e->codec);
	if (e->st)
		budget_give(&e->st->dram, BUDGET_BUFFER, e->counted);
}

int seal_enc_room(struct seal_enc *e, uint64_t ino, uint64_t *reserved)
{
	uint64_t need = object_writer_bytes(e->w) + e->enc_bytes + STORE_BLOCK;
	uint64_t step = need > *reserved ? need - *reserved + (8u << 20) : 0;
	int r = step ? space_reserve_seal(e->st, step, ino) : 0;

	if (r == 0)
		*reserved += step;
	return r;
}

static bool all_zero(const uint8_t *p, size_t len)
{
	return p[0] == 0 && memcmp(p, p + 1, len - 1) == 0;
}

/* e->src in the form for SSD, in layers or not. */
static int encode(struct seal_enc *e, const struct layout_chunk *ch, struct codec_out out[],
		  uint16_t *ret_id, unsigned *ret_n)
{
	size_t room = codec_best_bound(SEAL_CHUNK_MAX);

	for (unsigned i = 0; i < e->layers; i++)
		out[i] = (struct codec_out) { e->enc + i * room, room, 0 };
	store_count(e->st, CNT_ENCODED_BYTES, ch->len_bytes);
	if (e->layers == 1 || ch->shape.kind == REGION_OPAQUE)
		return codec_encode_best(e->codec, CODEC_FORM_SSD, &ch->shape, e->src, ch->len_bytes, out,
					 ret_id, ret_n);
	return codec_encode_layers(e->codec, CODEC_FORM_SSD, &ch->shape, e->src, ch->len_bytes, out, ret_id,
				   ret_n);
}

int seal_enc_sample(struct seal_enc *e, const struct layout *l, const struct layout_chunk *chunks,
		    uint32_t n_chunks)
{
	uint64_t bytes;
	int r;

	if (e->layers == 1)
		return 0;
	r = estimate_create(l, chunks, n_chunks, e->layers, 0, &bytes, &e->est);
	if (r == 0)
		seal_enc_count(e, bytes);
	return r == -ENODATA ? 0 : r;
}

/* The chunk at each level; what is in one layer is exact at all. */
static int sample(struct seal_enc *e, uint32_t i, const struct layout_chunk *ch, unsigned codec,
		  const struct codec_in in[], unsigned n)
{
	int r = 0;

	if (!e->est || !estimate_wants(e->est, i))
		return 0;
	for (unsigned l = 0; l < e->layers && r == 0; l++) {
		bool exact = l + 1 >= n;

		if (!exact)
			r = codec_decode(e->codec, codec, &ch->shape, in, l + 1, e->dec,
					 ch->len_bytes, 0);
		if (r == 0)
			estimate_take(e->est, i, l, exact ? e->src : e->dec);
	}
	return r;
}

int seal_enc_finish(struct seal_enc *e, uint64_t *ret_stored_bytes)
{
	float errors[KVFS_OBJECT_LAYERS] = { 0 };
	struct object_writer *w = e->w;

	if (e->est) {
		estimate_errors(e->est, errors);
		for (unsigned i = 0; i + 1 < e->layers; i++) /* 0 says that it is not known */
			errors[i] = errors[i] > FLT_MIN ? errors[i] : FLT_MIN;
		object_writer_errors(w, errors);
	}
	e->w = NULL;
	return object_writer_finish(w, ret_stored_bytes);
}

static int verify(struct seal_enc *e, uint32_t i, const struct layout_chunk *ch, unsigned codec,
		  const struct codec_out out[], unsigned n)
{
	struct codec_in in[CODEC_LAYERS_MAX];
	int r;

	for (unsigned l = 0; l < n; l++)
		in[l] = (struct codec_in) { out[l].buf, out[l].len };
	if (codec == CODEC_RAW) {
		r = memcmp(out[0].buf, e->src, ch->len_bytes) ? -KVFS_EVERIFY : 0;
	} else {
		r = codec_decode(e->codec, codec, &ch->shape, in, n, e->dec, ch->len_bytes, 0);
		if (r == 0 && memcmp(e->dec, e->src, ch->len_bytes) != 0)
			r = -KVFS_EVERIFY;
	}
	return r < 0 ? r : sample(e, i, ch, codec, in, n);
}

/* Running out of room ends the replica. */
static void add_replica(struct seal_enc *e, uint32_t i, unsigned codec,
			const struct codec_in in[], unsigned n)
{
	if (replica_add_room(e->st, e->rep, e->keep, i, codec, in, n) == 0)
		return;
	replica_put(e->rep);
	e->rep = NULL;
}

/* A replica has no holes of its own, so zeros are stored as lz4 leaves them. */
static void replica_one(struct seal_enc *e, uint32_t i, const struct layout_chunk *ch, bool zeros)
{
	struct codec_out out = { e->enc, e->enc_bytes, 0 };
	uint16_t id = CODEC_LZ4;
	unsigned n;
	int r;

	if (!e->rep)
		return;
	if (zeros)
		r = codec_by_id(CODEC_LZ4)->encode(e->codec, &ch->shape, e->src, ch->len_bytes, &out);
	else
		r = codec_encode_best(e->codec, CODEC_FORM_DRAM, &ch->shape, e->src, ch->len_bytes,
				      &out, &id, &n);
	if (r == 0) {
		add_replica(e, i, id, &(struct codec_in) { out.buf, out.len }, 1);
	} else {
		replica_put(e->rep);
		e->rep = NULL;
	}
}

/* Layers: those made for the object, but the first in the form for DRAM if it is to be
 * had. e->dec is free by now. */
static void replica_layered(struct seal_enc *e, uint32_t i, const struct layout_chunk *ch,
			    unsigned codec, const struct codec_out out[], unsigned n)
{
	const struct codec_ops *ops = codec_by_id(codec);
	struct codec_out twin = { e->dec, SEAL_CHUNK_MAX, 0 };
	struct codec_in in[CODEC_LAYERS_MAX];

	if (!e->rep)
		return;
	n = n < e->rep_layers ? n : e->rep_layers;
	for (unsigned l = 0; l < n; l++)
		in[l] = (struct codec_in) { out[l].buf, out[l].len };
	if (ops->transcode && ops->transcode(e->codec, &ch->shape, out[0].buf, out[0].len,
					     ch->len_bytes, &twin) == 0) {
		in[0] = (struct codec_in) { twin.buf, twin.len };
		codec = ops->twin;
	}
	add_replica(e, i, codec, in, n);
}

int seal_enc_chunk(struct seal_enc *e, uint32_t i, const struct layout_chunk *ch)
{
	struct object_part part[CODEC_LAYERS_MAX] = { { .codec = CODEC_HOLE } };
	struct codec_out out[CODEC_LAYERS_MAX];
	uint16_t codec = CODEC_RAW;
	unsigned n = 1;
	int r;

	if (all_zero(e->src, ch->len_bytes)) {
		r = object_writer_add(e->w, part, 1);
		if (r == 0)
			replica_one(e, i, ch, true);
		return r;
	}
	r = encode(e, ch, out, &codec, &n);
	if (r == 0)
		r = verify(e, i, ch, codec, out, n);
	if (r < 0)
		return r;
	for (unsigned l = 0; l < n; l++)
		part[l] = (struct object_part) { codec, out[l].buf, (uint32_t)out[l].len };
	r = object_writer_add(e->w, part, n);
	if (r == 0 && n > 1)
		replica_layered(e, i, ch, codec, out, n);
	else if (r == 0)
		replica_one(e, i, ch, false);
	return r;
}
