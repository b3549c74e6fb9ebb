/* SPDX-License-Identifier: MIT */
/* Free lists of page-aligned buffers by size class. See pages.h. */
#include "store/pages.h"

#include <assert.h>
#include <errno.h>

#include "base/mem.h"

#define PAGES_SMALLEST (32u << 10)
#define PAGES_RESERVE_LEN (1u << 20)
#define PAGES_RESERVE_N 4
#define PAGES_LARGEST_FROM (8u << 20)

static size_t class_bytes(const struct pages *p, unsigned cls)
{
	size_t base = (size_t)PAGES_SMALLEST << (cls / 2);

	return base + (cls & 1 ? base / 2 : 0) + p->slack_bytes;
}

unsigned pages_class(const struct pages *p, size_t len)
{
	unsigned cls = 0;

	while (cls < PAGES_CLASSES - 1 && class_bytes(p, cls) < len)
		cls++;
	assert(class_bytes(p, cls) >= len);
	return cls;
}

/* ---- slabs ------------------------------------------------------------------ */

#define SLAB_UNIT (2u << 20)       /* a huge page */
#define SLAB_UNITS_MAX 3u
#define SLAB_BUFS_MAX 24u          /* of 256 KiB in SLAB_UNITS_MAX units */
#define SLAB_CAP_MIN (256u << 10)  /* smaller buffers are on their own */
#define SLAB_POOL_MIN (8u << 20)   /* smaller pools have none */

/* Memory that several buffers of one class share: made and given back at once. */
struct pslab {
	uint8_t *p;      /* owned */
	size_t bytes;
	unsigned n, idle; /* buffers; of them in the free list */
	struct pbuf *of[SLAB_BUFS_MAX];
};

/* One buffer on its own, or a slab of as many huge pages as are filled best, within
 * @room bytes. */
static struct pages_shape shape_of(const struct pages *p, unsigned cls, uint64_t room)
{
	size_t cap = class_bytes(p, cls);
	struct pages_shape s = { cls, 1, cap };

	if (!p->slabs || cap < SLAB_CAP_MIN || cap > SLAB_UNIT)
		return s;
	for (unsigned k = 1; k <= SLAB_UNITS_MAX && k * SLAB_UNIT <= room; k++) {
		size_t bytes = (size_t)k * SLAB_UNIT;
		unsigned n = (unsigned)(bytes / cap);

		if (n > 1 && (s.n == 1 || n * cap * s.bytes > s.n * cap * bytes))
			s = (struct pages_shape){ cls, n, bytes };
	}
	return s;
}

static struct pbuf *head_create(struct pages *p, unsigned cls)
{
	struct pbuf *b = mem_zalloc(p->head_bytes);

	if (!b)
		return NULL;
	list_init(&b->link);
	b->cap_bytes = class_bytes(p, cls);
	b->cls = (uint8_t)cls;
	return b;
}

static void slab_destroy(struct pslab *s)
{
	for (unsigned i = 0; i < s->n; i++)
		mem_free(s->of[i]);
	mem_free_pages(s->p, s->bytes);
	mem_free(s);
}

static struct pbuf *slab_create(struct pages *p, const struct pages_shape *shape)
{
	struct pslab *s = mem_zalloc(sizeof(*s));

	assert(shape->n <= SLAB_BUFS_MAX);
	if (!s)
		return NULL;
	s->bytes = shape->bytes;
	s->p = mem_alloc_pages(shape->bytes);
	for (; s->p && s->n < shape->n; s->n++) {
		struct pbuf *b = head_create(p, shape->cls);

		if (!b)
			break;
		b->p = s->p + s->n * b->cap_bytes;
		b->slab = s;
		s->of[s->n] = b;
	}
	if (s->n == shape->n)
		return s->of[0];
	slab_destroy(s);
	return NULL;
}

/* ---- buffers ---------------------------------------------------------------- */

static struct pbuf *plain_create(struct pages *p, unsigned cls)
{
	struct pbuf *b = head_create(p, cls);

	if (!b)
		return NULL;
	b->p = mem_alloc_pages(b->cap_bytes);
	if (b->p)
		return b;
	mem_free(b);
	return NULL;
}

/* More than one buffer: in a slab. */
static struct pbuf *make(struct pages *p, const struct pages_shape *s, bool force)
{
	struct pbuf *b;

	if (force)
		budget_force(p->budget, p->use, s->bytes);
	else if (budget_take(p->budget, p->use, s->bytes))
		return NULL;
	b = s->n > 1 ? slab_create(p, s) : plain_create(p, s->cls);
	if (!b)
		budget_give(p->budget, p->use, s->bytes);
	return b;
}

static size_t held_of(const struct pbuf *b)
{
	return b->slab ? b->slab->bytes : b->cap_bytes;
}

/* A buffer on its own, or its whole slab. */
static void destroy(struct pages *p, struct pbuf *b)
{
	budget_give(p->budget, p->use, held_of(b));
	if (b->slab) {
		slab_destroy(b->slab);
		return;
	}
	mem_free_pages(b->p, b->cap_bytes);
	mem_free(b);
}

/* Takes an idle buffer, with the rest of its slab, out of the free list. False:
 * another one of the slab is in use. */
static bool take_out(struct pages *p, struct pbuf *b)
{
	struct pslab *s = b->slab;

	if (s && s->idle < s->n)
		return false;
	for (unsigned i = 0; s && i < s->n; i++)
		list_del(&s->of[i]->link);
	if (!s)
		list_del(&b->link);
	p->held_bytes -= held_of(b);
	return true;
}

static int reserve(struct pages *p, size_t len, unsigned n)
{
	unsigned cls = pages_class(p, len);
	struct pages_shape s = { cls, n, n * class_bytes(p, cls) };
	struct pbuf *b = make(p, &s, false);

	if (!b)
		return -ENOMEM;
	for (unsigned i = 0; b->slab && i < n; i++)
		b->slab->of[i]->reserved = true;
	b->reserved = true;
	p->held_bytes += s.bytes;
	pages_add(p, b);
	return 0;
}

int pages_init(struct pages *p, struct budget *b, enum budget_use use, size_t head_bytes,
	       size_t slack_bytes, size_t largest, uint64_t max_bytes)
{
	uint64_t n = max_bytes / PAGES_RESERVE_LEN;
	int err = 0;

	*p = (struct pages) {
		.budget = b, .use = use, .head_bytes = head_bytes, .slack_bytes = slack_bytes,
		.largest_bytes = largest, .max_bytes = max_bytes,
		.slabs = max_bytes >= SLAB_POOL_MIN,
	};
	for (unsigned i = 0; i < PAGES_CLASSES; i++)
		list_init(&p->free[i]);
	n = n < 1 ? 1 : n > PAGES_RESERVE_N ? PAGES_RESERVE_N : n;
	err = reserve(p, PAGES_RESERVE_LEN, (unsigned)n);
	if (!err && max_bytes >= PAGES_LARGEST_FROM) {
		p->has_largest = true;
		err = reserve(p, largest, 1);
	}
	if (err)
		pages_fini(p);
	return err;
}

bool pages_wants_largest(struct pages *p, size_t len)
{
	if (p->has_largest || pages_class(p, len) <= pages_class(p, PAGES_RESERVE_LEN))
		return false;
	p->has_largest = true;
	return true;
}

struct pbuf *pages_make_largest(struct pages *p)
{
	unsigned cls = pages_class(p, p->largest_bytes);
	struct pages_shape s = { cls, 1, class_bytes(p, cls) };
	struct pbuf *b = make(p, &s, true);

	if (b)
		b->reserved = true;
	return b;
}

void pages_add_largest(struct pages *p, struct pbuf *b)
{
	p->has_largest = b != NULL;
	if (!b)
		return;
	p->held_bytes += b->cap_bytes;
	pages_give(p, b);
}

void pages_fini(struct pages *p)
{
	for (unsigned i = 0; i < PAGES_CLASSES; i++) {
		while (!list_empty(&p->free[i])) {
			struct pbuf *b = container_of(p->free[i].next, struct pbuf, link);
			bool all = take_out(p, b);

			assert(all);
			(void)all;
			destroy(p, b);
		}
	}
	assert(p->held_bytes == 0);
}

struct pbuf *pages_take(struct pages *p, size_t len, bool any_class, bool reserve)
{
	unsigned first = pages_class(p, len), last = any_class ? PAGES_CLASSES - 1 : first;

	for (unsigned cls = first; cls <= last; cls++) {
		list_for_each(l, &p->free[cls]) {
			struct pbuf *b = container_of(l, struct pbuf, link);

			if (b->reserved && !reserve)
				continue;
			list_del(l);
			if (b->slab)
				b->slab->idle--;
			return b;
		}
	}
	return NULL;
}

void pages_give(struct pages *p, struct pbuf *b)
{
	if (b->slab)
		b->slab->idle++;
	/* Reserved ones last, so that they stay for those who may not wait. */
	if (b->reserved)
		list_add_tail(&p->free[b->cls], &b->link);
	else
		list_add_head(&p->free[b->cls], &b->link);
}

void pages_add(struct pages *p, struct pbuf *b)
{
	struct pslab *s = b->slab;

	if (!s)
		pages_give(p, b);
	for (unsigned i = 0; s && i < s->n; i++)
		pages_give(p, s->of[i]);
}

bool pages_may_grow(struct pages *p, size_t len, struct pages_shape *ret)
{
	uint64_t room = p->held_bytes < p->max_bytes ? p->max_bytes - p->held_bytes : 0;

	*ret = shape_of(p, pages_class(p, len), room);
	if (ret->bytes > room)
		return false;
	p->held_bytes += ret->bytes;
	return true;
}

struct pbuf *pages_grow(struct pages *p, const struct pages_shape *s)
{
	return make(p, s, false);
}

void pages_grow_failed(struct pages *p, const struct pages_shape *s)
{
	p->held_bytes -= s->bytes;
}

/* The first idle buffer of a class that may go, taken out. */
static struct pbuf *idle_of(struct pages *p, unsigned cls)
{
	list_for_each(l, &p->free[cls]) {
		struct pbuf *b = container_of(l, struct pbuf, link);

		if (!b->reserved && take_out(p, b))
			return b;
	}
	return NULL;
}

uint64_t pages_idle(struct pages *p, uint64_t bytes, struct list *out)
{
	uint64_t got = 0;

	for (unsigned i = 0; i < PAGES_CLASSES && got < bytes; i++) {
		struct pbuf *b;

		while (got < bytes && (b = idle_of(p, i)) != NULL) {
			list_add_tail(out, &b->link);
			got += held_of(b);
		}
	}
	return got;
}

void pages_free(struct pages *p, struct list *out)
{
	list_for_each_safe(l, tmp, out) {
		list_del(l);
		destroy(p, container_of(l, struct pbuf, link));
	}
}
