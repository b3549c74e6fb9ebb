/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_BASE_MEM_H
#define KVCACHEFS_BASE_MEM_H
/*
 * Allocation with a fault hook: in builds with -Dfaults=true every allocation
 * can be made to fail at its n-th call (base/fault.h). Use these instead of
 * malloc in base, layouts, codecs, tiers, policy and store.
 */
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

void *mem_alloc(size_t len); /* NULL when out of memory */
void *mem_zalloc(size_t len);
void *mem_calloc(size_t n, size_t each); /* overflow-checked, zeroed */
void *mem_realloc(void *p, size_t len);  /* @p stays valid on failure */
char *mem_strdup(const char *s);
void mem_free(void *p); /* NULL ok */
/* Page-aligned, for O_DIRECT; release with mem_free_pages(p, len).
 * mmap'ed, MADV_HUGEPAGE from 2 MiB; excluded from core dumps. */
void *mem_alloc_pages(size_t len);
void mem_free_pages(void *p, size_t len); /* NULL ok */

/* Memory that the machine has; 0: not known. */
uint64_t mem_machine_bytes(void);

#define KVFS_PAGE 4096u

#endif
