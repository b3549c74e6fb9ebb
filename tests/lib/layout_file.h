/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_TESTS_LAYOUT_FILE_H
#define KVCACHEFS_TESTS_LAYOUT_FILE_H
/*
 * A file in memory for layout tests, written field by field and shown to the
 * recognisers, and the properties that hold for every layout. Plain C, so that
 * the fuzz harnesses use it too: failures abort.
 */
#include "layouts/layout.h"

struct lfile {
	uint8_t *d; /* owned */
	size_t n, cap;
	uint64_t size;                     /* 0: n; otherwise zeros follow up to here */
	const char *name, *dir, *declared; /* borrowed; NULL: "f", "", none */
	const char *beside_name, *beside;  /* the one file that read_beside finds */
	bool checksummed;
	uint64_t fail_at;           /* reads that touch this offset get -EIO; 0 never */
	uint64_t reads, read_bytes; /* counted */
};

void lfile_fini(struct lfile *f);
void lfile_u16(struct lfile *f, uint16_t v);
void lfile_u32(struct lfile *f, uint32_t v);
void lfile_u64(struct lfile *f, uint64_t v);
void lfile_bytes(struct lfile *f, const void *p, size_t len);
void lfile_str(struct lfile *f, const char *s);
void lfile_fill(struct lfile *f, uint8_t byte, size_t len);
/* Incompressible bytes; the same for the same seed. */
void lfile_noise(struct lfile *f, size_t len, uint32_t seed);
/* @n values distributed as keys and values are, in an element type. */
void lfile_floats(struct lfile *f, unsigned elem, size_t n, uint32_t seed);
/* A safetensors file: its JSON, then @data_len bytes of noise. */
void lfile_safetensors(struct lfile *f, const char *json, size_t data_len);

/* The input that shows @f; @f must outlive it. */
struct layout_input lfile_input(struct lfile *f);
/* Recognises, checks all properties below, returns the layout. */
struct layout *lfile_recognise(struct lfile *f);
/* The same; returns its layout_dump (free()). */
char *lfile_dump(struct lfile *f);

/*
 * Writes to @ret the compact file (layouts/compact.h) of some cells of @f: those
 * whose number divides by @every, and the last. Checks what holds for it: the size
 * that was told, the same layout with fewer tokens, the positions of those cells.
 * 0 or what compact_open and compact_choose refused, with a reason in @why.
 */
#define LFILE_WHY 80
int lfile_compact(struct lfile *f, uint32_t every, struct lfile *ret, char why[LFILE_WHY]);

/*
 * Aborts unless: regions sorted, disjoint, inside; cut covers [0, size) exactly,
 * in pieces of at most the maximum that never cross a region's border
 * unmerged; pack and unpack give the same layout and the same bytes.
 */
void layout_check_properties(const struct layout *l);

/* What fuzz harnesses do: recognises @data as a file of this name under this
 * declaration (NULL none) and checks the result. */
void layout_fuzz_one(const uint8_t *data, size_t len, const char *name, const char *declared);

#endif
