/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEBENCH_CODEC_OPTIONS_H
#define KVCACHEBENCH_CODEC_OPTIONS_H
/* What "kvcachebench codec" is told. */
#include "codec_input.h"
#include "quality.h"

struct codec_options {
	struct input_options in;
	uint64_t bytes; /* decoded size of the stream in DRAM */
	unsigned rounds;
	bool json, quiet_sched;
	const char *only; /* codec name; NULL all */
	int first;        /* argument that is an input; argc: none */
	int quality;      /* -1: no, 0: when there is little of it, 1: yes */
	struct quality_options q;
	char kvlm[4096];
};

/* 0 go on; 1 help was shown; -EINVAL, reported. */
WUR int codec_options_parse(int argc, char **argv, struct codec_options *ret);

#endif
