// SPDX-License-Identifier: MIT
/*
 * kvcachebench placement: the experiment of AdaptCache (arXiv 2509.00105) and EVICPRESS
 * (2512.14946) on a real mount. Contexts are made, then what each form of them is worth
 * is measured once, then every system sees the same requests in every cell.
 */
#include "placement.h"

#include <errno.h>
#include <stdio.h>

#include "base/mem.h"
#include "bench.h"

static int run(struct rig *g, const struct place_options *o, struct place_set *set,
	       struct place_systems *sys, struct place_report *rep)
{
	int r = place_set_open(g, o, set);

	if (r == 0)
		/* one store at a time, at most with all of them as they are; beside those
		 * kept, a copy of one with all layers */
		r = rig_base(g, o->keep ? set->bytes / 3 * 2
					: set->bytes + set->bytes / 10 + (1ull << 30), 0);
	if (r < 0)
		return r;
	place_systems_init(g, o, sys);
	if (sys->n == 0)
		return rig_fail(-EINVAL, "no system's name begins as in '%s'", o->rig.only);
	r = place_quality(g, o, set, sys);
	if (o->prepare)
		return r ? r : place_prepare(g, o, set, sys);
	if (r == 0)
		r = place_run_all(g, o, set, sys, rep);
	if (!rep->bounds)
		return r;
	/* also of what was run before an interrupt or an error */
	place_report_print(o, set, sys, rep);
	if (o->plot) {
		int e = place_plot(o, sys, rep);

		r = r ? r : e;
	}
	return r;
}

int bench_placement(int argc, char **argv)
{
	struct place_report rep = { .n = 0 };
	struct place_systems sys = { .n = 0 };
	struct place_set set = { .n = 0 };
	struct place_options o;
	struct rig *g;
	int r = place_options_parse(argc, argv, &o);

	if (r != 0)
		return r < 0 ? 2 : 0;
	r = rig_create(&o.rig, &g);
	if (r < 0)
		return 1;
	r = run(g, &o, &set, &sys, &rep);
	if (r < 0 && r != -EINTR)
		(void)rig_fail(r, "placement: %s", err_text(r));
	place_set_fini(&set);
	mem_free(rep.rows);
	mem_free(rep.bounds);
	sbuf_fini(&rep.notes);
	rig_destroy(g);
	return r < 0 ? 1 : 0;
}
