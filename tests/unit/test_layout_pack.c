/* SPDX-License-Identifier: MIT */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "kvcachefs/format_layout.h"
#include "layout_file.h"

static struct sbuf packed(const char *declared, size_t len)
{
	struct lfile f = { .declared = declared, .checksummed = true };
	struct sbuf b = SBUF_INIT;
	struct layout *l;

	lfile_noise(&f, len, 9);
	l = lfile_recognise(&f);
	cr_assert_eq(layout_pack(l, &b), 0);
	layout_destroy(l);
	lfile_fini(&f);
	return b;
}

Test(layout_pack, a_page_of_many_layers_is_two_runs)
{
	struct sbuf b = packed("dtype=bf16 order=2LTHD layers=32 heads=2 dim=8", 2 * 32 * 5 * 32);
	size_t veto = strlen("a checksum of the content is kept beside it");

	cr_assert_eq(b.len,
		     sizeof(struct kvfs_layout_head) + 2 * sizeof(struct kvfs_layout_run) + veto);
	sbuf_fini(&b);
}

Test(layout_pack, lengths_that_do_not_fit_are_refused)
{
	struct sbuf b = packed("dtype=bf16 order=2LTHD layers=3 heads=2 dim=8", 2 * 3 * 5 * 32);
	struct layout *l;
	char *big = calloc(1, b.len + 100);

	memcpy(big, b.s, b.len);
	for (size_t n = 0; n < b.len + 100; n++)
		if (n != b.len)
			cr_assert_eq(layout_unpack(big, n, &l), -KVFS_EFORMAT);
	free(big);
	sbuf_fini(&b);
}

/* Whatever byte changes, it is refused or a different, sane layout. */
Test(layout_pack, every_flipped_byte_is_refused_or_sane)
{
	struct sbuf b = packed("dtype=bf16 order=2LTHD layers=3 heads=2 dim=8", 2 * 3 * 5 * 32);
	static const uint8_t flip[] = { 1, 2, 0x80, 0xff, 0x7f };
	unsigned refused = 0, taken = 0;

	for (size_t i = 0; i < b.len; i++) {
		for (size_t k = 0; k < sizeof(flip); k++) {
			struct layout *l = NULL;
			int err;

			b.s[i] = (char)(b.s[i] ^ flip[k]);
			err = layout_unpack(b.s, b.len, &l);
			b.s[i] = (char)(b.s[i] ^ flip[k]);
			cr_assert(!err || err == -KVFS_EFORMAT);
			refused += err != 0;
			taken += !err;
			if (!err)
				layout_check_properties(l);
			layout_destroy(l);
		}
	}
	cr_assert_gt(refused, 4 * taken / 3);
	sbuf_fini(&b);
}

Test(layout_pack, counts_near_the_limits_are_refused)
{
	struct sbuf b = packed("dtype=bf16 order=TD dim=8", 160);
	struct kvfs_layout_head h;
	struct kvfs_layout_run r;
	struct layout *l;

	memcpy(&h, b.s, sizeof(h));
	memcpy(&r, b.s + sizeof(h), sizeof(r));
	r.count = UINT32_MAX;
	memcpy(b.s + sizeof(h), &r, sizeof(r));
	cr_assert_eq(layout_unpack(b.s, b.len, &l), -KVFS_EFORMAT);
	r.stride_bytes = UINT64_MAX;
	memcpy(b.s + sizeof(h), &r, sizeof(r));
	cr_assert_eq(layout_unpack(b.s, b.len, &l), -KVFS_EFORMAT);
	h.n_runs = UINT32_MAX;
	memcpy(b.s, &h, sizeof(h));
	cr_assert_eq(layout_unpack(b.s, b.len, &l), -KVFS_EFORMAT);
	sbuf_fini(&b);
}

/* The bytes on disk, once and for ever: opaque, 1 GiB. */
Test(layout_pack, golden_bytes)
{
	static const uint8_t want[48] = { 'K', 'V', 'L', 'D', 1, 0, 0, 0, 0, 0, 0, 0x40 };
	struct layout l = { .name = "opaque", .size_bytes = 1u << 30 }, *u;
	struct sbuf b = SBUF_INIT;

	cr_assert_eq(layout_pack(&l, &b), 0);
	cr_assert_eq(b.len, sizeof(want));
	cr_assert_arr_eq(b.s, want, sizeof(want));
	cr_assert_eq(layout_unpack(want, sizeof(want), &u), 0);
	cr_assert_eq(u->size_bytes, 1u << 30);
	layout_destroy(u);
	sbuf_fini(&b);
}

Test(layout_pack, what_is_no_layout_is_not_packed)
{
	struct layout_region r[2] = {
		{ .off_bytes = 8, .len_bytes = 8, .kind = REGION_K, .elem = ELEM_F16 },
		{ .off_bytes = 12, .len_bytes = 8, .kind = REGION_K, .elem = ELEM_F16 }
	};
	struct layout l = { .name = "npy", .size_bytes = 20, .regions = r, .n_regions = 2 };
	struct sbuf b = SBUF_INIT;

	cr_assert_eq(layout_pack(&l, &b), -EINVAL);
	l.n_regions = 1;
	l.lossy_veto = true; /* without a reason */
	cr_assert_eq(layout_pack(&l, &b), -EINVAL);
	strcpy(l.veto, "a\nb");
	cr_assert_eq(layout_pack(&l, &b), -EINVAL);
	strcpy(l.veto, "why");
	l.name = "nonsense";
	cr_assert_eq(layout_pack(&l, &b), -EINVAL);
	sbuf_fini(&b);
}

#ifdef KVFS_FAULTS
#include "base/fault.h"

/* Each allocation of each recogniser fails once; nothing leaks or crashes. */
Test(layout_pack, every_allocation_may_fail)
{
	for (unsigned kind = 0; kind < 4; kind++) {
		struct lfile f = { .declared = kind == 0 ? "dtype=f16 order=LTD layers=9 dim=4"
							 : NULL };
		int err = -ENOMEM;

		if (kind == 1) {
			lfile_safetensors(&f,
					  "{\"k\":{\"dtype\":\"F16\",\"shape\":[4,8],\"data_"
					  "offsets\":[0,64]},"
					  "\"v\":{\"dtype\":\"F16\",\"shape\":[4,8],\"data_"
					  "offsets\":[64,128]}}",
					  128);
		} else if (kind == 2) {
			static const uint32_t w[] = { 0x67677371, 3, 0, 1, 1, 0, 0, 0, 1,
						      1,          4, 0, 0, 1, 4, 0, 0 };

			for (size_t i = 0; i < sizeof(w) / sizeof(w[0]); i++)
				lfile_u32(&f, w[i]);
		} else {
			lfile_noise(&f, 720, 1);
		}
		for (unsigned n = 1; err == -ENOMEM; n++) {
			struct layout_input in = lfile_input(&f);
			struct layout_chunk *c = NULL;
			struct sbuf b = SBUF_INIT;
			struct layout *l = NULL, *u = NULL;
			uint32_t n_chunks;

			fault_arm(FAULT_ALLOC, n, false);
			err = layout_recognise(&in, &l);
			if (!err)
				err = layout_pack(l, &b);
			if (!err)
				err = layout_unpack(b.s, b.len, &u);
			if (!err)
				err = layout_cut(l, 100, 200, &c, &n_chunks);
			fault_arm(FAULT_ALLOC, 0, false);
			mem_free(c);
			layout_destroy(l);
			layout_destroy(u);
			sbuf_fini(&b);
		}
		cr_assert_eq(err, 0);
		lfile_fini(&f);
	}
}
#endif
