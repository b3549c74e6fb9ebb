/* SPDX-License-Identifier: MIT */
/*
 * Option table and parser. Every option is "name=value" in -o lists (several
 * -o add up, the last one wins). Options that mount(8) and fstab lines carry
 * for everybody are accepted: those that mean something to the kernel go on to
 * it, the others are dropped. Failure: a sentence for people, exit code 2.
 */
#include "fs/options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/units.h"

#define OPTION_LEN_MAX 4096
#define TIB (1024.0 * 1024 * 1024 * 1024)
#define MIB (1024.0 * 1024)
#define FIELD(f) offsetof(struct options, f)

const struct option_def option_table[] = {
	{ "dram", OPTION_SHARE, FIELD(dram_bytes), 16 * MIB, 1024 * TIB, "25%", NULL, true,
	  "memory for replicas, decoded copies and buffers (bytes, or % of RAM)" },
	{ "ssd", OPTION_BYTES, FIELD(ssd_bytes), 0, 1048576 * TIB, "0", NULL, true,
	  "what the store may occupy; 0: the whole filesystem under it" },
	{ "reserve", OPTION_BYTES, FIELD(reserve_bytes), 0, 1048576 * TIB, "0", NULL, false,
	  "free budget below which each write is checked; 0: 5 %, at least 2G" },
	{ "full", OPTION_CHOICE, FIELD(full), 0, 0, "enospc", "enospc|evict", false,
	  "when ssd is used up: refuse writes, or remove the least useful files" },
	{ "quality", OPTION_NUMBER, FIELD(quality), 0, 1, "1", NULL, false,
	  "lowest quality granted to every file; 1: exact" },
	{ "policy", OPTION_CHOICE, FIELD(policy), 0, 0, "adaptive",
	  "adaptive|lru|fixed:0|fixed:1|fixed:2|fixed:3|fixed:4|fixed:5|fixed:6", false,
	  "what decides about placement and eviction" },
	{ "codec", OPTION_CHOICE, FIELD(codec), 0, 0, "auto", "auto|raw", false,
	  "how files are sealed: encoded, or as they are (to compare with)" },
	{ "alpha", OPTION_NUMBER, FIELD(alpha_s), 0, 1e9, "10", NULL, false,
	  "adaptive: seconds of delay that one unit of quality is worth" },
	{ "recompute", OPTION_NUMBER, FIELD(recompute_s_per_mb), 0, 1e6, "0.001", NULL, false,
	  "adaptive: seconds per megabyte that computing a removed file anew takes" },
	{ "recompute_token", OPTION_NUMBER, FIELD(recompute_s_per_token), 0, 1e6, "0", NULL, false,
	  "the same per token, of files that tell how many they have; 0: by megabytes" },
	{ "threads", OPTION_UINT, FIELD(threads), 0, 1024, "0", NULL, false,
	  "threads that encode and decode; 0: one per CPU" },
	{ "serve_threads", OPTION_UINT, FIELD(serve_threads), 0, 64, "0", NULL, false,
	  "threads that wait for requests (more start when all are busy); 0: automatic" },
	{ "settle", OPTION_NS, FIELD(settle_ns), 0, 7 * 86400e9, "2s", NULL, false,
	  "quiet time after the last close before a file is sealed" },
	{ "trace", OPTION_BYTES, FIELD(trace_bytes), 0, 1048576 * TIB, "0", NULL, false,
	  "record accesses in STORE/trace, the last ones, up to this size; 0: none" },
	{ "damage", OPTION_CHOICE, FIELD(damage), 0, 0, "eio", "eio|hide", false,
	  "damaged files: reads fail, or the name behaves as absent" },
	{ "statfs", OPTION_CHOICE, FIELD(statfs), 0, 0, "physical", "physical|logical", false,
	  "what df counts: stored bytes, or bytes as written" },
	{ "strictwrite", OPTION_FLAG, FIELD(strictwrite), 0, 1, "no", NULL, false,
	  "never let the kernel write past the daemon, so that ssd is exact" },
	{ "paths", OPTION_CHOICE, FIELD(paths), 0, 0, "auto", "auto|passthrough|stream|cached",
	  false, "ways of serving open files that may be used" },
	{ "follow", OPTION_CHOICE, FIELD(follow), 0, 0, "auto", "auto|off", false,
	  "serve a lone client on the CPU that it runs on" },
	{ "allow_other", OPTION_FLAG, FIELD(allow_other), 0, 1, "no", NULL, false,
	  "let other users in (permissions are checked as on a disk)" },
	{ "ro", OPTION_FLAG, FIELD(read_only), 0, 1, "no", NULL, false,
	  "read-only: nothing in the store is changed" },
	{ "log", OPTION_CHOICE, FIELD(log), 0, 0, "info", "error|warn|info|debug", false,
	  "least important message that is logged" },
};
const size_t option_count = sizeof(option_table) / sizeof(option_table[0]);

/* Generic mount options. dev and suid are dropped, not honoured: mount.fuse
 * adds them by itself, and this filesystem is always nodev and nosuid. */
static const char *const opts_kernel[] = { "noexec", "exec",  "noatime", "atime",
					   "sync",   "async", "dirsync" };
static const char *const opts_ignored[] = {
	"rw",         "defaults",    "auto",          "noauto",
	"user",       "nouser",      "users",         "owner",
	"group",      "nofail",      "_netdev",       "dev",
	"suid",       "nodev",       "nosuid",        "relatime",
	"norelatime", "strictatime", "nostrictatime", "diratime",
	"nodiratime", "lazytime",    "nolazytime",    "default_permissions",
	"silent",     "loud",        "mand",          "nomand",
	"iversion",   "noiversion",
};

static bool name_in(const char *const *list, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(list[i], name) == 0)
			return true;
	return false;
}

static const struct option_def *option_find(const char *name)
{
	for (size_t i = 0; i < option_count; i++)
		if (strcmp(option_table[i].name, name) == 0)
			return &option_table[i];
	return NULL;
}

static void *option_field(struct options *o, const struct option_def *d)
{
	return (char *)o + d->offset;
}

/* Index of @v in "a|b|c", or -EINVAL. */
static int choice_parse(const char *choices, const char *v)
{
	size_t len = strlen(v);

	for (int i = 0; len; i++) {
		size_t n = strcspn(choices, "|");

		if (n == len && memcmp(choices, v, n) == 0)
			return i;
		if (!choices[n])
			break;
		choices += n + 1;
	}
	return -EINVAL;
}

static int share_parse(const char *v, uint64_t total, uint64_t *ret)
{
	size_t len = strlen(v);
	char num[32];
	double pct;
	int r;

	if (len < 2 || v[len - 1] != '%')
		return units_parse_bytes(v, ret);
	if (len > sizeof(num))
		return -EINVAL;
	memcpy(num, v, len - 1);
	num[len - 1] = '\0';
	r = units_parse_double(num, 0, 100, &pct);
	if (r < 0)
		return r;
	*ret = (uint64_t)((double)total * pct / 100);
	return 0;
}

static int bytes_bounded(const struct option_def *d, uint64_t b, uint64_t *field)
{
	if ((double)b < d->min || (double)b > d->max)
		return -ERANGE;
	*field = b;
	return 0;
}

static int option_set(struct options *o, const struct option_def *d, const char *v, uint64_t total)
{
	void *field = option_field(o, d);
	uint64_t u = 0;
	bool flag = true;
	int r;

	switch (d->type) {
	case OPTION_BYTES:
		r = units_parse_bytes(v, &u);
		return r < 0 ? r : bytes_bounded(d, u, field);
	case OPTION_SHARE:
		r = share_parse(v, total, &u);
		return r < 0 ? r : bytes_bounded(d, u, field);
	case OPTION_NS:
		r = units_parse_ns(v, &u);
		return r < 0 ? r : bytes_bounded(d, u, field);
	case OPTION_UINT:
		r = units_parse_u64(v, (uint64_t)d->min, (uint64_t)d->max, &u);
		if (r == 0)
			*(unsigned *)field = (unsigned)u;
		return r;
	case OPTION_NUMBER:
		return units_parse_double(v, d->min, d->max, field);
	case OPTION_FLAG:
		r = *v ? units_parse_bool(v, &flag) : 0;
		if (r == 0)
			*(bool *)field = flag;
		return r;
	case OPTION_CHOICE:
		r = choice_parse(d->choices, v);
		if (r < 0)
			return r;
		*(unsigned *)field = (unsigned)r;
		return 0;
	}
	return -EINVAL;
}

/* What @d takes, for an error message: "a size such as 8G, from 16 MiB". */
static void option_allowed(const struct option_def *d, struct sbuf *out)
{
	switch (d->type) {
	case OPTION_BYTES:
	case OPTION_SHARE:
		sbuf_adds(out, d->type == OPTION_SHARE ? "a size such as 8G or a share such as 25%"
						       : "a size such as 8G");
		if (d->min > 0) {
			sbuf_adds(out, ", at least ");
			sbuf_add_bytes(out, (unsigned long long)d->min);
		}
		break;
	case OPTION_NS:
		sbuf_adds(out, "a time such as 500ms, 2s or 5m");
		break;
	case OPTION_UINT:
		sbuf_addf(out, "a whole number from %.0f to %.0f", d->min, d->max);
		break;
	case OPTION_NUMBER:
		sbuf_addf(out, "a number from %g to %g", d->min, d->max);
		break;
	case OPTION_FLAG:
		sbuf_adds(out, "nothing, or =yes or =no");
		break;
	case OPTION_CHOICE:
		sbuf_addf(out, "one of %s", d->choices);
		break;
	}
}

static int option_bad(const struct option_def *d, const char *v, struct sbuf *why)
{
	sbuf_addf(why, "option %s=%s: not allowed; %s takes ", d->name, v, d->name);
	option_allowed(d, why);
	return -EINVAL;
}

int options_check_bytes(const char *name, uint64_t bytes, struct sbuf *why)
{
	const struct option_def *d = option_find(name);

	if (d && (double)bytes >= d->min && (double)bytes <= d->max)
		return 0;
	sbuf_adds(why, "takes a size");
	if (d && d->min > 0) {
		sbuf_adds(why, " of at least ");
		sbuf_add_bytes(why, (unsigned long long)d->min);
	}
	return -EINVAL;
}

static int option_unknown(const char *name, struct sbuf *why)
{
	sbuf_addf(why, "unknown option '%s'; known are ", name);
	for (size_t i = 0; i < option_count; i++)
		sbuf_addf(why, "%s%s", i ? ", " : "", option_table[i].name);
	return -EINVAL;
}

static int replace_str(char **field, const char *v)
{
	char *s = mem_strdup(v);

	if (!s)
		return -ENOMEM;
	mem_free(*field);
	*field = s;
	return 0;
}

/* One "name" or "name=value"; @s is cut at its '='. */
static int option_one(struct options *o, char *s, uint64_t total, struct sbuf *why)
{
	char *eq = strchr(s, '=');
	const char *v = eq ? eq + 1 : "";
	const struct option_def *d;

	if (eq)
		*eq = '\0';
	d = option_find(s);
	if (d) {
		if (!eq && d->type != OPTION_FLAG) {
			sbuf_addf(why, "option %s needs a value: ", d->name);
			option_allowed(d, why);
			return -EINVAL;
		}
		return option_set(o, d, v, total) < 0 ? option_bad(d, v, why) : 0;
	}
	if (strcmp(s, "fsname") == 0 && *v)
		return replace_str(&o->fsname, v);
	if (strcmp(s, "subtype") == 0 || strncmp(s, "x-", 2) == 0 || strcmp(s, "comment") == 0)
		return 0;
	if (name_in(opts_kernel, sizeof(opts_kernel) / sizeof(*opts_kernel), s)) {
		sbuf_addf(&o->kernel_opts, ",%s", s);
		return 0;
	}
	if (strcmp(s, "rw") == 0)
		o->read_only = false;
	if (name_in(opts_ignored, sizeof(opts_ignored) / sizeof(*opts_ignored), s))
		return 0;
	return option_unknown(s, why);
}

/* A comma-separated list; "\," is a comma within a value. */
static int option_list(struct options *o, const char *list, uint64_t total, struct sbuf *why)
{
	char one[OPTION_LEN_MAX];
	size_t n = 0;
	int r;

	for (;; list++) {
		if (*list == '\\' && list[1]) {
			list++;
		} else if (*list == ',' || !*list) {
			one[n] = '\0';
			r = n ? option_one(o, one, total, why) : 0;
			if (r < 0 || !*list)
				return r;
			n = 0;
			continue;
		}
		if (n + 1 >= sizeof(one)) {
			sbuf_adds(why, "an option is longer than 4095 characters");
			return -EINVAL;
		}
		one[n++] = *list;
	}
}

int options_init(struct options *o, uint64_t total)
{
	memset(o, 0, sizeof(*o));
	for (size_t i = 0; i < option_count; i++) {
		const struct option_def *d = &option_table[i];
		int r = option_set(o, d, d->def, total);

		/* 25 % of a very small machine: the least that is allowed. */
		if (r == -ERANGE && d->type == OPTION_SHARE)
			*(uint64_t *)option_field(o, d) = (uint64_t)d->min;
		else if (r < 0)
			return r;
	}
	return 0;
}

static int option_switch(struct options *o, const char *a, struct sbuf *why)
{
	if (strcmp(a, "-f") == 0 || strcmp(a, "--foreground") == 0)
		o->foreground = true;
	else if (strcmp(a, "-h") == 0 || strcmp(a, "--help") == 0)
		o->help = true;
	else if (strcmp(a, "-V") == 0 || strcmp(a, "--version") == 0)
		o->version = true;
	else if (strcmp(a, "-r") == 0)
		o->read_only = true;
	else if (strcmp(a, "-s") != 0 && strcmp(a, "-n") != 0 && strcmp(a, "-v") != 0 &&
		 strcmp(a, "-w") != 0) { /* what mount(8) hands to helpers */
		sbuf_addf(why, "unknown switch '%s'; see kvcachefs --help", a);
		return -EINVAL;
	}
	return 0;
}

static int option_word(struct options *o, const char *a, struct sbuf *why)
{
	if (!o->store)
		return replace_str(&o->store, a);
	if (!o->mountpoint)
		return replace_str(&o->mountpoint, a);
	sbuf_addf(why, "one argument too many: '%s'", a);
	return -EINVAL;
}

int options_parse(struct options *o, int argc, char **argv, uint64_t total, struct sbuf *why)
{
	bool words_only = false;

	for (int i = 1; i < argc; i++) {
		const char *a = argv[i];
		int r;

		if (words_only || a[0] != '-' || !a[1]) {
			r = option_word(o, a, why);
		} else if (strcmp(a, "--") == 0) {
			words_only = true;
			r = 0;
		} else if (a[1] == 'o' || a[1] == 't') {
			const char *v = a[2] ? a + 2 : argv[++i];

			if (!v) {
				sbuf_addf(why, "-%c needs a value", a[1]);
				return -EINVAL;
			}
			r = a[1] == 'o' ? option_list(o, v, total, why) : 0;
		} else {
			r = option_switch(o, a, why);
		}
		if (r < 0)
			return r;
	}
	if (o->help || o->version)
		return 0;
	if (!o->store || !o->mountpoint) {
		sbuf_addf(why, "%s missing; usage: kvcachefs STORE MOUNTPOINT [-o options] [-f]",
			  o->store ? "MOUNTPOINT is" : "STORE and MOUNTPOINT are");
		return -EINVAL;
	}
	return 0;
}

void options_fini(struct options *o)
{
	mem_free(o->store);
	mem_free(o->mountpoint);
	mem_free(o->fsname);
	sbuf_fini(&o->kernel_opts);
	memset(o, 0, sizeof(*o));
}

void options_help(struct sbuf *out)
{
	sbuf_adds(out,
		  "usage: kvcachefs STORE MOUNTPOINT [-o name=value,...] [-f]\n\n"
		  "Mounts the KV caches in directory STORE at MOUNTPOINT. STORE is created when\n"
		  "it does not exist. Unmount with: fusermount3 -u MOUNTPOINT\n\n"
		  "  -f, --foreground  stay in the foreground, log to standard error\n"
		  "  -h, --help        this text\n"
		  "  -V, --version     the version\n\n"
		  "Options (-o):\n");
	for (size_t i = 0; i < option_count; i++) {
		const struct option_def *d = &option_table[i];

		sbuf_addf(out, "  %-14s %s\n", d->name, d->help);
		sbuf_addf(out, "  %-14s takes ", "");
		option_allowed(d, out);
		sbuf_addf(out, "; default %s\n", d->def);
	}
	sbuf_adds(out,
		  "\nThe usual mount options (noexec, noatime, x-*, _netdev, ...) are accepted.\n"
		  "More: kvcachefs(8), kvcachectl(1), kvcachefs-xattr(7)\n");
}

const char *options_choice(const char *name, unsigned index, char *buf, size_t len)
{
	const struct option_def *d = option_find(name);
	const char *c = d && d->choices ? d->choices : "?";
	size_t n;

	for (; index && strchr(c, '|'); index--)
		c = strchr(c, '|') + 1;
	n = strcspn(c, "|");
	if (n >= len)
		n = len - 1;
	memcpy(buf, c, n);
	buf[n] = '\0';
	return buf;
}

void options_dump(const struct options *o, struct sbuf *out)
{
	for (size_t i = 0; i < option_count; i++) {
		const struct option_def *d = &option_table[i];
		const void *f = (const char *)o + d->offset;
		char choice[32];

		sbuf_addf(out, "%s=", d->name);
		switch (d->type) {
		case OPTION_BYTES:
		case OPTION_SHARE:
			sbuf_addf(out, "%llu", (unsigned long long)*(const uint64_t *)f);
			break;
		case OPTION_NS:
			sbuf_addf(out, "%gs", (double)*(const uint64_t *)f / 1e9);
			break;
		case OPTION_UINT:
			sbuf_addf(out, "%u", *(const unsigned *)f);
			break;
		case OPTION_NUMBER:
			sbuf_addf(out, "%g", *(const double *)f);
			break;
		case OPTION_FLAG:
			sbuf_adds(out, *(const bool *)f ? "yes" : "no");
			break;
		case OPTION_CHOICE:
			sbuf_adds(out, options_choice(d->name, *(const unsigned *)f, choice,
						      sizeof(choice)));
			break;
		}
		sbuf_adds(out, "\n");
	}
}
