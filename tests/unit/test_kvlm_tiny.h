/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_TESTS_KVLM_TINY_H
#define KVCACHEFS_TESTS_KVLM_TINY_H
/* A very small model with random weights, as the bytes of a GGUF. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tiny {
	uint32_t n_layer, n_embd, n_head, n_kv_head, head_dim, n_ff, n_vocab, n_ctx, rope_dim;
	uint32_t type; /* of the matrices: ggml's number */
	bool tied;
	float rope_scale; /* 0: the file says nothing */
	uint64_t seed;
	/* damage, for the loader's tests; NULL or 0: none */
	const char *arch;
	const char *drop_key, *drop_tensor, *add_tensor;
	const char *rope_type;
	uint32_t experts, version;
};

/* Odd sizes on purpose: nothing is a multiple of a vector or a panel. */
#define TINY_DEFAULT                                                                     \
	{                                                                                \
		.n_layer = 2, .n_embd = 36, .n_head = 6, .n_kv_head = 2, .head_dim = 10, \
		.n_ff = 50, .n_vocab = 301, .n_ctx = 700, .rope_dim = 10, .seed = 1,     \
	}

/* malloc'ed; never NULL. */
uint8_t *tiny_gguf(const struct tiny *t, size_t *ret_len);
/* splitmix64 */
uint64_t tiny_rand(uint64_t *state);
/* Uniform in [-1, 1). */
float tiny_uniform(uint64_t *state);

#endif
