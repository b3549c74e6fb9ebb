/* SPDX-License-Identifier: MIT */
/*
 * How fast the reader is inside one process, beside memcpy of the same bytes in
 * the same run: FIX from a replica, HUF from SSD, decode_all of both. Not a
 * test: prints a table. read_speed [MiB [chunk KiB [rounds [mem]]]]; mem puts the
 * object into the memory tier, for what the device hides.
 */
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "codecs/codec.h"
#include "reading.h"
#include "testlib.h"

#define REQUEST (1u << 20)

static struct reading f;
static uint8_t *dst; /* as large as the file, all pages present */

static int cmp(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static double gbps(uint64_t start)
{
	return (double)f.size / (double)(clock_mono_ns() - start);
}

/* As a server does: slices to a warm buffer of one request (@copy), or not at all. */
static double stream(bool copy)
{
	static uint8_t out[REQUEST];
	struct read_state rs = { 0 };
	struct read_reply ret = { .scratch_len = REQUEST };
	uint64_t start = clock_mono_ns();

	CHECK((ret.scratch = aligned_alloc(4096, REQUEST)) != NULL);
	for (uint64_t off = 0; off < f.size; off += ret.len) {
		CHECK_EQ(reader_read(f.reader, &f.src, &rs, off, REQUEST, f.size, &ret), 0);
		for (unsigned i = 1, at = 0; copy && i <= ret.n; at += (unsigned)ret.iov[i++].iov_len)
			memcpy(out + at, ret.iov[i].iov_base, ret.iov[i].iov_len);
		reader_done(f.reader, &ret);
	}
	free(ret.scratch);
	return gbps(start);
}

static double whole(void)
{
	uint64_t start = clock_mono_ns();

	CHECK_EQ(reader_decode_all(f.reader, &f.src, dst, f.size, NULL), 0);
	return gbps(start);
}

static double copy_1m(void)
{
	uint64_t start = clock_mono_ns();

	for (uint64_t off = 0; off + REQUEST <= f.size; off += REQUEST)
		memcpy(dst, f.data + off, REQUEST);
	return gbps(start);
}

static double copy_all(void)
{
	uint64_t start = clock_mono_ns();

	memcpy(dst, f.data, f.size);
	return gbps(start);
}

/* Floor of streaming from the replica: verify only. */
static double check_only(void)
{
	uint64_t start = clock_mono_ns();

	for (uint32_t i = 0; i < f.obj->n_chunks; i++) {
		struct replica_form form;

		CHECK(replica_find(f.rep, i, &form));
		CHECK_EQ(replica_check(f.rep, i, &form, form.n), 0);
	}
	return gbps(start);
}

/* The device alone: the object's file in 1 MiB reads, eight in flight. */
struct raw_read {
	struct tier_read rd;
	_Atomic bool busy;
};

static void raw_done(struct tier_read *rd, ssize_t res)
{
	CHECK(res >= 0);
	atomic_store(&((struct raw_read *)rd)->busy, false);
}

static double device_only(void)
{
	static struct raw_read r[8];
	static uint8_t *buf;
	uint64_t start = clock_mono_ns(), n = f.obj->stored_bytes;
	unsigned i = 0;

	if (!buf)
		CHECK((buf = aligned_alloc(4096, 8 * REQUEST)) != NULL);
	for (uint64_t off = 0; off < n; off += REQUEST, i = (i + 1) % 8) {
		while (atomic_load(&r[i].busy))
			sched_yield();
		r[i].busy = true;
		r[i].rd = (struct tier_read) { .fd = f.obj->fd, .off_bytes = off, .len = REQUEST,
					       .buf = buf + i * (size_t)REQUEST, .done = raw_done };
		CHECK_EQ(tier_submit(f.tier, &r[i].rd), 0);
	}
	for (i = 0; i < 8; i++)
		while (atomic_load(&r[i].busy))
			sched_yield();
	return (double)n / (double)(clock_mono_ns() - start);
}

static double stream_plain(void)
{
	return stream(false);
}

static double stream_copy(void)
{
	return stream(true);
}

static void measure(const char *what, double (*run)(void), unsigned rounds, bool cold)
{
	struct reader_stats st;
	double r[64];

	for (unsigned i = 0; i < rounds && i < 64; i++) {
		if (cold)
			reader_forget(f.reader, f.obj);
		r[i] = run();
	}
	qsort(r, rounds, sizeof(r[0]), cmp);
	reader_stats(f.reader, &st);
	printf("%-44s %6.2f GB/s  [%.2f-%.2f]  one decode %.2f\n", what, r[rounds / 2], r[0],
	       r[rounds - 1], st.decode_Bps / 1e9);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	uint64_t mib = argc > 1 ? strtoull(argv[1], NULL, 10) : 512;
	uint32_t chunk = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) << 10 : 1u << 20;
	unsigned rounds = argc > 3 ? (unsigned)strtoul(argv[3], NULL, 10) : 7;
	struct tobj_part part = { .len = mib << 20, .chunk_bytes = chunk, .codec = CODEC_PLANES_HUF,
				  .elem = ELEM_BF16 };
	const struct reading_config c = { .tier = argc > 4 ? RTIER_MEM : RTIER_SSD, .threads = 2,
					  .parts = &part, .n_parts = 1, .budget_bytes = 8ull << 30 };

	rounds = rounds < 1 ? 1 : rounds > 64 ? 64 : rounds;
	reading_create(&f, &c);
	dst = mmap(NULL, f.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(dst != MAP_FAILED);
	(void)madvise(dst, f.size, MADV_HUGEPAGE);
	memset(dst, 1, f.size);
	printf("%llu MiB of bf16 in chunks of %u KiB, stored %.3f\n", (unsigned long long)mib,
	       chunk >> 10, (double)f.obj->stored_bytes / (double)f.size);
	measure("memcpy DRAM -> warm 1 MiB", copy_1m, rounds, false);
	measure("memcpy DRAM -> DRAM", copy_all, rounds, false);
	measure("SSD alone (stored bytes)", device_only, rounds, false);
	measure("SSD huf, 1 MiB requests", stream_plain, rounds, true);
	measure("SSD huf, 1 MiB requests, copied", stream_copy, rounds, true);
	measure("SSD huf, decode_all", whole, rounds, true);
	reading_replica(&f, 0, UINT32_MAX);
	printf("replica %.3f\n", (double)replica_bytes(f.rep) / (double)f.size);
	measure("replica fix, verify only", check_only, rounds, false);
	measure("replica fix, 1 MiB requests", stream_plain, rounds, true);
	measure("replica fix, 1 MiB requests, copied", stream_copy, rounds, true);
	measure("replica fix, decode_all", whole, rounds, true);
	munmap(dst, f.size);
	reading_destroy(&f);
	return 0;
}
