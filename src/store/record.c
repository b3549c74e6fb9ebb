/* SPDX-License-Identifier: MIT */
/*
 * The record's bytes and its xattr. A record that does not parse is an error
 * and never "plain": serving the punched stand-in as content would be zeros.
 */
#include "store/record.h"

#include <errno.h>
#include <string.h>
#include <sys/xattr.h>

#include "base/hash.h"
#include "base/le.h"

bool record_is_name(const char *xattr)
{
	return strcmp(xattr, KVFS_RECORD_XATTR_ROOT) == 0 ||
	       strcmp(xattr, KVFS_RECORD_XATTR_USER) == 0;
}

static uint32_t record_sum(const uint8_t *p)
{
	return (uint32_t)hash64(p, 60, 0);
}

void record_object(const struct kvfs_record *r, struct object_id *ret)
{
	memcpy(ret->id, r->id, sizeof(ret->id));
	ret->generation = r->generation;
}

void record_pack(const struct kvfs_record *r, uint8_t out[64])
{
	out[0] = KVFS_RECORD_VERSION;
	out[1] = r->state;
	out[2] = r->levels;
	out[3] = r->flags;
	le32_put(out + 4, r->generation);
	memcpy(out + 8, r->id, 16);
	le64_put(out + 24, (uint64_t)r->mtime_sec);
	le64_put(out + 32, (uint64_t)r->ctime_sec);
	le32_put(out + 40, r->mtime_nsec);
	le32_put(out + 44, r->ctime_nsec);
	le64_put(out + 48, r->valid_bytes);
	le32_put(out + 56, r->stored_blocks);
	le32_put(out + 60, record_sum(out));
}

static bool flags_fit(const struct kvfs_record *r)
{
	uint8_t known = KVFS_RECORD_CTIME | KVFS_RECORD_MTIME | KVFS_RECORD_DAMAGED;

	if (r->version >= 2)
		known |= KVFS_RECORD_OVERLAY | KVFS_RECORD_EXTENTS | KVFS_RECORD_DROPPED;
	if ((r->flags & KVFS_RECORD_DROPPED) && r->state == KVFS_RECORD_PLAIN)
		return false;
	if ((r->flags & KVFS_RECORD_OVERLAY) && r->state != KVFS_RECORD_SEALED)
		return false;
	if ((r->flags & KVFS_RECORD_EXTENTS) &&
	    (r->flags & (KVFS_RECORD_OVERLAY | KVFS_RECORD_CTIME | KVFS_RECORD_MTIME)) !=
		    KVFS_RECORD_OVERLAY)
		return false;
	return (r->flags & ~known) == 0;
}

int record_unpack(const uint8_t in[64], size_t len, struct kvfs_record *ret)
{
	struct kvfs_record r = { 0 };

	if (len != 64)
		return -KVFS_EFORMAT;
	/* every version keeps the sum in this place, or else it is not a record */
	if (record_sum(in) != le32_get(in + 60))
		return -KVFS_ECHECKSUM;
	if (in[0] > KVFS_RECORD_VERSION)
		return -KVFS_EVERSION;
	r.version = in[0];
	r.state = in[1];
	r.levels = in[2];
	r.flags = in[3];
	r.generation = le32_get(in + 4);
	memcpy(r.id, in + 8, 16);
	r.mtime_sec = (int64_t)le64_get(in + 24);
	r.ctime_sec = (int64_t)le64_get(in + 32);
	r.mtime_nsec = le32_get(in + 40);
	r.ctime_nsec = le32_get(in + 44);
	r.valid_bytes = le64_get(in + 48);
	r.stored_blocks = le32_get(in + 56);
	if (r.state > KVFS_RECORD_SEALED || r.levels > KVFS_OBJECT_LAYERS || !flags_fit(&r) ||
	    r.mtime_nsec >= 1000000000u || r.ctime_nsec >= 1000000000u)
		return -KVFS_EFORMAT;
	if (r.version < 2 && r.state == KVFS_RECORD_SEALED)
		r.flags |= KVFS_RECORD_OVERLAY;
	*ret = r;
	return 0;
}

int record_get(int fd, const char *path, const char *xattr, struct kvfs_record *ret)
{
	uint8_t raw[65];
	ssize_t n;

	n = fd >= 0 ? fgetxattr(fd, xattr, raw, sizeof(raw)) :
		      lgetxattr(path, xattr, raw, sizeof(raw));
	if (n < 0) {
		if (errno == ERANGE)
			return -KVFS_EFORMAT;
		return -errno;
	}
	return record_unpack(raw, (size_t)n, ret);
}

int record_set(int fd, const char *xattr, const struct kvfs_record *r)
{
	uint8_t raw[64];

	record_pack(r, raw);
	if (fsetxattr(fd, xattr, raw, sizeof(raw), 0) < 0)
		return -errno;
	return 0;
}
