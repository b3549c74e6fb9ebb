// SPDX-License-Identifier: MIT
/*
 * The encoder's ladder kernels in plain C: what the SIMD versions must give, and in
 * part what they use.
 */
#include "codecs/simd/ladder_portable.h"

static size_t gather(const uint8_t from[64], uint64_t mask, uint8_t *dst)
{
	size_t n = 0;

	if (mask == ~0ull) {
		memcpy(dst, from, 64);
		return 64;
	}
	for (; mask; mask &= mask - 1)
		dst[n++] = from[__builtin_ctzll(mask)];
	return n;
}

size_t ladder_pack_fix_portable(const struct ladder_desc *d, const struct ladder_block *b, uint8_t *dst)
{
	uint8_t *at = dst, plane[64];

	for (unsigned p = 0; p < 8 && d->plane[p]; p++) {
		for (unsigned l = 0; l < 64; l += 8) {
			uint64_t v = 0;

			for (unsigned j = 0; j < 8; j++)
				v |= (le64_get(b->code[j] + l) >> p & EACH(1ull)) << j;
			le64_put(plane + l, v);
		}
		at += gather(plane, d->plane[p], at);
	}
	return (size_t)(at - dst);
}

void ladder_pack_huf_portable(const struct ladder_desc *d, const struct ladder_block *b,
		     uint8_t *stream[LADDER_CLASSES_MAX])
{
	for (unsigned i = 0; i < d->n_streams; i++) {
		const struct ladder_stream *s = &d->stream[i];
		unsigned per = 8 / s->digit;
		uint64_t low = EACH((1ull << s->digit) - 1);
		uint8_t plane[64];

		for (unsigned j = 0; j < 8; j += per) {
			for (unsigned l = 0; l < 64; l += 8) {
				uint64_t v = 0;

				for (unsigned m = 0; m < per; m++)
					v |= (le64_get(b->code[j + m] + l) & low) << m * s->digit;
				le64_put(plane + l, v);
			}
			stream[s->class] += gather(plane, s->mask, stream[s->class]);
		}
	}
}

size_t ladder_codes_portable(const struct ladder_desc *d, unsigned low, struct ladder_block *b,
			     int16_t *esc)
{
	size_t n = 0;

	for (unsigned j = 0; j < LADDER_LINES; j++)
		for (unsigned l = 0; l < d->lanes; l++) {
			int k = b->t[j][l] >> low, code = k + d->bias[l];

			if (!(d->plane[0] >> l & 1)) {
				b->code[j][l] = 0;
			} else if (code < 0 || code >= d->escape[l]) {
				b->code[j][l] = d->escape[l];
				esc[n++] = (int16_t)k;
			} else {
				b->code[j][l] = (uint8_t)code;
			}
		}
	return n;
}

void ladder_digits_portable(unsigned bits, unsigned low, unsigned lanes,
			    const struct ladder_block *b, uint8_t *dst)
{
	unsigned per = 8 / bits, mask = (1u << bits) - 1;

	for (unsigned s = 0; s < bits; s++, dst += lanes) {
		uint8_t v[64] = { 0 };

		for (unsigned m = 0; m < per; m++)
			for (unsigned l = 0; l < LADDER_LANES; l++)
				v[l] |= (uint8_t)((b->t[s * per + m][l] >> low & mask)
						  << m * bits);
		memcpy(dst, v, lanes);
	}
}

static inline void bits_put(struct ladder_bits_out *o, uint64_t v, unsigned n)
{
	o->acc |= v << o->n;
	if (o->n + n >= 64) {
		le64_put(o->p, o->acc);
		o->p += 8;
		o->acc = o->n ? v >> (64 - o->n) : 0;
		o->n += n - 64;
	} else {
		o->n += n;
	}
}

size_t ladder_exact_put_portable(const struct ladder_level *v, const struct ladder_block *b,
				 struct ladder_bits_out *bits, uint16_t *zeros)
{
	size_t n = 0;

	for (unsigned j = 0; j < LADDER_LINES; j++) {
		uint64_t valid = lanes_below(b->count[j]), zero;
		uint16_t size[64], rest[64];
		int16_t q[64], lo[64];

		if (!valid)
			continue;
		for (unsigned l = 0; l < LADDER_LANES; l++)
			q[l] = (int16_t)(b->t[j][l] + v->add + b->z[j * b->z_step + l]);
		sizes(q, size);
		first_patterns(v, q, lo);
		zero = lanes_within(size, 0) & valid;
		for (unsigned l = 0; l < LADDER_LANES; l++) {
			uint16_t p = b->pat[j][l];

			rest[l] = (uint16_t)((p ^ (p >> 15 ? 0x7fff : 0)) - lo[l]);
			if (b->skip[j] >> l & 1)
				rest[l] = 0;
		}
		for (unsigned p = 0; p < v->n_planes; p++) {
			uint64_t m = lanes_within(size, v->limit[p]) & valid & ~zero, word = 0;
			unsigned got = 0;

			for (; m; m &= m - 1)
				word |= (uint64_t)(rest[__builtin_ctzll(m)] >> p & 1) << got++;
			if (got)
				bits_put(bits, word, got);
		}
		for (; zero; zero &= zero - 1) {
			unsigned l = (unsigned)__builtin_ctzll(zero);

			zeros[n++] = b->skip[j] >> l & 1 ? 0 : b->pat[j][l];
		}
	}
	return n;
}

/* x / D of a line; something beyond the limit for what is not finite. */
static inline void quotients(const struct ladder_level *v, const uint16_t pat[64], float y[64])
{
	float back = power(-v->e);

	if (v->f16)
		for (unsigned l = 0; l < LADDER_LANES; l++) {
			uint32_t p = pat[l], mag = p & 0x7fff, odd = mag >= 0x7c00 ? 0x60000000 : 0;
			float f = float_of(mag << 13) * 0x1p112f * back;

			y[l] = float_of((bits_of(f) | odd) | p >> 15 << 31);
		}
	else
		for (unsigned l = 0; l < LADDER_LANES; l++)
			y[l] = float_of((uint32_t)pat[l] << 16) * back;
}

void ladder_cells_portable(const struct ladder_level *v, struct ladder_block *b)
{
	const uint32_t limit = bits_of(LADDER_CELL_LIMIT);

	for (unsigned j = 0; j < LADDER_LINES; j++) {
		uint32_t good[64], all = ~0u;
		float y[64];

		quotients(v, b->pat[j], y);
		for (unsigned l = 0; l < LADDER_LANES; l++) { /* NaN has more bits than that */
			good[l] = 0 - (uint32_t)((bits_of(y[l]) & 0x7fffffff) < limit);
			all &= good[l];
		}
		for (unsigned l = 0; l < LADDER_LANES; l++) {
			float x = float_of(bits_of(y[l] + 0.5f) & good[l]);
			int i = (int)x;

			b->t[j][l] = (int16_t)(i - ((float)i > x));
		}
		for (unsigned l = 0; !all && l < LADDER_LANES; l++)
			b->skip[j] |= (uint64_t)!good[l] << l;
	}
}

void ladder_centre_portable(const struct ladder_level *v, struct ladder_block *b)
{
	for (unsigned j = 0; j < LADDER_LINES; j++) {
		const int16_t *z = b->z + j * b->z_step;

		for (unsigned l = 0; l < LADDER_LANES; l++)
			b->t[j][l] = (int16_t)((b->skip[j] >> l & 1 ? 0 : b->t[j][l] - z[l]) -
					       v->add);
	}
}
