/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_STORE_THIN_H
#define KVCACHEFS_STORE_THIN_H
/*
 * Dropping tokens of a file whose readers asked for that. thin_content.c makes the
 * shorter content, thin.c puts it in the place of the old one.
 */
#include "codecs/drop.h"
#include "layouts/compact.h"
#include "store/recognise.h"

#define THIN_WHY_MAX 128

/* The content with fewer tokens, in an unnamed file of the store. */
struct thin_content {
	struct store *st;
	int fd; /* -1: none */
	uint64_t size;
	struct layout *layout; /* of it; owned */
	uint32_t cells, kept;  /* tokens before and now */
	uint64_t counted;      /* of the memory budget, while it is made */
	uint64_t reserved;     /* of the SSD budget, as long as it is there */
};

/* Reads @file, whose layout is @l, chooses cells by @p, writes and checks @ret; fini
 * follows either way. -KVFS_ENODROP with a reason for people in @why (THIN_WHY_MAX
 * bytes): such a file cannot lose tokens, or none would go. -KVFS_EFULL; -code of
 * reading and writing. */
WUR int thin_content_make(struct recognise *file, const struct layout *l,
			  const struct drop_params *p, struct thin_content *ret, char *why);
void thin_content_fini(struct thin_content *t);

/* Token positions of the content as ranges; -ENODATA where it does not tell. */
WUR int thin_positions(struct recognise *file, const struct layout *l, struct sbuf *ret);

/* "keydiff:0.25", of a name such as "drop:keydiff:0.25"; -EINVAL. */
WUR int thin_parse(const char *level, struct drop_params *ret);
/* Tokens were dropped of what was written. Gate held. */
bool thin_is(const struct ctx *c);
/* All of it, as store_level() says, on the calling thread. */
WUR int thin_run(struct ctx *c, struct node *n, const struct drop_params *p);

#endif
