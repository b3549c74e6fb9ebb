/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_STORE_COPY_H
#define KVCACHEFS_STORE_COPY_H
/*
 * Decoded copies: whole files lying decoded on a private tmpfs with huge pages,
 * which the kernel reads by passthrough at native speed. The tmpfs is a
 * detached mount (fsopen/fsmount), so it has no path and dies with the
 * daemon. Files are recycled, because faulting fresh pages costs half the speed; a
 * recycled file is cut to the exact length, its last page's tail zeroed, and it
 * is reused only when a lease shows that no mapping of it lives.
 * Bytes count in the budget (BUDGET_COPY), idle pool files included.
 */
#include <stdbool.h>
#include <stdint.h>

#include "base/budget.h"
#include "base/err.h"

/* Smaller files are streamed: a tmpfs file for each costs more than it saves. */
#define COPY_MIN_BYTES (2ull << 20)

struct copy_pool;
struct copy;

/* -EPERM, -ENOSYS, -errno when there can be no private tmpfs: no copies then. */
WUR int copy_pool_create(struct budget *b, struct copy_pool **ret);
void copy_pool_destroy(struct copy_pool *p); /* NULL ok */

/* A file of exactly @size bytes, all pages present; contents undefined except
 * for the zeroed tail of the last page. -KVFS_EBUDGET (caller makes room),
 * -ENOSPC. One reference. */
WUR int copy_create(struct copy_pool *p, uint64_t size, struct copy **ret);
/* An idle file waits whose pages (nearly) suffice for @size: copy_create takes
 * no new ones, for which the kernel would clear memory. */
bool copy_pool_ready(struct copy_pool *p, uint64_t size);
/* Makes such a file, clearing its pages piece by piece; @go_on is asked after each
 * and may sleep. Like copy_create; -ENOSPC also when it were more than a quarter
 * of the budget; -KVFS_ECANCELED when @go_on said no. */
WUR int copy_pool_prepare(struct copy_pool *p, uint64_t size, bool (*go_on)(void *arg), void *arg);
struct copy *copy_get(struct copy *c);
/* The last put gives the file back to the pool (or its pages to the kernel when
 * it is still mapped somewhere or the pool is large). NULL ok. */
void copy_put(struct copy *c);
int copy_fd(const struct copy *c); /* borrowed, O_RDWR */
/* Maps it for writing (reader_decode_all); copy_unmap before it is served. */
WUR int copy_map(struct copy *c, void **ret);
void copy_unmap(struct copy *c, void *p);
uint64_t copy_size(const struct copy *c);
/* What one of @size bytes takes of the budget. */
uint64_t copy_held(uint64_t size);
/* Cuts or extends (with zeros) a copy in use. Growth is taken from the budget by
 * force, because readers already see the file. -ENOSPC, -errno. */
WUR int copy_resize(struct copy *c, uint64_t size);
/* F_SETLEASE F_WRLCK on our descriptor: true while somebody else has the file
 * open or mapped. */
bool copy_in_use(const struct copy *c);
/* So many idle bytes are for the next copies: where memory is full, that is what makes
 * decoding at open possible at all. */
void copy_pool_reserve(struct copy_pool *p, uint64_t bytes);
uint64_t copy_pool_reserved(const struct copy_pool *p);
uint64_t copy_pool_idle(struct copy_pool *p); /* held by files that wait for a use */
/* Gives idle files' pages back until @bytes are free in the budget; those reserved
 * only if @all. */
void copy_pool_shrink(struct copy_pool *p, uint64_t bytes, bool all);
uint64_t copy_pool_bytes(const struct copy_pool *p);

#endif
