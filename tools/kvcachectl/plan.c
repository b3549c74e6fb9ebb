/* SPDX-License-Identifier: MIT */
/*
 * plan: what other budgets and policies would make of the recorded load: by running the reads
 * through the policies in the cost model's time, at the rates that the daemon measured.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/units.h"
#include "ctl.h"
#include "policy/policy.h"
#include "recorded.h"

struct plan {
	struct recorded_budgets dram, ssd;
	struct recorded_policies policies;
	double alpha_s; /* < 0: as recorded */
	double warm;    /* share of the reads */
	bool json;
};

/* ---- the command line -------------------------------------------------------- */

enum { OPT_DRAM = 256, OPT_SSD, OPT_POLICY, OPT_ALPHA, OPT_WARM, OPT_JSON };
static const struct option long_options[] = {
	{ "dram", required_argument, NULL, OPT_DRAM },
	{ "ssd", required_argument, NULL, OPT_SSD },
	{ "policy", required_argument, NULL, OPT_POLICY },
	{ "alpha", required_argument, NULL, OPT_ALPHA },
	{ "warm", required_argument, NULL, OPT_WARM },
	{ "json", no_argument, NULL, OPT_JSON },
	{ NULL, 0, NULL, 0 },
};

static int set_option(struct plan *p, int c)
{
	switch (c) {
	case OPT_DRAM: return recorded_budgets_parse(optarg, &p->dram);
	case OPT_SSD: return recorded_storage_parse(optarg, &p->ssd);
	case OPT_POLICY: return recorded_policies_parse(optarg, &p->policies);
	case OPT_ALPHA: return units_parse_double(optarg, 0, 1e9, &p->alpha_s);
	case OPT_WARM:
		p->warm = -1;
		if (units_parse_double(optarg, 0, 99, &p->warm) < 0)
			return -EINVAL;
		p->warm /= 100;
		return 0;
	default: p->json = true; return 0;
	}
}

/* *ret_path: as given, or NULL. False: after a message. */
static bool parse(struct plan *p, int argc, char **argv, const char **ret_path)
{
	int c, i = 0;

	*p = (struct plan){ .alpha_s = -1, .warm = 0.2 };
	while ((c = getopt_long(argc, argv, "", long_options, &i)) != -1) {
		if (c != '?' && set_option(p, c) == 0)
			continue;
		if (c != '?')
			ctl_error("--%s: '%s' is not allowed", long_options[i].name, optarg);
		return false;
	}
	*ret_path = optind < argc ? argv[optind] : NULL;
	return optind + 1 >= argc;
}

/* Of "key=value" lines; false: not there. */
static bool config_value(const char *text, const char *key, char *buf, size_t cap)
{
	size_t n = strlen(key);

	for (const char *l = text; l; l = strchr(l, '\n') ? strchr(l, '\n') + 1 : NULL)
		if (strncmp(l, key, n) == 0 && l[n] == '=') {
			snprintf(buf, cap, "%.*s", (int)strcspn(l + n + 1, "\n"), l + n + 1);
			return true;
		}
	return false;
}

/* STORE/trace of the mount that @path lies in. */
static int trace_of(const char *path, char *buf, size_t cap)
{
	char store[4096], bytes[64] = "0";
	struct sbuf text = SBUF_INIT;
	char *mount = mount_of(path);
	bool known;
	int r;

	if (!mount)
		return -ENOENT;
	r = control_read(mount, "config", &text);
	known = r == 0 && config_value(text.s, "store", store, sizeof(store));
	if (known)
		(void)config_value(text.s, "trace", bytes, sizeof(bytes)); /* else of an older one */
	sbuf_fini(&text);
	if (!known)
		ctl_error("%s: its store is not known", mount);
	snprintf(buf, cap, "%s/trace", known ? store : "");
	if (known && strcmp(bytes, "0") == 0 && access(buf, F_OK) < 0) {
		ctl_error("%s records no accesses: mount it with -o trace=64M, say", mount);
		known = false;
	}
	mem_free(mount);
	return known ? 0 : -ENOENT;
}

/* ---- the table ---------------------------------------------------------------- */

static void defaults(struct plan *p, const struct trace_set *s)
{
	const struct policy_ops *own = policy_by_name(s->state.policy), *other;
	uint64_t dram = s->state.dram_bytes;

	if (!p->dram.n)
		p->dram = (struct recorded_budgets){
			{ dram / 4, dram / 2, dram, 2 * dram, 4 * dram }, 5 };
	if (!p->ssd.n)
		p->ssd = (struct recorded_budgets){ { s->state.ssd_bytes }, 1 };
	other = policy_by_name(own && own->plans ? "lru" : "adaptive");
	if (!p->policies.n)
		p->policies = (struct recorded_policies){ { own ? own : policy_by_name("lru"), other },
							  2 };
	if (p->alpha_s < 0)
		p->alpha_s = s->state.params.alpha_s;
}

static void add_size(uint64_t bytes, int width)
{
	struct sbuf b = SBUF_INIT;

	sbuf_add_bytes(&b, bytes);
	printf(" %*s", width, b.s ? b.s : "");
	sbuf_fini(&b);
}

static void row(const struct recorded_case *c, const struct recorded_outcome *o)
{
	const struct simulate_result *r = &o->sim;

	printf("%-9s", c->policy->name);
	add_size(c->dram_bytes, 10);
	add_size(c->ssd_bytes, 10);
	printf(" %5.1f%% %5.1f%% %6.1f%% %9.2f %9.2f %9.2f %8.4f %10.1f%% %8.2f%s\n",
	       100 * r->hit_share, 100 * r->part_share, 100 * r->gone_share, r->delay_mean_s * 1e3,
	       r->delay_p50_s * 1e3, r->delay_p99_s * 1e3, r->quality, 100 * o->best.hit_share,
	       o->best.delay_s * 1e3, o->best.fits ? "" : "  does not fit");
}

static void head(const struct plan *p, const struct trace_set *s, const struct trace_summary *u)
{
	struct sbuf b = SBUF_INIT;

	if (p->json) {
		printf("{\"recorded\": {\"contexts\": %u, \"reads\": %llu, \"left_out\": %llu, "
		       "\"unreadable\": %llu, \"seconds\": %.3f, \"policy\": ",
		       s->n, (unsigned long long)u->reads, (unsigned long long)s->left_out,
		       (unsigned long long)s->damaged, u->span_s);
		sbuf_add_json_str(&b, s->state.policy);
		printf("%s, \"dram\": %llu, \"ssd\": %llu, \"hit_share\": %.6f, "
		       "\"delay_mean_s\": %.9f, \"delay_p99_s\": %.9f, \"quality\": %.6f},\n \"plans\": [",
		       b.s, (unsigned long long)s->state.dram_bytes,
		       (unsigned long long)s->state.ssd_bytes, u->hit_share, u->delay_mean_s,
		       u->delay_p99_s, u->quality);
		sbuf_fini(&b);
		return;
	}
	printf("%llu reads of %u files in %.0f s, policy %s, %.1f%% from memory, mean delay %.2f ms, "
	       "99th %.2f ms, quality %.4f\n",
	       (unsigned long long)u->reads, s->n, u->span_s, s->state.policy, 100 * u->hit_share,
	       u->delay_mean_s * 1e3, u->delay_p99_s * 1e3, u->quality);
	if (s->left_out || s->damaged)
		printf("left out: %llu opens of plain files or for writing, %llu unreadable lines\n",
		       (unsigned long long)s->left_out, (unsigned long long)s->damaged);
	printf("\n%-9s %10s %10s %6s %6s %7s %9s %9s %9s %8s %11s %8s\n", "POLICY", "DRAM", "SSD",
	       "HITS", "PART", "REMOVED", "MEAN ms", "50th ms", "99th ms", "QUALITY", "STEADY HITS",
	       "MEAN ms");
}

static int one(const struct plan *p, const struct trace_set *s, const struct recorded_case *c,
	       bool first)
{
	struct recorded_outcome o;
	struct sbuf b = SBUF_INIT;
	int r = recorded_run(s, c, &o);

	if (r < 0)
		return ctl_error("policy %s: %s", c->policy->name, err_text(r));
	if (!p->json) {
		row(c, &o);
		return 0;
	}
	recorded_add_json(&b, c, &o);
	printf("%s\n  %s", first ? "" : ",", b.s ? b.s : "null");
	sbuf_fini(&b);
	return 0;
}

static int table(const struct plan *p, const struct trace_set *s)
{
	struct recorded_case c = { .alpha_s = p->alpha_s,
				   .warm = (uint64_t)((double)s->n_a * p->warm) };
	struct trace_summary u;
	bool first = true;
	int r = trace_set_summary(s, 0, &u);

	if (r < 0)
		return ctl_error("%s", err_text(r));
	head(p, s, &u);
	for (unsigned k = 0; k < p->policies.n; k++)
		for (unsigned i = 0; i < p->ssd.n; i++)
			for (unsigned d = 0; d < p->dram.n && r == 0; d++) {
				c.policy = p->policies.v[k];
				c.dram_bytes = p->dram.v[d];
				c.ssd_bytes = p->ssd.v[i];
				r = one(p, s, &c, first);
				first = false;
			}
	if (p->json)
		puts("\n ]}");
	return r;
}

int cmd_plan(int argc, char **argv)
{
	struct sbuf why = SBUF_INIT;
	struct trace_set s;
	struct plan p;
	char at[4200];
	const char *given;
	struct stat sb;
	char *path;
	int r;

	if (!parse(&p, argc, argv, &given))
		return ctl_usage("plan");
	path = given ? mem_strdup(given) : mount_only();
	if (!path)
		return 1;
	snprintf(at, sizeof(at), "%s", path);
	r = stat(path, &sb) == 0 && S_ISDIR(sb.st_mode) ? trace_of(path, at, sizeof(at)) : 0;
	mem_free(path);
	if (r < 0)
		return 1;
	if (recorded_load(at, &s, &why) < 0) {
		ctl_error("%s", why.s ? why.s : "out of memory");
		sbuf_fini(&why);
		return 1;
	}
	defaults(&p, &s);
	r = table(&p, &s);
	trace_set_fini(&s);
	return r;
}
