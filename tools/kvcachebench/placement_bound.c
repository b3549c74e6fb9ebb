// SPDX-License-Identifier: MIT
/*
 * The ceiling: the best of all placements by the policy's own cost model, found by its
 * solver for somebody who knows how popular each context is, with the sizes and the
 * qualities as they were measured and rates taken on this mount with nothing else
 * going on. The solver's bound is that of the linear relaxation: no placement is worth
 * more, at these rates.
 *
 * Which context is popular matters little for it: one order is taken for all repeats, and
 * qualities as the average of the suite.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/mem.h"
#include "placement.h"
#include "policy/solve.h"

#define TIMES 5
#define MIX 7919u /* a prime: some order of the contexts that mixes the suites */

/* ---- rates -------------------------------------------------------------------------- */

static double best_load(const char *path, void *buf, size_t len)
{
	double best = 0;

	for (unsigned i = 0; i < TIMES; i++) {
		double s = load_file(path, LOAD_READ, buf, len);

		if (s > 0 && (best == 0 || s < best))
			best = s;
	}
	return best;
}

/* Forms in the order of levels; the last one is exact. */
static unsigned level_forms(const struct place_set *s, unsigned form[COST_LEVELS_MAX])
{
	char label[32];
	unsigned n = 0;

	for (unsigned k = 0; k + 1 < COST_LEVELS_MAX; k++) {
		snprintf(label, sizeof(label), "level:%u", k);
		for (unsigned f = 0; f < s->n_forms; f++)
			if (s->form[f].known && strcmp(s->form[f].label, label) == 0)
				form[n++] = f;
	}
	form[n++] = 0;
	return n;
}

/* One context alone: from memory by decoding, then from a decoded copy. */
static int rates_at(struct rig *g, const struct place_set *s, const char *options, unsigned form,
		    struct rig_mount *m, void *buf, struct place_rates *ret)
{
	unsigned ladder[COST_LEVELS_MAX];
	char path[RIG_PATH + 64], text[32];
	double replica, stored = (double)s->c[0].view[form].stored, t;
	int r = rig_mount_start(g, m, "rates", options);

	snprintf(path, sizeof(path), "%s/%s", m->mnt, s->c[0].name);
	if (r == 0 && access(path, F_OK) < 0) {
		struct place_system sys = { .name = "rates" };
		struct place_writer w;

		r = place_writer_init(&w, s, &sys, m->mnt, 0);
		if (r == 0)
			r = place_write(&w, 0, true);
		place_writer_fini(&w);
	}
	if (r == 0)
		r = rig_steer(path, "move", "ssd"); /* what was made when it was written */
	if (r == 0)
		r = rig_steer(path, "move", "dram");
	if (r < 0)
		return r;
	rig_ask(path, "replica_bytes", text, sizeof(text));
	(void)level_forms(s, ladder); /* the first one is layer 0 alone, where there are layers */
	if (form == ladder[0] && stored > 0 && sscanf(text, "%lf", &replica) == 1 && replica > 0)
		ret->base_ratio = replica / stored;
	t = load_file(path, LOAD_READ, buf, s->c[0].bytes);
	ret->decode_Bps[form] = t > 0 ? (double)s->c[0].bytes / t : 0;
	if (rig_steer(path, "move", "copy") == 0) {
		t = best_load(path, buf, s->c[0].bytes);
		ret->copy_Bps = t > 0 ? (double)s->c[0].bytes / t : 0;
	}
	return rig_mount_stop(g, m);
}

int place_rates_measure(struct rig *g, const struct place_set *s, struct place_rates *ret)
{
	struct rig_mount m = { .pid = 0 };
	void *buf = load_buffer(s->max_bytes);
	unsigned ladder[COST_LEVELS_MAX];
	char label[32], options[64];
	int r = buf ? 0 : -ENOMEM;

	*ret = (struct place_rates){ .base_ratio = 1 };
	/* exact, which is form 0, of what has all layers: that is the top of the ladder */
	for (unsigned f = 0; f < s->n_forms && r == 0; f++) {
		unsigned level = 0;

		snprintf(label, sizeof(label), "%s", s->form[f].label);
		if (!s->form[f].known || (f && sscanf(label, "level:%u", &level) != 1))
			continue;
		if (f)
			snprintf(options, sizeof(options), "quality=0,policy=fixed:%u", level);
		else
			snprintf(options, sizeof(options), "policy=lru%s",
				 level_forms(s, ladder) > 1 ? ",quality=0" : "");
		rig_say("rates: %s", label);
		r = rates_at(g, s, options, f, &m, buf, ret);
		rig_remove_tree(m.store);
	}
	if (buf)
		munmap(buf, s->max_bytes);
	return r;
}

/* ---- the problem --------------------------------------------------------------------- */

/* Score of a suite at a form beside exact. */
static double suite_quality(const struct place_set *s, unsigned suite, unsigned form)
{
	double a = 0, b = 0;

	for (unsigned i = 0; i < s->n; i++)
		if (s->c[i].suite == suite) {
			a += s->c[i].view[form].score;
			b += s->c[i].view[0].score;
		}
	return b > 0 ? a / b : 1;
}

static void item_of(const struct place_options *o, const struct place_set *s, unsigned ctx,
		    double ratio, struct cost_item *it)
{
	const struct place_context *c = &s->c[ctx];
	unsigned form[COST_LEVELS_MAX], n = level_forms(s, form);
	uint64_t before = 0;

	*it = (struct cost_item){ .id = ctx + 1, .levels = (uint8_t)n, .floor = 0,
				  .class = n > 1 ? COST_CLASS_LADDER : COST_CLASS_PLANES,
				  .decoded_pages = cost_pages(c->bytes),
				  .recompute_s = (float)(o->recompute_s_per_mb * (double)c->bytes * 1e-6) };
	for (unsigned k = 0; k < n; k++) {
		uint64_t all = c->view[form[k]].stored;

		it->layer_pages[k] = cost_pages(all > before ? all - before : 1);
		it->quality[k] = (float)fmin(1, suite_quality(s, c->suite, form[k]));
		before = all > before ? all : before;
	}
	it->base_pages = (uint32_t)(ratio * it->layer_pages[0]);
	it->now = (struct cost_place){ .stored = (uint8_t)n, .level = (uint8_t)(n - 1) };
}

static void model_of(const struct place_options *o, const struct place_set *s,
		     const struct place_rates *rates, const struct place_bound *b,
		     struct cost_model *m)
{
	struct cost_params p = { .alpha_s = b->alpha, .may_remove = true,
				 .recompute_s_per_page = o->recompute_s_per_mb * 4096e-6 };
	struct cost_rates r = { .ssd_Bps = rates->ssd_Bps[b->cell.throttled],
				.copy_Bps = rates->copy_Bps };
	unsigned form[COST_LEVELS_MAX], n = level_forms(s, form);

	for (unsigned k = 0; k < n; k++)
		for (unsigned pack = 0; pack < COST_PACKINGS; pack++)
			for (unsigned path = 0; path < COST_PATHS; path++)
				r.decode_Bps[n > 1 ? COST_CLASS_LADDER : COST_CLASS_PLANES][path][pack][k] =
					rates->decode_Bps[form[k]];
	cost_model_init(m, &r, &p);
}

struct instance {
	struct cost_item *it;
	struct cost_option *opt;
	uint32_t *first, *pick;
	double *heat;
};

static void instance_fini(struct instance *x)
{
	mem_free(x->it);
	mem_free(x->opt);
	mem_free(x->first);
	mem_free(x->pick);
	mem_free(x->heat);
}

static int instance_init(struct instance *x, unsigned n)
{
	x->it = mem_calloc(n, sizeof(*x->it));
	x->opt = mem_calloc((size_t)n * COST_OPTIONS_MAX, sizeof(*x->opt));
	x->first = mem_calloc((size_t)n + 1, sizeof(*x->first));
	x->pick = mem_calloc(n, sizeof(*x->pick));
	x->heat = mem_calloc(n, sizeof(*x->heat));
	return x->it && x->opt && x->first && x->pick && x->heat ? 0 : -ENOMEM;
}

int place_bound_run(const struct place_options *o, const struct place_set *s,
		    const struct place_rates *rates, struct place_bound *b)
{
	struct instance x = { .it = NULL };
	struct solve_problem p = { .n = s->n };
	struct solve_result res;
	struct cost_model m;
	double sum = 0;
	int r = instance_init(&x, s->n);

	model_of(o, s, rates, b, &m);
	for (unsigned i = 0; r == 0 && i < s->n; i++)
		sum += x.heat[i] = pow((double)((uint64_t)i * MIX % s->n) + 1, -b->cell.zipf);
	for (unsigned i = 0; r == 0 && i < s->n; i++) {
		x.heat[i] /= sum;
		item_of(o, s, i, rates->base_ratio, &x.it[i]);
		x.first[i + 1] = x.first[i] + cost_options(&m, &x.it[i], x.heat[i], COST_OPT_FREE,
							   x.opt + x.first[i]);
	}
	p.opt = x.opt;
	p.first = x.first;
	p.dram_pages = (uint64_t)(b->cell.dram * (double)s->bytes) / COST_PAGE_BYTES;
	p.ssd_pages = 4 * p.dram_pages;
	if (r == 0)
		r = solve_run(&p, x.pick, &res);
	b->delay_s = b->quality = 0;
	for (unsigned i = 0; r == 0 && i < s->n; i++) {
		struct cost_place at = cost_unpack_place(x.opt[x.first[i] + x.pick[i]].place);

		b->delay_s += x.heat[i] * cost_delay(&m, &x.it[i], &at);
		b->quality += x.heat[i] * cost_quality(&x.it[i], &at);
	}
	if (r == 0) {
		b->value = res.value;
		b->bound = res.bound;
	}
	instance_fini(&x);
	return r;
}
