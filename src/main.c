/* SPDX-License-Identifier: MIT */
/*
 * kvcachefs: options -> store -> mount -> serve -> tear down, in this order and
 * back. The only file that knows all concrete types. Exit codes: 0, 1 when
 * something failed (said on standard error), 2 for a wrong command line.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "fs/check.h"
#include "fs/daemon.h"
#include "fs/fs.h"
#include "fs/options.h"
#include "fs/privs.h"
#include "store/store.h"

#define EXIT_USAGE 2

struct kvcachefs {
	struct options opt;
	struct daemon daemon;
	struct log *log;     /* owned */
	struct store *store; /* owned */
	struct fs *fs;       /* owned */
	int signal_fd;       /* owned */
};

static void print_why(const struct sbuf *why)
{
	fprintf(stderr, "kvcachefs: %s\n", why->s ? why->s : "out of memory");
}

static unsigned allowed_paths(const struct options *o)
{
	switch (o->paths) {
	case PATHS_PASSTHROUGH:
		return PATH_PASSTHROUGH_READ | PATH_PASSTHROUGH_WRITE | PATH_CACHED;
	case PATHS_STREAM:
		return PATH_STREAM;
	case PATHS_CACHED:
		return PATH_CACHED;
	default:
		return PATH_PASSTHROUGH_READ | PATH_PASSTHROUGH_WRITE | PATH_STREAM | PATH_CACHED;
	}
}

static int open_store(struct kvcachefs *k, struct sbuf *why)
{
	const struct options *o = &k->opt;
	char policy[32];
	struct store_config cfg = {
		.path = o->store,
		.log = k->log,
		.dram_bytes = o->dram_bytes,
		.ssd_bytes = o->ssd_bytes,
		.reserve_bytes = o->reserve_bytes,
		.full = (enum full_mode)o->full,
		.damage = (enum damage_mode)o->damage,
		.statfs = (enum statfs_mode)o->statfs,
		.read_only = o->read_only,
		.strictwrite = o->strictwrite,
		.threads = o->threads,
		.settle_ns = o->settle_ns,
		.quality = o->quality,
		.raw = o->codec == CODEC_CHOICE_RAW,
		.policy = options_choice("policy", o->policy, policy, sizeof(policy)),
		.alpha_s = o->alpha_s,
		.recompute_s_per_mb = o->recompute_s_per_mb,
		.recompute_s_per_token = o->recompute_s_per_token,
		.trace_bytes = o->trace_bytes,
		.paths = allowed_paths(o),
	};
	int r = store_open(&cfg, &k->store, why);

	if (r < 0 && !why->len)
		sbuf_addf(why, "store %s: %s", o->store, err_text(r));
	return r;
}

/* SIGTERM and SIGINT end the mount; a vanished terminal or pipe does not. */
static int catch_signals(struct kvcachefs *k)
{
	sigset_t set;

	signal(SIGPIPE, SIG_IGN);
	/* somebody else opened a file of the store that is being sealed (a lease
	 * broke): the sealer sees it by itself; the default is to end the process */
	signal(SIGIO, SIG_IGN);
	if (!k->opt.foreground)
		signal(SIGHUP, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	if (k->opt.foreground)
		sigaddset(&set, SIGHUP);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -errno;
	k->signal_fd = signalfd(-1, &set, SFD_CLOEXEC);
	return k->signal_fd < 0 ? -errno : 0;
}

static void say_features(const struct kvcachefs *k)
{
	struct sbuf b = SBUF_INIT;
	char *save = NULL;

	fs_dump_features(k->fs, &b);
	log_info(k->log, "store %s mounted on %s", k->opt.store, k->opt.mountpoint);
	for (char *l = b.s ? strtok_r(b.s, "\n", &save) : NULL; l; l = strtok_r(NULL, "\n", &save))
		log_info(k->log, "  %s", l);
	sbuf_fini(&b);
}

/* Everything up to serving. On failure the caller tears down what is there. */
static int start(struct kvcachefs *k, struct sbuf *why)
{
	int r = open_store(k, why);

	if (r < 0)
		return r;
	r = fs_create(&k->opt, k->store, k->log, &k->fs);
	if (r == 0)
		r = fs_mount(k->fs, why);
	if (r < 0)
		return r;
	r = privs_drop();
	if (r < 0)
		log_warn(k->log, "keeping all capabilities: %s", err_text(r));
	say_features(k);
	r = store_start(k->store, &fs_kernel_ops, k->fs, fs_paths(k->fs));
	if (r == 0)
		r = fs_start(k->fs);
	if (r < 0)
		sbuf_addf(why, "cannot start: %s", err_text(r));
	return r;
}

static int run(struct kvcachefs *k)
{
	struct sbuf why = SBUF_INIT;
	bool by_signal;
	int r = catch_signals(k);

	if (r == 0)
		r = start(k, &why);
	if (r < 0) {
		if (!why.len)
			sbuf_adds(&why, err_text(r));
		print_why(&why);
		sbuf_fini(&why);
		return EXIT_FAILURE;
	}
	sbuf_fini(&why);
	if (k->daemon.report_fd >= 0)
		log_set_syslog(k->log, true);
	daemon_ready(&k->daemon);
	by_signal = fs_wait(k->fs, k->signal_fd) > 0;
	log_info(k->log, "%s: finishing", by_signal ? "told to stop" : "unmounted");
	fs_stop(k->fs);
	store_close(k->store, !k->opt.read_only);
	k->store = NULL;
	log_info(k->log, "done");
	return EXIT_SUCCESS;
}

static void tear_down(struct kvcachefs *k)
{
	if (k->fs)
		fs_stop(k->fs);
	store_close(k->store, false);
	fs_destroy(k->fs);
	if (k->signal_fd >= 0)
		close(k->signal_fd);
	log_destroy(k->log);
	options_fini(&k->opt);
}

/* -1 to go on, else the exit code. */
static int command_line(struct kvcachefs *k, int argc, char **argv)
{
	struct sbuf text = SBUF_INIT;
	int r = options_init(&k->opt, mem_machine_bytes()), code = -1;

	if (r == 0)
		r = options_parse(&k->opt, argc, argv, mem_machine_bytes(), &text);
	if (r < 0) {
		print_why(&text);
		code = EXIT_USAGE;
	} else if (k->opt.help) {
		options_help(&text);
		fputs(text.s ? text.s : "", stdout);
		code = EXIT_SUCCESS;
	} else if (k->opt.version) {
		puts("kvcachefs " KVFS_VERSION);
		code = EXIT_SUCCESS;
	} else if (check_paths(&k->opt, &text) < 0) {
		print_why(&text);
		code = EXIT_FAILURE;
	}
	sbuf_fini(&text);
	return code;
}

int main(int argc, char **argv)
{
	struct kvcachefs k = { .daemon = { -1 }, .signal_fd = -1 };
	int code = command_line(&k, argc, argv);

	if (code >= 0)
		goto out;
	privs_harden();
	if (!k.opt.foreground && daemon_fork(&k.daemon) < 0) {
		perror("kvcachefs: cannot go into the background");
		code = EXIT_FAILURE;
		goto out;
	}
	k.log = log_create("kvcachefs", (enum log_level)k.opt.log, false);
	code = k.log ? run(&k) : EXIT_FAILURE;
out:
	tear_down(&k);
	return code;
}
