/* SPDX-License-Identifier: MIT */
/*
 * Files made by the real writers (tests/golden/layouts/make.sh), and what is
 * recognised in them: tests/golden/layouts/EXPECT has per line the file, the
 * XXH3 of its packed descriptor and its dump, TAB-separated, with the
 * declaration behind a "|" after the name where there is one.
 */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/io.h"
#include "base/mem.h"
#include "layout_file.h"

static void load(struct lfile *f, const char *name)
{
	char path[500], *s;
	size_t len;

	*f = (struct lfile){ .name = name };
	snprintf(path, sizeof(path), KVFS_GOLDEN_LAYOUTS "/files/%s", name);
	cr_assert_eq(io_read_file(AT_FDCWD, path, 1 << 20, &s, &len), 0, "%s", path);
	lfile_bytes(f, s, len);
	mem_free(s);
}

static void check_line(char *line)
{
	char *name = strtok(line, "\t"), *sum = strtok(NULL, "\t"), *dump = strtok(NULL, "\n");
	char *declared = strchr(name, '|'), got[20];
	struct sbuf p = SBUF_INIT, d = SBUF_INIT;
	struct layout *l;
	struct lfile f;

	if (declared)
		*declared++ = '\0';
	load(&f, name);
	f.declared = declared;
	l = lfile_recognise(&f);
	cr_assert_eq(layout_pack(l, &p), 0);
	layout_dump(l, &d);
	snprintf(got, sizeof(got), "%016llx", (unsigned long long)hash64(p.s, p.len, 0));
	cr_expect(!strcmp(d.s, dump) && !strcmp(got, sum), "%s\t%s\t%s", name, got, d.s);
	layout_destroy(l);
	sbuf_fini(&p);
	sbuf_fini(&d);
	lfile_fini(&f);
}

Test(layout_golden, everything_in_the_list_is_recognised_as_it_was)
{
	char *s, *line, *save;
	unsigned n = 0;
	size_t len;

	cr_assert_eq(io_read_file(AT_FDCWD, KVFS_GOLDEN_LAYOUTS "/EXPECT", 1 << 20, &s, &len), 0);
	for (line = strtok_r(s, "\n", &save); line; line = strtok_r(NULL, "\n", &save), n++) {
		char copy[500];

		snprintf(copy, sizeof(copy), "%s", line);
		check_line(copy);
	}
	cr_assert_geq(n, 30);
	mem_free(s);
}

/* kvlm wrote one context in two formats: the same layer's K and V are the same
 * bytes in both. */
Test(layout_golden, regions_of_two_formats_hold_the_same_bytes)
{
	struct lfile a, b;
	struct layout *x, *y;

	load(&a, "kvlm.llama");
	load(&b, "kvlm.safetensors");
	x = lfile_recognise(&a);
	y = lfile_recognise(&b);
	cr_assert_eq(x->n_regions, y->n_regions);
	for (uint32_t i = 0; i < x->n_regions; i++) {
		const struct layout_region *r = &x->regions[i];
		uint32_t same = 0;

		for (uint32_t k = 0; k < y->n_regions; k++) {
			const struct layout_region *q = &y->regions[k];

			if (q->kind != r->kind || q->layer != r->layer)
				continue;
			same++;
			cr_expect_eq(q->len_bytes, r->len_bytes);
			cr_expect_eq(q->row_bytes, r->row_bytes);
			cr_expect(!memcmp(a.d + r->off_bytes, b.d + q->off_bytes, r->len_bytes),
				  "layer %u", r->layer);
		}
		cr_expect_eq(same, 1);
	}
	layout_destroy(x);
	layout_destroy(y);
	lfile_fini(&a);
	lfile_fini(&b);
}

/* Without flash attention llama.cpp transposes V; layer 0 is the same values. */
Test(layout_golden, transposed_v_is_the_other_v_transposed)
{
	struct lfile a, b;
	struct layout *x, *y;
	const struct layout_region *r, *q;

	load(&a, "llama-llama-seq-f16-f16-fa1.bin");
	load(&b, "llama-llama-seq-f16-f16-fa0.bin");
	x = lfile_recognise(&a);
	y = lfile_recognise(&b);
	r = &x->regions[3];
	q = &y->regions[3];
	cr_assert(r->kind == REGION_V && q->kind == REGION_V && !r->transposed && q->transposed);
	for (unsigned t = 0; t < 20; t++)
		for (unsigned c = 0; c < 32; c++)
			cr_assert(!memcmp(a.d + r->off_bytes + t * r->row_bytes + 2 * c,
					  b.d + q->off_bytes + c * q->row_bytes + 2 * t, 2));
	layout_destroy(x);
	layout_destroy(y);
	lfile_fini(&a);
	lfile_fini(&b);
}
