/* SPDX-License-Identifier: MIT */
#include "store/meta_rec.h"

#include <string.h>

#include "base/hash.h"

#define HEAD offsetof(struct meta_rec, name)
#define SUM offsetof(struct meta_rec, sum)

static uint32_t sum_of(uint64_t ino, const uint8_t *p, size_t len)
{
	uint8_t copy[META_REC_BYTES_MAX];

	memcpy(copy, p, len);
	memset(copy + SUM, 0, sizeof(uint32_t));
	return (uint32_t)hash64(copy, len, ino);
}

size_t meta_rec_pack(uint64_t ino, const struct meta_rec *r, uint8_t buf[META_REC_BYTES_MAX])
{
	size_t len = HEAD + strnlen(r->name, NAME_MAX);
	uint32_t sum;

	memcpy(buf, r, len);
	buf[len++] = 0;
	if (r->sample.n > 0) {
		memcpy(buf + len, &r->sample, sizeof(r->sample));
		len += sizeof(r->sample);
	}
	sum = sum_of(ino, buf, len);
	memcpy(buf + SUM, &sum, sizeof(sum));
	return len;
}

bool meta_rec_unpack(uint64_t ino, const void *p, size_t len, struct meta_rec *ret)
{
	const uint8_t *b = p, *end;
	size_t rest;

	memset(ret, 0, sizeof(*ret));
	if (len <= HEAD || len > META_REC_BYTES_MAX)
		return false;
	memcpy(ret, b, HEAD);
	end = memchr(b + HEAD, 0, len - HEAD);
	if (!end || end - (b + HEAD) > NAME_MAX || sum_of(ino, b, len) != ret->sum)
		return false;
	memcpy(ret->name, b + HEAD, (size_t)(end - (b + HEAD)));
	rest = len - (size_t)(end + 1 - b);
	if (rest == sizeof(ret->sample))
		memcpy(&ret->sample, end + 1, rest);
	return rest == 0 || rest == sizeof(ret->sample);
}
