/* SPDX-License-Identifier: MIT */
/*
 * The policies over a recorded load. The simulator begins without history and learns as the
 * daemon would; the prediction knows how often each context is read.
 */
#include <errno.h>

#include "base/mem.h"
#include "policy/heat.h"
#include "recorded.h"

#define PLAN_NS 1000000000ull
#define PLANS_MAX 2000

uint64_t recorded_room(const struct trace_set *s, uint64_t dram_bytes)
{
	const struct trace_state *st = &s->state;
	double share = 13.0 / 16;

	if (st->dram_bytes && st->room_bytes && st->room_bytes <= st->dram_bytes)
		share = (double)st->room_bytes / (double)st->dram_bytes;
	return (uint64_t)((double)dram_bytes * share);
}

static struct cost_params params(const struct trace_set *s, const struct recorded_case *c)
{
	struct cost_params p = s->state.params;

	p.alpha_s = c->alpha_s;
	p.margin = ADAPTIVE_MARGIN;
	return p;
}

static int simulate(const struct trace_set *s, const struct recorded_case *c,
		    const struct cost_rates *rates, struct simulate_result *ret)
{
	struct cost_item *it = mem_calloc(s->n + 1u, sizeof(*it));
	uint64_t span = s->a[s->n_a - 1].t_ns - s->a[0].t_ns;
	struct simulate_config sc = {
		.policy = c->policy,
		.cfg = { .cost = params(s, c),
			 .half_ns = POLICY_HALF_NS,
			 .dram_bytes = recorded_room(s, c->dram_bytes),
			 .ssd_bytes = c->ssd_bytes,
			 .moves_Bps = (uint64_t)(rates->ssd_Bps / ADAPTIVE_MOVES_PART) },
		.rates = *rates,
		.replan_ns = PLAN_NS > span / PLANS_MAX ? PLAN_NS : span / PLANS_MAX,
		.queue = true,
		.warm = c->warm,
	};
	int r;

	if (!it)
		return -ENOMEM;
	for (uint32_t i = 0; i < s->n; i++) {
		it[i] = s->it[i];
		it[i].heat = 0;
		it[i].heat_ns = s->a[0].t_ns;
	}
	r = simulate_run(&sc, it, s->n, s->a, s->n_a, ret);
	mem_free(it);
	return r;
}

int recorded_run(const struct trace_set *s, const struct recorded_case *c,
		 struct recorded_outcome *ret)
{
	struct predict_load l = { .it = s->it,
				  .n = s->n,
				  .params = params(s, c),
				  .dram_bytes = recorded_room(s, c->dram_bytes),
				  .ssd_bytes = c->ssd_bytes };
	int r;

	trace_set_rates(s, 0, c->learn ? c->learn : s->n_a, &l.rates);
	r = simulate(s, c, &l.rates, &ret->sim);
	if (r == 0 && c->policy->plans)
		r = predict_adaptive(&l, &ret->best);
	else if (r == 0)
		predict_lru(&l, c->policy, &ret->best);
	return r;
}

void recorded_add_json(struct sbuf *b, const struct recorded_case *c,
		       const struct recorded_outcome *o)
{
	const struct simulate_result *r = &o->sim;

	sbuf_addf(b,
		  "{\"policy\": \"%s\", \"dram\": %llu, \"ssd\": %llu, \"alpha\": %.9g, "
		  "\"reads\": %llu, \"hit_share\": %.6f, \"part_share\": %.6f, "
		  "\"removed_share\": %.6f, \"delay_mean_s\": %.9f, \"delay_p50_s\": %.9f, "
		  "\"delay_p99_s\": %.9f, \"quality\": %.6f, \"moved_bytes\": %llu, "
		  "\"device_share\": %.6f, \"steady\": {\"hit_share\": %.6f, "
		  "\"delay_mean_s\": %.9f, \"quality\": %.6f, \"fits\": %s}}",
		  c->policy->name, (unsigned long long)c->dram_bytes,
		  (unsigned long long)c->ssd_bytes, c->alpha_s, (unsigned long long)r->reads,
		  r->hit_share, r->part_share, r->gone_share, r->delay_mean_s, r->delay_p50_s,
		  r->delay_p99_s, r->quality, (unsigned long long)r->moved_bytes, r->device_share,
		  o->best.hit_share, o->best.delay_s, o->best.quality,
		  o->best.fits ? "true" : "false");
}
