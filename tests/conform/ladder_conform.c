// SPDX-License-Identifier: MIT
/*
 * Conformance of the ladder codecs: every level of both packings in every SIMD
 * version gives the same bytes; all layers give the original; coarser cells hold
 * finer ones; layer 0 of one packing becomes that of the other; what is kept
 * exact is so at every level; oddities (NaN, Inf, zeros, constants) harm nothing
 * but themselves. Buffers end at guard pages. The kernels see every pattern with
 * every step.
 *
 * ladder_conform [SEED]   Exit 0 passed, 1 failed.
 */
#include <math.h>
#include <string.h>

#include "base/le.h"
#include "codec_data.h"
#include "codec_kit.h"
#include "codecs/ladder.h"

#define ROOM (2u << 20)
#define LAYERS 4u

struct bench {
	struct codec_kit kit;
	uint8_t *src_end, *dst_end, *ref;
	uint8_t *enc_end[LAYERS], *buf[2][LAYERS]; /* by packing */
	size_t len[2][LAYERS];
	size_t cases, encoded, turning;
};

struct one {
	struct chunk_shape shape;
	enum codec_data kind;
	size_t len;
	unsigned odd; /* what is put into the data */
	bool turning; /* means that turn with the rows */
};

static const unsigned ids[2] = { CODEC_LADDER_HUF, CODEC_LADDER_FIX };

static void fail_at(const struct one *o, const char *what, long a, long b, long c)
{
	CHECK_MSG(0, "%s: elem %u %s len %zu row %u transposed %u odd %u: %ld %ld %ld", what,
		  o->shape.elem, codec_data_name(o->kind), o->len, o->shape.row_bytes,
		  o->shape.transposed, o->odd, a, b, c);
}

static float value(unsigned elem, const uint8_t *p)
{
	uint32_t u = elem == ELEM_F32 ? le32_get(p) : (uint32_t)le16_get(p) << 16;
	float f;

	if (elem == ELEM_F16) {
		uint32_t mag = (u >> 16 & 0x7fff) << 13;

		memcpy(&f, &mag, 4);
		f = mag >> 13 >= 0x7c00 ? NAN : f * 0x1p112f;
		return u >> 31 ? -f : f;
	}
	memcpy(&f, &u, 4);
	return f;
}

/* Encodes with every version; true when it is taken. */
static bool encode_all(struct bench *b, const struct one *o, unsigned packing, const uint8_t *src)
{
	const struct codec_ops *ops = codec_by_id(ids[packing]);
	int first = 0;

	for (unsigned v = 0; v < b->kit.n; v++) {
		struct codec_out out[LAYERS];
		int r;

		for (unsigned i = 0; i < LAYERS; i++) {
			size_t bound = ops->bound(&o->shape, o->len, i);

			out[i] = (struct codec_out){ b->enc_end[i] - bound, bound, 0 };
			b->enc_end[i][-(long)bound - 1] = 0xa5;
		}
		r = ops->encode(b->kit.ctx[v], &o->shape, src, o->len, out);
		if (r != 0 && r != -KVFS_ENOGAIN)
			fail_at(o, "encode", r, 0, 0);
		for (unsigned i = 0; i < LAYERS; i++) {
			if (((uint8_t *)out[i].buf)[-1] != 0xa5)
				fail_at(o, "encode wrote before the start, layer", i, v, 0);
			if (v == 0 && r == 0) {
				memcpy(b->buf[packing][i], out[i].buf, out[i].len);
				b->len[packing][i] = out[i].len;
			} else if (r == 0 && (b->len[packing][i] != out[i].len ||
				   memcmp(b->buf[packing][i], out[i].buf, out[i].len) != 0)) {
				fail_at(o, "versions encode differently, layer", i, v, 0);
			}
		}
		if (v == 0)
			first = r;
		CHECK(r == first);
	}
	return first == 0;
}

static void decode_all(struct bench *b, const struct one *o, unsigned n_in, const uint8_t *src)
{
	uint8_t *dst = b->dst_end - o->len;

	for (unsigned packing = 0; packing < 2; packing++)
		for (unsigned v = 0; v < b->kit.n; v++) {
			struct codec_in in[LAYERS];
			int r;

			for (unsigned i = 0; i < n_in; i++) {
				size_t n = b->len[packing][i];

				in[i] = (struct codec_in){
					memcpy(b->enc_end[i] - n, b->buf[packing][i], n), n };
			}
			memset(dst - 64, 0x5a, o->len + 64);
			r = codec_decode(b->kit.ctx[v], ids[packing], &o->shape, in, n_in, dst,
					 o->len, v & 1 ? CODEC_DECODE_STREAM : 0);
			if (r != 0)
				fail_at(o, "decode", r, packing, v);
			for (unsigned i = 1; i <= 64; i++)
				CHECK(dst[-(int)i] == 0x5a);
			if (packing == 0 && v == 0)
				memcpy(b->ref, dst, o->len);
			else if (memcmp(b->ref, dst, o->len) != 0)
				fail_at(o, "decoded differently", packing, v, n_in);
			if (n_in == LAYERS && memcmp(dst, src, o->len) != 0)
				fail_at(o, "not exact", packing, v, 0);
		}
}

/* What every level keeps: what is not finite, first tokens, the chunk's end; and no
 * value is farther off than the level's cell. */
static void check_level(struct bench *b, const struct one *o, unsigned n_in, const uint8_t *src)
{
	unsigned eb = elem_bytes(o->shape.elem), cols = o->shape.row_bytes / eb;
	int e = (int8_t)b->buf[0][0][2];
	float cell = ldexpf(1, e + (n_in == 1 ? 6 : n_in == 2 ? 4 : 0));
	size_t n = o->len / eb, whole = n / cols * cols;

	CHECK(memcmp(b->ref + whole * eb, src + whole * eb, o->len - whole * eb) == 0);
	for (size_t i = 0; i < whole; i++) {
		float x = value(o->shape.elem, src + i * eb), y;
		size_t token = o->shape.transposed ? i % cols : i / cols + o->shape.first_row;
		bool same = memcmp(b->ref + i * eb, src + i * eb, eb) == 0;

		if (o->shape.part_rows && !o->shape.transposed)
			token %= o->shape.part_rows;
		if (o->shape.page)
			token = 4;
		if ((token < 4 || !isfinite(x)) && !same)
			fail_at(o, "not kept", (long)i, n_in, 0);
		if (same)
			continue;
		y = value(o->shape.elem, b->ref + i * eb);
		/* a value's own rounding is 2^-8 of it; f16 2^-11 */
		if (!(fabsf(x - y) <= cell * 1.6f + fabsf(x) / 64))
			fail_at(o, "far off", (long)i, n_in, (long)(1000 * (x - y) / cell));
	}
}

static void transcode_all(struct bench *b, const struct one *o)
{
	for (unsigned packing = 0; packing < 2; packing++) {
		const struct codec_ops *ops = codec_by_id(ids[packing]);

		CHECK(ops->twin == ids[!packing]);
		for (unsigned v = 0; v < b->kit.n; v++) {
			size_t n = b->len[packing][0];
			struct codec_out out = { b->dst_end - o->len, o->len, 0 };
			int r = ops->transcode(b->kit.ctx[v], &o->shape,
					       memcpy(b->enc_end[0] - n, b->buf[packing][0], n),
					       n, o->len, &out);

			if (r != 0 || out.len != b->len[!packing][0] ||
			    memcmp(out.buf, b->buf[!packing][0], out.len) != 0)
				fail_at(o, "transcode", r, packing, v);
		}
	}
	for (unsigned i = 1; i < LAYERS; i++)
		CHECK(b->len[0][i] == b->len[1][i] &&
		      memcmp(b->buf[0][i], b->buf[1][i], b->len[0][i]) == 0);
}

static void put_element(unsigned elem, uint8_t *p, uint32_t bf16)
{
	if (elem == ELEM_F32)
		le32_put(p, bf16 << 16 | 0x1234);
	else
		le16_put(p, (uint16_t)bf16);
}

/* Rows, columns and single elements that are not like others. */
static void make_odd(const struct one *o, uint8_t *p, struct rng *r)
{
	unsigned eb = elem_bytes(o->shape.elem), cols = o->shape.row_bytes / eb;
	size_t n = o->len / eb, rows = n / cols;
	static const uint16_t odd[] = { 0x7fc1, 0xff81, 0x7f80, 0xff80, 0x8000, 0x0001, 0x7f7f, 0x0000 };

	for (unsigned k = 0; k < o->odd; k++) {
		uint64_t x = rng_next(r);
		uint16_t v = odd[x % 8];
		size_t row = (x >> 8) % rows, col = (x >> 24) % cols;

		if (o->shape.elem == ELEM_F16 && (v & 0x7f80) == 0x7f80)
			v |= 0x7c00;
		switch (x >> 60 & 3) {
		case 0:
			for (size_t c = 0; c < cols; c++)
				put_element(o->shape.elem, p + (row * cols + c) * eb, v);
			break;
		case 1:
			for (size_t i = 0; i < rows && rows >= 64; i++)
				put_element(o->shape.elem, p + (i * cols + col) * eb, v & 0x80ff);
			break;
		default:
			put_element(o->shape.elem, p + (row * cols + col) * eb, v);
		}
	}
}

/* Adds means that turn as rotary positions do, some as another base would have it. */
static void make_turning(const struct one *o, uint8_t *p)
{
	unsigned eb = elem_bytes(o->shape.elem), cols = o->shape.row_bytes / eb;
	unsigned d = o->shape.head_bytes / eb;
	size_t n = o->len / eb / cols * cols;

	if (!o->turning || o->shape.elem == ELEM_F16 || cols % d)
		return;
	for (size_t i = 0; i < n; i++) {
		unsigned at = (unsigned)(i % cols % d), pair = o->odd & 1 ? at / 2 : at % (d / 2);
		bool second = o->odd & 1 ? at & 1 : at >= d / 2;
		double w = pow(o->odd & 2 ? 10000 : 500000, -2.0 * pair / d);
		double phi = w * (double)(i / cols) + pair;
		float x = value(o->shape.elem, p + i * eb);
		uint32_t bits;

		if (!isfinite(x))
			continue;
		x += (float)((second ? sin(phi) : cos(phi)) * (1 + pair % 4));
		memcpy(&bits, &x, 4);
		if (eb == 4)
			le32_put(p + i * 4, bits);
		else
			le16_put(p + i * 2, (uint16_t)((bits + 0x8000) >> 16));
	}
}

static void one_case(struct bench *b, const struct one *o, uint64_t seed)
{
	uint8_t *src = b->src_end - o->len;
	unsigned eb = elem_bytes(o->shape.elem);
	struct rng r = { seed };

	codec_data_fill(o->kind, o->shape.elem, o->shape.row_bytes / eb, seed, src, o->len);
	make_turning(o, src);
	make_odd(o, src, &r);
	b->cases++;
	if (!encode_all(b, o, 0, src) || !encode_all(b, o, 1, src))
		return; /* one of them may shrink too little where the other does enough */
	b->encoded++;
	b->turning += b->buf[0][0][11] != 0;
	for (unsigned n_in = 1; n_in <= LAYERS; n_in++) {
		decode_all(b, o, n_in, src);
		check_level(b, o, n_in, src);
	}
	transcode_all(b, o);
}

static void chunks(struct bench *b, struct rng *r, bool must)
{
	static const uint32_t cols[] = { 8, 16, 40, 64, 100, 128, 192, 256, 1024, 1030 };
	static const enum codec_data kinds[] = { DATA_GAUSSIAN, DATA_TRANSPOSED, DATA_HALF_ZERO,
						 DATA_SPECIAL, DATA_DENORMAL, DATA_ROWS,
						 DATA_RANDOM, DATA_REAL };
	static const uint8_t elems[] = { ELEM_BF16, ELEM_F16, ELEM_F32 };

	for (unsigned k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++)
		for (unsigned i = 0; i < 30 && codec_data_available(kinds[k]); i++) {
			uint64_t x = rng_next(r);
			unsigned c = cols[i % 10], eb = elem_bytes(elems[i / 10]);
			size_t rows = 1 + 4096 / c + (x >> 8) % (1 + test_rounds(60000) / c);
			struct one o = { .kind = kinds[k], .odd = x >> 32 & 1 ? x >> 33 & 7 : 0 };

			o.shape.elem = elems[i / 10];
			o.shape.row_bytes = c * eb;
			o.shape.transposed = kinds[k] == DATA_TRANSPOSED || x >> 40 & 1;
			o.turning = x >> 48 & 1;
			o.shape.kind = o.turning ? REGION_K : x >> 49 & 3;
			o.shape.head_bytes = (x >> 51 & 1 ? 64 : 32) * eb;
			o.shape.first_row = x >> 41 & 1 ? 0 : 1000;
			o.shape.part_rows = (x >> 53 & 3) == 1 ? (uint32_t)(rows / 3 + 1) : 0;
			o.shape.page = (x >> 53 & 3) == 2;
			o.len = rows * c * eb + (x >> 42 & 1 ? (x >> 43) % (c * eb) : 0);
			one_case(b, &o, x);
		}
	CHECK(!must || (b->encoded > b->cases / 4 && b->turning > 4));
}

/* Tokens a thousand times as large as the others do not make the step any larger. */
static void huge_tokens(struct bench *b)
{
	struct one o = { .kind = DATA_GAUSSIAN, .len = 1000 * 192 };
	uint8_t *src = b->src_end - o.len;
	int step;

	o.shape = (struct chunk_shape){ .elem = ELEM_BF16, .row_bytes = 192, .kind = REGION_K };
	codec_data_fill(o.kind, ELEM_BF16, 96, 5, src, o.len);
	CHECK(encode_all(b, &o, 0, src));
	step = (int8_t)b->buf[0][0][2];
	for (unsigned row = 8; row < 1000; row += 60)
		for (unsigned c = 0; c < 96; c++)
			src[row * 192 + 2 * c + 1] = (uint8_t)(src[row * 192 + 2 * c + 1] + 5);
	CHECK(encode_all(b, &o, 0, src) && encode_all(b, &o, 1, src));
	CHECK_MSG((int8_t)b->buf[0][0][2] == step, "steps 2^%d and 2^%d", step,
		  (int8_t)b->buf[0][0][2]);
	for (unsigned n_in = 1; n_in <= LAYERS; n_in++) {
		decode_all(b, &o, n_in, src);
		check_level(b, &o, n_in, src);
	}
}

/* Rows of more columns than channels may be: all layers of a token. */
static void wide_rows(struct bench *b)
{
	struct one o = { .kind = DATA_GAUSSIAN, .len = 8 * 32768 };
	uint8_t *src = b->src_end - o.len;

	o.shape = (struct chunk_shape){ .elem = ELEM_BF16, .row_bytes = 32768, .kind = REGION_V };
	codec_data_fill(o.kind, ELEM_BF16, 1024, 5, src, o.len);
	CHECK(encode_all(b, &o, 0, src) && encode_all(b, &o, 1, src));
	for (unsigned n_in = 1; n_in <= LAYERS; n_in++) {
		decode_all(b, &o, n_in, src);
		check_level(b, &o, n_in, src);
	}
}

/* Every finite pattern with every step comes back. */
static void patterns(struct bench *b, unsigned v, unsigned elem)
{
	const struct ladder_kern *k = b->kit.ctx[v]->ladder_kern;
	struct ladder_block *blk = aligned_alloc(64, sizeof(*blk));
	struct ladder_desc *d = aligned_alloc(64, (sizeof(*d) + 63) & ~63ul);
	uint16_t zeros[1024], want[LADDER_LINES][LADDER_LANES];
	struct ladder_head h = { .elem = (uint8_t)elem, .n_bits = 2, .bits = { 2, 4 } };
	uint8_t bits[2048], digits[2][512];
	int16_t esc[1024];

	memset(d, 0, sizeof(*d));
	memset(d->plane, 255, sizeof(d->plane));
	memset(d->escape, 255, sizeof(d->escape));
	for (unsigned l = 0; l < 64; l++)
		d->bias[l] = 127;
	d->lanes = 64;
	for (int e = elem == ELEM_F16 ? -40 : -100; e <= (elem == ELEM_F16 ? 0 : 100);
	     e += elem == ELEM_F16 ? 2 : 20)
		for (unsigned first = 0; first < 65536; first += 512) {
			struct ladder_bits_out out = { bits, 0, 0 };
			struct ladder_bits in = { bits, 0 };
			struct ladder_level lv;
			struct ladder_more more;

			h.e = (int8_t)e;
			lv = ladder_level_of(&h, 0);
			for (unsigned i = 0; i < 512; i++)
				blk->pat[i / 64][i % 64] = (uint16_t)(first + i);
			memset(blk->skip, 0, sizeof(blk->skip));
			memset(blk->count, 64, sizeof(blk->count));
			memcpy(want, blk->pat, sizeof(want));
			k->cells(&lv, blk);
			for (unsigned j = 0; j < LADDER_LINES; j++)
				blk->to[j] = (uint8_t *)blk->pat[j];
			blk->z = d->z;
			blk->z_step = 0;
			blk->turn.c = NULL;
			k->centre(&lv, blk);
			more = (struct ladder_more){ esc, 2, { 2, 4 }, { digits[0], digits[1] } };
			(void)k->codes(d, 6, blk, esc);
			k->digits(2, 4, 64, blk, digits[0]);
			k->digits(4, 0, 64, blk, digits[1]);
			(void)k->exact_put(&lv, blk, &out, zeros);
			le64_put(out.p, out.acc);
			memset(blk->pat, 0x77, sizeof(blk->pat));
			(void)k->exact(&lv, d, &more, &in, zeros, blk);
			CHECK(in.at == (uint64_t)(out.p - bits) * 8 + out.n);
			for (unsigned i = 0; i < 512; i++)
				CHECK_MSG(le16_get(blk->to[i / 64] + 2 * (i % 64)) == want[i / 64][i % 64] ||
						  blk->skip[i / 64] >> i % 64 & 1,
					  "elem %u e %d pattern %x: %x", elem, e, first + i,
					  blk->pat[i / 64][i % 64]);
		}
	free(blk);
	free(d);
}

/* Every version decodes every level alike, all layers exactly. */
static void list_decode(struct bench *b, const struct codec_in in[], unsigned layers, bool huf,
			const uint8_t *src, size_t len)
{
	uint8_t *dst = b->dst_end - len;

	for (unsigned n_in = 1; n_in <= layers; n_in++)
		for (unsigned v = 0; v < b->kit.n; v++) {
			CHECK(ladder_decode(b->kit.ctx[v], huf, in, n_in, dst, len) == 0);
			if (v == 0)
				memcpy(b->ref, dst, len);
			CHECK_MSG(memcmp(b->ref, dst, len) == 0, "layers %u of %u version %u", n_in,
				  layers, v);
		}
	CHECK(memcmp(dst, src, len) == 0);
}

/* Refinements that no chunk has by default, but that the format allows. */
static void lists(struct bench *b, unsigned elem, bool turning)
{
	static const uint8_t bits[][LADDER_REFINEMENTS_MAX] = {
		{ 1 }, { 4 }, { 2, 2, 2 }, { 2, 1, 1 }, { 2, 4, 1 }, { 2, 4, 2 }, { 4, 2 }, { 1, 1, 2, 4 },
		{ 1, 1, 1, 1, 1, 1 }, { 2, 2 }, { 2, 1 }, { 2 },
	};
	unsigned eb = elem_bytes(elem);
	struct one o = { .shape = { .elem = (uint8_t)elem, .row_bytes = 128 * eb, .kind = REGION_K,
				    .head_bytes = 64 * eb },
			 .len = 128 * 100 * eb, .turning = turning };
	uint8_t *src = b->src_end - o.len, *room = malloc(CODEC_LAYERS_MAX * o.len);

	CHECK(room);
	codec_data_fill(DATA_GAUSSIAN, elem, 128, 7, src, o.len);
	make_turning(&o, src);
	for (unsigned i = 0; i < sizeof(bits) / sizeof(bits[0]); i++) {
		struct codec_out out[CODEC_LAYERS_MAX];
		struct codec_in in[CODEC_LAYERS_MAX];
		struct ladder_opts opts = ladder_defaults;
		unsigned layers;

		memcpy(opts.bits, bits[i], sizeof(opts.bits));
		for (opts.n_bits = 0; opts.n_bits < LADDER_REFINEMENTS_MAX && bits[i][opts.n_bits];)
			opts.n_bits++;
		for (unsigned packing = 0; packing < 2; packing++) {
			for (unsigned k = 0; k < CODEC_LAYERS_MAX; k++)
				out[k] = (struct codec_out){ room + k * o.len, o.len, 0 };
			CHECK(ladder_encode(b->kit.ctx[0], packing == 0, &o.shape, &opts, src, o.len,
					    out, &layers) == 0);
			CHECK(layers == 2u + opts.n_bits);
			for (unsigned k = 0; k < layers; k++)
				in[k] = (struct codec_in){ out[k].buf, out[k].len };
			list_decode(b, in, layers, packing == 0, src, o.len);
		}
	}
	free(room);
}

int main(int argc, char **argv)
{
	struct rng r = { argc > 1 ? strtoull(argv[1], NULL, 0) : 1 };
	struct bench b = { .src_end = guarded_end(ROOM), .dst_end = guarded_end(ROOM),
			   .ref = malloc(ROOM) };

	CHECK(b.ref);
	for (unsigned i = 0; i < LAYERS; i++) {
		b.enc_end[i] = guarded_end(ROOM);
		for (unsigned p = 0; p < 2; p++)
			CHECK((b.buf[p][i] = malloc(ROOM)));
	}
	codec_kit_init(&b.kit);
	for (unsigned v = 0; v < b.kit.n; v++) {
		patterns(&b, v, ELEM_BF16);
		patterns(&b, v, ELEM_F16);
	}
	for (unsigned turning = 0; turning < 2; turning++) {
		lists(&b, ELEM_BF16, turning);
		lists(&b, ELEM_F16, turning);
		lists(&b, ELEM_F32, turning);
	}
	chunks(&b, &r, argc == 1);
	huge_tokens(&b);
	wide_rows(&b);
	printf("%zu cases, %zu encoded, %zu with turning means, %u versions\n", b.cases, b.encoded,
	       b.turning, b.kit.n);
	codec_kit_fini(&b.kit);
	for (unsigned i = 0; i < LAYERS; i++)
		for (unsigned p = 0; p < 2; p++)
			free(b.buf[p][i]);
	free(b.ref);
	return 0;
}
