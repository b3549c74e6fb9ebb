/* SPDX-License-Identifier: MIT */
#ifndef KVLM_CACHE_INTERNAL_H
#define KVLM_CACHE_INTERNAL_H
/* Shared by cache*.c: one pair of functions per format. */
#include "cache.h"

#define CACHE_MAX_LAYERS (1u << 16)
#define CACHE_MAX_TOKENS (1u << 26)

/* Where each tensor of a file lies; filled by the format's head function. */
struct cache_plan {
	uint8_t *head; /* owned; what comes before the first tensor */
	size_t head_len;
	/* What comes before tensor (layer, v): its own small head (llama), or nothing. */
	size_t tensor_head;
	uint64_t k_stride, v_stride; /* between the tensors of successive layers */
	uint64_t k0, v0;             /* offset of layer 0's elements */
	uint64_t total;
};

/* Allocates tokens, pos, k and v of a struct cache whose counts are set. */
WUR int cache_alloc(struct cache *c, struct msg *m);
/* Positions ascend and stay below n_tokens. */
WUR int cache_check_pos(const struct cache *c, struct msg *m);

WUR int llama_state_parse(const uint8_t *buf, size_t len, struct cache *c, struct msg *m);
WUR int llama_state_plan(const struct cache_desc *d, struct cache_plan *p, struct msg *m);
/* The 12 bytes before each of llama's tensors. */
void llama_state_tensor_head(const struct cache_desc *d, uint8_t *out);

WUR int safetensors_parse(const uint8_t *buf, size_t len, struct cache *c, struct msg *m);
WUR int safetensors_plan(const struct cache_desc *d, struct cache_plan *p, struct msg *m);

#endif
