/* SPDX-License-Identifier: MIT */
#include "suite.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"

#define MAX_LIST 65536

static const char *const kind_names[SUITE_KINDS_] = { "recall", "code", "text" };

struct reader {
	struct suite *s;
	const char *p, *end; /* of the line at hand */
	uint32_t n_vocab;
	unsigned line;
	bool named; /* the suite line was seen */
	struct msg *m;
};

const char *suite_kind_name(enum suite_kind k)
{
	return (unsigned)k < SUITE_KINDS_ ? kind_names[k] : "?";
}

static int bad(struct reader *rd, const char *what)
{
	return msg_fail(rd->m, -EBADMSG, "tasks: line %u: %s", rd->line, what);
}

/* The next word of the line; empty at its end. */
static size_t word(struct reader *rd, const char **ret)
{
	while (rd->p < rd->end && *rd->p == ' ')
		rd->p++;
	*ret = rd->p;
	while (rd->p < rd->end && *rd->p != ' ')
		rd->p++;
	return (size_t)(rd->p - *ret);
}

static bool word_is(const char *w, size_t len, const char *s)
{
	return len == strlen(s) && !memcmp(w, s, len);
}

static int number(struct reader *rd, int64_t min, int64_t max, int64_t *ret)
{
	const char *w;
	size_t len = word(rd, &w), i = 0;
	bool minus = len && w[0] == '-';
	int64_t x = 0;

	for (i = minus; i < len && w[i] >= '0' && w[i] <= '9' && x <= INT32_MAX; i++)
		x = x * 10 + (w[i] - '0');
	x = minus ? -x : x;
	if (i != len || len == (size_t)minus || x < min || x > max)
		return bad(rd, "a number is missing or out of range");
	*ret = x;
	return 0;
}

/* Grows *array so that one more fits; 0 or -ENOMEM. */
static int grow(struct reader *rd, void *array, size_t n, size_t each)
{
	void **a = array, *p;

	if (n & (n - 1))
		return 0;
	p = realloc(*a, (n ? 2 * n : 1) * each);
	if (!p)
		return msg_fail(rd->m, -ENOMEM, "out of memory");
	*a = p;
	return 0;
}

/* "N t1 ... tN" up to the end of the line. */
static int token_list(struct reader *rd, const int32_t **ret, uint32_t *ret_n)
{
	struct suite *s = rd->s;
	int64_t n = 0, t;
	int32_t *list;
	int r = number(rd, 1, MAX_LIST, &n);

	if (!r)
		r = grow(rd, &s->lists, s->n_lists, sizeof(*s->lists));
	if (r)
		return r;
	list = malloc((size_t)n * sizeof(*list));
	if (!list)
		return msg_fail(rd->m, -ENOMEM, "out of memory");
	s->lists[s->n_lists++] = list;
	for (int64_t i = 0; i < n; i++) {
		r = number(rd, 0, (int64_t)rd->n_vocab - 1, &t);
		if (r)
			return r;
		list[i] = (int32_t)t;
	}
	if (rd->p != rd->end)
		return bad(rd, "more tokens than announced");
	*ret = list;
	*ret_n = (uint32_t)n;
	return 0;
}

static int suite_line(struct reader *rd)
{
	const char *w;
	size_t len = word(rd, &w);

	if (rd->named)
		return bad(rd, "a second suite");
	for (int k = 0; k < SUITE_KINDS_; k++)
		if (word_is(w, len, kind_names[k])) {
			rd->s->kind = (enum suite_kind)k;
			rd->named = true;
			return 0;
		}
	return bad(rd, "unknown suite");
}

static int context_line(struct reader *rd)
{
	struct suite *s = rd->s;
	struct suite_context *c;
	const char *w;
	size_t len;
	int64_t id = 0;
	int r = grow(rd, &s->contexts, s->n_contexts, sizeof(*s->contexts));

	if (!r)
		r = number(rd, 0, INT32_MAX, &id);
	if (r)
		return r;
	c = &s->contexts[s->n_contexts++];
	memset(c, 0, sizeof(*c));
	c->id = (uint32_t)id;
	len = word(rd, &w);
	c->ends = word_is(w, len, "ends");
	if (!c->ends && !word_is(w, len, "everywhere"))
		return bad(rd, "neither 'ends' nor 'everywhere'");
	return token_list(rd, &c->tokens, &c->n_tokens);
}

static struct suite_context *last_context(struct reader *rd)
{
	return rd->s->n_contexts ? &rd->s->contexts[rd->s->n_contexts - 1] : NULL;
}

static int query_line(struct reader *rd)
{
	struct suite_context *c = last_context(rd);
	struct suite_query *q;
	int64_t id = 0, at = 0;
	int r;

	if (!c)
		return bad(rd, "a query before the first context");
	if (c->n_queries && !c->queries[c->n_queries - 1].answer)
		return bad(rd, "the query before has no answer");
	r = grow(rd, &c->queries, c->n_queries, sizeof(*c->queries));
	if (!r)
		r = number(rd, 0, INT32_MAX, &id);
	if (!r)
		r = number(rd, -1, (int64_t)c->n_tokens - 1, &at);
	if (r)
		return r;
	q = &c->queries[c->n_queries++];
	memset(q, 0, sizeof(*q));
	q->id = (uint32_t)id;
	q->at = (int32_t)at;
	return token_list(rd, &q->prompt, &q->n_prompt);
}

static int answer_line(struct reader *rd)
{
	struct suite_context *c = last_context(rd);

	if (!c || !c->n_queries || c->queries[c->n_queries - 1].answer)
		return bad(rd, "an answer without a query");
	return token_list(rd, &c->queries[c->n_queries - 1].answer,
			  &c->queries[c->n_queries - 1].n_answer);
}

static int read_line(struct reader *rd)
{
	const char *w;
	size_t len;

	if (rd->p == rd->end || *rd->p == '#')
		return 0;
	len = word(rd, &w);
	if (word_is(w, len, "suite"))
		return suite_line(rd);
	if (word_is(w, len, "context"))
		return context_line(rd);
	if (word_is(w, len, "query"))
		return query_line(rd);
	if (word_is(w, len, "answer"))
		return answer_line(rd);
	return bad(rd, "unknown record");
}

static int check_complete(struct reader *rd)
{
	const struct suite *s = rd->s;

	if (!rd->named || !s->n_contexts)
		return bad(rd, "no suite, or no contexts");
	for (size_t i = 0; i < s->n_contexts; i++) {
		const struct suite_context *c = &s->contexts[i];

		if (!c->n_queries || !c->queries[c->n_queries - 1].answer)
			return bad(rd, "a context without queries, or a query without answer");
	}
	return 0;
}

int suite_parse(const char *text, size_t len, uint32_t n_vocab, struct suite **ret, struct msg *m)
{
	struct reader rd = { .n_vocab = n_vocab, .m = m };
	const char *end = text + len, *p = text;
	int r = 0;

	rd.s = calloc(1, sizeof(*rd.s));
	if (!rd.s)
		return msg_fail(m, -ENOMEM, "out of memory");
	while (!r && p < end) {
		const char *nl = memchr(p, '\n', (size_t)(end - p));

		rd.p = p;
		rd.end = nl ? nl : end;
		rd.line++;
		p = nl ? nl + 1 : end;
		r = read_line(&rd);
	}
	if (!r)
		r = check_complete(&rd);
	if (r) {
		suite_free(rd.s);
		return r;
	}
	*ret = rd.s;
	return 0;
}

int suite_read(const char *path, uint32_t n_vocab, struct suite **ret, struct msg *m)
{
	char *text;
	size_t len;
	int r = read_text_file(path, &text, &len, m);

	if (r)
		return r;
	r = suite_parse(text, len, n_vocab, ret, m);
	free(text);
	return r ? msg_prefix(m, r, path) : 0;
}

void suite_free(struct suite *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < s->n_contexts; i++)
		free(s->contexts[i].queries);
	for (size_t i = 0; i < s->n_lists; i++)
		free(s->lists[i]);
	free(s->contexts);
	free(s->lists);
	free(s);
}

size_t suite_queries(const struct suite *s)
{
	size_t n = 0;

	for (size_t i = 0; i < s->n_contexts; i++)
		n += s->contexts[i].n_queries;
	return n;
}

uint32_t suite_longest_query(const struct suite *s)
{
	uint32_t max = 0;

	for (size_t i = 0; i < s->n_contexts; i++)
		for (size_t k = 0; k < s->contexts[i].n_queries; k++) {
			const struct suite_query *q = &s->contexts[i].queries[k];

			max = q->n_prompt + q->n_answer > max ? q->n_prompt + q->n_answer : max;
		}
	return max;
}
