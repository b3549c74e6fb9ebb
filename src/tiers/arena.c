/* SPDX-License-Identifier: MIT */
/*
 * DRAM extents. The range is two zones of address space, each several times
 * the budget: HUGE, in units of 2 MiB with MADV_HUGEPAGE, and SMALL, in units
 * of 4 KiB with MADV_NOHUGEPAGE. They are apart because a huge page that
 * reaches beyond its extent is memory nobody took from the budget, and because
 * marking extents one by one would cost the kernel a mapping each.
 *
 * Allocation: a resident ("warm") free extent if one fits, already paid for;
 * else the budget first, then address space. Freeing keeps the extent warm
 * while there is little of that, else returns its pages to the kernel, then to
 * the budget, then its addresses to the zone, so that memory never exceeds
 * what is taken. Freeing cannot fail: allocation has put a node aside for it.
 */
#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <sys/mman.h>

#include "base/fault.h"
#include "base/lock.h"
#include "base/mem.h"
#include "base/units.h"
#include "tiers/extent.h"
#include "tiers/tier.h"

#define ARENA_HUGE_BYTES (2ull << 20)
#define ARENA_WARM_MAX_BYTES (32ull << 20)
#define ARENA_SPREAD 4 /* address space of a zone, in budgets */
#define ARENA_SLAB_NODES 62
/* the sum of both zones' offsets stays far below 2^47 */
#define ARENA_MAX_BYTES (1ull << 43)

enum { ZONE_SMALL, ZONE_HUGE, ZONES };

struct arena_slab {
	struct arena_slab *next;
	struct extent nodes[ARENA_SLAB_NODES];
};

struct arena {
	struct budget *b; /* borrowed */
	char *base;
	uint64_t zone_bytes; /* of each zone: [ZONE_SMALL][ZONE_HUGE] from base */
	struct lock lock;
	/* all below under lock; cold + warm = the free addresses of a zone */
	struct extent_set cold[ZONES] GUARDED, warm[ZONES] GUARDED;
	struct extent *spare GUARDED; /* spare_n unused nodes, promised or more */
	uint64_t spare_n GUARDED;
	uint64_t promised GUARDED;        /* nodes put aside, one per extent handed out */
	uint64_t used_bytes GUARDED;      /* in extents handed out */
	struct arena_slab *slabs GUARDED; /* owned; each in BUDGET_TABLE */
};

static unsigned arena_zone_of_len(size_t len)
{
	uint64_t rounded = round_up_u64(len, ARENA_HUGE_BYTES);

	return rounded - len <= len / 16 ? ZONE_HUGE : ZONE_SMALL;
}

static uint64_t arena_rounded(size_t len)
{
	return round_up_u64(len,
			    arena_zone_of_len(len) == ZONE_HUGE ? ARENA_HUGE_BYTES : KVFS_PAGE);
}

static unsigned arena_zone_of_off(const struct arena *a, uint64_t off)
{
	return off < a->zone_bytes ? ZONE_SMALL : ZONE_HUGE;
}

/* Adds a free extent, counting the nodes that merging sets free. */
static void arena_add(struct arena *a, struct extent_set *s, struct extent *e) REQUIRES(&a->lock)
{
	uint64_t before = s->count;

	extent_set_add(s, e, &a->spare);
	a->spare_n += before + 1 - s->count;
}

/* The node put aside for an extent now coming back. */
static struct extent *arena_node(struct arena *a, uint64_t off, uint64_t len) REQUIRES(&a->lock)
{
	struct extent *e = extent_spare_pop(&a->spare);

	assert(e);
	a->spare_n--;
	a->promised--;
	e->off = off;
	e->len = len;
	return e;
}

/* Cuts the first @len bytes off a best-fitting extent; the rest stays. */
static bool arena_carve(struct arena *a, struct extent_set *s, uint64_t len, uint64_t *ret_off)
	REQUIRES(&a->lock)
{
	struct extent *e = extent_set_best(s, len);

	if (!e)
		return false;
	extent_set_remove(s, e);
	*ret_off = e->off;
	e->off += len;
	e->len -= len;
	if (e->len) {
		arena_add(a, s, e);
	} else {
		extent_spare_push(&a->spare, e);
		a->spare_n++;
	}
	return true;
}

static bool arena_promise(struct arena *a) REQUIRES(&a->lock)
{
	if (a->spare_n <= a->promised)
		return false;
	a->promised++;
	return true;
}

static int arena_slab_create(struct arena *a, struct arena_slab **ret)
{
	int rc = budget_take(a->b, BUDGET_TABLE, sizeof(**ret));

	if (rc)
		return rc;
	*ret = mem_alloc(sizeof(**ret));
	if (*ret)
		return 0;
	budget_give(a->b, BUDGET_TABLE, sizeof(**ret));
	return -ENOMEM;
}

static void arena_slab_add(struct arena *a, struct arena_slab *slab) REQUIRES(&a->lock)
{
	slab->next = a->slabs;
	a->slabs = slab;
	for (int i = 0; i < ARENA_SLAB_NODES; i++)
		extent_spare_push(&a->spare, &slab->nodes[i]);
	a->spare_n += ARENA_SLAB_NODES;
}

/* Puts the node aside that freeing one more extent may need. */
static int arena_reserve_node(struct arena *a)
{
	struct arena_slab *slab;
	bool ok;
	int rc;

	lock_acquire(&a->lock);
	ok = arena_promise(a);
	lock_release(&a->lock);
	if (ok)
		return 0;
	rc = arena_slab_create(a, &slab);
	if (rc)
		return rc;
	lock_acquire(&a->lock);
	arena_slab_add(a, slab);
	ok = arena_promise(a);
	lock_release(&a->lock);
	assert(ok);
	return 0;
}

static void arena_unreserve_node(struct arena *a)
{
	lock_acquire(&a->lock);
	a->promised--;
	lock_release(&a->lock);
}

/* Address space only; a zone starts at a multiple of 2 MiB. */
static int arena_map(struct arena *a, uint64_t max_bytes)
{
	uint64_t one = round_up_u64(max_bytes, ARENA_HUGE_BYTES) + ARENA_HUGE_BYTES;

	for (uint64_t spread = ARENA_SPREAD; spread; spread /= 2) {
		size_t len = (size_t)(2 * spread * one + ARENA_HUGE_BYTES);
		char *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		uintptr_t at;

		if (p == MAP_FAILED)
			continue; /* RLIMIT_AS, overcommit_memory=2 */
		at = round_up_u64((uintptr_t)p, ARENA_HUGE_BYTES);
		if (at != (uintptr_t)p)
			(void)munmap(p, at - (uintptr_t)p);
		if (at - (uintptr_t)p != ARENA_HUGE_BYTES)
			(void)munmap((char *)at + (len - ARENA_HUGE_BYTES),
				     ARENA_HUGE_BYTES - (at - (uintptr_t)p));
		a->base = (char *)at;
		a->zone_bytes = spread * one;
		return 0;
	}
	return -ENOMEM;
}

static void arena_free_slabs(struct arena *a) NO_TSA
{
	while (a->slabs) {
		struct arena_slab *s = a->slabs;

		a->slabs = s->next;
		mem_free(s);
		budget_give(a->b, BUDGET_TABLE, sizeof(*s));
	}
}

/* a is not shared yet. */
static void arena_fill(struct arena *a, struct arena_slab *slab) NO_TSA
{
	arena_slab_add(a, slab);
	for (unsigned z = 0; z < ZONES; z++) {
		struct extent *e = extent_spare_pop(&a->spare);

		a->spare_n--;
		e->off = z * a->zone_bytes;
		e->len = a->zone_bytes;
		extent_set_add(&a->cold[z], e, &a->spare);
	}
}

int arena_create(struct budget *b, uint64_t max_bytes, struct arena **ret)
{
	struct arena_slab *slab;
	struct arena *a;
	int rc;

	if (max_bytes > ARENA_MAX_BYTES)
		return -ENOMEM;
	a = mem_zalloc(sizeof(*a));
	if (!a)
		return -ENOMEM;
	a->b = b;
	lock_init(&a->lock);
	rc = arena_map(a, max_bytes);
	if (rc)
		goto err_free;
	rc = arena_slab_create(a, &slab);
	if (rc)
		goto err_unmap;
	arena_fill(a, slab);
	/* NOHUGEPAGE is not a hint here, it keeps memory within the budget; a
	 * kernel without huge pages refuses it and does not need it. */
	(void)madvise(a->base, a->zone_bytes, MADV_NOHUGEPAGE);
	(void)madvise(a->base + a->zone_bytes, a->zone_bytes, MADV_HUGEPAGE);
	(void)madvise(a->base, 2 * a->zone_bytes, MADV_DONTDUMP);
	*ret = a;
	return 0;
err_unmap:
	(void)munmap(a->base, 2 * a->zone_bytes);
err_free:
	lock_fini(&a->lock);
	mem_free(a);
	return rc;
}

void arena_destroy(struct arena *a)
{
	if (!a)
		return;
	assert(arena_used(a) == 0);
	arena_trim(a);
	(void)munmap(a->base, 2 * a->zone_bytes);
	arena_free_slabs(a);
	lock_fini(&a->lock);
	mem_free(a);
}

static bool arena_take(struct arena *a, bool warm, size_t len, uint64_t *ret_off)
{
	unsigned z = arena_zone_of_len(len);
	uint64_t rounded = arena_rounded(len);
	bool ok;

	lock_acquire(&a->lock);
	ok = arena_carve(a, warm ? &a->warm[z] : &a->cold[z], rounded, ret_off);
	if (ok)
		a->used_bytes += rounded;
	lock_release(&a->lock);
	return ok;
}

/* With a node put aside: finds addresses that are paid for. */
static int arena_find(struct arena *a, size_t len, uint64_t *ret_off)
{
	uint64_t rounded = arena_rounded(len);
	int rc;

	if (arena_take(a, true, len, ret_off))
		return 0;
	rc = budget_take(a->b, BUDGET_REPLICA, rounded);
	if (rc && arena_trim(a))
		rc = budget_take(a->b, BUDGET_REPLICA, rounded);
	if (rc)
		return rc;
	if (arena_take(a, false, len, ret_off))
		return 0;
	/* Warm extents lie between cold ones: together they may be enough. */
	if (arena_trim(a) && arena_take(a, false, len, ret_off))
		return 0;
	budget_give(a->b, BUDGET_REPLICA, rounded);
	return -ENOMEM;
}

int arena_alloc(struct arena *a, size_t len, void **ret)
{
	uint64_t off;
	int rc;

	if (!len || len > ARENA_MAX_BYTES)
		return len ? -KVFS_EBUDGET : -EINVAL;
	if (fault_hit(FAULT_ALLOC))
		return -ENOMEM;
	rc = arena_reserve_node(a);
	if (rc == -KVFS_EBUDGET && arena_trim(a))
		rc = arena_reserve_node(a);
	if (rc)
		return rc;
	rc = arena_find(a, len, &off);
	if (rc) {
		arena_unreserve_node(a);
		return rc;
	}
	*ret = a->base + off;
	return 0;
}

static uint64_t arena_warm_max(const struct arena *a)
{
	uint64_t part = budget_limit(a->b) / 32;

	return part < ARENA_WARM_MAX_BYTES ? part : ARENA_WARM_MAX_BYTES;
}

void arena_free(struct arena *a, void *p, size_t len)
{
	uint64_t off, rounded = arena_rounded(len);
	unsigned z;
	bool warm;

	if (!p)
		return;
	off = (uint64_t)((char *)p - a->base);
	z = arena_zone_of_off(a, off);
	assert(z == arena_zone_of_len(len) && off + rounded <= 2 * a->zone_bytes);
	lock_acquire(&a->lock);
	assert(a->used_bytes >= rounded);
	a->used_bytes -= rounded;
	warm = a->warm[ZONE_SMALL].bytes + a->warm[ZONE_HUGE].bytes + rounded <=
		       arena_warm_max(a) &&
	       budget_used(a->b) <= budget_limit(a->b);
	if (warm)
		arena_add(a, &a->warm[z], arena_node(a, off, rounded));
	lock_release(&a->lock);
	if (warm)
		return;
	(void)madvise(p, rounded, MADV_DONTNEED); /* cannot fail for our own range */
	budget_give(a->b, BUDGET_REPLICA, rounded);
	lock_acquire(&a->lock);
	arena_add(a, &a->cold[z], arena_node(a, off, rounded));
	lock_release(&a->lock);
}

uint64_t arena_used(struct arena *a)
{
	uint64_t n;

	lock_acquire(&a->lock);
	n = a->used_bytes;
	lock_release(&a->lock);
	return n;
}

uint64_t arena_trim(struct arena *a)
{
	uint64_t freed = 0;

	for (unsigned z = 0; z < ZONES; z++) {
		for (;;) {
			struct extent *e;

			lock_acquire(&a->lock);
			e = extent_set_first(&a->warm[z]);
			if (e)
				extent_set_remove(&a->warm[z], e);
			lock_release(&a->lock);
			if (!e)
				break;
			(void)madvise(a->base + e->off, e->len, MADV_DONTNEED);
			budget_give(a->b, BUDGET_REPLICA, e->len);
			freed += e->len;
			lock_acquire(&a->lock);
			arena_add(a, &a->cold[z], e);
			lock_release(&a->lock);
		}
	}
	return freed;
}
