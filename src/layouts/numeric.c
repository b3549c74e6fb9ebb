/* SPDX-License-Identifier: MIT */
/*
 * Files that nothing describes but that are floats all the same: HiCache and
 * LMCache pages, vLLM blocks, pools without a declaration. In cached keys and
 * values the exponents of one block take few values (2.5 to 4 bits of
 * entropy) while sign and mantissa are noise (close to 8 of 8 bits); no text,
 * code, compressed or quantised data looks like that. Sampled blocks have to
 * agree, zeros apart. What comes of it is a hint to the exact codecs: where K,
 * V, layers and tokens lie stays unknown, so it is vetoed for lossy ones, and a
 * wrong guess costs nothing but ratio.
 *
 * vLLM's fs tier and llm-d keep the dtype in config.json beside the ranks'
 * directories; where there is one it decides.
 */
#include "layouts/numeric.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "kvcachefs/format_layout.h"
#include "layouts/build.h"
#include "layouts/json.h"

#define NUMERIC_BLOCK 4096u
#define NUMERIC_BLOCKS 16u
#define NUMERIC_ELEMS_MIN 200u /* of a block that are not zero */
#define NUMERIC_FILE_MIN 65536u
#define NUMERIC_CONFIG_MAX 32768u

/* Entropy in bits of a histogram with @n entries. */
static double entropy(const uint16_t *hist, unsigned bins, unsigned n)
{
	double sum = 0;

	for (unsigned i = 0; i < bins; i++)
		if (hist[i])
			sum += hist[i] * log2(hist[i]);
	return n ? log2(n) - sum / n : 0;
}

/*
 * Elements of @es bytes whose exponent are @bits bits below the sign. The
 * noise is what a mantissa must have: sign and low 7 bits of bf16, the low byte
 * of the others.
 */
struct numeric_type {
	uint8_t elem, es, bits;
	double exponent_max, noise_min;
};
static const struct numeric_type numeric_types[] = {
	{ ELEM_BF16, 2, 8, 4.2, 7.2 },
	{ ELEM_F32, 4, 8, 4.2, 7.0 }, /* before f16, whose test it would pass */
	{ ELEM_F16, 2, 5, 3.6, 7.2 },
};

/* Exact zeros (padding, unused slots) say nothing and are left out. */
static bool block_is(const uint8_t *b, size_t len, const struct numeric_type *t)
{
	uint16_t exponent[256] = { 0 }, noise[256] = { 0 };
	unsigned n = 0;

	for (size_t i = 0; i + t->es <= len; i += t->es) {
		uint32_t hi = (uint32_t)b[i + t->es - 1] << 8 | b[i + t->es - 2];
		uint32_t low = b[i];

		if (!(hi & 0x7fff) && (t->es == 2 || !(low | b[i + 1])))
			continue;
		if (t->elem == ELEM_BF16)
			low = (hi & 0x7f) | (hi >> 8 & 0x80);
		exponent[hi >> (15 - t->bits) & ((1u << t->bits) - 1)]++;
		noise[low]++;
		n++;
	}
	/* Small integers look like denormals. */
	return n >= NUMERIC_ELEMS_MIN && exponent[0] <= n / 16 &&
	       entropy(exponent, 256, n) <= t->exponent_max &&
	       entropy(noise, 256, n) >= t->noise_min;
}

static bool mostly_zero(const uint8_t *b, size_t len)
{
	size_t zeros = 0;

	for (size_t i = 0; i < len; i++)
		zeros += !b[i];
	return zeros > len - len / 8;
}

/* Candidates: each type at each of its phases. */
#define NUMERIC_CANDIDATES 8
static unsigned candidate(unsigned c, const struct numeric_type **ret)
{
	static const uint8_t type[] = { 0, 0, 1, 1, 1, 1, 2, 2 };
	static const uint8_t phase[] = { 0, 1, 0, 1, 2, 3, 0, 1 };

	*ret = &numeric_types[type[c]];
	return phase[c];
}

/* Adds to hits[] which candidates the block at @off fits. */
static int try_block(const struct layout_input *in, uint64_t off, uint64_t base, size_t len,
		     unsigned hits[NUMERIC_CANDIDATES], unsigned *n)
{
	uint8_t b[NUMERIC_BLOCK];
	const struct numeric_type *t;
	int err = layout_read(in, b, len, off);

	if (err)
		return err;
	if (mostly_zero(b, len))
		return 0;
	(*n)++;
	for (unsigned c = 0; c < NUMERIC_CANDIDATES; c++) {
		unsigned phase = candidate(c, &t);
		unsigned skip = (unsigned)((phase + t->es - (off - base) % t->es) % t->es);

		hits[c] += block_is(b + skip, len - skip, t);
	}
	return 0;
}

int numeric_sniff(const struct layout_input *in, uint64_t off, uint64_t len, uint8_t *ret_elem,
		  unsigned *ret_phase)
{
	unsigned hits[NUMERIC_CANDIDATES] = { 0 }, n = 0;
	const struct numeric_type *t;
	int err = 0;

	if (len < NUMERIC_BLOCK)
		return -KVFS_ENOLAYOUT;
	for (unsigned i = 0; !err && i < NUMERIC_BLOCKS; i++) {
		uint64_t at = (len - NUMERIC_BLOCK) / (NUMERIC_BLOCKS - 1) * i;

		err = try_block(in, off + at, off, NUMERIC_BLOCK, hits, &n);
	}
	if (err)
		return err;
	for (unsigned c = 0; n >= NUMERIC_BLOCKS / 4 && c < NUMERIC_CANDIDATES; c++) {
		if (hits[c] + n / 8 < n)
			continue;
		*ret_phase = candidate(c, &t);
		*ret_elem = t->elem;
		return 0;
	}
	return -KVFS_ENOLAYOUT;
}

/* ---- vLLM's config.json ---- */

/* "dtype" of the outer object: "bfloat16", "torch.bfloat16". */
static int config_dtype(char *text, size_t len, uint8_t *ret_elem)
{
	struct json j;
	char *key, *s;
	int more, elem, err;

	json_init(&j, text, len, 4096);
	err = json_object(&j);
	while (!err && (more = json_key(&j, &key)) != 0) {
		if (more < 0)
			return -KVFS_ENOLAYOUT;
		if (strcmp(key, "dtype") || !json_at_string(&j)) {
			err = json_skip(&j);
			continue;
		}
		if (json_string(&j, &s))
			return -KVFS_ENOLAYOUT;
		elem = elem_parse(strncmp(s, "torch.", 6) ? s : s + 6);
		if (elem <= ELEM_BYTES)
			return -KVFS_ENOLAYOUT;
		*ret_elem = (uint8_t)elem;
		return 0;
	}
	return -KVFS_ENOLAYOUT;
}

/* .../BASE_r0/abc/de_g0/HASH.bin -> "../../../BASE/config.json" */
static bool config_path(const char *dir, char *buf, size_t cap)
{
	const char *end = dir + strlen(dir), *from, *r;

	for (int up = 0; up < 2; up++) {
		while (end > dir && end[-1] != '/')
			end--;
		if (end == dir)
			return false;
		end--;
	}
	for (from = end; from > dir && from[-1] != '/'; from--)
		;
	for (r = end; r > from && r[-1] >= '0' && r[-1] <= '9'; r--)
		;
	if (r == end || r - from < 3 || r[-1] != 'r' || r[-2] != '_')
		return false;
	return snprintf(buf, cap, "../../../%.*s/config.json", (int)(r - 2 - from), from) <
	       (int)cap;
}

/* 0; -KVFS_ENOLAYOUT when it is no block of vLLM or the dtype is not said. */
static int vllm_dtype(const struct layout_input *in, uint8_t *ret_elem)
{
	char path[512], text[NUMERIC_CONFIG_MAX];
	size_t hex = strspn(in->name, "0123456789abcdef");
	int64_t n;

	if (!in->read_beside || hex < 8 || strcmp(in->name + hex, ".bin") ||
	    !config_path(in->dir, path, sizeof(path)))
		return -KVFS_ENOLAYOUT;
	n = in->read_beside(in->arg, path, text, sizeof(text));
	if (n < 0)
		return n == -ENOMEM || n == -EIO ? (int)n : -KVFS_ENOLAYOUT;
	return config_dtype(text, (size_t)n, ret_elem);
}

static int numeric_recognise(const struct layout_input *in, struct layout *ret)
{
	struct layout_region r = { .kind = REGION_KV };
	unsigned phase = 0;
	int err;

	if (in->size_bytes < NUMERIC_FILE_MIN)
		return -KVFS_ENOLAYOUT;
	err = vllm_dtype(in, &r.elem);
	if (err == -KVFS_ENOLAYOUT)
		err = numeric_sniff(in, 0, in->size_bytes, &r.elem, &phase);
	if (err)
		return err;
	r.off_bytes = phase;
	r.len_bytes = in->size_bytes - phase;
	r.len_bytes -= r.len_bytes % elem_bytes(r.elem);
	ret->name = layout_name_of(KVFS_LAYOUT_NUMERIC);
	ret->elem = r.elem;
	layout_veto(ret, "where keys and values lie is not known; declare it");
	return layout_add(ret, &r);
}

const struct layout_ops layout_numeric = { "numeric", numeric_recognise };
