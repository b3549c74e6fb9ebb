// SPDX-License-Identifier: MIT
/*
 * System by system: all cells, and in each all repeats, in which other contexts are
 * popular. The store goes from one to the next (placement_store.c).
 *
 * Reads are throttled for the daemon, and for us only while the control is read: a
 * plain file by O_DIRECT, before and after each run. A run that has seen the rate asked for
 * within a tenth neither before nor after does not count.
 *
 * The daemon's part is started within the blkio group, we are outside: what an
 * engine writes anew comes from its own memory, not from this device.
 */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/mem.h"
#include "placement.h"

#define TOLERANCE 0.1
#define CONTROL_MIN (64u << 20)
#define CONTROL_S 2.0 /* under the throttle */
#define CONTROL_FRESH_NS (30 * NSEC_PER_SEC)
#define MEMORY_SHARE 0.7 /* of the machine's, at most for one budget */
#define TRIES 2 /* of a run that does not count */

struct runs {
	struct rig *g;
	const struct place_options *o;
	struct place_set *set;
	const struct place_systems *sys;
	struct place_report *rep;
	unsigned *rank;      /* owned; [set->n] */
	bool throttles[2];
	unsigned n_throttles;
	char control[RIG_PATH];
	uint64_t control_bytes;
	char *control_buf;   /* owned, a call longer */
	struct place_rates rates;
	uint64_t until_ns;
	double control_Bps;  /* the last one, and when, under the throttle */
	uint64_t control_ns;
};

/* ---- the control ------------------------------------------------------------------ */

static int control_create(struct runs *u)
{
	double s;

	u->control_bytes = CONTROL_MIN;
	if (u->o->throttle != 0 && u->o->throttle_Bps / 2 > CONTROL_MIN)
		u->control_bytes = u->o->throttle_Bps / 2 & ~(uint64_t)((1u << 20) - 1);
	snprintf(u->control, sizeof(u->control), "%.4000s/control", u->g->base);
	u->control_buf = load_buffer(u->control_bytes + (1u << 20));
	if (!u->control_buf)
		return -ENOMEM;
	s = save_file(u->control, u->control_buf, u->control_bytes, u->control_bytes, 1u << 20);
	if (s < 0)
		return rig_fail((int)s, "%s: %s", u->control, err_text((int)s));
	sync();
	return 0;
}

/* The throttle counts in slices and lets a group that was idle begin with a burst: under
 * it, the first pass is not timed, and the others go on for many slices. */
static int control_read(struct runs *u, bool throttled, double *ret_Bps)
{
	double sum = 0, bytes = 0, s = 0;

	rig_throttle_member(u->g, true);
	for (unsigned i = 0; s >= 0 && (i == 0 || (throttled && sum < CONTROL_S)); i++) {
		s = load_file(u->control, LOAD_DIRECT, u->control_buf, u->control_bytes);
		if (i == 0 && throttled)
			continue;
		sum += s;
		bytes += (double)u->control_bytes;
	}
	rig_throttle_member(u->g, false);
	if (s < 0)
		return rig_fail((int)s, "%s: %s", u->control, err_text((int)s));
	*ret_Bps = bytes / sum;
	return 0;
}

/* What moves in the background takes from it, as it is in the same group: it is the better
 * one of the two that must be there, and more than asked for must be in neither. */
static bool as_asked(const struct runs *u, const struct place_result *r, bool throttled)
{
	double a = r->control_Bps[0] / (double)u->o->throttle_Bps;
	double b = r->control_Bps[1] / (double)u->o->throttle_Bps;

	return !throttled || (fmax(a, b) > 1 - TOLERANCE && fmax(a, b) < 1 + TOLERANCE);
}

/* That after the run before, if it was just now and nothing took from it. */
static int control_before(struct runs *u, bool throttled, double *ret_Bps)
{
	const struct place_result last = { .control_Bps = { u->control_Bps, u->control_Bps } };

	if (!throttled || !u->control_ns || !as_asked(u, &last, true) ||
	    clock_mono_ns() - u->control_ns > CONTROL_FRESH_NS)
		return control_read(u, throttled, ret_Bps);
	*ret_Bps = u->control_Bps;
	return 0;
}

/* ---- one run ------------------------------------------------------------------------ */

static unsigned row_index(const struct runs *u, unsigned d, unsigned z, unsigned t, unsigned sys)
{
	return ((d * u->o->zipf.n + z) * u->n_throttles + t) * u->sys->n + sys;
}

static int run_once(struct runs *u, const struct place_load *l, bool throttled,
		    struct place_result *ret)
{
	struct place_result res = { .valid = false };
	double before = 0, after = 0;
	int r;

	if (throttled && !rig_throttle_set(u->g, u->o->throttle_Bps))
		return rig_fail(-EIO, "the device cannot be throttled any more");
	r = control_before(u, throttled, &before);
	if (r == 0)
		r = place_load_run(u->g, l, &res);
	if (r == 0)
		r = control_read(u, throttled, &after);
	u->control_ns = r == 0 && throttled ? clock_mono_ns() : 0;
	u->control_Bps = after;
	if (throttled)
		(void)rig_throttle_set(u->g, 0);
	res.control_Bps[0] = before;
	res.control_Bps[1] = after;
	res.valid = r == 0 && as_asked(u, &res, throttled);
	*ret = res;
	return r;
}

/* The store as a run begins with it, whatever the one before has left; on the same mount
 * where that can forget what was popular. */
static int refill(struct place_store *st)
{
	int r = 0;

	if (st->sys->how == PLACE_NONE)
		return 0;
	if (st->m.pid && place_store_plans(st->sys))
		r = place_store_close(st);
	if (r == 0 && !st->m.pid)
		r = place_store_open(st);
	return r ? r : place_store_fill(st);
}

static int run_cell(struct runs *u, unsigned sys, unsigned d, unsigned z, unsigned t,
		    unsigned repeat, struct place_store *st)
{
	struct place_row *row = &u->rep->rows[row_index(u, d, z, t, sys)];
	struct place_load l = { .o = u->o, .set = u->set, .sys = st->sys, .mnt = st->m.mnt,
				.st = st->sys->how == PLACE_NONE ? NULL : st,
				.zipf = u->o->zipf.v[z], .rank = u->rank };
	struct place_result res = { .valid = false };
	int r = 0;

	/* the same requests for every system and budget */
	l.seed = hash_u64(u->o->seed * 1000003 + repeat) + z;
	for (unsigned k = 0; k < TRIES && r == 0; k++) {
		r = refill(st);
		if (r == 0)
			r = run_once(u, &l, u->throttles[t], &res);
		if (r == 0 && res.valid)
			break;
	}
	if (r == 0)
		row->r[row->n++] = res;
	return r;
}

/* Budgets are for this machine's memory, of which others need some too. */
static bool has_memory(const struct runs *u, double dram)
{
	double all = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);

	return dram * (double)u->set->bytes < MEMORY_SHARE * all;
}

static const char *why_not(const struct runs *u, double dram, const struct place_system *sys)
{
	if (sys->why_not || sys->how == PLACE_NONE || has_memory(u, dram))
		return sys->why_not;
	return "more DRAM than this machine can lend";
}

static void shuffle(struct runs *u, unsigned repeat)
{
	uint64_t s = hash_u64(u->o->seed * 7919 + repeat);

	for (unsigned i = 0; i < u->set->n; i++)
		u->rank[i] = i;
	for (unsigned i = u->set->n; i > 1; i--) {
		unsigned j = (unsigned)((s = hash_u64(s + i)) % i), t = u->rank[i - 1];

		u->rank[i - 1] = u->rank[j];
		u->rank[j] = t;
	}
}

static bool is_time(const struct runs *u)
{
	return u->o->minutes && clock_mono_ns() > u->until_ns;
}

/* All repeats of a cell. */
static int run_repeats(struct runs *u, struct place_store *st, unsigned k, unsigned d, unsigned z,
		       unsigned t)
{
	int r = 0;

	for (unsigned repeat = 0; repeat < u->o->repeats && r == 0 && !is_time(u); repeat++) {
		shuffle(u, repeat);
		r = run_cell(u, k, d, z, t, repeat, st);
	}
	return r;
}

static int run_system(struct runs *u, unsigned k)
{
	const struct place_system *sys = &u->sys->s[k];
	struct place_store st = { .g = u->g, .o = u->o, .set = u->set, .sys = sys, .rank = u->rank };
	int r = 0, e;

	for (unsigned d = 0; d < u->o->dram.n && r == 0; d++) {
		if (why_not(u, u->o->dram.v[d], sys))
			continue;
		st.dram = u->o->dram.v[d];
		for (unsigned z = 0; z < u->o->zipf.n && r == 0; z++)
			for (unsigned t = 0; t < u->n_throttles && r == 0; t++) {
				st.zipf = u->o->zipf.v[z];
				r = run_repeats(u, &st, k, d, z, t);
			}
		e = place_store_close(&st);
		r = r ? r : e;
		if (r == 0 && (place_store_plans(sys) || d + 1 == u->o->dram.n))
			place_store_remove(&st);
	}
	return r;
}

/* The stores of those that begin with the largest budgets' contents. */
int place_prepare(struct rig *g, const struct place_options *o, struct place_set *s,
		  const struct place_systems *sys)
{
	struct runs u = { .g = g, .o = o, .set = s, .sys = sys };
	int r = 0, e;

	u.rank = mem_calloc(s->n, sizeof(*u.rank));
	if (!u.rank)
		return -ENOMEM;
	shuffle(&u, 0);
	for (unsigned k = 0; k < sys->n && r == 0; k++) {
		struct place_store st = { .g = g, .o = o, .set = s, .sys = &sys->s[k], .rank = u.rank,
					  .dram = o->dram.v[o->dram.n - 1],
					  .zipf = o->zipf.v[0] };

		if (sys->s[k].why_not || sys->s[k].how == PLACE_NONE)
			continue;
		r = place_store_open(&st);
		if (r == 0)
			r = place_store_fill(&st);
		e = place_store_close(&st);
		r = r ? r : e;
	}
	mem_free(u.rank);
	return r;
}

/* ---- all of them -------------------------------------------------------------------- */

static int rows_create(struct runs *u)
{
	struct place_report *rep = u->rep;

	rep->n = u->o->dram.n * u->o->zipf.n * u->n_throttles * u->sys->n;
	rep->rows = mem_calloc(rep->n, sizeof(*rep->rows));
	if (!rep->rows)
		return -ENOMEM;
	for (unsigned d = 0; d < u->o->dram.n; d++)
		for (unsigned z = 0; z < u->o->zipf.n; z++)
			for (unsigned t = 0; t < u->n_throttles; t++)
				for (unsigned k = 0; k < u->sys->n; k++)
					rep->rows[row_index(u, d, z, t, k)] = (struct place_row){
						.system = k,
						.why_not = why_not(u, u->o->dram.v[d], &u->sys->s[k]),
						.cell = { u->o->zipf.v[z], u->o->dram.v[d],
							  u->throttles[t] } };
	return 0;
}

static int throttles_init(struct runs *u)
{
	if (u->o->throttle != 0)
		rig_throttle_init(u->g);
	rig_throttle_member(u->g, false);
	if (u->o->throttle != 0 && rig_throttle_set(u->g, 0))
		u->throttles[u->n_throttles++] = true;
	else if (u->o->throttle != 0)
		sbuf_addf(&u->rep->notes, "Not throttled: %s.\n", u->g->throttle.why_not);
	if (u->o->throttle != 1)
		u->throttles[u->n_throttles++] = false;
	return u->n_throttles ? 0 : rig_fail(-EOPNOTSUPP, "not throttled: %s", u->g->throttle.why_not);
}

static int bounds(struct runs *u)
{
	const struct place_options *o = u->o;
	unsigned n = o->dram.n * o->zipf.n * u->n_throttles * o->alpha.n;
	int r = 0;

	u->rep->bounds = mem_calloc(n, sizeof(*u->rep->bounds));
	if (!u->rep->bounds)
		return -ENOMEM;
	for (unsigned i = 0; i < n && r == 0; i++) {
		unsigned a = i % o->alpha.n, t = i / o->alpha.n % u->n_throttles;
		unsigned z = i / o->alpha.n / u->n_throttles % o->zipf.n;
		unsigned d = i / o->alpha.n / u->n_throttles / o->zipf.n;
		struct place_bound *b = &u->rep->bounds[i];

		b->cell = (struct place_cell){ o->zipf.v[z], o->dram.v[d], u->throttles[t] };
		b->alpha = o->alpha.v[a];
		r = place_bound_run(o, u->set, &u->rates, b);
		u->rep->n_bounds += r == 0;
	}
	return r;
}

/* The device's rate for the ceiling: as the control saw it, on the average. */
static void device_rates(struct runs *u)
{
	double sum[2] = { 0, 0 }, n[2] = { 0, 0 };

	for (unsigned i = 0; i < u->rep->n; i++)
		for (unsigned k = 0; k < u->rep->rows[i].n; k++) {
			const struct place_row *row = &u->rep->rows[i];

			sum[row->cell.throttled] += row->r[k].control_Bps[0] + row->r[k].control_Bps[1];
			n[row->cell.throttled] += 2;
		}
	for (unsigned t = 0; t < 2; t++)
		u->rates.ssd_Bps[t] = n[t] > 0 ? sum[t] / n[t] : 0;
}

static int run_systems(struct runs *u)
{
	int r = 0;

	u->until_ns = clock_mono_ns() + u->o->minutes * 60 * NSEC_PER_SEC;
	for (unsigned k = 0; k < u->sys->n && r == 0 && !is_time(u); k++) {
		if (!u->sys->s[k].why_not)
			r = run_system(u, k);
		if (r == 0 && !u->o->keep && place_store_plans(&u->sys->s[k]) &&
		    (k + 1 == u->sys->n || !place_store_plans(&u->sys->s[k + 1])))
			place_stores_remove(u->g);
	}
	if (r == -EINTR)
		sbuf_adds(&u->rep->notes, "Interrupted: systems have fewer runs, or none.\n");
	if (r == 0 && is_time(u))
		sbuf_addf(&u->rep->notes, "Ended after %u minutes: systems without all repeats have "
			  "fewer runs, or none.\n", u->o->minutes);
	if (r < 0 && r != -EINTR)
		sbuf_addf(&u->rep->notes, "Ended by an error (%s): systems have fewer runs, or none.\n",
			  err_text(r));
	return r;
}

int place_run_all(struct rig *g, const struct place_options *o, struct place_set *s,
		  const struct place_systems *sys, struct place_report *rep)
{
	struct runs u = { .g = g, .o = o, .set = s, .sys = sys, .rep = rep };
	int r = throttles_init(&u);

	u.rank = mem_calloc(s->n, sizeof(*u.rank));
	if (r == 0 && !u.rank)
		r = -ENOMEM;
	if (r == 0)
		r = rows_create(&u);
	if (r == 0)
		r = control_create(&u);
	if (r == 0)
		r = place_rates_measure(g, s, &u.rates);
	if (r == 0) {
		int e;

		r = run_systems(&u);
		device_rates(&u);
		e = bounds(&u);
		r = r ? r : e;
	}
	if (u.control_buf)
		munmap(u.control_buf, u.control_bytes + (1u << 20));
	mem_free(u.rank);
	return r;
}
