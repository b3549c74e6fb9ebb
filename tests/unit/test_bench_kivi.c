// SPDX-License-Identifier: MIT
/* KIVI's codes as kvcachebench packs them: unpacked they are what kvlm's reference
 * quantiser says, and damaged ones are refused. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/hash.h"
#include "cache.h"
#include "placement_kivi.h"
#include "quant.h"

#define CELLS 587u /* a part, two groups of tokens and a rest */
#define LAYERS 3u
#define HEADS 2u
#define DIM 64u
#define ROW (HEADS * DIM)

/* Values of several sizes, one channel constant, one with large steps. */
static uint16_t value(uint32_t i)
{
	uint64_t h = hash_u64(i * 77 + 5);
	float x = ((float)(h & 0xffff) - 32768) / 8192;

	return f32_to_bf16(i % ROW == 3 ? 1.5f : i % ROW == 7 ? x * 1000 : x);
}

static uint8_t *make_file(size_t *ret_len)
{
	char path[] = "/tmp/bench_kivi-XXXXXX";
	uint16_t *t = malloc(CELLS * ROW * 2);
	int32_t ids[CELLS];
	struct cache_desc d = { .format = CACHE_LLAMA, .dtype = DTYPE_BF16, .n_layer = LAYERS,
				.n_kv_head = HEADS, .head_dim = DIM, .n_cells = CELLS,
				.n_tokens = CELLS, .tokens = ids, .pos = ids };
	struct cache_writer *w;
	struct msg m;
	int fd = mkstemp(path);
	uint8_t *p;
	FILE *f;

	for (int32_t i = 0; i < (int32_t)CELLS; i++)
		ids[i] = i;
	cr_assert(cache_writer_open(path, &d, &w, &m) == 0, "%s", m.text);
	for (uint32_t l = 0; l < LAYERS; l++)
		for (int v = 0; v < 2; v++) {
			for (uint32_t i = 0; i < CELLS * ROW; i++)
				t[i] = value(i + (2 * l + (uint32_t)v) * 10007);
			cr_assert(cache_writer_put(w, l, v, t, &m) == 0);
		}
	*ret_len = cache_writer_bytes(w);
	cr_assert(cache_writer_close(w, &m) == 0);
	p = malloc(*ret_len);
	f = fdopen(fd, "rb");
	cr_assert(fread(p, 1, *ret_len, f) == *ret_len);
	fclose(f);
	unlink(path);
	free(t);
	return p;
}

/* In place, as "kvlm quant" does. */
static void reference(uint8_t *file, size_t len, unsigned bits)
{
	struct quant q = { .kind = QUANT_KIVI, .bits = bits };
	float x[CELLS * ROW];
	struct cache *c;
	struct msg m;

	cr_assert(cache_parse(file, len, &c, &m) == 0, "%s", m.text);
	for (uint32_t l = 0; l < LAYERS; l++)
		for (int v = 0; v < 2; v++) {
			for (uint32_t t = 0; t < CELLS; t++)
				cache_get_row(c, l, v, t, x + t * ROW);
			quant_tensor(&q, x, CELLS, HEADS, DIM, v);
			dtype_from_f32(DTYPE_BF16, x, file + ((v ? c->v : c->k)[l] - file),
				       CELLS * ROW);
		}
	cache_free(c);
}

static void as_it_arrives(const uint8_t *packed, size_t packed_len, uint8_t *out, size_t len)
{
	uint8_t *arriving = calloc(1, packed_len);
	struct kivi_reading *k;
	size_t got;

	cr_assert(kivi_begin(arriving, out, len, &k) == 0);
	for (size_t at = 0; at < packed_len;) {
		size_t n = packed_len - at < 999 ? packed_len - at : 999;

		memcpy(arriving + at, packed + at, n);
		at += n;
		kivi_arrived(k, at);
	}
	cr_assert(kivi_end(k, packed_len, &got) == 0 && got == len);
	cr_assert(kivi_begin(packed, out, len, &k) == 0);
	kivi_arrived(k, packed_len / 2);
	cr_assert(kivi_end(k, packed_len - 1, &got) == -EBADMSG);
	cr_assert(kivi_begin(packed, out, len, &k) == 0);
	cr_assert(kivi_end(k, 0, &got) == -EBADMSG);
	free(arriving);
}

Test(bench_kivi, reads_as_the_reference_quantiser)
{
	for (unsigned bits = 2; bits <= 8; bits *= 2) {
		size_t len, packed_len, got;
		uint8_t *file = make_file(&len), *packed = malloc(kivi_bound(len));
		uint8_t *out = malloc(len);

		cr_assert(kivi_pack(file, len, bits, packed, &packed_len) == 0);
		cr_assert(packed_len <= kivi_bound(len));
		cr_assert(kivi_length(packed, packed_len, &got) == 0 && got == len);
		cr_assert(kivi_unpack(packed, packed_len, out, len) == 0);
		reference(file, len, bits);
		cr_assert(memcmp(out, file, len) == 0, "%u bits", bits);
		memset(out, 0, len);
		as_it_arrives(packed, packed_len, out, len);
		cr_assert(memcmp(out, file, len) == 0, "%u bits, as it arrives", bits);
		free(file);
		free(packed);
		free(out);
	}
}

Test(bench_kivi, refuses_what_is_cut_or_changed)
{
	size_t len, n;
	uint8_t *file = make_file(&len), *packed = malloc(kivi_bound(len)), *out = malloc(len);

	cr_assert(kivi_pack(file, len, 3, packed, &n) == -EOPNOTSUPP);
	cr_assert(kivi_pack(file, len - 1, 4, packed, &n) < 0);
	cr_assert(kivi_pack(file, len, 4, packed, &n) == 0);
	for (size_t cut = 0; cut < n; cut += cut < 256 ? 1 : 997) {
		uint8_t *short_one = malloc(cut + 1); /* so that ASan sees its end */

		memcpy(short_one, packed, cut);
		cr_assert(kivi_unpack(short_one, cut, out, len) < 0, "cut to %zu", cut);
		free(short_one);
	}
	cr_assert(kivi_unpack(packed, n, out, len - 1) == -EBADMSG);
	for (size_t at = 0; at < 96; at++) {
		packed[at] ^= 0x40;
		/* counts, lengths and offsets; whatever it says, it stays within */
		(void)!kivi_unpack(packed, n, out, len);
		packed[at] ^= 0x40;
	}
	free(file);
	free(packed);
	free(out);
}
