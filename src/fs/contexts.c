/* SPDX-License-Identifier: MIT */
/*
 * Producer and reader share a buffer of CONTEXTS_BUFFER bytes. The producer
 * sleeps while it is full; store_each_context allows its callback to take its
 * time. Closing tells the producer to stop at its next line and joins it. A
 * read further on skips; one further back begins anew, as if opened again.
 */
#include "fs/contexts.h"

#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "base/thread.h"
#include "fs/reply.h"

#define CONTEXTS_BUFFER 65536u
#define CONTEXTS_WAKE (CONTEXTS_BUFFER / 2) /* the reader waits for this much */

struct contexts {
	struct fs *fs; /* borrowed */
	pthread_t thread;
	struct lock reader;   /* one read at a time; taken before lock */
	bool running GUARDED; /* by reader: the thread is to be joined */
	struct lock lock;
	struct cond filled, emptied;
	struct sbuf buf GUARDED; /* by lock: produced, not yet read from `taken` on */
	size_t taken GUARDED;    /* by lock */
	uint64_t off GUARDED;    /* by lock: file offset of buf.s[taken] */
	bool ended GUARDED;      /* by lock: the producer is through */
	bool stop GUARDED;       /* by lock: nobody reads any more */
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
		       "frequency\tquality\topens\tcodec\tlayout\tlevel\tlayers\testimate\tutility\t"
		       "reason\tpath\n");
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
		  state_name(i->state),
		  i->has_copy  ? "copy"
		  : i->in_dram ? "dram"
			       : "ssd",
		  i->pinned, i->damaged, (unsigned long long)i->logical_bytes,
		  (unsigned long long)i->stored_bytes, (unsigned long long)i->replica_bytes,
		  (unsigned long long)i->copy_bytes, (unsigned long long)i->hits, i->frequency,
		  i->quality, (unsigned long long)i->opens);
	add_field(out, *i->codec ? i->codec : "-");
	sbuf_adds(out, "\t");
	add_field(out, *i->layout ? i->layout : "-");
	if (i->planned && i->plan_level + 1 < i->plan_layers)
		sbuf_addf(out, "\t%u", i->plan_level);
	else
		sbuf_adds(out, i->dropped ? "\tdrop" : i->planned ? "\texact" : "\t-");
	if (i->planned)
		sbuf_addf(out, "\t%u/%u/%u\t", i->plan_dram, i->plan_stored, i->plan_layers);
	if (i->planned && !i->dropped)
		sbuf_addf(out, "%.4g\t%.4g\t", i->estimate, i->utility);
	else if (i->planned)
		sbuf_addf(out, "-\t%.4g\t", i->utility);
	else
		sbuf_adds(out, "\t-\t-\t-\t");
	add_field(out, *i->reason ? i->reason : "-");
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
	if (c->buf.len - c->taken >= CONTEXTS_WAKE)
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

static int producer_start(struct contexts *c) REQUIRES(c->reader)
{
	int r;

	lock_acquire(&c->lock);
	c->buf.len = c->taken = 0;
	c->off = 0;
	c->ended = c->stop = false;
	contexts_head(&c->buf);
	lock_release(&c->lock);
	r = thread_start("kvfs-contexts", produce, c, &c->thread);
	c->running = r == 0;
	return r;
}

static void producer_stop(struct contexts *c) REQUIRES(c->reader)
{
	lock_acquire(&c->lock);
	c->stop = true;
	cond_broadcast(&c->emptied);
	lock_release(&c->lock);
	if (c->running)
		pthread_join(c->thread, NULL);
	c->running = false;
}

int contexts_open(struct fs *fs, struct contexts **ret)
{
	struct contexts *c = mem_zalloc(sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	c->fs = fs;
	lock_init(&c->reader);
	lock_init(&c->lock);
	cond_init(&c->filled);
	cond_init(&c->emptied);
	fs->n_contexts++;
	lock_acquire(&c->reader);
	r = producer_start(c);
	lock_release(&c->reader);
	if (r < 0)
		contexts_close(c);
	else
		*ret = c;
	return r;
}

/* Bytes that wait at c->off, at most @size; waits for a good part of them, because a
 * line at a time is ten times slower. 0 at the end. */
static size_t wait_filled(struct contexts *c, size_t size) REQUIRES(c->lock)
{
	size_t n, want = size < CONTEXTS_WAKE ? size : CONTEXTS_WAKE;

	while (c->buf.len - c->taken < want && !c->ended)
		cond_wait(&c->filled, &c->lock);
	n = c->buf.len - c->taken;
	return n < size ? n : size;
}

static void take(struct contexts *c, size_t n) REQUIRES(c->lock)
{
	c->taken += n;
	c->off += n;
	cond_signal(&c->emptied);
}

static int seek(struct contexts *c, uint64_t off) REQUIRES(c->reader)
{
	bool back;
	int r = 0;

	lock_acquire(&c->lock);
	back = off < c->off;
	lock_release(&c->lock);
	if (back) {
		producer_stop(c);
		r = producer_start(c);
	}
	lock_acquire(&c->lock);
	while (r == 0 && c->off < off) {
		size_t n = wait_filled(c, off - c->off);

		if (n == 0)
			break;
		take(c, n);
	}
	lock_release(&c->lock);
	return r;
}

void contexts_read(fuse_req_t req, struct contexts *c, size_t size, off_t off)
{
	size_t n = 0;
	int r;

	lock_acquire(&c->reader);
	r = seek(c, (uint64_t)off);
	lock_acquire(&c->lock);
	if (r < 0) {
		reply_code(req, r);
	} else {
		if (c->off == (uint64_t)off)
			n = wait_filled(c, size);
		(void)fuse_reply_buf(req, n ? c->buf.s + c->taken : NULL, n);
		take(c, n);
	}
	lock_release(&c->lock);
	lock_release(&c->reader);
}

void contexts_close(struct contexts *c)
{
	if (!c)
		return;
	lock_acquire(&c->reader);
	producer_stop(c);
	lock_release(&c->reader);
	lock_acquire(&c->lock);
	sbuf_fini(&c->buf);
	lock_release(&c->lock);
	c->fs->n_contexts--;
	cond_fini(&c->emptied);
	cond_fini(&c->filled);
	lock_fini(&c->lock);
	lock_fini(&c->reader);
	mem_free(c);
}
