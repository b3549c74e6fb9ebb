/* SPDX-License-Identifier: MIT */
/*
 * Objects that recovery cannot judge at once. An intent or a trash entry names its
 * file by handle or inode number; in a store that was copied or restored from a
 * backup those mean nothing, or even another store's file, and the object may
 * well be in use. So it is decided by the walk over tree/ that follows: what
 * no record refers to goes, the rest stays.
 *
 * A file renamed during the walk may be missed by it. Then nothing is removed, and
 * the next mount walks again.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "store/store_types.h"

int orphan_defer(struct store *st, const struct object_id *id, const char *trash)
{
	struct orphans *l = &st->orphans;
	struct orphan *p = mem_realloc(l->v, (l->n + 1) * sizeof(*p));

	if (!p)
		return -ENOMEM;
	l->v = p;
	memset(&p[l->n], 0, sizeof(*p));
	p[l->n].id = *id;
	if (trash)
		strncpy(p[l->n].trash, trash, sizeof(p->trash) - 1);
	l->n++;
	return 0;
}

void orphan_saw(struct store *st, const struct kvfs_record *rec)
{
	struct orphans *l = &st->orphans;

	for (size_t i = 0; i < l->n; i++)
		if (memcmp(l->v[i].id.id, rec->id, sizeof(rec->id)) == 0 &&
		    l->v[i].id.generation == rec->generation)
			l->v[i].used = true;
}

static void settle_one(struct store *st, struct orphan *o)
{
	int r = o->used ? 0 : object_remove(st->objects_fd, &o->id);

	if (r == 0 && o->trash[0] && unlinkat(st->trash_fd, o->trash, 0) < 0 && errno != ENOENT)
		r = -errno;
	if (r < 0) {
		log_warn(st->log, "an object without a file stays until the next mount: %s",
			 err_text(r));
		return;
	}
	if (!o->trash[0])
		meta_intent_del(st->meta, &o->id);
	store_count(st, CNT_RECOVERED, 1);
}

void orphan_settle(struct store *st, bool complete)
{
	struct orphans *l = &st->orphans;

	if (complete && atomic_load(&st->renames) == 0) {
		for (size_t i = 0; i < l->n; i++)
			settle_one(st, &l->v[i]);
	} else if (l->n) {
		meta_unclean(st->meta);
	}
	orphan_free(st);
}

void orphan_free(struct store *st)
{
	mem_free(st->orphans.v);
	memset(&st->orphans, 0, sizeof(st->orphans));
}
