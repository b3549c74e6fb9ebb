/* SPDX-License-Identifier: MIT */
/* What reader_read, reader_copy and reader_decode_all promise, over each tier. */
#include "store/read.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "codecs/codec.h"
#include "reading.h"
#include "testlib.h"

static const struct reading_config kinds[] = {
	{ .tier = RTIER_MEM, .threads = 2 },
	{ .tier = RTIER_MEM, .threads = 0 }, /* the serial twin */
	{ .tier = RTIER_SSD, .threads = 2 },
	{ .tier = RTIER_MEM, .threads = 1, .budget_bytes = 40u << 20, .window_bytes = 1u << 20 },
	{ .tier = RTIER_MEM, .threads = 2, .budget_bytes = 12u << 20, .window_bytes = 1u << 20 },
};
#define BAD 7u /* the chunk that is damaged: behind the first MiB */
#define N_KINDS (sizeof(kinds) / sizeof(kinds[0]))

static void read_everywhere(struct reading *f)
{
	struct read_state rs = { 0 };
	uint64_t seed = 1, size = f->size;
	size_t good;

	/* in a row, in sizes that fall on and off chunk borders */
	for (unsigned step = 0; step < 3; step++) {
		size_t len = (size_t[]) { 1u << 20, 131072, 65537 }[step];

		memset(&rs, 0, sizeof(rs));
		for (uint64_t off = 0; off < size; off += len)
			CHECK_EQ(reading_check(f, &rs, off, len, size, NULL), 0);
		CHECK_EQ(rs.total, size);
	}
	for (unsigned i = 0, n = test_rounds(600); i < n; i++) {
		uint64_t off = test_rand(&seed) % size;
		size_t len = (size_t)(test_rand(&seed) % (i & 1 ? 1u << 20 : 5000)) + 1;
		uint64_t cut = i % 5 == 0 ? off + len / 2 : size; /* EOF within the request */

		cut = cut < size ? cut : size;
		CHECK_EQ(reading_check(f, &rs, off, len, cut, NULL), 0);
	}
	/* at and behind the end; a file longer than the object */
	CHECK_EQ(reading_check(f, &rs, size, 10, size, &good), 0);
	CHECK_EQ(good, 0);
	CHECK_EQ(reading_check(f, &rs, size - 5, 10000, size + 70, &good), 0);
	CHECK_EQ(good, 75);
	CHECK_EQ(reading_check(f, &rs, size + 10, 3u << 20, size + (4u << 20), &good), 0);
	CHECK_EQ(good, 3u << 20);
	/* truncated: zeros from valid_bytes on */
	f->src.valid_bytes = size / 2 + 13;
	CHECK_EQ(reading_check(f, &rs, size / 2 - 100000, 400000, size, NULL), 0);
	CHECK_EQ(reading_check(f, &rs, 0, size, size, NULL), 0);
	f->src.valid_bytes = UINT64_MAX;
}

static void copy_and_decode_all(struct reading *f)
{
	uint64_t seed = 5, sizes[] = { f->size, f->size - 12345, f->size + 9999, 1, 0 };
	uint8_t *buf = malloc(f->size + 20000);

	CHECK(buf);
	for (unsigned i = 0, n = test_rounds(50); i < n; i++) {
		uint64_t off = test_rand(&seed) % f->size;
		size_t len = (size_t)(test_rand(&seed) % (f->size - off));

		CHECK_EQ(reader_copy(f->reader, &f->src, off, buf, len), 0);
		CHECK(!memcmp(buf, f->data + off, len));
	}
	CHECK_EQ(reader_copy(f->reader, &f->src, f->size - 3, buf, 10), 0);
	CHECK(!memcmp(buf + 3, "\0\0\0\0\0\0", 7));
	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		uint64_t n = sizes[i] < f->size ? sizes[i] : f->size;

		memset(buf, 0xa5, f->size + 20000);
		CHECK_EQ(reader_decode_all(f->reader, &f->src, buf, sizes[i], NULL), 0);
		CHECK(!memcmp(buf, f->data, n));
		for (uint64_t k = n; k < sizes[i]; k++)
			CHECK(buf[k] == 0);
		CHECK(buf[sizes[i]] == 0xa5);
	}
	f->src.valid_bytes = f->size / 3;
	CHECK_EQ(reader_decode_all(f->reader, &f->src, buf, f->size, NULL), 0);
	CHECK(!memcmp(buf, f->data, f->size / 3));
	for (uint64_t k = f->size / 3; k < f->size; k++)
		CHECK(buf[k] == 0);
	f->src.valid_bytes = UINT64_MAX;
	free(buf);
}

/* Whoever need not be fast gets the same bytes. */
static void paces(struct reading *f)
{
	_Atomic bool stop = true;
	struct read_pace pace = { .cancel = &stop };
	uint8_t *buf = malloc(f->size);

	CHECK(buf != NULL);
	CHECK_EQ(reader_decode_all(f->reader, &f->src, buf, f->size, &pace), -KVFS_ECANCELED);
	pace = (struct read_pace){ .alone = true };
	CHECK_EQ(reader_decode_all(f->reader, &f->src, buf, f->size, &pace), 0);
	CHECK(!memcmp(buf, f->data, f->size));
	pace.cancel = &stop;
	CHECK_EQ(reader_decode_all(f->reader, &f->src, buf, f->size, &pace), -KVFS_ECANCELED);
	free(buf);
}

/* From the device, from a partial and from a complete replica. */
static void ranges(const struct reading_config *c)
{
	struct reading f;

	reading_create(&f, c);
	read_everywhere(&f);
	copy_and_decode_all(&f);
	paces(&f);
	reading_replica(&f, 2, 9);
	CHECK(!replica_complete(f.rep));
	reader_forget(f.reader, f.obj);
	read_everywhere(&f);
	copy_and_decode_all(&f);
	paces(&f);
	if (!c->budget_bytes) {
		reading_replica(&f, 0, 2);
		reading_replica(&f, 9, UINT32_MAX);
		CHECK(replica_complete(f.rep));
		CHECK(replica_bytes(f.rep) > 0);
		reader_forget(f.reader, f.obj);
		read_everywhere(&f);
		copy_and_decode_all(&f);
		paces(&f);
	}
	reading_destroy(&f);
}

/* Damage is an error at its chunk, everything in front of it is delivered. */
static void damage(unsigned threads)
{
	struct reading_config c = { .tier = RTIER_MEM, .threads = threads };
	struct reading f;
	struct read_state rs = { 0 };
	struct reader_stats st;
	uint64_t at, off, end;
	size_t good;
	uint8_t *buf;

	reading_create(&f, &c);
	at = reading_stored_at(&f, BAD) + 1000;
	reading_destroy(&f);
	c.flip_at = at;
	reading_create(&f, &c);
	off = f.obj->chunks[BAD].off_bytes;
	end = off + f.obj->chunks[BAD].len_bytes;
	CHECK_EQ(reading_check(&f, &rs, 0, 1u << 20, f.size, &good), 0);
	CHECK_EQ(reading_check(&f, &rs, off - 70000, 400000, f.size, &good), -KVFS_ECHECKSUM);
	CHECK_EQ(good, 70000);
	for (unsigned i = 0; i < 3; i++) /* not cached as good, nor as bad for others */
		CHECK_EQ(reading_check(&f, &rs, off + i, 10, f.size, &good), -KVFS_ECHECKSUM);
	CHECK_EQ(reading_check(&f, &rs, end, f.size - end, f.size, &good), 0);
	reader_stats(f.reader, &st);
	CHECK(st.checksum_errors >= 2);
	CHECK((buf = malloc(f.size)) != NULL);
	CHECK_EQ(reader_copy(f.reader, &f.src, off - 10, buf, 20), -KVFS_ECHECKSUM);
	CHECK_EQ(reader_decode_all(f.reader, &f.src, buf, f.size, NULL), -KVFS_ECHECKSUM);
	/* a replica that has the chunk heals it */
	reading_replica(&f, BAD, BAD + 1);
	CHECK_EQ(reading_check(&f, &rs, 0, f.size, f.size, NULL), 0);
	CHECK_EQ(reader_decode_all(f.reader, &f.src, buf, f.size, NULL), 0);
	CHECK(!memcmp(buf, f.data, f.size));
	/* but not for who asks for the object's own, nor in the window's eyes */
	for (uint32_t i = 0; i < f.obj->n_chunks; i++) {
		memset(buf, 0xa5, f.obj->chunks[i].len_bytes);
		CHECK_EQ(reader_verify(f.reader, f.obj, i, 1, buf), i == BAD ? -KVFS_ECHECKSUM : 0);
	}
	CHECK_EQ(reading_check(&f, &rs, 0, f.size, f.size, NULL), 0);
	free(buf);
	reading_destroy(&f);
}

static void flip_replica(struct reading *f, uint32_t first, uint32_t step)
{
	for (uint32_t i = first; i < f->obj->n_chunks; i += step) {
		struct replica_form form;

		CHECK(replica_find(f->rep, i, &form));
		if (form.in[0].len)
			((uint8_t *)(uintptr_t)form.in[0].buf)[form.in[0].len / 2] ^= 1;
	}
}

/* A damaged replica is passed over while the object is good. */
static void damaged_replica(void)
{
	struct reading_config c = { .tier = RTIER_MEM, .threads = 2 };
	struct reading f;
	struct read_state rs = { 0 };
	struct reader_stats st;
	uint64_t errors;
	uint8_t *buf;

	reading_create(&f, &c);
	reading_replica(&f, 0, UINT32_MAX);
	flip_replica(&f, 1, 2);
	CHECK_EQ(reading_check(&f, &rs, 0, f.size, f.size, NULL), 0);
	CHECK(replica_complete(f.rep)); /* nobody tries to add what is bad */
	reader_stats(f.reader, &st);
	CHECK((errors = st.checksum_errors) > 0);
	reader_forget(f.reader, f.obj);
	CHECK_EQ(reading_check(&f, &rs, 0, f.size, f.size, NULL), 0);
	reader_stats(f.reader, &st);
	CHECK_EQ(st.checksum_errors, errors); /* known by now */
	CHECK((buf = malloc(f.size)) != NULL);
	reader_forget(f.reader, f.obj);
	CHECK_EQ(reader_decode_all(f.reader, &f.src, buf, f.size, NULL), 0);
	CHECK(!memcmp(buf, f.data, f.size));
	free(buf);
	reading_destroy(&f);
}

/* A load of a damaged replica that another reader began is not the file's damage. */
static void joined_damaged_replica(void)
{
	static const struct tobj_part parts[] = {
		{ .len = 1u << 20, .chunk_bytes = 100003, .codec = CODEC_LZ4 },
	};
	struct reading_config c = { .tier = RTIER_MEM, .parts = parts, .n_parts = 1 };
	struct read_state rs = { 0 };
	struct reader_stats st;
	struct reading f;
	uint8_t *buf;

	reading_create(&f, &c);
	reading_replica(&f, 0, UINT32_MAX);
	flip_replica(&f, 2, 1);
	/* the serial twin: what is read ahead stays in the queue */
	CHECK_EQ(reading_check(&f, &rs, 0, 100003, f.size, NULL), 0);
	CHECK_EQ(reading_check(&f, &rs, 100003, 100003, f.size, NULL), 0);
	f.src.rep = NULL; /* dropped meanwhile */
	CHECK((buf = malloc(f.size)) != NULL);
	CHECK_EQ(reader_copy(f.reader, &f.src, 200006, buf, f.size - 200006), 0);
	CHECK(!memcmp(buf, f.data + 200006, f.size - 200006));
	reader_stats(f.reader, &st);
	CHECK(st.joined > 0 && st.checksum_errors > 0);
	free(buf);
	reading_destroy(&f);
}

/* Pins survive forget and shrink; a file cut short is an error. */
static void forget_while_pinned(void)
{
	struct reading_config c = { .tier = RTIER_MEM, .threads = 2 };
	struct reading f;
	struct read_state rs = { 0 };
	struct read_reply ret = { .scratch_len = 1u << 20 };

	reading_create(&f, &c);
	CHECK((ret.scratch = malloc(ret.scratch_len)) != NULL);
	CHECK_EQ(reader_read(f.reader, &f.src, &rs, 300000, 1u << 20, f.size, &ret), 0);
	CHECK(ret.n_pins > 0);
	reader_forget(f.reader, f.obj);
	reader_shrink(f.reader, UINT64_MAX);
	for (uint64_t i = 1, pos = 300000; i <= ret.n; pos += ret.iov[i++].iov_len)
		CHECK(!memcmp(ret.iov[i].iov_base, f.data + pos, ret.iov[i].iov_len));
	CHECK_EQ(reading_check(&f, &rs, 300000, 100, f.size, NULL), 0);
	reader_done(f.reader, &ret);
	reader_forget(f.reader, f.obj);
	free(ret.scratch);
	reading_destroy(&f);
}

/* A window as small as it may be: long requests over many chunks still work. */
static void tiny_window(void)
{
	const struct tobj_part parts[] = {
		{ .len = 24u << 20, .chunk_bytes = 3u << 20, .codec = CODEC_PLANES_HUF, .elem = ELEM_BF16 },
		{ .len = 200, .chunk_bytes = 1, .codec = CODEC_RAW },
	};
	struct reading_config c = { .tier = RTIER_MEM, .threads = 1, .budget_bytes = 30u << 20,
				    .window_bytes = 1, .parts = parts, .n_parts = 2 };
	struct reading f;
	struct read_state rs = { 0 };

	reading_create(&f, &c);
	CHECK_EQ(reading_check(&f, &rs, 0, f.size, f.size, NULL), 0);
	CHECK_EQ(reading_check(&f, &rs, 1u << 20, 1u << 20, f.size, NULL), 0);
	CHECK_EQ(reading_check(&f, &rs, 2u << 20, 20u << 20, f.size, NULL), 0);
	reading_destroy(&f);
}

/* Chunks of one size fill the window, then those of another are wanted: buffers
 * share slabs, and a reader must not wait for parts of one that nobody gives back. */
static void sizes_in_turn(void)
{
	const uint64_t some = 48u << 20;
	const struct tobj_part parts[] = {
		{ .len = some, .chunk_bytes = 700u << 10, .codec = CODEC_RAW },
		{ .len = some, .chunk_bytes = 1000u << 10, .codec = CODEC_RAW },
	};
	struct reading_config c = { .tier = RTIER_MEM, .threads = 1, .window_bytes = 40u << 20,
				    .parts = parts, .n_parts = 2 };
	struct reading f;
	struct read_state rs = { 0 };

	reading_create(&f, &c);
	/* pieces, so that what is decoded stays in the window */
	for (uint64_t off = 0; off + (32u << 10) < f.size; off += 300u << 10)
		CHECK_EQ(reading_check(&f, &rs, off, 32u << 10, f.size, NULL), 0);
	reading_destroy(&f);
}

/* ---- levels --------------------------------------------------------------- */

static const struct tobj_part in_layers[] = {
	{ .len = 1003, .chunk_bytes = 4096, .codec = CODEC_RAW },
	{ .len = 2u << 20, .chunk_bytes = 256u << 10, .codec = CODEC_LADDER_HUF, .elem = ELEM_BF16 },
	{ .len = 700u << 10, .chunk_bytes = 1u << 30, .codec = CODEC_HOLE },
	{ .len = 300001, .chunk_bytes = 100003, .codec = CODEC_LZ4 },
};

struct stored {
	unsigned codec, n;
	size_t len[CODEC_LAYERS_MAX];
	uint8_t *p[CODEC_LAYERS_MAX];
};

static int take_stored(void *arg, unsigned codec, const struct codec_in in[], unsigned n)
{
	struct stored *s = arg;

	s->codec = codec;
	s->n = n;
	for (unsigned i = 0; i < n; i++) {
		s->len[i] = in[i].len;
		CHECK((s->p[i] = malloc(in[i].len + 1)) != NULL);
		memcpy(s->p[i], in[i].buf, in[i].len);
	}
	return 0;
}

static void stored_of(struct reading *f, uint32_t chunk, struct codec_in in[], struct stored *s)
{
	CHECK_EQ(reader_stored(f->reader, f->obj, chunk, 0, CODEC_LAYERS_MAX, take_stored, s), 0);
	for (unsigned i = 0; i < s->n; i++)
		in[i] = (struct codec_in) { s->p[i], s->len[i] };
}

static void stored_free(struct stored *s)
{
	for (unsigned i = 0; i < s->n; i++)
		free(s->p[i]);
}

/* What the file reads at @n layers, by the codec alone. */
static void fill_level(struct reading *f, unsigned n, uint8_t *dst)
{
	struct codec_ctx *cc;

	CHECK_EQ(codec_ctx_create(CODEC_SIMD_PORTABLE, &cc), 0);
	memset(dst, 0, f->size);
	for (uint32_t i = 0; i < f->obj->n_chunks; i++) {
		const struct object_chunk *c = &f->obj->chunks[i];
		struct codec_in in[CODEC_LAYERS_MAX];
		struct stored s = { .n = 0 };

		if (f->obj->layers[c->first_layer].codec == CODEC_HOLE)
			continue;
		stored_of(f, i, in, &s);
		CHECK_EQ(codec_decode(cc, s.codec, &c->shape, in, n < s.n ? n : s.n,
				      dst + c->off_bytes, c->len_bytes, 0), 0);
		stored_free(&s);
	}
	codec_ctx_destroy(cc);
}

/* Bytes of the index that layers [first, n) of all chunks are, as the device reads them. */
static uint64_t device_bytes(const struct object *o, unsigned first, unsigned n)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < o->n_chunks; i++) {
		const struct object_chunk *c = &o->chunks[i];

		for (unsigned l = c->n_layers > 1 ? first : 0; l < n && l < c->n_layers; l++) {
			const struct object_layer *x = &o->layers[c->first_layer + l];

			if (x->codec != CODEC_HOLE)
				sum += (x->off_bytes + x->len_bytes + 4095) / 4096 * 4096 -
				       x->off_bytes / 4096 * 4096;
		}
	}
	return sum;
}

static uint64_t fetched(struct reading *f)
{
	struct reader_stats st;

	reader_stats(f->reader, &st);
	return st.fetched_bytes;
}

/* Everything at @n layers, read and decoded at once, when @m come from the replica. */
static void read_level(struct reading *f, unsigned n, unsigned m)
{
	uint64_t want = device_bytes(f->obj, m, n), was;
	struct read_state rs = { 0 };
	uint8_t *all = malloc(f->size);

	CHECK(all);
	f->src.n_layers = n;
	reader_forget(f->reader, f->obj);
	was = fetched(f);
	for (uint64_t off = 0; off < f->size; off += 131072)
		CHECK_EQ(reading_check(f, &rs, off, 131072, f->size, NULL), 0);
	CHECK_EQ(fetched(f) - was, want);
	CHECK_EQ(reader_decode_all(f->reader, &f->src, all, f->size, NULL), 0);
	CHECK_EQ(fetched(f) - was, 2 * want);
	CHECK(!memcmp(all, f->data, f->size));
	free(all);
}

/* A replica of the first @m layers of each chunk, the first in the form for DRAM. */
static void replicate(struct reading *f, unsigned m)
{
	uint8_t *twin = malloc(CODEC_CHUNK_MAX);
	struct codec_ctx *cc;

	CHECK(twin);
	CHECK_EQ(codec_ctx_create(CODEC_SIMD_BEST, &cc), 0);
	CHECK_EQ(replica_create(f->arena, f->obj, &f->rep), 0);
	for (uint32_t i = 0; i < f->obj->n_chunks; i++) {
		const struct object_chunk *c = &f->obj->chunks[i];
		struct codec_out out = { twin, CODEC_CHUNK_MAX, 0 };
		struct codec_in in[CODEC_LAYERS_MAX];
		struct stored s = { .n = 0 };

		if (c->n_layers == 1)
			continue;
		stored_of(f, i, in, &s);
		CHECK_EQ(codec_by_id(s.codec)->transcode(cc, &c->shape, s.p[0], s.len[0],
							 c->len_bytes, &out), 0);
		in[0] = (struct codec_in) { out.buf, out.len };
		CHECK_EQ(replica_add_layers(f->rep, i, codec_by_id(s.codec)->twin, in,
					    m < s.n ? m : s.n), 0);
		stored_free(&s);
	}
	codec_ctx_destroy(cc);
	free(twin);
	f->src.rep = f->rep;
}

/* Each level is what the codec makes of its layers, and costs their bytes, less what
 * memory has. */
static void levels(unsigned threads)
{
	const struct reading_config c = { .tier = RTIER_MEM, .threads = threads, .layered = true,
					  .parts = in_layers, .n_parts = 4 };
	uint8_t *exact, *level;
	struct reading f;
	unsigned max;

	reading_create(&f, &c);
	max = f.obj->n_layers_max;
	CHECK_EQ(max, CODEC_LADDER_LAYERS);
	exact = f.data;
	CHECK((level = malloc(f.size)) != NULL);
	for (unsigned n = 1; n <= max; n++) {
		fill_level(&f, n, level);
		CHECK((memcmp(level, exact, f.size) == 0) == (n == max));
		f.data = level;
		read_level(&f, n, 0);
		for (unsigned m = 1; m <= max; m++) {
			replicate(&f, m);
			read_level(&f, n, m);
			/* damage in it: all comes from the object */
			flip_replica(&f, 1, 1000);
			reader_forget(f.reader, f.obj);
			CHECK_EQ(reading_check(&f, &(struct read_state){ 0 }, 0, f.size, f.size, NULL), 0);
			f.src.rep = NULL;
			replica_put(f.rep);
			f.rep = NULL;
		}
	}
	f.data = exact;
	free(level);
	reading_destroy(&f);
}

/* Damage in a layer is nothing to levels below it. */
static void damaged_layer(void)
{
	struct reading_config c = { .tier = RTIER_MEM, .threads = 2, .layered = true,
				    .parts = in_layers, .n_parts = 4 };
	uint8_t *exact, *level, *buf;
	struct reading f;
	uint64_t at;

	reading_create(&f, &c);
	at = f.obj->layers[f.obj->chunks[3].first_layer + 2].off_bytes + 5;
	reading_destroy(&f);
	c.flip_at = at;
	reading_create(&f, &c);
	CHECK((level = malloc(f.size)) && (buf = malloc(f.size)));
	for (uint32_t i = 0; i < f.obj->n_chunks; i++)
		for (unsigned n = 1; n <= 4; n++)
			CHECK_EQ(reader_verify(f.reader, f.obj, i, n, buf),
				 i == 3 && n > 2 ? -KVFS_ECHECKSUM : 0);
	for (unsigned n = 1; n <= 2; n++) {
		memset(level, 0, f.size);
		f.src.n_layers = n;
		CHECK_EQ(reader_decode_all(f.reader, &f.src, level, f.size, NULL), 0);
		exact = f.data;
		f.data = level;
		CHECK_EQ(reading_check(&f, &(struct read_state){ 0 }, 0, f.size, f.size, NULL), 0);
		f.data = exact;
	}
	f.src.n_layers = 3;
	CHECK_EQ(reader_decode_all(f.reader, &f.src, level, f.size, NULL), -KVFS_ECHECKSUM);
	free(level);
	free(buf);
	reading_destroy(&f);
}

/* ---- injected faults ------------------------------------------------------ */

struct fault_case {
	struct reading *f;
	uint8_t *buf;
};

static int create_and_destroy(void *arg)
{
	struct reading *f = arg;
	struct reader_config rc = {
		.budget = &f->budget, .workers = f->workers, .ssd = f->tier,
		.window_bytes = 8u << 20, .buffer_bytes = 8u << 20, .ahead_chunks = 4,
	};
	uint64_t before = budget_used(&f->budget);
	struct reader *r;
	int err = reader_create(&rc, &r);

	if (!err)
		reader_destroy(r);
	CHECK_EQ(budget_used(&f->budget), before);
	return err;
}

static int read_all(void *arg)
{
	struct fault_case *c = arg;
	struct read_state rs = { 0 };
	size_t good;
	int err;

	reader_shrink(c->f->reader, UINT64_MAX); /* so that buffers are made anew */
	reader_forget(c->f->reader, c->f->obj);
	err = reading_check(c->f, &rs, 0, c->f->size, c->f->size, &good);
	CHECK(err || good == c->f->size);
	return err;
}

static int decode_all(void *arg)
{
	struct fault_case *c = arg;

	reader_shrink(c->f->reader, UINT64_MAX);
	reader_forget(c->f->reader, c->f->obj);
	return reader_decode_all(c->f->reader, &c->f->src, c->buf, c->f->size, NULL);
}

static int make_replica(void *arg)
{
	struct reading *f = arg;
	struct replica *rep;
	int err = replica_create(f->arena, f->obj, &rep);

	if (!err)
		err = replica_add(rep, 3, CODEC_RAW, f->data, 1000);
	else
		return err;
	CHECK_EQ(replica_bytes(rep), err ? 0 : 4096);
	replica_put(rep);
	return err;
}

static void faults(unsigned threads)
{
	static const struct tobj_part parts[] = {
		{ .len = 1u << 20, .chunk_bytes = 64u << 10, .codec = CODEC_PLANES_HUF, .elem = ELEM_BF16 },
		{ .len = 1u << 20, .chunk_bytes = 300u << 10, .codec = CODEC_ZSTD },
	};
	const struct reading_config c = { .tier = RTIER_MEM, .threads = threads, .parts = parts,
					  .n_parts = 2 };
	struct fault_case fc;
	struct reading f;

	reading_create(&f, &c);
	fc = (struct fault_case) { .f = &f, .buf = malloc(f.size) };
	CHECK(fc.buf);
	if (test_fault_loop(FAULT_ALLOC, create_and_destroy, &f) >= 0) {
		CHECK(test_fault_loop(FAULT_ALLOC, make_replica, &f) >= 2);
		CHECK(test_fault_loop(FAULT_READ, read_all, &fc) >= 20);
		CHECK(test_fault_loop(FAULT_READ, decode_all, &fc) >= 20);
		CHECK(test_fault_loop(FAULT_ALLOC, read_all, &fc) > 0);
		CHECK(test_fault_loop(FAULT_ALLOC, decode_all, &fc) > 0);
	}
	free(fc.buf);
	reading_destroy(&f);
}

int main(void)
{
#ifdef __SANITIZE_THREAD__
	const unsigned twins = 1; /* without threads there is no race to be found */
#else
	const unsigned twins = 2;
#endif

	for (unsigned i = 0; i < N_KINDS; i++)
		if (kinds[i].threads || twins > 1)
			ranges(&kinds[i]);
	for (unsigned i = 0; i < twins; i++) {
		damage(i ? 0 : 2);
		levels(i ? 0 : 2);
		faults(i ? 0 : 2);
	}
	damaged_replica();
	joined_damaged_replica();
	forget_while_pinned();
	tiny_window();
	sizes_in_turn();
	damaged_layer();
	return 0;
}
