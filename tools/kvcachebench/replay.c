// SPDX-License-Identifier: MIT
/* The command line of "replay", its rows and how they are printed. */
#include "replay.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/units.h"
#include "bench.h"
#include "policy/policy.h"

#define DRAM_MIN (16ull << 20) /* of a mount */

static void help(void)
{
	printf("Usage: kvcachebench replay [OPTION...] TRACE\n\n"
	       "The reads that a mount recorded (trace=, STORE/trace) again, on a new mount with\n"
	       "contents of the recorded sizes, and in the simulator. Needs root.\n\n"
	       "  --policy=LIST    such as lru,adaptive (default: the recorded one)\n"
	       "  --dram=LIST      such as 4G,8G (default: the recorded one)\n"
	       "  --ssd=LIST       likewise\n"
	       "  --alpha=S        seconds per unit of quality (default: the recorded one)\n"
	       "  --simulate       the simulator alone: no mount, any size, no root\n"
	       "  --speed=X        times as fast as recorded; 0: as fast as possible (default 1)\n"
	       "  --scale=F        sizes and budgets of the mount times F (default 1)\n"
	       "  --reads=N        the first N reads only\n"
	       "  --warm=PERCENT   of the reads, that do not count (default 0)\n"
	       "  --readers=N      at once (default 4)\n"
	       "  --throttle-rate=BYTES  a second that the mount may read from the device\n"
	       "  --options=LIST   more options of the mount\n"
	       "  --dir=DIR        scratch (default /var/tmp/kvcachebench); contents made there stay\n"
	       "  --daemon=FILE, --kvlm=FILE, --model=FILE  the programs and the model\n"
	       "  --no-quiet       leave scheduling alone\n"
	       "  --json           one JSON object instead of a table\n");
}

enum { OPT_POLICY = 256, OPT_DRAM, OPT_SSD, OPT_ALPHA, OPT_SIMULATE, OPT_SPEED, OPT_SCALE, OPT_READS,
       OPT_WARM, OPT_READERS, OPT_THROTTLE_RATE, OPT_OPTIONS, OPT_DIR, OPT_DAEMON, OPT_KVLM, OPT_MODEL, OPT_NO_QUIET,
       OPT_JSON };

static const struct option long_options[] = {
	{ "policy", required_argument, NULL, OPT_POLICY },
	{ "dram", required_argument, NULL, OPT_DRAM },
	{ "ssd", required_argument, NULL, OPT_SSD },
	{ "alpha", required_argument, NULL, OPT_ALPHA },
	{ "simulate", no_argument, NULL, OPT_SIMULATE },
	{ "speed", required_argument, NULL, OPT_SPEED },
	{ "scale", required_argument, NULL, OPT_SCALE },
	{ "reads", required_argument, NULL, OPT_READS },
	{ "warm", required_argument, NULL, OPT_WARM },
	{ "readers", required_argument, NULL, OPT_READERS },
	{ "throttle-rate", required_argument, NULL, OPT_THROTTLE_RATE },
	{ "options", required_argument, NULL, OPT_OPTIONS },
	{ "dir", required_argument, NULL, OPT_DIR },
	{ "daemon", required_argument, NULL, OPT_DAEMON },
	{ "kvlm", required_argument, NULL, OPT_KVLM },
	{ "model", required_argument, NULL, OPT_MODEL },
	{ "no-quiet", no_argument, NULL, OPT_NO_QUIET },
	{ "json", no_argument, NULL, OPT_JSON },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 },
};

static int parse_option(int c, void *arg)
{
	struct replay_options *o = arg;
	uint64_t v = 0;
	int r = 0;

	switch (c) {
	case OPT_POLICY: return recorded_policies_parse(optarg, &o->policies);
	case OPT_DRAM: return recorded_budgets_parse(optarg, &o->dram);
	case OPT_SSD: return recorded_storage_parse(optarg, &o->ssd);
	case OPT_ALPHA: return units_parse_double(optarg, 0, 1e9, &o->alpha_s);
	case OPT_SPEED: return units_parse_double(optarg, 0, 1e6, &o->speed);
	case OPT_SCALE: return units_parse_double(optarg, 1e-6, 1e3, &o->scale);
	case OPT_READS: return units_parse_u64(optarg, 1, UINT64_MAX, &o->reads);
	case OPT_WARM:
		r = units_parse_double(optarg, 0, 99, &o->warm);
		o->warm /= 100;
		return r;
	case OPT_READERS:
		r = units_parse_u64(optarg, 1, REPLAY_READERS_MAX, &v);
		o->readers = (unsigned)v;
		return r;
	case OPT_THROTTLE_RATE: return units_parse_bytes(optarg, &o->throttle_Bps);
	case OPT_SIMULATE: o->simulate = true; break;
	case OPT_OPTIONS: o->options = optarg; break;
	case OPT_DIR: o->rig.dir = optarg; break;
	case OPT_DAEMON: o->rig.daemon = optarg; break;
	case OPT_KVLM: o->rig.kvlm = optarg; break;
	case OPT_MODEL: o->rig.model = optarg; break;
	case OPT_NO_QUIET: o->rig.quiet_sched = false; break;
	default: o->rig.json = true; break;
	}
	return 0;
}

/* 0 go on, 1 help was shown, -EINVAL said why. */
static int parse(int argc, char **argv, struct replay_options *o)
{
	int r;

	*o = (struct replay_options){ .rig = { .dir = "/var/tmp/kvcachebench", .quiet_sched = true },
				      .alpha_s = -1, .speed = 1, .scale = 1, .readers = 4,
				      .reads = UINT64_MAX };
	r = bench_options(argc, argv, long_options, parse_option, o);
	if (r == 1)
		help();
	if (r)
		return r;
	if (optind + 1 != argc)
		return rig_fail(-EINVAL, "name one trace, such as STORE/trace");
	o->trace = argv[optind];
	if (!o->simulate && geteuid() != 0)
		return rig_fail(-EINVAL, "needs root: it mounts; or --simulate");
	return 0;
}

static void defaults(struct replay_options *o, const struct trace_set *s)
{
	const struct policy_ops *own = policy_by_name(s->state.policy);

	if (!o->policies.n)
		o->policies = (struct recorded_policies){ { own ? own : policy_by_name("lru") }, 1 };
	if (!o->dram.n)
		o->dram = (struct recorded_budgets){ { s->state.dram_bytes }, 1 };
	if (!o->ssd.n)
		o->ssd = (struct recorded_budgets){ { s->state.ssd_bytes }, 1 };
	if (o->alpha_s < 0)
		o->alpha_s = s->state.params.alpha_s;
}

/* ---- rows --------------------------------------------------------------------------- */

struct rows {
	struct replay_row *v; /* owned */
	unsigned n;
};

static int rows_make(const struct replay_options *o, struct rows *ret)
{
	double scale = o->simulate ? 1 : o->scale;

	ret->v = mem_calloc(o->policies.n * o->dram.n * o->ssd.n, sizeof(*ret->v));
	if (!ret->v)
		return -ENOMEM;
	for (unsigned p = 0; p < o->policies.n; p++)
		for (unsigned k = 0; k < o->ssd.n; k++)
			for (unsigned d = 0; d < o->dram.n; d++) {
				uint64_t dram = (uint64_t)((double)o->dram.v[d] * scale);

				ret->v[ret->n++].c = (struct recorded_case){
					.policy = o->policies.v[p],
					.dram_bytes = o->simulate || dram > DRAM_MIN ? dram : DRAM_MIN,
					.ssd_bytes = (uint64_t)((double)o->ssd.v[k] * scale),
					.alpha_s = o->alpha_s };
			}
	return 0;
}

static int run_simulated(const struct replay_options *o, struct trace_set *s, struct rows *rows)
{
	int r = 0;

	if (s->n_a > o->reads)
		s->n_a = o->reads;
	for (unsigned i = 0; i < rows->n && r == 0; i++) {
		rows->v[i].c.warm = (uint64_t)((double)s->n_a * o->warm);
		r = recorded_run(s, &rows->v[i].c, &rows->v[i].o);
	}
	return r < 0 ? rig_fail(r, "simulating: %s", err_text(r)) : 0;
}

static int run_mounted(const struct replay_options *o, const struct trace_set *s, struct rows *rows)
{
	struct replay_contents *c;
	struct rig *g;
	int r = rig_create(&o->rig, &g);

	if (r < 0)
		return r;
	c = mem_zalloc(sizeof(*c)); /* its paths are much for a stack */
	r = c ? replay_contents_make(g, o, s, c) : -ENOMEM;
	if (r == 0)
		r = rig_base(g, c->all + c->all / 10 + (1ull << 30), 0);
	if (r == 0 && o->throttle_Bps) {
		rig_throttle_init(g);
		rig_throttle_member(g, false);
		if (!rig_throttle_set(g, 0))
			r = rig_fail(-EOPNOTSUPP, "not throttled: %s", g->throttle.why_not);
	}
	for (unsigned i = 0; i < rows->n && r == 0; i++)
		r = replay_run(g, o, s, c, &rows->v[i]);
	if (c)
		replay_contents_fini(c);
	mem_free(c);
	if (r < 0 && r != -EINTR)
		(void)rig_fail(r, "replay: %s", err_text(r));
	rig_destroy(g);
	return r;
}

/* ---- printing ----------------------------------------------------------------------- */

static double ratio(const struct replay_row *r)
{
	return r->mount.delay_mean_s > 0 ? r->o.sim.delay_mean_s / r->mount.delay_mean_s : 0;
}

static void print_json(const struct replay_options *o, const struct trace_set *s,
		       const struct rows *rows)
{
	struct sbuf b = SBUF_INIT;

	sbuf_addf(&b, "{\"contexts\": %u, \"reads\": %llu, \"unreadable\": %llu, \"rows\": [", s->n,
		  (unsigned long long)s->n_a, (unsigned long long)s->damaged);
	for (unsigned i = 0; i < rows->n; i++) {
		const struct replay_row *r = &rows->v[i];
		const struct replay_result *m = &r->mount;

		sbuf_addf(&b, "%s\n {\"simulated\": ", i ? "," : "");
		recorded_add_json(&b, &r->c, &r->o);
		if (!o->simulate)
			sbuf_addf(&b,
				  ",\n  \"mount\": {\"reads\": %llu, \"hit_share\": %.6f, "
				  "\"removed_share\": %.6f, \"delay_mean_s\": %.9f, "
				  "\"delay_p50_s\": %.9f, \"delay_p99_s\": %.9f, "
				  "\"wait_mean_s\": %.9f, \"quality\": %.6f}, "
				  "\"daemon_delay_mean_s\": %.9f, \"ratio\": %.4f",
				  (unsigned long long)m->reads, m->hit_share, m->gone_share,
				  m->delay_mean_s, m->delay_p50_s, m->delay_p99_s, m->wait_mean_s,
				  r->daemon.quality, r->daemon.delay_mean_s, ratio(r));
		sbuf_adds(&b, "}");
	}
	printf("%s\n]}\n", b.s ? b.s : "");
	sbuf_fini(&b);
}

static void print_size(uint64_t bytes)
{
	struct sbuf b = SBUF_INIT;

	sbuf_add_bytes(&b, bytes);
	printf(" %10s", b.s ? b.s : "");
	sbuf_fini(&b);
}

static void print_table(const struct replay_options *o, const struct trace_set *s,
			const struct rows *rows)
{
	printf("%u contexts, %llu reads", s->n, (unsigned long long)s->n_a);
	if (s->damaged)
		printf(", %llu unreadable lines", (unsigned long long)s->damaged);
	printf("\n\n%-9s %10s %10s %-9s %6s %7s %9s %9s %9s %8s\n", "POLICY", "DRAM", "SSD", "", "HITS",
	       "REMOVED", "MEAN ms", "50th ms", "99th ms", "QUALITY");
	for (unsigned i = 0; i < rows->n; i++) {
		const struct replay_row *r = &rows->v[i];
		const struct replay_result *m = &r->mount;
		const struct simulate_result *z = &r->o.sim;

		printf("%-9s", r->c.policy->name);
		print_size(r->c.dram_bytes);
		print_size(r->c.ssd_bytes);
		if (!o->simulate)
			printf(" %-9s %5.1f%% %6.1f%% %9.2f %9.2f %9.2f %8.4f\n%31s", "mount",
			       100 * m->hit_share, 100 * m->gone_share, m->delay_mean_s * 1e3,
			       m->delay_p50_s * 1e3, m->delay_p99_s * 1e3, r->daemon.quality, "");
		printf(" %-9s %5.1f%% %6.1f%% %9.2f %9.2f %9.2f %8.4f\n", "simulated",
		       100 * z->hit_share, 100 * z->gone_share, z->delay_mean_s * 1e3,
		       z->delay_p50_s * 1e3, z->delay_p99_s * 1e3, z->quality);
		if (!o->simulate)
			printf("%31s simulated mean delay %.2f times the mount's; begun %.1f ms late on the "
			       "average\n", "", ratio(r), m->wait_mean_s * 1e3);
	}
}

int bench_replay(int argc, char **argv)
{
	struct rows rows = { .n = 0 };
	struct sbuf why = SBUF_INIT;
	struct replay_options o;
	struct trace_set s;
	int r = parse(argc, argv, &o);

	if (r != 0)
		return r < 0 ? 2 : 0;
	r = recorded_load(o.trace, &s, &why);
	if (r < 0) {
		(void)rig_fail(r, "%s", why.s ? why.s : "out of memory");
		sbuf_fini(&why);
		return 1;
	}
	defaults(&o, &s);
	r = rows_make(&o, &rows);
	if (r == 0)
		r = o.simulate ? run_simulated(&o, &s, &rows) : run_mounted(&o, &s, &rows);
	if (r == 0 && o.rig.json)
		print_json(&o, &s, &rows);
	else if (r == 0)
		print_table(&o, &s, &rows);
	mem_free(rows.v);
	trace_set_fini(&s);
	return r < 0 ? 1 : 0;
}
