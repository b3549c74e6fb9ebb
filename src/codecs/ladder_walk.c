// SPDX-License-Identifier: MIT
/*
 * The ladder's blocks in order, and the descriptors of their lanes: made once per
 * strip where columns are channels, once per row where rows are.
 */
#include <string.h>

#include "codecs/ladder.h"

#define PIECE 512u /* elements of a full block */

static uint64_t lanes_below(unsigned n)
{
	return n >= 64 ? ~0ull : (1ull << n) - 1;
}

/* @own: lane l is channel first + l, else all are channel first. */
static void desc_make(const struct ladder_head *h, const struct ladder_scratch *s, uint32_t first,
		      unsigned lanes, bool own, struct ladder_desc *d)
{
	uint64_t of_class[LADDER_CLASSES_MAX] = { 0 };

	memset(d, 0, sizeof(*d));
	memset(d->escape, 255, sizeof(d->escape));
	d->lanes = (uint8_t)lanes;
	for (unsigned l = 0; l < lanes; l++) {
		uint32_t c = own ? first + l : first;
		unsigned w = h->width[s->class[c]];

		d->z[l] = s->mean[c];
		if (h->turn) {
			int sign;
			uint32_t other = ladder_turn_partner(h, c, &sign);

			d->other[l] = (int16_t)(sign * s->mean[other]);
		}
		d->draw[l] = h->draw[s->class[c]];
		if (w == 0)
			continue;
		d->bias[l] = (int16_t)((1u << (w - 1)) - 1);
		d->escape[l] = (uint8_t)((1u << w) - 1);
		of_class[s->class[c]] |= 1ull << l;
		for (unsigned p = 0; p < w; p++)
			d->plane[p] |= 1ull << l;
	}
	for (unsigned k = 0; k < h->n_classes; k++)
		if (of_class[k])
			d->stream[d->n_streams++] = (struct ladder_stream){
				of_class[k], (uint8_t)k, (uint8_t)ladder_digit(h->width[k])
			};
}

/* What is left of a strip that is shorter than the others. */
static void desc_cut(const struct ladder_desc *d, unsigned lanes, struct ladder_desc *to)
{
	uint64_t keep = lanes_below(lanes);

	*to = *d;
	to->lanes = (uint8_t)lanes;
	for (unsigned p = 0; p < 8; p++)
		to->plane[p] &= keep;
	for (unsigned i = 0; i < to->n_streams; i++)
		to->stream[i].mask &= keep;
	for (unsigned l = lanes; l < 64; l++)
		to->escape[l] = 255;
}

void ladder_walk_init(struct ladder_walk *w, const struct ladder_kern *k,
		      const struct ladder_head *h, struct ladder_scratch *s, bool plain)
{
	if (h->turn && !plain)
		ladder_turns_init(&s->turns, k, h);
	*w = (struct ladder_walk){ .h = h, .s = s, .plain = plain, .own_channels = !h->transposed };
	if (h->turn)
		w->head_step = 64u % h->head;
	if (h->transposed || plain)
		return;
	for (uint32_t g = 0; g * 64 < h->cols; g++)
		desc_make(h, s, 64 * g, h->cols - 64 * g < 64 ? h->cols - 64 * g : 64, true,
			  &s->desc[g]);
}

/* The next row that is coded. */
static uint32_t next_row(struct ladder_walk *w)
{
	while (w->range < w->h->n_ranges && w->s->ranges[w->range].first == w->row)
		w->row += w->s->ranges[w->range++].n;
	w->coded++;
	return w->row++;
}

static bool next_group(struct ladder_walk *w)
{
	memset(w->group_at, 0, sizeof(w->group_at));
	for (w->n_group = 0; w->n_group < LADDER_LINES && w->coded < w->h->coded_rows; w->n_group++) {
		w->group[w->n_group] = next_row(w);
		w->group_at[w->n_group] = w->group[w->n_group] * w->h->cols;
	}
	return w->n_group > 0;
}

static bool next_in_columns(struct ladder_walk *w)
{
	const struct ladder_head *h = w->h;
	uint32_t first = 64 * w->strip, lanes;

	if (w->strip == 0 || first >= h->cols) {
		w->strip = first = 0;
		if (!next_group(w))
			return false;
	}
	lanes = h->cols - first < 64 ? h->cols - first : 64;
	w->full = lanes == 64 && w->n_group == LADDER_LINES;
	w->d = &w->s->desc[w->plain ? 0 : w->strip];
	w->first_channel = first;
	memset(w->count, (int)lanes, sizeof(w->count));
	for (unsigned j = w->n_group; j < LADDER_LINES; j++)
		w->count[j] = 0;
	for (unsigned j = 0; j < LADDER_LINES; j++)
		w->at[j] = w->group_at[j] + first;
	if (w->plain)
		w->d->lanes = (uint8_t)lanes;
	w->in_head = w->strip ? w->in_head + w->head_step : 0;
	if (w->in_head >= h->head)
		w->in_head -= h->head;
	w->strip++;
	return true;
}

static bool next_in_rows(struct ladder_walk *w)
{
	const struct ladder_head *h = w->h;
	uint32_t first = PIECE * w->piece, left, lanes;

	if (w->piece == 0 || first >= h->cols) {
		if (w->coded == h->coded_rows)
			return false;
		w->first_channel = w->coded;
		w->group[0] = next_row(w);
		w->piece = first = 0;
		if (!w->plain)
			desc_make(h, w->s, w->first_channel, 64, false, &w->s->desc[0]);
	}
	left = h->cols - first;
	lanes = left >= PIECE ? 64 : (left + 7) / 8;
	w->full = left >= PIECE;
	w->d = &w->s->desc[0];
	if (w->plain) {
		w->d->lanes = (uint8_t)lanes;
	} else if (lanes < 64) {
		w->d = &w->s->desc[1];
		desc_cut(&w->s->desc[0], lanes, w->d);
	}
	for (unsigned j = 0; j < LADDER_LINES; j++) {
		uint32_t before = j * lanes;

		w->at[j] = w->group[0] * h->cols + first + (before < left ? before : 0);
		w->count[j] = (uint8_t)(before >= left ? 0
						       : left - before < lanes ? left - before : lanes);
	}
	w->piece++;
	return true;
}

bool ladder_walk_next(struct ladder_walk *w)
{
	return w->h->transposed ? next_in_rows(w) : next_in_columns(w);
}

void ladder_walk_turn(const struct ladder_kern *k, const struct ladder_walk *w,
		      struct ladder_block *b)
{
	struct ladder_turns *t = &w->s->turns;
	uint32_t at = w->in_head;

	b->z = w->d->z;
	b->z_step = 0;
	b->turn.c = NULL;
	if (!w->h->turn)
		return;
	if (w->strip == 1) /* the first of a group */
		ladder_turns_group(t, k, w->h, w->group, w->n_group);
	b->turn = (struct ladder_turning){ t->base.c + at, t->base.s + at, t->line[0].c + at,
					   t->line[0].s + at, sizeof(t->line[0]) };
}

void ladder_walk_means(const struct ladder_kern *k, const struct ladder_walk *w,
		       struct ladder_block *b)
{
	ladder_walk_turn(k, w, b);
	if (!b->turn.c)
		return;
	k->means(w->d, &b->turn, b->turned[0]);
	b->z = b->turned[0];
	b->z_step = LADDER_LANES;
}

void ladder_sizes_of(const struct ladder_head *h, const struct ladder_scratch *s,
		     struct ladder_sizes *ret)
{
	size_t each = ((size_t)h->coded_rows + 7) / 8;

	if (h->transposed)
		each = (size_t)64 * (h->cols / PIECE) + (h->cols % PIECE + 7) / 8;
	*ret = (struct ladder_sizes){ .lanes = each * h->channels };
	for (uint32_t c = 0; c < h->channels; c++) {
		unsigned w = h->width[s->class[c]];

		ret->stream[s->class[c]] += each * ladder_digit(w);
		ret->fix += each * w;
	}
}
