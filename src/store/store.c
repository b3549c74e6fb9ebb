/* SPDX-License-Identifier: MIT */
/*
 * Putting the store together and taking it apart. Opening goes bottom-up:
 * directories and lock, index, memory, tables, recovery; store_start adds the
 * threads. Closing undoes it in reverse and takes half-built stores.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/statfs.h>
#include <linux/securebits.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/thread.h"
#include "policy/policy.h"
#include "store/adapt.h"
#include "store/dirs.h"
#include "store/grant.h"
#include "store/level_quality.h"
#include "store/trace.h"

#define TICK_NS NSEC_PER_SEC
#define DIRFDS_MAX 1024u
#define SSD_DEPTH 32u

static unsigned dirfds_max(void)
{
	struct rlimit rl;

	if (getrlimit(RLIMIT_NOFILE, &rl) < 0 || rl.rlim_cur / 8 < 16)
		return 16;
	return rl.rlim_cur / 8 < DIRFDS_MAX ? (unsigned)(rl.rlim_cur / 8) : DIRFDS_MAX;
}

/* Owners are set by creating with the caller's fsuid: keep our capabilities then. */
static void keep_caps(struct store *st)
{
	st->privileged = geteuid() == 0;
	if (st->privileged && prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP) < 0)
		log_warn(st->log, "cannot keep capabilities across setfsuid: %s", strerror(errno));
}

static int make_durable(void *arg)
{
	return commit_barrier(arg);
}

/* Out of the way, kept for people: whatever it is. */
static void meta_aside(struct store *st)
{
	int dir = openat(st->store_fd, "meta", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	log_warn(st->log, "%s/meta is damaged: making it anew from tree/", st->cfg.path);
	err_ignore(renameat(dir, "data.mdb", dir, "data.mdb.damaged")); /* or it is not there */
	err_ignore(renameat(dir, "lock.mdb", dir, "lock.mdb.damaged"));
	io_close(&dir);
}

static int open_meta(struct store *st, struct sbuf *why)
{
	struct statfs sf;
	struct stat sb;
	uint64_t fsid;
	int r;

	if (fstat(st->tree_fd, &sb) < 0 || fstatfs(st->tree_fd, &sf) < 0)
		return -errno;
	memcpy(&fsid, &sf.f_fsid, sizeof(fsid));
	r = meta_check(st->store_fd);
	if (r == 0)
		r = meta_open(st->store_fd, sb.st_ino, fsid, st->read_only, &st->meta,
			      &st->clean);
	if (r == -KVFS_EFORMAT && !st->read_only) {
		meta_aside(st);
		r = meta_open(st->store_fd, sb.st_ino, fsid, false, &st->meta, &st->clean);
		st->clean = false;
	}
	st->clean |= st->fresh;
	if (r == 0)
		meta_set_durable(st->meta, make_durable, st);
	else
		sbuf_addf(why, "%s/meta: %s", st->cfg.path, err_text(r));
	return r;
}

static int open_memory(struct store *st, struct sbuf *why)
{
	uint64_t dram = st->cfg.dram_bytes, most = mem_machine_bytes() / 4;
	int r;

	budget_init(&st->dram, dram);
	/* addresses for a limit that is raised later: all memory is four times that */
	r = arena_create(&st->dram, most > dram ? most : dram, &st->arena);
	if (r < 0)
		r = arena_create(&st->dram, dram, &st->arena);
	if (r == 0)
		r = tier_ssd_create(SSD_DEPTH, &st->ssd);
	if (r == 0)
		r = ctx_table_init(&st->ctxs);
	if (r == 0)
		r = node_table_create(st->tree_fd, st->trash_fd, &st->dram, dirfds_max(),
				      &st->nodes);
	if (r < 0)
		sbuf_addf(why, "cannot set up memory: %s", err_text(r));
	return r;
}

static int copy_config(struct store *st, const struct store_config *cfg)
{
	st->cfg = *cfg;
	st->log = cfg->log;
	st->begun_ns = clock_real_ns();
	st->read_only = cfg->read_only;
	st->cfg.path = mem_strdup(cfg->path);
	st->policy = policy_by_name(cfg->policy ? cfg->policy : "lru");
	if (!st->cfg.path)
		return -ENOMEM;
	return st->policy ? 0 : -EINVAL;
}

int store_open(const struct store_config *cfg, struct store **ret, struct sbuf *why)
{
	struct store *st = mem_zalloc(sizeof(*st));
	struct meta_totals totals;
	int r;

	if (!st)
		return -ENOMEM;
	st->store_fd = st->tree_fd = st->objects_fd = st->trash_fd = -1;
	st->damaged_fd = st->lock_fd = st->barrier_fd = -1;
	lock_init(&st->commit.lock);
	cond_init(&st->commit.wake);
	cond_init(&st->commit.done);
	list_init(&st->commit.queue);
	lock_init(&st->seal.lock);
	cond_init(&st->seal.wake);
	cond_init(&st->seal.left);
	list_init(&st->seal.queue);
	lock_init(&st->tick_lock);
	cond_init(&st->tick_wake);
	lock_init(&st->evict_lock);
	gate_init(&st->names);
	lock_init(&st->grants.lock);
	grant_forget(st); /* what was zeroed knows nothing */
	lock_init(&st->scrub_lock);
	rates_init(&st->rates, 1);
	list_init(&st->ctxs.lru);
	r = level_models_init(st);
	if (r == 0)
		r = copy_config(st, cfg);
	if (r == -EINVAL)
		sbuf_addf(why, "unknown policy %s", cfg->policy);
	if (r == 0) {
		keep_caps(st);
		r = dirs_open(st, why);
	}
	if (r == 0)
		r = open_meta(st, why);
	if (r == 0)
		r = open_memory(st, why);
	if (r == 0 && !st->read_only)
		r = recover_all(st, why);
	if (r == 0)
		r = trace_start(st, why);
	if (r < 0) {
		store_close(st, false);
		return r;
	}
	meta_totals(st->meta, &totals);
	atomic_store(&st->ssd_beside, damage_scan(st));
	atomic_store(&st->ssd_used, totals.stored_bytes + atomic_load(&st->ssd_beside));
	atomic_store(&st->ssd_limit, space_limit_of(st, st->cfg.ssd_bytes));
	*ret = st;
	return 0;
}

/* ---- running -------------------------------------------------------------- */

/* Passthrough writers are not seen: look at them, and keep room for what they take
 * until the next look; without any, only what is too much goes. */
static void poll_writers(struct store *st)
{
	uint64_t want = space_write_reserve(st) / 2;
	bool wrote = watch_all(st);

	if (!adapt_knows(st, false))
		return;
	if (!wrote || st->cfg.full != FULL_EVICT) {
		/* sealing what waits loses nothing */
		if (space_used(st) > atomic_load(&st->ssd_limit) && !seal_press(st))
			space_trim(st, 1);
	} else if (space_free(st) < want) {
		if (space_reserve(st, want, 0) == 0)
			space_release(st, want);
		else
			space_trim(st, want);
	}
}

static void *tick_thread(void *arg)
{
	struct store *st = arg;
	unsigned beats = 0;

	if (!st->clean)
		recover_reindex(st);
	adapt_index_whole(st);
	seal_queue_pending(st);
	lock_acquire(&st->tick_lock);
	while (!st->tick_stop) {
		cond_wait_until(&st->tick_wake, &st->tick_lock, clock_mono_ns() + TICK_NS / 5);
		if (st->tick_stop)
			break;
		lock_release(&st->tick_lock);
		poll_writers(st);
		trace_flush(st);
		if (budget_used(&st->dram) > budget_limit(&st->dram)) /* by force */
			(void)space_dram(st, 1, NULL); /* as far as it goes */
		if (++beats % 10 == 0 || meta_wants_flush(st->meta))
			err_ignore(meta_flush(st->meta, false)); /* rebuildable; marked unclean */
		lock_acquire(&st->tick_lock);
	}
	lock_release(&st->tick_lock);
	return NULL;
}

static int start_reader(struct store *st)
{
	uint64_t dram = st->cfg.dram_bytes;
	unsigned cpus = (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
	unsigned threads = st->cfg.threads ? st->cfg.threads : (cpus < 2 ? 2 : cpus);
	struct reader_config rc = { .budget = &st->dram, .ssd = st->ssd };
	int r = workers_create("kvfs-work", threads, threads, &st->workers);

	if (r < 0)
		return r;
	st->rates.threads = threads;
	rc.workers = st->workers;
	rc.rates = &st->rates;
	rc.window_bytes = dram / 8 < (256ull << 20) ? dram / 8 : 256ull << 20;
	rc.buffer_bytes = dram / 16 < (64ull << 20) ? dram / 16 : 64ull << 20;
	rc.ahead_chunks = 48; /* some 30 MiB: what a fast device needs to stay busy */
	atomic_init(&st->whole_bias, STORE_WHOLE_BIAS);
	cold_init(&st->cold);
	return reader_create(&rc, &st->reader);
}

int store_start(struct store *st, const struct store_kernel_ops *k, void *karg, unsigned paths)
{
	int r;

	st->k = k;
	st->karg = karg;
	st->paths = paths & (st->cfg.paths ? st->cfg.paths : ~0u);
	dirs_lock_pid(st);
	r = start_reader(st);
	if (r == 0 && (st->paths & PATH_PASSTHROUGH_READ) &&
	    copy_pool_create(&st->dram, &st->copies) < 0)
		st->copies = NULL; /* status shows it: reads stream then */
	if (r == 0 && !st->read_only)
		r = meta_begin(st->meta);
	if (r == 0 && !st->read_only)
		r = commit_start(st);
	if (r == 0)
		r = adapt_start(st);
	if (r == 0)
		r = seal_start(st);
	if (r == 0 && !st->read_only) {
		r = thread_start("kvfs-tick", tick_thread, st, &st->tick_thread);
		st->tick_started = r == 0;
	}
	return r;
}

static void stop_threads(struct store *st, bool seal)
{
	atomic_store(&st->stopping, true);
	seal_stop(st, seal);
	if (st->tick_started) {
		lock_acquire(&st->tick_lock);
		st->tick_stop = true;
		cond_signal(&st->tick_wake);
		lock_release(&st->tick_lock);
		pthread_join(st->tick_thread, NULL);
	}
	scrub_stop(st);
	adapt_stop(st);
	if (st->workers)
		workers_drain(st->workers);
	commit_stop(st);
}

void store_close(struct store *st, bool seal)
{
	bool clean;

	if (!st)
		return;
	stop_threads(st, seal);
	trace_stop(st);
	if (st->ctxs.hash)
		ctx_table_fini(st);
	adapt_free(st);
	reader_destroy(st->reader);
	workers_destroy(st->workers);
	copy_pool_destroy(st->copies);
	/* a walk that did not come to its end is done again */
	clean = st->reader != NULL && st->clean;
	if (!st->read_only && st->barrier_fd >= 0 && st->reader && commit_barrier(st) < 0)
		clean = false; /* what is not durable was not promised */
	meta_close(st->meta, clean);
	orphan_free(st);
	mem_free(st->seal.feed);
	node_table_destroy(st->nodes);
	tier_destroy(st->ssd);
	arena_destroy(st->arena);
	dirs_close(st);
	lock_fini(&st->commit.lock);
	lock_fini(&st->seal.lock);
	lock_fini(&st->tick_lock);
	lock_fini(&st->evict_lock);
	gate_fini(&st->names);
	lock_fini(&st->grants.lock);
	level_models_fini(st);
	lock_fini(&st->scrub_lock);
	rates_fini(&st->rates);
	cold_fini(&st->cold);
	mem_free((char *)st->cfg.path);
	mem_free(st);
}

int store_syncfs(struct store *st)
{
	return syncfs(st->tree_fd) < 0 ? -errno : 0;
}

int store_statfs(struct store *st, struct statvfs *ret)
{
	uint64_t limit = atomic_load(&st->ssd_limit), used = space_used(st), left;

	if (fstatvfs(st->tree_fd, ret) < 0)
		return -errno;
	ret->f_bsize = STORE_BLOCK;
	left = (uint64_t)ret->f_bavail * ret->f_frsize;
	if (space_free(st) < left)
		left = space_free(st);
	if (st->cfg.statfs == STATFS_LOGICAL) {
		struct meta_totals t;

		/* used counts as written; free is a promise in bytes that are stored */
		meta_totals(st->meta, &t);
		used = t.logical_bytes;
		limit = used + left;
	}
	ret->f_frsize = STORE_BLOCK;
	ret->f_blocks = limit / STORE_BLOCK;
	ret->f_bfree = left / STORE_BLOCK;
	ret->f_bavail = left / STORE_BLOCK;
	return 0;
}
