/* SPDX-License-Identifier: MIT */
#ifndef KVCACHEFS_BASE_LIST_H
#define KVCACHEFS_BASE_LIST_H
/* Intrusive doubly linked list; the head is a struct list as well. */
#include <stdbool.h>
#include <stddef.h>

struct list {
	struct list *next, *prev;
};

#define container_of(ptr, type, member) \
	((type *)(void *)((char *)(ptr) - offsetof(type, member)))

static inline void list_init(struct list *l)
{
	l->next = l->prev = l;
}
static inline bool list_empty(const struct list *l)
{
	return l->next == l;
}
/* Inserts @n before @at; with @at the head, @n becomes the last. */
static inline void list_add_tail(struct list *at, struct list *n)
{
	n->prev = at->prev;
	n->next = at;
	at->prev->next = n;
	at->prev = n;
}
static inline void list_add_head(struct list *at, struct list *n)
{
	list_add_tail(at->next, n);
}
/* Leaves @n initialised, so that removing twice is harmless. */
static inline void list_del(struct list *n)
{
	n->prev->next = n->next;
	n->next->prev = n->prev;
	list_init(n);
}
#define list_for_each(pos, head) \
	for (struct list *pos = (head)->next; pos != (head); pos = pos->next)
#define list_for_each_safe(pos, tmp, head)                                    \
	for (struct list *pos = (head)->next, *tmp = pos->next; pos != (head); \
	     pos = tmp, tmp = pos->next)

#endif
