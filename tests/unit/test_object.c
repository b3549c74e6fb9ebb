/* SPDX-License-Identifier: MIT */
/* The object file: written, parsed, and every kind of damage found. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/io.h"
#include "codecs/codec.h"
#include "objects.h"
#include "store/object_format.h"

#define SIZE (300 * 1024 + 77)

struct fixture {
	char path[64];
	int dir;
	struct object_id id;
	uint8_t *data;
	char file[OBJECT_NAME_MAX];
};

static const struct tobj_part parts[] = {
	{ .len = 1000, .chunk_bytes = 4096, .codec = CODEC_RAW },
	{ .len = 200 * 1024, .chunk_bytes = 64 * 1024, .codec = CODEC_RAW, .elem = ELEM_BF16 },
	{ .len = 64 * 1024, .chunk_bytes = 1 << 30, .codec = CODEC_HOLE },
	{ .len = SIZE - 1000 - 264 * 1024, .chunk_bytes = 10000, .codec = CODEC_LZ4 },
};
#define N_PARTS (sizeof(parts) / sizeof(parts[0]))

static void setup(struct fixture *f)
{
	f->dir = tobj_dir(f->path);
	f->id = tobj_id(0);
	f->data = malloc(SIZE);
	cr_assert(f->data);
	tobj_fill_bf16(f->data, SIZE, 1);
	memset(f->data + 1000 + 200 * 1024, 0, 64 * 1024);
	object_name(&f->id, f->file);
}

static void teardown(struct fixture *f)
{
	free(f->data);
	tobj_dir_remove(f->path, f->dir);
}

static void seal(struct fixture *f, unsigned n_layers)
{
	cr_assert_eq(tobj_seal(f->dir, &f->id, f->data, parts, N_PARTS, n_layers), 0);
}

static uint8_t *slurp(const struct fixture *f, size_t *len)
{
	struct stat st;
	uint8_t *p;

	cr_assert_eq(fstatat(f->dir, f->file, &st, 0), 0);
	*len = (size_t)st.st_size;
	p = malloc(*len);
	int fd = openat(f->dir, f->file, O_RDONLY);
	cr_assert(fd >= 0 && io_pread_all(fd, p, *len, 0) == 0);
	close(fd);
	return p;
}

/* Opens these bytes as the object's file, in memory: thousands of times. */
static int open_bytes(const struct fixture *f, const void *p, size_t len)
{
	int fd = memfd_create("object", MFD_CLOEXEC);
	struct object *o;
	int err;

	cr_assert(fd >= 0 && io_pwrite_all(fd, p, len, 0) == 0);
	err = object_open_fd(fd, false, &f->id, NULL, &o);
	if (!err)
		object_put(o);
	return err;
}

static int reopen(const struct fixture *f)
{
	struct object *o;
	int err = object_open(f->dir, &f->id, NULL, &o);

	if (!err)
		object_put(o);
	return err;
}

Test(object, names_round_trip_and_reject_others)
{
	struct object_id id = tobj_id(3), back;
	char name[OBJECT_NAME_MAX], bad[OBJECT_NAME_MAX];

	object_name(&id, name);
	cr_assert_str_eq(name, "04/0405060708090a0b0c0d0e0f10111213.10");
	cr_assert_eq(object_name_parse(name + 3, &back), 0);
	cr_assert(!memcmp(&id, &back, sizeof(id)));
	id.generation = UINT32_MAX;
	object_name(&id, name);
	cr_assert_eq(object_name_parse(name + 3, &back), 0);
	cr_assert_eq(back.generation, UINT32_MAX);
	for (size_t i = 3; name[i]; i++) {
		memcpy(bad, name, sizeof(bad));
		bad[i] = 'G';
		cr_assert_eq(object_name_parse(bad + 3, &back), -EINVAL);
		bad[i] = 0;
		if (i < 37)
			cr_assert_eq(object_name_parse(bad + 3, &back), -EINVAL);
	}
	memcpy(bad, name, sizeof(bad));
	cr_assert_eq(object_name_parse(strcat(bad, "0") + 3, &back), -EINVAL);
	strcpy(bad + 35, ".01");
	cr_assert_eq(object_name_parse(bad + 3, &back), -EINVAL);
	cr_assert_eq(object_id_random(1, &id), 0);
	cr_assert_eq(object_id_random(1, &back), 0);
	cr_assert(memcmp(&id, &back, sizeof(id)));
}

static void check_stored(const struct fixture *f, const struct object *o, struct codec_ctx *cc)
{
	uint8_t *out = malloc(CODEC_CHUNK_MAX), *buf = malloc(CODEC_CHUNK_MAX);
	int fd = openat(f->dir, f->file, O_RDONLY);
	uint64_t at = 0;

	for (uint32_t i = 0; i < o->n_chunks; i++) {
		const struct object_chunk *c = &o->chunks[i];
		const struct object_layer *l = &o->layers[c->first_layer];
		struct codec_in in = { .buf = buf, .len = l->len_bytes };

		cr_assert_eq(c->off_bytes, at);
		cr_assert_eq(io_pread_all(fd, buf, l->len_bytes, l->off_bytes), 0);
		cr_assert_eq(object_check(o, i, 0, buf, l->len_bytes), 0);
		cr_assert_eq(codec_decode(cc, l->codec, &c->shape, &in, 1, out, c->len_bytes, 0), 0);
		cr_assert(!memcmp(out, f->data + c->off_bytes, c->len_bytes));
		at += c->len_bytes;
	}
	cr_assert_eq(at, o->logical_bytes);
	close(fd);
	free(out);
	free(buf);
}

Test(object, sealed_content_comes_back)
{
	struct fixture f;
	struct budget b;
	struct codec_ctx *cc;
	struct object *o;

	setup(&f);
	seal(&f, 1);
	budget_init(&b, 1 << 20);
	cr_assert_eq(codec_ctx_create(CODEC_SIMD_BEST, &cc), 0);
	cr_assert_eq(object_open(f.dir, &f.id, &b, &o), 0);
	cr_assert_eq(o->logical_bytes, SIZE);
	cr_assert_eq(o->tree_ino, 42);
	cr_assert_eq(o->n_layers_max, 1);
	cr_assert_eq(o->n_layers_present, 1);
	cr_assert_eq(budget_used(&b), o->table_bytes);
	cr_assert_str_eq(o->layout->name, "opaque");
	check_stored(&f, o, cc);
	for (uint64_t off = 0; off < SIZE; off += 501) {
		const struct object_chunk *c = &o->chunks[object_chunk_at(o, off)];

		cr_assert(c->off_bytes <= off && off - c->off_bytes < c->len_bytes);
	}
	cr_assert_eq(o->chunks[object_chunk_at(o, SIZE - 1)].off_bytes +
		     o->chunks[object_chunk_at(o, SIZE - 1)].len_bytes, SIZE);
	cr_assert_eq(object_get(o), o);
	object_put(o);
	object_put(o);
	cr_assert_eq(budget_used(&b), 0);
	budget_init(&b, 4096);
	cr_assert_eq(object_open(f.dir, &f.id, &b, &o), -KVFS_EBUDGET);
	cr_assert_eq(budget_used(&b), 0);
	cr_assert_eq(object_remove(f.dir, &f.id), 0);
	cr_assert_eq(object_remove(f.dir, &f.id), 0);
	cr_assert_eq(object_open(f.dir, &f.id, NULL, &o), -ENOENT);
	codec_ctx_destroy(cc);
	teardown(&f);
}

Test(object, empty_content)
{
	struct fixture f;
	struct object *o;

	setup(&f);
	cr_assert_eq(tobj_seal(f.dir, &f.id, f.data, parts, 0, 1), 0);
	cr_assert_eq(tobj_seal(f.dir, &f.id, f.data, parts, 0, 1), -EEXIST);
	cr_assert_eq(object_open(f.dir, &f.id, NULL, &o), 0);
	cr_assert_eq(o->n_chunks, 0);
	object_put(o);
	teardown(&f);
}

/* Longer than the first read and than one write of the writer. */
Test(object, long_index)
{
	const struct tobj_part many = { .len = SIZE, .chunk_bytes = 11, .codec = CODEC_RAW };
	struct fixture f;
	struct object *o;
	struct codec_ctx *cc;

	setup(&f);
	cr_assert_eq(codec_ctx_create(CODEC_SIMD_BEST, &cc), 0);
	cr_assert_eq(tobj_seal(f.dir, &f.id, f.data, &many, 1, 1), 0);
	cr_assert_eq(object_open(f.dir, &f.id, NULL, &o), 0);
	cr_assert_eq(o->n_chunks, (SIZE + 10) / 11);
	check_stored(&f, o, cc);
	object_put(o);
	codec_ctx_destroy(cc);
	teardown(&f);
}

Test(object, layers_are_contiguous_and_can_be_cut_off)
{
	struct fixture f;
	struct object *o;
	uint64_t ends[3] = { 0 }, starts[3];
	uint8_t *buf = malloc(1 << 20);

	setup(&f);
	seal(&f, 3);
	cr_assert_eq(object_open(f.dir, &f.id, NULL, &o), 0);
	cr_assert_eq(o->n_layers_present, 3);
	for (unsigned l = 0; l < 3; l++) {
		starts[l] = UINT64_MAX;
		for (uint32_t i = 0; i < o->n_chunks; i++) {
			const struct object_layer *ol = &o->layers[o->chunks[i].first_layer + l];

			if (o->chunks[i].n_layers < 3)
				continue;
			cr_assert_eq(io_pread_all(o->fd, buf, 0, 0), 0);
			starts[l] = starts[l] == UINT64_MAX ? ol->off_bytes : starts[l];
			cr_assert(ol->off_bytes >= ends[l]);
			ends[l] = ol->off_bytes + ol->len_bytes;
			int fd = openat(f.dir, f.file, O_RDONLY);
			cr_assert_eq(io_pread_all(fd, buf, ol->len_bytes, ol->off_bytes), 0);
			close(fd);
			cr_assert_eq(object_check(o, i, l, buf, ol->len_bytes), 0);
			cr_assert(object_check(o, i, (l + 1) % 3, buf, ol->len_bytes) < 0);
		}
		cr_assert(starts[l] % KVFS_OBJECT_ALIGN == 0);
		cr_assert(l == 0 || starts[l] >= ends[l - 1]);
	}
	object_put(o);
	for (unsigned keep = 3; keep-- > 0;) {
		char path[192];

		snprintf(path, sizeof(path), "%s/%s", f.path, f.file);
		cr_assert_eq(truncate(path, keep ? (off_t)starts[keep] : (off_t)starts[1] - 8192), 0);
		if (!keep) {
			cr_assert_eq(reopen(&f), -KVFS_ETRUNCATED);
			continue;
		}
		cr_assert_eq(object_open(f.dir, &f.id, NULL, &o), 0);
		cr_assert_eq(o->n_layers_present, keep);
		object_put(o);
	}
	free(buf);
	teardown(&f);
}

/* Cut behind each layer it has the length that it says, and all layers up to there. */
Test(object, cut_behind_each_layer)
{
	struct fixture f;
	struct object *o;
	struct stat st;

	setup(&f);
	seal(&f, 3);
	for (unsigned keep = 3; keep > 0; keep--) {
		cr_assert_eq(object_open(f.dir, &f.id, NULL, &o), 0);
		cr_assert_eq(o->n_layers_max, 3);
		cr_assert_eq(object_cut(f.dir, o, 4), -EINVAL);
		cr_assert_eq(object_cut(f.dir, o, 0), -EINVAL);
		cr_assert_eq(object_cut(f.dir, o, keep), 0);
		cr_assert_eq(object_cut(f.dir, o, 3), 0); /* never longer */
		cr_assert_eq(fstatat(f.dir, f.file, &st, 0), 0);
		cr_assert_eq((uint64_t)st.st_size, o->level_bytes[keep - 1]);
		cr_assert_eq(st.st_size % 4096, 0);
		object_put(o);
		cr_assert_eq(object_open(f.dir, &f.id, NULL, &o), 0);
		cr_assert_eq(o->n_layers_present, keep);
		object_put(o);
	}
	cr_assert_eq(object_open(f.dir, &f.id, NULL, &o), 0);
	cr_assert_eq(object_remove(f.dir, &f.id), 0);
	cr_assert_eq(object_cut(f.dir, o, 1), -ENOENT);
	object_put(o);
	teardown(&f);
}

/* Layers that were planned and no chunk has are none. */
Test(object, layers_that_no_chunk_has)
{
	struct layout layout = { .name = "opaque", .size_bytes = 1000 };
	struct layout_chunk chunk = { .len_bytes = 1000 };
	struct object_plan plan = { .id = tobj_id(0), .logical_bytes = 1000, .layout = &layout,
				    .chunks = &chunk, .n_chunks = 1, .n_layers = 4 };
	struct object_part part = { .codec = CODEC_RAW, .len = 1000 };
	struct object_writer *w;
	struct fixture f;
	struct object *o;
	uint64_t stored;

	setup(&f);
	part.buf = f.data;
	cr_assert_eq(object_writer_create(f.dir, &plan, &w), 0);
	cr_assert_eq(object_writer_add(w, &part, 1), 0);
	cr_assert_eq(object_writer_finish(w, &stored), 0);
	cr_assert_eq(object_open(f.dir, &f.id, NULL, &o), 0);
	cr_assert_eq(o->n_layers_max, 1);
	cr_assert_eq(o->level_bytes[0], stored);
	object_put(o);
	teardown(&f);
}

/* Every byte of header, layout and index flipped is an error, never another
 * meaning; every stored byte flipped is found by its chunk's sum. */
Test(object, every_flipped_byte_is_found)
{
	const struct tobj_part small = { .len = 9000, .chunk_bytes = 2500, .codec = CODEC_RAW };
	struct kvfs_object_header h;
	struct fixture f;
	uint8_t *file;
	size_t len;

	setup(&f);
	cr_assert_eq(tobj_seal(f.dir, &f.id, f.data, &small, 1, 1), 0);
	file = slurp(&f, &len);
	cr_assert_eq(object_header_parse((void *)file, &f.id, len, &h), 0);
	for (size_t i = 0; i < h.index_off + h.index_len; i++) {
		bool gap = i >= h.layout_off + h.layout_len && i < h.index_off;

		for (unsigned bit = 0; bit < 8; bit += i < 512 ? 1 : 7) {
			file[i] ^= (uint8_t)(1 << bit);
			int err = open_bytes(&f, file, len);
			cr_assert(gap ? err == 0 : err <= -KVFS_ERR_BASE, "byte %zu: %d", i, err);
			file[i] ^= (uint8_t)(1 << bit);
		}
	}
	struct object *o;
	cr_assert_eq(object_open(f.dir, &f.id, NULL, &o), 0);
	for (uint32_t c = 0; c < o->n_chunks; c++) {
		const struct object_layer *l = &o->layers[o->chunks[c].first_layer];

		for (uint32_t i = 0; i < l->len_bytes; i++) {
			file[l->off_bytes + i] ^= 0x10;
			cr_assert_eq(object_check(o, c, 0, file + l->off_bytes, l->len_bytes),
				     -KVFS_ECHECKSUM);
			file[l->off_bytes + i] ^= 0x10;
		}
		cr_assert_eq(object_check(o, c, 0, file + l->off_bytes, l->len_bytes), 0);
		cr_assert_eq(object_check(o, c, 0, file + l->off_bytes, l->len_bytes - 1),
			     -KVFS_ECHECKSUM);
		/* a good chunk of another place */
		if (c + 1 < o->n_chunks && o->chunks[c + 1].len_bytes == l->len_bytes)
			cr_assert_eq(object_check(o, c + 1, 0, file + l->off_bytes, l->len_bytes),
				     -KVFS_ECHECKSUM);
	}
	object_put(o);
	free(file);
	teardown(&f);
}

/* With O_DIRECT an unaligned end of file is read differently. */
Test(object, cut_files_on_disk)
{
	const off_t cuts[] = { 0, 1, 511, 512, 4095, 4096, 4097, 9000, 50000 };
	char path[192];
	struct fixture f;

	setup(&f);
	snprintf(path, sizeof(path), "%s/%s", f.path, f.file);
	for (unsigned i = sizeof(cuts) / sizeof(cuts[0]); i-- > 0;) {
		if (faccessat(f.dir, f.file, F_OK, 0) < 0)
			seal(&f, 1);
		cr_assert_eq(truncate(path, cuts[i]), 0);
		cr_assert_eq(reopen(&f), -KVFS_ETRUNCATED, "%lld", (long long)cuts[i]);
	}
	teardown(&f);
}

Test(object, every_cut_is_found)
{
	struct fixture f;
	uint8_t *file;
	size_t len;

	setup(&f);
	seal(&f, 1);
	file = slurp(&f, &len);
	for (size_t cut = 0; cut < len - 4096; cut += cut < 8192 ? 97 : 3001) {
		int err = open_bytes(&f, file, cut);
		cr_assert_eq(err, -KVFS_ETRUNCATED, "cut at %zu: %s", cut, err_name(err));
	}
	free(file);
	teardown(&f);
}

Test(object, another_objects_file_is_refused)
{
	struct fixture f;
	struct object_id other;
	char name[OBJECT_NAME_MAX];
	struct object *o;

	setup(&f);
	seal(&f, 1);
	other = f.id;
	other.generation++;
	object_name(&other, name);
	cr_assert_eq(renameat(f.dir, f.file, f.dir, name), 0);
	cr_assert_eq(object_open(f.dir, &other, NULL, &o), -KVFS_EIDENTITY);
	cr_assert_eq(unlinkat(f.dir, name, 0), 0);
	cr_assert_eq(symlinkat("/etc/passwd", f.dir, f.file), 0);
	cr_assert_eq(reopen(&f), -KVFS_EFORMAT);
	cr_assert_eq(unlinkat(f.dir, f.file, 0), 0);
	cr_assert_eq(mkfifoat(f.dir, f.file, 0600), 0);
	cr_assert_eq(reopen(&f), -KVFS_EFORMAT);
	teardown(&f);
}

/* ---- hostile bytes under right checksums ---------------------------------- */

struct evil {
	const char *what;
	size_t at;       /* in the header, or in the index with the top bit */
	unsigned width;
	uint64_t value;
	int err;
};
#define IN_INDEX ((size_t)1 << 40)
#define H(field) offsetof(struct kvfs_object_header, field), \
	sizeof(((struct kvfs_object_header *)0)->field)
#define C(n, field) IN_INDEX + (n) * 64 + offsetof(struct kvfs_chunk, field), \
	sizeof(((struct kvfs_chunk *)0)->field)
#define L(n, field) IN_INDEX + (n) * 64 + 40 + offsetof(struct kvfs_chunk_layer, field), \
	sizeof(((struct kvfs_chunk_layer *)0)->field)

static const struct evil evils[] = {
	{ "version 2", H(version), 2, -KVFS_EVERSION },
	{ "version 0", H(version), 0, -KVFS_EFORMAT },
	{ "header length", H(header_bytes), 1024, -KVFS_EFORMAT },
	{ "flags", H(flags), 1, -KVFS_EFORMAT },
	{ "reserved", H(reserved[3]), 1, -KVFS_EFORMAT },
	{ "no layers", H(n_layers), 0, -KVFS_EFORMAT },
	{ "nine layers", H(n_layers), 9, -KVFS_EFORMAT },
	{ "two layers", H(n_layers), 2, -KVFS_EFORMAT },
	{ "no chunks", H(n_chunks), 0, -KVFS_EFORMAT },
	{ "a chunk more", H(n_chunks), 5, -KVFS_EFORMAT },
	{ "2^32 chunks", H(n_chunks), UINT32_MAX, -KVFS_EFORMAT },
	{ "longer content", H(logical_bytes), 9001, -KVFS_EFORMAT },
	{ "huge content", H(logical_bytes), UINT64_MAX, -KVFS_EFORMAT },
	{ "layout over header", H(layout_off), 8, -KVFS_EFORMAT },
	{ "layout far", H(layout_off), UINT64_MAX - 8, -KVFS_EFORMAT },
	{ "layout long", H(layout_len), UINT64_MAX - 8, -KVFS_EFORMAT },
	{ "layout longer", H(layout_len), 1 << 29, -KVFS_EFORMAT },
	{ "index over layout", H(index_off), 512, -KVFS_EFORMAT },
	{ "index far", H(index_off), UINT64_MAX - 8, -KVFS_EFORMAT },
	{ "index long", H(index_len), UINT64_MAX - 8, -KVFS_EFORMAT },
	{ "index odd", H(index_len), 255, -KVFS_EFORMAT },
	{ "index over layer", H(index_len), 8192, -KVFS_EFORMAT },
	{ "file length", H(stored_bytes), 4096, -KVFS_EFORMAT },
	{ "unaligned length", H(stored_bytes), (1 << 20) + 1, -KVFS_EFORMAT },
	{ "layer unaligned", H(layers[0].off), 4097, -KVFS_EFORMAT },
	{ "layer over index", H(layers[0].off), 0, -KVFS_EFORMAT },
	{ "layer far", H(layers[0].off), UINT64_MAX - 4095, -KVFS_EFORMAT },
	{ "layer long", H(layers[0].len), UINT64_MAX - 4096, -KVFS_EFORMAT },
	{ "layer longer than the file", H(layers[0].len), 1 << 20, -KVFS_EFORMAT },
	{ "layer behind the last", H(layers[1].off), 8192, -KVFS_EFORMAT },
	{ "gap", C(1, off), 2501, -KVFS_EFORMAT },
	{ "overlap", C(1, off), 2499, -KVFS_EFORMAT },
	{ "first not at 0", C(0, off), 1, -KVFS_EFORMAT },
	{ "empty chunk", C(1, len), 0, -KVFS_EFORMAT },
	{ "long chunk", C(1, len), UINT32_MAX, -KVFS_EFORMAT },
	{ "short last chunk", C(3, len), 1499, -KVFS_EFORMAT },
	{ "elem", C(0, elem), ELEM_TYPES_, -KVFS_EFORMAT },
	{ "kind", C(0, kind), REGION_KINDS_, -KVFS_EFORMAT },
	{ "transposed", C(0, transposed), 2, -KVFS_EFORMAT },
	{ "chunk without layers", C(0, n_layers), 0, -KVFS_EFORMAT },
	{ "chunk with two layers", C(0, n_layers), 2, -KVFS_EFORMAT },
	{ "chunk reserved", C(2, reserved), 1, -KVFS_EFORMAT },
	{ "codec", L(0, codec), CODEC_IDS_, -KVFS_EFORMAT },
	{ "hole with bytes", L(0, codec), CODEC_HOLE, -KVFS_EFORMAT },
	{ "reference kind", L(0, kind), 1, -KVFS_EFORMAT },
	{ "extent in the index", L(0, off), 512, -KVFS_EFORMAT },
	{ "extent over the last", L(1, off), 4096, -KVFS_EFORMAT },
	{ "extent outside", L(3, off), 1 << 20, -KVFS_EFORMAT },
	{ "extent far", L(3, off), UINT64_MAX - 63, -KVFS_EFORMAT },
	{ "extent unaligned", L(3, off), 4096 + 7680 + 1, -KVFS_EFORMAT },
	{ "extent long", L(3, len), 100000, -KVFS_EFORMAT },
	{ "extent longer", L(3, len), UINT32_MAX, -KVFS_EFORMAT },
};

static void reseal(uint8_t *file, size_t len, const struct object_id *id)
{
	struct kvfs_object_header h;

	memcpy(&h, file, sizeof(h));
	object_header_swap(&h);
	if (h.layout_off <= len && h.layout_len <= len - h.layout_off)
		h.layout_sum = object_part_sum(id, OBJECT_SUM_LAYOUT, file + h.layout_off,
					       h.layout_len);
	if (h.index_off <= len && h.index_len <= len - h.index_off)
		h.index_sum = object_part_sum(id, OBJECT_SUM_INDEX, file + h.index_off, h.index_len);
	object_header_swap(&h);
	h.header_sum = htole64(object_header_sum(&h));
	memcpy(file, &h, sizeof(h));
}

Test(object, hostile_values_under_right_checksums_are_refused)
{
	const struct tobj_part small = { .len = 9000, .chunk_bytes = 2500, .codec = CODEC_RAW };
	struct kvfs_object_header h;
	struct fixture f;
	uint8_t *file, *bad;
	size_t len;

	setup(&f);
	cr_assert_eq(tobj_seal(f.dir, &f.id, f.data, &small, 1, 1), 0);
	file = slurp(&f, &len);
	bad = malloc(len);
	cr_assert_eq(object_header_parse((void *)file, &f.id, len, &h), 0);
	for (size_t i = 0; i < sizeof(evils) / sizeof(evils[0]); i++) {
		const struct evil *e = &evils[i];
		size_t at = e->at & IN_INDEX ? (e->at & ~IN_INDEX) + h.index_off : e->at;
		uint64_t v = htole64(e->value);

		memcpy(bad, file, len);
		memcpy(bad + at, &v, e->width);
		reseal(bad, len, &f.id);
		int err = open_bytes(&f, bad, len);
		cr_assert_eq(err, e->err, "%s: %s", e->what, err_name(err));
	}
	reseal(file, len, &f.id);
	cr_assert_eq(open_bytes(&f, file, len), 0);
	free(bad);
	free(file);
	teardown(&f);
}

Test(object, writer_refuses_plans_that_cannot_be)
{
	struct layout layout = { .name = "opaque", .size_bytes = 10 };
	struct layout_chunk chunk = { .off_bytes = 0, .len_bytes = 10 };
	struct object_plan plan = { .logical_bytes = 10, .layout = &layout, .chunks = &chunk,
				    .n_chunks = 1, .n_layers = 1 };
	struct object_part part = { .codec = CODEC_RAW, .buf = "0123456789", .len = 10 };
	struct object_part hole2[2] = { { .codec = CODEC_HOLE }, { .codec = CODEC_HOLE } };
	struct object_writer *w;
	struct fixture f;
	uint64_t stored;

	setup(&f);
	plan.id = f.id;
	plan.n_layers = 9;
	cr_assert_eq(object_writer_create(f.dir, &plan, &w), -EINVAL);
	plan.n_layers = 2;
	cr_assert_eq(object_writer_create(f.dir, &plan, &w), 0);
	cr_assert_eq(object_writer_add(w, hole2, 2), -EINVAL);
	part.codec = CODEC_IDS_;
	cr_assert_eq(object_writer_add(w, &part, 1), -EINVAL);
	part.codec = CODEC_RAW;
	part.len = UINT32_MAX;
	cr_assert_eq(object_writer_add(w, &part, 1), -EINVAL);
	part.len = 10;
	cr_assert_eq(object_writer_add(w, &part, 1), 0);
	cr_assert_eq(object_writer_add(w, &part, 1), -EINVAL);
	cr_assert(object_writer_bytes(w) >= 8192);
	cr_assert_eq(object_writer_finish(w, &stored), 0);
	cr_assert_eq(reopen(&f), 0);
	cr_assert_eq(object_remove(f.dir, &f.id), 0);
	/* unfinished: gone */
	cr_assert_eq(object_writer_create(f.dir, &plan, &w), 0);
	cr_assert_eq(object_writer_finish(w, &stored), -EINVAL);
	cr_assert_eq(reopen(&f), -ENOENT);
	object_writer_abort(NULL);
	teardown(&f);
}

#ifdef KVFS_FAULTS
/* Every allocation, write and fsync fails once: an error, and no file stays. */
static void writer_loop(enum fault_kind kind, unsigned n_layers)
{
	struct fixture f;
	unsigned n;

	/* Without waiting for a disk, and with what tmpfs makes of O_DIRECT. */
	setenv("TMPDIR", "/dev/shm", 1);
	setup(&f);
	for (n = 1; n < 1000; n++) {
		fault_arm(kind, n, false);
		int err = tobj_seal(f.dir, &f.id, f.data, parts, N_PARTS, n_layers);
		unsigned asked = fault_count(kind);

		fault_arm(kind, 0, false);
		if (asked < n) {
			cr_assert_eq(err, 0);
			break;
		}
		cr_assert_lt(err, 0, "%u", n);
		cr_assert_eq(reopen(&f), -ENOENT);
	}
	cr_assert_gt(n, 1);
	cr_assert_eq(reopen(&f), 0);
	teardown(&f);
}
Test(object, writer_survives_failing_allocations) { writer_loop(FAULT_ALLOC, 3); }
Test(object, writer_survives_failing_writes) { writer_loop(FAULT_WRITE, 3); }
Test(object, writer_survives_failing_reads_of_its_spool) { writer_loop(FAULT_READ, 3); }
Test(object, writer_survives_failing_syncs) { writer_loop(FAULT_SYNC, 1); }

static void open_loop(enum fault_kind kind)
{
	const struct tobj_part many = { .len = SIZE, .chunk_bytes = 64, .codec = CODEC_RAW };
	struct fixture f;
	struct budget b;
	struct object *o;
	unsigned n;

	setup(&f);
	budget_init(&b, 64 << 20);
	cr_assert_eq(tobj_seal(f.dir, &f.id, f.data, &many, 1, 1), 0);
	for (n = 1; n < 100; n++) {
		fault_arm(kind, n, false);
		int err = object_open(f.dir, &f.id, &b, &o);
		unsigned asked = fault_count(kind);

		fault_arm(kind, 0, false);
		if (!err) {
			cr_assert_lt(asked, n);
			object_put(o);
			break;
		}
		cr_assert_eq(err, kind == FAULT_ALLOC ? -ENOMEM : -EIO);
		cr_assert_eq(budget_used(&b), 0);
	}
	cr_assert_gt(n, 2);
	cr_assert_eq(budget_used(&b), 0);
	teardown(&f);
}
Test(object, open_survives_failing_allocations) { open_loop(FAULT_ALLOC); }
Test(object, open_survives_failing_reads) { open_loop(FAULT_READ); }
#endif
