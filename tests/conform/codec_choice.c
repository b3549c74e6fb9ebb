// SPDX-License-Identifier: MIT
/*
 * codec_encode_best and codec_encode_layers: what they choose for each kind of data and tier, that the
 * choice gains what it must, decodes, stays within the promised memory, and
 * survives every failing allocation.
 */
#include <errno.h>
#include <string.h>

#include "codec_data.h"
#include "codec_kit.h"
#include "codecs/codec_ctx.h"

#define LEN (512u << 10)

struct job {
	struct chunk_shape shape;
	uint8_t *src, *enc, *dst;
	bool layers; /* codec_encode_layers */
	size_t len;
	enum codec_form form;
	uint16_t id;
	struct codec_in in[CODEC_LADDER_LAYERS];
	unsigned n_in;
	size_t enc_len;
};

static int encode_decode(struct codec_ctx *c, struct job *j)
{
	struct codec_out out[CODEC_LADDER_LAYERS];
	unsigned layers;
	int r;

	for (unsigned i = 0; i < CODEC_LADDER_LAYERS; i++)
		out[i] = (struct codec_out){ j->enc + i * (size_t)CODEC_CHUNK_MAX,
					     codec_best_bound(j->len), 0 };
	r = (j->layers ? codec_encode_layers : codec_encode_best)(c, j->form, &j->shape, j->src,
								  j->len, out, &j->id, &layers);
	if (r < 0)
		return r;
	CHECK(layers == codec_by_id(j->id)->layers && out[0].len >= 1);
	j->enc_len = 0;
	j->n_in = layers;
	for (unsigned i = 0; i < layers; i++) {
		j->in[i] = (struct codec_in){ out[i].buf, out[i].len };
		j->enc_len += out[i].len;
	}
	CHECK(j->id == CODEC_RAW ? j->enc_len == j->len : j->enc_len <= j->len - j->len / 64);
	for (unsigned i = 1; i <= layers && r == 0; i++)
		r = codec_decode(c, j->id, &j->shape, j->in, i, j->dst, j->len, 0);
	CHECK(r != 0 || memcmp(j->dst, j->src, j->len) == 0);
	return r;
}

static void job_fill(struct job *j, enum codec_data kind, unsigned elem, size_t len,
		     enum codec_form form)
{
	j->len = len;
	j->form = form;
	j->shape = (struct chunk_shape){ .elem = (uint8_t)elem, .row_bytes = 256 };
	codec_data_fill(kind, elem, 256 / elem_bytes(elem), 3, j->src, len);
}

static void expect(struct codec_ctx *c, struct job *j, enum codec_data kind, unsigned elem,
		   enum codec_form form, unsigned id, double ratio)
{
	job_fill(j, kind, elem, LEN, form);
	CHECK_EQ(encode_decode(c, j), 0);
	CHECK_MSG(j->id == id && (double)j->len / (double)j->enc_len >= ratio,
		  "%s %s form %d: %s, ratio %.3f", codec_data_name(kind), elem_name(elem),
		  (int)form, codec_by_id(j->id)->name, (double)j->len / (double)j->enc_len);
}

static void choices(struct codec_ctx *c, struct job *j)
{
	static const struct {
		unsigned elem;
		double huf, fix;
	} numeric[] = { { ELEM_BF16, 1.4, 1.3 }, { ELEM_F16, 1.15, 1.1 }, { ELEM_F32, 1.15, 1.15 },
			{ ELEM_F8E5M2, 1.3, 1.2 }, { ELEM_F8E4M3, 1.1, 1.05 } };

	for (size_t i = 0; i < sizeof(numeric) / sizeof(numeric[0]); i++) {
		expect(c, j, DATA_GAUSSIAN, numeric[i].elem, CODEC_FORM_SSD, CODEC_PLANES_HUF,
		       numeric[i].huf);
		expect(c, j, DATA_GAUSSIAN, numeric[i].elem, CODEC_FORM_DRAM, CODEC_PLANES_FIX,
		       numeric[i].fix);
	}
	for (int form = CODEC_FORM_SSD; form <= CODEC_FORM_DRAM; form++) {
		expect(c, j, DATA_RANDOM, ELEM_BF16, form, CODEC_RAW, 1);
		expect(c, j, DATA_RANDOM, ELEM_BYTES, form, CODEC_RAW, 1);
	}
	expect(c, j, DATA_ZEROS, ELEM_BF16, CODEC_FORM_SSD, CODEC_ZSTD, 1000);
	expect(c, j, DATA_ZEROS, ELEM_BF16, CODEC_FORM_DRAM, CODEC_LZ4, 200);
	expect(c, j, DATA_TEXT, ELEM_BYTES, CODEC_FORM_SSD, CODEC_ZSTD, 100);
	expect(c, j, DATA_TEXT, ELEM_BYTES, CODEC_FORM_DRAM, CODEC_LZ4, 8);
	/* The first layer's V: one row per token of the vocabulary. */
	expect(c, j, DATA_ROWS, ELEM_BF16, CODEC_FORM_SSD, CODEC_ZSTD, 10);
	expect(c, j, DATA_ROWS, ELEM_BF16, CODEC_FORM_DRAM, CODEC_LZ4, 10);
	/* Unused rows behind the context: zeros cost next to nothing. */
	expect(c, j, DATA_HALF_ZERO, ELEM_BF16, CODEC_FORM_SSD, CODEC_PLANES_HUF, 2.5);
	expect(c, j, DATA_HALF_ZERO, ELEM_BF16, CODEC_FORM_DRAM, CODEC_PLANES_HUF, 2.5);
}

/* Levels for what has them; one exact layer for the rest. */
static void choices_layers(struct codec_ctx *c, struct job *j)
{
	static const unsigned ladder[] = { CODEC_LADDER_HUF, CODEC_LADDER_FIX };

	j->layers = true;
	for (int form = CODEC_FORM_SSD; form <= CODEC_FORM_DRAM; form++) {
		expect(c, j, DATA_GAUSSIAN, ELEM_BF16, form, ladder[form], 1.3);
		expect(c, j, DATA_GAUSSIAN, ELEM_F16, form, ladder[form], 1.07);
		expect(c, j, DATA_GAUSSIAN, ELEM_F32, form, ladder[form], 1.11);
		expect(c, j, DATA_RANDOM, ELEM_BF16, form, CODEC_RAW, 1);
		expect(c, j, DATA_RANDOM, ELEM_BYTES, form, CODEC_RAW, 1);
	}
	expect(c, j, DATA_GAUSSIAN, ELEM_F8E5M2, CODEC_FORM_SSD, CODEC_PLANES_HUF, 1.3);
	expect(c, j, DATA_ZEROS, ELEM_BF16, CODEC_FORM_SSD, CODEC_ZSTD, 1000);
	expect(c, j, DATA_TEXT, ELEM_BYTES, CODEC_FORM_SSD, CODEC_ZSTD, 100);
	expect(c, j, DATA_ROWS, ELEM_BF16, CODEC_FORM_SSD, CODEC_ZSTD, 10);
	expect(c, j, DATA_HALF_ZERO, ELEM_BF16, CODEC_FORM_SSD, CODEC_LADDER_HUF, 2.8);
	/* the first layer's V, and others behind it */
	job_fill(j, DATA_GAUSSIAN, ELEM_BF16, LEN, CODEC_FORM_SSD);
	for (size_t row = 16; row < 400; row++)
		memcpy(j->src + row * 256, j->src + row % 16 * 256, 256);
	CHECK_EQ(encode_decode(c, j), 0);
	CHECK_EQ(j->id, CODEC_LADDER_HUF);
	j->layers = false;
}

static void edges(struct codec_ctx *c, struct job *j)
{
	struct codec_out out = { j->enc, 1, 0 };
	struct codec_in in = { j->enc, 1 };
	unsigned layers;

	for (size_t len = 1; len < 3000; len += 1 + len / 7)
		for (int form = 0; form < 2; form++) {
			job_fill(j, DATA_GAUSSIAN, ELEM_BF16, len, form);
			CHECK_EQ(encode_decode(c, j), 0);
		}
	CHECK_EQ(codec_encode_best(c, 0, &j->shape, j->src, 0, &out, &j->id, &layers), -EINVAL);
	CHECK_EQ(codec_encode_best(c, 0, &j->shape, j->src, 2, &out, &j->id, &layers), -EINVAL);
	CHECK_EQ(codec_decode(c, 99, &j->shape, &in, 1, j->dst, 1, 0), -KVFS_ECODEC);
	CHECK_EQ(codec_decode(c, CODEC_RAW, &j->shape, &in, 0, j->dst, 1, 0), -KVFS_ECODEC);
	memset(j->dst, 1, 100);
	CHECK_EQ(codec_decode(c, CODEC_HOLE, &j->shape, NULL, 0, j->dst, 100, 0), 0);
	CHECK(j->dst[0] == 0 && memcmp(j->dst, j->dst + 1, 99) == 0);
}

/* The largest chunks of every kind never make a context outgrow its promise. */
static void memory(struct codec_ctx *c, struct job *j)
{
	struct codec_ctx *d;

	CHECK_EQ(codec_ctx_create(codec_ctx_simd(c), &d), 0);
	for (unsigned kind = 0; kind < DATA_REAL; kind++)
		for (int form = 0; form < 2; form++) {
			job_fill(j, (enum codec_data)kind, kind & 1 ? ELEM_BYTES : ELEM_F16,
				 CODEC_CHUNK_MAX, form);
			CHECK_EQ(encode_decode(c, j), 0);
			CHECK_EQ(codec_decode(d, j->id, &j->shape, j->in, j->n_in, j->dst, j->len,
					      0), 0);
		}
	for (int form = 0; form < 2; form++) {
		j->layers = true;
		job_fill(j, DATA_GAUSSIAN, ELEM_BF16, 1 << 20, form);
		CHECK_EQ(encode_decode(c, j), 0);
		CHECK_EQ(codec_decode(d, j->id, &j->shape, j->in, j->n_in, j->dst, j->len, 0), 0);
		CHECK(j->n_in == CODEC_LADDER_LAYERS);
		j->layers = false;
	}
	printf("context: %zu bytes, at most %zu promised; decoding %zu, %zu\n",
	       codec_ctx_bytes(c), codec_ctx_bytes_max(), codec_ctx_bytes(d),
	       codec_ctx_bytes_decoding());
	CHECK(codec_ctx_bytes(c) <= codec_ctx_bytes_max());
	CHECK(codec_ctx_bytes(d) <= codec_ctx_bytes_decoding());
	codec_ctx_destroy(d);
}

static int whole_life(void *arg)
{
	struct codec_ctx *c;
	int r = codec_ctx_create(CODEC_SIMD_BEST, &c);

	if (r < 0)
		return r;
	r = encode_decode(c, arg);
	codec_ctx_destroy(c);
	return r;
}

static void faults(struct job *j)
{
	for (int form = 0; form < 2; form++) {
		job_fill(j, DATA_GAUSSIAN, ELEM_BF16, 70000, form);
		(void)test_fault_loop(FAULT_ALLOC, whole_life, j);
		j->layers = true;
		(void)test_fault_loop(FAULT_ALLOC, whole_life, j);
		j->layers = false;
		job_fill(j, DATA_TEXT, ELEM_BYTES, 70000, form);
		(void)test_fault_loop(FAULT_ALLOC, whole_life, j);
	}
}

int main(void)
{
	struct job j = { .src = malloc(CODEC_CHUNK_MAX), .dst = malloc(CODEC_CHUNK_MAX),
			 .enc = malloc((size_t)CODEC_CHUNK_MAX * CODEC_LADDER_LAYERS) };
	struct codec_kit kit;

	CHECK(j.src && j.enc && j.dst);
	codec_kit_init(&kit);
	for (unsigned v = 0; v < kit.n; v++) {
		CHECK_EQ(codec_ctx_simd(kit.ctx[v]), v);
		choices(kit.ctx[v], &j);
		choices_layers(kit.ctx[v], &j);
		edges(kit.ctx[v], &j);
	}
	memory(kit.ctx[kit.n - 1], &j);
	faults(&j);
	codec_kit_fini(&kit);
	codec_ctx_destroy(NULL);
	free(j.src);
	free(j.enc);
	free(j.dst);
	return 0;
}
