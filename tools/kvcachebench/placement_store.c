// SPDX-License-Identifier: MIT
/*
 * The store that a system has in a cell: its contents, what the mount knows of their use,
 * and what is in memory, as if it had been up for long.
 *
 *   contents  as many as there is room for, the most popular ones. A store goes from one repeat
 *             to the next, where other contexts are popular, and only what is missing is
 *             written; but one in which layers are given up for good is made anew.
 *   history   each context is opened as often as it is popular, the least popular first: for
 *             what goes by recency the order is that of popularity, and what counts uses has counts
 *   memory    least recently used: the most popular contexts are brought there; adaptive
 *             decides by itself, and is given the time to bring there what it wants, at most
 *             SETTLE_MAX_S
 *
 * Stores lie in DIR/stores, where --prepare leaves them for the next run.
 */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "placement.h"

bool place_store_plans(const struct place_system *sys)
{
	return strcmp(sys->form, "*") == 0;
}

static bool plans(const struct place_store *s)
{
	return place_store_plans(s->sys);
}

static double ssd_bytes(const struct place_store *s)
{
	return 4 * s->dram * (double)s->set->bytes;
}

/* Does it have to give up layers? With all of them it serves whoever wants all. */
static bool sheds(const struct place_store *s)
{
	double all = 0;

	for (unsigned i = 0; i < s->set->n; i++)
		all += (double)s->set->c[i].view[0].stored;
	return plans(s) && all * 1.05 > ssd_bytes(s);
}

static void path_of(const struct place_store *s, unsigned rank, char path[RIG_PATH + 64])
{
	snprintf(path, RIG_PATH + 64, "%s/%s", s->m.mnt, s->set->c[s->rank[rank]].name);
}

/* ---- the mount ------------------------------------------------------------------ */

static int parent(const struct place_store *s, char dir[RIG_PATH])
{
	if (!s->g->base_on_loop)
		return rig_mkdir(s->g->dir, "stores", dir);
	snprintf(dir, RIG_PATH, "%s", s->g->base);
	return 0;
}

/* A new store for what gives up layers: a copy of the one with all of them, if there is
 * that, because encoding takes longer. Its limit comes after its history. */
static int begin_anew(struct place_store *s, const char *dir, const char *store)
{
	char from[RIG_PATH + 64];
	const char *argv[] = { "cp", "-a", "--sparse=always", from, store, NULL };

	rig_remove_tree(store);
	snprintf(from, sizeof(from), "%.4000s/adaptive.store", dir);
	s->copied = access(from, F_OK) == 0;
	return s->copied ? rig_run(s->g, argv) : 0;
}

int place_store_open(struct place_store *s)
{
	double dram = s->dram * (double)s->set->bytes, ssd = ssd_bytes(s);
	char dir[RIG_PATH], sub[RIG_PATH + 64], options[256], cost[32], name[48];
	int r = parent(s, dir);

	snprintf(name, sizeof(name), "%s", plans(s) && !sheds(s) ? "adaptive" : s->sys->name);
	snprintf(sub, sizeof(sub), "%.4000s/%s.store", dir, name);
	s->copied = false;
	if (r == 0 && sheds(s))
		r = begin_anew(s, dir, sub);
	if (s->copied)
		ssd = (double)s->set->bytes * 2;
	/* what was popular before is forgotten */
	snprintf(sub, sizeof(sub), "%.4000s/%s.store/meta", dir, name);
	rig_remove_tree(sub);
	snprintf(options, sizeof(options), "%s,dram=%.0f,ssd=%.0f,full=evict,settle=500ms",
		 s->sys->options, dram < 16777216 ? 16777216 : dram, ssd);
	(void)rig_throttle_set(s->g, 0);
	rig_throttle_member(s->g, true);
	if (r == 0)
		r = rig_mount_at(s->g, &s->m, dir, name, options);
	rig_throttle_member(s->g, false);
	snprintf(cost, sizeof(cost), "%g",
		 s->o->recompute_s_per_mb * (double)s->set->max_bytes * 1e-6);
	return r ? r : rig_steer(s->m.mnt, "recompute", cost);
}

int place_store_close(struct place_store *s)
{
	return rig_mount_stop(s->g, &s->m);
}

void place_store_remove(struct place_store *s)
{
	if (!s->m.store[0] || (plans(s) && !sheds(s)) || (s->o->keep && !plans(s)))
		return;
	rig_remove_tree(s->m.store);
	(void)rmdir(s->m.mnt); /* empty, as it is not mounted */
	s->m.store[0] = 0;
}

void place_stores_remove(struct rig *g)
{
	char path[RIG_PATH + 64];

	snprintf(path, sizeof(path), "%.4000s/stores/adaptive.store", g->dir);
	rig_remove_tree(path);
	snprintf(path, sizeof(path), "%.4000s/stores/adaptive", g->dir);
	(void)rmdir(path); /* if it is there */
	snprintf(path, sizeof(path), "%.4000s/stores", g->dir);
	(void)rmdir(path); /* unless others are there */
}

/* ---- the contents ------------------------------------------------------------------- */

static bool room_for_one(const struct place_store *s)
{
	struct statvfs v;

	return statvfs(s->m.mnt, &v) == 0 &&
	       (uint64_t)v.f_bavail * v.f_frsize > s->set->max_bytes * 2;
}

static bool is_there(const struct place_store *s, unsigned rank)
{
	char path[RIG_PATH + 64];

	path_of(s, rank, path);
	return access(path, F_OK) == 0;
}

static int write_one(struct place_store *s, struct place_writer *w, unsigned rank)
{
	int r;

	rig_say("%s: writing context %u of %u", s->sys->name, rank + 1, s->set->n);
	r = place_write(w, s->rank[rank], true);
	if (r == -ENOSPC || r == -EDQUOT)
		r = 0; /* it is then computed when it is asked for */
	return r == 0 && rig_interrupted(s->g) ? -EINTR : r;
}

/* As often as it would have been in so many requests. */
static void use(const struct place_store *s, unsigned rank, double unit)
{
	unsigned n = (unsigned)lround(unit * pow(rank + 1, -s->zipf));
	char path[RIG_PATH + 64];

	path_of(s, rank, path);
	for (unsigned i = 0; i < (n ? n : 1); i++) {
		int fd = open(path, O_RDONLY | O_CLOEXEC);

		if (fd < 0)
			return; /* not there */
		close(fd);
	}
}

static double use_unit(const struct place_store *s)
{
	double sum = 0;

	for (unsigned i = 0; i < s->set->n; i++)
		sum += pow(i + 1, -s->zipf);
	return s->o->history / sum;
}

/* All of them, each with its uses at once: what is given up goes by them. */
static int fill_shedding(struct place_store *s, struct place_writer *w)
{
	double unit = use_unit(s);
	int r = 0;

	for (unsigned i = s->set->n; i-- > 0 && r == 0;) {
		r = write_one(s, w, i);
		use(s, i, unit);
	}
	return r;
}

/* What is missing as far as there is room, the most popular first; if not for all, then
 * also in the place of those that are not popular now. */
static int fill_up(struct place_store *s, struct place_writer *w)
{
	unsigned n = s->set->n, fit = 0;
	int r = 0;

	for (unsigned i = 0; i < n && r == 0; i++)
		if (!is_there(s, i) && room_for_one(s))
			r = write_one(s, w, i);
	for (unsigned i = 0; i < n; i++)
		fit += is_there(s, i);
	for (unsigned i = fit; i-- > 0 && fit < n;)
		use(s, i, 0); /* the last to go */
	for (unsigned i = fit; i-- > 0 && r == 0;)
		if (!is_there(s, i))
			r = write_one(s, w, i);
	return r;
}

/* The most popular contexts, as many as fit. */
static int fill_memory(const struct place_store *s)
{
	double each, dram = s->dram * (double)s->set->bytes;
	unsigned n = s->set->n;
	char path[RIG_PATH + 64], text[32];

	for (unsigned i = n; i-- > 0;) {
		path_of(s, i, path);
		if (access(path, F_OK) < 0)
			continue;
		if (setxattr(path, "user.kvcache.move", "dram", 4, 0) < 0 && i > 0)
			continue; /* no room beside others in use */
		rig_ask(path, "replica_bytes", text, sizeof(text));
		each = strtod(text, NULL);
		if (n == s->set->n && each > 0 && each * n > dram) {
			n = (unsigned)(dram / each) + 2;
			i = n < i ? n : i;
		}
		if (rig_interrupted(s->g))
			return -EINTR;
	}
	return 0;
}

#define SETTLED_POLLS 4
#define SETTLE_MAX_S 90

/* What the mount has brought to memory so far; -1: it does not say. */
static double brought(const struct place_store *s)
{
	double copies = rig_metric(s->m.mnt, "copies_total");
	double replicas = rig_metric(s->m.mnt, "replicas_total");

	return copies < 0 || replicas < 0 ? -1 : copies + replicas;
}

int place_store_settle(const struct place_store *s)
{
	double now, last;

	rig_say("%s: moves to memory", s->sys->name);
	now = brought(s);
	for (unsigned same = 0, t = 0; same < SETTLED_POLLS && t < SETTLE_MAX_S; t++) {
		sleep(1);
		last = now;
		now = brought(s);
		if (now < 0)
			return rig_fail(-EIO, "%s: no metrics of what moves", s->m.mnt);
		same = now - last < 1 ? same + 1 : 0;
		if (rig_interrupted(s->g))
			return -EINTR;
	}
	return 0;
}

/* Now it is to give up layers. */
static int limit(const struct place_store *s)
{
	char text[32];

	snprintf(text, sizeof(text), "%.0f", ssd_bytes(s));
	sleep(2); /* plans with what it knows of uses */
	return rig_steer(s->m.mnt, "ssd", text);
}

int place_store_fill(struct place_store *s)
{
	struct place_writer w;
	double unit = use_unit(s);
	int r = place_writer_init(&w, s->set, s->sys, s->m.mnt, 0);

	if (r == 0)
		r = sheds(s) && !s->copied ? fill_shedding(s, &w) : fill_up(s, &w);
	place_writer_fini(&w);
	rig_say("%s: history", s->sys->name);
	for (unsigned i = s->set->n; i-- > 0 && r == 0 && (s->copied || !sheds(s));)
		use(s, i, unit);
	if (r == 0 && s->copied)
		r = limit(s);
	if (r < 0)
		return r;
	rig_drop_data(); /* what was written to make the store is no load */
	return plans(s) ? place_store_settle(s) : fill_memory(s);
}
