/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_TESTS_CRASH_MODEL_H
#define KVCACHEFS_TESTS_CRASH_MODEL_H
/*
 * A workload of numbered steps, what the files must hold before and after each,
 * and the running of a step against a real store. One table describes both, so
 * that the expectation cannot drift from the run.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/store.h"

#define MODEL_FILES 8
#define MODEL_MAX (3u << 20)
#define MODEL_KV_BYTES 655360u

enum step_op {
	OP_CREATE, /* name, seed: new file of len bytes, closed */
	OP_FSYNC,
	OP_SEAL,
	OP_UNSEAL,
	OP_WRITE,  /* seed bytes at off */
	OP_TRUNC,  /* to len */
	OP_REWRITE, /* open with O_TRUNC, write len seed bytes */
	OP_RENAME, /* name -> name2 */
	OP_UNLINK,
	OP_LINK,   /* name2 is a new name of name */
	OP_EVICT,
	OP_OPEN_UNLINK, /* open, unlink, read through the descriptor, close */
	OP_LAYOUT, /* its content, MODEL_KV_BYTES of seed, is declared to be K and V */
	OP_GRANT,  /* anything of them may be lost */
	OP_LEVEL,  /* of such content: to level name2 */
};

struct step {
	enum step_op op;
	unsigned name, name2; /* file numbers */
	uint64_t off, len;
	unsigned seed;
};
extern const struct step model_steps[];
extern const unsigned model_n_steps;

/* The content of one name; data is owned. */
struct model_file {
	bool exists;
	uint8_t *data;
	size_t len;
};
struct model {
	struct model_file f[MODEL_FILES];
};

void model_init(struct model *m);
void model_free(struct model *m);
/* Applies step @i. */
void model_apply(struct model *m, unsigned i);
/* Is what reads under @name (NULL: absent) something that may be seen while
 * step @i is half done? @before and @after are the states around it. */
bool model_may_be(const struct model *before, const struct model *after, unsigned i, unsigned name,
		  const uint8_t *data, size_t len, bool exists);
/* Runs step @i against the store; -code. */
int model_run(struct store *st, unsigned i);
/* Opens @name with O_TRUNC and writes @len bytes of @seed; -code. */
int model_rewrite(struct store *st, unsigned name, uint64_t len, unsigned seed);
/* Reads all of @name: 0 with data (malloc'ed), -ENOENT, -code. */
int model_read(struct store *st, unsigned name, uint8_t **ret, size_t *ret_len);
/* KV-like bytes: bf16 numbers of a narrow range, so that sealing gains. */
void model_fill(uint8_t *p, size_t len, unsigned seed, uint64_t off);

#endif
