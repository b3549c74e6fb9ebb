// SPDX-License-Identifier: MIT
/*
 * Turning means: cos and sin of the rows' angles, in integers, so that all
 * machines have the same.
 *
 * The angle of a row is its index times the pair's turns, modulo a whole turn, and
 * so never drifts. Of a group of 8 rows only the first has its own; the steps from
 * there to the others are alike in all groups, unless rows are missing in between.
 */
#include "codecs/ladder.h"

#define EXACT_GROUPS 32u /* one of so many has cos and sin of its own */

/* x / 2^29 is the angle over a quarter of pi, -1..1; times 2^30 what is returned. */
static int64_t sine(int64_t x)
{
	int64_t v = x * x >> 28, r = -39273;

	r = 2674041 + (r * v >> 30);
	r = -86699834 + (r * v >> 30);
	r = 843314857 + (r * v >> 30);
	return r * x >> 29;
}

static int64_t cosine(int64_t x)
{
	int64_t v = x * x >> 28, r = 3856;

	r = -350031 + (r * v >> 30);
	r = 17023473 + (r * v >> 30);
	r = -331168970 + (r * v >> 30);
	return 1073741824 + (r * v >> 30);
}

void ladder_cos_sin(uint32_t phase, int16_t *c, int16_t *s)
{
	uint32_t quarter = (phase + (1u << 29)) >> 30;
	int64_t x = (int32_t)(phase - (quarter << 30));
	int64_t co = (cosine(x) * 32767 + (1 << 29)) >> 30, si = (sine(x) * 32767 + (1 << 29)) >> 30;

	switch (quarter & 3) {
	case 0:
		*c = (int16_t)co;
		*s = (int16_t)si;
		break;
	case 1:
		*c = (int16_t)-si;
		*s = (int16_t)co;
		break;
	case 2:
		*c = (int16_t)-co;
		*s = (int16_t)-si;
		break;
	default:
		*c = (int16_t)si;
		*s = (int16_t)-co;
	}
}

/* The wave of @rows. */
static void wave_make(const struct ladder_turns *t, const struct ladder_head *h, uint32_t rows,
		      struct ladder_wave *w)
{
	unsigned d = h->head;

	for (unsigned i = 0; i < d / 2; i++) {
		unsigned x = h->turn == 1 ? 2 * i : i, y = h->turn == 1 ? x + 1 : x + d / 2;

		ladder_cos_sin(t->pair[i] * rows, &w->c[x], &w->s[x]);
		w->c[y] = w->c[x];
		w->s[y] = w->s[x];
	}
	for (unsigned l = d; l < d + 64; l++) {
		w->c[l] = w->c[l - d];
		w->s[l] = w->s[l - d];
	}
}

uint32_t ladder_turn_partner(const struct ladder_head *h, uint32_t channel, int *ret_sign)
{
	uint32_t at = channel % h->head, half = h->head / 2u;
	bool first = h->turn == 1 ? at % 2 == 0 : at < half;
	uint32_t by = h->turn == 1 ? 1 : half;

	*ret_sign = first ? -1 : 1;
	return first ? channel + by : channel - by;
}

/* Lanes of a wave that strips look at, in the steps that the kernels take. */
static unsigned wave_lanes(const struct ladder_head *h)
{
	if (h->head % 64 == 0)
		return h->head;
	return 64 % h->head == 0 ? 64 : (h->head + 64u + 31) & ~31u;
}

/* The lines' waves for rows one after the other, each from the one before. */
static void lines_make(struct ladder_turns *t, const struct ladder_kern *k,
		       const struct ladder_head *h)
{
	wave_make(t, h, 0, &t->line[0]);
	wave_make(t, h, 1, &t->line[1]);
	for (unsigned j = 2; j <= LADDER_LINES; j++) {
		struct ladder_wave *to = j < LADDER_LINES ? &t->line[j] : &t->eight;

		*to = t->line[j - 1];
		k->turn(to->c, to->s, t->line[1].c, t->line[1].s, wave_lanes(h));
	}
}

void ladder_turns_init(struct ladder_turns *t, const struct ladder_kern *k,
		       const struct ladder_head *h)
{
	t->groups = 0;
	t->even = true;
	lines_make(t, k, h);
}

void ladder_turns_group(struct ladder_turns *t, const struct ladder_kern *k,
			const struct ladder_head *h, const uint32_t row[], unsigned n)
{
	bool even = true;

	for (unsigned j = 1; j < n; j++)
		even &= row[j] == row[0] + j;
	if (t->groups % EXACT_GROUPS == 0 || row[0] != t->row + LADDER_LINES)
		wave_make(t, h, row[0], &t->base);
	else
		k->turn(t->base.c, t->base.s, t->eight.c, t->eight.s, wave_lanes(h));
	if (even && !t->even)
		lines_make(t, k, h);
	for (unsigned j = 1; j < n && !even; j++)
		wave_make(t, h, row[j] - row[0], &t->line[j]);
	t->even = even;
	t->row = row[0];
	t->groups++;
}
