// SPDX-License-Identifier: MIT
/* Deterministic test data: integers only where it matters, so no libm. */
#include "codec_data.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/elem.h"
#include "base/le.h"

uint64_t rng_next(struct rng *r)
{
	uint64_t z = r->s += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

/* Near enough to normal: the sum of 12 uniforms. */
static float normal(struct rng *r)
{
	float x = -6.0f;

	for (int i = 0; i < 3; i++) {
		uint64_t v = rng_next(r);

		for (int k = 0; k < 4; k++, v >>= 16)
			x += (float)(v & 0xffff) / 65536.0f;
	}
	return x;
}

static uint32_t f32_bits(float f)
{
	uint32_t v;

	memcpy(&v, &f, 4);
	return v;
}

/* Truncating conversions: good enough for test data. */
static uint32_t small_float(uint32_t f, int exp_bits, int man_bits, int bias)
{
	int e = (int)(f >> 23 & 0xff) - 127 + bias;
	uint32_t sign = f >> 31, man = (f & 0x7fffff) >> (23 - man_bits);
	int top = (1 << exp_bits) - 2;

	if (e <= 0) {
		man = e < -man_bits ? 0 : (man | 1u << man_bits) >> (1 - e);
		e = 0;
	} else if (e > top) {
		e = top;
	}
	return sign << (exp_bits + man_bits) | (uint32_t)e << man_bits | man;
}

static uint32_t convert(unsigned elem, float x)
{
	uint32_t f = f32_bits(x);

	switch (elem) {
	case ELEM_F32:
		return f;
	case ELEM_BF16:
		return (f + 0x7fff + (f >> 16 & 1)) >> 16;
	case ELEM_F16:
		return small_float(f, 5, 10, 15);
	case ELEM_F8E5M2:
		return small_float(f, 5, 2, 15);
	case ELEM_F8E4M3:
		return small_float(f, 4, 3, 7);
	default:
		return f >> 16;
	}
}

static uint32_t special(unsigned elem, struct rng *r)
{
	static const uint32_t f32[] = { 0x7f800000, 0xff800000, 0x7fc00000, 0xffffffff,
					0x7f800001, 0x80000000, 0x7f7fffff, 0x00000001 };
	uint32_t v = f32[rng_next(r) % 8] | (uint32_t)(rng_next(r) & 0x3fffff);

	return elem == ELEM_F32 ? v : elem_bytes(elem) == 2 ? v >> 16 : v >> 24;
}

/* Top bytes with that many different values, so that each code width is best
 * for one of the numbers. */
static uint32_t spread(unsigned elem, uint64_t seed, struct rng *r)
{
	static const uint8_t values[] = { 6, 14, 28, 56, 110 };
	uint64_t x = rng_next(r);
	uint32_t top = (uint32_t)(64 + x % values[seed % 5]), rest = (uint32_t)(x >> 32);
	unsigned bits = 8 * elem_bytes(elem);

	if (bits == 8)
		return top >> 1 | (top & 1) << 7;
	rest = top << (bits - 8) | (rest & ((1u << (bits - 8)) - 1));
	return rest >> 1 | (rest & 1) << (bits - 1); /* the sign is the last bit of rest */
}

static uint32_t element(enum codec_data kind, unsigned elem, float scale, struct rng *r)
{
	switch (kind) {
	case DATA_CONSTANT:
		return convert(elem, 0.7f);
	case DATA_SPECIAL:
		return rng_next(r) % 4 ? convert(elem, scale * normal(r)) : special(elem, r);
	case DATA_DENORMAL:
		if (elem == ELEM_F32 || elem == ELEM_BF16)
			return (uint32_t)(rng_next(r) & 0x807fffff) >>
			       (elem == ELEM_F32 ? 0 : 16);
		return (uint32_t)(rng_next(r) & (elem_bytes(elem) == 2 ? 0x83ff : 0x83));
	case DATA_RANDOM:
		return (uint32_t)rng_next(r);
	default:
		return convert(elem, scale * normal(r));
	}
}

static void put(unsigned eb, uint8_t *p, uint32_t v)
{
	if (eb == 1)
		*p = (uint8_t)v;
	else if (eb == 2)
		le16_put(p, (uint16_t)v);
	else
		le32_put(p, v);
}

/* 2^(normal / 2), by parts: an exponent and a linear fraction. */
static float channel_scale(uint64_t seed, uint32_t col)
{
	struct rng r = { seed ^ (uint64_t)col << 32 };
	float x = normal(&r), scale;
	uint32_t bits;
	int whole = (int)(x + 16.0f) - 16;

	bits = (uint32_t)(127 + whole) << 23;
	memcpy(&scale, &bits, 4);
	return scale * (1.0f + (x - (float)whole));
}

/* A mean that turns by one radian per row, without libm. */
struct turning {
	float c, s;
};

static float turning_mean(struct turning *t, uint32_t col)
{
	if (col == 0) {
		float x = t->c * 0.54030230586f - t->s * 0.84147098481f;

		t->s = t->s * 0.54030230586f + t->c * 0.84147098481f;
		t->c = x;
	}
	return col % 32 > 1 ? 0 : 8 * (col % 2 ? t->s : t->c);
}

/* Special values here and there, and one row of them. */
static void scatter_odd(unsigned elem, uint32_t cols, struct rng *r, uint8_t *p, size_t n)
{
	unsigned eb = elem_bytes(elem);

	for (size_t i = 0; i < n / 200; i++)
		put(eb, p + rng_next(r) % n * eb, special(elem, r));
	for (size_t i = 0; i < cols && n >= 20 * cols; i++)
		put(eb, p + (19 * cols + i) * eb, convert(elem, 0) | (elem == ELEM_BF16 ? 0x7fc1 : 0));
}

static const char *real_path(void)
{
	return getenv("KVCACHEFS_TEST_CACHE");
}

bool codec_data_available(enum codec_data kind)
{
	return kind != DATA_REAL || real_path();
}

/* Somewhere in the file; around again at its end. */
static void fill_real(uint64_t seed, uint8_t *p, size_t len)
{
	FILE *f = fopen(real_path(), "rb");
	long size;

	if (!f || fseek(f, 0, SEEK_END) != 0 || (size = ftell(f)) <= 0 ||
	    fseek(f, (long)(seed % (uint64_t)size) & ~63l, SEEK_SET) != 0)
		abort();
	while (len) {
		size_t n = fread(p, 1, len, f);

		if (n == 0)
			rewind(f);
		p += n;
		len -= n;
	}
	fclose(f);
}

/* Whole rows repeat: row i is a copy of an earlier one. */
static void repeat_rows(struct rng *r, uint8_t *p, size_t row, size_t len)
{
	for (size_t i = 40; row && (i + 1) * row <= len; i++)
		memcpy(p + i * row, p + rng_next(r) % 40 * row, row);
}

void codec_data_fill(enum codec_data kind, unsigned elem, uint32_t cols, uint64_t seed,
		     void *buf, size_t len)
{
	unsigned eb = elem_bytes(elem);
	struct turning t = { 1, 0 };
	struct rng r = { seed };
	uint8_t *p = buf;
	size_t n = len / eb;

	if (kind == DATA_REAL) {
		fill_real(seed, buf, len);
		return;
	}
	if (kind == DATA_TEXT) {
		for (size_t i = 0; i < len; i++)
			p[i] = (uint8_t)"the quick brown fox jumps over "[(i + i / 97) % 31];
		return;
	}
	memset(p, 0, len);
	for (size_t i = 0; i < n; i++) {
		size_t channel = kind == DATA_TRANSPOSED ? i / cols : i % cols;

		if (kind == DATA_ZEROS || (kind == DATA_HALF_ZERO && i > n / 2))
			break;
		if (kind == DATA_TURNING) {
			float x = 0.3f * normal(&r) + turning_mean(&t, (uint32_t)(i % cols));

			put(eb, p + i * eb, convert(elem, x));
			continue;
		}
		put(eb, p + i * eb,
		    kind == DATA_SPREAD
			    ? spread(elem, seed, &r)
			    : element(kind, elem, channel_scale(seed, (uint32_t)channel), &r));
	}
	for (size_t i = n * eb; i < len; i++)
		p[i] = (uint8_t)rng_next(&r);
	if (kind == DATA_ODD)
		scatter_odd(elem, cols, &r, p, n);
	if (kind == DATA_ROWS)
		repeat_rows(&r, p, cols * eb, len);
}

const char *codec_data_name(enum codec_data kind)
{
	static const char *const names[] = { "gaussian", "transposed", "constant",
					     "zeros",    "special",    "denormal",
					     "random",   "half-zero",  "text",
					     "spread",   "rows",       "turning",
					     "odd",      "real" };

	return kind < DATA_KINDS_ ? names[kind] : "?";
}
