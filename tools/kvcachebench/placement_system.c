// SPDX-License-Identifier: MIT
/*
 * The table of systems, and how a context gets into one of them. What the daemon at
 * hand has not got (an option, a level that can be set) is found out and said, not
 * measured.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io.h"
#include "base/mem.h"
#include "placement.h"
#include "placement_kivi.h"

#define CALL (1u << 20)

/* One line per system; the knob of a family is its curve. */
static const struct place_system table[] = {
	{ .name = "uncompressed", .family = "uncompressed + LRU", .options = "policy=lru,codec=raw",
	  .form = "exact", .fixed = true },
	{ .name = "exact", .family = "exact + LRU", .options = "policy=lru", .form = "exact",
	  .fixed = true },
	{ .name = "level:2", .family = "fixed level + LRU", .options = "policy=lru,quality=0",
	  .level = "2", .form = "level:2", .fixed = true },
	{ .name = "level:1", .family = "fixed level + LRU", .options = "policy=lru,quality=0",
	  .level = "1", .form = "level:1", .fixed = true },
	{ .name = "level:0", .family = "fixed level + LRU", .options = "policy=lru,quality=0",
	  .level = "0", .form = "level:0", .fixed = true },
	/* no policy serves misses at another level than hits */
	{ .name = "read:1", .family = "all on SSD, read at 1",
	  .options = "policy=fixed:1,quality=0", .form = "level:1", .fixed = true },
	{ .name = "window:0.5", .family = "sinks + window + LRU",
	  .options = "policy=lru,quality=0", .level = "drop:window:0.5",
	  .form = "drop:window:0.5", .fixed = true },
	{ .name = "window:0.25", .family = "sinks + window + LRU",
	  .options = "policy=lru,quality=0", .level = "drop:window:0.25",
	  .form = "drop:window:0.25", .fixed = true },
	{ .name = "kivi:4", .family = "KIVI + LRU", .options = "policy=lru,codec=raw",
	  .form = "kivi:4", .how = PLACE_KIVI, .bits = 4, .fixed = true },
	{ .name = "kivi:2", .family = "KIVI + LRU", .options = "policy=lru,codec=raw",
	  .form = "kivi:2", .how = PLACE_KIVI, .bits = 2, .fixed = true },
	{ .name = "recompute", .family = "recompute", .form = "exact", .how = PLACE_NONE,
	  .fixed = true },
};
#define TABLE_N (sizeof(table) / sizeof(table[0]))

/* Options are parsed in order, so a refused one is found before -h is obeyed. */
bool place_daemon_takes(struct rig *g, const char *options)
{
	char exe[RIG_PATH];
	const char *argv[] = { exe, "-o", options, "-h", NULL };
	int status = -1;
	pid_t pid;

	if (rig_find(g->o->daemon, "../../src/kvcachefs", "kvcachefs", exe) < 0 ||
	    rig_spawn(g, argv, &pid) < 0)
		return false;
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	rig_undo_drop(g, UNDO_CHILD, pid, NULL);
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static bool is_in(const struct place_systems *l, const char *name)
{
	for (unsigned i = 0; i < l->n; i++)
		if (strcmp(l->s[i].name, name) == 0)
			return true;
	return false;
}

/* If its name begins so. */
static void add(struct rig *g, const struct place_system *s, const char *begin, size_t len,
		struct place_systems *ret)
{
	struct place_system *n;

	if (ret->n == PLACE_SYSTEMS_MAX || strncmp(begin, s->name, len) != 0 || is_in(ret, s->name))
		return;
	n = &ret->s[ret->n++];
	*n = *s;
	if (n->how != PLACE_NONE && !place_daemon_takes(g, n->options))
		n->why_not = "the mount has not got its options";
}

static void add_all(struct rig *g, const struct place_options *o, const char *begin, size_t len,
		    struct place_systems *ret)
{
	for (size_t i = 0; i < TABLE_N; i++)
		add(g, &table[i], begin, len, ret);
	for (unsigned i = 0; i < o->alpha.n; i++) {
		struct place_system s = { .family = "adaptive", .form = "*" };

		snprintf(s.name, sizeof(s.name), "adaptive:%g", o->alpha.v[i]);
		snprintf(s.options, sizeof(s.options), "policy=adaptive,alpha=%g,quality=0",
			 o->alpha.v[i]);
		add(g, &s, begin, len, ret);
	}
}

void place_systems_init(struct rig *g, const struct place_options *o, struct place_systems *ret)
{
	const char *only = g->o->only;

	ret->n = 0;
	if (!only)
		add_all(g, o, "", 0, ret);
	while (only && *only) {
		size_t n = strcspn(only, ",");

		add_all(g, o, only, n, ret);
		only += n + (only[n] == ',');
	}
}

/* ---- writing ------------------------------------------------------------------ */

int place_writer_init(struct place_writer *w, const struct place_set *s,
		      const struct place_system *sys, const char *mnt, unsigned id)
{
	*w = (struct place_writer){ .set = s, .sys = sys, .mnt = mnt, .id = id };
	w->buf = mem_alloc_pages(s->max_bytes);
	if (sys->how == PLACE_KIVI)
		w->packed = mem_alloc_pages(kivi_bound(s->max_bytes));
	if (w->buf && (w->packed || sys->how != PLACE_KIVI))
		return 0;
	place_writer_fini(w);
	return -ENOMEM;
}

void place_writer_fini(struct place_writer *w)
{
	if (!w->set)
		return;
	mem_free_pages(w->buf, w->set->max_bytes);
	mem_free_pages(w->packed, kivi_bound(w->set->max_bytes));
	*w = (struct place_writer){ .set = NULL };
}

static int save(const char *path, const char *p, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	int r = fd < 0 ? -errno : 0;

	for (size_t at = 0; at < len && r == 0; at += CALL)
		r = io_pwrite_all(fd, p + at, len - at < CALL ? len - at : CALL, at);
	if (fd >= 0 && close(fd) < 0 && r == 0)
		r = -errno;
	return r;
}

/* Other systems' files settle by themselves; what keeps one level only is told so,
 * and sealed by that; what lost tokens is a new content. A file in use is left for its
 * next writer. */
static int settle_file(const struct place_writer *w, const char *path, bool settle)
{
	bool drop = strncmp(w->sys->level, "drop:", 5) == 0;
	int r = drop ? rig_set(path, "accept", "drop") : 0;

	if (r == 0 && w->sys->level[0]) {
		r = rig_set(path, "level", w->sys->level);
		if (!settle && r == -EBUSY)
			r = 0;
	}
	if (r == 0 && settle) {
		r = rig_set(path, "seal", "1");
		if (r == -E2BIG || r == -EBUSY)
			r = 0; /* stays plain, or is being sealed */
	}
	return r;
}

int place_write(struct place_writer *w, unsigned ctx, bool settle)
{
	const struct place_context *c = &w->set->c[ctx];
	char path[RIG_PATH + 64], tmp[RIG_PATH + 64];
	const void *bytes = w->buf;
	size_t len = c->bytes;
	int r = place_source(w->set, ctx, w->buf);

	if (r == 0 && w->sys->how == PLACE_KIVI) {
		bytes = w->packed;
		r = kivi_pack(w->buf, c->bytes, w->sys->bits, w->packed, &len);
	}
	snprintf(path, sizeof(path), "%s/%s", w->mnt, c->name);
	snprintf(tmp, sizeof(tmp), "%s/.%s.%u", w->mnt, c->name, w->id);
	if (r == 0)
		r = save(tmp, bytes, len);
	if (r < 0)
		(void)unlink(tmp); /* if it is there */
	else if (rename(tmp, path) < 0)
		r = -errno;
	else
		r = settle_file(w, path, settle);
	if (r == -ENOENT || r == -ENODATA)
		r = 0; /* evicted already, as a full store may */
	if (r < 0 && r != -ENOSPC && r != -EDQUOT && r != -EPERM && r != -EOPNOTSUPP && r != -EINVAL)
		return rig_fail(r, "writing %s: %s", path, err_text(r));
	return r;
}
