/* SPDX-License-Identifier: MIT */
#ifndef KVLM_JUDGE_H
#define KVLM_JUDGE_H
/* Two predictions of the same next tokens, held against each other. */
#include <stdint.h>

/* Sums over positions. */
struct judge {
	double n;
	double agree;                /* greedy tokens that are the same */
	double kl;                   /* KL(exact || lossy), nats */
	double nll_exact, nll_lossy; /* of the true token, nats */
	double hit_exact, hit_lossy; /* greedy token is the true one */
};

/* Adds one position: logits [n_vocab] of both, and the true next token. */
void judge_add(struct judge *j, const float *exact, const float *lossy, uint32_t n_vocab,
	       int32_t truth);
void judge_sum(struct judge *j, const struct judge *other);
/* exp(mean nll) */
double judge_ppl(double nll, double n);
/* Levenshtein distance of token sequences; n, m at most 4096. */
uint32_t edit_distance(const int32_t *a, uint32_t n, const int32_t *b, uint32_t m);

#endif
