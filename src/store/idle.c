/* SPDX-License-Identifier: MIT */
/*
 * What contexts keep while nobody has them open. The tree file's descriptor goes at
 * once. The object, which has a descriptor too, stays while something of it is in DRAM, so
 * that the next open costs nothing; but replicas may be many more than a process
 * may have files. So only some keep it, those closed last.
 */
#include <sys/resource.h>

#include "base/io.h"
#include "store/adapt.h"
#include "store/store_types.h"

#define KEPT_MIN 16u
#define KEPT_PART 4u /* of the open files allowed */

unsigned ctx_kept_max(void)
{
	struct rlimit rl;

	if (getrlimit(RLIMIT_NOFILE, &rl) < 0 || rl.rlim_cur / KEPT_PART < KEPT_MIN)
		return KEPT_MIN;
	return rl.rlim_cur / KEPT_PART < UINT32_MAX ? (unsigned)(rl.rlim_cur / KEPT_PART) :
						      UINT32_MAX;
}

void ctx_unkeep_locked(struct ctx_table *t, struct ctx *c)
{
	if (list_empty(&c->kept))
		return;
	list_del(&c->kept);
	t->n_kept--;
}

static void note_kept(struct ctx *c)
{
	struct ctx_table *t = &c->st->ctxs;

	lock_acquire(&t->lock);
	ctx_unkeep_locked(t, c);
	if (c->obj) {
		list_add_tail(&t->kept, &c->kept);
		t->n_kept++;
	}
	lock_release(&t->lock);
}

static bool is_idle(struct ctx *c, bool *ret_held)
{
	bool idle;

	lock_acquire(&c->lock);
	idle = c->opens == 0 && !c->sealing && !c->working && !c->unlinked && !c->copy_shared &&
	       !c->watched;
	*ret_held = c->rep || c->copy;
	lock_release(&c->lock);
	return idle;
}

static void idle_locked(struct ctx *c, bool keep)
{
	bool held;

	if (!is_idle(c, &held))
		return;
	load_note_map(c);
	io_close(&c->fd);
	if (!held || !keep) {
		object_put(c->obj);
		c->obj = NULL;
	}
	note_kept(c);
}

/* The longest closed go until no more than @max keep their object. One in use
 * meanwhile is skipped: its next close brings it back. */
static bool shed(struct ctx_table *t, unsigned max)
{
	bool any = false;

	for (;;) {
		struct ctx *c = NULL;

		lock_acquire(&t->lock);
		if (t->n_kept > max && !list_empty(&t->kept)) {
			c = container_of(t->kept.next, struct ctx, kept);
			ctx_unkeep_locked(t, c);
			c->refs++;
		}
		lock_release(&t->lock);
		if (!c)
			return any;
		if (gate_try(&c->gate, true)) {
			idle_locked(c, false);
			gate_leave(&c->gate, true);
			any = true;
		}
		ctx_put(c);
	}
}

bool ctx_spare_fds(struct store *st)
{
	return shed(&st->ctxs, 0);
}

void ctx_idle(struct ctx *c)
{
	gate_enter(&c->gate, true);
	idle_locked(c, true);
	gate_leave(&c->gate, true);
	(void)shed(&c->st->ctxs, c->st->ctxs.max_kept);
}

void ctx_idle_try(struct ctx *c)
{
	if (!gate_try(&c->gate, true))
		return;
	idle_locked(c, true);
	gate_leave(&c->gate, true);
	(void)shed(&c->st->ctxs, c->st->ctxs.max_kept);
}

void ctx_work_begin(struct ctx *c)
{
	lock_acquire(&c->lock);
	c->working++;
	lock_release(&c->lock);
}

void ctx_work_end(struct ctx *c)
{
	lock_acquire(&c->lock);
	c->working--;
	lock_release(&c->lock);
	adapt_moved(c);
	ctx_idle(c);
}
