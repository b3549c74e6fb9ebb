/* SPDX-License-Identifier: MIT */
/*
 * Saves golden states with the real llama.cpp: make_llama BACKENDS MODEL OUT
 * seq|session TYPE_K TYPE_V FLASH N_TOKENS [N_SEQ]. Not part of the build; make.sh compiles
 * it against llama.cpp's header and library (v0.5.0 for what is checked in).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ggml-backend.h>
#include <llama.h>

static enum ggml_type type_of(const char *s)
{
	for (int t = 0; t < GGML_TYPE_COUNT; t++)
		if (ggml_type_name(t) && !strcmp(ggml_type_name(t), s))
			return t;
	exit(2);
}

/* @n made-up tokens into each sequence. */
static int fill(struct llama_context *ctx, int n, int n_seq)
{
	for (int s = 0; s < n_seq; s++) {
		struct llama_batch b = llama_batch_init(n, 0, 1);

		for (int i = 0; i < n; i++) {
			b.token[i] = (i * 7 + s) % 60;
			b.pos[i] = i;
			b.n_seq_id[i] = 1;
			b.seq_id[i][0] = s;
			b.logits[i] = i == n - 1;
		}
		b.n_tokens = n;
		if (llama_decode(ctx, b))
			return 1;
		llama_batch_free(b);
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct llama_context_params cp = llama_context_default_params();
	llama_token tokens[512];
	struct llama_context *ctx;
	struct llama_model *model;
	int n, n_seq;

	if (argc < 9)
		return 2;
	ggml_backend_load_all_from_path(argv[1]);
	model = llama_model_load_from_file(argv[2], llama_model_default_params());
	n = atoi(argv[8]);
	n_seq = argc > 9 ? atoi(argv[9]) : 1;
	cp.n_ctx = 512;
	cp.n_seq_max = (uint32_t)n_seq;
	cp.type_k = type_of(argv[5]);
	cp.type_v = type_of(argv[6]);
	cp.flash_attn_type = atoi(argv[7]) ? LLAMA_FLASH_ATTN_TYPE_ENABLED : LLAMA_FLASH_ATTN_TYPE_DISABLED;
	ctx = model ? llama_init_from_model(model, cp) : NULL;
	if (!ctx || fill(ctx, n, n_seq))
		return 1;
	for (int i = 0; i < n; i++)
		tokens[i] = (i * 7) % 60;
	if (!strcmp(argv[4], "seq"))
		return !llama_state_seq_save_file(ctx, argv[3], 0, tokens, (size_t)n);
	return !llama_state_save_file(ctx, argv[3], tokens, (size_t)n);
}
