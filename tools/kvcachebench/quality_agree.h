/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEBENCH_QUALITY_AGREE_H
#define KVCACHEBENCH_QUALITY_AGREE_H
/* Asks kvlm what a lossy cache costs a model. */
#include "quality.h"

/* Share of greedy next tokens that stay when @lossy takes the place of the file at
 * @exact, and over how many. -errno, reported. */
WUR int agree_measure(const struct quality_options *o, const char *exact, const uint8_t *lossy,
		      size_t len, double *ret_share, double *ret_n);

#endif
