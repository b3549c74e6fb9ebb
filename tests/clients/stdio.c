/* SPDX-License-Identifier: MIT */
/*
 * Clients on stdio: llama.cpp's state files, in the sizes that it reads and
 * writes (with and without flash attention), and ds4's store, whose 48-byte
 * header is rewritten on every hit.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "replay.h"

static void put(const struct replay *r, FILE *f, const void *p, size_t len)
{
	errno = 0;
	MUST(r, fwrite(p, 1, len, f) == len);
}

static void get(const struct replay *r, FILE *f, void *p, size_t len)
{
	errno = 0;
	MUST(r, fread(p, 1, len, f) == len);
}

static void put_u32(const struct replay *r, FILE *f, uint32_t v)
{
	put(r, f, &v, 4);
}

static uint32_t get_u32(const struct replay *r, FILE *f)
{
	uint32_t v;

	get(r, f, &v, 4);
	return v;
}

static void put_u64(const struct replay *r, FILE *f, uint64_t v)
{
	put(r, f, &v, 8);
}

/* ---- llama.cpp ---- */

#define CELLS 900u
#define LAYERS 8u
#define ROW 2048u /* bytes: 8 heads of 128, f16 */

static void llama_tensor(const struct replay *r, FILE *f, uint32_t layer, bool v, char *buf)
{
	put_u32(r, f, 30);
	put_u64(r, f, ROW);
	content_fill(buf, (size_t)CELLS * ROW, 2 * layer + v, 0);
	put(r, f, buf, (size_t)CELLS * ROW);
}

/* Transposed V goes out channel by channel. */
static void llama_tensor_trans(const struct replay *r, FILE *f, uint32_t layer, char *buf)
{
	put_u32(r, f, 30);
	put_u32(r, f, 2);
	put_u32(r, f, ROW / 2);
	content_fill(buf, (size_t)CELLS * ROW, 2 * layer + 1, 0);
	for (uint32_t c = 0; c < ROW / 2; c++)
		put(r, f, buf + (size_t)c * CELLS * 2, CELLS * 2);
}

static void llama_save(struct replay *r, const char *name, bool trans)
{
	char *buf = buffer(r, (size_t)CELLS * ROW);
	FILE *f = fopen(path_of(r, "%s", name).s, "wb");

	MUST(r, f != NULL);
	put_u32(r, f, 0x67677371);
	put_u32(r, f, 3);
	put_u32(r, f, CELLS + 4);
	for (uint32_t i = 0; i < CELLS + 4; i++)
		put_u32(r, f, i * 31 % 32000);
	put_u32(r, f, 1);
	put_u32(r, f, CELLS);
	for (uint32_t i = 0; i < CELLS; i++) {
		put_u32(r, f, i);
		put_u32(r, f, 1);
		put_u32(r, f, 0);
	}
	put_u32(r, f, trans);
	put_u32(r, f, LAYERS);
	for (uint32_t i = 0; i < LAYERS; i++)
		llama_tensor(r, f, i, false, buf);
	for (uint32_t i = 0; i < LAYERS; i++) {
		if (trans)
			llama_tensor_trans(r, f, i, buf);
		else
			llama_tensor(r, f, i, true, buf);
	}
	MUST(r, fclose(f) == 0);
	free(buf);
}

/* The server opens it twice: first for the number of tokens. */
static FILE *llama_open(const struct replay *r, const char *name, long *ret_size)
{
	FILE *f = fopen(path_of(r, "%s", name).s, "rb");

	MUST(r, f != NULL);
	MUST(r, fseek(f, 0, SEEK_END) == 0);
	*ret_size = ftell(f);
	MUST(r, fseek(f, 0, SEEK_SET) == 0);
	MUST(r, get_u32(r, f) == 0x67677371 && get_u32(r, f) == 3 && get_u32(r, f) == CELLS + 4);
	return f;
}

static void llama_load(struct replay *r, const char *name, bool trans)
{
	char *buf = buffer(r, (size_t)CELLS * ROW);
	uint32_t head[3];
	uint64_t row;
	long size;
	FILE *f;

	MUST(r, fclose(llama_open(r, name, &size)) == 0);
	f = llama_open(r, name, &size);
	for (uint32_t i = 0; i < CELLS + 4; i++)
		MUST(r, get_u32(r, f) == i * 31 % 32000);
	MUST(r, get_u32(r, f) == 1 && get_u32(r, f) == CELLS);
	for (uint32_t i = 0; i < CELLS; i++) {
		get(r, f, head, 12);
		MUST(r, head[0] == i && head[1] == 1 && head[2] == 0);
	}
	MUST(r, get_u32(r, f) == trans && get_u32(r, f) == LAYERS);
	for (uint32_t i = 0; i < 2 * LAYERS; i++) {
		bool v = i >= LAYERS;

		MUST(r, get_u32(r, f) == 30);
		if (v && trans) {
			MUST(r, get_u32(r, f) == 2 && get_u32(r, f) == ROW / 2);
			for (uint32_t c = 0; c < ROW / 2; c++)
				get(r, f, buf + (size_t)c * CELLS * 2, CELLS * 2);
		} else {
			get(r, f, &row, 8);
			MUST(r, row == ROW);
			get(r, f, buf, (size_t)CELLS * ROW);
		}
		content_check(r, buf, (size_t)CELLS * ROW, 2 * (i % LAYERS) + v, 0);
	}
	MUST(r, ftell(f) == size && getc(f) == EOF);
	MUST(r, fclose(f) == 0);
	free(buf);
}

static void llama_write(struct replay *r)
{
	llama_save(r, "slot-fa.bin", true);
	llama_save(r, "slot-fa.bin", false); /* saved again over the old one */
	llama_save(r, "slot.bin", true);
}

static void llama_verify(struct replay *r)
{
	llama_load(r, "slot-fa.bin", false);
	llama_load(r, "slot.bin", true);
}

/* ---- ds4 ---- */

#define DS4_FILES 3
#define DS4_PAYLOAD (13 * MIB)
static const char ds4_text[] = "The rendered prompt, from which the file has its name.";

struct ds4_head {
	char magic[4]; /* "KVC" 1 */
	uint8_t quant, reason, ext, reserved;
	uint32_t tokens, hits, ctx, pad;
	uint64_t created, last_used, payload_bytes;
};
_Static_assert(sizeof(struct ds4_head) == 48, "as ds4 writes it");

static struct path ds4_path(const struct replay *r, int i)
{
	return path_of(r, "%040x.kv", 0x5a000000 + i);
}

static void ds4_write(struct replay *r)
{
	char *buf = buffer(r, DS4_PAYLOAD);

	for (int i = 0; i < DS4_FILES; i++) {
		struct ds4_head h = { .magic = "KVC\1",
				      .tokens = 1000,
				      .ctx = 4096,
				      .created = 1,
				      .last_used = 1,
				      .payload_bytes = DS4_PAYLOAD };
		struct path tmp = path_of(r, "%d.tmp", i);
		FILE *f = fopen(tmp.s, "wb");

		MUST(r, f != NULL);
		put(r, f, &h, sizeof(h));
		put_u32(r, f, sizeof(ds4_text) - 1);
		put(r, f, ds4_text, sizeof(ds4_text) - 1);
		content_fill(buf, DS4_PAYLOAD, (uint64_t)i, 0);
		put(r, f, buf, DS4_PAYLOAD);
		put(r, f, "TAIL", 4);
		MUST(r, fclose(f) == 0);
		MUST(r, rename(tmp.s, ds4_path(r, i).s) == 0);
	}
	free(buf);
}

/* A hit: the header rewritten in place, then the payload read. */
static void ds4_hit(struct replay *r, int i, char *buf)
{
	FILE *f = fopen(ds4_path(r, i).s, "r+b");
	char text[sizeof(ds4_text)] = "", tail[4];
	struct ds4_head h;
	struct stat st;

	MUST(r, f != NULL);
	get(r, f, &h, sizeof(h));
	MUST(r, !memcmp(h.magic, "KVC\1", 4) && h.payload_bytes == DS4_PAYLOAD);
	MUST(r, h.last_used == h.hits + 1);
	MUST(r, stat(ds4_path(r, i).s, &st) == 0);
	MUST(r, st.st_size == 48 + 4 + (off_t)sizeof(ds4_text) - 1 + (off_t)DS4_PAYLOAD + 4);
	h.hits++;
	h.last_used++;
	MUST(r, fseek(f, 0, SEEK_SET) == 0);
	put(r, f, &h, sizeof(h));
	MUST(r, fclose(f) == 0);

	f = fopen(ds4_path(r, i).s, "rb");
	MUST(r, f != NULL);
	get(r, f, &h, sizeof(h));
	MUST(r, h.last_used == h.hits + 1 && h.hits > 0);
	MUST(r, get_u32(r, f) == sizeof(ds4_text) - 1);
	get(r, f, text, sizeof(ds4_text) - 1);
	MUST(r, !strcmp(text, ds4_text));
	get(r, f, buf, DS4_PAYLOAD);
	content_check(r, buf, DS4_PAYLOAD, (uint64_t)i, 0);
	get(r, f, tail, 4);
	MUST(r, !memcmp(tail, "TAIL", 4));
	MUST(r, fclose(f) == 0);
}

static void ds4_verify(struct replay *r)
{
	char *buf = buffer(r, DS4_PAYLOAD);
	DIR *d = opendir(r->dir);
	struct dirent *e;
	int n = 0;

	MUST(r, d != NULL);
	while ((e = readdir(d))) { /* the scan at its start */
		struct ds4_head h;
		FILE *f;

		if (e->d_name[0] == '.')
			continue;
		f = fopen(path_of(r, "%s", e->d_name).s, "rb");
		MUST(r, f != NULL);
		get(r, f, &h, sizeof(h));
		MUST(r, !memcmp(h.magic, "KVC\1", 4));
		fclose(f);
		n++;
	}
	closedir(d);
	MUST(r, n == DS4_FILES);
	for (int i = 0; i < DS4_FILES; i++)
		for (int hit = 0; hit < 2; hit++)
			ds4_hit(r, i, buf);
	free(buf);
}

const struct client_case stdio_cases[] = {
	{ "llama", "llama.cpp state files, V plain and transposed, by stdio", llama_write,
	  llama_verify },
	{ "ds4", "48-byte header rewritten on each hit", ds4_write, ds4_verify },
	{ 0 },
};
