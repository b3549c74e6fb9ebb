// SPDX-License-Identifier: MIT
/*
 * A packed file: a head, an entry for each tensor, the bytes of the file outside of
 * the tensors in order, then each tensor's ranges and codes. Within a row of n channels
 * a byte holds the codes of channels i, i + n/per, i + 2n/per ..., so that a row is
 * unpacked part by part with neighbouring bytes giving neighbouring values: loops that
 * a compiler turns into vector code, in a version for each kind of processor.
 */
#include "placement_kivi.h"

#include <errno.h>
#include <string.h>

#include "base/lock.h"
#include "base/mem.h"
#include "base/thread.h"
#include "cache.h"

#define MAGIC 0x315649564b42564bull /* "KVBKVIV1" */
#define GROUP 32u
#define ROW_MAX 8192u
#define TENSORS_MAX (1u << 17)

/* Versions are chosen before a sanitizer's runtime is ready. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && \
	!defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
#define VERSIONS __attribute__((target_clones("default", "avx2", "arch=skylake-avx512")))
#else
#define VERSIONS
#endif
#define ALWAYS static inline __attribute__((always_inline))

struct head {
	uint64_t magic, file_bytes;
	uint32_t tensors, cells, row, bits;
};
struct entry {
	uint64_t at_v; /* offset in the file; bit 63: V */
};
#define IS_V (1ull << 63)

static size_t range_count(const struct head *h, bool v)
{
	return v ? (size_t)h->cells * (h->row / GROUP)
		 : (size_t)((h->cells + GROUP - 1) / GROUP) * h->row;
}

static size_t code_bytes(const struct head *h)
{
	return (size_t)h->cells * h->row * h->bits / 8;
}

static size_t tensor_bytes(const struct head *h, bool v)
{
	return range_count(h, v) * 4 + code_bytes(h);
}

size_t kivi_bound(size_t len)
{
	return len + len / 4 + 4096; /* 8 bits and a range for each 32 values: 5/8 of it */
}

/* ---- rows -------------------------------------------------------------------- */

/* f16 to float by multiplying: right for all finite ones, subnormal ones too. */
ALWAYS float half_to_float(uint16_t h)
{
	float x = f32_from_bits((uint32_t)(h & 0x7fff) << 13) * 0x1p112f;

	return f32_from_bits(f32_bits(x) | (uint32_t)(h & 0x8000) << 16);
}

/* One row: codes, and a minimum and a step for each channel. */
ALWAYS void unpack_row(const uint8_t *codes, unsigned bits, uint32_t row, const float *lo,
			      const float *step, uint16_t *out)
{
	uint32_t part = row * bits / 8, mask = (1u << bits) - 1;

	for (uint32_t q = 0; q < 8 / bits; q++)
		for (uint32_t i = 0; i < part; i++) {
			uint32_t c = q * part + i;
			float x = lo[c] + step[c] * (float)(int)(codes[i] >> q * bits & mask);
			uint32_t u = f32_bits(x);

			out[c] = (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
		}
}

ALWAYS void pack_row(const uint16_t *in, unsigned bits, uint32_t row, const float *lo,
			    const float *step, uint8_t *codes)
{
	uint32_t part = row * bits / 8;
	float top = (float)((1u << bits) - 1);

	memset(codes, 0, part);
	for (uint32_t q = 0; q < 8 / bits; q++)
		for (uint32_t i = 0; i < part; i++) {
			uint32_t c = q * part + i;
			float x = bf16_to_f32(in[c]);
			float code = step[c] > 0 ? __builtin_rintf((x - lo[c]) / step[c]) : 0;

			code = code < 0 ? 0 : code > top ? top : code;
			codes[i] = (uint8_t)(codes[i] | (uint32_t)(int)code << q * bits);
		}
}

/* The ranges of one V row, spread over its channels. */
ALWAYS void spread(const uint16_t *ranges, uint32_t row, float *lo, float *step)
{
	for (uint32_t g = 0; g < row / GROUP; g++) {
		float a = half_to_float(ranges[2 * g]), b = half_to_float(ranges[2 * g + 1]);

		for (uint32_t i = 0; i < GROUP; i++) {
			lo[g * GROUP + i] = a;
			step[g * GROUP + i] = b;
		}
	}
}

/* ---- tensors: ranges first, [2][row] for each 32 tokens of K, [groups][2] for each
 *      token of V --------------------------------------------------------------- */

VERSIONS
static void unpack_k(const uint16_t *ranges, const uint8_t *codes, const struct head *h,
		     uint16_t *out)
{
	float lo[ROW_MAX], step[ROW_MAX];

	for (uint32_t t = 0; t < h->cells; t++) {
		if (t % GROUP == 0) {
			const uint16_t *r = ranges + (size_t)(t / GROUP) * 2 * h->row;

			for (uint32_t c = 0; c < h->row; c++) {
				lo[c] = half_to_float(r[c]);
				step[c] = half_to_float(r[h->row + c]);
			}
		}
		/* a constant number of bits: no shifts by a variable */
		if (h->bits == 4)
			unpack_row(codes, 4, h->row, lo, step, out);
		else if (h->bits == 2)
			unpack_row(codes, 2, h->row, lo, step, out);
		else
			unpack_row(codes, 8, h->row, lo, step, out);
		codes += h->row * h->bits / 8;
		out += h->row;
	}
}

VERSIONS
static void unpack_v(const uint16_t *ranges, const uint8_t *codes, const struct head *h,
		     uint16_t *out)
{
	float lo[ROW_MAX], step[ROW_MAX];

	for (uint32_t t = 0; t < h->cells; t++) {
		spread(ranges, h->row, lo, step);
		if (h->bits == 4)
			unpack_row(codes, 4, h->row, lo, step, out);
		else if (h->bits == 2)
			unpack_row(codes, 2, h->row, lo, step, out);
		else
			unpack_row(codes, 8, h->row, lo, step, out);
		ranges += h->row / GROUP * 2;
		codes += h->row * h->bits / 8;
		out += h->row;
	}
}

/* Minimum and step of one group, as f16 and as what that reads as. */
static void range_of(float *lo, float *hi_step, unsigned bits, uint16_t *ret_lo, uint16_t *ret_step)
{
	*ret_lo = f32_to_f16(*lo);
	*lo = half_to_float(*ret_lo);
	*ret_step = f32_to_f16((*hi_step - *lo) / (float)((1u << bits) - 1));
	*hi_step = half_to_float(*ret_step);
}

VERSIONS
static void pack_k(const uint16_t *in, const struct head *h, uint16_t *ranges, uint8_t *codes)
{
	float lo[ROW_MAX], hi[ROW_MAX];

	for (uint32_t t = 0; t < h->cells; t += GROUP) {
		uint32_t n = h->cells - t < GROUP ? h->cells - t : GROUP;

		for (uint32_t c = 0; c < h->row; c++)
			lo[c] = hi[c] = bf16_to_f32(in[c]);
		for (uint32_t i = 1; i < n; i++)
			for (uint32_t c = 0; c < h->row; c++) {
				float x = bf16_to_f32(in[(size_t)i * h->row + c]);

				lo[c] = x < lo[c] ? x : lo[c];
				hi[c] = x > hi[c] ? x : hi[c];
			}
		for (uint32_t c = 0; c < h->row; c++)
			range_of(&lo[c], &hi[c], h->bits, &ranges[c], &ranges[h->row + c]);
		for (uint32_t i = 0; i < n; i++) {
			pack_row(in, h->bits, h->row, lo, hi, codes);
			in += h->row;
			codes += h->row * h->bits / 8;
		}
		ranges += 2 * h->row;
	}
}

VERSIONS
static void pack_v(const uint16_t *in, const struct head *h, uint16_t *ranges, uint8_t *codes)
{
	float lo[ROW_MAX], hi[ROW_MAX];

	for (uint32_t t = 0; t < h->cells; t++) {
		for (uint32_t g = 0; g < h->row; g += GROUP) {
			float a = bf16_to_f32(in[g]), b = a;

			for (uint32_t i = 1; i < GROUP; i++) {
				float x = bf16_to_f32(in[g + i]);

				a = x < a ? x : a;
				b = x > b ? x : b;
			}
			range_of(&a, &b, h->bits, &ranges[g / GROUP * 2], &ranges[g / GROUP * 2 + 1]);
			for (uint32_t i = 0; i < GROUP; i++) {
				lo[g + i] = a;
				hi[g + i] = b;
			}
		}
		pack_row(in, h->bits, h->row, lo, hi, codes);
		ranges += h->row / GROUP * 2;
		codes += h->row * h->bits / 8;
		in += h->row;
	}
}

/* ---- files -------------------------------------------------------------------- */

/* Rows of the file need not be aligned: they go through @rows. */
static uint8_t *pack_tensor(const struct head *h, const uint8_t *at, bool v, uint16_t *rows,
			    uint16_t *ranges, uint8_t *out)
{
	size_t n = range_count(h, v) * 4;

	memcpy(rows, at, (size_t)h->cells * h->row * 2);
	(v ? pack_v : pack_k)(rows, h, ranges, out + n);
	memcpy(out, ranges, n);
	return out + n + code_bytes(h);
}

static int head_of(const struct cache *c, size_t len, unsigned bits, struct head *h)
{
	*h = (struct head){ .magic = MAGIC, .file_bytes = len, .tensors = 2 * c->n_layer,
			    .cells = c->n_cells, .row = c->row, .bits = bits };
	if (c->dtype != DTYPE_BF16 || c->v_trans || (bits != 2 && bits != 4 && bits != 8) ||
	    c->row % (GROUP * 8 / bits) || c->row > ROW_MAX || h->tensors > TENSORS_MAX)
		return -EOPNOTSUPP;
	return 0;
}

/* Head, entries, and what lies between the tensors; they come in the file's order. */
static uint8_t *pack_rest(const struct cache *c, const struct head *h, const uint8_t *file,
			  uint8_t *out)
{
	size_t each = (size_t)h->cells * h->row * 2, at = 0;

	memcpy(out, h, sizeof(*h));
	out += sizeof(*h);
	for (uint32_t i = 0; i < h->tensors; i++) {
		const uint8_t *t = i < c->n_layer ? c->k[i] : c->v[i - c->n_layer];
		struct entry e = { (uint64_t)(t - file) | (i < c->n_layer ? 0 : IS_V) };

		memcpy(out, &e, sizeof(e));
		out += sizeof(e);
	}
	for (uint32_t i = 0; i <= h->tensors; i++) {
		const uint8_t *t = i == h->tensors ? file + h->file_bytes
				   : i < c->n_layer ? c->k[i] : c->v[i - c->n_layer];
		size_t n = (size_t)(t - file) - at;

		memcpy(out, file + at, n);
		out += n;
		at += n + each;
	}
	return out;
}

int kivi_pack(const void *file, size_t len, unsigned bits, void *out, size_t *ret_len)
{
	uint16_t *rows = NULL, *ranges = NULL;
	struct msg m;
	struct cache *c;
	struct head h;
	uint8_t *p;
	int r = cache_parse(file, len, &c, &m);

	if (r < 0)
		return r;
	r = c->format == CACHE_LLAMA ? head_of(c, len, bits, &h) : -EOPNOTSUPP;
	if (r == 0) {
		rows = mem_alloc((size_t)h.cells * h.row * 2 + 1);
		ranges = mem_alloc((range_count(&h, true) + range_count(&h, false)) * 4 + 1);
		r = rows && ranges ? 0 : -ENOMEM;
	}
	if (r == 0) {
		p = pack_rest(c, &h, file, out);
		for (uint32_t i = 0; i < h.tensors; i++) {
			bool v = i >= c->n_layer;

			p = pack_tensor(&h, v ? c->v[i - c->n_layer] : c->k[i], v, rows, ranges, p);
		}
		*ret_len = (size_t)(p - (uint8_t *)out);
	}
	mem_free(rows);
	mem_free(ranges);
	cache_free(c);
	return r;
}

static int head_read(const void *packed, size_t len, struct head *h)
{
	if (len < sizeof(*h))
		return -EBADMSG;
	memcpy(h, packed, sizeof(*h));
	if (h->magic != MAGIC || h->file_bytes > 1ull << 40 || h->tensors > TENSORS_MAX ||
	    (h->bits != 2 && h->bits != 4 && h->bits != 8) || h->row == 0 || h->row > ROW_MAX ||
	    h->row % (GROUP * 8 / h->bits) || h->cells > 1u << 24)
		return -EBADMSG;
	return 0;
}

int kivi_length(const void *packed, size_t len, size_t *ret_len)
{
	struct head h;
	int r = head_read(packed, len, &h);

	if (r == 0)
		*ret_len = h.file_bytes;
	return r;
}

/* ---- unpacking: part by part, as it arrives ------------------------------------- */

#define PART 512u /* cells, of one tensor: whole groups, within a core's cache */

struct kivi_reading {
	const uint8_t *packed;
	uint8_t *out;
	size_t cap;
	struct lock lock;
	struct cond more;
	size_t have GUARDED;   /* of @packed */
	bool ended GUARDED;    /* that is all */
	int err GUARDED;
	struct head h GUARDED; /* known once tensors_at is */
	size_t tensors_at GUARDED; /* in packed; 0: what comes before them is not there yet */
	/* the next part */
	uint32_t tensor GUARDED, cell GUARDED;
	size_t at GUARDED;     /* of its tensor, in packed */
	pthread_t thread;
	bool started;
};

struct part {
	struct head h; /* of that many cells */
	size_t ranges, codes, out, needs; /* offsets; bytes of packed up to its end */
	bool v;
};

static struct entry entry_of(const struct kivi_reading *k, uint32_t tensor)
{
	struct entry e;

	memcpy(&e, k->packed + sizeof(struct head) + tensor * sizeof(e), sizeof(e));
	return e;
}

/* What lies between the tensors. */
static int unpack_rest(struct kivi_reading *k, size_t from) REQUIRES(k->lock)
{
	size_t each = (size_t)k->h.cells * k->h.row * 2;
	uint64_t at = 0;

	for (uint32_t i = 0; i <= k->h.tensors; i++) {
		bool last = i == k->h.tensors;
		uint64_t to = last ? k->h.file_bytes : entry_of(k, i).at_v & ~IS_V;

		if (to < at || to > k->h.file_bytes || to - at > k->tensors_at - from ||
		    (!last && each > k->h.file_bytes - to))
			return -EBADMSG;
		memcpy(k->out + at, k->packed + from, to - at);
		from += to - at;
		at = to + (last ? 0 : each);
	}
	return 0;
}

/* The head and what follows it, when it has arrived. */
static int unpack_head(struct kivi_reading *k) REQUIRES(k->lock)
{
	size_t each, rest;
	int r;

	if (k->have < sizeof(k->h))
		return -EAGAIN;
	r = head_read(k->packed, k->have, &k->h);
	if (r < 0)
		return r;
	each = (size_t)k->h.cells * k->h.row * 2;
	if (k->h.file_bytes > k->cap || (each && k->h.tensors > k->h.file_bytes / each))
		return -EBADMSG;
	rest = sizeof(k->h) + k->h.tensors * sizeof(struct entry);
	if (k->have < rest + k->h.file_bytes - k->h.tensors * each)
		return -EAGAIN;
	k->at = k->tensors_at = rest + k->h.file_bytes - k->h.tensors * each;
	return unpack_rest(k, rest);
}

/* The next part, and it is there. False: none is left, or it failed. */
static bool take(struct kivi_reading *k, struct part *ret) REQUIRES(k->lock)
{
	struct head *h = &k->h;
	struct entry e;

	while (!k->tensors_at && k->err == 0) {
		int r = unpack_head(k);

		if (r == -EAGAIN && !k->ended)
			cond_wait(&k->more, &k->lock);
		else if (r < 0)
			k->err = r == -EAGAIN ? -EBADMSG : r;
	}
	if (k->err < 0 || k->tensor == h->tensors)
		return false;
	e = entry_of(k, k->tensor);
	*ret = (struct part){ .h = *h, .v = (e.at_v & IS_V) != 0 };
	ret->h.cells = h->cells - k->cell < PART ? h->cells - k->cell : PART;
	ret->ranges = k->at + (ret->v ? (size_t)k->cell * (h->row / GROUP)
				      : (size_t)(k->cell / GROUP) * h->row) * 4;
	ret->codes = k->at + range_count(h, ret->v) * 4 + (size_t)k->cell * h->row * h->bits / 8;
	ret->needs = ret->codes + code_bytes(&ret->h);
	ret->out = (size_t)(e.at_v & ~IS_V) + (size_t)k->cell * h->row * 2;
	k->cell += ret->h.cells;
	if (k->cell == h->cells) {
		k->at += tensor_bytes(h, ret->v);
		k->cell = 0;
		k->tensor++;
	}
	while (k->have < ret->needs && !k->ended)
		cond_wait(&k->more, &k->lock);
	if (k->have < ret->needs)
		k->err = -EBADMSG;
	return k->err == 0;
}

/* Neither ranges nor the file's rows need be aligned. */
static int unpack_parts(struct kivi_reading *k)
{
	uint16_t *rows = NULL, *ranges = NULL;
	struct part p;
	int r = 0;

	for (;;) {
		bool go;

		lock_acquire(&k->lock);
		if (r < 0 && k->err == 0)
			k->err = r;
		go = take(k, &p);
		r = k->err;
		lock_release(&k->lock);
		if (!go)
			break;
		if (!rows) {
			rows = mem_alloc((size_t)PART * p.h.row * 2);
			ranges = mem_alloc((size_t)PART / GROUP * p.h.row * 4);
		}
		if (!rows || !ranges) {
			r = -ENOMEM;
			continue;
		}
		memcpy(ranges, k->packed + p.ranges, range_count(&p.h, p.v) * 4);
		(p.v ? unpack_v : unpack_k)(ranges, k->packed + p.codes, &p.h, rows);
		memcpy(k->out + p.out, rows, (size_t)p.h.cells * p.h.row * 2);
	}
	mem_free(rows);
	mem_free(ranges);
	return r;
}

static void *unpack_main(void *arg)
{
	(void)unpack_parts(arg); /* whoever ends it sees what came of it */
	return NULL;
}

static int reading_init(const void *packed, void *out, size_t cap, struct kivi_reading **ret)
{
	struct kivi_reading *k = mem_zalloc(sizeof(*k));

	if (!k)
		return -ENOMEM;
	k->packed = packed;
	k->out = out;
	k->cap = cap;
	lock_init(&k->lock);
	cond_init(&k->more);
	*ret = k;
	return 0;
}

int kivi_begin(const void *packed, void *out, size_t cap, struct kivi_reading **ret)
{
	int r = reading_init(packed, out, cap, ret);

	if (r == 0) /* else all of it is done at the end */
		(*ret)->started = thread_start("unpack", unpack_main, *ret, &(*ret)->thread) == 0;
	return r;
}

void kivi_arrived(struct kivi_reading *k, size_t len)
{
	lock_acquire(&k->lock);
	k->have = len;
	cond_broadcast(&k->more);
	lock_release(&k->lock);
}

int kivi_end(struct kivi_reading *k, size_t len, size_t *ret_len)
{
	int r;

	lock_acquire(&k->lock);
	k->have = len;
	k->ended = true;
	cond_broadcast(&k->more);
	lock_release(&k->lock);
	r = unpack_parts(k);
	if (k->started)
		pthread_join(k->thread, NULL);
	lock_acquire(&k->lock);
	r = k->err < 0 ? k->err : r;
	if (r == 0 && k->at != len)
		r = -EBADMSG;
	*ret_len = k->h.file_bytes;
	lock_release(&k->lock);
	cond_fini(&k->more);
	lock_fini(&k->lock);
	mem_free(k);
	return r;
}

int kivi_unpack(const void *packed, size_t len, void *out, size_t cap)
{
	struct kivi_reading *k;
	size_t n;
	int r = reading_init(packed, out, cap, &k);

	return r < 0 ? r : kivi_end(k, len, &n);
}
