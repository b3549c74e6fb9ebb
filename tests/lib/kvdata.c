/* SPDX-License-Identifier: MIT */
/*
 * kvdata KIND BYTES SEED: writes reproducible content to standard output.
 *   random  incompressible        zero   zeros
 *   text    compressible, opaque  bf16, f16  normal numbers, channel by channel
 *   st      a safetensors file of BYTES in all: bf16 tensors named as KV caches
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/le.h"
#include "base/units.h"
#include "testlib.h"

#define ROW_ELEMS 512

static uint64_t seed;

static double normal(void)
{
	double u = ((double)(test_rand(&seed) >> 11) + 1) / 9007199254740993.0;
	double v = (double)(test_rand(&seed) >> 11) / 9007199254740992.0;

	return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

static uint16_t to_bf16(float f)
{
	uint32_t u;

	memcpy(&u, &f, sizeof(u));
	return (uint16_t)((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}

/* Normal numbers only; good enough for values around 1. */
static uint16_t to_f16(float f)
{
	uint32_t u;
	int e;

	memcpy(&u, &f, sizeof(u));
	e = (int)(u >> 23 & 255) - 127 + 15;
	if (e <= 0 || e >= 31)
		return (uint16_t)(u >> 16 & 0x8000);
	return (uint16_t)((u >> 16 & 0x8000) | (uint32_t)e << 10 | (u >> 13 & 0x3ff));
}

static void put(const void *p, size_t len)
{
	CHECK(fwrite(p, 1, len, stdout) == len);
}

static void put_elems(uint64_t bytes, bool bf16)
{
	float spread[ROW_ELEMS];
	unsigned char row[ROW_ELEMS * 2];

	for (int i = 0; i < ROW_ELEMS; i++)
		spread[i] = (float)exp(normal());
	while (bytes) {
		size_t n = bytes < sizeof(row) ? (size_t)bytes : sizeof(row);

		for (int i = 0; i < ROW_ELEMS; i++) {
			float f = spread[i] * (float)normal();

			le16_put(row + 2 * i, bf16 ? to_bf16(f) : to_f16(f));
		}
		put(row, n);
		bytes -= n;
	}
}

static void put_plain(uint64_t bytes, const char *kind)
{
	static const char *const words[] = { "the ", "key ", "value ", "cache ",
					     "of ",  "a ",   "token ", "\n" };
	unsigned char block[4096] = { 0 };

	while (bytes) {
		size_t n = bytes < sizeof(block) ? (size_t)bytes : sizeof(block);

		if (!strcmp(kind, "random")) {
			test_fill(block, sizeof(block), test_rand(&seed));
		} else if (!strcmp(kind, "text")) {
			for (size_t at = 0; at < sizeof(block);) {
				const char *w = words[test_rand(&seed) % 8];
				size_t len = strlen(w);

				if (len > sizeof(block) - at)
					len = sizeof(block) - at;
				memcpy(block + at, w, len);
				at += len;
			}
		}
		put(block, n);
		bytes -= n;
	}
}

/* Two layers, K and V of equal length, the rest in the last one. */
static void put_safetensors(uint64_t bytes)
{
	char json[512];
	unsigned char head[8];
	uint64_t data, rows, at = 0;
	int len = 0;

	CHECK(bytes >= 8 + sizeof(json) + 4 * ROW_ELEMS * 2 && bytes % 2 == 0);
	data = bytes - 8 - sizeof(json);
	rows = data / (4 * ROW_ELEMS * 2);
	for (int i = 0; i < 4; i++) {
		uint64_t n = i < 3 ? rows * ROW_ELEMS * 2 : data - at;

		len += snprintf(json + len, sizeof(json) - (size_t)len,
				"%s\"layer_%d_%c\":{\"dtype\":\"BF16\",\"shape\":", i ? "," : "{",
				i / 2, i % 2 ? 'v' : 'k');
		if (i < 3)
			len += snprintf(json + len, sizeof(json) - (size_t)len, "[%llu,%d]",
					(unsigned long long)rows, ROW_ELEMS);
		else
			len += snprintf(json + len, sizeof(json) - (size_t)len, "[%llu]",
					(unsigned long long)n / 2);
		len += snprintf(json + len, sizeof(json) - (size_t)len,
				",\"data_offsets\":[%llu,%llu]}", (unsigned long long)at,
				(unsigned long long)(at + n));
		at += n;
	}
	json[len++] = '}';
	memset(json + len, ' ', sizeof(json) - (size_t)len);
	le64_put(head, sizeof(json));
	put(head, sizeof(head));
	put(json, sizeof(json));
	put_elems(data, true);
}

int main(int argc, char **argv)
{
	uint64_t bytes;

	if (argc != 4 || units_parse_bytes(argv[2], &bytes) ||
	    units_parse_u64(argv[3], 0, UINT64_MAX, &seed)) {
		fprintf(stderr, "usage: kvdata random|zero|text|bf16|f16|st BYTES SEED\n");
		return 2;
	}
	if (!strcmp(argv[1], "bf16") || !strcmp(argv[1], "f16"))
		put_elems(bytes, argv[1][0] == 'b');
	else if (!strcmp(argv[1], "st"))
		put_safetensors(bytes);
	else
		put_plain(bytes, argv[1]);
	return fflush(stdout) ? 1 : 0;
}
