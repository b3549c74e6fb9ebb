/* SPDX-License-Identifier: MIT */
/* Moves and places in words. */
#include "base/sbuf.h"
#include "policy/adaptive_types.h"
#include "policy/heat.h"

static const struct {
	const char *name, *why;
} reasons[] = {
#define X(id, name, why) { name, why },
	ADAPTIVE_REASONS(X)
#undef X
};

const char *adaptive_reason_name(enum adaptive_reason r)
{
	return (unsigned)r < ADAPTIVE_REASONS_ ? reasons[r].name : "?";
}

/* Of a context of @levels layers; the top level is exact. */
static void add_place(struct sbuf *b, const struct cost_place *p, unsigned levels)
{
	if (p->copy)
		sbuf_addf(b, "decoded in memory");
	else if (p->dram > 0)
		sbuf_addf(b, "%u of %u layer%s in memory, packed %s", p->dram, p->stored,
			  p->stored > 1 ? "s" : "",
			  p->packing == COST_PACK_DRAM ? "for speed" : "as on storage");
	else
		sbuf_addf(b, "%u layer%s on storage", p->stored, p->stored > 1 ? "s" : "");
	if (p->level + 1u >= levels)
		sbuf_addf(b, ", read exactly");
	else
		sbuf_addf(b, ", read at level %u", p->level);
}

void adaptive_why(const struct adaptive_move *m, unsigned levels, struct sbuf *out)
{
	unsigned r = (unsigned)m->reason < ADAPTIVE_REASONS_ ? m->reason : 0;

	if (m->to.stored == 0) {
		sbuf_addf(out, m->reason == ADAPTIVE_FAILED ? "Last move, to remove it" : "Removed");
	} else {
		sbuf_addf(out, "Last move, to ");
		add_place(out, &m->to, levels);
	}
	sbuf_addf(out, ": %s. At %.3g expected hits, each takes %.3g s instead of %.3g",
		  reasons[r].why, (double)m->heat, (double)m->delay_to_s, (double)m->delay_from_s);
	if (m->quality_to != m->quality_from)
		sbuf_addf(out, " at quality %.4g instead of %.4g", (double)m->quality_to,
			  (double)m->quality_from);
	sbuf_addf(out, "; that is worth %.3g s", (double)m->gain);
	if (m->price > 0)
		sbuf_addf(out, ", where a MiB goes for %.3g",
			  (double)m->price * ((1u << 20) / COST_PAGE_BYTES));
	sbuf_addf(out, ".");
}

/* The way up that gains most per page; false: there is nothing to gain. */
static bool best_step_up(const struct adaptive *a, const struct adaptive_entry *e, double heat,
			 struct cost_option *ret, double *ret_gain)
{
	struct cost_option o[COST_OPTIONS_MAX];
	unsigned n = cost_options(&a->model, &e->it, heat, COST_OPT_ALL | COST_OPT_KEEP_SSD, o);
	double now = adaptive_value(a, e, &e->it.now, heat), best = 0;

	for (unsigned i = 0; i < n; i++) {
		double gain = (double)o[i].value - now;

		if (o[i].dram <= e->dram || gain <= best * (o[i].dram - e->dram))
			continue;
		best = gain / (o[i].dram - e->dram);
		*ret = o[i];
		*ret_gain = gain;
	}
	return best > 0;
}

static void explain_more(const struct adaptive *a, const struct adaptive_entry *e, double heat,
			 double price, struct sbuf *out)
{
	uint64_t room = adaptive_budget(a, ADAPTIVE_DRAM), used = a->used[ADAPTIVE_DRAM];
	struct cost_option o = { 0 };
	struct cost_place to;
	double gain = 0, pay;
	uint32_t more;

	if (!best_step_up(a, e, heat, &o, &gain)) {
		sbuf_addf(out, " More memory would gain it nothing worth moving for.");
		return;
	}
	to = cost_unpack_place(o.place);
	more = o.dram - e->dram;
	pay = price * more;
	sbuf_addf(out, " With ");
	sbuf_add_bytes(out, (unsigned long long)more * COST_PAGE_BYTES);
	sbuf_addf(out, " more of memory a read would take %.3g s, worth %.3g s in all",
		  cost_delay(&a->model, &e->it, &to), gain);
	if (pay > gain)
		sbuf_addf(out, "; elsewhere that room is worth %.3g s.", pay);
	else if (used + more > room)
		sbuf_addf(out, "; it waits for room.");
	else
		sbuf_addf(out, "; it is next, as fast as moves may go.");
}

bool adaptive_explain(const struct adaptive *a, uint64_t id, uint64_t now_ns, struct sbuf *out)
{
	uint32_t slot = adaptive_find(a, id);
	const struct adaptive_entry *e;
	double heat, price;
	bool kept;

	if (slot == ADAPTIVE_NO_POS)
		return false;
	e = &a->e[slot];
	if (e->it.now.stored == 0) {
		sbuf_addf(out, "It is being removed.");
		return true;
	}
	heat = adaptive_heat(a, e, now_ns);
	price = heat_at(a->price[ADAPTIVE_DRAM], a->price_ns, now_ns, a->cfg.half_ns);
	add_place(out, &e->it.now, e->it.levels);
	sbuf_addf(out, ": a read takes %.3g s at quality %.4g, and %.3g are expected",
		  cost_delay(&a->model, &e->it, &e->it.now), cost_quality(&e->it, &e->it.now),
		  heat);
	sbuf_addf(out, ", a utility of %.3g s.", heat * cost_value(&a->model, &e->it, &e->it.now));
	(void)cost_floor(&e->it, &kept);
	if (!kept)
		sbuf_addf(out, " Its floor is above the layers that are left.");
	if (e->it.flags & COST_BUSY)
		sbuf_addf(out, " It is in use, so its level stays.");
	else if (e->it.flags & COST_PINNED)
		sbuf_addf(out, " It is pinned, so it stays on storage as it is.");
	else if (e->it.flags & COST_KEPT)
		sbuf_addf(out, " It is damaged, being changed, or could not be given up: it stays on "
			       "storage as it is.");
	else if (e->it.flags & COST_VETO)
		sbuf_addf(out, " It must stay exact.");
	if (e->it.flags & COST_HAND)
		sbuf_addf(out, " It was put there by hand, and stays until it is read.");
	if (!(e->it.flags & (COST_BUSY | COST_HAND)))
		explain_more(a, e, heat, price, out);
	return true;
}
