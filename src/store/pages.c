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

static struct pbuf *make(struct pages *p, unsigned cls, bool force)
{
	size_t cap = class_bytes(p, cls);
	struct pbuf *b;

	if (force)
		budget_force(p->budget, p->use, cap);
	else if (budget_take(p->budget, p->use, cap))
		return NULL;
	b = mem_zalloc(p->head_bytes);
	if (!b)
		goto err_give;
	b->p = mem_alloc_pages(cap);
	if (!b->p)
		goto err_free;
	list_init(&b->link);
	b->cap_bytes = cap;
	b->cls = (uint8_t)cls;
	return b;
err_free:
	mem_free(b);
err_give:
	budget_give(p->budget, p->use, cap);
	return NULL;
}

static void destroy(struct pages *p, struct pbuf *b)
{
	mem_free_pages(b->p, b->cap_bytes);
	budget_give(p->budget, p->use, b->cap_bytes);
	mem_free(b);
}

static int reserve(struct pages *p, size_t len)
{
	struct pbuf *b = make(p, pages_class(p, len), false);

	if (!b)
		return -ENOMEM;
	b->reserved = true;
	p->held_bytes += b->cap_bytes;
	list_add_head(&p->free[b->cls], &b->link);
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
	};
	for (unsigned i = 0; i < PAGES_CLASSES; i++)
		list_init(&p->free[i]);
	n = n < 1 ? 1 : n > PAGES_RESERVE_N ? PAGES_RESERVE_N : n;
	while (n-- && !err)
		err = reserve(p, PAGES_RESERVE_LEN);
	if (!err && max_bytes >= PAGES_LARGEST_FROM) {
		p->has_largest = true;
		err = reserve(p, largest);
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
	struct pbuf *b = make(p, pages_class(p, p->largest_bytes), true);

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
		list_for_each_safe(l, tmp, &p->free[i]) {
			struct pbuf *b = container_of(l, struct pbuf, link);

			p->held_bytes -= b->cap_bytes;
			list_del(l);
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
			return b;
		}
	}
	return NULL;
}

void pages_give(struct pages *p, struct pbuf *b)
{
	/* Reserved ones last, so that they stay for those who may not wait. */
	if (b->reserved)
		list_add_tail(&p->free[b->cls], &b->link);
	else
		list_add_head(&p->free[b->cls], &b->link);
}

bool pages_may_grow(struct pages *p, size_t len)
{
	size_t cap = class_bytes(p, pages_class(p, len));

	if (p->held_bytes > p->max_bytes || cap > p->max_bytes - p->held_bytes)
		return false;
	p->held_bytes += cap;
	return true;
}

struct pbuf *pages_grow(struct pages *p, size_t len)
{
	return make(p, pages_class(p, len), false);
}

void pages_grow_failed(struct pages *p, size_t len)
{
	p->held_bytes -= class_bytes(p, pages_class(p, len));
}

uint64_t pages_idle(struct pages *p, uint64_t bytes, struct list *out)
{
	uint64_t got = 0;

	for (unsigned i = 0; i < PAGES_CLASSES && got < bytes; i++) {
		list_for_each_safe(l, tmp, &p->free[i]) {
			struct pbuf *b = container_of(l, struct pbuf, link);

			if (b->reserved)
				continue;
			list_del(l);
			list_add_tail(out, l);
			p->held_bytes -= b->cap_bytes;
			got += b->cap_bytes;
			if (got >= bytes)
				break;
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
