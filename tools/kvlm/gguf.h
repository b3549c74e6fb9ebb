/* SPDX-License-Identifier: MIT */
#ifndef KVLM_GGUF_H
#define KVLM_GGUF_H
/*
 * A strict reader of GGUF version 2 and 3, little-endian. The file is mapped,
 * walked once and every count, length and offset checked against its end; what
 * is returned later points into the mapping. Nothing here knows about models.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "msg.h"

#define GGUF_DIMS 4

/* ggml's numbers of the types that can be read; others keep their number. */
enum { GGML_F32 = 0, GGML_F16 = 1, GGML_BF16 = 30 };

struct gguf_str {
	const char *s; /* not terminated */
	size_t len;
};

struct gguf_tensor {
	struct gguf_str name;
	uint32_t type; /* ggml's number */
	uint32_t n_dims;
	uint64_t ne[GGUF_DIMS]; /* ne[0] is contiguous; 1 beyond n_dims */
	const void *data;       /* aligned as the file says; NULL if the type's size is unknown */
};

struct gguf;

/* Maps and checks the file. -errno of open, -EBADMSG for a damaged or foreign file. */
WUR int gguf_open(const char *path, struct gguf **ret, struct msg *m);
/* The same over @len bytes of the caller's, which must outlive it. */
WUR int gguf_parse(const void *buf, size_t len, struct gguf **ret, struct msg *m);
void gguf_close(struct gguf *g); /* NULL ok */

size_t gguf_tensors(const struct gguf *g);
const struct gguf_tensor *gguf_tensor(const struct gguf *g, size_t i);
const struct gguf_tensor *gguf_find_tensor(const struct gguf *g, const char *name);
/* "Q4_K", "F16", ...; "type 99" never: "unknown". Static. */
const char *gguf_type_name(uint32_t type);

bool gguf_has(const struct gguf *g, const char *key);
/* 0; -ENOENT when absent (message: which key); -EBADMSG when of another kind.
 * Unsigned: any integer type that fits; float: F32 or F64. */
WUR int gguf_get_u64(const struct gguf *g, const char *key, uint64_t *ret, struct msg *m);
WUR int gguf_get_f32(const struct gguf *g, const char *key, float *ret, struct msg *m);
WUR int gguf_get_str(const struct gguf *g, const char *key, struct gguf_str *ret, struct msg *m);
/* Array of strings: calls @each for every element in order. */
WUR int gguf_get_strs(const struct gguf *g, const char *key, uint64_t *ret_count,
		      void (*each)(void *arg, uint64_t i, struct gguf_str s), void *arg,
		      struct msg *m);

#endif
