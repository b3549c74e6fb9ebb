// SPDX-License-Identifier: MIT
/*
 * The contexts: one file for each context of kvlm's suites, packed to the size asked
 * for, made once and kept. Hashes of the files as they were made are kept beside them
 * (placement_quality.c), because hashing all of them takes as long as reading them.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/mem.h"
#include "placement.h"

#ifndef KVCACHEBENCH_MODEL
#define KVCACHEBENCH_MODEL "kvlm.gguf"
#endif

static const char *const suites[PLACE_SUITES] = { "recall", "code", "text" };

static int find_programs(struct rig *g, const struct place_options *o, struct place_set *s)
{
	const char *slash;
	int r = rig_find(g->o->kvlm, "../kvlm/kvlm", "kvlm", s->kvlm);

	if (r == 0)
		r = rig_find(g->o->model ? g->o->model
			     : access(KVCACHEBENCH_MODEL, R_OK) == 0 ? KVCACHEBENCH_MODEL : NULL,
			     "../share/kvcachefs/kvlm.gguf", "kvlm.gguf", s->model);
	if (r < 0)
		return r;
	slash = strrchr(s->model, '/');
	if (o->tasks)
		snprintf(s->tasks, sizeof(s->tasks), "%s", o->tasks);
	else
		snprintf(s->tasks, sizeof(s->tasks), "%.*s../tasks/load",
			 slash ? (int)(slash + 1 - s->model) : 0, s->model);
	if (access(s->tasks, R_OK) < 0)
		return rig_fail(-ENOENT, "%s: %s; name the suites by --tasks", s->tasks,
				strerror(errno));
	return 0;
}

static int make(struct rig *g, const struct place_options *o, const struct place_set *s)
{
	char fresh[RIG_PATH + 8], n[16], bytes[32];
	const char *argv[] = { s->kvlm, "corpus", s->model, "--suites", "--tasks", s->tasks,
			       "--contexts", n, "--pack", bytes, "--out", fresh, NULL };
	int r;

	snprintf(fresh, sizeof(fresh), "%s.new", s->dir);
	snprintf(n, sizeof(n), "%u", o->contexts);
	snprintf(bytes, sizeof(bytes), "%llu", (unsigned long long)o->rig.bytes);
	rig_say("making the contexts with kvlm (kept for the next run)");
	r = rig_run(g, argv);
	if (r == 0 && rename(fresh, s->dir) < 0)
		r = rig_fail(-errno, "%s: %s", s->dir, strerror(errno));
	return r;
}

static int by_name(const void *a, const void *b)
{
	const struct place_context *x = a, *y = b;

	return strcmp(x->name, y->name);
}

static int add(struct place_set *s, const char *name, uint64_t bytes)
{
	struct place_context *c;
	unsigned k = 0;

	while (k < PLACE_SUITES && strncmp(name, suites[k], strlen(suites[k])) != 0)
		k++;
	if (k == PLACE_SUITES || strlen(name) >= sizeof(c->name))
		return 0; /* not one of ours */
	if ((s->n & (s->n - 1)) == 0) {
		c = mem_realloc(s->c, (s->n ? 2 * (size_t)s->n : 1) * sizeof(*c));
		if (!c)
			return -ENOMEM;
		s->c = c;
	}
	c = &s->c[s->n++];
	memset(c, 0, sizeof(*c));
	snprintf(c->name, sizeof(c->name), "%s", name);
	c->suite = k;
	c->bytes = bytes;
	s->bytes += bytes;
	s->max_bytes = bytes > s->max_bytes ? bytes : s->max_bytes;
	return 0;
}

static int list(struct place_set *s)
{
	DIR *d = opendir(s->dir);
	struct dirent *e;
	struct stat sb;
	int r = 0;

	if (!d)
		return rig_fail(-errno, "%s: %s", s->dir, strerror(errno));
	while (r == 0 && (e = readdir(d))) {
		size_t n = strlen(e->d_name);

		if (n > 4 && strcmp(e->d_name + n - 4, ".bin") == 0 &&
		    fstatat(dirfd(d), e->d_name, &sb, 0) == 0)
			r = add(s, e->d_name, (uint64_t)sb.st_size);
	}
	closedir(d);
	if (r == 0 && s->n == 0)
		r = rig_fail(-ENOENT, "%s: no contexts; remove it to make them again", s->dir);
	if (r == 0)
		qsort(s->c, s->n, sizeof(s->c[0]), by_name);
	return r;
}

int place_set_open(struct rig *g, const struct place_options *o, struct place_set *s)
{
	int r;

	memset(s, 0, sizeof(*s));
	r = find_programs(g, o, s);
	if (r < 0)
		return r;
	snprintf(s->dir, sizeof(s->dir), "%.4000s/contexts-%u-%llu", g->dir, o->contexts,
		 (unsigned long long)o->rig.bytes);
	if (access(s->dir, R_OK) < 0)
		r = make(g, o, s);
	if (r == 0)
		r = list(s);
	if (r == 0 && place_form_get(s, "exact") != 0)
		r = -EINVAL;
	return r;
}

void place_set_fini(struct place_set *s)
{
	mem_free(s->c);
	s->c = NULL;
}

unsigned place_form_get(struct place_set *s, const char *label)
{
	for (unsigned i = 0; i < s->n_forms; i++)
		if (strcmp(s->form[i].label, label) == 0)
			return i;
	if (s->n_forms == PLACE_FORMS_MAX)
		return PLACE_FORMS_MAX;
	snprintf(s->form[s->n_forms].label, sizeof(s->form[0].label), "%s", label);
	return s->n_forms++;
}

int place_source(const struct place_set *s, unsigned ctx, void *buf)
{
	char path[RIG_PATH + 64];
	int fd, r;

	snprintf(path, sizeof(path), "%s/%s", s->dir, s->c[ctx].name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	r = fd < 0 ? -errno : io_pread_all(fd, buf, s->c[ctx].bytes, 0);
	io_close(&fd);
	return r < 0 ? rig_fail(r, "%s: %s", path, err_text(r)) : 0;
}
