/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEBENCH_CODEC_REPORT_H
#define KVCACHEBENCH_CODEC_REPORT_H
/* The rows of "kvcachebench codec" and how they are printed. */
#include "bench.h"
#include "codec_input.h"
#include "codecs/codec.h"
#include "quality.h"

#define REPORT_ROWS_MAX 48

struct report_bytes {
	uint64_t decoded, stored;
};

struct report_row {
	const char *name;
	const struct codec_ops *ops; /* NULL: codec_encode_best with form */
	enum codec_form form;
	enum codec_simd simd;
	struct codec_ctx *ctx;       /* owned by the run; NULL for memcpy */
	bool memcpy_row;
	unsigned level;              /* layers that are decoded; 0: there is one */
	struct report_bytes all, kind[REGION_KINDS_]; /* one copy of the input */
	uint64_t elements;                            /* of numbers */
	double square, error;                         /* sums over them: x^2, (x - decoded)^2 */
	uint64_t codec_bytes[CODEC_IDS_];             /* decoded bytes that each codec took */
	uint64_t overhead;                            /* header, layout, index; best-* only */
	uint64_t encode_bytes, encoded_bytes;         /* of one encode pass; running */
	struct bench_times encode, decode;
};

void report_count(struct report_row *row, const struct input_chunk *c, uint16_t id, uint32_t stored);
/* Adds what a lower level lost of a chunk. */
void report_error(struct report_row *row, const struct input_chunk *c, const uint8_t *decoded);
/* @pass_bytes: decoded bytes of one decode pass. @quality may be NULL. */
void report(const struct input *in, const struct report_row *rows, size_t n, uint64_t pass_bytes,
	    const struct quality *quality, bool json);

#endif
