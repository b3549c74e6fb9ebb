/* SPDX-License-Identifier: MIT */
/* Decoded copies: nothing of an earlier context shows, nothing in use is recycled. */
#include "store/copy.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "testlib.h"

#define MAX (64ull << 20)

static uint64_t blocks(const struct copy *c)
{
	struct stat st;

	CHECK(fstat(copy_fd(c), &st) == 0);
	return (uint64_t)st.st_blocks * 512;
}

static void fill(struct copy *c, int byte)
{
	void *p;

	CHECK_EQ(copy_map(c, &p), 0);
	memset(p, byte, copy_size(c));
	copy_unmap(c, p);
}

/* Behind the end of a recycled file there are only zeros, also in its last page. */
static void recycled_files_show_nothing_old(struct copy_pool *p)
{
	const uint64_t sizes[] = { 5u << 20, 4097, 1, (3u << 20) + 17, 4096, (5u << 20) - 1, 100 };

	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		size_t room = (size_t)(sizes[i] + 4095) / 4096 * 4096;
		struct copy *c;
		uint8_t *m, byte;

		CHECK_EQ(copy_create(p, sizes[i], &c), 0);
		CHECK_EQ(copy_size(c), sizes[i]);
		CHECK(blocks(c) >= sizes[i]);
		m = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_SHARED, copy_fd(c), 0);
		CHECK(m != MAP_FAILED);
		for (uint64_t k = sizes[i]; k < room; k++)
			CHECK(m[k] == 0);
		memset(m, 0xa7, room); /* dirties the tail as a client's mapping could */
		munmap(m, room);
		CHECK_EQ(pread(copy_fd(c), &byte, 1, (off_t)sizes[i]), 0);
		copy_put(c);
	}
}

static void mapped_files_are_not_recycled(struct copy_pool *p, struct budget *b)
{
	struct copy *a, *c;
	char path[64];
	uint64_t held;
	void *m;
	int fd;

	CHECK_EQ(copy_create(p, 4u << 20, &a), 0);
	fill(a, 0x11);
	CHECK(!copy_in_use(a));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", copy_fd(a));
	fd = open(path, O_RDONLY); /* as the kernel's backing file is: another open */
	CHECK(fd >= 0 && copy_in_use(a));
	m = mmap(NULL, 4u << 20, PROT_READ, MAP_SHARED, fd, 0);
	CHECK(m != MAP_FAILED);
	close(fd);
	CHECK(copy_in_use(a));
	copy_get(a);
	copy_put(a);
	copy_put(a);
	held = copy_pool_bytes(p);
	CHECK(held >= 4u << 20);
	CHECK_EQ(budget_used(b), held); /* still counted */
	CHECK_EQ(copy_create(p, 4u << 20, &c), 0);
	fill(c, 0x22);
	for (size_t i = 0; i < 4u << 20; i += 4096)
		CHECK(((uint8_t *)m)[i] == 0x11);
	CHECK(copy_pool_bytes(p) >= 8u << 20);
	munmap(m, 4u << 20);
	copy_put(c);
	copy_pool_shrink(p, UINT64_MAX, true);
	CHECK_EQ(copy_pool_bytes(p), 0);
	CHECK_EQ(budget_used(b), 0);
}

static void budgets_hold(struct copy_pool *p, struct budget *b)
{
	struct copy *c[4];
	unsigned n = 0;

	CHECK_EQ(copy_create(p, MAX + 1, &c[0]), -ENOSPC);
	CHECK_EQ(copy_create(p, UINT64_MAX, &c[0]), -ENOSPC);
	CHECK_EQ(copy_create(p, 30u << 20, &c[n++]), 0);
	CHECK_EQ(copy_create(p, 20u << 20, &c[n++]), 0);
	CHECK_EQ(copy_create(p, 16u << 20, &c[n]), -KVFS_EBUDGET);
	CHECK_EQ(budget_used(b), 50u << 20);
	copy_put(c[1]);
	CHECK_EQ(copy_create(p, 16u << 20, &c[1]), 0); /* recycled and cut */
	CHECK_EQ(budget_used(b), 46u << 20);
	copy_put(c[0]);
	copy_put(c[1]);
	copy_put(NULL);
	copy_pool_shrink(p, 60u << 20, true);
	CHECK(budget_free(b) >= 60u << 20);
}

static bool count_down(void *arg)
{
	int *left = arg;

	return --*left > 0;
}

/* Pages made in advance are the next copy's; a refusal leaves nothing. */
static void prepared_pages_are_used(struct copy_pool *p, struct budget *b)
{
	struct copy *c;
	int left = 3;

	CHECK(!copy_pool_ready(p, 8u << 20));
	CHECK_EQ(copy_pool_prepare(p, 8u << 20, count_down, &left), -KVFS_ECANCELED);
	CHECK_EQ(budget_used(b), 0);
	left = 100;
	CHECK_EQ(copy_pool_prepare(p, MAX, count_down, &left), -ENOSPC);
	CHECK_EQ(copy_pool_prepare(p, 8u << 20, count_down, &left), 0);
	CHECK_EQ(left, 96); /* asked after each 2 MiB */
	CHECK(copy_pool_ready(p, 8u << 20));
	CHECK(!copy_pool_ready(p, 16u << 20));
	CHECK_EQ(budget_used(b), 8u << 20);
	CHECK_EQ(copy_create(p, 8u << 20, &c), 0);
	CHECK(!copy_pool_ready(p, 8u << 20));
	CHECK_EQ(budget_used(b), 8u << 20);
	copy_put(c);
	copy_pool_reserve(p, 8u << 20);
	copy_pool_shrink(p, UINT64_MAX, false);
	CHECK(copy_pool_ready(p, 8u << 20));
	copy_pool_reserve(p, 0);
	copy_pool_shrink(p, UINT64_MAX, false);
	CHECK_EQ(copy_pool_bytes(p), 0);
}

static int one_use(void *arg)
{
	struct copy_pool *p = arg;
	struct copy *c;
	int err = copy_create(p, 2u << 20, &c);

	if (err)
		return err;
	copy_put(c);
	copy_pool_shrink(p, UINT64_MAX, true);
	return 0;
}

static int one_pool(void *arg)
{
	struct copy_pool *p;
	int err = copy_pool_create(arg, &p);

	if (!err)
		copy_pool_destroy(p);
	return err;
}

int main(void)
{
	struct copy_pool *p;
	struct budget b;
	int err;

	budget_init(&b, MAX);
	err = copy_pool_create(&b, &p);
	if (err == -EPERM || err == -ENOSYS)
		return TEST_SKIP; /* not root: no private tmpfs */
	CHECK_EQ(err, 0);
	recycled_files_show_nothing_old(p);
	copy_pool_shrink(p, UINT64_MAX, true);
	CHECK_EQ(budget_used(&b), 0);
	prepared_pages_are_used(p, &b);
	mapped_files_are_not_recycled(p, &b);
	budgets_hold(p, &b);
	copy_pool_shrink(p, UINT64_MAX, true);
	(void)test_fault_loop(FAULT_ALLOC, one_use, p);
	(void)test_fault_loop(FAULT_ALLOC, one_pool, &b);
	copy_pool_destroy(p);
	copy_pool_destroy(NULL);
	CHECK_EQ(budget_used(&b), 0);
	return 0;
}
