/* SPDX-License-Identifier: MIT */
/* Moves in words. */
#include "base/sbuf.h"
#include "policy/adaptive.h"

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

static void add_place(struct sbuf *b, const struct cost_place *p)
{
	if (p->copy)
		sbuf_addf(b, "decoded in memory");
	else if (p->dram > 0)
		sbuf_addf(b, "%u of %u layers in memory, packed %s", p->dram, p->stored,
			  p->packing == COST_PACK_DRAM ? "for speed" : "as on storage");
	else
		sbuf_addf(b, "%u layers on storage", p->stored);
	sbuf_addf(b, ", read at level %u", p->level);
}

void adaptive_why(const struct adaptive_move *m, struct sbuf *out)
{
	unsigned r = (unsigned)m->reason < ADAPTIVE_REASONS_ ? m->reason : 0;

	if (m->to.stored == 0) {
		sbuf_addf(out, "Removed");
	} else {
		sbuf_addf(out, "Now ");
		add_place(out, &m->to);
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
