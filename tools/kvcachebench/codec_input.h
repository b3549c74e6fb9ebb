/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEBENCH_CODEC_INPUT_H
#define KVCACHEBENCH_CODEC_INPUT_H
/* Chunks for "kvcachebench codec": from cache files, or synthetic. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/elem.h"
#include "base/err.h"

struct layout;

struct input_options {
	int dtype;            /* enum elem_type of files without a layout; -1: none given */
	uint32_t row_bytes;   /* of such files; 0 unknown */
	uint64_t skip_bytes;  /* header of such files */
	const char *declared; /* user.kvcache.layout for them; NULL none */
	uint32_t chunk_bytes;
};

struct input_chunk {
	const uint8_t *data; /* borrowed from the file's memory */
	uint32_t len;
	uint32_t file; /* index */
	struct chunk_shape shape;
};

struct input_file {
	char *name;       /* owned */
	char *layout;     /* owned: one line about what was recognised */
	uint8_t *data;    /* owned */
	size_t len;
	uint32_t layout_bytes; /* what the packed layout takes in an object */
	struct layout *parsed; /* owned; NULL when nothing was recognised */
};

struct input {
	struct input_file *files;
	size_t n_files;
	struct input_chunk *chunks;
	size_t n_chunks;
	bool synthetic;
};

/* Reads and cuts a file, or all files of a directory, in order of their names; prints
 * why not to stderr and returns -errno. */
WUR int input_add(struct input *in, const char *path, const struct input_options *o);
WUR int input_add_file(struct input *in, const char *path, const struct input_options *o);
/* Gaussian values, one log-normal scale per channel: for speed, not for ratios. */
WUR int input_add_synthetic(struct input *in, const struct input_options *o, size_t len);
void input_fini(struct input *in);

#endif
