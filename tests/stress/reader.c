/* SPDX-License-Identifier: MIT */
/* Many readers at once: one decode serves all, nothing deadlocks in a tiny
 * window, and evicting, forgetting and decoding whole files beside them changes
 * no byte. */
#include "store/read.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "codecs/codec.h"
#include "reading.h"
#include "testlib.h"

#define READERS 8

struct shared {
	struct reading *f;
	_Atomic bool stop;
	_Atomic unsigned ready, seeds;
	uint64_t run_ns;
};

static void *one_chunk(void *arg)
{
	struct shared *s = arg;
	struct read_state rs = { 0 };

	atomic_fetch_add(&s->ready, 1);
	CHECK_EQ(reading_check(s->f, &rs, 5000, 100000, s->f->size, NULL), 0);
	return NULL;
}

static void start(pthread_t t[], unsigned n, void *(*run)(void *), void *arg)
{
	for (unsigned i = 0; i < n; i++)
		CHECK(pthread_create(&t[i], NULL, run, arg) == 0);
}

static void join(pthread_t t[], unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		CHECK(pthread_join(t[i], NULL) == 0);
}

/* All readers of a chunk share one fetch and one decode. */
static void one_decode_serves_all(bool replica)
{
	const struct tobj_part part = { .len = 1u << 20, .chunk_bytes = 1u << 20,
					.codec = CODEC_PLANES_HUF, .elem = ELEM_BF16 };
	const struct reading_config c = { .tier = RTIER_MANUAL, .threads = 2, .parts = &part,
					  .n_parts = 1 };
	struct reader_stats st;
	pthread_t t[READERS];
	struct reading f;
	struct shared s = { .f = &f };

	reading_create(&f, &c);
	if (replica)
		reading_replica(&f, 0, 1);
	start(t, READERS, one_chunk, &s);
	while (atomic_load(&s.ready) < READERS)
		sched_yield();
	usleep(20000);
	while (!replica && tier_mem_step(f.tier, false))
		;
	join(t, READERS);
	reader_stats(f.reader, &st);
	CHECK_EQ(st.decodes, 1);
	CHECK_EQ(st.fetches, replica ? 0 : 1);
	CHECK_EQ(st.window_hits + st.joined, READERS - 1);
	reading_destroy(&f);
}

static void *read_about(void *arg)
{
	struct shared *s = arg;
	uint64_t seed = atomic_fetch_add(&s->seeds, 1), until = clock_mono_ns() + s->run_ns;
	struct read_state rs = { 0 };
	uint64_t off = 0;

	while (clock_mono_ns() < until) {
		uint64_t x = test_rand(&seed);

		if (x % 16 == 0)
			off = test_rand(&seed) % s->f->size;
		CHECK_EQ(reading_check(s->f, &rs, off, (size_t)(x >> 32) % (512u << 10) + 1,
				       s->f->size, NULL), 0);
		off = atomic_load(&rs.next_off) % s->f->size;
	}
	return NULL;
}

static void *disturb(void *arg)
{
	struct shared *s = arg;
	uint8_t *buf = malloc(s->f->size);
	uint64_t seed = 99;

	CHECK(buf);
	while (!atomic_load(&s->stop)) {
		switch (test_rand(&seed) % 4) {
		case 0:
			reader_forget(s->f->reader, s->f->obj);
			break;
		case 1:
			reader_shrink(s->f->reader, UINT64_MAX);
			break;
		case 2:
			CHECK_EQ(reader_decode_all(s->f->reader, &s->f->src, buf, s->f->size, NULL), 0);
			CHECK(!memcmp(buf, s->f->data, s->f->size));
			break;
		default:
			usleep(2000);
		}
	}
	free(buf);
	return NULL;
}

static void readers_and_disturbers(enum rtier tier, uint64_t budget, uint64_t window, bool replica)
{
	const struct reading_config c = { .tier = tier, .threads = 2, .budget_bytes = budget,
					  .window_bytes = window };
	pthread_t t[READERS], d;
	struct reading f;
	struct shared s = { .f = &f, .run_ns = 1200 * NSEC_PER_MSEC };

	reading_create(&f, &c);
	if (replica)
		reading_replica(&f, 3, 40);
	start(&d, 1, disturb, &s);
	start(t, READERS, read_about, &s);
	join(t, READERS);
	atomic_store(&s.stop, true);
	join(&d, 1);
	reading_destroy(&f);
}

/* A replica loses its owner's reference while readers hold theirs. */
static void *read_own_reference(void *arg)
{
	struct shared *s = arg;
	struct read_state rs = { 0 };

	while (!atomic_load(&s->stop)) {
		struct replica *rep = replica_get(s->f->rep);
		struct reading mine = {
			.reader = s->f->reader, .data = s->f->data, .size = s->f->size,
			.src = { .obj = s->f->obj, .rep = rep, .valid_bytes = UINT64_MAX, .n_layers = 1 },
		};

		CHECK_EQ(reading_check(&mine, &rs, 0, mine.size, mine.size, NULL), 0);
		replica_put(rep);
	}
	return NULL;
}

static void replica_filled_and_dropped_while_read(void)
{
	const struct reading_config c = { .tier = RTIER_MEM, .threads = 2 };
	pthread_t t[4];
	struct reading f;
	struct shared s = { .f = &f };

	reading_create(&f, &c);
	reading_replica(&f, 0, 0);
	start(t, 4, read_own_reference, &s);
	reading_replica(&f, 0, 300);
	reading_replica(&f, 300, UINT32_MAX);
	usleep(100000);
	atomic_store(&s.stop, true);
	join(t, 4);
	reading_destroy(&f);
}

static void *cancel_soon(void *arg)
{
	usleep(3000);
	atomic_store((_Atomic bool *)arg, true);
	return NULL;
}

static void cancelled_in_the_middle(void)
{
	const struct tobj_part part = { .len = 48u << 20, .chunk_bytes = 256u << 10,
					.codec = CODEC_PLANES_HUF, .elem = ELEM_BF16 };
	const struct reading_config c = { .tier = RTIER_SSD, .threads = 2, .parts = &part,
					  .n_parts = 1 };
	_Atomic bool cancel;
	const struct read_pace pace = { .cancel = &cancel };
	struct reading f;
	uint8_t *buf;

	reading_create(&f, &c);
	CHECK((buf = malloc(f.size)) != NULL);
	for (unsigned i = 0; i < 5; i++) {
		pthread_t t;
		int err;

		atomic_store(&cancel, false);
		start(&t, 1, cancel_soon, (void *)&cancel);
		err = reader_decode_all(f.reader, &f.src, buf, f.size, &pace);
		CHECK(err == -KVFS_ECANCELED || (err == 0 && !memcmp(buf, f.data, f.size)));
		join(&t, 1);
	}
	free(buf);
	reading_destroy(&f);
}

int main(void)
{
	one_decode_serves_all(false);
	one_decode_serves_all(true);
	readers_and_disturbers(RTIER_MEM, 0, 0, false);
	readers_and_disturbers(RTIER_SSD, 0, 0, true);
	readers_and_disturbers(RTIER_MEM, 36u << 20, 1, false);
	readers_and_disturbers(RTIER_MEM, 22u << 20, 0, false);
	replica_filled_and_dropped_while_read();
	cancelled_in_the_middle();
	return 0;
}
