/* SPDX-License-Identifier: MIT */
#ifndef KVLM_CORPUS_SUITES_H
#define KVLM_CORPUS_SUITES_H
/* Large files of the task suites' contexts: corpus --suites. */
#include "engine.h"
#include "suite.h"

struct corpus_suites {
	const char *out;   /* an existing directory */
	const char *tasks; /* a directory of the three suites */
	enum cache_format format;
	enum dtype dtype;
	uint64_t pack;     /* bytes that a file has at least; 0: its own context only */
	uint32_t limit;    /* contexts of each suite at most */
};

/* Writes OUT/SUITE-ID.bin (or .safetensors) for each context, as eval --cache-dir
 * names them. -EINVAL, -ENOMEM, -errno. */
WUR int corpus_suites_write(const struct corpus_suites *o, struct engine *e, uint32_t *ret_files,
			    struct msg *m);

#endif
