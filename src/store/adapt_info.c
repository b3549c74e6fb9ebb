/* SPDX-License-Identifier: MIT */
/* What the adaptive policy says for itself. */
#include <stdio.h>

#include "base/clock.h"
#include "store/adapt_types.h"
#include "store/level_quality.h"

/* Where it is and what that gives; why it is there, unless nothing was decided yet. */
static void explain(struct adapt *ad, const struct cost_item *it, const struct adaptive_move *last,
		    uint64_t now, struct sbuf *out) REQUIRES(ad->lock)
{
	(void)adaptive_explain(ad->a, it->id, now, out); /* it is known */
	sbuf_adds(out, " ");
	if (last->reason != ADAPTIVE_NONE)
		adaptive_why(last, it->levels, out);
	else if (it->now.copy)
		sbuf_adds(out, "An open has decoded it there: nothing was decided since.");
	else
		sbuf_adds(out, "It is where it was found: nothing was decided since.");
}

void adapt_info(struct store *st, uint64_t ino, bool text, struct ctx_info *ret)
{
	struct adapt *ad = st->adapt;
	struct sbuf why = SBUF_INIT;
	struct adaptive_move m;
	struct cost_item it;
	uint64_t now = clock_real_ns();

	if (!ad)
		return;
	lock_acquire(&ad->lock);
	if (adaptive_get(ad->a, ino, now, &it) && adaptive_last(ad->a, ino, &m)) {
		ret->planned = true;
		ret->utility = it.heat * cost_value(adaptive_model(ad->a), &it, &it.now);
		ret->estimate = cost_quality(&it, &it.now);
		ret->plan_level = it.now.level;
		ret->plan_dram = it.now.dram;
		ret->plan_stored = it.now.stored;
		ret->plan_layers = it.levels;
		if (!*ret->reason)
			snprintf(ret->reason, sizeof(ret->reason), "%s",
				 adaptive_reason_name(m.reason));
		if (text)
			explain(ad, &it, &m, now, &why);
	}
	lock_release(&ad->lock);
	snprintf(ret->why, sizeof(ret->why), "%s", why.s && !why.failed ? why.s : "");
	sbuf_fini(&why);
}

void adapt_status(struct store *st, struct store_status *ret)
{
	struct adapt *ad = st->adapt;
	struct adaptive_stats s;
	struct tier_stats ts;

	st->ssd->ops->stats(st->ssd, &ts);
	rates_get(&st->rates, ts.bandwidth_Bps, ts.latency_ns, &ret->rates);
	if (!ad)
		return;
	lock_acquire(&ad->lock);
	adaptive_stats(ad->a, &s);
	lock_release(&ad->lock);
	ret->planned = true;
	ret->plan_contexts = s.contexts;
	ret->plan_dram_bytes = s.dram_bytes;
	ret->plan_ssd_bytes = s.ssd_bytes;
	ret->plan_dram_price = s.dram_price;
	ret->plan_ssd_price = s.ssd_price;
	ret->plans = s.plans;
	ret->plan_fits = s.plan_fits;
	ret->resampled = atomic_load(&st->counters[CNT_RESAMPLED]);
	level_models_count(st, &ret->measured, &ret->measured_models);
}
