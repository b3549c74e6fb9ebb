/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_TIERS_TIER_H
#define KVCACHEFS_TIERS_TIER_H
/*
 * Devices that hold stored bytes. Two services, because that is what the store
 * needs of a tier: asynchronous reads of a file (SSD) and bounded memory (DRAM).
 *
 * Reads: the caller owns struct tier_read, which embeds what the
 * implementation needs, so submitting does not allocate. submit 0 means that
 * done is called exactly once, on a thread of the tier (never inside submit),
 * and submit < 0 means never. done must be short: it queues work and returns.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/budget.h"
#include "base/err.h"
#include "base/list.h"

struct tier_read {
	int fd;             /* borrowed until done */
	uint64_t off_bytes; /* multiple of 4096 when fd has O_DIRECT */
	void *buf;          /* likewise aligned; owned by the caller */
	size_t len;         /* multiple of 4096 with O_DIRECT */
	/* res: bytes read (short only at end of file; the implementation loops)
	 * or -errno */
	void (*done)(struct tier_read *r, ssize_t res);
	/* private to the implementation */
	struct list link;
	size_t got;
	uint64_t submit_ns;
	bool lone; /* nothing else was in flight */
	uint64_t scratch[12]; /* struct iocb fits: static_assert in ssd_aio.c */
};

struct tier_stats {
	uint64_t reads, read_bytes, errors, in_flight, depth_max;
	uint64_t busy_ns;  /* time with at least one read in flight */
	/* moving average submit -> done of reads that found nothing else in flight; 0 unknown */
	double latency_ns;
	/* Moving average while TIER_DEEP_BYTES or more are in flight, in one read or in
	 * several; while there was none of that, TIER_LARGE_BYTES: less measures latency. 0
	 * unknown. */
	double bandwidth_Bps;
};

#define TIER_LARGE_BYTES (128u << 10)
#define TIER_DEEP_BYTES (2u << 20)

struct tier_io;
struct tier_io_ops {
	const char *name;
	/* 0, or -EINVAL (offset or length over 2^63). May block where fd is not
	 * O_DIRECT, and then for as long as the device takes. */
	int (*submit)(struct tier_io *t, struct tier_read *r);
	void (*stats)(struct tier_io *t, struct tier_stats *ret);
	/* Waits for everything in flight, then frees t. Not from done; nothing
	 * may be submitted meanwhile, except from done. */
	void (*destroy)(struct tier_io *t);
};
struct tier_io {
	const struct tier_io_ops *ops;
};

/* libaio with a reaper thread; up to @depth reads in flight, more are queued
 * in order. Falls back to pread on the reaper for what io_submit refuses.
 * -EAGAIN (no kernel AIO slots or threads), -EINVAL (@depth 0), -ENOMEM, -EMFILE. */
WUR int tier_ssd_create(unsigned depth, struct tier_io **ret);
/* The in-memory twin: reads from registered buffers standing for descriptors,
 * completes from its own thread (or, @manual, when tier_mem_step is called),
 * and fails the n-th read by FAULT_READ. */
WUR int tier_mem_create(bool manual, struct tier_io **ret);
/* Copies @data; returns a fake descriptor (>= 1<<20) or -ENOMEM. */
WUR int tier_mem_add(struct tier_io *t, const void *data, size_t len);
/* Completes the oldest (or with @newest the newest) pending read; false: none. */
bool tier_mem_step(struct tier_io *t, bool newest);

static inline int tier_submit(struct tier_io *t, struct tier_read *r)
{
	return t->ops->submit(t, r);
}
static inline void tier_destroy(struct tier_io *t)
{
	if (t)
		t->ops->destroy(t);
}

/*
 * DRAM: extents of whole pages in one reserved address range larger than the
 * budget, so that fragmentation costs address space and never memory. Every
 * extent is taken from the budget (BUDGET_REPLICA) before it is handed out and
 * given back to the kernel when freed, but for a few that stay resident, and in
 * the budget, to be used again without page faults. Huge pages where rounding
 * up to them costs at most 1/16; pre-faulting is the writer's first touch. The
 * contents of a new extent are undefined. Thread-safe.
 */
struct arena;
/* @max_bytes: about the most that will be held; addresses are reserved for four times that, where
 * they can be had, and the budget's limit may be raised so far. -ENOMEM. */
WUR int arena_create(struct budget *b, uint64_t max_bytes, struct arena **ret);
void arena_destroy(struct arena *a); /* everything must have been freed */
/* -KVFS_EBUDGET when the budget has no room: the caller evicts and retries;
 * -ENOMEM when the address space is fragmented or the kernel refuses. */
WUR int arena_alloc(struct arena *a, size_t len, void **ret);
void arena_free(struct arena *a, void *p, size_t len);
/* Bytes in allocated extents, rounded up as the budget counts them. */
uint64_t arena_used(struct arena *a);
/* Gives the resident free extents back to the kernel and the budget; returns
 * how many bytes that freed. For a caller whose own budget_take failed. */
uint64_t arena_trim(struct arena *a);

#endif
