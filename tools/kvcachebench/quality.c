// SPDX-License-Identifier: MIT
/*
 * Every way of storing is tried on every file: values through the codec (or a
 * plain quantiser) and back into a copy of the file, which attention and, when
 * there is a model, kvlm compare with the exact one.
 */
#include "quality.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "codecs/codec.h"
#include "kvcachefs/format.h"
#include "layouts/layout.h"
#include "quality_agree.h"

#define DIM_DEFAULT 64u

struct run {
	const struct input *in;
	const struct quality_options *o;
	struct quality *q;
	struct codec_ctx *ctx;
	uint8_t *out[CODEC_LAYERS_MAX];
	const struct input_file *file; /* at hand */
	uint8_t *lossy;                /* its copy */
	unsigned levels;               /* of the ladder's codec */
};

static struct quality_row *new_row(struct quality *q, enum quality_family family, unsigned param,
				   const char *fmt)
{
	struct quality_row *r = &q->rows[q->n_rows++];

	*r = (struct quality_row){ .family = family, .param = param };
	snprintf(r->name, sizeof(r->name), fmt, param);
	return r;
}

static void make_rows(struct run *t)
{
	static const unsigned kivi[] = { 2, 4 }, axis[] = { 2, 4, 8 };

	for (unsigned k = 0; k < t->levels; k++)
		new_row(t->q, QUALITY_LADDER, k, "ladder level %u");
	new_row(t->q, QUALITY_PLANES, 0, "planes");
	for (size_t i = 0; i < sizeof(kivi) / sizeof(kivi[0]); i++)
		new_row(t->q, QUALITY_KIVI, kivi[i], "kivi:%u");
	for (size_t i = 0; i < sizeof(axis) / sizeof(axis[0]); i++)
		new_row(t->q, QUALITY_AXIS, axis[i], "axis:%u");
	for (unsigned m = 0; m <= 4; m++)
		new_row(t->q, QUALITY_PREFIX, m, "float prefix %u");
}

static bool has_values(const struct input_chunk *c)
{
	return c->shape.kind != REGION_OPAQUE && c->shape.elem != ELEM_BYTES;
}

/* Encodes one chunk in the row's way for @form; decodes it into the copy when
 * @decode. The stored bits, or -errno. */
static double chunk_bits(struct run *t, const struct quality_row *row, const struct input_chunk *c,
			 enum codec_form form, bool decode)
{
	struct codec_out out[CODEC_LAYERS_MAX];
	struct codec_in in[CODEC_LAYERS_MAX];
	unsigned n = 1, take;
	uint64_t bytes = 0;
	uint16_t id;
	int r;

	for (unsigned l = 0; l < CODEC_LAYERS_MAX; l++)
		out[l] = (struct codec_out){ t->out[l], CODEC_CHUNK_MAX, 0 };
	if (row->family == QUALITY_PLANES)
		r = codec_encode_best(t->ctx, form, &c->shape, c->data, c->len, out, &id, &n);
	else
		r = codec_encode_layers(t->ctx, form, &c->shape, c->data, c->len, out, &id, &n);
	if (r < 0)
		return r;
	take = row->family == QUALITY_PLANES || row->param + 1 > n ? n : row->param + 1;
	for (unsigned l = 0; l < take; l++) {
		in[l] = (struct codec_in){ out[l].buf, out[l].len };
		bytes += out[l].len + sizeof(struct kvfs_chunk_layer);
	}
	if (decode)
		r = codec_decode(t->ctx, id, &c->shape, in, take,
				 t->lossy + (c->data - t->file->data), c->len, 0);
	return r < 0 ? r : 8.0 * (double)(bytes + sizeof(struct kvfs_chunk));
}

static int through_codec(struct run *t, struct quality_row *row)
{
	for (size_t i = 0; i < t->in->n_chunks; i++) {
		const struct input_chunk *c = &t->in->chunks[i];
		double ssd, dram;

		if (&t->in->files[c->file] != t->file || !has_values(c))
			continue;
		ssd = chunk_bits(t, row, c, CODEC_FORM_SSD, true);
		dram = ssd < 0 ? ssd : chunk_bits(t, row, c, CODEC_FORM_DRAM, false);
		if (dram < 0)
			return (int)dram;
		row->ssd_bits += ssd;
		row->dram_bits += dram;
		row->values += c->len / elem_bytes(c->shape.elem);
	}
	return 0;
}

static uint32_t dim_of(const struct run *t, const struct layout_region *r)
{
	const struct layout *l = t->file->parsed;

	if (r->head_bytes)
		return r->head_bytes / elem_bytes(r->elem);
	if (l->head_dim)
		return l->head_dim;
	t->q->head_dim = DIM_DEFAULT;
	return DIM_DEFAULT;
}

static int through_rival(struct run *t, struct quality_row *row)
{
	const struct layout *l = t->file->parsed;
	int r = 0;

	for (uint32_t i = 0; i < l->n_regions && r == 0; i++) {
		const struct layout_region *g = &l->regions[i];
		struct tensor x;
		double bits;

		r = tensor_load(g, dim_of(t, g), t->file->data, &x);
		if (r == -ENODATA) {
			r = 0;
			continue;
		}
		if (r < 0)
			break;
		bits = rival_apply(row, &x);
		tensor_store(&x, t->lossy);
		row->values += (double)x.tokens * x.cols;
		row->ssd_bits += bits;
		row->dram_bits += bits;
		tensor_fini(&x);
	}
	return r;
}

/* The region of @kind and the same layer and shape as @like; NULL none. */
static const struct layout_region *partner(const struct layout *l, const struct layout_region *like,
					   unsigned kind)
{
	for (uint32_t i = 0; i < l->n_regions; i++) {
		const struct layout_region *g = &l->regions[i];

		if (g->kind == kind && g->layer == like->layer && g->len_bytes == like->len_bytes &&
		    g->elem == like->elem)
			return g;
	}
	return NULL;
}

static int layer_error(struct run *t, struct quality_row *row, const struct layout_region *k,
		       const struct layout_region *v)
{
	struct tensor x[4] = { 0 };
	double error, weight;
	uint32_t dim = dim_of(t, k);
	int r = tensor_load(k, dim, t->file->data, &x[0]);

	if (r == 0)
		r = tensor_load(v, dim, t->file->data, &x[1]);
	if (r == 0)
		r = tensor_load(k, dim, t->lossy, &x[2]);
	if (r == 0)
		r = tensor_load(v, dim, t->lossy, &x[3]);
	if (r == 0 && x[0].tokens == x[1].tokens && x[0].cols == x[1].cols) {
		attention_error(&x[0], &x[1], &x[2], &x[3], &error, &weight);
		row->error += error;
		row->weight += weight;
	}
	for (int i = 0; i < 4; i++)
		tensor_fini(&x[i]);
	return r == -ENODATA ? 0 : r;
}

static int file_error(struct run *t, struct quality_row *row)
{
	const struct layout *l = t->file->parsed;
	int r = 0;

	for (uint32_t i = 0; i < l->n_regions && r == 0; i++) {
		const struct layout_region *k = &l->regions[i];
		const struct layout_region *v = k->kind == REGION_K ? partner(l, k, REGION_V) : NULL;

		if (v)
			r = layer_error(t, row, k, v);
	}
	return r;
}

static int one(struct run *t, struct quality_row *row)
{
	double agree = 0, n = 0;
	int r;

	memcpy(t->lossy, t->file->data, t->file->len);
	if (row->family == QUALITY_LADDER || row->family == QUALITY_PLANES)
		r = through_codec(t, row);
	else
		r = through_rival(t, row);
	if (r == 0)
		r = file_error(t, row);
	if (r == 0 && t->o->model)
		r = agree_measure(t->o, t->file->name, t->lossy, t->file->len, &agree, &n);
	row->agree += agree * n;
	row->agree_n += n;
	return r;
}

static int all(struct run *t)
{
	size_t seen = 0;
	int r = 0;

	for (size_t f = 0; f < t->in->n_files && r == 0; f++) {
		t->file = &t->in->files[f];
		if (!t->file->parsed || t->file->parsed->n_regions == 0)
			continue;
		seen++;
		t->lossy = malloc(t->file->len);
		if (!t->lossy)
			return -ENOMEM;
		for (unsigned i = 0; i < t->q->n_rows && r == 0; i++) {
			char text[96];

			snprintf(text, sizeof(text), "quality: file %zu of %zu, %s", f + 1,
				 t->in->n_files, t->q->rows[i].name);
			bench_progress(text);
			r = one(t, &t->q->rows[i]);
		}
		free(t->lossy);
	}
	bench_progress(NULL);
	return r == 0 && seen == 0 ? -ENODATA : r;
}

int quality_measure(const struct input *in, const struct quality_options *o, struct quality *ret)
{
	struct run t = { .in = in, .o = o, .q = ret };
	int r = codec_ctx_create(CODEC_SIMD_BEST, &t.ctx);

	*ret = (struct quality){ 0 };
	for (unsigned l = 0; l < CODEC_LAYERS_MAX && r == 0; l++) {
		t.out[l] = malloc(CODEC_CHUNK_MAX);
		r = t.out[l] ? 0 : -ENOMEM;
	}
	t.levels = codec_by_id(CODEC_LADDER_HUF)->layers;
	if (r == 0) {
		make_rows(&t);
		r = all(&t);
	}
	for (unsigned l = 0; l < CODEC_LAYERS_MAX; l++)
		free(t.out[l]);
	codec_ctx_destroy(t.ctx);
	if (r == -ENODATA)
		fprintf(stderr, "kvcachebench: no file has a recognised layout with K and V: nothing to lose\n");
	return r;
}
