/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_TESTS_LIB_READING_H
#define KVCACHEFS_TESTS_LIB_READING_H
/* A reader over one sealed object with known content, for conformance and stress. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "objects.h"
#include "store/read.h"

enum rtier { RTIER_SSD, RTIER_MEM, RTIER_MANUAL };

struct reading {
	char path[64];
	int dir;
	struct budget budget;
	struct workers *workers;
	struct tier_io *tier;
	struct arena *arena;
	struct reader *reader;
	struct object *obj;
	struct replica *rep;   /* NULL until reading_replica */
	struct read_source src;
	uint8_t *data;         /* the content */
	uint64_t size;
};

struct reading_config {
	enum rtier tier;
	unsigned threads;      /* workers; 0: the serial twin */
	uint64_t budget_bytes; /* 0: 1 GiB */
	uint64_t window_bytes; /* 0: 64 MiB */
	const struct tobj_part *parts; /* NULL: a bit of everything, about 5 MiB */
	unsigned n_parts;
	bool layered;          /* parts with CODEC_LADDER_HUF are in layers */
	uint64_t flip_at;      /* byte of the object's file to damage in the memory tier; 0 none */
};
/* Everything works or the test fails. */
void reading_create(struct reading *f, const struct reading_config *c);
/* Checks that nothing is left in the budget. */
void reading_destroy(struct reading *f);
/* A replica of chunks [first, end) in the form for DRAM, as far as the budget goes. */
void reading_replica(struct reading *f, uint32_t first, uint32_t end);
/* Where chunk @chunk's stored bytes begin in the object's file. */
uint64_t reading_stored_at(const struct reading *f, uint32_t chunk);

/*
 * Reads [off, off+len) of a file of @size bytes by reader_read until done and
 * compares with the content, zeros behind src.valid_bytes. Returns 0 or the
 * error; *ret_good (may be NULL) is how many bytes came before it.
 */
int reading_check(struct reading *f, struct read_state *rs, uint64_t off, size_t len, uint64_t size,
		  size_t *ret_good);

#endif
