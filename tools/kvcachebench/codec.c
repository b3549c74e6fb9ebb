// SPDX-License-Identifier: MIT
/*
 * kvcachebench codec: ratio and speed of every codec on the chunks of given
 * cache files, one thread, each SIMD version, with memcpy moved the same way in
 * the same rounds: from a stream that lies in DRAM (the chunks are repeated until
 * it is far larger than the caches) into one warm buffer of a chunk's size.
 *
 * GB/s are 1e9 bytes of decoded data per second, whatever the direction. Rounds
 * go through all rows in turn, so that other load hits all alike; shown are
 * medians, the best round, and decoding as a multiple of memcpy. Bytes are
 * checked once per row, outside the measured time.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "bench.h"
#include "codec_options.h"
#include "codec_report.h"
#include "codecs/codec.h"

#define ALIGN 64u
#define SYNTHETIC_MAX (64u << 20)
#define QUALITY_MAX (64u << 20) /* of input, unless asked for */

struct packed {
	size_t off[CODEC_LADDER_LAYERS];
	uint32_t len[CODEC_LADDER_LAYERS];
	uint16_t id;
	uint8_t layers;
};

/* Everything encoded one way, repeated like the source. Rows that encode alike
 * share one. */
struct stream {
	uint8_t *data;
	struct packed *chunks;
	size_t bytes, room;
};

struct state {
	const struct codec_options *o;
	struct input in;
	uint8_t *source;       /* the chunks, ALIGNed, copies times */
	size_t *source_off;    /* per chunk, within one copy */
	size_t copy_bytes, decoded_bytes, copies;
	uint8_t *buf;          /* warm, CODEC_CHUNK_MAX for each layer */
	struct report_row rows[REPORT_ROWS_MAX];
	size_t n_rows;
	struct quality quality;
};

static size_t align_up(size_t x)
{
	return (x + ALIGN - 1) & ~(size_t)(ALIGN - 1);
}

static int build_source(struct state *s)
{
	size_t at = 0;

	s->source_off = calloc(s->in.n_chunks, sizeof(size_t));
	if (!s->source_off)
		return -ENOMEM;
	for (size_t i = 0; i < s->in.n_chunks; i++) {
		s->source_off[i] = at;
		at += align_up(s->in.chunks[i].len);
		s->decoded_bytes += s->in.chunks[i].len;
	}
	if (at == 0) {
		fprintf(stderr, "kvcachebench: there is nothing in these files\n");
		return -EINVAL;
	}
	s->copy_bytes = at;
	s->copies = (s->o->bytes + at - 1) / at;
	s->source = mem_alloc_pages(s->copies * at);
	if (!s->source)
		return -ENOMEM;
	for (size_t c = 0; c < s->copies; c++)
		for (size_t i = 0; i < s->in.n_chunks; i++)
			memcpy(s->source + c * at + s->source_off[i], s->in.chunks[i].data,
			       s->in.chunks[i].len);
	return 0;
}

/* Room for every layer of a chunk in buf. */
static void set_out(struct state *s, struct codec_out out[])
{
	for (unsigned i = 0; i < CODEC_LADDER_LAYERS; i++)
		out[i] = (struct codec_out){ s->buf + i * (size_t)CODEC_CHUNK_MAX,
					     codec_best_bound(CODEC_CHUNK_MAX), 0 };
}

/* One chunk the row's way; what does not shrink is raw. */
static int encode_chunk(const struct report_row *row, const struct input_chunk *c,
			const uint8_t *src, struct codec_out out[], uint16_t *ret_id,
			unsigned *ret_layers)
{
	const struct codec_ops *ops = row->ops;
	int r;

	if (!ops)
		return codec_encode_best(row->ctx, row->form, &c->shape, src, c->len, out,
					 ret_id, ret_layers);
	if (ops->layers > 1)
		return codec_encode_layers(row->ctx, row->form, &c->shape, src, c->len, out,
					   ret_id, ret_layers);
	*ret_id = (uint16_t)ops->id;
	*ret_layers = 1;
	r = ops->elem_mask >> c->shape.elem & 1
		    ? ops->encode(row->ctx, &c->shape, src, c->len, out)
		    : -KVFS_ENOGAIN;
	if (r != -KVFS_ENOGAIN)
		return r;
	*ret_id = CODEC_RAW;
	out->len = c->len; /* counted and decoded as raw; the copy is not timed */
	return 0;
}

static int encode_pass(struct state *s, struct report_row *row)
{
	uint64_t t0 = clock_mono_ns();

	for (size_t c = 0; c < s->copies && c * s->copy_bytes < s->o->bytes / 2; c++)
		for (size_t i = 0; i < s->in.n_chunks; i++) {
			const uint8_t *src = s->source + c * s->copy_bytes + s->source_off[i];
			struct codec_out out[CODEC_LADDER_LAYERS];
			unsigned layers;
			uint16_t id;
			int r;

			row->encoded_bytes += s->in.chunks[i].len;
			if (row->memcpy_row) {
				memcpy(s->buf, src, s->in.chunks[i].len);
				continue;
			}
			set_out(s, out);
			r = encode_chunk(row, &s->in.chunks[i], src, out, &id, &layers);
			if (r < 0)
				return r;
		}
	bench_add(&row->encode, (double)(clock_mono_ns() - t0) / 1e9);
	row->encode_bytes = row->encoded_bytes;
	row->encoded_bytes = 0;
	return 0;
}

/* Counts what the row's level takes of a chunk. */
static void count_chunk(struct report_row *row, const struct input_chunk *c,
			const struct packed *p)
{
	uint32_t stored = 0;

	for (unsigned i = 0; i < p->layers && (!row->level || i < row->level); i++)
		stored += p->len[i];
	report_count(row, c, p->id, stored);
}

static int build_stream(struct state *s, struct report_row *row, struct stream *st)
{
	size_t at = 0;

	st->chunks = calloc(s->in.n_chunks, sizeof(*st->chunks));
	st->room = s->copies * (s->copy_bytes + s->in.n_chunks * ALIGN * CODEC_LADDER_LAYERS);
	st->data = mem_alloc_pages(st->room);
	if (!st->chunks || !st->data)
		return -ENOMEM;
	for (size_t i = 0; i < s->in.n_chunks; i++) {
		const struct input_chunk *c = &s->in.chunks[i];
		struct codec_out out[CODEC_LADDER_LAYERS];
		struct packed *p = &st->chunks[i];
		unsigned layers;
		int r;

		set_out(s, out);
		r = encode_chunk(row, c, c->data, out, &p->id, &layers);
		if (r < 0)
			return r;
		p->layers = (uint8_t)layers;
		for (unsigned k = 0; k < layers; k++) {
			p->off[k] = at;
			p->len[k] = (uint32_t)out[k].len;
			memcpy(st->data + at, p->id == CODEC_RAW ? c->data : out[k].buf,
			       out[k].len);
			at += align_up(out[k].len);
		}
	}
	st->bytes = at;
	for (size_t c = 1; c < s->copies; c++)
		memcpy(st->data + c * at, st->data, at);
	return 0;
}

static int decode_one(struct state *s, struct report_row *row, const struct stream *st, size_t copy,
		      size_t i)
{
	const struct packed *p = &st->chunks[i];
	unsigned n = row->level && row->level < p->layers ? row->level : p->layers;
	struct codec_in in[CODEC_LADDER_LAYERS];

	for (unsigned k = 0; k < n; k++)
		in[k] = (struct codec_in){ st->data + copy * st->bytes + p->off[k], p->len[k] };
	if (row->memcpy_row) {
		memcpy(s->buf, in[0].buf, in[0].len);
		return 0;
	}
	return codec_decode(row->ctx, p->id, &s->in.chunks[i].shape, in, n, s->buf,
			    s->in.chunks[i].len, 0);
}

static int decode_pass(struct state *s, struct report_row *row, const struct stream *st)
{
	uint64_t t0 = clock_mono_ns();

	for (size_t c = 0; c < s->copies; c++)
		for (size_t i = 0; i < s->in.n_chunks; i++) {
			int r = decode_one(s, row, st, c, i);

			if (r < 0)
				return r;
		}
	bench_add(&row->decode, (double)(clock_mono_ns() - t0) / 1e9);
	return 0;
}

static int check_row(struct state *s, struct report_row *row, const struct stream *st)
{
	for (size_t i = 0; i < s->in.n_chunks; i++) {
		int r = decode_one(s, row, st, 0, i);

		if (r < 0)
			return r;
		count_chunk(row, &s->in.chunks[i], &st->chunks[i]);
		if (row->level && row->level < st->chunks[i].layers)
			report_error(row, &s->in.chunks[i], s->buf);
		else if (memcmp(s->buf, s->in.chunks[i].data, s->in.chunks[i].len) != 0)
			return -KVFS_EVERIFY;
	}
	return 0;
}

/* @level: layers that are decoded, 0 all. */
static int add_row(struct state *s, const struct codec_ops *ops, enum codec_form form,
		   enum codec_simd simd, const char *name, unsigned level)
{
	struct report_row *row = &s->rows[s->n_rows];
	int r;

	if (s->o->only && strcmp(s->o->only, name) != 0)
		return 0;
	if (s->n_rows == REPORT_ROWS_MAX)
		return -ENOSPC;
	*row = (struct report_row){ .name = name, .ops = ops, .form = form,
				    .level = level };
	r = codec_ctx_create(simd, &row->ctx);
	if (r < 0)
		return r == -EOPNOTSUPP ? 0 : r; /* this CPU has no such version */
	row->simd = codec_ctx_simd(row->ctx);
	s->n_rows++;
	return 0;
}

/* One row, or with layers one for every level. */
static int add_levels(struct state *s, const struct codec_ops *ops, enum codec_simd simd)
{
	enum codec_form form = ops->id == CODEC_LADDER_FIX ? CODEC_FORM_DRAM : CODEC_FORM_SSD;
	int r = 0;

	if (ops->layers == 1)
		return add_row(s, ops, form, simd, ops->name, 0);
	for (unsigned n = 1; n <= ops->layers && r == 0; n++)
		r = add_row(s, ops, form, simd, ops->name, n);
	return r;
}

static int make_rows(struct state *s)
{
	int r = 0;

	s->rows[s->n_rows++] = (struct report_row){ .name = "memcpy", .memcpy_row = true,
						    .ops = codec_by_id(CODEC_RAW) };
	for (const struct codec_ops *const *t = codec_table(); *t && r == 0; t++) {
		bool versions = strncmp((*t)->name, "planes", 6) == 0 || (*t)->layers > 1;

		for (unsigned v = 0; v < CODEC_SIMD_BEST && versions && r == 0; v++)
			r = add_levels(s, *t, v);
		if (!versions && (*t)->id != CODEC_RAW)
			r = add_row(s, *t, 0, CODEC_SIMD_BEST, (*t)->name, 0);
	}
	if (r == 0)
		r = add_row(s, NULL, CODEC_FORM_SSD, CODEC_SIMD_BEST, "best-ssd", 0);
	if (r == 0)
		r = add_row(s, NULL, CODEC_FORM_DRAM, CODEC_SIMD_BEST, "best-dram", 0);
	return r;
}

static void stream_fini(struct stream *st)
{
	free(st->chunks);
	mem_free_pages(st->data, st->room);
}

/* The row before @i that encodes alike; i when it is the first. */
static size_t stream_of(const struct state *s, size_t i)
{
	for (size_t k = 0; k < i; k++)
		if (s->rows[k].ops == s->rows[i].ops && s->rows[k].form == s->rows[i].form &&
		    s->rows[k].memcpy_row == s->rows[i].memcpy_row)
			return k;
	return i;
}

static int measure(struct state *s)
{
	struct stream st[REPORT_ROWS_MAX] = { 0 };
	char text[64];
	int r = 0;

	for (size_t i = 0; i < s->n_rows && r == 0; i++) {
		if (stream_of(s, i) == i)
			r = build_stream(s, &s->rows[i], &st[i]);
		if (r == 0)
			r = check_row(s, &s->rows[i], &st[stream_of(s, i)]);
	}
	for (unsigned k = 0; k < s->o->rounds && r == 0; k++)
		for (size_t i = 0; i < s->n_rows && r == 0; i++) {
			snprintf(text, sizeof(text), "round %u of %u: %s", k + 1, s->o->rounds,
				 s->rows[i].name);
			bench_progress(text);
			r = decode_pass(s, &s->rows[i], &st[stream_of(s, i)]);
			if (r == 0 && s->rows[i].level <= 1)
				r = encode_pass(s, &s->rows[i]);
		}
	bench_progress(NULL);
	for (size_t i = 0; i < s->n_rows; i++)
		stream_fini(&st[i]);
	return r;
}

static void state_fini(struct state *s)
{
	for (size_t i = 0; i < s->n_rows; i++)
		codec_ctx_destroy(s->rows[i].ctx);
	mem_free_pages(s->source, s->copies * s->copy_bytes);
	mem_free_pages(s->buf, (size_t)CODEC_CHUNK_MAX * CODEC_LADDER_LAYERS);
	free(s->source_off);
	input_fini(&s->in);
}

static bool wants_quality(const struct state *s)
{
	if (s->in.synthetic || s->o->quality < 0)
		return false;
	return s->o->quality > 0 || s->decoded_bytes <= QUALITY_MAX;
}

static int run(struct state *s, int argc, char **argv)
{
	bool with_quality = false;
	int r = 0;

	for (int i = s->o->first; i < argc && r == 0; i++)
		r = input_add(&s->in, argv[i], &s->o->in);
	if (s->o->first == argc)
		r = input_add_synthetic(&s->in, &s->o->in,
					s->o->bytes < SYNTHETIC_MAX ? s->o->bytes : SYNTHETIC_MAX);
	if (r < 0)
		return r;
	s->buf = mem_alloc_pages((size_t)CODEC_CHUNK_MAX * CODEC_LADDER_LAYERS);
	r = s->buf ? build_source(s) : -ENOMEM;
	if (r == 0)
		r = make_rows(s);
	if (r == 0 && s->o->only && s->n_rows == 1) {
		fprintf(stderr, "kvcachebench: no codec '%s'\n", s->o->only);
		return -EINVAL;
	}
	if (r == 0)
		r = measure(s);
	if (r == 0 && wants_quality(s)) {
		r = quality_measure(&s->in, &s->o->q, &s->quality);
		with_quality = r == 0;
		if (r == -ENODATA && s->o->quality == 0)
			r = 0;
	}
	if (r == 0 && s->o->q.plot)
		r = quality_plot(&s->quality, &s->o->q);
	if (r < 0)
		fprintf(stderr, "kvcachebench: codec: %s\n", err_text(r));
	else
		report(&s->in, s->rows, s->n_rows, s->decoded_bytes * s->copies,
		       with_quality ? &s->quality : NULL, s->o->json);
	return r;
}

int bench_codec(int argc, char **argv)
{
	struct codec_options o;
	struct state s = { .o = &o };
	int r = codec_options_parse(argc, argv, &o);

	if (r != 0)
		return r < 0 ? 2 : 0;
	if (o.quiet_sched)
		bench_quiet();
	r = run(&s, argc, argv);
	state_fini(&s);
	return r < 0;
}
