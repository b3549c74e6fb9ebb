/* SPDX-License-Identifier: MIT */
/* Where a replica's chunks lie: in runs of huge pages, or each in its own extent. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "codecs/codec.h"
#include "store/replica.h"

#define BUDGET (256ull << 20)
#define CHUNKS 512u

static struct budget b;
static struct arena *a;
static struct object *o;

static struct object *object_of(uint32_t n, uint32_t len_bytes)
{
	struct object *x = mem_zalloc(sizeof(*x));

	cr_assert_not_null(x);
	x->refs = 1;
	x->fd = -1;
	x->n_chunks = n;
	x->budget = &b;
	x->chunks = mem_calloc(n, sizeof(*x->chunks));
	x->layers = mem_calloc(n, sizeof(*x->layers));
	for (uint32_t i = 0; i < n; i++) {
		x->chunks[i] = (struct object_chunk){ .off_bytes = (uint64_t)i * len_bytes,
						      .len_bytes = len_bytes, .first_layer = i,
						      .n_layers = 1 };
		x->layers[i].codec = CODEC_RAW;
	}
	return x;
}

static void setup(void)
{
	budget_init(&b, BUDGET);
	cr_assert_eq(arena_create(&b, BUDGET, &a), 0);
}

static void teardown(void)
{
	object_put(o);
	cr_assert_eq(arena_used(a), 0, "every run and extent is given back");
	arena_destroy(a);
	cr_assert_eq(budget_free(&b), BUDGET);
}

TestSuite(replica, .init = setup, .fini = teardown);

static void fill(uint8_t *p, size_t len, uint32_t i)
{
	memset(p, (int)(i * 37 + 1), len);
}

/* Adds until the budget is full; returns how many, all of which read back. */
static uint32_t add_all(struct replica *r, size_t (*len_of)(uint32_t i))
{
	static uint8_t buf[1u << 20];
	uint32_t n = 0;

	for (; n < o->n_chunks; n++) {
		fill(buf, len_of(n), n);
		if (replica_add(r, n, CODEC_RAW, buf, len_of(n)) != 0)
			break;
	}
	for (uint32_t i = 0; i < n; i++) {
		struct replica_form form;

		cr_assert(replica_find(r, i, &form));
		cr_assert_eq(form.n, 1);
		cr_assert_eq(form.in[0].len, len_of(i));
		cr_assert_eq((uintptr_t)form.in[0].buf % 64, 0);
		cr_assert_eq(replica_check(r, i, &form, 1), 0, "chunk %u", i);
	}
	return n;
}

static size_t all_lengths(uint32_t i)
{
	return 64 + i % 97 * 1024;
}

/* 64 bytes of a run's head and 63 chunks of 64 bytes reach just to a page's start. */
static size_t tiny(uint32_t i)
{
	return i % 63 == 62 ? 4096 : 64;
}

Test(replica, chunks_that_would_start_at_a_page)
{
	struct replica *r;

	o = object_of(CHUNKS, 64u << 10);
	cr_assert_eq(replica_create(a, o, &r), 0);
	cr_assert_eq(add_all(r, tiny), CHUNKS);
	replica_put(r);
}

Test(replica, all_lengths_read_back)
{
	struct replica *r;

	o = object_of(CHUNKS, 128u << 10);
	cr_assert_eq(replica_create(a, o, &r), 0);
	cr_assert_eq(add_all(r, all_lengths), CHUNKS);
	cr_assert_eq(replica_bytes(r), arena_used(a), "it says what it takes");
	cr_assert(replica_complete(r));
	replica_put(r);
}

static size_t whole(uint32_t i)
{
	(void)i;
	return 3 * (1u << 18);
}

Test(replica, a_full_budget_wastes_less_than_a_run)
{
	struct replica *r;
	uint32_t n;

	o = object_of(CHUNKS, 1u << 20);
	cr_assert_eq(replica_create(a, o, &r), 0);
	n = add_all(r, whole);
	cr_assert_lt(n, CHUNKS);
	cr_assert_gt(n * whole(0), BUDGET / 16 * 14, "%u chunks", n);
	cr_assert_geq(replica_wants(r, whole(0)), whole(0));
	replica_put(r);
}

Test(replica, small_files_take_no_run)
{
	struct replica *r;

	o = object_of(2, 96u << 10);
	cr_assert_eq(replica_create(a, o, &r), 0);
	cr_assert_eq(add_all(r, all_lengths), 2);
	cr_assert_leq(replica_bytes(r), 4 * 4096);
	replica_put(r);
}

/* Layers come back as they were, also a prefix of them, and damage is of its layer. */
Test(replica, layers_of_a_chunk)
{
	static uint8_t buf[4][3000];
	const struct codec_in in[4] = { { buf[0], 3000 }, { buf[1], 1 }, { buf[2], 0 },
					{ buf[3], 2999 } };
	struct replica_form form;
	struct replica *r;

	o = object_of(3, 64u << 10);
	cr_assert_eq(replica_create(a, o, &r), 0);
	cr_assert_eq(replica_layers(r), CODEC_LAYERS_MAX);
	replica_set_layers(r, 2, 10000);
	cr_assert_eq(replica_layers(r), 2);
	for (uint32_t i = 0; i < 4; i++)
		fill(buf[i], sizeof(buf[i]), i);
	cr_assert_eq(replica_add_layers(r, 0, CODEC_RAW, in, 4), 0);
	cr_assert_eq(replica_add_layers(r, 0, CODEC_RAW, in, 4), -EEXIST);
	cr_assert_eq(replica_add_layers(r, 1, CODEC_RAW, in, 2), 0);
	cr_assert_not(replica_find(r, 2, &form));
	for (uint32_t chunk = 0; chunk < 2; chunk++) {
		cr_assert(replica_find(r, chunk, &form));
		cr_assert_eq(form.n, chunk ? 2 : 4);
		for (unsigned i = 0; i < form.n; i++) {
			cr_assert_eq(form.in[i].len, in[i].len);
			cr_assert_eq((uintptr_t)form.in[i].buf % 64, 0);
			cr_assert(!memcmp(form.in[i].buf, in[i].buf, in[i].len));
			cr_assert_eq(replica_check(r, chunk, &form, i + 1), 0);
		}
	}
	cr_assert(replica_find(r, 0, &form));
	((uint8_t *)(uintptr_t)form.in[3].buf)[7] ^= 1;
	cr_assert_eq(replica_check(r, 0, &form, 3), 0);
	cr_assert_eq(replica_check(r, 0, &form, 4), -KVFS_ECHECKSUM);
	/* the table itself: nothing is looked for outside of the chunk */
	((uint64_t *)(uintptr_t)form.in[0].buf)[-5] = UINT64_MAX - 3;
	((uint64_t *)(uintptr_t)form.in[0].buf)[-7] = 60000;
	cr_assert(replica_find(r, 0, &form));
	cr_assert_eq(form.in[0].len, 0);
	cr_assert_eq(replica_check(r, 0, &form, 1), -KVFS_ECHECKSUM);
	replica_put(r);
}

/* Memory for upper layers is given up: the lower ones are what they were. */
Test(replica, trimmed_to_fewer_layers)
{
	static uint8_t src[3][3000];
	struct codec_in in[3];
	struct replica *r, *less;
	struct replica_form form;

	o = object_of(4, 1u << 16);
	cr_assert_eq(replica_create(a, o, &r), 0);
	for (unsigned l = 0; l < 3; l++) {
		fill(src[l], sizeof(src[l]), l);
		in[l] = (struct codec_in){ src[l], sizeof(src[l]) - l };
	}
	replica_set_layers(r, 3, 0);
	for (uint32_t i = 0; i < 4; i++) /* the last one has one layer, as opaque chunks do */
		cr_assert_eq(replica_add_layers(r, i, i < 3 ? CODEC_LADDER_FIX : CODEC_RAW, in,
						i < 3 ? 3 : 1), 0);
	cr_assert_eq(replica_trim(r, 2, &less), 0);
	cr_assert(replica_complete(less));
	cr_assert_eq(replica_layers(less), 2);
	for (uint32_t i = 0; i < 4; i++) {
		cr_assert(replica_find(less, i, &form));
		cr_assert_eq(form.n, i < 3 ? 2u : 1u);
		cr_assert_eq(form.codec, i < 3 ? CODEC_LADDER_FIX : CODEC_RAW);
		cr_assert_eq(replica_check(less, i, &form, form.n), 0);
		for (unsigned l = 0; l < form.n; l++)
			cr_assert_arr_eq(form.in[l].buf, src[l], form.in[l].len);
	}
	replica_put(less);
	replica_bad(r, 1);
	cr_assert_eq(replica_trim(r, 1, &less), -EAGAIN, "what is damaged is not copied");
	replica_put(r);
}
