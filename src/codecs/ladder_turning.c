// SPDX-License-Identifier: MIT
/*
 * Do the means turn? Keys with rotary positions have means that do, by an angle per
 * token that is the same for the pair in every head: base^(-2i/d). On a sample of rows
 * the correlation of neighbours shows head size and pairing; then the usual bases
 * are tried, and what is left of the variance decides. The angles themselves are
 * stored, not the base.
 */
#include <math.h>
#include <string.h>

#include "codecs/ladder.h"

#define ROWS_MIN 64u    /* fewer: the means would cost more than they save */
#define HEAD_MIN 8u
#define MEANS_PART 2u   /* one group of rows of so many goes into the means */
#define MEANS_ROWS 256u /* unless there are not more rows */
#define GAIN_MIN 8      /* 1/256 bit per value */
#define SIZES 6u
#define BASES 6u

static const double bases[BASES] = { 10000, 500000, 1000000, 100000, 5000000, 40000 };
static const uint16_t sizes[SIZES] = { 128, 64, 96, 80, 256, 32 }; /* of heads */

struct sample {
	uint32_t row[LADDER_TURN_ROWS];
	unsigned n, cols;
};

static float value_of(const struct ladder_head *h, const uint8_t *p)
{
	uint32_t v = le16_get(h->eb == 4 ? p + 2 : p), u = v << 16;
	float f;

	if (h->elem == ELEM_F16)
		u = (v & 0x7fff) >= 0x7c00 ? 0 : (v >> 15) << 31 | (v & 0x7fff) << 13;
	else if ((v & 0x7f80) == 0x7f80)
		u = 0;
	memcpy(&f, &u, 4);
	return h->elem == ELEM_F16 ? f * 0x1p112f : f;
}

/* Pairs of neighbouring rows spread over the chunk, columns from the first one on. */
static void sample_take(struct ladder_scratch *s, const struct ladder_head *h, const uint8_t *src,
			struct sample *a)
{
	uint32_t coded = 0, next = 0, range = 0;

	a->n = 0;
	a->cols = h->cols < LADDER_TURN_COLS ? h->cols : LADDER_TURN_COLS;
	for (uint32_t r = 0; r < h->rows && a->n < LADDER_TURN_ROWS; r++) {
		if (range < h->n_ranges && s->ranges[range].first == r) {
			r += s->ranges[range++].n - 1;
			continue;
		}
		if (coded++ < next)
			continue;
		for (unsigned c = 0; c < a->cols; c++)
			s->stats->sample[a->n][c] =
				value_of(h, src + ((size_t)r * h->cols + c) * h->eb);
		a->row[a->n++] = r;
		if (a->n % 2 == 0)
			next = (uint32_t)((uint64_t)a->n * h->coded_rows / LADDER_TURN_ROWS);
	}
}

/* cos - 1 and sin of one row's turns, by base and pair. */
struct steps {
	float c[BASES][LADDER_TURN_COLS / 2], s[BASES][LADDER_TURN_COLS / 2];
};

static void steps_of(unsigned d, struct steps *st)
{
	for (unsigned b = 0; b < BASES; b++)
		for (unsigned p = 0; p < d / 2; p++) {
			float w = (float)pow(bases[b], -2.0 * p / d);

			st->c[b][p] = cosf(w) - 1;
			st->s[b][p] = sinf(w);
		}
}

/* By how much better neighbours correlate when the second is turned back as one of
 * the bases would have it. */
static float neighbours(const struct ladder_scratch *s, const struct sample *a, unsigned d,
			unsigned turn, const struct steps *st)
{
	float sum[BASES] = { 0 }, best = 0;

	for (unsigned x = 0; x < a->cols / d * d; x++) {
		unsigned at = x % d, p = turn == 1 ? at / 2 : at;
		unsigned y = turn == 1 ? x + 1 : x + d / 2;
		float re = 0, im = 0, all = 1e-30f;

		if (turn == 1 ? at % 2 : at >= d / 2)
			continue;
		for (unsigned i = 0; i + 1 < a->n; i += 2) {
			const float *u = s->stats->sample[i], *v = s->stats->sample[i + 1];

			if (a->row[i + 1] != a->row[i] + 1)
				continue;
			re += u[x] * v[x] + u[y] * v[y];
			im += u[x] * v[y] - u[y] * v[x];
			all += u[x] * u[x] + u[y] * u[y];
		}
		for (unsigned b = 0; b < BASES; b++)
			sum[b] += (re * st->c[b][p] + im * st->s[b][p]) / all;
	}
	for (unsigned b = 0; b < BASES; b++)
		best = sum[b] > best ? sum[b] : best;
	return best / (float)(a->cols / d * d);
}

/* Energy of a pair's mean, turned back by @turn per row. */
static float turned(const struct ladder_scratch *s, const struct sample *a, unsigned x, unsigned y,
		    const float (*cs)[2])
{
	float p = 0, q = 0;

	for (unsigned i = 0; i < a->n; i++) {
		const float *v = s->stats->sample[i];

		p += v[x] * cs[i][0] + v[y] * cs[i][1];
		q += v[y] * cs[i][0] - v[x] * cs[i][1];
	}
	return (p * p + q * q) / ((float)a->n * (float)a->n);
}

static float energy(const struct ladder_scratch *s, const struct sample *a, unsigned x, unsigned y)
{
	float sum = 0;

	for (unsigned i = 0; i < a->n; i++) {
		const float *v = s->stats->sample[i];

		sum += v[x] * v[x] + v[y] * v[y];
	}
	return sum / (float)a->n;
}

/* Bits per value saved by pairing @turn (1, 2) with these turns, in 1/256. */
static int gain_of(const struct ladder_scratch *s, const struct sample *a, unsigned d,
		   unsigned turn, const uint32_t pair[])
{
	float cs[LADDER_TURN_ROWS][2], still[LADDER_TURN_ROWS][2];
	double sum = 0;
	unsigned n = 0;

	for (unsigned i = 0; i < a->n; i++) {
		still[i][0] = 1;
		still[i][1] = 0;
	}
	for (unsigned p = 0; p < d / 2; p++) {
		for (unsigned i = 0; i < a->n; i++) {
			int16_t c, si;

			ladder_cos_sin(pair[p] * a->row[i], &c, &si);
			cs[i][0] = (float)c / 32767;
			cs[i][1] = (float)si / 32767;
		}
		for (unsigned head = 0; head + d <= a->cols; head += d) {
			unsigned x = head + (turn == 1 ? 2 * p : p);
			unsigned y = turn == 1 ? x + 1 : x + d / 2;
			float all = energy(s, a, x, y), was = all - turned(s, a, x, y, still);
			float is = all - turned(s, a, x, y, cs);

			if (!(was > all * 1e-6f) || !(is > all * 1e-6f))
				continue;
			sum += log2((double)was / (double)is) / 2;
			n++;
		}
	}
	return n ? (int)(256 * sum / n) : 0;
}

static void turns_of(double base, unsigned d, uint32_t pair[])
{
	for (unsigned i = 0; i < d / 2; i++)
		pair[i] = (uint32_t)(pow(base, -2.0 * i / d) * (4294967296.0 / 6.283185307179586) +
				     0.5);
}

/* The likeliest head size and pairing; 0 when there is none. */
static unsigned shape_find(const struct ladder_scratch *s, const struct sample *a,
			   const struct ladder_head *h, unsigned known, unsigned *ret_turn)
{
	unsigned best_d = 0;
	struct steps st;
	float best = 0;

	for (unsigned i = 0; i < SIZES; i++) {
		unsigned d = known ? known : sizes[i];

		if (d < HEAD_MIN || d > a->cols || d % 2 || h->cols % d)
			continue;
		steps_of(d, &st);
		for (unsigned turn = 1; turn <= 2; turn++) {
			float score = neighbours(s, a, d, turn, &st);

			if (score > best) {
				best = score;
				best_d = d;
				*ret_turn = turn;
			}
		}
		if (known)
			break;
	}
	return best_d;
}

int ladder_turning_find(struct ladder_scratch *s, const struct chunk_shape *shape,
			const uint8_t *src, struct ladder_head *h)
{
	uint32_t pair[LADDER_HEAD_MAX / 2];
	int best = GAIN_MIN - 1;
	struct sample a;
	unsigned d, turn;

	if (h->transposed || (shape->kind != REGION_K && shape->kind != REGION_KV) ||
	    h->coded_rows < ROWS_MIN)
		return 0;
	sample_take(s, h, src, &a);
	d = shape_find(s, &a, h, shape->head_bytes / h->eb, &turn);
	for (unsigned i = 0; i < BASES && d; i++) {
		int gain;

		turns_of(bases[i], d, pair);
		gain = gain_of(s, &a, d, turn, pair);
		if (gain <= best)
			continue;
		best = gain;
		h->turn = (uint8_t)turn;
		h->head = (uint16_t)d;
		memcpy(s->turns.pair, pair, d / 2 * sizeof(pair[0]));
	}
	return h->turn ? best : 0;
}

/* Sums of the block's cells times cos and sin of their rows. */
static void sums_add(const struct ladder_kern *k, struct ladder_scratch *s,
		     const struct ladder_walk *w, double cosine[], double sine[])
{
	struct ladder_block *b = &s->block;
	double *to[2] = { cosine, sine };

	for (unsigned which = 0; which < 2; which++) {
		float sum[64] = { 0 };

		for (unsigned l = 0; l < 64; l++) {
			w->d->z[l] = which ? 0 : 16384;
			w->d->other[l] = which ? 16384 : 0;
		}
		ladder_walk_means(k, w, b);
		for (unsigned j = 0; j < LADDER_LINES; j++)
			for (unsigned l = 0; l < 64; l++)
				sum[l] += (float)b->t[j][l] * (float)b->z[j * 64 + l];
		for (unsigned l = 0; l < w->d->lanes; l++)
			to[which][w->first_channel + l] += (double)sum[l];
	}
	for (unsigned l = 0; l < w->d->lanes; l++)
		s->stats->count[w->first_channel + l] += LADDER_LINES;
	for (unsigned j = 0; j < LADDER_LINES; j++)
		for (uint64_t m = b->skip[j] & (w->d->lanes < 64 ? (1ull << w->d->lanes) - 1 : ~0ull);
		     m; m &= m - 1)
			s->stats->count[w->first_channel + (uint32_t)__builtin_ctzll(m)]--;
}

void ladder_turning_means(const struct ladder_kern *k, struct ladder_scratch *s,
			  const uint8_t *src, const struct ladder_head *h)
{
	struct ladder_level v = ladder_level_of(h, 0);
	double *cosine = s->stats->mean, *sine = s->stats->square;
	struct ladder_walk w;

	memset(cosine, 0, h->channels * sizeof(cosine[0]));
	memset(sine, 0, h->channels * sizeof(sine[0]));
	memset(s->stats->count, 0, h->channels * sizeof(s->stats->count[0]));
	ladder_walk_init(&w, k, h, s, false);
	while (ladder_walk_next(&w)) {
		if ((w.coded - 1) / 8 % MEANS_PART && h->coded_rows > MEANS_ROWS)
			continue;
		ladder_block_load(&w, src, &s->block);
		k->cells(&v, &s->block);
		for (unsigned j = 0; j < LADDER_LINES; j++)
			for (uint64_t m = s->block.skip[j]; m; m &= m - 1)
				s->block.t[j][__builtin_ctzll(m)] = 0;
		sums_add(k, s, &w, cosine, sine);
	}
	for (uint32_t c = 0; c < h->channels; c++) {
		double n = s->stats->count[c] ? s->stats->count[c] : 1;
		uint32_t other;
		int sign;

		other = ladder_turn_partner(h, c, &sign);
		s->mean[c] = ladder_mean_limit((cosine[c] - sign * sine[other]) / (16384 * n));
	}
}
