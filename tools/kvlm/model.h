/* SPDX-License-Identifier: MIT */
#ifndef KVLM_MODEL_H
#define KVLM_MODEL_H
/*
 * A Llama-architecture model in memory: shapes, and weights as f32 packed for
 * the kernels. Immutable once loaded; any number of threads may use it.
 */
#include <stdint.h>

#include "gguf.h"
#include "msg.h"
#include "vocab.h"

struct model_shape {
	uint32_t n_layer, n_embd, n_head, n_kv_head, head_dim, n_ff, n_vocab, n_ctx;
	uint32_t rope_dim;           /* even, at most head_dim: pairs (2i, 2i+1) below it turn */
	float rope_base, rope_scale; /* position is divided by rope_scale */
	float norm_eps;
};

/* A matrix [rows out][cols in] in panels of 32 rows: w[panel][col][32]. */
struct packed {
	float *w; /* owned by the model */
	uint32_t rows, cols, panels;
};

struct model_layer {
	float *attn_norm, *ffn_norm; /* [n_embd] */
	struct packed q, k, v, o, gate, up, down;
};

struct model {
	struct model_shape shape;
	struct vocab vocab;
	float *embd;        /* [n_vocab][n_embd] */
	float *out_norm;    /* [n_embd] */
	struct packed head; /* tied models: packed from embd */
	double *rope_inv;   /* [rope_dim / 2]: angle per position */
	struct model_layer *layers;
	uint64_t hash; /* of shape and weights: names the model in cache files */
};

/* Loads a GGUF. -errno; -EOPNOTSUPP names what is not supported. */
WUR int model_load(const char *path, struct model **ret, struct msg *m);
/* From an opened GGUF, which may be closed afterwards. */
WUR int model_from_gguf(const struct gguf *g, struct model **ret, struct msg *m);
void model_free(struct model *md); /* NULL ok */

#endif
