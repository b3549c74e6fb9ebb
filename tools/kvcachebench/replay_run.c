// SPDX-License-Identifier: MIT
/*
 * One policy and budget on a mount: a new store is filled with a context for each recorded one,
 * all of them on storage; then the reads. The mount records them as well, and what it recorded
 * goes through the simulator at the rates that it measured: so both are of the same contents,
 * times and machine, and how far they agree is how far the simulator can be believed.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "replay.h"

#define TOKEN_BYTES 4096u   /* of kvlm's model, in bf16 */
#define TOKENS_MAX 1500u
#define COPIES 2u           /* different files of a size */

/* ---- contents --------------------------------------------------------------------- */

/* As one class of sizes, @k of n between @lo and @hi, in equal steps of their logarithm. */
static uint64_t class_bytes(uint64_t lo, uint64_t hi, unsigned k, unsigned n)
{
	return (uint64_t)((double)lo * pow((double)hi / (double)lo, n > 1 ? (double)k / (n - 1) : 0));
}

static int make_class(struct rig *g, struct replay_contents *c, uint64_t bytes)
{
	uint64_t whole = (uint64_t)TOKENS_MAX * TOKEN_BYTES;
	unsigned parts = (unsigned)((bytes + whole - 1) / whole), tokens;

	if (parts == 0)
		parts = 1;
	tokens = (unsigned)(bytes / parts / TOKEN_BYTES);
	tokens = tokens < 32 ? 32 : tokens > TOKENS_MAX ? TOKENS_MAX : tokens;
	return rig_corpus_sized(g, COPIES, (uint64_t)parts * tokens * TOKEN_BYTES, tokens,
				&c->size[c->n_sizes++]);
}

/* Different sizes, at most REPLAY_SIZES_MAX + 1 of them are looked for. */
static unsigned different(const struct trace_set *s, double scale, uint64_t v[REPLAY_SIZES_MAX])
{
	unsigned n = 0, k;

	for (uint32_t i = 0; i < s->n; i++) {
		uint64_t b = (uint64_t)((double)s->bytes[i] * scale);

		for (k = 0; k < n && v[k] != b; k++)
			;
		if (k < n)
			continue;
		if (n == REPLAY_SIZES_MAX)
			return n + 1;
		v[n++] = b;
	}
	return n;
}

static int make_classes(struct rig *g, struct replay_contents *c, const struct trace_set *s,
			double scale)
{
	uint64_t v[REPLAY_SIZES_MAX], lo = UINT64_MAX, hi = 0;
	unsigned n = different(s, scale, v);
	bool exact = n <= REPLAY_SIZES_MAX;
	int r = 0;

	for (uint32_t i = 0; i < s->n; i++) {
		uint64_t b = (uint64_t)((double)s->bytes[i] * scale);

		lo = b < lo ? b : lo;
		hi = b > hi ? b : hi;
	}
	n = exact ? n : REPLAY_SIZES_MAX;
	lo = lo ? lo : 1;
	for (unsigned k = 0; k < n && r == 0; k++)
		r = make_class(g, c, exact ? v[k] : class_bytes(lo, hi, k, n));
	return r;
}

/* The nearest size. */
static unsigned nearest(const struct replay_contents *c, double bytes)
{
	unsigned best = 0;
	double off = HUGE_VAL;

	for (unsigned k = 0; k < c->n_sizes; k++) {
		double d = fabs(log((double)c->size[k].bytes[0] / (bytes > 1 ? bytes : 1)));

		if (d < off) {
			off = d;
			best = k;
		}
	}
	return best;
}

int replay_contents_make(struct rig *g, const struct replay_options *o, const struct trace_set *s,
			 struct replay_contents *ret)
{
	int r = make_classes(g, ret, s, o->scale);

	ret->of = mem_calloc(s->n + 1u, sizeof(*ret->of));
	ret->bytes = mem_calloc(s->n + 1u, sizeof(*ret->bytes));
	if (r == 0 && (!ret->of || !ret->bytes))
		r = -ENOMEM;
	for (uint32_t i = 0; i < s->n && r == 0; i++) {
		uint64_t b;

		ret->of[i] = (uint8_t)nearest(ret, (double)s->bytes[i] * o->scale);
		b = ret->bytes[i] = ret->size[ret->of[i]].bytes[i % COPIES];
		ret->all += b;
		ret->max = b > ret->max ? b : ret->max;
	}
	return r;
}

void replay_contents_fini(struct replay_contents *c)
{
	mem_free(c->of);
	mem_free(c->bytes);
	c->of = NULL;
	c->bytes = NULL;
}

const char *replay_source(const struct replay_contents *c, uint32_t i)
{
	return c->size[c->of[i]].path[i % COPIES];
}

/* ---- the run ---------------------------------------------------------------------- */

static int fill(struct rig *g, const struct replay_load *l)
{
	int r = 0;

	for (uint32_t i = 0; i < l->s->n && r == 0; i++) {
		rig_say("writing context %u of %u", i + 1, l->s->n);
		r = replay_write(l, i, true);
		if (r == -ENOSPC || r == -EDQUOT || r == -ENODATA || r == -ENOENT)
			r = 0; /* full=evict: it is then computed when it is asked for */
		if (r == 0 && rig_interrupted(g))
			r = -EINTR;
	}
	rig_drop_caches();
	return r;
}

static int mount_for(struct rig *g, const struct replay_options *o, const struct trace_set *s,
		     const struct recorded_case *c, struct rig_mount *m)
{
	const struct cost_params *p = &s->state.params;
	char options[1024];
	int r;

	snprintf(options, sizeof(options),
		 "policy=%s,dram=%llu,ssd=%llu,full=%s,alpha=%.9g,recompute=%.9g,settle=500ms,"
		 "trace=1G%s%s",
		 c->policy->name, (unsigned long long)c->dram_bytes,
		 (unsigned long long)c->ssd_bytes, p->may_remove ? "evict" : "enospc", c->alpha_s,
		 p->recompute_s_per_page / COST_PAGE_BYTES * 1e6, o->options ? "," : "",
		 o->options ? o->options : "");
	rig_throttle_member(g, true);
	r = rig_mount_start(g, m, "replay", options);
	rig_throttle_member(g, false);
	return r;
}

/* What the daemon recorded, and the simulator's word on it. */
static int simulate(const struct rig_mount *m, const struct replay_load *l, struct replay_row *row)
{
	struct recorded_case c = row->c;
	struct sbuf why = SBUF_INIT;
	char path[RIG_PATH + 16];
	struct trace_set own;
	int r;

	snprintf(path, sizeof(path), "%s/trace", m->store);
	r = recorded_load(path, &own, &why);
	if (r < 0)
		return rig_fail(r, "%s", why.s ? why.s : "out of memory");
	c.warm = l->warm < own.n_a ? l->warm : 0;
	c.learn = c.warm; /* what is compared is not what it was fitted to */
	r = recorded_run(&own, &c, &row->o);
	if (r == 0)
		r = trace_set_summary(&own, c.warm, &row->daemon);
	/* a question before each read would wait, untimed, for what is being done to the file */
	if (r == 0 && row->mount.reads)
		row->mount.hit_share = row->daemon.hit_share * (double)row->daemon.reads /
				       (double)row->mount.reads;
	trace_set_fini(&own);
	return r;
}

int replay_run(struct rig *g, const struct replay_options *o, const struct trace_set *s,
	       const struct replay_contents *contents, struct replay_row *row)
{
	struct rig_mount m = { .pid = 0 };
	struct replay_load l = { .o = o, .s = s, .contents = contents, .mnt = m.mnt,
				 .recompute_s_per_byte =
					 s->state.params.recompute_s_per_page / COST_PAGE_BYTES,
				 .n = s->n_a < o->reads ? s->n_a : o->reads };
	int r = mount_for(g, o, s, &row->c, &m), e;

	l.warm = (uint64_t)((double)l.n * o->warm);
	if (r == 0)
		r = fill(g, &l);
	if (r == 0 && o->throttle_Bps && !rig_throttle_set(g, o->throttle_Bps))
		r = rig_fail(-EIO, "the device cannot be throttled any more");
	if (r == 0)
		r = replay_load_run(g, &l, &row->mount);
	if (o->throttle_Bps)
		(void)rig_throttle_set(g, 0);
	e = rig_mount_stop(g, &m);
	r = r ? r : e;
	if (r == 0)
		r = simulate(&m, &l, row);
	if (m.store[0])
		rig_remove_tree(m.store);
	return r;
}
