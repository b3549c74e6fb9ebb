/* SPDX-License-Identifier: MIT */
/* malloc and page allocation behind one fault hook. */
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

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

static void *mem_map(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

/* Huge pages begin at multiples of their size, which not every kernel chooses. */
static void *mem_map_aligned(size_t len)
{
	size_t skip;
	char *p;

	if (len > SIZE_MAX - MEM_HUGE_BYTES)
		return NULL;
	p = mem_map(len + MEM_HUGE_BYTES);
	if (!p)
		return NULL;
	skip = (size_t)(round_up_u64((uintptr_t)p, MEM_HUGE_BYTES) - (uintptr_t)p);
	/* cutting a mapping short fails only for want of memory: then it stays longer */
	if (skip && munmap(p, skip) < 0)
		return p;
	(void)munmap(p + skip + len, MEM_HUGE_BYTES - skip);
	return p + skip;
}

void *mem_alloc_pages(size_t len)
{
	size_t plen = mem_page_len(len);
	void *p;

	if (plen < len || fault_hit(FAULT_ALLOC))
		return NULL;
	p = plen < MEM_HUGE_BYTES ? mem_map(plen) : mem_map_aligned(plen);
	if (!p)
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

uint64_t mem_machine_bytes(void)
{
	long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);

	return pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size : 0;
}
