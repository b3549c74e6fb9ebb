/* SPDX-License-Identifier: MIT */
/*
 * The sum is one atomic that is only ever raised by compare-and-swap within
 * the limit; the counters per use follow it and may lag by a moment, which
 * only shows in status. limit may change at any time: a lower one is over
 * until its users give bytes back.
 */
#include "base/budget.h"

#include <assert.h>
#include <stdatomic.h>

void budget_init(struct budget *b, uint64_t limit_bytes)
{
	atomic_init(&b->limit_bytes, limit_bytes);
	atomic_init(&b->used_bytes, 0);
	atomic_init(&b->peak_bytes, 0);
	for (int u = 0; u < BUDGET_USES_; u++)
		atomic_init(&b->use_bytes[u], 0);
}

static void budget_note(struct budget *b, enum budget_use u, uint64_t bytes, uint64_t sum)
{
	uint64_t peak = atomic_load_explicit(&b->peak_bytes, memory_order_relaxed);

	atomic_fetch_add_explicit(&b->use_bytes[u], bytes, memory_order_relaxed);
	while (peak < sum &&
	       !atomic_compare_exchange_weak_explicit(&b->peak_bytes, &peak, sum,
						      memory_order_relaxed, memory_order_relaxed))
		;
}

int budget_take(struct budget *b, enum budget_use u, uint64_t bytes)
{
	uint64_t used = atomic_load(&b->used_bytes);

	do {
		uint64_t limit = atomic_load(&b->limit_bytes);

		if (bytes && (used >= limit || bytes > limit - used))
			return -KVFS_EBUDGET;
	} while (!atomic_compare_exchange_weak(&b->used_bytes, &used, used + bytes));
	budget_note(b, u, bytes, used + bytes);
	return 0;
}

void budget_force(struct budget *b, enum budget_use u, uint64_t bytes)
{
	uint64_t before = atomic_fetch_add(&b->used_bytes, bytes);

	budget_note(b, u, bytes, before + bytes);
}

void budget_give(struct budget *b, enum budget_use u, uint64_t bytes)
{
	uint64_t of_use = atomic_fetch_sub_explicit(&b->use_bytes[u], bytes, memory_order_relaxed);
	uint64_t before = atomic_fetch_sub(&b->used_bytes, bytes);

	assert(of_use >= bytes);
	assert(before >= bytes);
	(void)of_use, (void)before;
}

uint64_t budget_used(const struct budget *b)
{
	return atomic_load(&b->used_bytes);
}

uint64_t budget_limit(const struct budget *b)
{
	return atomic_load(&b->limit_bytes);
}

uint64_t budget_free(const struct budget *b)
{
	uint64_t limit = budget_limit(b), used = budget_used(b);

	return used < limit ? limit - used : 0;
}

uint64_t budget_short(const struct budget *b, uint64_t bytes)
{
	uint64_t limit = budget_limit(b), used = budget_used(b);

	if (used > limit)
		return bytes + (used - limit);
	return bytes > limit - used ? bytes - (limit - used) : 0;
}

const char *budget_use_name(enum budget_use u)
{
	static const char *const names[] = {
		[BUDGET_REPLICA] = "replica", [BUDGET_COPY] = "copy",   [BUDGET_WINDOW] = "window",
		[BUDGET_BUFFER] = "buffer",   [BUDGET_TABLE] = "table",
	};

	_Static_assert(sizeof(names) / sizeof(names[0]) == BUDGET_USES_, "one name per use");
	return (unsigned)u < BUDGET_USES_ ? names[u] : "?";
}
