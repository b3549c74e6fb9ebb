/* SPDX-License-Identifier: MIT */
/*
 * Reading a trace into tables. Records of an open are written at its close, so the reads are
 * sorted at the end; a context whose description never came (a file that stayed plain) goes then,
 * with its reads.
 */
#include "policy/trace_set.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"

#define CLOSED UINT32_MAX /* slot of an inode whose file is gone */

struct entry { /* while it is sorted */
	struct predict_access a;
	struct trace_seen seen;
};

/* ---- contexts by inode ---------------------------------------------------------- */

static uint32_t *find(struct trace_set *s, uint64_t ino, const uint64_t *keys)
{
	uint32_t i = (uint32_t)hash_u64(ino) & (s->n_slots - 1);

	while (s->slot[i] && keys[i] != ino)
		i = (i + 1) & (s->n_slots - 1);
	return &s->slot[i];
}

/* Keys lie behind the slots. */
static uint64_t *keys_of(const struct trace_set *s)
{
	return (uint64_t *)(s->slot + s->n_slots);
}

static int grow_slots(struct trace_set *s)
{
	struct trace_set old = *s;
	uint32_t n = s->n_slots ? s->n_slots * 2 : 1024;

	if (s->used * 2ull < s->n_slots)
		return 0;
	s->slot = mem_calloc(n, sizeof(uint32_t) + sizeof(uint64_t));
	if (!s->slot) {
		s->slot = old.slot;
		return -ENOMEM;
	}
	s->n_slots = n;
	for (uint32_t i = 0; i < old.n_slots; i++)
		if (old.slot[i]) {
			uint32_t *to = find(s, keys_of(&old)[i], keys_of(s));

			*to = old.slot[i];
			keys_of(s)[to - s->slot] = keys_of(&old)[i];
		}
	mem_free(old.slot);
	return 0;
}

static int grow_items(struct trace_set *s)
{
	uint32_t cap = s->cap ? s->cap * 2 : 256;
	struct cost_item *it;
	uint64_t *bytes;

	if (s->n < s->cap)
		return 0;
	if (s->n >= CLOSED / 4)
		return -ENOMEM;
	it = mem_realloc(s->it, cap * sizeof(*it));
	if (!it)
		return -ENOMEM;
	s->it = it;
	bytes = mem_realloc(s->bytes, cap * sizeof(*bytes));
	if (!bytes)
		return -ENOMEM;
	s->bytes = bytes;
	s->cap = cap;
	return 0;
}

/* The slot of @ino, made when there is none. */
static int slot_of(struct trace_set *s, uint64_t ino, uint32_t **ret)
{
	int r = grow_slots(s);

	if (r < 0)
		return r;
	*ret = find(s, ino, keys_of(s));
	if (!**ret) {
		keys_of(s)[*ret - s->slot] = ino;
		**ret = CLOSED;
		s->used++;
	}
	return 0;
}

static int context_of(struct trace_set *s, const struct trace_rec *r, uint32_t *ret)
{
	uint32_t *slot;
	int e = slot_of(s, r->it.id, &slot);

	if (e == 0 && *slot == CLOSED) {
		e = grow_items(s);
		if (e < 0)
			return e;
		s->it[s->n].levels = 0;
		*slot = ++s->n;
	}
	if (e == 0)
		*ret = *slot - 1;
	return e;
}

/* ---- records -------------------------------------------------------------------- */

static void describe(struct trace_set *s, uint32_t i, const struct trace_rec *r)
{
	struct cost_item *it = &s->it[i];
	uint8_t stored = it->levels == r->it.levels ? it->now.stored : r->it.now.stored;

	if (r->it.levels == 0)
		return;
	*it = r->it;
	it->id = i;
	it->now = (struct cost_place){ .stored = stored, .level = (uint8_t)(stored - 1) };
	s->bytes[i] = r->bytes;
}

static int add_read(struct trace_set *s, uint32_t i, const struct trace_rec *r)
{
	uint64_t cap = s->cap_a ? s->cap_a * 2 : 1024;
	struct predict_access *a;
	struct trace_seen *seen;

	if (s->n_a == s->cap_a) {
		a = mem_realloc(s->a, cap * sizeof(*a));
		if (!a)
			return -ENOMEM;
		s->a = a;
		seen = mem_realloc(s->seen, cap * sizeof(*seen));
		if (!seen)
			return -ENOMEM;
		s->seen = seen;
		s->cap_a = cap;
	}
	s->a[s->n_a] = (struct predict_access){ .t_ns = r->t_ns, .ctx = i };
	s->seen[s->n_a++] = (struct trace_seen){
		.delay_s = (float)r->delay_s,
		.quality = r->it.levels && r->it.now.level + 1u < r->it.levels
				   ? r->it.quality[r->it.now.level]
				   : 1,
		.hit = r->found == TRACE_DRAM || r->found == TRACE_COPY,
		.whole = r->read_bytes >= r->bytes, /* or not seen */
		.found = r->found,
		.at = r->it.now,
	};
	return 0;
}

static int take(struct trace_set *s, const struct trace_rec *r)
{
	uint32_t i, *slot;
	int e;

	if (r->event == TRACE_REMOVE) {
		e = slot_of(s, r->it.id, &slot);
		if (e == 0)
			*slot = CLOSED;
		return e;
	}
	e = context_of(s, r, &i);
	if (e < 0)
		return e;
	describe(s, i, r);
	if (r->event != TRACE_OPEN)
		return 0;
	if (r->writes || r->read_bytes == 0) {
		s->left_out++;
		return 0;
	}
	return add_read(s, i, r);
}

static int take_line(struct trace_set *s, char *line)
{
	struct trace_rec r;
	int event = trace_parse(line, &r, &s->state);

	if (event < 0) {
		s->damaged++;
		return 0;
	}
	s->records++;
	s->has_state |= event == TRACE_STATE;
	return event == TRACE_STATE ? 0 : take(s, &r);
}

int trace_set_add(struct trace_set *s, char *text, size_t len)
{
	size_t head = strlen(TRACE_HEAD), at = head;
	int r = 0;

	if (len < head || memcmp(text, TRACE_HEAD, head) != 0)
		return -KVFS_EFORMAT;
	while (r == 0 && at < len) {
		char *line = text + at, *end = memchr(line, '\n', len - at);

		if (!end || (size_t)(end - line) >= TRACE_LINE_MAX || memchr(line, 0, (size_t)(end - line))) {
			s->damaged++; /* a last one without an end was torn */
			at = end ? (size_t)(end - text) + 1 : len;
			continue;
		}
		*end = '\0';
		at = (size_t)(end - text) + 1;
		r = take_line(s, line);
	}
	return r;
}

/* ---- the end -------------------------------------------------------------------- */

static int by_time(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	if (x->a.t_ns != y->a.t_ns)
		return x->a.t_ns < y->a.t_ns ? -1 : 1;
	return (x->a.ctx > y->a.ctx) - (x->a.ctx < y->a.ctx);
}

static int sort(struct trace_set *s)
{
	struct entry *e = mem_calloc(s->n_a + 1, sizeof(*e));

	if (!e)
		return -ENOMEM;
	for (uint64_t k = 0; k < s->n_a; k++)
		e[k] = (struct entry){ s->a[k], s->seen[k] };
	qsort(e, s->n_a, sizeof(*e), by_time);
	for (uint64_t k = 0; k < s->n_a; k++) {
		s->a[k] = e[k].a;
		s->seen[k] = e[k].seen;
	}
	mem_free(e);
	return 0;
}

/* Contexts that are described move up, reads of others go. */
static int compact(struct trace_set *s)
{
	uint32_t *to = mem_calloc(s->n + 1u, sizeof(*to)), n = 0;
	uint64_t kept = 0;

	if (!to)
		return -ENOMEM;
	for (uint32_t i = 0; i < s->n; i++) {
		to[i] = s->it[i].levels ? n : CLOSED;
		if (!s->it[i].levels)
			continue;
		s->it[n] = s->it[i];
		s->it[n].id = n;
		s->bytes[n++] = s->bytes[i];
	}
	s->n = n;
	for (uint64_t k = 0; k < s->n_a; k++) {
		uint32_t ctx = to[s->a[k].ctx];

		if (ctx == CLOSED) {
			s->left_out++;
			continue;
		}
		s->a[kept] = s->a[k];
		s->a[kept].ctx = ctx;
		s->seen[kept++] = s->seen[k];
	}
	s->n_a = kept;
	mem_free(to);
	return 0;
}

int trace_set_finish(struct trace_set *s)
{
	int r = compact(s);

	mem_free(s->slot);
	s->slot = NULL;
	s->n_slots = s->used = 0;
	if (r == 0)
		r = sort(s);
	if (r < 0)
		return r;
	predict_count(s->it, s->n, s->a, s->n_a);
	return s->n_a ? 0 : -ENODATA;
}

void trace_set_fini(struct trace_set *s)
{
	mem_free(s->it);
	mem_free(s->bytes);
	mem_free(s->a);
	mem_free(s->seen);
	mem_free(s->slot);
	*s = (struct trace_set){ .n = 0 };
}

static int by_size(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;

	return (x > y) - (x < y);
}

int trace_set_summary(const struct trace_set *s, uint64_t from, struct trace_summary *ret)
{
	uint64_t n = from < s->n_a ? s->n_a - from : 0;
	float *v = mem_calloc(n + 1, sizeof(*v));
	struct trace_summary u = { .reads = n };

	if (!v)
		return -ENOMEM;
	for (uint64_t k = 0; k < n; k++) {
		const struct trace_seen *e = &s->seen[from + k];

		v[k] = e->delay_s;
		u.delay_mean_s += (double)e->delay_s / (double)n;
		u.hit_share += (double)e->hit / (double)n;
		u.quality += (double)e->quality / (double)n;
	}
	qsort(v, n, sizeof(*v), by_size);
	if (n) {
		u.delay_p50_s = (double)v[n / 2];
		u.delay_p99_s = (double)v[n * 99 / 100];
		u.span_s = (double)(s->a[s->n_a - 1].t_ns - s->a[from].t_ns) / 1e9;
	}
	mem_free(v);
	*ret = u;
	return 0;
}
