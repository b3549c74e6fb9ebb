// SPDX-License-Identifier: MIT
/* Contents: caches of a real model, packed by kvlm to the size of a large
 * model's. They are kept: making them takes longer than measuring. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"
#include "rig.h"

#ifndef KVCACHEBENCH_MODEL
#define KVCACHEBENCH_MODEL "kvlm.gguf"
#endif

#define TOKENS 1500u /* of a context */

static int make(struct rig *g, unsigned n, uint64_t size, unsigned t, const char *dir)
{
	char exe[RIG_PATH], model[RIG_PATH], fresh[RIG_PATH + 8], files[16], bytes[32], tokens[16];
	const char *argv[] = { exe, "corpus", model, "--out", fresh, "--contexts", files,
			       "--tokens", tokens, "--pack", bytes, NULL };
	int r = rig_find(g->o->kvlm, "../kvlm/kvlm", "kvlm", exe);

	if (r == 0)
		r = rig_find(g->o->model ? g->o->model
			     : access(KVCACHEBENCH_MODEL, R_OK) == 0 ? KVCACHEBENCH_MODEL : NULL,
			     "../share/kvcachefs/kvlm.gguf", "kvlm.gguf", model);
	if (r < 0)
		return r;
	snprintf(fresh, sizeof(fresh), "%s.new", dir);
	snprintf(files, sizeof(files), "%u", n);
	snprintf(bytes, sizeof(bytes), "%llu", (unsigned long long)size);
	snprintf(tokens, sizeof(tokens), "%u", t);
	rig_say("making %u caches of %llu MiB with kvlm (kept for the next run)", n,
		(unsigned long long)(size >> 20));
	r = rig_run(g, argv);
	if (r == 0 && rename(fresh, dir) < 0)
		r = rig_fail(-errno, "%s: %s", dir, strerror(errno));
	return r;
}

static int examine(struct rig_corpus *c, unsigned i)
{
	struct stat sb;
	void *p;
	int fd = open(c->path[i], O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &sb) < 0)
		return rig_fail(-errno, "%s: %s", c->path[i], strerror(errno));
	p = mmap(NULL, (size_t)sb.st_size, PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	if (p == MAP_FAILED)
		return rig_fail(-errno, "%s: %s", c->path[i], strerror(errno));
	c->bytes[i] = (uint64_t)sb.st_size;
	c->sum[i] = hash64(p, (size_t)sb.st_size, 0);
	munmap(p, (size_t)sb.st_size);
	if (c->bytes[i] > c->max_bytes)
		c->max_bytes = c->bytes[i];
	return 0;
}

int rig_corpus(struct rig *g, unsigned n, struct rig_corpus *ret)
{
	return rig_corpus_sized(g, n, g->o->bytes, TOKENS, ret);
}

int rig_corpus_sized(struct rig *g, unsigned n, uint64_t size, unsigned tokens,
		     struct rig_corpus *ret)
{
	char more[32] = "", dir[RIG_PATH], last[RIG_PATH + 32];
	int r = 0;

	memset(ret, 0, sizeof(*ret));
	ret->n = n;
	if (tokens != TOKENS)
		snprintf(more, sizeof(more), "-%u", tokens);
	snprintf(dir, sizeof(dir), "%.4000s/corpus-%llu%s", g->dir, (unsigned long long)size, more);
	snprintf(last, sizeof(last), "%s/packed-%04u.bin", dir, n - 1);
	if (access(last, R_OK) < 0)
		r = make(g, n, size, tokens, dir);
	for (unsigned i = 0; i < n && r == 0; i++) {
		snprintf(ret->path[i], RIG_PATH, "%.4000s/packed-%04u.bin", dir, i);
		r = examine(ret, i);
	}
	return r;
}
