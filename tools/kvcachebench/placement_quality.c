// SPDX-License-Identifier: MIT
/*
 * What each form of each context is worth: kvlm answers the context's questions from
 * the very bytes that a mount returned (or, for a client's own quantiser, from what
 * that gives back), and the hash of these bytes is noted with the score. Under load
 * bytes are known again by their hash, so that no answer is computed twice.
 *
 * Scores are kept in a file beside the contexts, a line for each context and form. A daemon
 * that makes other bytes of a level finds no form with their hash, and the load ends: the
 * file is then to be removed.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/io.h"
#include "base/mem.h"
#include "placement.h"
#include "placement_kivi.h"

#define LEVELS 3u /* below exact */

/* ---- the file of scores ------------------------------------------------------------ */

static struct place_context *context_named(const struct place_set *s, const char *name)
{
	for (unsigned i = 0; i < s->n; i++)
		if (strcmp(s->c[i].name, name) == 0)
			return &s->c[i];
	return NULL;
}

static void settle_known(struct place_set *s)
{
	for (unsigned f = 0; f < s->n_forms; f++) {
		s->form[f].known = true;
		for (unsigned i = 0; i < s->n; i++)
			s->form[f].known &= s->c[i].view[f].sum && s->c[i].view[f].queries > 0;
	}
}

/* Lines that say nothing are passed over: what is missing is measured again. */
static void scores_load(struct place_set *s)
{
	char path[RIG_PATH + 16], line[256], label[32], name[40];
	struct place_view v;
	FILE *f;

	snprintf(path, sizeof(path), "%s/scores", s->dir);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f)) {
		struct place_context *c;
		unsigned k;

		if (sscanf(line, "%31s %39s %" SCNx64 " %lf %lf %lf %" SCNu64, label, name, &v.sum,
			   &v.queries, &v.score, &v.agree, &v.stored) != 7)
			continue;
		c = context_named(s, name);
		k = place_form_get(s, label);
		if (c && k < PLACE_FORMS_MAX)
			c->view[k] = v;
	}
	if (f)
		fclose(f);
	settle_known(s);
}

static int scores_save(struct rig *g, const struct place_set *s)
{
	char path[RIG_PATH + 16], tmp[RIG_PATH + 24];
	FILE *f;

	snprintf(path, sizeof(path), "%s/scores", s->dir);
	snprintf(tmp, sizeof(tmp), "%s.new", path);
	f = fopen(tmp, "we");
	if (!f)
		return rig_fail(-errno, "%s: %s", tmp, strerror(errno));
	for (unsigned k = 0; k < s->n_forms; k++)
		for (unsigned i = 0; i < s->n; i++) {
			const struct place_view *v = &s->c[i].view[k];

			if (v->sum && v->queries > 0)
				fprintf(f, "%s %s %016" PRIx64 " %.0f %.6f %.6f %" PRIu64 "\n",
					s->form[k].label, s->c[i].name, v->sum, v->queries, v->score,
					v->agree, v->stored);
		}
	if (fclose(f) != 0 || rename(tmp, path) < 0)
		return rig_fail(-EIO, "%s: cannot be written", path);
	return 0;
}

/* ---- answers ---------------------------------------------------------------------- */

static int take_scores(struct place_set *s, unsigned form, const char *file)
{
	char name[36], with[40];
	double n, score, agree;
	FILE *f = fopen(file, "re");
	unsigned got = 0;

	if (!f)
		return rig_fail(-errno, "%s: %s", file, strerror(errno));
	while (fscanf(f, "%35s %lf %lf %lf", name, &n, &score, &agree) == 4) {
		struct place_context *c;

		snprintf(with, sizeof(with), "%s.bin", name);
		c = context_named(s, with);
		if (!c)
			continue;
		c->view[form].queries = n;
		c->view[form].score = score;
		c->view[form].agree = agree;
		got++;
	}
	fclose(f);
	return got == s->n ? 0 : rig_fail(-EBADMSG, "kvlm answered for %u of %u contexts", got, s->n);
}

/* From @mnt, or with @method; both NULL: exact. */
static int answer(struct rig *g, const struct place_options *o, struct place_set *s, unsigned form,
		  const char *mnt, const char *method)
{
	char out[RIG_PATH + 16], limit[16];
	const char *argv[20] = { s->kvlm, "eval", s->model, "--tasks", s->tasks, "--packed",
				 "--limit", limit, "--exact-dir", s->dir, "--per-context", out };
	unsigned n = 12;
	int r;

	snprintf(out, sizeof(out), "%s/answers", g->scratch);
	snprintf(limit, sizeof(limit), "%u", o->contexts);
	if (mnt) {
		argv[n++] = "--cache-dir";
		argv[n++] = mnt;
	}
	if (method) {
		argv[n++] = "--method";
		argv[n++] = method;
	}
	rig_say("answers from %s", s->form[form].label);
	r = rig_run(g, argv);
	return r < 0 ? r : take_scores(s, form, out);
}

/* ---- without a mount ---------------------------------------------------------------- */

/* Exact, or as @bits of KIVI give it back. */
static int sums_of_source(struct rig *g, struct place_set *s, unsigned form, unsigned bits)
{
	size_t cap = kivi_bound(s->max_bytes), len;
	char *a = mem_alloc_pages(cap), *b = mem_alloc_pages(cap);
	int r = a && b ? 0 : -ENOMEM;

	for (unsigned i = 0; i < s->n && r == 0; i++) {
		struct place_view *v = &s->c[i].view[form];

		rig_say("%s: context %u of %u", s->form[form].label, i + 1, s->n);
		len = s->c[i].bytes;
		r = place_source(s, i, a);
		v->stored = len;
		if (r == 0 && bits) {
			r = kivi_pack(a, len, bits, b, &len);
			v->stored = len;
			if (r == 0)
				r = kivi_unpack(b, len, a, cap);
			if (r < 0)
				(void)rig_fail(r, "%s: cannot be packed: %s", s->c[i].name, err_text(r));
			len = s->c[i].bytes;
		}
		v->sum = hash64(a, len, 0);
		if (r == 0 && rig_interrupted(g))
			r = -EINTR;
	}
	mem_free_pages(a, cap);
	mem_free_pages(b, cap);
	return r;
}

static int form_without_mount(struct rig *g, const struct place_options *o, struct place_set *s,
			      unsigned form)
{
	const char *label = s->form[form].label;
	unsigned bits = strncmp(label, "kivi:", 5) == 0 ? (unsigned)atoi(label + 5) : 0;
	int r = sums_of_source(g, s, form, bits);

	return r < 0 ? r : answer(g, o, s, form, NULL, bits ? label : NULL);
}

/* ---- from a mount --------------------------------------------------------------------- */

static int write_all(struct rig *g, struct place_set *s, const struct place_system *sys,
		     const char *mnt)
{
	struct place_writer w;
	int r = place_writer_init(&w, s, sys, mnt, 0);

	for (unsigned i = 0; i < s->n && r == 0; i++) {
		rig_say("writing context %u of %u", i + 1, s->n);
		r = place_write(&w, i, true);
		if (r == 0 && rig_interrupted(g))
			r = -EINTR;
	}
	place_writer_fini(&w);
	return r;
}

/* What a file takes on SSD at a level: from "0:123 1:456 exact:789", or all of it. */
static uint64_t stored_at(const char *path, const char *level)
{
	char text[512], key[40];
	const char *at;

	rig_ask(path, "levels", text, sizeof(text));
	snprintf(key, sizeof(key), "%s:", level);
	at = strncmp(text, key, strlen(key)) == 0 ? text : strstr(text, key);
	if (at)
		return strtoull(at + strlen(key), NULL, 10);
	rig_ask(path, "stored_bytes", text, sizeof(text));
	return strtoull(text, NULL, 10);
}

static int sums_of_mount(struct rig *g, struct place_set *s, unsigned form, const char *mnt,
			 const char *level)
{
	size_t cap = s->max_bytes, len;
	char path[RIG_PATH + 64];
	int r = 0;

	for (unsigned i = 0; i < s->n && r == 0; i++) {
		struct place_view *v = &s->c[i].view[form];
		char *p = NULL;

		snprintf(path, sizeof(path), "%s/%s", mnt, s->c[i].name);
		r = io_read_file(AT_FDCWD, path, cap + 1, &p, &len);
		if (r < 0)
			return rig_fail(r, "reading %s: %s", path, err_text(r));
		v->sum = hash64(p, len, 0);
		v->stored = stored_at(path, level);
		mem_free(p);
		if (rig_interrupted(g))
			r = -EINTR;
	}
	return r;
}

/* Exact sizes are those of a file in layers, once there is one. */
static void note_exact_size(struct place_set *s, const char *mnt)
{
	char path[RIG_PATH + 64];

	for (unsigned i = 0; i < s->n; i++) {
		snprintf(path, sizeof(path), "%s/%s", mnt, s->c[i].name);
		s->c[i].view[0].stored = stored_at(path, "exact");
	}
}

static int one_level(struct rig *g, const struct place_options *o, struct place_set *s,
		     unsigned form, struct rig_mount *m)
{
	char options[64];
	const char *level = strchr(s->form[form].label, ':') + 1;
	int r = rig_mount_stop(g, m);

	snprintf(options, sizeof(options), "quality=0,policy=fixed:%s", level);
	if (r == 0)
		r = rig_mount_start(g, m, "quality", options);
	if (r == 0)
		r = answer(g, o, s, form, m->mnt, NULL);
	return r ? r : sums_of_mount(g, s, form, m->mnt, level);
}

/* All levels of one store. */
static int forms_of_levels(struct rig *g, const struct place_options *o, struct place_set *s)
{
	struct place_system all = { .name = "all layers" };
	struct rig_mount m = { .pid = 0 };
	bool written = false;
	int r = 0;

	for (unsigned f = 0; f < s->n_forms && r == 0; f++) {
		if (!s->form[f].needed || s->form[f].known ||
		    strncmp(s->form[f].label, "level:", 6) != 0)
			continue;
		if (!written) {
			r = rig_mount_start(g, &m, "quality", "quality=0,settle=1h");
			if (r == 0)
				r = write_all(g, s, &all, m.mnt);
			if (r == 0)
				note_exact_size(s, m.mnt);
			written = true;
		}
		if (r == 0)
			r = one_level(g, o, s, f, &m);
	}
	if (written) {
		int e = rig_mount_stop(g, &m);

		r = r ? r : e;
		rig_remove_tree(m.store);
	}
	return r;
}

/* A store in which every file is brought to what the label says, for ever. All that is left
 * of it is read, as the systems that keep it so do. */
static int form_of_drop(struct rig *g, const struct place_options *o, struct place_set *s,
			unsigned form)
{
	struct place_system sys = { .name = "drop" };
	struct rig_mount m = { .pid = 0 };
	int r = rig_mount_start(g, &m, "quality", "quality=0,policy=lru,settle=1h"), e;

	snprintf(sys.level, sizeof(sys.level), "%s", s->form[form].label);
	if (r == 0)
		r = write_all(g, s, &sys, m.mnt);
	if (r == 0)
		r = answer(g, o, s, form, m.mnt, NULL);
	if (r == 0)
		r = sums_of_mount(g, s, form, m.mnt, sys.level);
	e = rig_mount_stop(g, &m);
	rig_remove_tree(m.store);
	return r ? r : e;
}

/* ---- all of them ------------------------------------------------------------------- */

static void need(struct place_set *s, const char *label)
{
	unsigned k = place_form_get(s, label);

	if (k < PLACE_FORMS_MAX)
		s->form[k].needed = true;
}

static void find_needed(struct place_set *s, const struct place_systems *sys)
{
	char label[32];

	need(s, "exact");
	for (unsigned i = 0; i < sys->n; i++) {
		if (sys->s[i].why_not)
			continue;
		if (strcmp(sys->s[i].form, "*") != 0) {
			need(s, sys->s[i].form);
			continue;
		}
		for (unsigned k = 0; k < LEVELS; k++) {
			snprintf(label, sizeof(label), "level:%u", k);
			need(s, label);
		}
	}
}

static bool cannot(int r)
{
	return r == -EPERM || r == -EOPNOTSUPP || r == -EINVAL;
}

static int measure(struct rig *g, const struct place_options *o, struct place_set *s, unsigned f)
{
	const char *label = s->form[f].label;
	int r;

	if (!s->form[f].needed || s->form[f].known)
		return 0;
	if (strncmp(label, "level:", 6) == 0)
		return 0; /* together */
	r = strncmp(label, "drop:", 5) == 0 ? form_of_drop(g, o, s, f)
					    : form_without_mount(g, o, s, f);
	return cannot(r) ? 0 : r;
}

int place_quality(struct rig *g, const struct place_options *o, struct place_set *s,
		  struct place_systems *sys)
{
	int r = 0, e;

	scores_load(s);
	find_needed(s, sys);
	for (unsigned f = 0; f < s->n_forms && r == 0; f++)
		r = measure(g, o, s, f);
	if (r == 0)
		r = forms_of_levels(g, o, s);
	settle_known(s);
	e = scores_save(g, s); /* also what an interrupted run has found */
	for (unsigned i = 0; i < sys->n; i++) {
		unsigned k = place_form_get(s, sys->s[i].form);

		if (strcmp(sys->s[i].form, "*") == 0)
			k = place_form_get(s, "level:0");
		if (!sys->s[i].why_not && (k == PLACE_FORMS_MAX || !s->form[k].known))
			sys->s[i].why_not = "no file can be brought to its level";
	}
	return r ? r : e;
}
