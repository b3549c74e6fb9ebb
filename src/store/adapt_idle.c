/* SPDX-License-Identifier: MIT */
/*
 * Re-profiling: what is done when nobody uses the mount, so that estimates are better when
 * somebody does. Contexts whose estimates change are told of as any other change is, and
 * placement follows with the next plan.
 */
#include "base/clock.h"
#include "store/adapt_types.h"
#include "store/resample.h"

/* Without opens, reads and writes for so long. */
#define IDLE_NS (5 * NSEC_PER_SEC)
/* What readers measured is heeded for all of a model then, but no later than this. */
#define MODEL_WAIT_NS (10 * NSEC_PER_SEC)
/* Contexts asked at a time whether a sample of them would help. */
#define LOOK 64u

void adapt_reprofiled(struct store *st)
{
	struct adapt *ad = st->adapt;

	if (!ad)
		return;
	lock_acquire(&ad->q_lock);
	if (!ad->model_due_ns)
		ad->model_due_ns = clock_mono_ns() + MODEL_WAIT_NS;
	lock_release(&ad->q_lock);
}

static bool is_idle(struct adapt *ad, uint64_t now)
{
	uint64_t uses = store_uses(ad->st);

	if (uses != ad->uses || !ad->used_ns || now < atomic_load(&ad->st->passing_until_ns)) {
		ad->uses = uses;
		ad->used_ns = now;
	}
	return now - ad->used_ns >= IDLE_NS;
}

/* Only of what may be read with less than all layers does quality decide anything. */
static bool may_sample(const struct cost_item *it)
{
	return it->levels > 1 && it->now.stored == it->levels &&
	       !(it->flags & (COST_VETO | COST_BUSY | COST_KEPT));
}

/* All contexts were asked once more. If no sample came of it, the rest are those of which none
 * can be had now, and nobody asks again before the mount was used. */
static void round_ends(struct adapt *ad)
{
	uint64_t taken = atomic_load(&ad->st->counters[CNT_RESAMPLED]);

	ad->sample_next = 0;
	ad->sample_rests = taken == ad->sampled;
	ad->sample_uses = ad->uses;
	ad->sampled = taken;
}

/* The next context, in turn, that could do with another sample; 0: none of those asked. */
static uint64_t next_context(struct adapt *ad)
{
	for (unsigned i = 0; i < LOOK; i++) {
		struct cost_item it;
		uint64_t id;
		bool may;

		lock_acquire(&ad->lock);
		id = adaptive_nth(ad->a, ad->sample_next++);
		may = id && adaptive_get(ad->a, id, 0, &it) && may_sample(&it);
		lock_release(&ad->lock);
		if (!id) {
			round_ends(ad);
			return 0;
		}
		if (may && resample_wanted(ad->st, id))
			return id;
	}
	return 0;
}

void adapt_idle_step(struct adapt *ad)
{
	uint64_t now = clock_mono_ns(), id;
	bool idle = is_idle(ad, now), due;

	lock_acquire(&ad->q_lock);
	due = ad->model_due_ns && (idle || now >= ad->model_due_ns);
	if (due)
		ad->model_due_ns = 0;
	lock_release(&ad->q_lock);
	if (due)
		adapt_walk_wanted(ad, false);
	if (!idle || due || adapt_walking(ad) || atomic_load(&ad->sampling) || !adapt_may_bring(ad) ||
	    (ad->sample_rests && ad->sample_uses == ad->uses))
		return;
	id = next_context(ad);
	if (id)
		(void)resample_start(ad->st, id, ad->uses, &ad->sampling); /* without memory not now */
}
