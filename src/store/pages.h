/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_STORE_PAGES_H
#define KVCACHEFS_STORE_PAGES_H
/*
 * A pool of page-aligned buffers in a few sizes, counted in the budget. Private
 * to the reader. It has no lock of its own: "owner's lock" below is the lock of
 * whoever embeds it (window.lock). Buffers come back in LIFO order, so that
 * they are still in a cache when they are used again. From 256 KiB on they are cut
 * from slabs of huge pages: a read of the device into one takes a few segments
 * instead of hundreds, which makes it up to three times as fast. A few buffers are made at
 * the start and never given back, so that readers make progress when the
 * budget is used up by others.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/budget.h"
#include "base/err.h"
#include "base/list.h"

#define PAGES_CLASSES 16 /* 32K 48K 64K 96K ... 4M 6M, each plus slack */

struct pslab; /* pages.c */

/* Head of a buffer; users embed it as the first member of what they need. */
struct pbuf {
	struct list link;  /* free list; the user's while taken */
	uint8_t *p;        /* owned, page-aligned; the slab's when there is one */
	struct pslab *slab; /* or NULL */
	size_t cap_bytes;
	uint8_t cls;
	bool reserved;     /* of the reserve */
};

struct pages {
	struct budget *budget; /* borrowed */
	enum budget_use use;
	size_t head_bytes;     /* of the user's struct around pbuf */
	size_t slack_bytes;    /* added to each class */
	size_t largest_bytes;  /* a reader may need this much */
	bool slabs;            /* large enough for them */
	bool has_largest;      /* owner's lock: it is in the reserve, or being made */
	uint64_t max_bytes;
	uint64_t held_bytes;   /* owner's lock: buffers that exist or are being made */
	struct list free[PAGES_CLASSES]; /* owner's lock */
};

/* Makes the reserve: one to four buffers of 1 MiB and, from 8 MiB of @max_bytes
 * on, one of @largest. -ENOMEM, also when the budget is too small; nothing is
 * held then. */
WUR int pages_init(struct pages *p, struct budget *b, enum budget_use use, size_t head_bytes,
		   size_t slack_bytes, size_t largest, uint64_t max_bytes);
/* All buffers must have been given back. */
void pages_fini(struct pages *p);

/* Owner's lock. An idle buffer of at least @len; larger classes only when
 * @any_class; reserved ones only when @reserve. NULL: none. */
struct pbuf *pages_take(struct pages *p, size_t len, bool any_class, bool reserve);
/* Owner's lock. */
void pages_give(struct pages *p, struct pbuf *b);
/* What is to be made: @n buffers of a class in @bytes. */
struct pages_shape {
	unsigned cls, n;
	size_t bytes;
};
/* Owner's lock. True when buffers for @len may be made within max_bytes: their
 * bytes are noted, and pages_grow must follow without the lock. */
bool pages_may_grow(struct pages *p, size_t len, struct pages_shape *ret);
/* Without the lock. NULL: pages_grow_failed must follow under the lock. */
struct pbuf *pages_grow(struct pages *p, const struct pages_shape *s);
/* Owner's lock: what pages_grow returned becomes idle, with what came with it. */
void pages_add(struct pages *p, struct pbuf *b);
void pages_grow_failed(struct pages *p, const struct pages_shape *s);
/* Owner's lock. True once, when @len needs the largest buffer and it is still to be made:
 * pages_make_largest must follow without the lock; NULL: out of memory. */
bool pages_wants_largest(struct pages *p, size_t len);
struct pbuf *pages_make_largest(struct pages *p);
/* Owner's lock: what pages_make_largest returned. */
void pages_add_largest(struct pages *p, struct pbuf *b);
/* Owner's lock. Moves idle unreserved buffers of at least @bytes together (or
 * all there are) to @out; returns their bytes. pages_free follows. */
uint64_t pages_idle(struct pages *p, uint64_t bytes, struct list *out);
/* Without the lock: gives @out's buffers to the kernel. */
void pages_free(struct pages *p, struct list *out);
unsigned pages_class(const struct pages *p, size_t len);

#endif
