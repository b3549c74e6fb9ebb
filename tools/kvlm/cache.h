/* SPDX-License-Identifier: MIT */
#ifndef KVLM_CACHE_H
#define KVLM_CACHE_H
/*
 * KV caches as files, in two formats:
 *
 *   llama        llama.cpp's sequence state (magic "qsgg", version 3), which
 *                llama.cpp loads and saves for itself;
 *   safetensors  tensors layer_<i>_k and layer_<i>_v of shape [cells, heads,
 *                dim]; tokens and positions as text in the metadata.
 *
 * The reader believes nothing: every length is checked against the file's end
 * and every byte of the file must be accounted for.
 */
#include <stdbool.h>
#include <stdint.h>

#include "dtype.h"
#include "kv.h"
#include "msg.h"

enum cache_format { CACHE_LLAMA, CACHE_SAFETENSORS, CACHE_FORMATS_ };

const char *cache_format_name(enum cache_format f);
int cache_format_parse(const char *s); /* -1 when unknown */

/* A parsed file; what the pointers point to lives as long as the struct. */
struct cache {
	enum cache_format format;
	enum dtype dtype;
	uint32_t n_layer;
	uint32_t row;                 /* elements of one cell's K (and V) in one layer */
	uint32_t n_kv_head, head_dim; /* 0 when the format does not say (llama) */
	uint32_t n_cells, n_tokens;
	bool v_trans;           /* V is [row][cells] instead of [cells][row] */
	int32_t *tokens;        /* owned; [n_tokens] */
	int32_t *pos;           /* owned; [n_cells], ascending, below n_tokens */
	const uint8_t **k, **v; /* owned arrays; [n_layer] into the file's bytes */
	uint64_t model;         /* struct model's hash; 0 when the file does not say */
	void *buf;              /* owned when read by cache_read */
	size_t len;
	uint64_t read_ns; /* from open to the last byte */
};

/* Reads the whole file into memory and parses it. */
WUR int cache_read(const char *path, struct cache **ret, struct msg *m);
/* Over the caller's bytes, which must outlive the result. -EBADMSG damaged or
 * foreign, -EOPNOTSUPP (quantised rows, several streams). */
WUR int cache_parse(const void *buf, size_t len, struct cache **ret, struct msg *m);
void cache_free(struct cache *c); /* NULL ok */

/* Element 0 of one cell's row to f32: @dst is [row]. */
void cache_get_row(const struct cache *c, uint32_t layer, bool v, uint32_t cell, float *dst);
/* Into a cache with room for @tokens tokens in all (at least the file's). */
WUR int cache_to_kv(const struct cache *c, const struct model *md, uint32_t tokens, struct kv **ret,
		    struct msg *m);

/* What a file to be written is. */
struct cache_desc {
	enum cache_format format;
	enum dtype dtype;
	uint32_t n_layer, n_kv_head, head_dim, n_cells, n_tokens;
	const int32_t *tokens, *pos; /* borrowed until the writer is open */
	uint64_t model;
	const char *note; /* goes into the metadata as "note"; may be NULL */
	bool sync;        /* fsync before closing */
};

struct cache_writer;

/* Creates or truncates @path and writes all but the tensors. */
WUR int cache_writer_open(const char *path, const struct cache_desc *d, struct cache_writer **ret,
			  struct msg *m);
/* One tensor, [cells][heads][dim] in the file's type. Any order; each once. */
WUR int cache_writer_put(struct cache_writer *w, uint32_t layer, bool v, const void *data,
			 struct msg *m);
/* Part of a tensor: @cells cells from @cell0 on. */
WUR int cache_writer_put_cells(struct cache_writer *w, uint32_t layer, bool v, uint32_t cell0,
			       uint32_t cells, const void *data, struct msg *m);
/* Reports what close and fsync say. The writer is gone in any case. */
WUR int cache_writer_close(struct cache_writer *w, struct msg *m);
/* Gives up and removes the file. NULL ok. */
void cache_writer_abort(struct cache_writer *w);
uint64_t cache_writer_bytes(const struct cache_writer *w);

/* One layer's K or V as file bytes, [cells][heads][dim]; malloc'ed. */
WUR int cache_tensor_bytes(const struct kv *kv, uint32_t layer, bool v, uint8_t **ret,
			   size_t *ret_len, struct msg *m);
/* A whole cache from memory. */
WUR int cache_save(const char *path, const struct kv *kv, enum cache_format format, uint64_t model,
		   bool sync, struct msg *m);

#endif
