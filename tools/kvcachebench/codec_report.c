// SPDX-License-Identifier: MIT
/*
 * Table and JSON. The ratio of a codec's row is decoded over stored bytes of all
 * chunks, those that it does not take counted as raw. The best-* rows count what
 * an object holds beside them too: header, layout, and an index entry per chunk.
 */
#include "codec_report.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/le.h"
#include "base/sbuf.h"
#include "kvcachefs/format.h"

static const char *const simd_names[] = { "portable", "avx2", "avx512", "" };

void report_count(struct report_row *row, const struct input_chunk *c, uint16_t id, uint32_t stored)
{
	row->all.decoded += c->len;
	row->all.stored += stored;
	row->kind[c->shape.kind].decoded += c->len;
	row->kind[c->shape.kind].stored += stored;
	row->codec_bytes[id] += c->len;
	if (c->shape.elem != ELEM_BYTES)
		row->elements += c->len / elem_bytes(c->shape.elem);
}

static double value(unsigned elem, const uint8_t *p)
{
	uint32_t bits = elem == ELEM_F32 ? le32_get(p) : (uint32_t)le16_get(p) << 16;
	float f;

	if (elem == ELEM_F16)
		bits = (bits >> 31 << 31) | (bits >> 16 & 0x7fff) << 13;
	memcpy(&f, &bits, 4);
	return elem == ELEM_F16 ? (double)f * 0x1p112 : (double)f;
}

void report_error(struct report_row *row, const struct input_chunk *c, const uint8_t *decoded)
{
	unsigned eb = elem_bytes(c->shape.elem);

	for (size_t i = 0; eb > 1 && i + eb <= c->len; i += eb) {
		double x = value(c->shape.elem, c->data + i);
		double y = value(c->shape.elem, decoded + i);

		if (!isfinite(x))
			continue;
		row->square += x * x;
		row->error += (x - y) * (x - y);
	}
}

static uint64_t object_overhead(const struct input *in)
{
	uint64_t n = in->n_chunks * (sizeof(struct kvfs_chunk) + sizeof(struct kvfs_chunk_layer));

	for (size_t i = 0; i < in->n_files; i++)
		n += sizeof(struct kvfs_object_header) + in->files[i].layout_bytes;
	return n;
}

static double gbs(uint64_t bytes, double seconds)
{
	return seconds > 0 ? (double)bytes / seconds / 1e9 : 0;
}

static double ratio(const struct report_bytes *b, uint64_t overhead)
{
	return b->stored ? (double)b->decoded / (double)(b->stored + overhead) : 0;
}

static const char *simd_of(const struct report_row *r)
{
	return r->memcpy_row ? "" : simd_names[r->simd];
}

static double bits_per_value(const struct report_row *r, uint64_t overhead)
{
	return r->elements ? 8.0 * (double)(r->all.stored + overhead) / (double)r->elements : 0;
}

/* Root of the mean square error over that of the values. */
static double error_of(const struct report_row *r)
{
	return r->square > 0 ? sqrt(r->error / r->square) : 0;
}

static void print_row(const struct report_row *r, uint64_t pass, uint64_t overhead, double copy)
{
	double dec = gbs(pass, bench_median(&r->decode));
	char name[32];

	snprintf(name, sizeof(name), r->level ? "%s/%u" : "%s", r->name,
		 r->level ? r->level - 1 : 0);
	printf("%-12s %-9s %7.4f %7.4f %7.4f %6.3f %7.5f | ", name, simd_of(r),
	       ratio(&r->all, r->ops ? 0 : overhead), ratio(&r->kind[REGION_K], 0),
	       ratio(&r->kind[REGION_V], 0), bits_per_value(r, r->ops ? 0 : overhead), error_of(r));
	if (r->encode.n)
		printf("%7.2f %7.2f | ", gbs(r->encode_bytes, bench_median(&r->encode)),
		       gbs(r->encode_bytes, bench_best(&r->encode)));
	else
		printf("%7s %7s | ", "", "");
	printf("%7.2f %7.2f %8.2f\n", dec, gbs(pass, bench_best(&r->decode)),
	       copy > 0 ? dec / copy : 0);
}

static void print_table(const struct input *in, const struct report_row *rows, size_t n,
			uint64_t pass, uint64_t overhead)
{
	double copy = gbs(pass, bench_median(&rows[0].decode));

	for (size_t i = 0; i < in->n_files; i++)
		printf("%s: %zu bytes, %s\n", in->files[i].name, in->files[i].len,
		       in->files[i].layout);
	if (in->synthetic)
		printf("Synthetic values: speeds only, the ratios say nothing about caches.\n");
	printf("%-12s %-9s %7s %7s %7s %6s %7s | %7s %7s | %7s %7s %8s\n", "", "", "ratio", "K", "V",
	       "bits", "error", "enc", "best", "dec", "best", "x memcpy");
	for (size_t i = 0; i < n; i++)
		print_row(&rows[i], pass, overhead, copy);
	printf("GB/s of decoded bytes on one core, medians of %u rounds and the best one; bits per\n"
	       "value; error: root mean square, relative, of ladder's levels /0 and up;\n"
	       "best-*: every byte of header and index counted.\n", rows[0].decode.n);
}

static void json_row(struct sbuf *b, const struct report_row *r, uint64_t pass, uint64_t overhead)
{
	sbuf_addf(b, "{\"codec\":\"%s\",\"simd\":\"%s\",\"ratio\":%.5f,", r->name, simd_of(r),
		  ratio(&r->all, r->ops ? 0 : overhead));
	if (r->level)
		sbuf_addf(b, "\"level\":%u,\"error\":%.7f,", r->level - 1, error_of(r));
	if (r->elements)
		sbuf_addf(b, "\"bits\":%.5f,", bits_per_value(r, r->ops ? 0 : overhead));
	for (unsigned k = 0; k < REGION_KINDS_; k++)
		if (r->kind[k].decoded)
			sbuf_addf(b, "\"ratio_%s\":%.5f,", region_kind_name(k),
				  ratio(&r->kind[k], 0));
	sbuf_addf(b, "\"decoded_bytes\":%llu,\"stored_bytes\":%llu,",
		  (unsigned long long)r->all.decoded,
		  (unsigned long long)(r->all.stored + (r->ops ? 0 : overhead)));
	for (unsigned id = 1; id < CODEC_IDS_; id++)
		if (r->codec_bytes[id])
			sbuf_addf(b, "\"bytes_as_%s\":%llu,", codec_by_id(id)->name,
				  (unsigned long long)r->codec_bytes[id]);
	if (r->encode.n)
		sbuf_addf(b, "\"encode_gbs\":%.3f,\"encode_best_gbs\":%.3f,",
			  gbs(r->encode_bytes, bench_median(&r->encode)),
			  gbs(r->encode_bytes, bench_best(&r->encode)));
	sbuf_addf(b, "\"decode_gbs\":%.3f,\"decode_best_gbs\":%.3f,\"rounds\":%u}",
		  gbs(pass, bench_median(&r->decode)), gbs(pass, bench_best(&r->decode)),
		  r->decode.n);
}

static void print_json(const struct input *in, const struct report_row *rows, size_t n,
		       uint64_t pass, uint64_t overhead, const struct quality *quality)
{
	struct sbuf b = SBUF_INIT;
	char *text;

	sbuf_addf(&b, "{\"bench\":\"codec\",\"synthetic\":%s,\"files\":[",
		  in->synthetic ? "true" : "false");
	for (size_t i = 0; i < in->n_files; i++) {
		sbuf_adds(&b, i ? ",{\"name\":" : "{\"name\":");
		sbuf_add_json_str(&b, in->files[i].name);
		sbuf_addf(&b, ",\"bytes\":%zu,\"layout\":", in->files[i].len);
		sbuf_add_json_str(&b, in->files[i].layout);
		sbuf_adds(&b, "}");
	}
	sbuf_addf(&b, "],\"chunks\":%zu,\"overhead_bytes\":%llu,\"rows\":[", in->n_chunks,
		  (unsigned long long)overhead);
	for (size_t i = 0; i < n; i++) {
		sbuf_adds(&b, i ? "," : "");
		json_row(&b, &rows[i], pass, overhead);
	}
	sbuf_adds(&b, "]");
	if (quality) {
		sbuf_adds(&b, ",\"quality\":");
		quality_json(quality, &b);
	}
	sbuf_adds(&b, "}");
	text = sbuf_take(&b);
	if (text)
		puts(text);
	free(text);
}

void report(const struct input *in, const struct report_row *rows, size_t n, uint64_t pass_bytes,
	    const struct quality *quality, bool json)
{
	uint64_t overhead = object_overhead(in);

	if (json) {
		print_json(in, rows, n, pass_bytes, overhead, quality);
		return;
	}
	print_table(in, rows, n, pass_bytes, overhead);
	if (quality)
		quality_print(quality);
}
