/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "fsck.h"

static struct ref *find(struct ref *slots, size_t cap, const struct object_id *id)
{
	size_t i = (size_t)hash64(id, sizeof(*id), 0) & (cap - 1);

	while (slots[i].used && (slots[i].id.generation != id->generation ||
				 memcmp(slots[i].id.id, id->id, sizeof(id->id)) != 0))
		i = (i + 1) & (cap - 1);
	return &slots[i];
}

static int grow(struct refs *r)
{
	size_t cap = r->cap ? r->cap * 2 : 1024;
	struct ref *slots = mem_calloc(cap, sizeof(*slots));

	if (!slots)
		return -ENOMEM;
	for (size_t i = 0; i < r->cap; i++)
		if (r->slots[i].used)
			*find(slots, cap, &r->slots[i].id) = r->slots[i];
	mem_free(r->slots);
	r->slots = slots;
	r->cap = cap;
	return 0;
}

uint64_t refs_add(struct refs *r, const struct object_id *id, uint64_t ino, int *ret_err)
{
	struct ref *s;

	*ret_err = r->n * 4 >= r->cap * 3 ? grow(r) : 0;
	if (*ret_err)
		return 0;
	s = find(r->slots, r->cap, id);
	if (s->used)
		return s->ino;
	*s = (struct ref) { .id = *id, .used = true, .ino = ino };
	r->n++;
	return 0;
}

bool refs_has(const struct refs *r, const struct object_id *id)
{
	return r->cap && find(r->slots, r->cap, id)->used;
}

void refs_fini(struct refs *r)
{
	mem_free(r->slots);
	*r = (struct refs) { 0 };
}
