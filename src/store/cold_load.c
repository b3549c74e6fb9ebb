/* SPDX-License-Identifier: MIT */
/* Two averages and a rule. See cold_load.h. */
#include "store/cold_load.h"

#include "base/clock.h"

#define COLD_TURN 16u     /* every so many loads the slower way is tried */
#define COLD_WEIGHT 0.25  /* of a new figure in the average */
#define COLD_CHANGE 0.6   /* a figure that far from the average: something changed */

void cold_init(struct cold_loads *l)
{
	lock_init(&l->lock);
	lock_acquire(&l->lock);
	for (unsigned w = 0; w < LOAD_WAYS; w++)
		l->Bps[w] = 0;
	l->turns = 0;
	lock_release(&l->lock);
}

void cold_fini(struct cold_loads *l)
{
	lock_fini(&l->lock);
}

enum load_way cold_choose(struct cold_loads *l)
{
	enum load_way way;

	lock_acquire(&l->lock);
	l->turns++;
	if (l->Bps[LOAD_COPY] <= 0) {
		way = LOAD_COPY;
	} else if (l->Bps[LOAD_STREAM] <= 0) {
		way = LOAD_STREAM;
	} else {
		bool copy = l->Bps[LOAD_COPY] > l->Bps[LOAD_STREAM];

		if (l->turns % COLD_TURN == 0)
			copy = !copy;
		way = copy ? LOAD_COPY : LOAD_STREAM;
	}
	lock_release(&l->lock);
	return way;
}

void cold_note(struct cold_loads *l, enum load_way way, uint64_t bytes, uint64_t ns)
{
	double now = (double)bytes * (double)NSEC_PER_SEC / (double)(ns ? ns : 1);
	double old;

	lock_acquire(&l->lock);
	old = l->Bps[way];
	if (old <= 0) {
		l->Bps[way] = now;
	} else if (now < old * COLD_CHANGE || now > old / COLD_CHANGE) {
		l->Bps[way] = now;
		l->Bps[way == LOAD_COPY ? LOAD_STREAM : LOAD_COPY] = 0;
	} else {
		l->Bps[way] += (now - old) * COLD_WEIGHT;
	}
	lock_release(&l->lock);
}
