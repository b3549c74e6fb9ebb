/* SPDX-License-Identifier: MIT */
/*
 * Two buffers: one is appended to, the other written. A write that fails is tried no more: its
 * records are dropped, and the next begins at the same offset, so that no half line stays.
 */
#include "store/trace.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/mem.h"
#include "policy/policy.h"
#include "policy/trace.h"
#include "store/adapt.h"

#define BUFFER_BYTES (256u << 10)
#define STATE_NS (60 * NSEC_PER_SEC)
#define NAME "trace"
#define OLD_NAME "trace.1"

struct trace {
	struct lock lock; /* leaf */
	char *fill GUARDED;   /* lock; owned, BUFFER_BYTES */
	size_t used GUARDED;  /* lock: of it */
	unsigned n GUARDED;   /* lock: records in it */
	/* by the writer alone */
	char *spare;          /* owned, BUFFER_BYTES */
	uint64_t limit;       /* of one file */
	uint64_t at;          /* its length */
	uint64_t start_ns;    /* CLOCK_MONOTONIC */
	uint64_t state_ns;    /* CLOCK_MONOTONIC: of the last state that was written */
	bool said;            /* that it cannot be written */
	int fd;
};

/* ---- writing -------------------------------------------------------------------- */

static int open_file(struct store *st, struct trace *t, bool fresh)
{
	int flags = O_RDWR | O_CREAT | (fresh ? O_TRUNC : 0);
	struct stat sb;
	char last = 0;

	t->fd = io_open_regular(st->store_fd, NAME, flags, 0600);
	if (t->fd < 0)
		return t->fd;
	if (fstat(t->fd, &sb) < 0)
		return -errno;
	t->at = (uint64_t)sb.st_size;
	/* the line that an end without warning tore stays one line, and damaged */
	if (t->at && io_pread_all(t->fd, &last, 1, t->at - 1) == 0 && last != '\n' &&
	    io_pwrite_all(t->fd, "\n", 1, t->at) == 0)
		t->at++;
	return 0;
}

static int put(struct trace *t, const char *s, size_t len)
{
	int r = io_pwrite_all(t->fd, s, len, t->at);

	if (r == 0)
		t->at += len;
	else
		err_ignore(ftruncate(t->fd, (off_t)t->at) < 0 ? -errno : 0); /* else half a line stays */
	return r;
}

/* As much of the memory as contexts can get now. */
static uint64_t room(struct store *st)
{
	uint64_t dram = budget_limit(&st->dram), other = adapt_set_aside(st);

	return dram > other ? dram - other : 0;
}

/* What the daemon counts with, for who has no daemon. */
static int put_state(struct store *st, struct trace *t)
{
	struct trace_state s = { .t_ns = clock_real_ns(),
				 .dram_bytes = budget_limit(&st->dram),
				 .room_bytes = room(st),
				 .ssd_bytes = atomic_load(&st->ssd_limit),
				 .params = { .alpha_s = st->cfg.alpha_s,
					     .recompute_s_per_page = st->cfg.recompute_s_per_mb *
								     COST_PAGE_BYTES / 1e6,
					     .may_remove = st->cfg.full == FULL_EVICT } };
	struct sbuf b = SBUF_INIT;
	struct tier_stats ts;
	int r;

	snprintf(s.policy, sizeof(s.policy), "%s", st->policy->name);
	st->ssd->ops->stats(st->ssd, &ts);
	rates_get(&st->rates, ts.bandwidth_Bps, ts.latency_ns, &s.rates);
	trace_print_state(&s, &b);
	r = b.failed ? -ENOMEM : put(t, b.s, b.len);
	sbuf_fini(&b);
	t->state_ns = clock_mono_ns();
	return r;
}

/* Room for @len more: what there is becomes the older half. */
static int turn(struct store *st, struct trace *t, size_t len)
{
	int r = 0;

	if (t->at && t->at + len + TRACE_LINE_MAX <= t->limit)
		return 0;
	if (t->at) {
		/* one that is longer was recorded with a higher limit */
		bool keep = t->at <= t->limit;

		io_close(&t->fd);
		if (!keep && unlinkat(st->store_fd, OLD_NAME, 0) < 0 && errno != ENOENT)
			return -errno;
		if (keep && renameat(st->store_fd, NAME, st->store_fd, OLD_NAME) < 0)
			return -errno;
		r = open_file(st, t, true);
	}
	if (r == 0)
		r = put(t, TRACE_HEAD, strlen(TRACE_HEAD));
	return r == 0 ? put_state(st, t) : r;
}

/* What was measured changes most at first. */
static bool state_due(const struct trace *t)
{
	uint64_t now = clock_mono_ns(), old = now - t->state_ns;

	return old > STATE_NS || old > (now - t->start_ns) / 2;
}

static int write_out(struct store *st, struct trace *t, const char *s, size_t len)
{
	int r = t->fd < 0 ? open_file(st, t, false) : 0;

	if (r == 0)
		r = turn(st, t, len);
	if (r == 0)
		r = put(t, s, len);
	if (r == 0 && state_due(t))
		r = put_state(st, t);
	return r;
}

void trace_flush(struct store *st)
{
	struct trace *t = st->trace;
	unsigned n;
	size_t len;
	char *s;
	int r;

	if (!t)
		return;
	lock_acquire(&t->lock);
	s = t->fill;
	len = t->used;
	n = t->n;
	t->fill = t->spare;
	t->used = t->n = 0;
	lock_release(&t->lock);
	t->spare = s;
	if (len == 0)
		return;
	r = write_out(st, t, s, len);
	if (r == 0)
		return;
	store_count(st, CNT_TRACE_DROPPED, n);
	if (!t->said)
		log_warn(st->log, "%s/" NAME " cannot be written: %s", st->cfg.path, err_text(r));
	t->said = true;
}

static void append(struct store *st, const struct trace_rec *r)
{
	struct trace *t = st->trace;
	struct sbuf b = SBUF_INIT;
	bool ok;

	trace_print(r, &b);
	lock_acquire(&t->lock);
	ok = !b.failed && b.len < TRACE_LINE_MAX && t->used + b.len <= BUFFER_BYTES;
	if (ok) {
		memcpy(t->fill + t->used, b.s, b.len);
		t->used += b.len;
		t->n++;
	}
	lock_release(&t->lock);
	sbuf_fini(&b);
	store_count(st, ok ? CNT_TRACED : CNT_TRACE_DROPPED, 1);
}

/* ---- what is recorded ----------------------------------------------------------- */

/* False, and nothing but the id: it has no object. */
static bool item(struct ctx *c, struct node *n, struct cost_item *it)
{
	if (adapt_item(c, n, it)) {
		it->flags &= (uint8_t)~COST_BUSY;
		return true;
	}
	*it = (struct cost_item){ .id = c->ino };
	return false;
}

static enum trace_found where(const struct cost_item *it)
{
	if (it->levels == 0)
		return TRACE_PLAIN;
	if (it->now.copy)
		return TRACE_COPY;
	if (it->now.dram > it->now.level)
		return TRACE_DRAM;
	return it->now.dram ? TRACE_PART : TRACE_SSD;
}

void trace_found(struct file *f)
{
	struct store *st = f->st;
	struct trace_rec *r;

	if (!st->trace)
		return;
	r = mem_zalloc(sizeof(*r));
	if (!r) {
		store_count(st, CNT_TRACE_DROPPED, 1);
		return;
	}
	r->event = TRACE_OPEN;
	r->t_ns = clock_real_ns() - (clock_mono_ns() - f->opened_ns);
	r->writes = f->writes;
	r->bytes = f->ctx->size;
	if (!item(f->ctx, f->node, &r->it)) {
		struct stat sb;

		r->bytes = f->ctx->fd >= 0 && fstat(f->ctx->fd, &sb) == 0 ? (uint64_t)sb.st_size
									  : 0;
	}
	r->found = where(&r->it);
	f->trace = r;
}

void trace_read(struct file *f)
{
	if (f->trace)
		atomic_store_explicit(&f->read_ns, clock_mono_ns(), memory_order_relaxed);
}

void trace_closed(struct file *f)
{
	struct trace_rec *r = f->trace;
	uint64_t last;

	if (!r)
		return;
	last = atomic_load(&f->read_ns);
	r->served = f->mode == SERVE_STREAM	       ? TRACE_STREAM
		    : f->mode == SERVE_CACHED	       ? TRACE_CACHED
						       : TRACE_NATIVE;
	r->read_bytes = TRACE_READ_UNSEEN;
	if (r->served != TRACE_NATIVE && r->it.levels)
		r->read_bytes = atomic_load(&f->rs.total);
	if (!last || r->served == TRACE_NATIVE)
		last = clock_mono_ns();
	r->delay_s = (double)(last - f->opened_ns) / 1e9;
	append(f->st, r);
	mem_free(r);
	f->trace = NULL;
}

void trace_sealed(struct ctx *c, struct node *n)
{
	struct trace_rec r = { .event = TRACE_SEAL, .t_ns = clock_real_ns(), .bytes = c->size };

	if (c->st->trace && item(c, n, &r.it))
		append(c->st, &r);
}

void trace_removed(struct store *st, uint64_t ino)
{
	struct trace_rec r = { .event = TRACE_REMOVE, .t_ns = clock_real_ns(), .it = { .id = ino } };

	if (st->trace)
		append(st, &r);
}

/* ---- life ----------------------------------------------------------------------- */

int trace_start(struct store *st, struct sbuf *why)
{
	struct trace *t;
	char *fill;

	if (!st->cfg.trace_bytes)
		return 0;
	if (st->read_only || st->cfg.trace_bytes < TRACE_MIN_BYTES) {
		sbuf_adds(why, st->read_only ? "trace= records into the store: not with ro"
					     : "trace= takes 0, or at least 1 MiB");
		return st->read_only ? -EROFS : -EINVAL;
	}
	t = mem_zalloc(sizeof(*t));
	if (!t)
		return -ENOMEM;
	fill = mem_alloc(BUFFER_BYTES);
	t->spare = mem_alloc(BUFFER_BYTES);
	if (!fill || !t->spare) {
		mem_free(fill);
		mem_free(t->spare);
		mem_free(t);
		return -ENOMEM;
	}
	lock_init(&t->lock);
	lock_acquire(&t->lock);
	t->fill = fill;
	lock_release(&t->lock);
	t->fd = -1;
	t->start_ns = clock_mono_ns();
	t->limit = st->cfg.trace_bytes / 2;
	st->trace = t;
	return 0;
}

void trace_stop(struct store *st)
{
	struct trace *t = st->trace;
	char *fill;

	if (!t)
		return;
	trace_flush(st);
	if (t->fd >= 0 && turn(st, t, 0) == 0)
		err_ignore(put_state(st, t)); /* a trace without it can be read */
	io_close(&t->fd);
	st->trace = NULL;
	lock_acquire(&t->lock);
	fill = t->fill;
	lock_release(&t->lock);
	mem_free(fill);
	mem_free(t->spare);
	lock_fini(&t->lock);
	mem_free(t);
}
