// SPDX-License-Identifier: MIT
/* The command line of "placement". */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/units.h"
#include "bench.h"
#include "placement.h"

static void help(void)
{
	printf("Usage: kvcachebench placement [OPTION...]\n\n"
	       "Many contexts that do not fit into DRAM, read by popularity, on each of a table\n"
	       "of systems: how long loading takes, and what the answers are worth. Needs root.\n\n"
	       "  --contexts=N     of each of the three suites (default 107)\n"
	       "  --bytes=BYTES    size of a context (default 64M)\n"
	       "  --tasks=DIR      the suites (default: kvlm's tasks/load, beside the model)\n"
	       "  --zipf=LIST      exponents of popularity (default 0,0.6,0.9,1.2)\n"
	       "  --dram=LIST      percent of all contexts' bytes (default 10,25,50,100); SSD has\n"
	       "                   four times that\n"
	       "  --alpha=LIST     seconds per unit of quality, for adaptive (default 0.03,0.1,0.3,1,3)\n"
	       "  --throttle=T     yes, no or both (default both)\n"
	       "  --throttle-rate=BYTES  a second (default 1000000000)\n"
	       "  --rate=R         arrivals a second (default 6)\n"
	       "  --requests=N     counted, of each run (default 240)\n"
	       "  --warmup=N       requests before those, as fast as they are served (default 160)\n"
	       "  --history=N      uses that the mount has seen before, by opens (default 2000)\n"
	       "  --readers=N      at once (default 4)\n"
	       "  --repeats=N      with other popularity and arrivals (default 6)\n"
	       "  --minutes=N      begin no run after so many; the report has what was run\n"
	       "  --prepare        make contexts, scores and stores for a later run, no more\n"
	       "  --keep           leave the stores for another run\n"
	       "  --recompute=S    seconds per MB of a context that was removed (default 0.002)\n"
	       "  --seed=N         default 1\n"
	       "  --only=LIST      systems whose name begins with one of these, in this order\n"
	       "  --plot=SVG       draw delay and quality, by gnuplot\n"
	       "  --dir=DIR        scratch (default /var/tmp/kvcachebench); contexts and scores\n"
	       "                   made there stay for the next run\n"
	       "  --daemon=FILE, --kvlm=FILE, --model=FILE  the programs and the model\n"
	       "  --no-quiet       leave scheduling alone\n"
	       "  --json           one JSON object instead of a table\n");
}

enum { OPT_CONTEXTS = 256, OPT_BYTES, OPT_TASKS, OPT_ZIPF, OPT_DRAM, OPT_ALPHA, OPT_THROTTLE,
       OPT_THROTTLE_RATE, OPT_RATE, OPT_REQUESTS, OPT_WARMUP, OPT_HISTORY, OPT_MINUTES,
       OPT_PREPARE, OPT_KEEP, OPT_READERS, OPT_REPEATS, OPT_RECOMPUTE, OPT_SEED, OPT_ONLY, OPT_PLOT,
       OPT_DIR, OPT_DAEMON, OPT_KVLM, OPT_MODEL, OPT_NO_QUIET, OPT_JSON };

static const struct option long_options[] = {
	{ "contexts", required_argument, NULL, OPT_CONTEXTS },
	{ "bytes", required_argument, NULL, OPT_BYTES },
	{ "tasks", required_argument, NULL, OPT_TASKS },
	{ "zipf", required_argument, NULL, OPT_ZIPF },
	{ "dram", required_argument, NULL, OPT_DRAM },
	{ "alpha", required_argument, NULL, OPT_ALPHA },
	{ "throttle", required_argument, NULL, OPT_THROTTLE },
	{ "throttle-rate", required_argument, NULL, OPT_THROTTLE_RATE },
	{ "rate", required_argument, NULL, OPT_RATE },
	{ "requests", required_argument, NULL, OPT_REQUESTS },
	{ "warmup", required_argument, NULL, OPT_WARMUP },
	{ "history", required_argument, NULL, OPT_HISTORY },
	{ "minutes", required_argument, NULL, OPT_MINUTES },
	{ "prepare", no_argument, NULL, OPT_PREPARE },
	{ "keep", no_argument, NULL, OPT_KEEP },
	{ "readers", required_argument, NULL, OPT_READERS },
	{ "repeats", required_argument, NULL, OPT_REPEATS },
	{ "recompute", required_argument, NULL, OPT_RECOMPUTE },
	{ "seed", required_argument, NULL, OPT_SEED },
	{ "only", required_argument, NULL, OPT_ONLY },
	{ "plot", required_argument, NULL, OPT_PLOT },
	{ "dir", required_argument, NULL, OPT_DIR },
	{ "daemon", required_argument, NULL, OPT_DAEMON },
	{ "kvlm", required_argument, NULL, OPT_KVLM },
	{ "model", required_argument, NULL, OPT_MODEL },
	{ "no-quiet", no_argument, NULL, OPT_NO_QUIET },
	{ "json", no_argument, NULL, OPT_JSON },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 },
};

static int parse_unsigned(const char *s, uint64_t min, uint64_t max, unsigned *ret)
{
	uint64_t v = 0;
	int r = units_parse_u64(s, min, max, &v);

	if (r == 0)
		*ret = (unsigned)v;
	return r;
}

static int parse_size(const char *s, uint64_t min, uint64_t max, uint64_t *ret)
{
	int r = units_parse_bytes(s, ret);

	return r == 0 && (*ret < min || *ret > max) ? -ERANGE : r;
}

/* "0.6,0.9", each times @unit. */
static int parse_list(const char *s, double min, double max, double unit, struct place_list *ret)
{
	struct place_list l = { .n = 0 };
	char one[32];

	while (*s) {
		size_t n = strcspn(s, ",");
		int r;

		if (n == 0 || n >= sizeof(one) || l.n == PLACE_LIST_MAX)
			return -EINVAL;
		memcpy(one, s, n);
		one[n] = 0;
		r = units_parse_double(one, min, max, &l.v[l.n]);
		if (r < 0)
			return r;
		l.v[l.n++] *= unit;
		s += n + (s[n] == ',');
	}
	*ret = l;
	return l.n ? 0 : -EINVAL;
}

static int parse_throttle(const char *s, int *ret)
{
	static const char *const names[] = { "both", "no", "yes" };

	for (int i = 0; i < 3; i++)
		if (strcmp(s, names[i]) == 0) {
			*ret = i - 1;
			return 0;
		}
	return -EINVAL;
}

static int parse_option(int c, void *arg)
{
	struct place_options *o = arg;

	switch (c) {
	case OPT_CONTEXTS: return parse_unsigned(optarg, 1, 100000, &o->contexts);
	case OPT_BYTES: return parse_size(optarg, 1u << 20, 4ull << 30, &o->rig.bytes);
	case OPT_TASKS: o->tasks = optarg; break;
	case OPT_ZIPF: return parse_list(optarg, 0, 5, 1, &o->zipf);
	case OPT_DRAM: return parse_list(optarg, 0.1, 1000, 0.01, &o->dram);
	case OPT_ALPHA: return parse_list(optarg, 0, 1e6, 1, &o->alpha);
	case OPT_THROTTLE: return parse_throttle(optarg, &o->throttle);
	case OPT_THROTTLE_RATE: return parse_size(optarg, 1000000, 1ull << 40, &o->throttle_Bps);
	case OPT_RATE: return units_parse_double(optarg, 0.01, 1e5, &o->rate);
	case OPT_REQUESTS: return parse_unsigned(optarg, 1, 10000000, &o->requests);
	case OPT_WARMUP: return parse_unsigned(optarg, 0, 10000000, &o->warmup);
	case OPT_HISTORY: return parse_unsigned(optarg, 0, 10000000, &o->history);
	case OPT_MINUTES: return parse_unsigned(optarg, 1, 100000, &o->minutes);
	case OPT_PREPARE: o->prepare = true; break;
	case OPT_KEEP: o->keep = true; break;
	case OPT_READERS: return parse_unsigned(optarg, 1, PLACE_READERS_MAX, &o->readers);
	case OPT_REPEATS: return parse_unsigned(optarg, 1, PLACE_REPEATS_MAX, &o->repeats);
	case OPT_RECOMPUTE: return units_parse_double(optarg, 0, 1e3, &o->recompute_s_per_mb);
	case OPT_SEED: return units_parse_u64(optarg, 0, UINT64_MAX, &o->seed);
	case OPT_ONLY: o->rig.only = optarg; break;
	case OPT_PLOT: o->plot = optarg; break;
	case OPT_DIR: o->rig.dir = optarg; break;
	case OPT_DAEMON: o->rig.daemon = optarg; break;
	case OPT_KVLM: o->rig.kvlm = optarg; break;
	case OPT_MODEL: o->rig.model = optarg; break;
	case OPT_NO_QUIET: o->rig.quiet_sched = false; break;
	default: o->rig.json = true; break;
	}
	return 0;
}

int place_options_parse(int argc, char **argv, struct place_options *o)
{
	int r;

	*o = (struct place_options){
		.rig = { .dir = "/var/tmp/kvcachebench", .bytes = 64u << 20, .quiet_sched = true },
		.contexts = 107, .requests = 240, .warmup = 160, .history = 2000, .repeats = 6, .readers = 4,
		.rate = 6, .recompute_s_per_mb = 0.002, .throttle = -1,
		.throttle_Bps = 1000000000, .seed = 1,
		.zipf = { { 0, 0.6, 0.9, 1.2 }, 4 }, .dram = { { 0.1, 0.25, 0.5, 1 }, 4 },
		.alpha = { { 0.03, 0.1, 0.3, 1, 3 }, 5 },
	};
	r = bench_options(argc, argv, long_options, parse_option, o);
	if (r == 1)
		help();
	if (r)
		return r;
	if (optind < argc)
		return rig_fail(-EINVAL, "unexpected argument '%s'", argv[optind]);
	if (o->plot && strpbrk(o->plot, "'\\\n"))
		return rig_fail(-EINVAL, "--plot: a name without quotes, please");
	if (geteuid() != 0)
		return rig_fail(-EINVAL, "needs root: it mounts, drops caches and throttles");
	return 0;
}
