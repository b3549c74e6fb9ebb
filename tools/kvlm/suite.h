/* SPDX-License-Identifier: MIT */
#ifndef KVLM_SUITE_H
#define KVLM_SUITE_H
/* Task files (tasks/FORMAT.md): contexts, and queries that go on from each. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "msg.h"

enum suite_kind { SUITE_RECALL, SUITE_CODE, SUITE_TEXT, SUITE_KINDS_ };

struct suite_query {
	uint32_t id;
	int32_t at;            /* where the answer lies in the context; -1: no one place */
	const int32_t *prompt; /* borrowed from the suite */
	const int32_t *answer; /* NULL until its line was read */
	uint32_t n_prompt, n_answer;
};

struct suite_context {
	uint32_t id;
	bool ends;             /* answers lie in the first and last tenth only */
	const int32_t *tokens; /* borrowed from the suite */
	uint32_t n_tokens;
	struct suite_query *queries; /* owned by the suite */
	size_t n_queries;
};

struct suite {
	enum suite_kind kind;
	struct suite_context *contexts; /* owned */
	size_t n_contexts;
	int32_t **lists; /* owned: every token list of the file */
	size_t n_lists;
};

const char *suite_kind_name(enum suite_kind k);
/* -EBADMSG names the line. Tokens are checked to be 0..@n_vocab-1. */
WUR int suite_read(const char *path, uint32_t n_vocab, struct suite **ret, struct msg *m);
/* The same from memory. */
WUR int suite_parse(const char *text, size_t len, uint32_t n_vocab, struct suite **ret,
		    struct msg *m);
void suite_free(struct suite *s); /* NULL ok */
size_t suite_queries(const struct suite *s);
/* The largest prompt and answer together. */
uint32_t suite_longest_query(const struct suite *s);

#endif
