/* SPDX-License-Identifier: MIT */
/* Records of every version, and what a stand-in's data mean in the original and
 * in copies that lost or gained holes. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/le.h"
#include "objects.h"
#include "store/record.h"
#include "store/standin.h"

#define BLOCK 4096u
#define BLOCKS 64u

static const struct kvfs_record sealed = { .version = 2, .state = KVFS_RECORD_SEALED, .levels = 1,
					   .generation = 3, .mtime_sec = 5, .ctime_sec = -7,
					   .mtime_nsec = 999999999, .valid_bytes = 1 << 20,
					   .stored_blocks = 9, .id = "0123456789abcde" };

/* As it would lie on disk with these bytes in front. */
static int unpack(uint8_t version, uint8_t state, uint8_t flags, struct kvfs_record *ret)
{
	uint8_t raw[64];

	record_pack(&sealed, raw);
	raw[0] = version;
	raw[1] = state;
	raw[3] = flags;
	le32_put(raw + 60, (uint32_t)hash64(raw, 60, 0));
	return record_unpack(raw, sizeof(raw), ret);
}

Test(record, of_version_1_lets_data_override_when_sealed)
{
	struct kvfs_record r;

	cr_assert_eq(unpack(1, KVFS_RECORD_SEALED, KVFS_RECORD_CTIME, &r), 0);
	cr_assert_eq(r.flags, KVFS_RECORD_CTIME | KVFS_RECORD_OVERLAY);
	cr_assert_eq(r.ctime_sec, -7);
	cr_assert_eq(unpack(1, KVFS_RECORD_SWITCHED, KVFS_RECORD_MTIME, &r), 0);
	cr_assert_eq(r.flags, KVFS_RECORD_MTIME);
	cr_assert_eq(unpack(1, KVFS_RECORD_PLAIN, 0, &r), 0);
	cr_assert_eq(r.flags, 0);
	cr_assert_eq(unpack(1, KVFS_RECORD_SEALED, KVFS_RECORD_OVERLAY, &r), -KVFS_EFORMAT);
}

Test(record, of_version_2_says_so)
{
	const uint8_t both = KVFS_RECORD_OVERLAY | KVFS_RECORD_EXTENTS;
	struct kvfs_record r;

	cr_assert_eq(unpack(2, KVFS_RECORD_SEALED, 0, &r), 0);
	cr_assert_eq(r.flags, 0);
	cr_assert_eq(unpack(2, KVFS_RECORD_SEALED, both | KVFS_RECORD_DAMAGED, &r), 0);
	cr_assert_eq(unpack(2, KVFS_RECORD_SEALED, KVFS_RECORD_EXTENTS, &r), -KVFS_EFORMAT);
	cr_assert_eq(unpack(2, KVFS_RECORD_SEALED, both | KVFS_RECORD_CTIME, &r), -KVFS_EFORMAT);
	cr_assert_eq(unpack(2, KVFS_RECORD_SEALED, both | KVFS_RECORD_MTIME, &r), -KVFS_EFORMAT);
	cr_assert_eq(unpack(2, KVFS_RECORD_PLAIN, KVFS_RECORD_OVERLAY, &r), -KVFS_EFORMAT);
	cr_assert_eq(unpack(2, KVFS_RECORD_SWITCHED, both, &r), -KVFS_EFORMAT);
	cr_assert_eq(unpack(2, KVFS_RECORD_SWITCHED, KVFS_RECORD_DROPPED, &r), 0);
	cr_assert_eq(unpack(2, KVFS_RECORD_PLAIN, KVFS_RECORD_DROPPED, &r), -KVFS_EFORMAT);
	cr_assert_eq(unpack(1, KVFS_RECORD_SEALED, KVFS_RECORD_DROPPED, &r), -KVFS_EFORMAT);
	cr_assert_eq(unpack(2, KVFS_RECORD_SEALED, 0x40, &r), -KVFS_EFORMAT);
	cr_assert_eq(unpack(3, KVFS_RECORD_SEALED, 0, &r), -KVFS_EVERSION);
}

/* ---- stand-ins ------------------------------------------------------------ */

static int standin(int dir, const char *name, uint64_t data_blocks)
{
	char block[BLOCK];
	int fd = openat(dir, name, O_RDWR | O_CREAT | O_EXCL, 0600);

	memset(block, 'x', sizeof(block));
	cr_assert(fd >= 0 && ftruncate(fd, BLOCKS * BLOCK - 100) == 0);
	for (unsigned i = 0; i < BLOCKS; i++)
		if (data_blocks >> i & 1)
			cr_assert_eq(pwrite(fd, block, i == BLOCKS - 1 ? BLOCK - 100 : BLOCK, i * BLOCK),
				     i == BLOCKS - 1 ? BLOCK - 100 : BLOCK);
	return fd;
}

static int examine(int fd, const struct kvfs_record *rec)
{
	struct stat sb;

	cr_assert(fstat(fd, &sb) == 0);
	cr_assert_eq(standin_settle(fd, true), 0);
	return standin_examine(fd, &sb, rec);
}

Test(standin, data_count_where_they_were_noted)
{
	const uint64_t where = 0x8000000000f00006ull;
	char path[64];
	int dir = tobj_dir(path), fd = standin(dir, "a", where), copy = standin(dir, "b", where);
	int filled = standin(dir, "c", UINT64_MAX), fewer = standin(dir, "d", where & ~2ull);
	int empty = standin(dir, "e", 0);
	struct kvfs_record r = sealed;
	uint64_t inode, map;

	cr_assert_eq(examine(empty, &r), STANDIN_EMPTY);
	cr_assert_eq(examine(fd, &r), STANDIN_FOREIGN);
	r.flags = KVFS_RECORD_OVERLAY; /* of version 1 */
	cr_assert_eq(examine(empty, &r), STANDIN_EMPTY);
	cr_assert_eq(examine(filled, &r), STANDIN_OVERLAY);

	r.flags |= KVFS_RECORD_EXTENTS;
	cr_assert_eq(standin_inode(fd, &inode), 0);
	cr_assert_eq(standin_map(fd, BLOCKS * BLOCK, &map), 0);
	r.mtime_sec = (int64_t)inode;
	r.ctime_sec = (int64_t)map;
	cr_assert_eq(examine(fd, &r), STANDIN_OVERLAY);
	cr_assert_eq(examine(copy, &r), STANDIN_OVERLAY);
	cr_assert_eq(examine(filled, &r), STANDIN_UNKNOWN);
	cr_assert_eq(examine(fewer, &r), STANDIN_UNKNOWN);
	cr_assert_eq(examine(empty, &r), STANDIN_UNKNOWN);

	/* as a crash in the middle of writing leaves it */
	r.ctime_sec = (int64_t)KVFS_RECORD_MAP_UNKNOWN;
	cr_assert_eq(examine(fd, &r), STANDIN_OVERLAY);
	cr_assert_eq(examine(copy, &r), STANDIN_UNKNOWN);

	cr_assert_eq(standin_map(empty, BLOCKS * BLOCK, &map), 0);
	cr_assert_eq(map, 0);
	close(fd), close(copy), close(filled), close(fewer), close(empty);
	tobj_dir_remove(path, dir);
}
