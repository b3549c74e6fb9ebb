/* SPDX-License-Identifier: MIT */
/* The texts of .kvcachefs: status for people, metrics for Prometheus, config. */
#include <ctype.h>
#include <string.h>
#include <unistd.h>

#include "base/budget.h"
#include "base/clock.h"
#include "fs/control.h"

static void add_of(struct sbuf *out, const char *name, uint64_t used, uint64_t limit)
{
	sbuf_addf(out, "%-22s ", name);
	sbuf_add_bytes(out, used);
	if (limit) {
		sbuf_adds(out, " of ");
		sbuf_add_bytes(out, limit);
		sbuf_addf(out, " (%.0f %%)", 100.0 * (double)used / (double)limit);
	}
	sbuf_adds(out, "\n");
}

static void add_uptime(struct sbuf *out, uint64_t ns)
{
	uint64_t s = ns / NSEC_PER_SEC;

	if (s < 60)
		sbuf_addf(out, "%llu s", (unsigned long long)s);
	else if (s < 86400)
		sbuf_addf(out, "%llu h %02llu min", (unsigned long long)s / 3600,
			  (unsigned long long)s / 60 % 60);
	else
		sbuf_addf(out, "%llu days", (unsigned long long)s / 86400);
}

static void add_paths(struct sbuf *out, unsigned paths)
{
	static const struct {
		unsigned bit;
		const char *name;
	} names[] = {
		{ PATH_PASSTHROUGH_READ, "passthrough reads" },
		{ PATH_PASSTHROUGH_WRITE, "passthrough writes" },
		{ PATH_STREAM, "streaming" },
		{ PATH_CACHED, "page cache" },
	};
	const char *sep = "";

	sbuf_addf(out, "%-22s ", "ways in use");
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (paths & names[i].bit) {
			sbuf_addf(out, "%s%s", sep, names[i].name);
			sep = ", ";
		}
	sbuf_adds(out, "\n");
}

static void status_store(const struct store_status *s, struct sbuf *out)
{
	sbuf_addf(out, "%-22s %llu, %llu of them sealed\n", "files", (unsigned long long)s->files,
		  (unsigned long long)s->files_sealed);
	sbuf_addf(out, "%-22s %llu open, %llu known to the kernel\n", "in use",
		  (unsigned long long)s->opens, (unsigned long long)s->nodes);
	sbuf_addf(out, "%-22s %llu waiting, %llu running\n", "sealing",
		  (unsigned long long)s->seal_queue, (unsigned long long)s->seal_running);
	add_of(out, "memory", s->dram_used, s->dram_limit);
	for (unsigned u = 0; u < BUDGET_USES_; u++)
		if (s->dram_use[u]) {
			sbuf_addf(out, "  %-20s ", budget_use_name((enum budget_use)u));
			sbuf_add_bytes(out, s->dram_use[u]);
			sbuf_adds(out, "\n");
		}
	sbuf_addf(out, "%-22s %llu in memory, %llu decoded\n", "copies",
		  (unsigned long long)s->replicas, (unsigned long long)s->copies);
	add_of(out, "storage", s->ssd_used, s->ssd_limit);
	if (s->ssd_overshoot)
		add_of(out, "  over the limit by", s->ssd_overshoot, 0);
	if (s->held_files) {
		sbuf_addf(out, "  %-20s ", "dropped, but in use");
		sbuf_add_bytes(out, s->held_bytes);
		sbuf_addf(out, " of %llu files: %s\n", (unsigned long long)s->held_files, s->held);
	}
	sbuf_addf(out, "%-22s ", "as written");
	sbuf_add_bytes(out, s->ssd_logical);
	if (s->ssd_used)
		sbuf_addf(out, " (%.2f times what it occupies)",
			  (double)s->ssd_logical / (double)s->ssd_used);
	sbuf_adds(out, "\n");
	if (s->ssd_read_Bps > 0)
		sbuf_addf(out, "%-22s %.2f GB/s after %.0f us\n", "storage reads at",
			  s->ssd_read_Bps / 1e9, s->ssd_latency_ns / 1e3);
	if (s->decode_Bps > 0)
		sbuf_addf(out, "%-22s %.2f GB/s\n", "decoding at", s->decode_Bps / 1e9);
}

/* What the policy counts with. */
static void status_rates(const struct cost_rates *r, struct sbuf *out)
{
	static const char *const classes[COST_CLASSES] = { "opaque", "exact", "layered" };
	static const char *const paths[COST_PATHS] = { "streamed", "at open" };
	static const char *const packs[COST_PACKINGS] = { "storage form", "memory form" };

	sbuf_addf(out, "%-22s storage %.2f GB/s after %.0f us, copies %.2f GB/s after %.0f us, "
		       "recoding %.2f GB/s\n",
		  "rates", r->ssd_Bps / 1e9, r->ssd_latency_s * 1e6, r->copy_Bps / 1e9,
		  r->copy_latency_s * 1e6, r->recode_Bps / 1e9);
	for (unsigned c = 0; c < COST_CLASSES; c++)
		for (unsigned p = 0; p < COST_PATHS; p++)
			for (unsigned k = 0; k < COST_PACKINGS; k++) {
				sbuf_addf(out, "  %s, %s, %s:", classes[c], paths[p], packs[k]);
				for (unsigned l = 0; l < (c == COST_CLASS_LADDER ? 4u : 1u); l++)
					sbuf_addf(out, " %.2f", r->decode_Bps[c][p][k][l] / 1e9);
				sbuf_adds(out, " GB/s\n");
			}
}

static void status_plan(const struct store_status *s, struct sbuf *out)
{
	if (!s->planned)
		return;
	sbuf_addf(out, "%-22s %llu, of %llu contexts%s\n", "plans", (unsigned long long)s->plans,
		  (unsigned long long)s->plan_contexts,
		  s->plan_fits ? "" : "; floors, pins and uses need more than there is");
	add_of(out, "  in memory", s->plan_dram_bytes, 0);
	add_of(out, "  on storage", s->plan_ssd_bytes, 0);
	sbuf_addf(out, "  %-20s %.3g s, of storage %.3g s\n", "a MiB of memory earns",
		  s->plan_dram_price, s->plan_ssd_price);
	sbuf_addf(out, "%-22s %llu more samples taken while idle; readers measured %u contexts of %u "
		       "models\n",
		  "estimates", (unsigned long long)s->resampled, s->measured, s->measured_models);
	status_rates(&s->rates, out);
}

void control_status(struct fs *fs, struct sbuf *out)
{
	struct scrub_status scrub;
	struct store_status s;

	memset(&s, 0, sizeof(s));
	memset(&scrub, 0, sizeof(scrub));
	store_status(fs->st, &s);
	store_scrub_status(fs->st, &scrub);
	sbuf_addf(out, "kvcachefs " KVFS_VERSION ", pid %d, running for ", (int)getpid());
	add_uptime(out, clock_real_ns() - fs->started_ns);
	sbuf_addf(out, "\n%-22s %s%s\n", "store", fs->opt->store,
		  s.read_only ? " (read-only)" : "");
	sbuf_addf(out, "%-22s %s\n%-22s %s\n", "identity", s.uuid, "policy", s.policy);
	status_store(&s, out);
	status_plan(&s, out);
	if (scrub.running || scrub.files_total)
		sbuf_addf(out, "%-22s %s, %llu of %llu files, %llu damaged\n", "scrub",
			  scrub.running ? "running" : "done", (unsigned long long)scrub.files_done,
			  (unsigned long long)scrub.files_total, (unsigned long long)scrub.damaged);
	add_paths(out, s.paths);
	fs_dump_features(fs, out);
}

static void metric(struct sbuf *out, const char *name, const char *type, const char *help)
{
	sbuf_addf(out, "# HELP kvcachefs_%s %s\n# TYPE kvcachefs_%s %s\n", name, help, name, type);
}

static void gauge(struct sbuf *out, const char *name, const char *help, double v)
{
	metric(out, name, "gauge", help);
	sbuf_addf(out, "kvcachefs_%s %.17g\n", name, v);
}

/* A store counter under a name that Prometheus takes: [a-z0-9_], "_total". */
static void counter_cb(void *arg, const char *name, const char *help, uint64_t value)
{
	struct sbuf *out = arg;
	char clean[96];
	size_t n = 0, len;

	for (; *name && n + 8 < sizeof(clean); name++)
		clean[n++] = isalnum((unsigned char)*name) ? (char)tolower((unsigned char)*name)
							   : '_';
	clean[n] = '\0';
	len = strlen("_total");
	if (n < len || strcmp(clean + n - len, "_total") != 0)
		memcpy(clean + n, "_total", len + 1);
	metric(out, clean, "counter", help && *help ? help : clean);
	sbuf_addf(out, "kvcachefs_%s %llu\n", clean, (unsigned long long)value);
}

static void metrics_budget(struct sbuf *out, const struct store_status *s)
{
	gauge(out, "dram_limit_bytes", "Memory that data may use.", (double)s->dram_limit);
	gauge(out, "dram_used_bytes", "Memory that data uses.", (double)s->dram_used);
	metric(out, "dram_use_bytes", "gauge", "Memory that data uses, by kind.");
	for (unsigned u = 0; u < BUDGET_USES_; u++)
		sbuf_addf(out, "kvcachefs_dram_use_bytes{kind=\"%s\"} %llu\n",
			  budget_use_name((enum budget_use)u), (unsigned long long)s->dram_use[u]);
	gauge(out, "ssd_limit_bytes", "Storage that the store may occupy.", (double)s->ssd_limit);
	gauge(out, "ssd_used_bytes", "Storage that the store occupies.", (double)s->ssd_used);
	gauge(out, "ssd_logical_bytes", "Bytes of all files as written.", (double)s->ssd_logical);
	gauge(out, "ssd_overshoot_bytes", "Storage in use beyond the limit.",
	      (double)s->ssd_overshoot);
}

static void metrics_requests(struct fs *fs, struct sbuf *out)
{
	static const char *const names[KF_OPCODES] = {
		[0] = "other",         [1] = "lookup",
		[2] = "forget",        [3] = "getattr",
		[4] = "setattr",       [5] = "readlink",
		[6] = "symlink",       [8] = "mknod",
		[9] = "mkdir",         [10] = "unlink",
		[11] = "rmdir",        [12] = "rename",
		[13] = "link",         [14] = "open",
		[15] = "read",         [16] = "write",
		[17] = "statfs",       [18] = "release",
		[20] = "fsync",        [21] = "setxattr",
		[22] = "getxattr",     [23] = "listxattr",
		[24] = "removexattr",  [25] = "flush",
		[26] = "init",         [27] = "opendir",
		[28] = "readdir",      [29] = "releasedir",
		[30] = "fsyncdir",     [35] = "create",
		[36] = "interrupt",    [39] = "ioctl",
		[42] = "batch_forget", [43] = "fallocate",
		[44] = "readdirplus",  [45] = "rename2",
		[46] = "lseek",        [47] = "copy_file_range",
		[50] = "syncfs",       [51] = "tmpfile",
		[52] = "statx",
	};

	metric(out, "fuse_requests_total", "counter", "Requests of the kernel, by kind.");
	for (unsigned i = 0; i < KF_OPCODES; i++)
		if (names[i])
			sbuf_addf(out, "kvcachefs_fuse_requests_total{op=\"%s\"} %llu\n", names[i],
				  (unsigned long long)fs->requests[i]);
}

void control_metrics(struct fs *fs, struct sbuf *out)
{
	struct store_status s;

	memset(&s, 0, sizeof(s));
	store_status(fs->st, &s);
	metric(out, "build_info", "gauge", "Always 1; the version is in the label.");
	sbuf_adds(out, "kvcachefs_build_info{version=\"" KVFS_VERSION "\"} 1\n");
	gauge(out, "start_time_seconds", "When the mount began, in seconds since the epoch.",
	      (double)fs->started_ns / 1e9);
	metrics_budget(out, &s);
	gauge(out, "files", "Regular files in the store.", (double)s.files);
	gauge(out, "files_sealed", "Files that are held encoded.", (double)s.files_sealed);
	gauge(out, "nodes", "Inodes that the kernel knows.", (double)s.nodes);
	gauge(out, "open_files", "Open file descriptions.", (double)s.opens);
	gauge(out, "replicas", "Files with an encoded copy in memory.", (double)s.replicas);
	gauge(out, "copies", "Files with a decoded copy in memory.", (double)s.copies);
	gauge(out, "seal_queue", "Files that wait for sealing.", (double)s.seal_queue);
	gauge(out, "seal_running", "Files that are being sealed.", (double)s.seal_running);
	gauge(out, "ssd_read_bytes_per_second", "Measured bandwidth of storage reads.",
	      s.ssd_read_Bps);
	gauge(out, "ssd_latency_seconds", "Measured latency of storage reads.",
	      s.ssd_latency_ns / 1e9);
	gauge(out, "decode_bytes_per_second", "Measured rate of decoding.", s.decode_Bps);
	store_each_counter(fs->st, counter_cb, out);
	metrics_requests(fs, out);
}

void control_config(struct fs *fs, struct sbuf *out)
{
	struct store_status s;

	memset(&s, 0, sizeof(s));
	store_status(fs->st, &s);
	sbuf_adds(out, "# options at mount; limits can be changed by setfattr on the root\n");
	sbuf_addf(out, "store=%s\nmountpoint=%s\n", fs->opt->store, fs->opt->mountpoint);
	options_dump(fs->opt, out);
	sbuf_addf(out, "# in force now\ndram=%llu\nssd=%llu\n", (unsigned long long)s.dram_limit,
		  (unsigned long long)s.ssd_limit);
}
