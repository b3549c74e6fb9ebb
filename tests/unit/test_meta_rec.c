/* SPDX-License-Identifier: MIT */
/* Records of the index: what is packed comes back, with samples and as it was before there were
 * any, and nothing else is taken for one. */
#include <criterion/criterion.h>
#include <string.h>

#include "base/hash.h"
#include "store/meta_rec.h"

static struct meta_rec record(size_t name_len, uint32_t samples)
{
	struct meta_rec r;

	memset(&r, 0, sizeof(r));
	r.parent_ino = 77;
	r.stored_bytes = 1ull << 40;
	r.heat = 2.5;
	r.flags = META_SEALED | META_PINNED;
	memset(r.name, 'n', name_len);
	r.sample = (struct meta_sample){ .object = 3, .n = samples, .errors = { 0.5f, 0.25f } };
	return r;
}

Test(meta_rec, comes_back)
{
	const size_t lens[] = { 0, 1, 214, 215, 254, NAME_MAX };

	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++)
		for (uint32_t n = 0; n < 2; n++) {
			struct meta_rec r = record(lens[i], n), got;
			uint8_t buf[META_REC_BYTES_MAX];
			size_t len = meta_rec_pack(9, &r, buf);

			cr_assert_eq(len, offsetof(struct meta_rec, name) + lens[i] + 1 +
						  n * sizeof(r.sample));
			cr_assert(meta_rec_unpack(9, buf, len, &got), "name of %zu", lens[i]);
			cr_assert(got.parent_ino == 77 && got.stored_bytes == 1ull << 40 &&
				  got.heat == 2.5 && got.flags == r.flags);
			cr_assert_str_eq(got.name, r.name);
			cr_assert_eq(got.sample.n, n);
			cr_assert(n == 0 || memcmp(&got.sample, &r.sample, sizeof(r.sample)) == 0);
			cr_assert(!meta_rec_unpack(8, buf, len, &got), "of another inode");
		}
}

/* As they were written before there were samples: the members, the name, its end. */
Test(meta_rec, of_earlier_versions)
{
	struct meta_rec r = record(5, 0), got;
	size_t len = offsetof(struct meta_rec, name) + 6;

	r.sum = 0;
	r.sum = (uint32_t)hash64(&r, len, 9);
	cr_assert(meta_rec_unpack(9, &r, len, &got));
	cr_assert_str_eq(got.name, "nnnnn");
	cr_assert_eq(got.sample.n, 0);
}

Test(meta_rec, damage)
{
	struct meta_rec r = record(20, 2), got;
	uint8_t buf[META_REC_BYTES_MAX + 1];
	size_t len = meta_rec_pack(9, &r, buf);

	for (size_t cut = 0; cut < len; cut++)
		cr_assert(!meta_rec_unpack(9, buf, cut, &got), "cut to %zu", cut);
	cr_assert(!meta_rec_unpack(9, buf, sizeof(buf), &got));
	for (size_t at = 0; at < len; at++) {
		buf[at] ^= 4;
		cr_assert(!meta_rec_unpack(9, buf, len, &got), "byte %zu", at);
		buf[at] ^= 4;
	}
	cr_assert(meta_rec_unpack(9, buf, len, &got));
	memset(buf, 'x', len); /* a name without an end */
	cr_assert(!meta_rec_unpack(9, buf, len, &got));
}
