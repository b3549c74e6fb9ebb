/* SPDX-License-Identifier: MIT */
/* Two figures and a rule. See cold_load.h. */
#include "store/cold_load.h"

#include <string.h>

#include "base/clock.h"

#define COLD_TURN 64u     /* every so many loads the slower way is tried */
#define COLD_LOOKS 2u     /* before that: one alone may have had to wait */
#define COLD_DOUBT 8u     /* copies come that often until so many were seen: the first ones after a
			   * mount wait for the kernel to find pages for them */
#define COLD_FASTER 0.5   /* of a new figure that is better, in the average */
#define COLD_SLOWER 0.125 /* of one that is worse */
#define COLD_CHANGE 0.6   /* a figure that far from the average ... */
#define COLD_OFF 3u       /* ... so many times: something changed */
#define COLD_CLEAR 1.25   /* streaming must be that much faster */

void cold_init(struct cold_loads *l)
{
	lock_init(&l->lock);
	lock_acquire(&l->lock);
	memset(l->of, 0, sizeof(l->of));
	lock_release(&l->lock);
}

void cold_fini(struct cold_loads *l)
{
	lock_fini(&l->lock);
}

static struct cold_class *class_of(struct cold_loads *l, unsigned layers) REQUIRES(l->lock)
{
	return &l->of[layers < COLD_LAYERS_MAX ? layers : COLD_LAYERS_MAX - 1];
}

enum load_way cold_choose(struct cold_loads *l, unsigned layers)
{
	struct cold_class *c;
	enum load_way way;

	lock_acquire(&l->lock);
	c = class_of(l, layers);
	c->turns++;
	if (c->seen[LOAD_COPY] < COLD_LOOKS) {
		way = LOAD_COPY;
	} else if (c->seen[LOAD_STREAM] < COLD_LOOKS) {
		way = LOAD_STREAM;
	} else {
		bool copy = c->Bps[LOAD_COPY] * COLD_CLEAR > c->Bps[LOAD_STREAM];

		if (c->turns % (!copy && c->seen[LOAD_COPY] < COLD_DOUBT ? COLD_DOUBT : COLD_TURN) == 0)
			copy = !copy;
		way = copy ? LOAD_COPY : LOAD_STREAM;
	}
	lock_release(&l->lock);
	return way;
}

void cold_note(struct cold_loads *l, unsigned layers, enum load_way way, uint64_t bytes,
	       uint64_t ns)
{
	double now = (double)bytes * (double)NSEC_PER_SEC / (double)(ns ? ns : 1);
	struct cold_class *c;
	double old;

	lock_acquire(&l->lock);
	c = class_of(l, layers);
	old = c->Bps[way];
	c->seen[way] += c->seen[way] < COLD_DOUBT;
	c->off[way] = old > 0 && (now < old * COLD_CHANGE || now > old / COLD_CHANGE)
			      ? c->off[way] + 1
			      : 0;
	if (old <= 0) {
		c->Bps[way] = now;
	} else if (c->off[way] == COLD_OFF) {
		*c = (struct cold_class){ .turns = c->turns };
		c->seen[way] = 1;
		c->Bps[way] = now;
	} else {
		c->Bps[way] += (now - old) * (now > old ? COLD_FASTER : COLD_SLOWER);
	}
	lock_release(&l->lock);
}
