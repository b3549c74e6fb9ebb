/* SPDX-License-Identifier: MIT */
/* malloc and page allocation behind one fault hook. */
#include "base/mem.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/fault.h"
#include "base/units.h"

#define MEM_HUGE_BYTES (2u << 20)

void *mem_alloc(size_t len)
{
	return fault_hit(FAULT_ALLOC) ? NULL : malloc(len ? len : 1);
}

void *mem_zalloc(size_t len)
{
	return mem_calloc(1, len);
}

void *mem_calloc(size_t n, size_t each)
{
	size_t len;

	/* calloc checks as well, but sanitizers take that for our mistake. */
	if (__builtin_mul_overflow(n, each, &len) || fault_hit(FAULT_ALLOC))
		return NULL;
	return calloc(1, len ? len : 1);
}

void *mem_realloc(void *p, size_t len)
{
	return fault_hit(FAULT_ALLOC) ? NULL : realloc(p, len ? len : 1);
}

char *mem_strdup(const char *s)
{
	size_t len = strlen(s) + 1;
	char *p = mem_alloc(len);

	return p ? memcpy(p, s, len) : NULL;
}

void mem_free(void *p)
{
	free(p);
}

static size_t mem_page_len(size_t len)
{
	return len ? (size_t)round_up_u64(len, KVFS_PAGE) : KVFS_PAGE;
}

void *mem_alloc_pages(size_t len)
{
	size_t plen = mem_page_len(len);
	void *p;

	if (plen < len || fault_hit(FAULT_ALLOC))
		return NULL;
	p = mmap(NULL, plen, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return NULL;
	/* Hints: a kernel without them only costs speed or a larger dump. */
	if (plen >= MEM_HUGE_BYTES)
		(void)madvise(p, plen, MADV_HUGEPAGE);
	(void)madvise(p, plen, MADV_DONTDUMP);
	return p;
}

void mem_free_pages(void *p, size_t len)
{
	if (p)
		(void)munmap(p, mem_page_len(len)); /* fails only for a wrong range */
}
