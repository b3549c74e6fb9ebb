/* SPDX-License-Identifier: MIT */
/*
 * Producer and reader share a buffer of CONTEXTS_BUFFER bytes. The producer
 * sleeps while it is full; store_each_context allows its callback to take its
 * time. Closing tells the producer to stop at its next line and joins it.
 */
#include "fs/contexts.h"

#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "base/thread.h"
#include "fs/reply.h"

#define CONTEXTS_BUFFER 65536u

struct contexts {
	struct fs *fs; /* borrowed */
	pthread_t thread;
	struct lock lock;
	struct cond filled, emptied;
	struct sbuf buf GUARDED;  /* by lock: produced, not yet read from `taken` on */
	size_t taken GUARDED;     /* by lock */
	uint64_t off GUARDED;     /* by lock: file offset of buf.s[taken] */
	bool ended GUARDED;       /* by lock: the producer is through */
	bool stop GUARDED;        /* by lock: nobody reads any more */
};

static const char *state_name(enum ctx_state s)
{
	switch (s) {
	case CTX_PLAIN:
		return "plain";
	case CTX_SEALING:
		return "sealing";
	case CTX_SEALED:
		return "sealed";
	case CTX_OVERLAY:
		return "overlay";
	}
	return "?";
}

void contexts_head(struct sbuf *out)
{
	sbuf_adds(out, "#state\ttier\tpinned\tdamaged\tlogical\tstored\treplica\tcopy\thits\t"
		       "frequency\tquality\topens\tcodec\tlayout\tpath\n");
}

/* @s without what would break the table: tab, newline, backslash as \ooo. */
static void add_field(struct sbuf *out, const char *s)
{
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;

		if (c < 0x20 || c == 0x7f || c == '\\')
			sbuf_addf(out, "\\%03o", c);
		else
			sbuf_add(out, s, 1);
	}
}

void contexts_line(const char *path, const struct ctx_info *i, struct sbuf *out)
{
	sbuf_addf(out, "%s\t%s\t%d\t%d\t%llu\t%llu\t%llu\t%llu\t%llu\t%.4g\t%g\t%llu\t",
		  state_name(i->state), i->has_copy ? "copy" : i->in_dram ? "dram" : "ssd",
		  i->pinned, i->damaged, (unsigned long long)i->logical_bytes,
		  (unsigned long long)i->stored_bytes, (unsigned long long)i->replica_bytes,
		  (unsigned long long)i->copy_bytes, (unsigned long long)i->hits, i->frequency,
		  i->quality, (unsigned long long)i->opens);
	add_field(out, *i->codec ? i->codec : "-");
	sbuf_adds(out, "\t");
	add_field(out, *i->layout ? i->layout : "-");
	sbuf_adds(out, "\t");
	add_field(out, path);
	sbuf_adds(out, "\n");
}

/* Drops what was read. */
static void contexts_compact(struct contexts *c) REQUIRES(c->lock)
{
	if (!c->taken)
		return;
	memmove(c->buf.s, c->buf.s + c->taken, c->buf.len - c->taken);
	c->buf.len -= c->taken;
	c->taken = 0;
}

static bool produce_line(void *arg, const char *path, const struct ctx_info *i)
{
	struct contexts *c = arg;
	bool go;

	lock_acquire(&c->lock);
	while (c->buf.len - c->taken >= CONTEXTS_BUFFER && !c->stop)
		cond_wait(&c->emptied, &c->lock);
	contexts_compact(c);
	contexts_line(path, i, &c->buf);
	go = !c->stop && !c->buf.failed;
	cond_signal(&c->filled);
	lock_release(&c->lock);
	return go;
}

static void *produce(void *arg)
{
	struct contexts *c = arg;

	store_each_context(c->fs->st, produce_line, c);
	lock_acquire(&c->lock);
	c->ended = true;
	cond_broadcast(&c->filled);
	lock_release(&c->lock);
	return NULL;
}

int contexts_open(struct fs *fs, struct contexts **ret)
{
	struct contexts *c = mem_zalloc(sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	c->fs = fs;
	lock_init(&c->lock);
	cond_init(&c->filled);
	cond_init(&c->emptied);
	lock_acquire(&c->lock);
	contexts_head(&c->buf);
	lock_release(&c->lock);
	r = thread_start("kvfs-contexts", produce, c, &c->thread);
	if (r < 0) {
		lock_acquire(&c->lock);
		sbuf_fini(&c->buf);
		lock_release(&c->lock);
		cond_fini(&c->emptied);
		cond_fini(&c->filled);
		lock_fini(&c->lock);
		mem_free(c);
		return r;
	}
	fs->n_contexts++;
	*ret = c;
	return 0;
}

void contexts_read(fuse_req_t req, struct contexts *c, size_t size, off_t off)
{
	size_t n;

	lock_acquire(&c->lock);
	if ((uint64_t)off != c->off) {
		lock_release(&c->lock);
		reply_code(req, -ESPIPE);
		return;
	}
	while (c->buf.len == c->taken && !c->ended)
		cond_wait(&c->filled, &c->lock);
	n = c->buf.len - c->taken;
	if (n > size)
		n = size;
	(void)fuse_reply_buf(req, n ? c->buf.s + c->taken : NULL, n);
	c->taken += n;
	c->off += n;
	cond_signal(&c->emptied);
	lock_release(&c->lock);
}

void contexts_close(struct contexts *c)
{
	if (!c)
		return;
	lock_acquire(&c->lock);
	c->stop = true;
	cond_broadcast(&c->emptied);
	lock_release(&c->lock);
	pthread_join(c->thread, NULL);
	lock_acquire(&c->lock);
	sbuf_fini(&c->buf);
	lock_release(&c->lock);
	c->fs->n_contexts--;
	cond_fini(&c->emptied);
	cond_fini(&c->filled);
	lock_fini(&c->lock);
	mem_free(c);
}
